/*
 * What the kinds of pools are built from. Private to pool*.c.
 */
#ifndef POOL_INTERNAL_H
#define POOL_INTERNAL_H

#include "pool.h"
#include "pool_fast.h"

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

/* Memory for the pool's blocks, aligned to POOL_ALIGN; NULL and ENOMEM. Shared
 * memory is safe for several processes at once. */
void *pool_draw(struct pool *pool, size_t size);
void pool_return(struct pool *pool, void *p, size_t size);

/* Counts a free that made no sense and says so on stderr; a checked build aborts. */
void pool_complain(struct pool *pool, const char *what, const void *p);

/* Whether n bytes all have this value. */
bool pool_is_filled(const void *p, unsigned char value, size_t n);

#endif
