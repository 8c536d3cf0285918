/*
 * DESIGN. The memory of a shared pool is one mapping, in which an arena hands out
 * pieces: first fit over a list of free ones in the order of their addresses,
 * neighbours joined. It serves whole blocks, not single objects, so it need not be
 * fast.
 *
 * Taking a piece, and putting one on the list, is one store. Joining two is two:
 * the first grows over the second, then skips it. A process that is killed between
 * them leaves a piece on the list that lies inside the one before, which is how
 * `mend` finds it and ends the joining. So nothing is lost but a piece that the
 * dead process was just given, or was about to give back.
 *
 * Owns: the mapping. Invariant, but for joining: the pieces on the list are in the
 * order of their addresses and do not touch.
 */
#include "pool_internal.h"

#include "malloc_report.h"
#include "platform_process.h"

#include <errno.h>
#include <sys/mman.h>

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
#define ARENA_HEAD pool_round(sizeof(struct pool_arena), PIECE_UNIT)

/*---------------------------------------------------------------------- locks */

static void
report_death(struct pool *pool, bool is_mended) {
	malloc_report("pool: a process died while it changed %s pool '%s' of :%08x %s: %s",
	              pool->ops->kind, pool->name, pool->owner, malloc_report_name(pool->owner),
	              is_mended ? "mended"
	                        : "what it left makes no sense; end all processes that use the pool "
	                          "and create it anew");
}

/* Once for each broken pool, as long as it is not another one's turn. */
static void
report_broken(struct pool *pool) {
	static _Atomic(struct pool *) told;

	/* Relaxed: it only guards against telling twice. */
	if (atomic_exchange_explicit(&told, pool, memory_order_relaxed) != pool) {
		report_death(pool, false);
	}
}

bool
pool_lock(struct pool *pool, pthread_mutex_t *lock, bool (*mend)(struct pool *)) {
	int rc = platform_shared_mutex_lock(lock);

	if (rc == 0) {
		return true;
	}
	if (rc == EOWNERDEAD) {
		if (mend(pool)) {
			platform_shared_mutex_mended(lock);
			report_death(pool, true);
			return true;
		}
		/* Not mended: from now on it can't be locked any more. */
		pthread_mutex_unlock(lock);
	}
	report_broken(pool);
	errno = ENOTRECOVERABLE;
	return false;
}

/*----------------------------------------------------------------------- list */

static struct piece *
first_piece(struct pool_arena *a) {
	return (struct piece *)((char *)a + ARENA_HEAD);
}

struct pool_arena *
pool_arena_new(size_t mapping, size_t size) {
	if (mapping < size + sizeof(struct pool_arena) + 2 * PIECE_UNIT) {
		errno = EINVAL;
		return NULL;
	}
	struct pool_arena *a =
	    mmap(NULL, mapping, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (a == MAP_FAILED) {
		return NULL;
	}
	a->size = mapping;
	if (!platform_process_init() || !platform_shared_mutex_init(&a->lock)) {
		pool_arena_unmap(a);
		errno = ENOMEM;
		return NULL;
	}
	a->free = first_piece(a);
	a->free->size = (mapping - ARENA_HEAD) & ~(PIECE_UNIT - 1);
	return a;
}

void
pool_arena_unmap(struct pool_arena *arena) {
	munmap(arena, arena->size);
}

/* The first piece that is large enough; its rest stays free. */
static void *
take(struct pool_arena *a, size_t size) {
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

static char *
end_of(const struct piece *p) {
	return (char *)p + p->size;
}

/* Joins a piece with the one behind it, if they touch. */
static bool
join(struct piece *p) {
	struct piece *next = p->next;

	if (next == NULL || end_of(p) != (char *)next) {
		return false;
	}
	p->size += next->size;
	POOL_STEP();
	p->next = next->next;
	return true;
}

static void
give(struct pool_arena *a, void *block, size_t size) {
	struct piece *p = block;
	struct piece *before = NULL;
	struct piece **at = &a->free;

	while (*at && *at < p) {
		before = *at;
		at = &before->next;
	}
	p->size = size;
	p->next = *at;
	POOL_STEP();
	*at = p;
	POOL_STEP();
	join(p);
	POOL_STEP();
	if (before) {
		join(before);
	}
}

/* Whether p can be what comes behind `before` on the list. */
static bool
is_piece(const struct pool_arena *a, const struct piece *before, const struct piece *p) {
	const char *end = (const char *)a + a->size;

	return p > before && (const char *)p < end && (uintptr_t)p % PIECE_UNIT == 0 &&
	       p->size >= PIECE_UNIT && p->size % PIECE_UNIT == 0 &&
	       p->size <= (size_t)(end - (const char *)p);
}

/* Ends a joining of p with the one behind it that was begun, or joins them. False
 * when there is nothing to join. */
static bool
mend_piece(const struct pool_arena *a, struct piece *p) {
	if (p->next > p && (char *)p->next < end_of(p) && (uintptr_t)p->next % PIECE_UNIT == 0) {
		p->next = p->next->next;
		return true;
	}
	return p->next && is_piece(a, p, p->next) && join(p);
}

static bool
mend(struct pool *pool) {
	struct pool_arena *a = pool->arena;
	const struct piece *before = first_piece(a) - 1;

	for (struct piece *p = a->free; p; p = p->next) {
		if (!is_piece(a, before, p)) {
			return false;
		}
		while (mend_piece(a, p)) {
			POOL_STEP();
		}
		before = p;
	}
	return true;
}

/*------------------------------------------------------------------ interface */

void *
pool_arena_take(struct pool *pool, size_t size) {
	struct pool_arena *a = pool->arena;

	if (size > a->size) {
		errno = ENOMEM;
		return NULL;
	}
	if (!pool_lock(pool, &a->lock, mend)) {
		return NULL;
	}
	void *p = take(a, pool_round(size, PIECE_UNIT));
	pthread_mutex_unlock(&a->lock);
	if (p == NULL) {
		errno = ENOMEM;
	}
	return p;
}

void
pool_arena_give(struct pool *pool, void *p, size_t size) {
	struct pool_arena *a = pool->arena;

	if (pool_lock(pool, &a->lock, mend)) {
		give(a, p, pool_round(size, PIECE_UNIT));
		pthread_mutex_unlock(&a->lock);
	}
}
