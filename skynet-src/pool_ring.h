/*
 * A pool for blocks of varying size that are freed roughly in the order they were
 * made, such as queued commands: one contiguous block, used round and round.
 *
 * One thread allocates (and calls stats and destroy); any thread frees. A block
 * freed out of order stays taken until all older ones are freed. Once everything
 * is freed the whole capacity is there again, in one piece.
 *
 * A second free of a block, and a free of a pointer outside the ring, are
 * reported and not honoured, in all builds, as long as the block has not been
 * reclaimed. pool_stats counts blocks behind an older one that is not freed as
 * used. Errors as in pool.h.
 */
#ifndef POOL_RING_H
#define POOL_RING_H

#include "pool.h"

/* A ring of at least `size` bytes, headers of blocks included. NULL and EINVAL
 * when that cannot hold one block. */
struct pool *pool_ring_create(const struct pool_options *options, size_t size);

/* A block, or NULL: ENOMEM until older blocks are freed. Allocating thread. */
void *pool_ring_alloc(struct pool *pool, size_t size);

/* Takes a block. Any thread. */
void pool_ring_free(struct pool *pool, void *p);

/* The largest request that an empty ring serves. */
size_t pool_ring_capacity(const struct pool *pool);

#endif
