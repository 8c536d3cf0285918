/*
 * The message queue of one service: many producers, one consumer, no lock and,
 * but for the growth of a node pool, no allocation.
 *
 * Producers push nodes on an atomic stack; the consumer takes the whole stack
 * with one exchange and turns it round, so order per producer is kept. The
 * head word also tells whether the service is scheduled:
 *
 *   IDLE    empty and nobody is going to look; who replaces it must schedule
 *   EMPTY   empty, but scheduled or running (also: being created)
 *   node    messages, newest first; scheduled or running
 *   |CLOSED any of these with bit 0 set: pushes fail, what is in stays
 *
 * Producer functions: any thread. Consumer functions: only who holds the
 * scheduled state, one thread at a time.
 *
 * LAYOUT. Where services are many, each message finds its service's lines out of
 * the cache, so a message has two of them: the first, which its producers take
 * anyway, has what the scheduler needs, too; the second, the consumer's, goes on
 * with what the owner needs (struct skynet_context). What they seldom need is in
 * neither, and what producers write is never in the second.
 */
#ifndef MAILBOX_H
#define MAILBOX_H

#include "scheduler.h"
#include "skynet_mq.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One queued message: the public record and what travels with it inside. The
 * size of a cache line.
 */
struct mailbox_node {
	struct mailbox_node *next;
	struct skynet_message msg;
	void (*dispose)(void *data, size_t sz); /* frees inner memory, or NULL */
	uint64_t deadline;                      /* cs on the node's clock, 0 = none */
	void *trace;                            /* trace context, NULL = none */
	uint64_t stamp : 56;                    /* 1 + cs when the event happened, 0 = not noted */
	uint64_t lane : 8;                      /* priority, 0 = normal */
};

/* Overload threshold of a fresh or emptied mailbox. */
#define MAILBOX_OVERLOAD 1024

/* Whoever embeds it aligns it to 64 bytes. */
struct mailbox {
	/* Producers and consumer. pushed: messages << MAILBOX_COUNT_SHIFT, plus
	   payload bytes in the low bits; both counted since creation. */
	_Atomic(uintptr_t) head;
	_Atomic(uint64_t) pushed;
	struct runnable run;         /* the owner's: what MAILBOX_SCHEDULE is about */
	_Atomic(uint64_t) inside_in; /* the owner's: bytes inside of messages ever queued */
	/* Seldom written, by the consumer, when it looks at `pushed`. */
	_Atomic(uint64_t) peak_count;
	_Atomic(uint64_t) peak_bytes;
	uint64_t overload; /* length at the last crossing */

	/* Consumer only; popped is readable by all. */
	struct mailbox_node *ready; /* oldest first */
	_Atomic(uint64_t) popped;
	uint32_t owner;      /* its handle; set once */
	atomic_bool is_shut; /* set by mailbox_close */
	bool is_overloaded;  /* nobody has asked for `overload` yet */
	uint8_t doublings;   /* of the threshold */
	uint8_t unchecked;   /* pops since the length was looked at */
};

_Static_assert(offsetof(struct mailbox, ready) == 64, "a line for producers, one for the consumer");

enum mailbox_push {
	MAILBOX_CLOSED = -1,  /* not queued */
	MAILBOX_QUEUED = 0,   /* queued */
	MAILBOX_SCHEDULE = 1, /* queued, and the caller must schedule the owner */
};

/* An empty mailbox in state EMPTY: not to be scheduled by pushes yet. */
void mailbox_init(struct mailbox *m);

/* Free what is left; data of messages must be gone. Nobody else uses it. */
void mailbox_destroy(struct mailbox *m);

/* A node to fill and push; given back with mailbox_node_free. Any thread. */
struct mailbox_node *mailbox_node_new(void);
void mailbox_node_free(struct mailbox_node *node);

/* Producer: takes the node unless the result is MAILBOX_CLOSED. */
enum mailbox_push mailbox_push(struct mailbox *m, struct mailbox_node *node);

/*
 * Refuse further pushes. Returns true when the caller must schedule the owner
 * for a last visit (nobody else was going to). Any thread; the second call and
 * later ones return false.
 */
bool mailbox_close(struct mailbox *m);

/*
 * Consumer: the oldest message, or NULL when there is none. With NULL, *is_idle
 * tells whether the mailbox went IDLE, which means that it is no longer the
 * caller's, nor is its owner; else it is closed. The caller frees the node.
 */
struct mailbox_node *mailbox_pop(struct mailbox *m, bool *is_idle);

/* Consumer: true, and IDLE, if nothing waits (never true when closed). */
bool mailbox_rest(struct mailbox *m);

/*
 * Become the consumer of an IDLE mailbox without a message: false if it is not
 * IDLE. Any thread. End it with mailbox_rest; if that is false, schedule the owner.
 */
bool mailbox_claim(struct mailbox *m);

/* Consumer: the length that crossed the overload threshold, once; else 0. Cheap if 0. */
uint64_t mailbox_overload(struct mailbox *m);

/*
 * Consumer: time has passed, so much may have come; compare the length with the
 * threshold at the next pop. Otherwise that happens every few pops only.
 */
void mailbox_check_soon(struct mailbox *m);

/* Messages and payload bytes waiting; exact while nobody pushes. Any thread. */
size_t mailbox_length(const struct mailbox *m);
size_t mailbox_bytes(const struct mailbox *m);

/* The largest values that the consumer has seen. Any thread. */
size_t mailbox_peak_length(const struct mailbox *m);
size_t mailbox_peak_bytes(const struct mailbox *m);

/* Whether pushing fails. Any thread. */
bool mailbox_is_closed(const struct mailbox *m);

/*
 * The same for the consumer, who need not look at the line of producers: soon true
 * after mailbox_close, and never before.
 */
static inline bool
mailbox_is_shut(const struct mailbox *m) {
	/* Acquire: pairs with the release in mailbox_close. */
	return atomic_load_explicit(&m->is_shut, memory_order_acquire);
}

#endif
