/*
 * The map's growth (see malloc_pagemap.h). Its leaves come from mmap and are
 * zero at first; a leaf that cannot be had only costs speed.
 */
#ifndef NOUSE_JEMALLOC

#include "malloc_pagemap.h"

#include <sys/mman.h>

_Atomic(struct pagemap_leaf *) pagemap_root[1u << (PAGEMAP_LG_ADDRESS - PAGEMAP_LG_LEAF)];

static void
leaf_add(const void *p) {
	struct pagemap_leaf *leaf = mmap(NULL, sizeof(*leaf), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (leaf == MAP_FAILED) {
		return;
	}
	struct pagemap_leaf *none = NULL;
	/* Relaxed: see pagemap_place. */
	if (!atomic_compare_exchange_strong_explicit(&pagemap_root[(uintptr_t)p >> PAGEMAP_LG_LEAF],
		&none, leaf, memory_order_relaxed, memory_order_relaxed)) {
		munmap(leaf, sizeof(*leaf)); /* another thread was faster */
	}
}

void
pagemap_note_slow(const void *p, size_t usable) {
	if (pagemap_place(p) == NULL) {
		leaf_add(p);
	}
	_Atomic uint16_t *place = pagemap_place(p);
	size_t units = usable / PAGEMAP_UNIT;
	if (place != NULL) {
		atomic_store_explicit(place, units > UINT16_MAX ? 0 : (uint16_t)units,
			memory_order_relaxed);
	}
}

#endif
