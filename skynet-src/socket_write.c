// Sending: two queues of unsent bytes per socket, direct writes from the caller's
// thread, and the warnings about a growing backlog (net.md 1.13, 1.14).
//
// Invariant: at most one thread at a time is inside a write call of a socket (the
// one that set writer_active). It works without the lock; others only append
// behind what it is writing. While it is active nobody closes the descriptor.
// Whoever leaves unsent bytes behind sees to it that a FLUSH request is under
// way or that the poller watches for room.
#include "socket_impl.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "malloc_hook.h"
#include "skynet.h"
#include "skynet_malloc.h"

// Blocks per writev: enough to amortise the call for small packages.
#define IOV_BATCH 64
// What one socket may write before the others get their turn.
#define FLUSH_SHARE (1024 * 1024)
// How much more than its send_limit a socket may hold while some thread writes.
#define WRITING_SLACK (128 * 1024)
// The system keeps back what it could send now, for the end of the stream to go with it.
#ifdef MSG_MORE
#define END_FLAGS (MSG_MORE | MSG_NOSIGNAL)
#else
#define END_FLAGS 0
#endif
// Backlog of the first warning; each further one needs twice as much.
#define WARNING_BASE ((size_t)1024 * 1024)

// What one send call carries, whatever its form.
struct piece {
	const char *ptr;
	size_t sz;
	void *owned; // NULL = lent
	bool is_object;
};

static int flush_share(struct socket_server *ss, struct socket_slot *s, int flags);
static void unlock_and_post_flush(struct socket_slot *s);

//-------------------------------------------------------------------- pieces

static void
free_owned(struct socket_server *ss, void *owned, bool is_object) {
	if (is_object) {
		ss->object.free(owned);
	} else {
		skynet_free(owned);
	}
}

void
write_refuse(struct socket_server *ss, struct socket_sendbuffer *b) {
	if (b->type == SOCKET_BUFFER_MEMORY) {
		skynet_free((void *)(uintptr_t)b->buffer);
	} else if (b->type == SOCKET_BUFFER_OBJECT && ss->object.free != NULL) {
		ss->object.free((void *)(uintptr_t)b->buffer);
	}
}

static bool
piece_from(struct socket_server *ss, const struct socket_sendbuffer *b, struct piece *p) {
	p->ptr = b->buffer;
	p->sz = b->sz;
	p->owned = NULL;
	p->is_object = false;
	switch (b->type) {
	case SOCKET_BUFFER_MEMORY:
		p->owned = (void *)(uintptr_t)b->buffer;
		return true;
	case SOCKET_BUFFER_RAWPOINTER:
		return true;
	case SOCKET_BUFFER_OBJECT:
		if (ss->object.free == NULL) {
			skynet_error(NULL, "socket-server error: no adapter for user objects.");
			return false;
		}
		p->owned = (void *)(uintptr_t)b->buffer;
		p->is_object = true;
		p->ptr = ss->object.buffer(b->buffer);
		p->sz = ss->object.size(b->buffer);
		return true;
	default:
		skynet_error(NULL, "socket-server error: Invalid send buffer type %d.", b->type);
		return false;
	}
}

static void
piece_drop(struct socket_server *ss, struct piece *p) {
	if (p->owned != NULL) {
		free_owned(ss, p->owned, p->is_object);
	}
}

// A node with what follows the first `done` bytes. Takes or copies.
static struct write_node *
node_from(const struct piece *p, size_t done, const struct socket_udp_address *to) {
	size_t rest = p->sz - done;
	struct write_node *n = skynet_malloc(sizeof(*n) + (p->owned == NULL ? rest : 0));
	n->next = NULL;
	n->sz = rest;
	n->owned = p->owned;
	n->is_object = p->is_object;
	if (p->owned != NULL) {
		n->ptr = p->ptr + done;
	} else {
		char *copy = (char *)(n + 1);
		memcpy(copy, p->ptr + done, rest);
		n->ptr = copy;
	}
	if (to != NULL) {
		n->to = *to;
	}
	return n;
}

