/*
 * The life of a thread's stock (see malloc_front.h): opened by its first small
 * allocation, closed when the thread ends. Not by its first release: the C
 * library lets an ending thread release what belonged to others when nothing
 * would close the stock any more, and the thread may have done nothing before.
 */
#ifndef NOUSE_JEMALLOC

#include "malloc_front.h"

#include "malloc_pages.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define BINS (FRONT_MAX / PAGEMAP_UNIT + 1)

__thread struct front_bin front_bins[BINS] __attribute__((tls_model("initial-exec")));

/* Set once the thread has, or has had, its stock. */
static __thread bool was_opened __attribute__((tls_model("initial-exec")));

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;
static bool is_usable; /* written under once */

/* The open stocks, under the lock; each link is in its thread's storage. */
struct stock {
	struct stock *next, **link;
	const struct front_bin *bins;
};
static __thread struct stock stock __attribute__((tls_model("initial-exec")));
static struct stock *stocks;
static pthread_mutex_t stocks_lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t
fill_of(const struct front_bin *b) {
	return atomic_load_explicit(&b->n, memory_order_relaxed);
}

static void
set_fill(struct front_bin *b, uint32_t n) {
	atomic_store_explicit(&b->n, n, memory_order_relaxed);
}

/* Gives back the oldest n blocks of a bin; the newest are likely in the CPU's
 * cache. */
static void
bin_flush(struct front_bin *b, uint32_t n, size_t usable) {
	for (uint32_t i = 0; i < n; i++) {
		je_sdallocx(b->block[i], usable, 0);
	}
	uint32_t left = fill_of(b) - n;
	set_fill(b, left);
	memmove(b->block, b->block + n, left * sizeof(b->block[0]));
}

void
front_drop(void) {
	for (size_t i = 1; i < BINS; i++) {
		bin_flush(&front_bins[i], fill_of(&front_bins[i]), i * PAGEMAP_UNIT);
	}
}

static void
stock_list(void) {
	pthread_mutex_lock(&stocks_lock);
	stock.bins = front_bins;
	stock.next = stocks;
	stock.link = &stocks;
	if (stocks != NULL) {
		stocks->link = &stock.next;
	}
	stocks = &stock;
	pthread_mutex_unlock(&stocks_lock);
}

static void
stock_unlist(void) {
	pthread_mutex_lock(&stocks_lock);
	*stock.link = stock.next;
	if (stock.next != NULL) {
		stock.next->link = stock.link;
	}
	stock.link = NULL;
	pthread_mutex_unlock(&stocks_lock);
}

size_t
front_bytes(void) {
	size_t bytes = 0;
	pthread_mutex_lock(&stocks_lock);
	for (const struct stock *s = stocks; s != NULL; s = s->next) {
		for (size_t i = 1; i < BINS; i++) {
			bytes += fill_of(&s->bins[i]) * i * PAGEMAP_UNIT;
		}
	}
	pthread_mutex_unlock(&stocks_lock);
	return bytes;
}

static void
front_close(void *arg) {
	(void)arg;
	for (size_t i = 1; i < BINS; i++) {
		front_bins[i].limit = 0;
	}
	front_drop();
	stock_unlist();
}

static void
fork_prepare(void) {
	pthread_mutex_lock(&stocks_lock);
}

static void
fork_parent(void) {
	pthread_mutex_unlock(&stocks_lock);
}

/* A child has only the thread that forked; other stacks may be used again. */
static void
fork_child(void) {
	stocks = NULL;
	if (stock.link != NULL) {
		stock.next = NULL;
		stock.link = &stocks;
		stocks = &stock;
	}
	pthread_mutex_unlock(&stocks_lock);
}

static void
init_once(void) {
	bool is_profiling = false;
	size_t size = sizeof(is_profiling);
	je_mallctl("opt.prof", &is_profiling, &size, NULL, 0);
	pthread_atfork(fork_prepare, fork_parent, fork_child);
	is_usable = !is_profiling && pthread_key_create(&exit_key, front_close) == 0;
}

/* Any call has jemalloc make what it needs for a thread; this one does no more. */
static void
settle(void) {
	bool is_cached;
	size_t size = sizeof(is_cached);
	je_mallctl("thread.tcache.enabled", &is_cached, &size, NULL, 0);
	malloc_pages_settle();
}

/* The calls below may allocate and free; was_opened keeps that from coming
 * here again. */
void
front_open(void) {
	if (was_opened) {
		return;
	}
	was_opened = true;
	settle();
	pthread_once(&once, init_once);
	if (!is_usable || pthread_setspecific(exit_key, front_bins) != 0) {
		return;
	}
	for (size_t i = 1; i < BINS; i++) {
		size_t fit = FRONT_BYTES / (i * PAGEMAP_UNIT);
		front_bins[i].limit = fit > FRONT_DEPTH ? FRONT_DEPTH : (uint32_t)fit;
	}
	stock_list();
}

void
front_push_slow(void *p, size_t usable) {
	if (usable <= FRONT_MAX) {
		struct front_bin *b = &front_bins[usable / PAGEMAP_UNIT];
		/* Half of a full bin: the next releases and allocations both fit. */
		bin_flush(b, fill_of(b) / 2, usable);
		uint32_t n = fill_of(b);
		if (n < b->limit) {
			b->block[n] = p;
			set_fill(b, n + 1);
			return;
		}
	}
	je_sdallocx(p, usable, 0);
}

#endif
