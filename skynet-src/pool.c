/*
 * The common part of pools: dispatch to the kinds, reports, and where memory
 * comes from. A shared pool owns one mapping, in which an arena hands out pieces:
 * first fit over a list of free ones in the order of their addresses, neighbours
 * joined. It serves whole blocks, not single objects, so it need not be fast.
 */
#include "pool_internal.h"

#include "malloc_hook.h"
#include "malloc_report.h"
#include "skynet_malloc.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DEFAULT_SHARED (16u << 20)

struct piece {
	size_t size; /* this header included */
	struct piece *next;
};

/* Begins the mapping; pieces follow. */
struct pool_arena {
	pthread_mutex_t lock; /* of all processes; guards the list */
	struct piece *free;
	size_t size; /* of the mapping */
};

#define PIECE_UNIT (sizeof(struct piece) > POOL_ALIGN ? sizeof(struct piece) : POOL_ALIGN)

/*--------------------------------------------------------------------- arena */

static struct pool_arena *
arena_new(size_t size) {
	size_t head = pool_round(sizeof(struct pool_arena), PIECE_UNIT);
	pthread_mutexattr_t attr;
	struct pool_arena *a =
	    mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (a == MAP_FAILED) {
		return NULL;
	}
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&a->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	a->size = size;
	a->free = (struct piece *)((char *)a + head);
	a->free->size = (size - head) & ~(PIECE_UNIT - 1);
	return a;
}

/* The first piece that is large enough; its rest stays free. */
static void *
arena_take(struct pool_arena *a, size_t size) {
	struct piece **at = &a->free;
	struct piece *p;

	while (*at && (*at)->size < size) {
		at = &(*at)->next;
	}
	p = *at;
	if (p == NULL) {
		return NULL;
	}
	if (p->size == size) {
		*at = p->next;
		return p;
	}
	p->size -= size;
	return (char *)p + p->size;
}

static bool
is_adjacent(const struct piece *p, const struct piece *next) {
	return next && (const char *)p + p->size == (const char *)next;
}

static void
arena_give(struct pool_arena *a, void *block, size_t size) {
	struct piece *p = block;
	struct piece *before = NULL;
	struct piece *next = a->free;

	while (next && next < p) {
		before = next;
		next = next->next;
	}
	p->size = size;
	p->next = next;
	if (is_adjacent(p, next)) {
		p->size += next->size;
		p->next = next->next;
	}
	if (before == NULL) {
		a->free = p;
	} else if (is_adjacent(before, p)) {
		before->size += p->size;
		before->next = p->next;
	} else {
		before->next = p;
	}
}

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
	if (size > pool->arena->size) {
		errno = ENOMEM;
		return NULL;
	}
	pthread_mutex_lock(&pool->arena->lock);
	p = arena_take(pool->arena, pool_round(size, PIECE_UNIT));
	pthread_mutex_unlock(&pool->arena->lock);
	if (p == NULL) {
		errno = ENOMEM;
	}
	return p;
}

void
pool_return(struct pool *pool, void *p, size_t size) {
	if (p == NULL) {
		return;
	}
	if (pool->arena == NULL) {
		skynet_free(p);
		return;
	}
	pthread_mutex_lock(&pool->arena->lock);
	arena_give(pool->arena, p, pool_round(size, PIECE_UNIT));
	pthread_mutex_unlock(&pool->arena->lock);
}

/*-------------------------------------------------------------------- object */

void *
pool_create(const struct pool_ops *ops, const struct pool_options *options, size_t size) {
	struct pool head = {.ops = ops, .flags = options->flags, .owner = malloc_charged()};
	size_t shared = options->shared_bytes ? options->shared_bytes : DEFAULT_SHARED;
	struct pool *pool;

	if (options->flags & POOL_SHARED) {
		if (shared < size + sizeof(struct pool_arena) + 2 * PIECE_UNIT) {
			errno = EINVAL;
			return NULL;
		}
		head.arena = arena_new(shared);
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
		munmap(pool->arena, pool->arena->size);
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