// What waits in a socket's queue belongs to the socket's owner, whoever wrote it.
// With the lock.
static void
charge_owner(struct write_node *n, const struct socket_slot *s) {
	malloc_give(n, (uint32_t)s->owner);
	if (!n->is_object) {
		malloc_give(n->owned, (uint32_t)s->owner);
	}
}

static void
free_nodes(struct socket_server *ss, struct write_node *n) {
	while (n != NULL) {
		struct write_node *next = n->next;
		if (n->owned != NULL) {
			free_owned(ss, n->owned, n->is_object);
		}
		skynet_free(n);
		n = next;
	}
}

//-------------------------------------------------------------------- queues

static void
push_back(struct write_queue *q, struct write_node *n) {
	if (q->head == NULL) {
		q->head = n;
	} else {
		q->tail->next = n;
	}
	q->tail = n;
}

static void
push_front(struct write_queue *q, struct write_node *n) {
	n->next = q->head;
	if (q->head == NULL) {
		q->tail = n;
	}
	q->head = n;
}

static struct write_node *
pop_front(struct write_queue *q) {
	struct write_node *n = q->head;
	q->head = n->next;
	n->next = NULL;
	return n;
}

static bool
is_empty(const struct socket_slot *s) {
	return s->high.head == NULL && s->low.head == NULL;
}

void
write_discard(struct socket_server *ss, struct socket_slot *s) {
	struct write_node *high = s->high.head;
	struct write_node *low = s->low.head;
	s->high.head = s->high.tail = NULL;
	s->low.head = s->low.tail = NULL;
	s->backlog = 0;
	free_nodes(ss, high);
	free_nodes(ss, low);
}

//------------------------------------------------------------------ requests

// With the lock, so that warnings are queued in the order they arise in.
static void
post_warning(struct socket_slot *s, size_t backlog) {
	struct socket_command c = {.op = COMMAND_WARNING};
	c.id = atomic_load_explicit(&s->id, memory_order_relaxed);
	c.value = (int)((backlog + 1023) / 1024);
	command_post(s->loop, &c);
}

static void
add_backlog(struct socket_slot *s, size_t sz) {
	s->backlog += sz;
	if (s->backlog < WARNING_BASE << s->warnings) {
		return;
	}
	post_warning(s, s->backlog);
	while (s->backlog >= WARNING_BASE << s->warnings) {
		s->warnings++;
	}
}

// More than is to be kept for a peer. Unlocks, and frees what is refused.
static int
overflow(struct socket_server *ss, struct socket_slot *s, struct piece *p) {
	int id = atomic_load_explicit(&s->id, memory_order_relaxed);
	bool drops = s->settings.send_drops || s->kind == KIND_UDP4 || s->kind == KIND_UDP6;
	uint32_t limit = s->settings.send_limit;
	struct socket_udp_address peer = s->peer;
	struct socket_loop *loop = s->loop;
	s->closing |= !drops;
	// is_full may have kept the loop from writing what is left.
	unlock_and_post_flush(s);
	piece_drop(ss, p);
	if (drops) {
		char text[ADDRESS_TEXT_SIZE];
		address_text(&peer, text);
		notice_log(
		    ss, NOTICE_SEND_DROP,
		    "drop what is sent to %d: its peer %s reads too slowly, %u bytes wait; raise its "
		    "send_limit if that is meant",
		    id, text, limit);
	} else {
		struct socket_command c = {.op = COMMAND_OVERFLOW, .id = id};
		command_post(loop, &c);
	}
	return -1;
}

static bool
exceeds_limit(const struct socket_slot *s, size_t sz, size_t slack) {
	uint64_t limit = s->settings.send_limit;
	return limit > 0 && s->backlog + (uint64_t)sz > limit + slack;
}

static void
end_warning(struct socket_slot *s) {
	if (s->warnings > 0) {
		s->warnings = 0;
		post_warning(s, 0);
	}
}

// Whether what is queued can go out now; otherwise start or connect flushes it.
static bool
is_flowing(const struct socket_slot *s) {
	return s->state == SLOT_CONNECTED || s->state == SLOT_HALFCLOSE_READ;
}

