/*
 * The standard allocation functions, defined by the executable on top of
 * jemalloc and charged to the current service (malloc_account.h). Each block
 * ends in a cookie (malloc_cookie.h).
 *
 * Everything here may run before main, in a thread that is ending, and in any
 * library of the process. It owns no memory of its own but a table of size
 * classes.
 */
#include "malloc_hook.h"

#include "skynet_malloc.h"

__thread struct malloc_thread malloc_thread_tls
    __attribute__((tls_model("initial-exec"))) = {.owner = 0, .charged = MALLOC_ACCOUNT_PROCESS};

#ifdef NOUSE_JEMALLOC

void
malloc_give(void *p, uint32_t handle) {
	(void)p;
	(void)handle;
}

void *
skynet_lalloc(void *p, size_t osize, size_t nsize) {
	(void)osize;
	if (nsize == 0) {
		free(p);
		return NULL;
	}
	return realloc(p, nsize);
}

#else

#include "jemalloc_api.h"
#include "malloc_check.h"
#include "malloc_cookie.h"
#include "malloc_front.h"
#include "malloc_oom.h"
#include "malloc_pagemap.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)

/* More than this plus a cookie is not a size (C's limit on objects). */
#define MAX_SIZE ((size_t)PTRDIFF_MAX - MALLOC_COOKIE_SIZE)

/* What accounts say of a block of `size` bytes. */
static inline int64_t
accounted(size_t size) {
	return (int64_t)(size + MALLOC_COOKIE_SIZE);
}

/* Keeps the fast paths free of saved registers. */
static __attribute__((noinline)) void *
charge_slow(void *p, uint32_t owner, size_t size) {
	malloc_account_add(owner, accounted(size), 1);
	return p;
}

/* Writes the cookie of a new block and charges the current service. */
static inline void *
seal(void *p, size_t usable, size_t size) {
	uint32_t owner = malloc_charged();
	struct malloc_cookie *c = malloc_cookie_of(p, usable);
	c->owner = owner;
	c->tag = MALLOC_TAG_LIVE;
	c->size = size;
	malloc_check_born(p, usable);
	if (LIKELY(malloc_account_try_add(owner, accounted(size), 1))) {
		return p;
	}
	return charge_slow(p, owner, size);
}

/*
 * The class of small sizes in units, by (size + cookie) / PAGEMAP_UNIT rounded
 * up. 0: not met yet. Relaxed: every thread would write the same value.
 */
static _Atomic uint16_t small_class[FRONT_MAX / PAGEMAP_UNIT + 1];

static inline _Atomic uint16_t *
small_class_of(size_t size) {
	return &small_class[(size + MALLOC_COOKIE_SIZE + PAGEMAP_UNIT - 1) / PAGEMAP_UNIT];
}

#define SMALL_SIZE (FRONT_MAX - MALLOC_COOKIE_SIZE)

/* A block from jemalloc itself with any flags. A size that is none is out of
 * memory. */
static __attribute__((noinline)) void *
alloc_or_die(size_t size, int flags) {
	for (int tries = 0;; tries++) {
		void *p = size > MAX_SIZE ? NULL : je_mallocx(size + MALLOC_COOKIE_SIZE, flags);
		if (p != NULL) {
			size_t usable = je_sallocx(p, 0);
			pagemap_note(p, usable);
			return seal(p, usable, size);
		}
		malloc_oom(size, tries);
	}
}

/* What the stock had not: a small block. */
static __attribute__((noinline)) void *
alloc_small(size_t size) {
	front_open();
	void *p = je_malloc(size + MALLOC_COOKIE_SIZE);
	if (!LIKELY(p != NULL)) {
		return alloc_or_die(size, 0);
	}
	_Atomic uint16_t *class = small_class_of(size);
	size_t units = atomic_load_explicit(class, memory_order_relaxed);
	if (!LIKELY(units != 0)) {
		units = je_sallocx(p, 0) / PAGEMAP_UNIT;
		atomic_store_explicit(class, (uint16_t)units, memory_order_relaxed);
	}
	pagemap_note(p, units * PAGEMAP_UNIT);
	return seal(p, units * PAGEMAP_UNIT, size);
}

/* Not called malloc inside this file: the compiler would make malloc followed
 * by memset a call of calloc, also in calloc. */
static inline void *
alloc(size_t size) {
	if (LIKELY(size <= SMALL_SIZE)) {
		size_t units = atomic_load_explicit(small_class_of(size), memory_order_relaxed);
		void *p = front_pop(units);
		if (LIKELY(p != NULL)) {
			return seal(p, units * PAGEMAP_UNIT, size);
		}
		return alloc_small(size);
	}
	return alloc_or_die(size, 0);
}

void *
malloc(size_t size) {
	return alloc(size);
}

void *
calloc(size_t count, size_t size) {
	size_t bytes;
	if (__builtin_mul_overflow(count, size, &bytes)) {
		bytes = SIZE_MAX;
	}
	if (MALLOC_IS_CHECKED || bytes <= SMALL_SIZE) {
		return memset(alloc(bytes), 0, bytes);
	}
	return alloc_or_die(bytes, JE_ZERO);
}

