/*
 * The run queue of one worker: a bounded FIFO ring with one producer (its
 * worker) and several consumers (its worker and thieves), all lock-free.
 *
 * head and tail only grow (modulo 2^32); the items are between them. A slot is
 * written again only after head has passed it, so a consumer that read a stale
 * slot fails the exchange on head.
 */
#ifndef RUNQUEUE_H
#define RUNQUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct runnable;

/*
 * Dense pointers to what waits. What does not fit goes to the inject list, whose
 * links are in the items: a cache miss each (a third of the CPU time of 2000
 * pairs of services that call each other, with 256 slots here).
 */
#define RUNQUEUE_SIZE 2048

struct runqueue {
	_Alignas(64) _Atomic(uint32_t) head; /* moved by whoever takes */
	_Alignas(64) _Atomic(uint32_t) tail; /* moved by the owner */
	_Atomic(struct runnable *) ring[RUNQUEUE_SIZE];
};

static inline void
runqueue_init(struct runqueue *q) {
	atomic_init(&q->head, 0);
	atomic_init(&q->tail, 0);
}

/* Anybody: how many wait. */
static inline uint32_t
runqueue_length(struct runqueue *q) {
	uint32_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
	/* Sequentially consistent: see scheduler_idle.c, "Wake-ups". */
	uint32_t tail = atomic_load(&q->tail);
	uint32_t n = tail - head;

	/* head may be older than tail and the items gone since. */
	return n <= RUNQUEUE_SIZE ? n : 0;
}

/* Owner: false when full. */
static inline bool
runqueue_push(struct runqueue *q, struct runnable *r) {
	uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
	/* Acquire: whoever moved head has read the slot. */
	uint32_t head = atomic_load_explicit(&q->head, memory_order_acquire);

	if (tail - head >= RUNQUEUE_SIZE) {
		return false;
	}
	atomic_store_explicit(&q->ring[tail % RUNQUEUE_SIZE], r, memory_order_relaxed);
	/* Publishes the slot; sequentially consistent: see scheduler_idle.c. */
	atomic_store(&q->tail, tail + 1);
	return true;
}

/* Owner: the oldest item, or NULL. */
static inline struct runnable *
runqueue_pop(struct runqueue *q) {
	uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
	struct runnable *r;

	while (head != tail) {
		r = atomic_load_explicit(&q->ring[head % RUNQUEUE_SIZE], memory_order_relaxed);
		/* Release: pairs with the acquire in runqueue_push. */
		if (atomic_compare_exchange_weak_explicit(&q->head, &head, head + 1, memory_order_release,
		                                          memory_order_relaxed)) {
			return r;
		}
	}
	return NULL;
}

/* Owner: the oldest item, or NULL. It may be a thief's at once: an address, no more. */
static inline const void *
runqueue_peek(struct runqueue *q) {
	uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&q->head, memory_order_relaxed);

	return head != tail ? atomic_load_explicit(&q->ring[head % RUNQUEUE_SIZE], memory_order_relaxed)
	                    : NULL;
}

/*
 * Thief, the owner of `into`: move the older half of q, as far as there is room,
 * and return its first item instead of queueing it. NULL when q is empty or was
 * changed meanwhile.
 */
static inline struct runnable *
runqueue_steal(struct runqueue *q, struct runqueue *into) {
	/* Acquire on both: the slots up to tail are written, and what the owner
	   did to their items before is visible. */
	uint32_t head = atomic_load_explicit(&q->head, memory_order_acquire);
	uint32_t tail = atomic_load_explicit(&q->tail, memory_order_acquire);
	uint32_t n = tail - head;
	uint32_t to = atomic_load_explicit(&into->tail, memory_order_relaxed);
	/* Acquire: as in runqueue_push. */
	uint32_t room = RUNQUEUE_SIZE - (to - atomic_load_explicit(&into->head, memory_order_acquire));
	struct runnable *first;
	uint32_t i;

	if (n == 0 || n > RUNQUEUE_SIZE) {
		return NULL;
	}
	n -= n / 2;
	if (n > room + 1) {
		n = room + 1;
	}
	first = atomic_load_explicit(&q->ring[head % RUNQUEUE_SIZE], memory_order_relaxed);
	for (i = 1; i < n; i++) {
		struct runnable *r =
		    atomic_load_explicit(&q->ring[(head + i) % RUNQUEUE_SIZE], memory_order_relaxed);
		atomic_store_explicit(&into->ring[(to + i - 1) % RUNQUEUE_SIZE], r, memory_order_relaxed);
	}
	/* Release: pairs with the acquire in runqueue_push. */
	if (!atomic_compare_exchange_strong_explicit(&q->head, &head, head + n, memory_order_release,
	                                             memory_order_relaxed)) {
		return NULL;
	}
	atomic_store(&into->tail, to + n - 1);
	return first;
}

#endif
