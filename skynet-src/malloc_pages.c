/*
 * See malloc_pages.h. jemalloc keeps what it has and asks for ever larger pieces,
 * so there are few ranges, kept in rising order in static memory. If they do not
 * fit, what is beyond is not counted.
 */
#ifndef NOUSE_JEMALLOC

#include "malloc_pages.h"

#include "malloc_report.h"
#include "platform_memory.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_RANGES 4096
/* Ranges up to here are not worth a huge page: small nodes hardly have larger ones. */
#define SMALL_RANGE ((size_t)2 << 20)
/* That part of a range is given back: no more huge pages there. */
#define GIVEN_BACK 8

struct range {
	uintptr_t start;
	uintptr_t end;
	size_t given_back; /* bytes, while is_huge */
	bool is_huge;      /* the system was asked for huge pages */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct range ranges[MAX_RANGES]; /* under lock, as the count */
static size_t count;
static bool wants_huge; /* under lock */

static __thread bool is_settled __attribute__((tls_model("initial-exec")));

void
malloc_pages_settle(void) {
	is_settled = true;
}

static void
fork_prepare(void) {
	pthread_mutex_lock(&lock);
}

static void
fork_done(void) {
	pthread_mutex_unlock(&lock);
}

static __attribute__((constructor)) void
guard_fork(void) {
	pthread_atfork(fork_prepare, fork_done, fork_done);
}

static void
insert(size_t i, struct range r) {
	if (count < MAX_RANGES) {
		memmove(&ranges[i + 1], &ranges[i], (count - i) * sizeof(r));
		ranges[i] = r;
		count++;
	}
}

static void
erase(size_t i) {
	count--;
	memmove(&ranges[i], &ranges[i + 1], (count - i) * sizeof(ranges[0]));
}

/* Make the range at i and the next one a single one, if they are of a kind. */
static void
join(size_t i) {
	struct range *a = &ranges[i];
	const struct range *b = a + 1;
	if (i + 1 < count && a->end == b->start && a->is_huge == b->is_huge) {
		a->end = b->end;
		a->given_back += b->given_back;
		erase(i + 1);
	}
}

/* A range that overlaps none. */
static void
add(struct range r) {
	size_t i = 0;
	while (i < count && ranges[i].end <= r.start) {
		i++;
	}
	size_t before = count;
	insert(i, r);
	if (count > before) {
		join(i);
		if (i > 0) {
			join(i - 1);
		}
	}
}

static void
take_away(struct range r) {
	for (size_t i = 0; i < count; i++) {
		struct range *x = &ranges[i];
		if (x->end <= r.start || x->start >= r.end) {
			continue;
		}
		struct range rest = *x;
		rest.start = r.end;
		if (x->start < r.start) {
			x->end = r.start;
			if (rest.start < rest.end) {
				insert(i + 1, rest);
			}
		} else if (rest.start < rest.end) {
			*x = rest;
		} else {
			erase(i--);
		}
	}
}

/* Whether the system has taken the advice. */
static bool
advise_huge(const struct range *r, bool on) {
	int advice = on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
	return madvise((void *)r->start, r->end - r->start, advice) == 0;
}

void *
je_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
	void *p = mmap(address, size, protection, flags, fd, offset);
	if (p == MAP_FAILED && !is_settled) {
		malloc_report("xmalloc: Out of memory for a thread that begins");
		abort();
	}
	/* With MAP_FIXED it only changes pages that it has. */
	if (p != MAP_FAILED && (flags & MAP_FIXED) == 0) {
		struct range r = {.start = (uintptr_t)p, .end = (uintptr_t)p + size};
		pthread_mutex_lock(&lock);
		r.is_huge = wants_huge && size > SMALL_RANGE && advise_huge(&r, true);
		add(r);
		pthread_mutex_unlock(&lock);
	}
	return p;
}

/* Pages of a range are given back to the system. */
static void
note_given_back(uintptr_t start, size_t size) {
	for (size_t i = 0; i < count; i++) {
		struct range *r = &ranges[i];
		if (!r->is_huge || start < r->start || start >= r->end) {
			continue;
		}
		r->given_back += size;
		if (r->given_back > (r->end - r->start) / GIVEN_BACK) {
			advise_huge(r, false);
			r->is_huge = false;
		}
		return;
	}
}

int
je_madvise(void *address, size_t size, int advice) {
	if (advice == MADV_DONTNEED || advice == MADV_FREE) {
		pthread_mutex_lock(&lock);
		if (wants_huge) {
			note_given_back((uintptr_t)address, size);
		}
		pthread_mutex_unlock(&lock);
	}
	return madvise(address, size, advice);
}

bool
malloc_pages_huge(void) {
	pthread_mutex_lock(&lock);
	wants_huge = true;
	pthread_mutex_unlock(&lock);
	return true;
}

int
je_munmap(void *address, size_t size) {
	pthread_mutex_lock(&lock);
	int result = munmap(address, size);
	if (result == 0) {
		take_away((struct range){.start = (uintptr_t)address, .end = (uintptr_t)address + size});
	}
	pthread_mutex_unlock(&lock);
	return result;
}

size_t
malloc_pages_resident(void) {
	size_t bytes = 0;
	struct range next = {0};
	for (;;) {
		/* One at a time: looking takes long. */
		pthread_mutex_lock(&lock);
		size_t i = 0;
		while (i < count && ranges[i].start < next.end) {
			i++;
		}
		if (i == count) {
			pthread_mutex_unlock(&lock);
			return bytes;
		}
		next = ranges[i];
		pthread_mutex_unlock(&lock);
		bytes += platform_resident((const void *)next.start, next.end - next.start);
	}
}

#else

#include "malloc_pages.h"

bool
malloc_pages_huge(void) {
	return false;
}

#endif