// Unlocks, and asks the loop to flush if nothing else will.
static void
unlock_and_post_flush(struct socket_slot *s) {
	bool ended = s->reap || (s->draining && is_empty(s));
	bool stalled = is_flowing(s) && !is_empty(s) && !s->write_polled;
	bool post = (ended || stalled) && !s->flush_posted && !s->writer_active;
	struct socket_loop *loop = s->loop;
	struct socket_command c = {.op = COMMAND_FLUSH};
	c.id = atomic_load_explicit(&s->id, memory_order_relaxed);
	s->flush_posted |= post;
	slot_unlock(s);
	if (post) {
		command_post(loop, &c);
	}
}

static void
account(struct socket_server *ss, struct socket_slot *s, size_t n) {
	if (n > 0) {
		s->write_count += n;
		s->write_time = ss->clock();
	}
}

//------------------------------------------------------------- direct writes

static bool
can_write_here(const struct socket_slot *s) {
	return s->kind != KIND_FOREIGN && is_flowing(s) && !s->writer_active && !s->write_polled;
}

// A write is over that was made without the lock, which is held again. What did not go out,
// if anything, is `rest`, and comes first; the piece is dropped unless the rest took it.
static void
finish_now(struct socket_server *ss, struct socket_slot *s, struct piece *p,
           struct write_node *rest) {
	if (rest != NULL) {
		charge_owner(rest, s);
		push_front(&s->high, rest);
		add_backlog(s, rest->sz);
	}
	unlock_and_post_flush(s);
	if (rest == NULL) {
		piece_drop(ss, p);
	}
}

// With the lock, which it gives up. Never fails: a broken stream is discovered
// again, and reported, by the loop.
static int
write_stream_now(struct socket_server *ss, struct socket_slot *s, struct piece *p) {
	int fd = s->fd;
	s->writer_active = true;
	s->backlog += p->sz;
	slot_unlock(s);
	ssize_t n = write(fd, p->ptr, p->sz);
	size_t done = n > 0 ? (size_t)n : 0;
	struct write_node *rest = done < p->sz ? node_from(p, done, NULL) : NULL;
	pthread_mutex_lock(&s->lock);
	s->writer_active = false;
	s->backlog -= p->sz;
	account(ss, s, done);
	finish_now(ss, s, p, rest);
	return 0;
}

static int
write_datagram_now(struct socket_server *ss, struct socket_slot *s, struct piece *p,
                   const struct socket_udp_address *to) {
	int id = atomic_load_explicit(&s->id, memory_order_relaxed);
	int fd = s->fd;
	s->writer_active = true;
	slot_unlock(s);
	enum datagram_result r = udp_send_now(ss, id, fd, to, p->ptr, p->sz);
	struct write_node *rest = r == DATAGRAM_BLOCKED ? node_from(p, 0, to) : NULL;
	pthread_mutex_lock(&s->lock);
	s->writer_active = false;
	account(ss, s, r == DATAGRAM_SENT ? p->sz : 0);
	finish_now(ss, s, p, rest);
	return r == DATAGRAM_DROPPED ? -1 : 0;
}

// Whether there is no room for sz more bytes, not even when what was queued to be sent
// soon goes out now. What another thread is writing just now may be as good as sent.
// With the lock, which may be given up meanwhile.
static bool
is_full(struct socket_server *ss, struct socket_slot *s, size_t sz) {
	if (!exceeds_limit(s, sz, 0)) {
		return false;
	}
	if (!is_empty(s) && can_write_here(s)) {
		flush_share(ss, s, 0);
	}
	return exceeds_limit(s, sz, s->writer_active && !s->write_polled ? WRITING_SLACK : 0);
}

int
write_submit(struct socket_server *ss, struct socket_slot *s, struct socket_sendbuffer *b,
             enum send_mode mode, const struct socket_udp_address *to) {
	struct piece p;
	if (!piece_from(ss, b, &p)) {
		slot_unlock(s);
		return -1;
	}
	if (p.sz == 0 && to == NULL) {
		slot_unlock(s);
		piece_drop(ss, &p);
		return 0;
	}
	if (is_full(ss, s, p.sz)) {
		return overflow(ss, s, &p);
	}
	if (mode != SEND_LOW && is_empty(s) && can_write_here(s)) {
		if (to != NULL) {
			return write_datagram_now(ss, s, &p, to);
		}
		if (mode == SEND_HIGH) {
			return write_stream_now(ss, s, &p);
		}
	}
	bool to_high = mode != SEND_LOW || (is_empty(s) && !s->writer_active);
	struct write_node *n = node_from(&p, 0, to);
	charge_owner(n, s);
	push_back(to_high ? &s->high : &s->low, n);
	add_backlog(s, p.sz);
	if (mode == SEND_LATER) {
		slot_unlock(s);
	} else {
		unlock_and_post_flush(s);
	}
	return 0;
}

