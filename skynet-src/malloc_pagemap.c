/*
 * The map's growth (see malloc_pagemap.h). Its leaves come from mmap and are
 * zero at first.
 */
#ifndef NOUSE_JEMALLOC

#include "malloc_pagemap.h"

#include "malloc_report.h"

#include <stdlib.h>
#include <sys/mman.h>

_Atomic(struct pagemap_leaf *) pagemap_root[1u << (PAGEMAP_LG_ADDRESS - PAGEMAP_LG_LEAF)];

static void
leaf_add(const void *p) {
	struct pagemap_leaf *leaf = mmap(NULL, sizeof(*leaf), PROT_READ | PROT_WRITE,
	                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (leaf == MAP_FAILED) {
		malloc_report("xmalloc: Out of memory for the page map");
		abort();
	}
	struct pagemap_leaf *none = NULL;
	/* Relaxed: see pagemap_leaf_of. */
	if (!atomic_compare_exchange_strong_explicit(&pagemap_root[(uintptr_t)p >> PAGEMAP_LG_LEAF],
	                                             &none, leaf, memory_order_relaxed,
	                                             memory_order_relaxed)) {
		munmap(leaf, sizeof(*leaf)); /* another thread was faster */
	}
}

void
pagemap_note_slow(const void *p, size_t usable) {
	if (pagemap_leaf_of(p) == NULL) {
		leaf_add(p);
	}
	size_t units = usable / PAGEMAP_UNIT;
	atomic_store_explicit(&pagemap_leaf_of(p)->units[pagemap_page(p)],
	                      units > UINT16_MAX ? 0 : (uint16_t)units, memory_order_relaxed);
}

#endif
