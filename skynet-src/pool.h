/*
 * Memory pools beside the general allocator: what the four kinds have in common.
 *
 *   pool_global.h   grow-only, lives as long as the process, any thread
 *   pool_ring.h     variable sizes in FIFO order, one allocating thread
 *   pool_fixed.h    equal slices, for one thread or for many
 *   pool_region.h   many small blocks freed at once, one thread at a time
 *
 * Every block is aligned for any object. A failed allocation gives NULL and sets
 * errno: EINVAL for size 0, E2BIG for a size that the pool can never serve,
 * ENOMEM when there is no room now.
 *
 * A pool draws its memory from skynet_malloc, charged to the service that makes
 * it; or (POOL_SHARED) from one anonymous shared mapping of a given size, so that
 * processes forked afterwards work on the same pool. One of them may be killed at
 * any instant: the others are not held up, and no block is handed out twice. What
 * the dead one had stays taken (a ring takes it back, see there), and so may what
 * it was about to get or to give back. Should the pool make no sense afterwards,
 * since somebody wrote where nothing was his, allocations give ENOTRECOVERABLE,
 * frees do nothing, and each process is told so on stderr, once.
 *
 * Checked builds (MEMORY_CHECK) poison what is freed and stop the process at a
 * double free, a foreign pointer or an overrun, naming the pool and the service.
 * Other builds report what they can see cheaply (each kind says what), count it
 * and go on.
 */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stddef.h>

struct pool;

#define POOL_SHARED 1u   /* on memory that forked processes share */
#define POOL_THREADS 2u  /* fixed: any number of threads */
#define POOL_GROWABLE 4u /* fixed: takes further blocks when full; not with POOL_SHARED */

/* What all kinds are created from. A zeroed one is a private, unnamed pool. */
struct pool_options {
	const char *name;    /* for reports; copied, at most 31 bytes */
	unsigned flags;      /* POOL_... */
	size_t shared_bytes; /* with POOL_SHARED: size of the mapping; 0 is 16 MiB */
};

/* A snapshot; figures of a pool in use by several threads need not be of one
 * instant. */
struct pool_stats {
	size_t reserved;  /* bytes drawn, bookkeeping included */
	size_t used;      /* bytes in live blocks, as the pool rounds them */
	size_t blocks;    /* live blocks */
	size_t peak;      /* most bytes used at a time */
	size_t bad_frees; /* frees that had no meaning and were not honoured */
	size_t oversize;  /* global: requests that got a page of their own */
};

/* A block of at least size bytes, or NULL. */
void *pool_alloc(struct pool *pool, size_t size);

/* Takes a block of this pool, or NULL. Kinds without a meaning for it count. */
void pool_free(struct pool *pool, void *p);

/* Frees everything; nobody may use the pool or its blocks any more. NULL is
 * allowed. Of a shared pool this ends the calling process's view only. */
void pool_destroy(struct pool *pool);

/* Writes the figures of the pool to `out`. */
void pool_stats(struct pool *pool, struct pool_stats *out);

/* The name given at creation. Lends. */
const char *pool_name(const struct pool *pool);

#endif
