/*
 * DESIGN. Allocating moves a pointer in the current block. When a request does
 * not fit, the blocks behind `current` are tried; each failure is counted, and a
 * block that failed more than 4 times is not tried again, which bounds the search.
 *
 * Owns: its blocks (the first holds the region itself), the large blocks, the
 * clean-ups (their records lie in blocks). Invariant: next <= end in each block;
 * all blocks before `current` have failed more than MAX_FAILURES times.
 *
 * What is left of `current` lies where pool_fast.h sees it while nobody looks at
 * the chain; see park and unpark.
 *
 * In a shared region a process can be killed anywhere, and another go on. So what
 * is chained or linked is whole before, a block is out of the list before its
 * memory is given back, and a region that is found parked is taken as its blocks
 * say. Only pool_stats may count too much until the next reset: what the process
 * did last.
 *
 * A checked build links all small blocks and puts a guard behind each; they are
 * looked at on reset and destroy.
 */
#include "pool_region.h"

#include "malloc_report.h"
#include "pool_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_FAILURES 4
/* Headers of large blocks that are looked at for reuse before one more is made. */
#define LARGE_LOOK 4

struct block {
	char *next; /* the first byte that is free */
	char *end;
	struct block *link;
	unsigned failures;
};

struct large {
	void *p;    /* as drawn; NULL: the header can be used again */
	void *user; /* as handed out */
	size_t size;
	struct large *link;
};

/* In front of each small block of a checked build. */
struct check {
	struct check *before;
	size_t size;
};

#define GUARD (POOL_IS_CHECKED ? POOL_ALIGN : 0)

struct region {
	struct pool head;
	size_t block_size;
	struct block *current;
	struct large *large;
	struct pool_cleanup *cleanup;
	struct check *checks; /* the newest */
	size_t reserved;
	size_t large_used; /* bytes in large blocks */
	size_t peak;       /* as far as it was looked at: see used_now */
	pid_t maker;       /* the process whose end of it runs the clean-ups */
	struct block first;
};

static struct region *
region_of(struct pool *pool) {
	return (struct region *)pool;
}

static char *
start_of(struct region *r, struct block *b) {
	char *start = b == &r->first ? (char *)(r + 1) : (char *)(b + 1);

	/* Addresses, not offsets, are rounded: any block size will do. */
	return (char *)pool_round((uintptr_t)start, POOL_ALIGN);
}

/* An `end` of 0, beyond which everything lies: parked. */
#define PARKED 0

/* Writes into `current` how far it is used. */
static void
note_use(struct region *r) {
	if (r->head.fast.end != PARKED) {
		r->current->next = (char *)r->head.fast.next;
	}
}

/* What is said of `current` is in the block from here on, until unpark. A process
 * that died in between leaves it so. */
static void
park(struct region *r) {
	note_use(r);
	POOL_STEP();
	r->head.fast.end = PARKED;
	POOL_STEP();
}

static void
unpark(struct region *r) {
	r->head.fast.next = (uintptr_t)r->current->next;
	POOL_STEP();
	r->head.fast.end = (uintptr_t)r->current->end;
}

/* Bytes in use. A region only grows until something large goes or all does, so
 * looking right before that finds the peak. */
static size_t
used_now(struct region *r) {
	size_t used = r->large_used;

	note_use(r);
	for (struct block *b = &r->first; b; b = b->link) {
		used += (size_t)(b->next - start_of(r, b));
	}
	r->peak = used > r->peak ? used : r->peak;
	return used;
}

/*--------------------------------------------------------------------- small */

/* Room for size bytes in b, or NULL. */
static void *
bump(struct block *b, size_t align, size_t size) {
	char *p = (char *)pool_round((uintptr_t)b->next, align);

	if (p > b->end || size > (size_t)(b->end - p)) {
		return NULL;
	}
	b->next = p + size;
	return p;
}

/* One more block at the end of the chain. Every block from `current` on has just
 * failed, so their failures fall along the chain. */
static void *
chain_block(struct region *r, size_t align, size_t size) {
	struct block *b = pool_draw(&r->head, r->block_size);
	struct block *last = r->current;
	struct block *current = r->current;

	if (b == NULL) {
		return NULL;
	}
	r->reserved += r->block_size;
	*b = (struct block){.end = (char *)b + r->block_size};
	b->next = start_of(r, b);
	while (last->link) {
		last = last->link;
	}
	POOL_STEP();
	last->link = b;
	POOL_STEP();
	for (struct block *old = current; old != b; old = old->link) {
		if (++old->failures > MAX_FAILURES) {
			current = old->link;
		}
	}
	r->current = current;
	return bump(b, align, size);
}