//--------------------------------------------------------------------- relay

// What is owned changes hands, the rest is copied.
static char *
piece_take(struct socket_server *ss, struct piece *p) {
	if (p->owned != NULL && !p->is_object) {
		return p->owned;
	}
	char *copy = skynet_malloc(p->sz);
	memcpy(copy, p->ptr, p->sz);
	piece_drop(ss, p);
	return copy;
}

int
write_relay(struct socket_server *ss, struct socket_slot *s, struct socket_sendbuffer *b) {
	struct socket_message m = {.id = b->id, .opaque = s->owner};
	struct piece p;
	slot_unlock(s);
	if (!piece_from(ss, b, &p)) {
		return -1;
	}
	if (p.sz == 0 || p.sz > INT_MAX) {
		piece_drop(ss, &p);
		return p.sz == 0 ? 0 : -1;
	}
	m.ud = (int)p.sz;
	m.data = piece_take(ss, &p);
	malloc_give(m.data, (uint32_t)m.opaque);
	ss->sink(ss->sink_ud, SOCKET_SEND, &m);
	return 0;
}

//--------------------------------------------------------------------- flush

// Takes n written bytes off the queue. Gives the nodes that are done.
static struct write_node *
consume(struct socket_slot *s, struct write_queue *q, size_t n) {
	struct write_queue done = {NULL, NULL};
	s->backlog -= n;
	while (q->head != NULL && n >= q->head->sz) {
		n -= q->head->sz;
		push_back(&done, pop_front(q));
	}
	if (n > 0) {
		q->head->ptr += n;
		q->head->sz -= n;
		if (q == &s->low) {
			// Nothing may come between the two parts of one block.
			push_front(&s->high, pop_front(q));
		}
	}
	return done.head;
}

static struct write_queue *
next_queue(struct socket_slot *s) {
	return s->high.head != NULL ? &s->high : &s->low;
}

// flags: of sendmsg, which sockets alone have; 0 suits all.
static ssize_t
write_blocks(int fd, struct iovec *iov, int n, int flags) {
	if (flags != 0) {
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
		return sendmsg(fd, &m, flags);
	}
	return n == 1 ? write(fd, iov[0].iov_base, iov[0].iov_len) : writev(fd, iov, n);
}

// One system call's worth. Returns the bytes written, or -1 with errno. With the
// lock, which is given up meanwhile.
static ssize_t
flush_stream(struct socket_server *ss, struct socket_slot *s, int flags) {
	struct iovec iov[IOV_BATCH];
	struct write_queue *q = next_queue(s);
	int n = 0;
	for (struct write_node *w = q->head; w != NULL && n < IOV_BATCH; w = w->next) {
		iov[n].iov_base = (void *)(uintptr_t)w->ptr;
		iov[n++].iov_len = w->sz;
	}
	s->writer_active = true;
	slot_unlock(s);
	ssize_t written = write_blocks(s->fd, iov, n, flags);
	int err = errno;
	pthread_mutex_lock(&s->lock);
	s->writer_active = false;
	if (written > 0) {
		account(ss, s, (size_t)written);
		free_nodes(ss, consume(s, q, (size_t)written));
	}
	errno = err;
	return written;
}

static ssize_t
flush_datagram(struct socket_server *ss, struct socket_slot *s) {
	struct write_queue *q = next_queue(s);
	struct write_node *w = q->head;
	int id = atomic_load_explicit(&s->id, memory_order_relaxed);
	s->writer_active = true;
	slot_unlock(s);
	enum datagram_result r = udp_send_now(ss, id, s->fd, &w->to, w->ptr, w->sz);
	pthread_mutex_lock(&s->lock);
	s->writer_active = false;
	if (r == DATAGRAM_BLOCKED) {
		errno = EAGAIN;
		return -1;
	}
	size_t sz = w->sz;
	account(ss, s, r == DATAGRAM_SENT ? sz : 0);
	pop_front(q);
	s->backlog -= sz;
	free_nodes(ss, w);
	return (ssize_t)sz;
}

