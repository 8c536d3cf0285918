/* See platform_memory.h: statm for the process, mincore for parts of it. */
#include "platform_memory.h"

#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_STACKS 2048
/* Pages looked at with one call. */
#define CHUNK 4096

static struct {
	atomic_int count;
	struct stack {
		_Atomic(uintptr_t) top; /* 0 until it is complete */
		size_t size;
	} stack[MAX_STACKS];
} S;

static size_t
page_size(void) {
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* Resident pages of up to CHUNK; -1 when some are not mapped. */
static long
resident_pages(uintptr_t start, size_t pages) {
#if defined(__linux__)
	unsigned char present[CHUNK];
	long n = 0;
	if (mincore((void *)start, pages * page_size(), present) != 0) {
		return -1;
	}
	for (size_t i = 0; i < pages; i++) {
		n += present[i] & 1;
	}
	return n;
#else
	(void)start;
	(void)pages;
	return 0;
#endif
}

size_t
platform_resident(const void *start, size_t size) {
	size_t page = page_size();
	uintptr_t at = (uintptr_t)start & ~(page - 1);
	size_t left = ((uintptr_t)start + size - at + page - 1) / page;
	size_t found = 0;
	while (left > 0) {
		size_t n = left < CHUNK ? left : CHUNK;
		long present = resident_pages(at, n);
		found += present > 0 ? (size_t)present : 0;
		at += n * page;
		left -= n;
	}
	return found * page;
}

/* A stack is used from its top down without holes; the main thread's may not
 * even be mapped as far as it may grow. */
static size_t
resident_stack(uintptr_t top, size_t size) {
	size_t page = page_size();
	uintptr_t at = (top + page - 1) & ~(page - 1);
	uintptr_t end = at - size;
	size_t found = 0;
	while (at > end) {
		long present = resident_pages(at - page, 1);
		if (present < 0) {
			break;
		}
		if (present == 0 && found > 0) {
			break;
		}
		found += (size_t)present;
		at -= page;
	}
	return found * page;
}

void
platform_note_stack(void) {
#if defined(__linux__)
	pthread_attr_t attr;
	void *start;
	size_t size;
	if (pthread_getattr_np(pthread_self(), &attr) != 0) {
		return;
	}
	if (pthread_attr_getstack(&attr, &start, &size) == 0) {
		int i = atomic_fetch_add(&S.count, 1);
		if (i < MAX_STACKS) {
			S.stack[i].size = size;
			/* Release: pairs with the acquire in stacks(). */
			atomic_store_explicit(&S.stack[i].top, (uintptr_t)start + size, memory_order_release);
		}
	}
	pthread_attr_destroy(&attr);
#endif
}

static size_t
stacks(void) {
	size_t bytes = 0;
	int n = atomic_load(&S.count);
	for (int i = 0; i < n && i < MAX_STACKS; i++) {
		uintptr_t top = atomic_load_explicit(&S.stack[i].top, memory_order_acquire);
		bytes += top != 0 ? resident_stack(top, S.stack[i].size) : 0;
	}
	return bytes;
}

static int
add_data(struct dl_phdr_info *info, size_t unused, void *ud) {
	size_t *bytes = ud;
	(void)unused;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		if (h->p_type == PT_LOAD && (h->p_flags & PF_W) != 0) {
			*bytes += platform_resident((const void *)(info->dlpi_addr + h->p_vaddr), h->p_memsz);
		}
	}
	return 0;
}

void
platform_memory(struct platform_memory *out) {
	memset(out, 0, sizeof(*out));
	FILE *f = fopen("/proc/self/statm", "re");
	if (f != NULL) {
		size_t rss;
		size_t file;
		if (fscanf(f, "%*u %zu %zu", &rss, &file) == 2) {
			out->rss = rss * page_size();
			out->file = file * page_size();
		}
		fclose(f);
	}
	dl_iterate_phdr(add_data, &out->data);
	out->stacks = stacks();
}
