/*
 * DESIGN. Items lie one behind the other: header, data. The allocating thread
 * owns both cursors: `head`, where the next item goes, and `tail`, the oldest
 * item; before it allocates it moves `tail` over all freed items in a row. Who
 * frees only changes the item's state. `taken` counts bytes between the cursors,
 * so a full ring and an empty one need no gap to be told apart.
 *
 *     0        tail            head       size
 *     | free   | items ....... | free     |      taken = head - tail
 *     | items  head | free | tail items | filler  taken = size - (tail - head)
 *
 * Owns: the block. Invariant: all sizes and cursors are multiples of the header's
 * size, so what is left at the end is nothing or holds a filler's header.
 */
#include "pool_ring.h"

#include "pool_internal.h"

#include <errno.h>
#include <string.h>

enum item_state { ITEM_IN_USE = 0x20140605, ITEM_FREED = 0x0badf00d };

struct item {
	size_t size; /* all of it; written by the allocating thread */
	atomic_uint state;
	unsigned slack; /* bytes behind the data, in checked builds guards */
};
_Static_assert(sizeof(struct item) % POOL_ALIGN == 0, "data must be aligned");

#define UNIT sizeof(struct item)
#define GUARD (POOL_IS_CHECKED ? 1u : 0u)

struct ring {
	struct pool head;
	char *data;
	size_t size;
	/* All the allocating thread's. */
	size_t head_at;
	size_t tail_at;
	size_t taken;
	size_t used; /* bytes of blocks not reclaimed, fillers excluded */
	size_t peak;
};

static struct ring *
ring_of(struct pool *pool) {
	return (struct ring *)pool;
}

static struct item *
item_at(struct ring *r, size_t at) {
	return (struct item *)(r->data + at);
}

/* Moves the tail over freed items; an empty ring starts anew at 0. */
static void
reclaim(struct ring *r) {
	while (r->taken > 0) {
		struct item *i = item_at(r, r->tail_at);
		/* Acquire: pairs with the exchange in pool_ring_free; what that thread
		 * did with the block comes before we hand its bytes out again. */
		if (atomic_load_explicit(&i->state, memory_order_acquire) != ITEM_FREED) {
			return;
		}
		r->taken -= i->size;
		if (i->slack != UINT32_MAX) {
			r->used -= i->size;
		}
		r->tail_at += i->size;
		if (r->tail_at == r->size) {
			r->tail_at = 0;
		}
	}
	r->head_at = 0;
	r->tail_at = 0;
}

static struct item *
put_item(struct ring *r, size_t size, enum item_state state) {
	struct item *i = item_at(r, r->head_at);

	i->size = size;
	/* Relaxed: the block reaches the thread that frees it by other means. */
	atomic_store_explicit(&i->state, state, memory_order_relaxed);
	r->taken += size;
	r->head_at += size;
	if (r->head_at == r->size) {
		r->head_at = 0;
	}
	return i;
}

/* Makes head_at the start of `size` free bytes in a row; false when there are
 * none. What is left at the end becomes a filler. */
static bool
make_room(struct ring *r, size_t size) {
	if (size > r->size - r->taken) {
		return false;
	}
	if (r->head_at < r->tail_at) {
		return size <= r->tail_at - r->head_at;
	}
	size_t rest = r->size - r->head_at;
	if (size <= rest) {
		return true;
	}
	if (size > r->tail_at) {
		return false;
	}
	put_item(r, rest, ITEM_FREED)->slack = UINT32_MAX;
	return true;
}

void *
pool_ring_alloc(struct pool *pool, size_t size) {
	struct ring *r = ring_of(pool);

	if (size == 0 || size > pool_ring_capacity(pool)) {
		errno = size == 0 ? EINVAL : E2BIG;
		return NULL;
	}
	size_t need = pool_round(UNIT + size + GUARD, UNIT);
	reclaim(r);
	if (!make_room(r, need)) {
		errno = ENOMEM;
		return NULL;
	}
	struct item *i = put_item(r, need, ITEM_IN_USE);
	i->slack = (unsigned)(need - UNIT - size);
	r->used += need;
	r->peak = r->used > r->peak ? r->used : r->peak;
	if (POOL_IS_CHECKED) {
		memset((char *)(i + 1) + size, POOL_GUARD, i->slack);
	}
	return i + 1;
}

static bool
is_inside(const struct ring *r, const void *p) {
	uintptr_t offset = (uintptr_t)p - (uintptr_t)r->data;

	return (uintptr_t)p > (uintptr_t)r->data && offset < r->size && offset % UNIT == 0;
}

static void
check_guard(struct pool *pool, struct item *i) {
	size_t size = i->size - UNIT - i->slack;
	char *p = (char *)(i + 1);

	if (!pool_is_filled(p + size, POOL_GUARD, i->slack)) {
		pool_complain(pool, "overrun", p);
	}
	memset(p, POOL_POISON, size);
}

void
pool_ring_free(struct pool *pool, void *p) {
	struct ring *r = ring_of(pool);
	struct item *i = (struct item *)p - 1;

	if (!is_inside(r, p)) {
		pool_complain(pool, "free of a foreign pointer", p);
		return;
	}
	if (POOL_IS_CHECKED && atomic_load_explicit(&i->state, memory_order_relaxed) == ITEM_IN_USE) {
		check_guard(pool, i);
	}
	unsigned in_use = ITEM_IN_USE;
	/* Release: pairs with the acquire in reclaim. */
	if (!atomic_compare_exchange_strong_explicit(&i->state, &in_use, ITEM_FREED,
	                                             memory_order_release, memory_order_relaxed)) {
		pool_complain(pool, in_use == ITEM_FREED ? "double free" : "free of a foreign pointer", p);
	}
}

/* Items in use, from the tail on. */
static size_t
count_blocks(struct ring *r) {
	size_t n = 0;
	size_t at = r->tail_at;

	for (size_t seen = 0; seen < r->taken; seen += item_at(r, at)->size) {
		at = (r->tail_at + seen) % r->size;
		n += atomic_load_explicit(&item_at(r, at)->state, memory_order_relaxed) == ITEM_IN_USE;
	}
	return n;
}

static void
ring_stats(struct pool *pool, struct pool_stats *out) {
	struct ring *r = ring_of(pool);

	reclaim(r);
	out->reserved = sizeof(*r) + r->size;
	out->used = r->used;
	out->blocks = count_blocks(r);
	out->peak = r->peak;
}

static void
ring_destroy(struct pool *pool) {
	struct ring *r = ring_of(pool);

	if (pool->arena == NULL) {
		pool_return(pool, r->data, r->size);
	}
	pool_discard(pool);
}

static const struct pool_ops ring_ops = {
    .kind = "ring",
    .alloc = pool_ring_alloc,
    .free = pool_ring_free,
    .destroy = ring_destroy,
    .stats = ring_stats,
};

struct pool *
pool_ring_create(const struct pool_options *options, size_t size) {
	if (size < 2 * UNIT || size > PTRDIFF_MAX / 2) {
		errno = EINVAL;
		return NULL;
	}
	struct ring *r = pool_create(&ring_ops, options, sizeof(*r));
	if (r == NULL) {
		return NULL;
	}
	r->size = pool_round(size, UNIT);
	r->data = pool_draw(&r->head, r->size);
	if (r->data == NULL) {
		pool_discard(&r->head);
		errno = ENOMEM;
		return NULL;
	}
	return &r->head;
}

size_t
pool_ring_capacity(const struct pool *pool) {
	return ((const struct ring *)pool)->size - UNIT - GUARD;
}
