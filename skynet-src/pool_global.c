/*
 * DESIGN. A page's fill and its number of blocks are one 64-bit word, so that one
 * fetch-and-add takes the room, counts the block and tells whether it fitted. Who
 * did not fit takes the addition back and installs a new page; a thread whose
 * small request failed only because of somebody's addition not yet taken back
 * tries once more before that.
 *
 * A process that is killed between an addition and its taking back leaves the page
 * full and a block too many in the counts; before an installation, its page lost.
 *
 * Owns: its pages: those that were current, the newest first, and those of single
 * blocks; both lists only grow. Invariant: room below a page's fill belongs to
 * exactly one block.
 */
#include "pool_global.h"

#include "pool_internal.h"

#include <errno.h>
#include <string.h>

/* Fill in the low bits, blocks above. At most 1024 threads may be wrong by one
 * page at a time: 2^10 pages of 2^26 bytes stay far below 2^40. */
#define FILL_BITS 40
#define FILL_MASK (((uint64_t)1 << FILL_BITS) - 1)
#define ONE_BLOCK ((uint64_t)1 << FILL_BITS)

struct page {
	_Atomic(uint64_t) fill; /* bytes after this header, and blocks */
	size_t size;            /* all of it; set before it is published */
	struct page *next;      /* set before it is published */
};

#define PAGE_HEAD pool_round(sizeof(struct page), POOL_ALIGN)

/* Begins the first page's memory; that page follows. */
struct global {
	struct pool head;
	size_t page_size;
	_Atomic(struct page *) current; /* the first page is the last on this list */
	_Atomic(struct page *) single;
	atomic_size_t oversize;
};

static struct page *
first_page(struct global *g) {
	return (struct page *)((char *)g + pool_round(sizeof(*g), POOL_ALIGN));
}

static size_t
room_of(const struct page *page) {
	return page->size - PAGE_HEAD;
}

/* Room for `need` bytes in a page, or NULL. */
static void *
take(struct page *page, size_t need) {
	/* Relaxed: the word guards no other data. Pages are zero before they are
	 * published, and blocks belong to whoever got them. */
	uint64_t was = atomic_fetch_add_explicit(&page->fill, need + ONE_BLOCK, memory_order_relaxed);

	if ((was & FILL_MASK) + need <= room_of(page)) {
		return (char *)page + PAGE_HEAD + (was & FILL_MASK);
	}
	atomic_fetch_sub_explicit(&page->fill, need + ONE_BLOCK, memory_order_relaxed);
	return NULL;
}

static struct page *
page_new(struct global *g, size_t size) {
	struct page *page = pool_draw(&g->head, size);

	if (page) {
		memset(page, 0, size);
		page->size = size;
	}
	return page;
}

/* A page of its own, for what no page holds. */
static void *
alloc_oversize(struct global *g, size_t need) {
	struct page *page = page_new(g, PAGE_HEAD + need);

	if (page == NULL) {
		return NULL;
	}
	void *p = take(page, need);
	page->next = atomic_load_explicit(&g->single, memory_order_relaxed);
	/* Release: pairs with the acquire of those that walk the list. */
	while (!atomic_compare_exchange_weak_explicit(&g->single, &page->next, page,
	                                              memory_order_release, memory_order_relaxed)) {
	}
	atomic_fetch_add_explicit(&g->oversize, 1, memory_order_relaxed);
	return p;
}

/* `full` had no room: take it from a new page, whoever gets to install one. */
static void *
alloc_slow(struct global *g, struct page *full, size_t need) {
	void *p = take(full, need);

	while (p == NULL) {
		struct page *page = page_new(g, g->page_size);
		if (page == NULL) {
			return NULL;
		}
		page->next = full;
		/* Release: pairs with the acquire in pool_global_alloc; who sees the page
		 * sees its header and zeros. Acquire: so do we when somebody was faster. */
		if (atomic_compare_exchange_strong_explicit(&g->current, &full, page, memory_order_acq_rel,
		                                            memory_order_acquire)) {
			full = page;
		} else {
			pool_return(&g->head, page, g->page_size);
		}
		p = take(full, need);
	}
	return p;
}

