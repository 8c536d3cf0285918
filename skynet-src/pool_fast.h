/*
 * The fixed pool and the region, inlined: for loops in which the call itself
 * would cost more than the allocation (3.6 of 6 ns). The results are those of
 * pool_fixed_alloc, pool_fixed_free and pool_region_alloc, which these fall back
 * to; thread rules, owners and errors as there.
 *
 * Only for code that is built together with the core: what is inlined knows how
 * a pool begins. Modules of others call the functions.
 */
#ifndef POOL_FAST_H
#define POOL_FAST_H

#include "pool_fixed.h"
#include "pool_region.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#define POOL_ALIGN alignof(max_align_t)

#ifdef MEMORY_CHECK
#define POOL_IS_CHECKED 1
#else
#define POOL_IS_CHECKED 0
#endif

/* In front of each slice. */
struct pool_slice {
	struct pool_slice *next; /* while it is free */
	_Atomic(uint64_t) mark;
};
_Static_assert(sizeof(struct pool_slice) % POOL_ALIGN == 0, "slices must be aligned");

/* A free slice: POOL_MARK_FREE below, above it the length of the list from here
 * on. One in use: the pool's address with POOL_MARK_IN_USE mixed in, which never
 * looks like that, for its lowest bits are those of POOL_MARK_IN_USE. */
#define POOL_MARK_FREE ((uint64_t)0x0badf00d)
#define POOL_MARK_IN_USE ((uint64_t)0x20140605)
#define POOL_MARK_LENGTH_SHIFT 32
_Static_assert((POOL_MARK_FREE ^ POOL_MARK_IN_USE) % POOL_ALIGN != 0, "marks must differ");

/* How every pool begins. */
struct pool_fast {
	/* Fixed, for one thread: the free slices, and the mark of one in use. Of a pool
	 * for many threads NULL and that mark turned round, which no slice has. */
	struct pool_slice *list;
	uint64_t in_use;
	/* Region: the rest of the block that is allocated from. */
	uintptr_t next;
	uintptr_t end;
	size_t small_limit;
	size_t blocks; /* live */
};

/* Relaxed, here and in all accesses to marks: a mark guards no other data. */
static inline uint64_t
pool_mark_of(const struct pool_slice *s) {
	return atomic_load_explicit(&s->mark, memory_order_relaxed);
}

static inline void
pool_set_mark(struct pool_slice *s, uint64_t mark) {
	atomic_store_explicit(&s->mark, mark, memory_order_relaxed);
}

/* Slices on a list. */
static inline uint64_t
pool_list_length(const struct pool_slice *list) {
	return list ? pool_mark_of(list) >> POOL_MARK_LENGTH_SHIFT : 0;
}

static inline void
pool_list_push(struct pool_slice **list, struct pool_slice *s) {
	struct pool_slice *head = *list;

	pool_set_mark(s, POOL_MARK_FREE | (pool_list_length(head) + 1) << POOL_MARK_LENGTH_SHIFT);
	s->next = head;
	*list = s;
}

/* pool_fixed_alloc. */
static inline void *
pool_fixed_take(struct pool *pool) {
	struct pool_fast *f = (struct pool_fast *)pool;
	struct pool_slice *s = f->list;

	if (POOL_IS_CHECKED || s == NULL) {
		return pool_fixed_alloc(pool);
	}
	f->list = s->next;
	pool_set_mark(s, f->in_use);
	return s + 1;
}

/* pool_fixed_free. */
static inline void
pool_fixed_give(struct pool *pool, void *p) {
	struct pool_fast *f = (struct pool_fast *)pool;
	struct pool_slice *s = (struct pool_slice *)p - 1;

	if (POOL_IS_CHECKED || (uintptr_t)p % POOL_ALIGN != 0 || pool_mark_of(s) != f->in_use) {
		pool_fixed_free(pool, p);
		return;
	}
	pool_list_push(&f->list, s);
}

/* pool_region_alloc. */
static inline void *
pool_region_take(struct pool *pool, size_t size) {
	struct pool_fast *f = (struct pool_fast *)pool;
	uintptr_t p = (f->next + POOL_ALIGN - 1) & ~(uintptr_t)(POOL_ALIGN - 1);

	/* Size 0 wraps to the largest number. */
	if (POOL_IS_CHECKED || size - 1 >= f->small_limit || p + size > f->end) {
		return pool_region_alloc(pool, size);
	}
	f->next = p + size;
	f->blocks++;
	return (void *)p;
}

#endif