// Empties the queue as far as it goes. Returns 0, or the errno of a broken stream.
// With the lock.
static int
flush_share(struct socket_server *ss, struct socket_slot *s, int flags) {
	bool is_datagram = s->kind == KIND_UDP4 || s->kind == KIND_UDP6;
	size_t total = 0;
	while (!is_empty(s) && total < FLUSH_SHARE) {
		ssize_t n = is_datagram ? flush_datagram(ss, s) : flush_stream(ss, s, flags);
		if (n > 0 || (n == 0 && is_datagram)) {
			total += (size_t)n;
		} else if (n == 0 || errno == EAGAIN || errno == EWOULDBLOCK) {
			// A device that takes nothing does not always call it an error.
			break;
		} else if (errno != EINTR) {
			return errno;
		}
	}
	return 0;
}

// A broken stream is discovered again, and reported, by the loop.
void
write_flush_here(struct socket_server *ss, struct socket_slot *s) {
	if (s->left_to_loop) {
		slot_unlock(s);
		return;
	}
	if (!is_empty(s) && can_write_here(s)) {
		flush_share(ss, s, 0);
		if (is_empty(s)) {
			end_warning(s);
		}
	}
	unlock_and_post_flush(s);
}

bool
write_waits_for_end(const struct socket_slot *s) {
	return s->kind == KIND_STREAM && !is_empty(s) && s->warnings == 0 && can_write_here(s);
}

void
write_end(struct socket_server *ss, struct socket_slot *s) {
	flush_share(ss, s, END_FLAGS);
}

// net.md 1.13, write failure. The bytes are lost; the owner is told, unless it
// has asked to close or knows that the peer has.
static void
write_failed(struct socket_loop *loop, struct socket_slot *s, int err) {
	if (s->kind == KIND_STREAM && !s->draining) {
		// The last words of the peer: most owners close when they hear of an error.
		stream_read_rest(loop, s);
	}
	pthread_mutex_lock(&s->lock);
	bool silent = s->draining || s->state == SLOT_HALFCLOSE_READ;
	if (!silent) {
		s->state = SLOT_HALFCLOSE_WRITE;
		s->warnings = 0;
		write_discard(loop->ss, s);
	}
	slot_unlock(s);
	if (silent) {
		loop_destroy(loop, s);
		return;
	}
	if (s->kind != KIND_FOREIGN) {
		shutdown(s->fd, SHUT_WR);
	}
	loop_watch(loop, s, s->reading, false);
	loop_emit_error(loop, s, strerror(err));
}

// Whether the loop has something else to do with this slot than to write. Unlocks
// in that case.
static bool
flush_is_over(struct socket_loop *loop, struct socket_slot *s) {
	if (s->writer_active) {
		// The writer posts again if anything is left.
		slot_unlock(s);
		return true;
	}
	bool ended = s->reap || (s->draining && is_empty(s));
	if (ended || !is_flowing(s)) {
		slot_unlock(s);
		if (ended) {
			loop_finish(loop, s);
		}
		return true;
	}
	return false;
}

void
write_flush(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	s->flush_posted = false;
	if (flush_is_over(loop, s)) {
		return;
	}
	int err = flush_share(loop->ss, s, 0);
	bool more = !is_empty(s);
	bool ended = s->draining && !more;
	// Under the same lock as the look at the queue: a sender that finds
	// write_polled set relies on the loop.
	s->write_polled = more;
	if (!more) {
		end_warning(s);
	}
	slot_unlock(s);
	if (err != 0) {
		write_failed(loop, s, err);
	} else if (ended) {
		loop_finish(loop, s);
	} else if (loop_apply_interest(loop, s) != 0) {
		loop_emit_error(loop, s, more ? "enable write failed" : "disable write failed");
	}
}
