/*
 * A region: many small blocks that are freed at once, for the life of a
 * connection or a request. Blocks of one size are chained; large requests go to
 * the general allocator and are remembered. One thread at a time; errors as in
 * pool.h.
 *
 * pool_free frees a large block, and counts (bad_frees) anything else: small
 * blocks live until the reset.
 */
#ifndef POOL_REGION_H
#define POOL_REGION_H

#include "pool.h"

/* Smaller than this is no block (EINVAL at creation). */
#define POOL_REGION_MIN_BLOCK 512u

/* A region that grows by blocks of block_size bytes, headers included. */
struct pool *pool_region_create(const struct pool_options *options, size_t block_size);

/* The largest request that is served from a block; beyond it is large. */
size_t pool_region_small_limit(const struct pool *pool);

/* A block aligned for any object; at any address; zeroed; aligned to a power of
 * two (else NULL and EINVAL). */
void *pool_region_alloc(struct pool *pool, size_t size);
void *pool_region_alloc_unaligned(struct pool *pool, size_t size);
void *pool_region_calloc(struct pool *pool, size_t count, size_t size);
void *pool_region_memalign(struct pool *pool, size_t align, size_t size);

/* A copy of the text; a formatted text. */
char *pool_region_strdup(struct pool *pool, const char *text);
char *pool_region_printf(struct pool *pool, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Makes the block p of old_size bytes new_size bytes long where it is. Only the
 * latest small block can grow; false leaves everything as it was. */
bool pool_region_extend(struct pool *pool, void *p, size_t old_size, size_t new_size);

/* Frees a large block now; false when p is none. */
bool pool_region_free_large(struct pool *pool, void *p);

/* Runs the clean-ups, frees large blocks, empties all others but keeps them. */
void pool_region_reset(struct pool *pool);

/* Blocks chained, for tests. */
size_t pool_region_block_count(const struct pool *pool);

/*
 * Something to do on reset and on destroy, before any memory goes, in reverse
 * order of registration, once. The destroy of a shared region runs them in the
 * process that made it only. data is an area of data_size bytes in the region
 * (NULL for 0) that the caller may fill until then.
 */
struct pool_cleanup {
	void (*run)(void *data);   /* set by the caller; NULL does nothing */
	void *data;                /* as allocated, or the caller's own */
	struct pool_cleanup *next; /* private */
};

/* Registers one; NULL when there is no memory. The region owns it. */
struct pool_cleanup *pool_region_cleanup(struct pool *pool, size_t data_size);

/* Runs one early; it will not run again. */
void pool_region_cleanup_run(struct pool_cleanup *cleanup);

/* Ready-made: closes a descriptor; deletes a file (a missing one is fine, other
 * failures are reported on stderr). False when there is no memory. */
bool pool_region_close_fd(struct pool *pool, int fd);
bool pool_region_delete_file(struct pool *pool, const char *path);

#endif
