/*
 * From a block's address to its size class, without asking jemalloc: two bytes
 * per page. Private to the memory subsystem.
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
	/* Class / PAGEMAP_UNIT; 0: too large to be noted. */
	_Atomic uint16_t units[1u << (PAGEMAP_LG_LEAF - PAGEMAP_LG_PAGE)];
};

extern _Atomic(struct pagemap_leaf *) pagemap_root[1u << (PAGEMAP_LG_ADDRESS - PAGEMAP_LG_LEAF)];

/* Memory of the map, without its root. Any thread. */
size_t pagemap_bytes(void);

/* The slow part of pagemap_note. */
void pagemap_note_slow(const void *p, size_t usable);

static inline struct pagemap_leaf *
pagemap_leaf_of(const void *p) {
	/* Relaxed: a leaf is all zeros when it appears, which is the kernel's doing,
	 * and the entry of a live block arrives with the block. */
	return atomic_load_explicit(&pagemap_root[(uintptr_t)p >> PAGEMAP_LG_LEAF],
	                            memory_order_relaxed);
}

/* The place of p's page in its leaf. */
static inline size_t
pagemap_page(const void *p) {
	return ((uintptr_t)p >> PAGEMAP_LG_PAGE) & ((1u << (PAGEMAP_LG_LEAF - PAGEMAP_LG_PAGE)) - 1);
}

/* Notes that the new block p is of class usable. */
static inline void
pagemap_note(const void *p, size_t usable) {
	struct pagemap_leaf *leaf = pagemap_leaf_of(p);
	/* Compared first: threads share the map's cache lines. */
	if (leaf == NULL || usable / PAGEMAP_UNIT != atomic_load_explicit(&leaf->units[pagemap_page(p)],
	                                                                  memory_order_relaxed)) {
		pagemap_note_slow(p, usable);
	}
}

/* The class of a live block that was noted, in units; 0 if it is too large for
 * the map. */
static inline size_t
pagemap_units(const void *p) {
	return atomic_load_explicit(&pagemap_leaf_of(p)->units[pagemap_page(p)], memory_order_relaxed);
}

/* The same in bytes, whatever the size. */
static inline size_t
pagemap_class(const void *p) {
	size_t units = pagemap_units(p);
	return units != 0 ? units * PAGEMAP_UNIT : je_sallocx(p, 0);
}

#endif
