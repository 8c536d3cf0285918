/*
 * The map's growth (see malloc_pagemap.h). Its leaves come from mmap and are
 * zero at first.
 */
#ifndef NOUSE_JEMALLOC

#include "malloc_pagemap.h"

#include "malloc_report.h"
#include "platform_memory.h"

#include <stdlib.h>
#include <sys/mman.h>

_Atomic(struct pagemap_leaf *) pagemap_root[1u << (PAGEMAP_LG_ADDRESS - PAGEMAP_LG_LEAF)];

/*
 * The leaves once more, for pagemap_bytes: to look for them in the root would
 * touch all of it. Those beyond MAX_LISTED (4 TiB of heap) are not counted.
 */
#define MAX_LISTED 4096
static _Atomic(struct pagemap_leaf *) listed[MAX_LISTED];
static _Atomic uint32_t listed_count;

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
		return;
	}
	uint32_t i = atomic_fetch_add_explicit(&listed_count, 1, memory_order_relaxed);
	if (i < MAX_LISTED) {
		atomic_store_explicit(&listed[i], leaf, memory_order_relaxed);
	}
}

size_t
pagemap_bytes(void) {
	size_t bytes = 0;
	uint32_t n = atomic_load_explicit(&listed_count, memory_order_relaxed);
	for (uint32_t i = 0; i < n && i < MAX_LISTED; i++) {
		struct pagemap_leaf *leaf = atomic_load_explicit(&listed[i], memory_order_relaxed);
		/* NULL: being added right now. */
		bytes += leaf == NULL ? 0 : platform_resident(leaf, sizeof(*leaf));
	}
	return bytes;
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
