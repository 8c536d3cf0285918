/*
 * Where the memory of the process is, as far as the allocator and the system can
 * tell; skynet_ledger.h adds who holds it. Owns nothing. Any thread; a snapshot
 * makes system calls and looks at every page that jemalloc has: 10 us per MiB.
 */
#ifndef MALLOC_LEDGER_H
#define MALLOC_LEDGER_H

#include <stddef.h>

/*
 * Bytes. Of resident memory, in the order of nesting:
 *
 *   rss = file + what our threads' stacks and static data take + tables
 *         + reserve + jemalloc's resident part (and what libraries mmap)
 *   jemalloc's resident part = active + dirty + metadata - untouched + filled_up
 *   active = allocated + fragments
 *   allocated = accounted + stocks + cached + Lua heaps + rounding to classes
 */
struct malloc_ledger {
	size_t accounted; /* blocks of the malloc family, with their cookies */
	size_t stocks;    /* free blocks in the threads' stocks (malloc_front.h) */
	size_t cached;    /* free blocks in jemalloc's thread caches */
	size_t allocated; /* what jemalloc handed out; the three above are in it */
	size_t active;    /* pages with something allocated in them */
	size_t dirty;     /* free pages not yet given back */
	size_t metadata;  /* jemalloc's own */
	size_t untouched; /* of the last three: pages that were never written to */
	size_t filled_up; /* free pages that the system made part of a huge page */
	size_t retained;  /* address space without memory; in no sum */
	size_t tables;    /* the accounts, the page map, the checked build's register */
	size_t reserve;   /* kept for the report when memory ends */
	size_t file;      /* pages of the program and its libraries */
	size_t data;      /* their variables */
	size_t stacks;    /* of the node's threads */
	size_t rss;       /* what the system says in all */
};

/* Without jemalloc only the last four are not 0. */
void malloc_ledger(struct malloc_ledger *out);

#endif