static void *
find_small(struct region *r, size_t align, size_t size) {
	for (struct block *b = r->current; b; b = b->link) {
		void *p = bump(b, align, size);
		if (p) {
			return p;
		}
	}
	return chain_block(r, align, size);
}

static void *
take_small(struct region *r, size_t align, size_t size) {
	struct pool_fast *f = &r->head.fast;
	uintptr_t at = pool_round(f->next, align);

	if (at <= f->end && size <= f->end - at) {
		f->next = at + size;
		return (void *)at;
	}
	park(r);
	void *p = find_small(r, align, size);
	unpark(r);
	return p;
}

/* The same with a header before and a guard behind. */
static void *
take_checked(struct region *r, size_t align, size_t size) {
	size_t head = pool_round(sizeof(struct check), align);
	char *p = take_small(r, align < POOL_ALIGN ? POOL_ALIGN : align, head + size + GUARD);
	struct check *c;

	if (p == NULL) {
		return NULL;
	}
	p += head;
	c = (struct check *)p - 1;
	c->before = r->checks;
	c->size = size;
	memset(p + size, POOL_GUARD, GUARD);
	POOL_STEP();
	r->checks = c;
	return p;
}

static void
verify(struct region *r) {
	for (struct check *c = r->checks; c; c = c->before) {
		char *p = (char *)(c + 1);
		if (!pool_is_filled(p + c->size, POOL_GUARD, GUARD)) {
			pool_complain(&r->head, "overrun", p);
		}
	}
	r->checks = NULL;
}

/*--------------------------------------------------------------------- large */

static struct large *
large_header(struct region *r) {
	int looked = 0;

	for (struct large *l = r->large; l && looked < LARGE_LOOK; l = l->link, looked++) {
		if (l->p == NULL) {
			return l;
		}
	}
	struct large *l = take_small(r, POOL_ALIGN, sizeof(*l));
	if (l) {
		*l = (struct large){.link = r->large};
		POOL_STEP();
		r->large = l;
	}
	return l;
}

/* The alignment comes from asking for more; the header knows the true start. */
static void *
take_large(struct region *r, size_t align, size_t size) {
	size_t extra = align > POOL_ALIGN ? align : 0;
	struct large *l = large_header(r);

	if (l == NULL) {
		return NULL;
	}
	l->size = size + extra + GUARD;
	char *p = pool_draw(&r->head, l->size);
	if (p == NULL) {
		return NULL;
	}
	memset(p + l->size - GUARD, POOL_GUARD, GUARD);
	l->user = (void *)pool_round((uintptr_t)p, align);
	r->reserved += l->size;
	r->large_used += l->size;
	r->head.fast.blocks++;
	POOL_STEP();
	l->p = p;
	return l->user;
}

static void
drop_large(struct region *r, struct large *l) {
	char *p = l->p;

	if (!pool_is_filled(p + l->size - GUARD, POOL_GUARD, GUARD)) {
		pool_complain(&r->head, "overrun", p);
	}
	used_now(r);
	l->p = NULL;
	POOL_STEP();
	r->reserved -= l->size;
	r->large_used -= l->size;
	r->head.fast.blocks--;
	if (POOL_IS_CHECKED) {
		memset(p, POOL_POISON, l->size);
	}
	pool_return(&r->head, p, l->size);
}

bool
pool_region_free_large(struct pool *pool, void *p) {
	struct region *r = region_of(pool);

	for (struct large *l = r->large; l; l = l->link) {
		if (l->p && l->user == p) {
			drop_large(r, l);
			return true;
		}
	}
	return false;
}

/*---------------------------------------------------------------- allocation */

static void *
take(struct region *r, size_t align, size_t size) {
	/* Alignments beyond the usual lose up to three times as much: before the
	 * block, and in a checked build around its header. */
	size_t lost = align > POOL_ALIGN ? 3 * align : 0;
	if (size > r->head.fast.small_limit || lost > r->head.fast.small_limit - size) {
		return take_large(r, align, size);
	}
	void *p = POOL_IS_CHECKED ? take_checked(r, align, size) : take_small(r, align, size);
	r->head.fast.blocks += p != NULL;
	return p;
}

