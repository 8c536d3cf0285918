/*
 * What the kinds of pools are built from. Private to pool*.c.
 */
#ifndef POOL_INTERNAL_H
#define POOL_INTERNAL_H

#include "pool.h"
#include "pool_fast.h"

#include <pthread.h>

#define POOL_NAME_SIZE 32

/* Bytes of freed memory, and of the guard behind a block, in checked builds. */
#define POOL_POISON 0xdd
#define POOL_GUARD 0xfd

struct pool_ops {
	const char *kind;
	void *(*alloc)(struct pool *pool, size_t size);
	void (*free)(struct pool *pool, void *p);
	void (*destroy)(struct pool *pool);
	void (*stats)(struct pool *pool, struct pool_stats *out);
};

struct pool_arena;

/* The first member of each kind. Set once, before the pool is handed out, but
 * for the first and the last. */
struct pool {
	struct pool_fast fast; /* first; see there */
	const struct pool_ops *ops;
	struct pool_arena *arena; /* of a shared pool, else NULL */
	uint32_t owner;           /* the service that made it */
	unsigned flags;
	char name[POOL_NAME_SIZE];
	atomic_size_t bad_frees;
};

/* n rounded up to a multiple of align, a power of two. The caller has bounded n. */
static inline size_t
pool_round(size_t n, size_t align) {
	return (n + align - 1) & ~(align - 1);
}

/*
 * A zeroed pool object of `size` bytes with its header filled in; NULL with errno
 * when there is no memory or the options make no sense.
 */
void *pool_create(const struct pool_ops *ops, const struct pool_options *options, size_t size);

/* Gives the object of pool_create back, and with it all memory of a shared one. */
void pool_discard(struct pool *pool);

/* Memory for the pool's blocks, aligned to POOL_ALIGN; NULL and ENOMEM, or as
 * pool_lock. Shared memory is safe for several processes at once. What a broken
 * pool is given back is lost. */
void *pool_draw(struct pool *pool, size_t size);
void pool_return(struct pool *pool, void *p, size_t size);

/*--------------------------------------------------------------- shared pools */

/*
 * A process can be killed between any two instructions, and others go on with the
 * shared pools it was changing. So each change is a row of stores of which one
 * makes it valid, and POOL_STEP stands between stores whose order matters: what is
 * above it is in memory when what is below it is. It costs no instruction. Where
 * one store can't do it, the change is under a lock and can be mended.
 */
#define POOL_STEP() atomic_signal_fence(memory_order_seq_cst)

/*
 * Locks a mutex (of platform_shared_mutex_init) of a shared pool. When a process
 * died under it, mend makes whole what it guards, without an order of its own:
 * whoever mends can be killed as well. False with ENOTRECOVERABLE, now and ever
 * after, when mend gives false; each process says so once on stderr.
 */
bool pool_lock(struct pool *pool, pthread_mutex_t *lock, bool (*mend)(struct pool *));

/* A mapping with room for at least `size` bytes; NULL and EINVAL when it is too
 * small for that, or errno of the system. */
struct pool_arena *pool_arena_new(size_t mapping, size_t size);
void pool_arena_unmap(struct pool_arena *arena);
void *pool_arena_take(struct pool *pool, size_t size);
void pool_arena_give(struct pool *pool, void *p, size_t size);

/* Counts a free that made no sense and says so on stderr; a checked build aborts. */
void pool_complain(struct pool *pool, const char *what, const void *p);

/* Whether n bytes all have this value. */
bool pool_is_filled(const void *p, unsigned char value, size_t n);

#endif