static inline void
credit(uint32_t owner, size_t size) {
	if (!LIKELY(malloc_account_try_add(owner, -accounted(size), -1))) {
		malloc_account_add(owner, -accounted(size), -1);
	}
}

static __attribute__((noinline)) void
free_slow(void *p) {
	size_t usable = pagemap_class(p);
	const struct malloc_cookie *c = malloc_cookie_of(p, usable);
	credit(c->owner, c->size);
	malloc_check_bury(p, usable);
}

void
free(void *p) {
	if (p == NULL) {
		return;
	}
	malloc_check_claim(p, MALLOC_CHECK_FREE);
	size_t units = pagemap_units(p);
	if (MALLOC_IS_CHECKED || !LIKELY(front_push(p, units))) {
		free_slow(p);
		return;
	}
	/* Stocked, yet untouched. Last, so that it can be a jump. */
	const struct malloc_cookie *c = malloc_cookie_of(p, units * PAGEMAP_UNIT);
	credit(c->owner, c->size);
}

#ifdef MEMORY_CHECK

/* Always moves, so that a stale pointer meets poison. */
void *
realloc(void *p, size_t size) {
	if (p == NULL) {
		return alloc(size);
	}
	malloc_check_claim(p, MALLOC_CHECK_REALLOC);
	size_t usable = pagemap_class(p);
	struct malloc_cookie *c = malloc_cookie_of(p, usable);
	void *moved = alloc(size);
	memcpy(moved, p, size < c->size ? size : c->size);
	credit(c->owner, c->size);
	malloc_check_bury(p, usable);
	return moved;
}

#else

void *
realloc(void *p, size_t size) {
	if (p == NULL) {
		return alloc(size);
	}
	struct malloc_cookie old = *malloc_cookie_of(p, pagemap_class(p));
	for (int tries = 0;; tries++) {
		void *moved = size > MAX_SIZE ? NULL : je_realloc(p, size + MALLOC_COOKIE_SIZE);
		if (LIKELY(moved != NULL)) {
			size_t usable = je_sallocx(moved, 0);
			pagemap_note(moved, usable);
			credit(old.owner, old.size);
			return seal(moved, usable, size);
		}
		malloc_oom(size, tries);
	}
}

#endif

/*----------------------------------------------------------------- aligned */

static bool
is_power_of_two(size_t n) {
	return n != 0 && (n & (n - 1)) == 0;
}

static void *
alloc_aligned(size_t align, size_t size) {
	return alloc_or_die(size, JE_LG_ALIGN(__builtin_ctzl(align)));
}

void *
memalign(size_t align, size_t size) {
	if (!is_power_of_two(align)) {
		errno = EINVAL;
		return NULL;
	}
	return alloc_aligned(align, size);
}

void *
aligned_alloc(size_t align, size_t size) {
	return memalign(align, size);
}

int
posix_memalign(void **out, size_t align, size_t size) {
	if (!is_power_of_two(align) || align % sizeof(void *) != 0) {
		return EINVAL;
	}
	*out = alloc_aligned(align, size);
	return 0;
}

static size_t
page_size(void) {
	return (size_t)sysconf(_SC_PAGESIZE);
}

void *
valloc(size_t size) {
	return alloc_aligned(page_size(), size);
}

void *
pvalloc(size_t size) {
	size_t page = page_size();
	size_t rounded = (size + page - 1) & ~(page - 1);
	return alloc_aligned(page, rounded < size ? SIZE_MAX : rounded);
}

/*------------------------------------------------------------------ others */

/* The size that was asked for: what lies behind it is not the caller's. */
size_t
malloc_usable_size(void *p) {
	return p == NULL ? 0 : malloc_cookie_of(p, pagemap_class(p))->size;
}

void
malloc_give(void *p, uint32_t handle) {
	if (p == NULL) {
		return;
	}
	if (handle == 0) {
		handle = MALLOC_ACCOUNT_PROCESS;
	}
	struct malloc_cookie *c = malloc_cookie_of(p, pagemap_class(p));
	if (c->owner == handle) {
		return;
	}
	credit(c->owner, c->size);
	c->owner = handle;
	malloc_check_given(p, handle);
	malloc_account_add(handle, accounted(c->size), 1);
}

/* C23; not in every system's headers yet, but a library may call them. */
void free_sized(void *p, size_t size);
void free_aligned_sized(void *p, size_t align, size_t size);

void
free_sized(void *p, size_t size) {
	(void)size;
	free(p);
}

void
free_aligned_sized(void *p, size_t align, size_t size) {
	(void)align;
	(void)size;
	free(p);
}

void *
skynet_lalloc(void *p, size_t osize, size_t nsize) {
	if (p == NULL) {
		return nsize == 0 ? NULL : je_malloc(nsize);
	}
	if (nsize == 0) {
		if (osize == 0) {
			je_free(p);
		} else {
			je_sdallocx(p, osize, 0);
		}
		return NULL;
	}
	return je_realloc(p, nsize);
}

#endif
