/*
 * Which address space jemalloc has from the system: its archive is linked so
 * that it maps, unmaps and gives pages back through here. jemalloc counts its own
 * structures and caches as resident before anybody has written to them, so the
 * ledger asks the system about exactly these ranges.
 *
 * Owns the list of ranges. Any thread. Never allocates.
 */
#ifndef MALLOC_PAGES_H
#define MALLOC_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Ask the system for huge pages (2 MiB) where much memory is needed: in ranges that
 * are mapped from now on and are longer than an arena's first one. A range of which
 * an eighth was given back does without from then on, or else the system would fill
 * it up again on its own. False: this build cannot.
 */
bool malloc_pages_huge(void);

/*
 * jemalloc has what it needs for the calling thread: from now on a mapping that fails
 * is an allocation that fails. Before, while it makes a thread's arena and cache, or
 * those of the process, jemalloc would crash: the process ends with a report.
 */
void malloc_pages_settle(void);

/* As mmap, munmap and madvise. For jemalloc only. */
void *je_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int je_munmap(void *address, size_t size);
int je_madvise(void *address, size_t size, int advice);

/* Resident bytes in all ranges. Looks at every page: some 10 us per MiB. */
size_t malloc_pages_resident(void);

#endif
