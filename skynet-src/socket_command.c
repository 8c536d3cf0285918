// The queue through which any thread asks the loop for something.
//
// DESIGN. Producers push onto an atomic list head; the loop takes the whole list with
// one exchange and turns it round. No lock, no system call, no limit. A wake-up is
// needed only while the loop waits for the network, and only the first of many
// requests makes it:
//   loop:      waiting = true;  then look at inbox
//   producer:  push to inbox;   then look at waiting
// All four are sequentially consistent, so at least one of the two sees the
// other; whoever turns `waiting` from true to false does the wake-up.
#include "socket_impl.h"

#include "skynet_malloc.h"

void
command_post(struct socket_loop *loop, const struct socket_command *c) {
	struct socket_command *copy = skynet_malloc(sizeof(*copy));
	*copy = *c;
	// Relaxed: the exchange below validates what was read here.
	copy->next = atomic_load_explicit(&loop->inbox, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&loop->inbox, &copy->next, copy)) {
	}
	if (atomic_load(&loop->waiting) && atomic_exchange(&loop->waiting, false)) {
		loop->ops->wake(loop->poller);
	}
}

struct socket_command *
command_take(struct socket_loop *loop) {
	// Relaxed: a push that is missed here is seen by command_prepare_wait.
	if (atomic_load_explicit(&loop->inbox, memory_order_relaxed) == NULL) {
		return NULL;
	}
	struct socket_command *newest = atomic_exchange(&loop->inbox, NULL);
	struct socket_command *oldest = NULL;
	while (newest != NULL) {
		struct socket_command *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

void
command_free(struct socket_command *c) {
	skynet_free(c->list);
	skynet_free(c);
}

bool
command_prepare_wait(struct socket_loop *loop) {
	atomic_store(&loop->waiting, true);
	if (atomic_load(&loop->inbox) != NULL) {
		atomic_store(&loop->waiting, false);
		return false;
	}
	return true;
}

void
command_end_wait(struct socket_loop *loop) {
	// Relaxed: a producer that still sees true wakes once too often.
	atomic_store_explicit(&loop->waiting, false, memory_order_relaxed);
}
