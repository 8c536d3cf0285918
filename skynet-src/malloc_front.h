/*
 * A small per-thread stock of free blocks in front of jemalloc. Private to
 * malloc_hook.c.
 *
 * DESIGN. The hook knows a small block's class from the page map, so pushing it
 * on a stack of its own costs less than handing it to jemalloc, whose thread
 * cache then hardly runs. That pays for the accounting: measured with
 * bench/alloc.c, 64 bytes, malloc+free is 1.2 times raw jemalloc with the
 * stock, 2.6 times without it.
 *
 * Blocks enter only by being freed, never ahead of need. A bin holds no more
 * than FRONT_BYTES; the whole stock of a thread stays under 110 KB. When the
 * thread ends its stock goes back to jemalloc, and there is none from then on.
 * jemalloc counts stocked blocks as allocated. With heap profiling the stock is
 * off, so that jemalloc sees every allocation.
 *
 * Only the calling thread's stock is ever touched: no locks.
 */
#ifndef MALLOC_FRONT_H
#define MALLOC_FRONT_H

#include "malloc_pagemap.h"

#include <stddef.h>
#include <stdint.h>

#define FRONT_MAX 512   /* larger classes go straight to jemalloc */
#define FRONT_DEPTH 64  /* blocks in a bin */
#define FRONT_BYTES 8192

struct front_bin {
	uint32_t n;
	uint32_t limit; /* 0: no stock (yet, any more, at all) */
	void *block[FRONT_DEPTH];
};

/* By class / PAGEMAP_UNIT. */
extern __thread struct front_bin front_bins[FRONT_MAX / PAGEMAP_UNIT + 1]
	__attribute__((tls_model("initial-exec")));

/* The bin was full or there is no stock: takes p all the same. */
void front_push_slow(void *p, size_t usable);

/* A stocked block of class usable (<= FRONT_MAX), or NULL. */
static inline void *
front_pop(size_t usable) {
	struct front_bin *b = &front_bins[usable / PAGEMAP_UNIT];
	return __builtin_expect(b->n > 0, 1) ? b->block[--b->n] : NULL;
}

/* Takes a block of class usable that nobody uses any more. */
static inline void
front_push(void *p, size_t usable) {
	if (usable <= FRONT_MAX) {
		struct front_bin *b = &front_bins[usable / PAGEMAP_UNIT];
		if (__builtin_expect(b->n < b->limit, 1)) {
			b->block[b->n++] = p;
			return;
		}
	}
	front_push_slow(p, usable);
}

#endif
