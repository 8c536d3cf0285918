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
 * In a shared ring the cursors are there twice: a change is made in the copy that
 * does not count, and one store makes it the one that does. So a process that is
 * killed leaves the ring as it was before or after a step, and another can go on.
 *
 * Owns: the block. Invariant: all sizes and cursors are multiples of the header's
 * size, so what is left at the end is nothing or holds a filler's header.
 */
#include "pool_ring.h"

#include "malloc_report.h"
#include "platform_process.h"
#include "pool_internal.h"

#include <errno.h>
#include <string.h>

#define STATE_IN_USE ((uint64_t)0x20140605)
#define STATE_FREED ((uint64_t)0x0badf00d)
#define STATE_SHIFT 32

struct item {
	uint32_t units;        /* all of it, in headers; written by the allocating thread */
	unsigned slack;        /* bytes behind the data, in checked builds guards */
	_Atomic(uint64_t) use; /* state, and below it the process that holds it */
};
_Static_assert(sizeof(struct item) % POOL_ALIGN == 0, "data must be aligned");

#define UNIT sizeof(struct item)
/* What an item, and what is left behind it, can count. */
#define MAX_SIZE ((size_t)(UINT32_MAX - 1) * UNIT)
#define GUARD (POOL_IS_CHECKED ? 1u : 0u)
#define IS_FILLER UINT32_MAX /* in slack */

struct cursors {
	size_t head;
	size_t tail;
	size_t taken;
	size_t used; /* bytes of blocks not reclaimed, fillers excluded */
	size_t peak;
};

struct ring {
	struct pool head;
	char *data;
	size_t size;
	/* All the allocating thread's. */
	unsigned now; /* the copy that counts: 0 in a private ring */
	struct cursors copy[2];
};

static struct ring *
ring_of(struct pool *pool) {
	return (struct ring *)pool;
}

static struct item *
item_at(struct ring *r, size_t at) {
	return (struct item *)(r->data + at);
}

static size_t
size_of(const struct item *i) {
	return i->units * UNIT;
}

static size_t
capacity_of(const struct ring *r) {
	return r->size - UNIT - GUARD;
}

/* What the item's word says while this process holds it. */
static uint64_t
held_by_me(void) {
	pid_t me = atomic_load_explicit(&platform_process_id, memory_order_relaxed);

	return STATE_IN_USE << STATE_SHIFT | (uint32_t)me;
}

static bool
is_in_use(uint64_t use) {
	return use >> STATE_SHIFT == STATE_IN_USE;
}

/* The cursors to change; they count from commit on. */
static struct cursors *
begin(struct ring *r) {
	if (r->head.arena == NULL) {
		return &r->copy[0];
	}
	r->copy[!r->now] = r->copy[r->now];
	POOL_STEP();
	return &r->copy[!r->now];
}

static void
commit(struct ring *r) {
	if (r->head.arena) {
		POOL_STEP();
		r->now = !r->now;
		POOL_STEP();
	}
}

/* Something was reclaimed. It counts before a new item is written over an old one.
 * An empty ring starts anew at 0. */
static struct cursors *
commit_tail(struct ring *r, struct cursors *c) {
	if (c->taken == 0) {
		c->head = 0;
		c->tail = 0;
	}
	commit(r);
	return begin(r);
}

/* Moves the tail over freed items. */
static inline struct cursors *
reclaim(struct ring *r) {
	struct cursors *c = begin(r);
	size_t taken = c->taken;
	size_t used = c->used;
	size_t tail = c->tail;

	while (taken > 0) {
		struct item *i = item_at(r, tail);
		/* Acquire: pairs with the exchange in pool_ring_free; what that thread
		 * did with the block comes before we hand its bytes out again. */
		if (is_in_use(atomic_load_explicit(&i->use, memory_order_acquire))) {
			break;
		}
		taken -= size_of(i);
		used -= i->slack == IS_FILLER ? 0 : size_of(i);
		tail += size_of(i);
		tail = tail == r->size ? 0 : tail;
	}
	if (taken == c->taken) {
		return c;
	}
	c->taken = taken;
	c->used = used;
	c->tail = tail;
	return commit_tail(r, c);
}

static inline struct item *
put_item(struct ring *r, struct cursors *c, size_t size, uint64_t use) {
	struct item *i = item_at(r, c->head);

	i->units = (uint32_t)(size / UNIT);
	/* Relaxed: the block reaches the thread that frees it by other means. */
	atomic_store_explicit(&i->use, use, memory_order_relaxed);
	c->taken += size;
	c->head += size;
	if (c->head == r->size) {
		c->head = 0;
	}
	return i;
}

/* Makes the head the start of `size` free bytes in a row; false when there are
 * none. What is left at the end becomes a filler. */
static inline bool
make_room(struct ring *r, struct cursors *c, size_t size) {
	if (size > r->size - c->taken) {
		return false;
	}
	if (c->head < c->tail) {
		return size <= c->tail - c->head;
	}
	size_t rest = r->size - c->head;
	if (size <= rest) {
		return true;
	}
	if (size > c->tail) {
		return false;
	}
	put_item(r, c, rest, STATE_FREED << STATE_SHIFT)->slack = IS_FILLER;
	return true;
}

