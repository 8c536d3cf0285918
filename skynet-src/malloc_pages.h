/*
 * Which address space jemalloc has from the system: its archive is linked so
 * that it maps and unmaps through here. jemalloc counts its own structures and
 * caches as resident before anybody has written to them, so the ledger asks the
 * system about exactly these ranges.
 *
 * Owns the list of ranges. Any thread. Never allocates.
 */
#ifndef MALLOC_PAGES_H
#define MALLOC_PAGES_H

#include <stddef.h>
#include <sys/types.h>

/* As mmap and munmap. For jemalloc only. */
void *
je_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int
je_munmap(void *address, size_t size);

/* Resident bytes in all ranges. Looks at every page: some 10 us per MiB. */
size_t
malloc_pages_resident(void);

#endif