void *
pool_global_alloc(struct pool *pool, size_t size) {
	struct global *g = (struct global *)pool;

	if (size == 0 || size > PTRDIFF_MAX - PAGE_HEAD - POOL_ALIGN) {
		errno = size == 0 ? EINVAL : E2BIG;
		return NULL;
	}
	size_t need = pool_round(size, POOL_ALIGN);
	if (need > g->page_size - PAGE_HEAD) {
		return alloc_oversize(g, need);
	}
	struct page *page = atomic_load_explicit(&g->current, memory_order_acquire);
	void *p = take(page, need);
	return p ? p : alloc_slow(g, page, need);
}

static struct page *
pages_of(_Atomic(struct page *) *list) {
	return atomic_load_explicit(list, memory_order_acquire);
}

static bool
is_inside(struct page *page, const void *p) {
	for (; page; page = page->next) {
		if ((char *)p > (char *)page && (char *)p < (char *)page + page->size) {
			return true;
		}
	}
	return false;
}

/* Blocks live until the pool goes; all that can be done is to count. */
static void
global_free(struct pool *pool, void *p) {
	struct global *g = (struct global *)pool;

	if (POOL_IS_CHECKED && !is_inside(pages_of(&g->current), p) &&
	    !is_inside(pages_of(&g->single), p)) {
		pool_complain(pool, "free of a foreign pointer", p);
		return;
	}
	atomic_fetch_add_explicit(&pool->bad_frees, 1, memory_order_relaxed);
}

static void
add_pages(struct page *page, struct pool_stats *out) {
	for (; page; page = page->next) {
		uint64_t word = atomic_load_explicit(&page->fill, memory_order_relaxed);
		size_t fill = word & FILL_MASK;
		out->reserved += page->size;
		out->blocks += word >> FILL_BITS;
		out->used += (fill > room_of(page) ? room_of(page) : fill);
	}
}

static void
global_stats(struct pool *pool, struct pool_stats *out) {
	struct global *g = (struct global *)pool;

	add_pages(pages_of(&g->current), out);
	add_pages(pages_of(&g->single), out);
	out->peak = out->used;
	out->oversize = atomic_load_explicit(&g->oversize, memory_order_relaxed);
}

/* From a page up to `last`, which stays. */
static void
return_pages(struct global *g, struct page *page, const struct page *last) {
	while (page != last) {
		struct page *next = page->next;
		pool_return(&g->head, page, page->size);
		page = next;
	}
}

static void
global_destroy(struct pool *pool) {
	struct global *g = (struct global *)pool;

	if (pool->arena == NULL) {
		return_pages(g, pages_of(&g->current), first_page(g));
		return_pages(g, pages_of(&g->single), NULL);
	}
	pool_discard(pool);
}

static void *
global_alloc(struct pool *pool, size_t size) {
	return pool_global_alloc(pool, size);
}

static const struct pool_ops global_ops = {
    .kind = "global",
    .alloc = global_alloc,
    .free = global_free,
    .destroy = global_destroy,
    .stats = global_stats,
};

struct pool *
pool_global_create(const struct pool_options *options, size_t page_size) {
	if (page_size < POOL_GLOBAL_MIN_PAGE || page_size > POOL_GLOBAL_MAX_PAGE) {
		errno = EINVAL;
		return NULL;
	}
	page_size = pool_round(page_size, POOL_ALIGN);
	struct global *g = pool_create(&global_ops, options, page_size);
	if (g == NULL) {
		return NULL;
	}
	struct page *first = first_page(g);
	first->size = page_size - (size_t)((char *)first - (char *)g);
	g->page_size = page_size;
	atomic_init(&g->current, first);
	return &g->head;
}

size_t
pool_global_capacity(const struct pool *pool) {
	return ((const struct global *)pool)->page_size - PAGE_HEAD;
}
