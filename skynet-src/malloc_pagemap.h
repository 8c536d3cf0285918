/*
 * From a block's address to its size class, without asking jemalloc: a byte
 * pair per page. Private to the memory subsystem.
 *
 * jemalloc never mixes size classes within a page, so a page's class is that of
 * any live block that starts in it; whoever allocates a block notes it. Asking
 * je_sallocx at each release would cost half of a whole allocation.
 *
 * Owns: the map's leaves (mmap, never given back). Any thread; the value read
 * for a live block was written before the block was handed out, so it arrives
 * with the block.
 */
#ifndef MALLOC_PAGEMAP_H
#define MALLOC_PAGEMAP_H

#include "jemalloc_api.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define PAGEMAP_UNIT 16       /* every class that a cookie fits in is a multiple */
#define PAGEMAP_LG_PAGE 12    /* no system has smaller pages */
#define PAGEMAP_LG_LEAF 30    /* a leaf covers 1 GiB in 512 KiB, filled on demand */
#define PAGEMAP_LG_ADDRESS 48 /* what a process gets unless it asks for more */

struct pagemap_leaf {
	/* Class / PAGEMAP_UNIT; 0: unknown, or too large to be noted. */
	_Atomic uint16_t units[1u << (PAGEMAP_LG_LEAF - PAGEMAP_LG_PAGE)];
};

extern _Atomic(struct pagemap_leaf *) pagemap_root[1u << (PAGEMAP_LG_ADDRESS - PAGEMAP_LG_LEAF)];

/* Notes the class of a block at p; the slow part of pagemap_note. */
void pagemap_note_slow(const void *p, size_t usable);

/* The place of p's page, or NULL when nothing near it was noted so far. */
static inline _Atomic uint16_t *
pagemap_place(const void *p) {
	uintptr_t a = (uintptr_t)p;
	/* Acquire would order the leaf's zeros before us; they are the kernel's
	 * doing, and a block's own entry arrives with the block: relaxed. */
	struct pagemap_leaf *leaf =
		atomic_load_explicit(&pagemap_root[a >> PAGEMAP_LG_LEAF], memory_order_relaxed);
	size_t page = (a >> PAGEMAP_LG_PAGE) & ((1u << (PAGEMAP_LG_LEAF - PAGEMAP_LG_PAGE)) - 1);
	return leaf == NULL ? NULL : &leaf->units[page];
}

/* Notes that the new block p is of class usable. */
static inline void
pagemap_note(const void *p, size_t usable) {
	_Atomic uint16_t *place = pagemap_place(p);
	/* Compared first: threads share the map's cache lines. */
	if (__builtin_expect(place == NULL || usable / PAGEMAP_UNIT !=
		atomic_load_explicit(place, memory_order_relaxed), 0)) {
		pagemap_note_slow(p, usable);
	}
}

/* The class of a live block that was noted. */
static inline size_t
pagemap_class(const void *p) {
	_Atomic uint16_t *place = pagemap_place(p);
	size_t units = place == NULL ? 0 : atomic_load_explicit(place, memory_order_relaxed);
	return __builtin_expect(units != 0, 1) ? units * PAGEMAP_UNIT : je_sallocx(p, 0);
}

#endif
