/*
 * A grow-only pool for what lives as long as the process: names, settings, thread
 * descriptors. Allocating is a single atomic addition; nothing is ever freed but
 * the whole. Any thread (and, when shared, any process).
 */
#ifndef POOL_GLOBAL_H
#define POOL_GLOBAL_H

#include "pool.h"

#define POOL_GLOBAL_MIN_PAGE 4096u
#define POOL_GLOBAL_MAX_PAGE (64u << 20)

/*
 * A pool that grows by pages of page_size bytes (within the limits above, else
 * NULL and EINVAL). Its own bookkeeping is inside the first page.
 */
struct pool *pool_global_create(const struct pool_options *options, size_t page_size);

/* A zeroed block. One that does not fit a page gets a page of its own size. */
void *pool_global_alloc(struct pool *pool, size_t size);

/* The largest request that fits a page other than the first. */
size_t pool_global_capacity(const struct pool *pool);

#endif
