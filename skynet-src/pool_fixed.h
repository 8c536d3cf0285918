/*
 * A pool of equal slices. The slice freed last is handed out first. Errors as in
 * pool.h; a request larger than a slice is E2BIG.
 *
 * Without POOL_THREADS one thread at a time may use it. With it any thread may
 * allocate and free, also what another one allocated; each keeps a small stock
 * of its own, so that most calls take no lock. A pool that cannot grow keeps
 * such stocks small (1/32 of the slices), but may be reported full while other
 * threads have some in stock. A shared pool has no stocks.
 *
 * A free of a slice that is free already, or of a pointer that is no slice's (in
 * memory that can be read), is reported and not honoured, in all builds.
 */
#ifndef POOL_FIXED_H
#define POOL_FIXED_H

#include "pool.h"

/*
 * slices of slice_size bytes each; with POOL_GROWABLE as many again whenever it
 * is full. memory: NULL, or a block of the caller's of at least
 * pool_fixed_footprint bytes aligned for any object, lent until the pool is
 * destroyed (not with POOL_SHARED). NULL and EINVAL for sizes of 0, and for
 * flags that exclude each other.
 */
struct pool *pool_fixed_create(const struct pool_options *options, size_t slice_size, size_t slices,
                               void *memory);

/* Bytes that pool_fixed_create needs at `memory`; 0 when that is too much. */
size_t pool_fixed_footprint(size_t slice_size, size_t slices);

/* A slice, or NULL. */
void *pool_fixed_alloc(struct pool *pool);

/* Takes a slice back. */
void pool_fixed_free(struct pool *pool, void *p);

/* Slices that there are, that are handed out, and their size. */
size_t pool_fixed_slice_num(const struct pool *pool);
size_t pool_fixed_slice_use(struct pool *pool);
size_t pool_fixed_slice_size(const struct pool *pool);

#endif