static bool
is_legal(size_t size) {
	if (size == 0 || size > PTRDIFF_MAX / 2) {
		errno = size == 0 ? EINVAL : E2BIG;
		return false;
	}
	return true;
}

void *
pool_region_alloc(struct pool *pool, size_t size) {
	return is_legal(size) ? take(region_of(pool), POOL_ALIGN, size) : NULL;
}

void *
pool_region_alloc_unaligned(struct pool *pool, size_t size) {
	return is_legal(size) ? take(region_of(pool), 1, size) : NULL;
}

void *
pool_region_calloc(struct pool *pool, size_t count, size_t size) {
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = E2BIG;
		return NULL;
	}
	void *p = pool_region_alloc(pool, bytes);
	return p ? memset(p, 0, bytes) : NULL;
}

void *
pool_region_memalign(struct pool *pool, size_t align, size_t size) {
	if (align == 0 || (align & (align - 1)) != 0 || align > PTRDIFF_MAX / 4) {
		errno = EINVAL;
		return NULL;
	}
	return is_legal(size) ? take(region_of(pool), align, size) : NULL;
}

char *
pool_region_strdup(struct pool *pool, const char *text) {
	size_t size = strlen(text) + 1;
	char *p = pool_region_alloc_unaligned(pool, size);

	return p ? memcpy(p, text, size) : NULL;
}

char *
pool_region_printf(struct pool *pool, const char *format, ...) {
	va_list ap;
	va_list again;

	va_start(ap, format);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, format, ap);
	char *p = n < 0 ? NULL : pool_region_alloc_unaligned(pool, (size_t)n + 1);
	if (p) {
		vsnprintf(p, (size_t)n + 1, format, again);
	}
	va_end(again);
	va_end(ap);
	return p;
}

bool
pool_region_extend(struct pool *pool, void *p, size_t old_size, size_t new_size) {
	struct region *r = region_of(pool);
	char *end = (char *)p + old_size + GUARD;

	if (new_size < old_size) {
		return false;
	}
	park(r);
	for (struct block *b = r->current; b; b = b->link) {
		if (b->next != end || (size_t)(b->end - end) < new_size - old_size) {
			continue;
		}
		b->next += new_size - old_size;
		unpark(r);
		if (POOL_IS_CHECKED) {
			memset((char *)p + new_size, POOL_GUARD, GUARD);
			POOL_STEP();
			((struct check *)p - 1)->size = new_size;
		}
		return true;
	}
	unpark(r);
	return false;
}

/*----------------------------------------------------------------- clean-ups */

struct pool_cleanup *
pool_region_cleanup(struct pool *pool, size_t data_size) {
	struct region *r = region_of(pool);
	struct pool_cleanup *c = take_small(r, POOL_ALIGN, sizeof(*c));

	if (c == NULL) {
		return NULL;
	}
	*c = (struct pool_cleanup){0};
	if (data_size > 0) {
		c->data = pool_region_alloc(pool, data_size);
		if (c->data == NULL) {
			return NULL;
		}
	}
	c->next = r->cleanup;
	POOL_STEP();
	r->cleanup = c;
	return c;
}

void
pool_region_cleanup_run(struct pool_cleanup *c) {
	void (*run)(void *) = c->run;

	c->run = NULL;
	if (run) {
		run(c->data);
	}
}

static void
run_cleanups(struct region *r) {
	/* One that registers another has it run as well. */
	while (r->cleanup) {
		struct pool_cleanup *c = r->cleanup;
		r->cleanup = c->next;
		pool_region_cleanup_run(c);
	}
}

static void
close_fd(void *data) {
	int fd = *(int *)data;

	if (close(fd) != 0) {
		malloc_report("pool: can't close descriptor %d: %s", fd, strerror(errno));
	}
}

static void
delete_file(void *data) {
	if (unlink(data) != 0 && errno != ENOENT) {
		malloc_report("pool: can't delete %s: %s", (const char *)data, strerror(errno));
	}
}

bool
pool_region_close_fd(struct pool *pool, int fd) {
	struct pool_cleanup *c = pool_region_cleanup(pool, sizeof(fd));

	if (c) {
		memcpy(c->data, &fd, sizeof(fd));
		c->run = close_fd;
	}
	return c != NULL;
}

