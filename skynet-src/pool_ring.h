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
 *
 * A block in a shared ring has a holder: the process that allocated it, then each
 * that took it over with pool_ring_hold. When there is no room and the holder of
 * the oldest block is dead, the block is taken back, as the ring would stand
 * still for ever. When the allocating process is dead, another may take its part.
 */
#ifndef POOL_RING_H
#define POOL_RING_H

#include "pool.h"

#include <sys/types.h>

/* A ring of at least `size` bytes, headers of blocks included. NULL and EINVAL
 * when that cannot hold one block, E2BIG from 64 GiB on, which an item cannot
 * count, ENOMEM when there is no memory for it. */
struct pool *pool_ring_create(const struct pool_options *options, size_t size);

/* A block, or NULL: ENOMEM until older blocks are freed. Allocating thread. */
void *pool_ring_alloc(struct pool *pool, size_t size);

/* Takes a block. Any thread. */
void pool_ring_free(struct pool *pool, void *p);

/*
 * For the receiver of a block in a shared ring, before it looks at it: `from` held
 * it, from now on the calling process does. False: the block was taken back, as
 * `from` is dead, and is not to be touched. Who does without this frees blocks
 * that go when their allocating process does, and keeps them when it dies itself.
 * Any thread.
 */
bool pool_ring_hold(struct pool *pool, void *p, pid_t from);

/* The largest request that an empty ring serves. */
size_t pool_ring_capacity(const struct pool *pool);

#endif
