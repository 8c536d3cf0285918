/*
 * The common part of pools: dispatch to the kinds, reports, and where memory
 * comes from: skynet_malloc, or the arena of a shared pool (pool_arena.c).
 */
#include "pool_internal.h"

#include "malloc_hook.h"
#include "malloc_report.h"
#include "skynet_malloc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SHARED (16u << 20)

void *
pool_draw(struct pool *pool, size_t size) {
	void *p;

	if (pool->arena == NULL) {
		/* A pool is its maker's, whoever makes it grow. */
		uint32_t owner = malloc_owner();
		malloc_set_owner(pool->owner);
		p = skynet_malloc(size);
		malloc_set_owner(owner);
		return p;
	}
	return pool_arena_take(pool, size);
}

void
pool_return(struct pool *pool, void *p, size_t size) {
	if (p == NULL) {
		return;
	}
	if (pool->arena == NULL) {
		skynet_free(p);
	} else {
		pool_arena_give(pool, p, size);
	}
}

/*-------------------------------------------------------------------- object */

void *
pool_create(const struct pool_ops *ops, const struct pool_options *options, size_t size) {
	struct pool head = {.ops = ops, .flags = options->flags, .owner = malloc_charged()};
	size_t shared = options->shared_bytes ? options->shared_bytes : DEFAULT_SHARED;
	struct pool *pool;

	if (options->flags & POOL_SHARED) {
		head.arena = pool_arena_new(shared, size);
		if (head.arena == NULL) {
			return NULL;
		}
	}
	pool = pool_draw(&head, size);
	if (pool == NULL) {
		return NULL; /* private, on the C library: a shared arena was checked to fit */
	}
	memset(pool, 0, size);
	pool->ops = head.ops;
	pool->arena = head.arena;
	pool->flags = head.flags;
	pool->owner = head.owner;
	snprintf(pool->name, sizeof(pool->name), "%s", options->name ? options->name : "");
	return pool;
}

void
pool_discard(struct pool *pool) {
	if (pool->arena) {
		pool_arena_unmap(pool->arena);
	} else {
		skynet_free(pool);
	}
}

/*------------------------------------------------------------------- reports */

bool
pool_is_filled(const void *p, unsigned char value, size_t n) {
	const unsigned char *c = p;

	for (size_t i = 0; i < n; i++) {
		if (c[i] != value) {
			return false;
		}
	}
	return true;
}

void
pool_complain(struct pool *pool, const char *what, const void *p) {
	/* Relaxed: a counter that orders nothing. */
	atomic_fetch_add_explicit(&pool->bad_frees, 1, memory_order_relaxed);
	malloc_report("pool: %s, %p in %s pool '%s' of :%08x %s", what, p, pool->ops->kind, pool->name,
	              pool->owner, malloc_report_name(pool->owner));
	if (POOL_IS_CHECKED) {
		malloc_report_backtrace();
		abort();
	}
}

/*----------------------------------------------------------------- interface */

void *
pool_alloc(struct pool *pool, size_t size) {
	return pool->ops->alloc(pool, size);
}

void
pool_free(struct pool *pool, void *p) {
	if (p) {
		pool->ops->free(pool, p);
	}
}

void
pool_destroy(struct pool *pool) {
	if (pool) {
		pool->ops->destroy(pool);
	}
}

void
pool_stats(struct pool *pool, struct pool_stats *out) {
	*out = (struct pool_stats){0};
	pool->ops->stats(pool, out);
	out->bad_frees = atomic_load_explicit(&pool->bad_frees, memory_order_relaxed);
}

const char *
pool_name(const struct pool *pool) {
	return pool->name;
}
