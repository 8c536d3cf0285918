// DESIGN. A write call runs through some hundred kilobytes of the system's code, and
// wakes the peer. Called between two callbacks it throws their code and data out of the
// cache; and each of sixteen answers to requests that came in one packet would pay for
// it. So sends of callbacks are queued at their sockets, and the thread writes them in a
// burst, one call per socket:
//
//   the thread runs dry          so a lone answer loses no time
//   BOX_SIZE sockets wait, or HOLD_BYTES at one of them
//   HOLD_NS have passed          looked at after each callback
//   a callback takes longer      who watches over busy workers, or else the socket
//                                thread, flushes what did not move between two looks
//
// Whoever sends to the same socket, on whatever thread, queues behind; close and
// shutdown write first what is queued. So the order of bytes is that of the calls.
#include "skynet_outbox.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "malloc_hook.h"
#include "platform.h"
#include "scheduler.h"
#include "skynet_context.h"
#include "skynet_malloc.h"
#include "socket_server.h"

// Sockets that sends are gathered for.
#define BOX_SIZE 32
// Held back per socket at most.
#define HOLD_BYTES (64 * 1024)
#define HOLD_NS 50000

// One thread's. Others only read `n`, `id` and `flushes`, and may be late: to flush a
// socket too often does no harm. Lives until outbox_free.
struct box {
	// Sockets in `id`. Release, pairs with the acquire in rescue: the ids are there.
	_Alignas(64) _Atomic(uint32_t) n;
	// Goes up with each flush. Relaxed: only a change matters.
	_Atomic(uint32_t) flushes;
	_Atomic(int) id[BOX_SIZE]; // relaxed, see n
	size_t bytes[BOX_SIZE];    // [thread] queued and not flushed
	uint64_t since;            // [thread] ticks of the first
	_Atomic(uint32_t) seen;    // [rescuers] flushes at the last look; relaxed
	struct box *next;          // constant once linked
};

// Release by who links, acquire by rescuers.
static _Atomic(struct box *) boxes;
static __thread struct box *mine;

static struct box *
box_of_thread(void) {
	if (mine != NULL) {
		return mine;
	}
	uint32_t owner = malloc_owner();
	malloc_set_owner(0);
	struct box *b = skynet_memalign(_Alignof(struct box), sizeof(*b));
	malloc_set_owner(owner);
	atomic_init(&b->n, 0);
	atomic_init(&b->flushes, 0);
	atomic_init(&b->seen, 0);
	for (int i = 0; i < BOX_SIZE; i++) {
		atomic_init(&b->id[i], 0);
	}
	b->next = atomic_load_explicit(&boxes, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&boxes, &b->next, b, memory_order_release,
	                                              memory_order_relaxed)) {
	}
	mine = b;
	return b;
}

static uint32_t
count(const struct box *b) {
	return atomic_load_explicit(&b->n, memory_order_relaxed);
}

static int
id_at(const struct box *b, uint32_t i) {
	return atomic_load_explicit(&b->id[i], memory_order_relaxed);
}

static void
flush_box(struct socket_server *ss, struct box *b) {
	uint32_t n = count(b);
	for (uint32_t i = 0; i < n; i++) {
		socket_server_flush(ss, id_at(b, i));
	}
	atomic_store_explicit(&b->n, 0, memory_order_relaxed);
	uint32_t flushes = atomic_load_explicit(&b->flushes, memory_order_relaxed);
	atomic_store_explicit(&b->flushes, flushes + 1, memory_order_relaxed);
}

// Where the socket is in the box, which has room for it afterwards.
static uint32_t
place_for(struct socket_server *ss, struct box *b, int id) {
	uint32_t n = count(b);
	// The last is the likeliest.
	for (uint32_t i = n; i-- > 0;) {
		if (id_at(b, i) == id) {
			return i;
		}
	}
	if (n == BOX_SIZE) {
		flush_box(ss, b);
		n = 0;
	}
	if (n == 0) {
		b->since = platform_ticks();
	}
	b->bytes[n] = 0;
	return n;
}

static void
remember(struct box *b, uint32_t place, int id, size_t bytes) {
	b->bytes[place] += bytes;
	if (place == count(b)) {
		atomic_store_explicit(&b->id[place], id, memory_order_relaxed);
		atomic_store_explicit(&b->n, place + 1, memory_order_release);
	}
}

int
outbox_send(struct socket_server *ss, struct socket_sendbuffer *buffer) {
	if (!context_is_delivering() || scheduler_current() == NULL) {
		return socket_server_send(ss, buffer);
	}
	struct box *b = box_of_thread();
	int id = buffer->id;
	size_t bytes = buffer->sz;
	uint32_t place = place_for(ss, b, id);
	// What is large gains nothing by waiting, and would count as backlog. An object
	// does not tell its size here.
	if (buffer->type == SOCKET_BUFFER_OBJECT || bytes + b->bytes[place] >= HOLD_BYTES) {
		if (b->bytes[place] > 0) {
			b->bytes[place] = 0;
			socket_server_flush(ss, id);
		}
		return socket_server_send(ss, buffer);
	}
	int r = socket_server_send_later(ss, buffer);
	if (r == 0) {
		remember(b, place, id, bytes);
	}
	return r;
}

void
outbox_end(struct socket_server *ss) {
	struct box *b = mine;
	if (b == NULL || count(b) == 0) {
		return;
	}
	if (count(b) == BOX_SIZE || platform_ticks() - b->since > platform_ns_to_ticks(HOLD_NS)) {
		flush_box(ss, b);
	}
}

void
outbox_flush(struct socket_server *ss) {
	if (mine != NULL && count(mine) > 0) {
		flush_box(ss, mine);
	}
}

static void
rescue(struct socket_server *ss, struct box *b) {
	uint32_t n = atomic_load_explicit(&b->n, memory_order_acquire);
	uint32_t flushes = atomic_load_explicit(&b->flushes, memory_order_relaxed);
	if (n == 0) {
		return;
	}
	if (atomic_exchange_explicit(&b->seen, flushes, memory_order_relaxed) != flushes) {
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		socket_server_flush(ss, id_at(b, i));
	}
}

void
outbox_rescue(struct socket_server *ss) {
	struct box *b = atomic_load_explicit(&boxes, memory_order_acquire);
	for (; b != NULL; b = b->next) {
		if (b != mine) {
			rescue(ss, b);
		}
	}
}

void
outbox_free(void) {
	struct box *b = atomic_load_explicit(&boxes, memory_order_acquire);
	atomic_store_explicit(&boxes, NULL, memory_order_relaxed);
	while (b != NULL) {
		struct box *next = b->next;
		skynet_free(b);
		b = next;
	}
	mine = NULL;
}