/* Frees the oldest block if the process that holds it is dead. */
static bool
take_back_oldest(struct ring *r, const struct cursors *c) {
	struct item *i = item_at(r, c->tail);
	uint64_t use = atomic_load_explicit(&i->use, memory_order_relaxed);

	/* Nobody may have taken it over meanwhile. Acquire: as in reclaim. */
	return c->taken > 0 && is_in_use(use) && platform_process_is_dead((pid_t)(uint32_t)use) &&
	       atomic_compare_exchange_strong_explicit(&i->use, &use, STATE_FREED << STATE_SHIFT,
	                                               memory_order_acquire, memory_order_relaxed);
}

/* As reclaim and make_room, with what dead processes held: the cursors, or NULL.
 * Not inlined: for a full ring. */
static __attribute__((noinline)) struct cursors *
make_room_of_dead(struct ring *r, size_t size) {
	size_t blocks = 0;
	struct cursors *c = NULL;

	while (r->head.arena && c == NULL && take_back_oldest(r, &r->copy[r->now])) {
		blocks++;
		c = reclaim(r);
		c = make_room(r, c, size) ? c : NULL;
	}
	if (blocks > 0) {
		malloc_report("pool: took %zu blocks of dead processes back in ring pool '%s' of :%08x %s",
		              blocks, r->head.name, r->head.owner, malloc_report_name(r->head.owner));
	}
	return c;
}

void *
pool_ring_alloc(struct pool *pool, size_t size) {
	struct ring *r = ring_of(pool);

	if (size == 0 || size > capacity_of(r)) {
		errno = size == 0 ? EINVAL : E2BIG;
		return NULL;
	}
	size_t need = pool_round(UNIT + size + GUARD, UNIT);
	struct cursors *c = reclaim(r);
	if (!make_room(r, c, need)) {
		c = make_room_of_dead(r, need);
		if (c == NULL) {
			errno = ENOMEM;
			return NULL;
		}
	}
	struct item *i = put_item(r, c, need, held_by_me());
	i->slack = (unsigned)(need - UNIT - size);
	if (POOL_IS_CHECKED) {
		memset((char *)(i + 1) + size, POOL_GUARD, i->slack);
	}
	c->used += need;
	c->peak = c->used > c->peak ? c->used : c->peak;
	commit(r);
	return i + 1;
}

static bool
is_inside(const struct ring *r, const void *p) {
	uintptr_t offset = (uintptr_t)p - (uintptr_t)r->data;

	return (uintptr_t)p > (uintptr_t)r->data && offset < r->size && offset % UNIT == 0;
}

static void
check_guard(struct pool *pool, struct item *i) {
	size_t size = size_of(i) - UNIT - i->slack;
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
	if (POOL_IS_CHECKED && is_in_use(atomic_load_explicit(&i->use, memory_order_relaxed))) {
		check_guard(pool, i);
	}
	/* Release: pairs with the acquire in reclaim. The first guess is right but for
	 * a block that another process holds. */
	for (uint64_t use = held_by_me();
	     !atomic_compare_exchange_weak_explicit(&i->use, &use, STATE_FREED << STATE_SHIFT,
	                                            memory_order_release, memory_order_relaxed);) {
		if (!is_in_use(use)) {
			pool_complain(
			    pool,
			    use >> STATE_SHIFT == STATE_FREED ? "double free" : "free of a foreign pointer", p);
			return;
		}
	}
}

bool
pool_ring_hold(struct pool *pool, void *p, pid_t from) {
	struct item *i = (struct item *)p - 1;
	uint64_t use = STATE_IN_USE << STATE_SHIFT | (uint32_t)from;

	/* Relaxed: the block came by a way that orders memory itself. */
	return is_inside(ring_of(pool), p) &&
	       atomic_compare_exchange_strong_explicit(&i->use, &use, held_by_me(),
	                                               memory_order_relaxed, memory_order_relaxed);
}

/* Items in use, from the tail on. */
static size_t
count_blocks(struct ring *r, const struct cursors *c) {
	size_t n = 0;

	for (size_t seen = 0; seen < c->taken;) {
		struct item *i = item_at(r, (c->tail + seen) % r->size);
		n += is_in_use(atomic_load_explicit(&i->use, memory_order_relaxed));
		seen += size_of(i);
	}
	return n;
}

static void
ring_stats(struct pool *pool, struct pool_stats *out) {
	struct ring *r = ring_of(pool);
	struct cursors *c = reclaim(r);

	out->reserved = sizeof(*r) + r->size;
	out->used = c->used;
	out->blocks = count_blocks(r, c);
	out->peak = c->peak;
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
	if (size < 2 * UNIT || size > MAX_SIZE) {
		errno = size > MAX_SIZE ? E2BIG : EINVAL;
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
	return capacity_of((const struct ring *)pool);
}
