/*
 * A small per-thread stock of free blocks in front of jemalloc. Private to
 * malloc_hook.c.
 *
 * DESIGN. The hook knows a small block's class from the page map, so pushing it
 * on a stack of its own costs less than handing it to jemalloc, whose thread
 * cache then hardly runs. That pays for the accounting: measured with
 * bench/alloc.c, 64 bytes, malloc+free is 1.36 times raw jemalloc with
 * the stock, 2.6 times without it.
 *
 * Blocks enter only by being freed, never ahead of need. A bin holds no more
 * than FRONT_BYTES; the whole stock of a thread stays under 200 KB. When the
 * thread ends its stock goes back to jemalloc, and there is none from then on.
 * jemalloc counts stocked blocks as allocated. With heap profiling the stock is
 * off, so that jemalloc sees every allocation.
 *
 * Only the calling thread's stock is ever touched: no locks. Other threads read
 * the fill of its bins, for the ledger.
 */
#ifndef MALLOC_FRONT_H
#define MALLOC_FRONT_H

#include "malloc_pagemap.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRONT_MAX 512   /* larger classes go straight to jemalloc */
#define FRONT_DEPTH 127 /* blocks in a bin: makes it 1 KiB, so a shift finds it */
#define FRONT_BYTES 16384

struct front_bin {
	_Atomic uint32_t n; /* written by its thread only; relaxed, also below */
	uint32_t limit;     /* 0: no stock (yet, any more, at all) */
	void *block[FRONT_DEPTH];
};

/* By class in units (malloc_pagemap.h). Bin 0 stays empty: no class. */
extern __thread struct front_bin front_bins[FRONT_MAX / PAGEMAP_UNIT + 1]
    __attribute__((tls_model("initial-exec")));

/* A stocked block of a class, or NULL. */
static inline void *
front_pop(size_t units) {
	struct front_bin *b = &front_bins[units];
	uint32_t n = atomic_load_explicit(&b->n, memory_order_relaxed);
	if (__builtin_expect(n == 0, 0)) {
		return NULL;
	}
	atomic_store_explicit(&b->n, n - 1, memory_order_relaxed);
	return b->block[n - 1];
}

/* Takes a block that nobody uses any more, and returns true; or there is no room
 * for it, or no class (units 0): then it is front_push_slow's. */
static inline bool
front_push(void *p, size_t units) {
	if (__builtin_expect(units > FRONT_MAX / PAGEMAP_UNIT, 0)) {
		return false;
	}
	struct front_bin *b = &front_bins[units];
	uint32_t n = atomic_load_explicit(&b->n, memory_order_relaxed);
	if (__builtin_expect(n >= b->limit, 0)) {
		return false;
	}
	b->block[n] = p;
	atomic_store_explicit(&b->n, n + 1, memory_order_relaxed);
	return true;
}

/* The calling thread's stock, from its first small allocation on. */
void front_open(void);

/* Takes p in any case; usable is its class in bytes. */
void front_push_slow(void *p, size_t usable);

/* Gives the calling thread's stock back to jemalloc. */
void front_drop(void);

/* Bytes in the stocks of all threads; any thread. */
size_t front_bytes(void);

#endif