bool
pool_region_delete_file(struct pool *pool, const char *path) {
	size_t size = strlen(path) + 1;
	struct pool_cleanup *c = pool_region_cleanup(pool, size);

	if (c) {
		memcpy(c->data, path, size);
		c->run = delete_file;
	}
	return c != NULL;
}

/*------------------------------------------------------------- reset, destroy */

static void
empty(struct region *r) {
	run_cleanups(r);
	verify(r);
	used_now(r);
	for (struct large *l = r->large; l; l = l->link) {
		if (l->p) {
			drop_large(r, l);
		}
	}
}

void
pool_region_reset(struct pool *pool) {
	struct region *r = region_of(pool);

	empty(r);
	r->large = NULL;
	r->large_used = 0;
	r->reserved = 0;
	r->head.fast.blocks = 0;
	park(r);
	r->current = &r->first;
	POOL_STEP();
	for (struct block *b = &r->first; b; b = b->link) {
		r->reserved += r->block_size;
		b->next = start_of(r, b);
		b->failures = 0;
		if (POOL_IS_CHECKED) {
			memset(b->next, POOL_POISON, (size_t)(b->end - b->next));
		}
	}
	unpark(r);
}

/* Other processes may go on with a shared one: nothing in it is touched. */
static void
leave_shared(struct region *r) {
	if (getpid() == r->maker) {
		run_cleanups(r);
	}
	pool_discard(&r->head);
}

static void
region_destroy(struct pool *pool) {
	struct region *r = region_of(pool);
	struct block *b = r->first.link;

	if (pool->arena) {
		leave_shared(r);
		return;
	}
	empty(r);
	while (b) {
		struct block *link = b->link;
		pool_return(pool, b, r->block_size);
		b = link;
	}
	pool_discard(pool);
}

static bool
is_inside(const struct region *r, const void *p) {
	for (const struct block *b = &r->first; b; b = b->link) {
		if ((const char *)p > (const char *)b && (const char *)p < b->end) {
			return true;
		}
	}
	return false;
}

static void
region_free(struct pool *pool, void *p) {
	if (pool_region_free_large(pool, p)) {
		return;
	}
	if (POOL_IS_CHECKED && !is_inside(region_of(pool), p)) {
		pool_complain(pool, "free of a foreign pointer", p);
		return;
	}
	atomic_fetch_add_explicit(&pool->bad_frees, 1, memory_order_relaxed);
}

static void
region_stats(struct pool *pool, struct pool_stats *out) {
	struct region *r = region_of(pool);

	out->reserved = r->reserved;
	out->used = used_now(r);
	out->blocks = r->head.fast.blocks;
	out->peak = r->peak;
}

size_t
pool_region_block_count(const struct pool *pool) {
	size_t n = 0;

	for (const struct block *b = &((const struct region *)pool)->first; b; b = b->link) {
		n++;
	}
	return n;
}

size_t
pool_region_small_limit(const struct pool *pool) {
	return ((const struct region *)pool)->head.fast.small_limit;
}

/*------------------------------------------------------------------ creation */

static const struct pool_ops region_ops = {
    .kind = "region",
    .alloc = pool_region_alloc,
    .free = region_free,
    .destroy = region_destroy,
    .stats = region_stats,
};

struct pool *
pool_region_create(const struct pool_options *options, size_t block_size) {
	if (block_size < POOL_REGION_MIN_BLOCK || block_size > PTRDIFF_MAX / 2) {
		errno = EINVAL;
		return NULL;
	}
	struct region *r = pool_create(&region_ops, options, block_size);
	if (r == NULL) {
		return NULL;
	}
	r->block_size = block_size;
	r->reserved = block_size;
	r->maker = getpid();
	r->current = &r->first;
	r->first.end = (char *)r + block_size;
	r->first.next = start_of(r, &r->first);
	unpark(r);
	/* What fits the first block, which is the smallest, with a check around it. */
	size_t room = (size_t)(r->first.end - r->first.next);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t checks = POOL_IS_CHECKED ? pool_round(sizeof(struct check), POOL_ALIGN) + GUARD : 0;
	r->head.fast.small_limit = room - checks < page - 1 ? room - checks : page - 1;
	return &r->head;
}
