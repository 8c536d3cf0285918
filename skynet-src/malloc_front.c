/*
 * The life of a thread's stock (see malloc_front.h): opened by its first
 * release, closed when the thread ends.
 */
#ifndef NOUSE_JEMALLOC

#include "malloc_front.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define BINS (FRONT_MAX / PAGEMAP_UNIT + 1)

__thread struct front_bin front_bins[BINS] __attribute__((tls_model("initial-exec")));

/* Set once the thread has, or has had, its stock. */
static __thread bool was_opened __attribute__((tls_model("initial-exec")));

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;
static bool is_usable; /* written under once */

/* Gives back the oldest n blocks of a bin; the newest are likely in the CPU's
 * cache. */
static void
bin_flush(struct front_bin *b, uint32_t n, size_t usable) {
	for (uint32_t i = 0; i < n; i++) {
		je_sdallocx(b->block[i], usable, 0);
	}
	b->n -= n;
	memmove(b->block, b->block + n, b->n * sizeof(b->block[0]));
}

static void
front_close(void *arg) {
	(void)arg;
	for (size_t i = 1; i < BINS; i++) {
		front_bins[i].limit = 0;
		bin_flush(&front_bins[i], front_bins[i].n, i * PAGEMAP_UNIT);
	}
}

static void
init_once(void) {
	bool is_profiling = false;
	size_t size = sizeof(is_profiling);
	je_mallctl("opt.prof", &is_profiling, &size, NULL, 0);
	is_usable = !is_profiling && pthread_key_create(&exit_key, front_close) == 0;
}

/* The calls below may allocate and free; was_opened keeps that from coming
 * here again. */
static void
front_open(void) {
	was_opened = true;
	pthread_once(&once, init_once);
	if (!is_usable || pthread_setspecific(exit_key, front_bins) != 0) {
		return;
	}
	for (size_t i = 1; i < BINS; i++) {
		size_t fit = FRONT_BYTES / (i * PAGEMAP_UNIT);
		front_bins[i].limit = fit > FRONT_DEPTH ? FRONT_DEPTH : (uint32_t)fit;
	}
}

void
front_push_slow(void *p, size_t usable) {
	if (usable <= FRONT_MAX) {
		struct front_bin *b = &front_bins[usable / PAGEMAP_UNIT];
		if (!was_opened) {
			front_open();
		}
		/* Half of a full bin: the next releases and allocations both fit. */
		bin_flush(b, b->n / 2, usable);
		if (b->n < b->limit) {
			b->block[b->n++] = p;
			return;
		}
	}
	je_sdallocx(p, usable, 0);
}

#endif
