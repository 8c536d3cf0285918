// Back-pressure: what was received and waits in the owner's mailbox is counted; beyond
// the limit the socket is not read until half of it is delivered. The kernel's
// buffer fills meanwhile, and the peer has to wait.
//
// `undelivered` holds the id in its upper half and the count in the lower one, so that
// a late delivery cannot be mistaken for one of the slot's next user. Whoever
// delivers changes the count and then looks at `throttled`; the loop sets `throttled`
// and then looks at the count (all sequentially consistent): one of the two sees that
// reading may go on. Who turns `throttled` off has the loop tell the poller.
#include "socket_impl.h"

// What an event costs beside its bytes: many empty ones shall not pass unnoticed.
#define EVENT_COST 64
#define NO_LIMIT ((uint32_t)1 << 31)

static uint32_t
count_of(uint64_t word) {
	return (uint32_t)word;
}

static uint32_t
limit_of(struct socket_slot *s) {
	uint32_t limit = atomic_load_explicit(&s->receive_limit, memory_order_relaxed);
	return limit == 0 ? NO_LIMIT : limit;
}

void
throttle_review(struct socket_loop *loop, struct socket_slot *s) {
	uint32_t limit = limit_of(s);
	if (count_of(atomic_load(&s->undelivered)) > limit) {
		atomic_store(&s->throttled, true);
	}
	if (count_of(atomic_load(&s->undelivered)) <= limit / 2) {
		atomic_store(&s->throttled, false);
	}
	s->active_ms = loop->now_ms;
	if (s->polled != 0) {
		loop_apply_interest(loop, s);
	}
}

void
throttle_count(struct socket_loop *loop, struct socket_slot *s, size_t n) {
	uint64_t word = atomic_fetch_add(&s->undelivered, n + EVENT_COST) + n + EVENT_COST;
	if (count_of(word) > limit_of(s)) {
		throttle_review(loop, s);
	}
}

static void
resume(struct socket_server *ss, int id) {
	struct socket_slot *s = slot_lock(ss, id);
	if (s == NULL) {
		return;
	}
	struct socket_command c = {.op = COMMAND_UNTHROTTLE, .id = id};
	struct socket_loop *loop = s->loop;
	bool was_on = atomic_exchange(&s->throttled, false);
	slot_unlock(s);
	if (was_on) {
		command_post(loop, &c);
	}
}

void
socket_server_delivered(struct socket_server *ss, int id, size_t n) {
	struct socket_slot *s = slot_find(ss, id);
	if (s == NULL) {
		return;
	}
	uint64_t word = atomic_load(&s->undelivered);
	do {
		if (word >> 32 != (uint64_t)id) {
			return;
		}
	} while (!atomic_compare_exchange_weak(&s->undelivered, &word, word - n - EVENT_COST));
	if (atomic_load(&s->throttled) && count_of(word - n - EVENT_COST) <= limit_of(s) / 2) {
		resume(ss, id);
	}
}
