// Time limits of sockets: a binary heap over slots, earliest first. Owned by the
// loop. Without limits the loop waits without end.
#include "socket_impl.h"

#include <assert.h>

#include "platform.h"
#include "skynet_malloc.h"

uint64_t
deadline_now_ms(void) {
	return platform_monotonic_ns() / 1000000;
}

static void
place(struct deadline_heap *h, int i, struct socket_slot *s) {
	h->slot[i] = s;
	s->deadline_index = i;
}

static void
sift_up(struct deadline_heap *h, int i, struct socket_slot *s) {
	while (i > 0) {
		int parent = (i - 1) / 2;
		if (h->slot[parent]->deadline_ms <= s->deadline_ms) {
			break;
		}
		place(h, i, h->slot[parent]);
		i = parent;
	}
	place(h, i, s);
}

static void
sift_down(struct deadline_heap *h, int i, struct socket_slot *s) {
	for (;;) {
		int child = i * 2 + 1;
		if (child >= h->n) {
			break;
		}
		if (child + 1 < h->n && h->slot[child + 1]->deadline_ms < h->slot[child]->deadline_ms) {
			child++;
		}
		if (s->deadline_ms <= h->slot[child]->deadline_ms) {
			break;
		}
		place(h, i, h->slot[child]);
		i = child;
	}
	place(h, i, s);
}

void
deadline_set(struct socket_loop *loop, struct socket_slot *s, uint64_t ms) {
	struct deadline_heap *h = &loop->deadlines;
	deadline_clear(loop, s);
	if (h->n == h->cap) {
		h->cap = h->cap == 0 ? 16 : h->cap * 2;
		h->slot = skynet_realloc(h->slot, (size_t)h->cap * sizeof(h->slot[0]));
	}
	atomic_fetch_add_explicit(&loop->interests, 1, memory_order_relaxed);
	s->deadline_ms = deadline_now_ms() + ms;
	sift_up(h, h->n++, s);
}

void
deadline_clear(struct socket_loop *loop, struct socket_slot *s) {
	struct deadline_heap *h = &loop->deadlines;
	int i = s->deadline_index;
	if (i < 0) {
		return;
	}
	assert(h->slot[i] == s);
	atomic_fetch_sub_explicit(&loop->interests, 1, memory_order_relaxed);
	s->deadline_index = -1;
	struct socket_slot *last = h->slot[--h->n];
	if (last != s) {
		sift_down(h, i, last);
		sift_up(h, last->deadline_index, last);
	}
}

int
deadline_timeout(struct socket_loop *loop, int timeout_ms) {
	struct deadline_heap *h = &loop->deadlines;
	if (h->n == 0 || timeout_ms == 0) {
		return timeout_ms;
	}
	uint64_t now = deadline_now_ms();
	uint64_t at = h->slot[0]->deadline_ms;
	// One more than the difference: never wake within the last millisecond,
	// before the limit.
	uint64_t left = at <= now ? 0 : at - now + 1;
	if (timeout_ms >= 0 && (uint64_t)timeout_ms < left) {
		return timeout_ms;
	}
	return left > INT32_MAX ? INT32_MAX : (int)left;
}

struct socket_slot *
deadline_take(struct socket_loop *loop, uint64_t now_ms) {
	struct deadline_heap *h = &loop->deadlines;
	if (h->n == 0 || h->slot[0]->deadline_ms > now_ms) {
		return NULL;
	}
	struct socket_slot *s = h->slot[0];
	deadline_clear(loop, s);
	return s;
}
