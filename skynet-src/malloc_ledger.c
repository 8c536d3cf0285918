/*
 * See malloc_ledger.h. jemalloc's figures are those of all arenas merged, at the
 * moment of the snapshot.
 */
#include "malloc_ledger.h"

#include "malloc_account.h"
#include "malloc_check.h"
#include "malloc_front.h"
#include "malloc_hook.h"
#include "malloc_oom.h"
#include "malloc_pagemap.h"
#include "malloc_pages.h"
#include "platform_memory.h"

#include <string.h>

#ifndef NOUSE_JEMALLOC

/* 4096 stands for all arenas (jemalloc's MALLCTL_ARENAS_ALL). */
#define ALL_ARENAS "stats.arenas.4096."

static void
read_jemalloc(struct malloc_ledger *out) {
	/* jemalloc takes its figures anew when the epoch is written. */
	size_t epoch = 1;
	mallctl_int64("epoch", &epoch);
	out->allocated = mallctl_int64("stats.allocated", NULL);
	out->active = mallctl_int64("stats.active", NULL);
	out->retained = mallctl_int64("stats.retained", NULL);
	out->cached = mallctl_int64(ALL_ARENAS "tcache_bytes", NULL);
	out->dirty = mallctl_int64(ALL_ARENAS "pdirty", NULL) * mallctl_int64("arenas.page", NULL);
	size_t resident = mallctl_int64("stats.resident", NULL);
	size_t pages = out->active + out->dirty;
	out->metadata = resident > pages ? resident - pages : 0;
	size_t there = malloc_pages_resident();
	out->untouched = resident > there ? resident - there : 0;
	out->filled_up = there > resident ? there - resident : 0;
}

static void
read_allocator(struct malloc_ledger *out) {
	read_jemalloc(out);
	out->accounted = malloc_used_memory();
	out->stocks = front_bytes();
	out->tables = malloc_account_overhead() + pagemap_bytes() + malloc_check_bytes();
	out->reserve = malloc_reserve();
}

#else

static void
read_allocator(struct malloc_ledger *out) {
	(void)out;
}

#endif

void
malloc_ledger(struct malloc_ledger *out) {
	struct platform_memory p;
	memset(out, 0, sizeof(*out));
	read_allocator(out);
	platform_memory(&p);
	out->file = p.file;
	out->data = p.data;
	out->stacks = p.stacks;
	out->rss = p.rss;
}
