/*
 * See malloc_pages.h. jemalloc keeps what it has and asks for ever larger pieces,
 * so there are few ranges, kept in rising order in static memory. If they do not
 * fit, what is beyond is not counted.
 */
#ifndef NOUSE_JEMALLOC

#include "malloc_pages.h"

#include "platform_memory.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_RANGES 4096

struct range {
	uintptr_t start;
	uintptr_t end;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct range ranges[MAX_RANGES]; /* under lock, as the count */
static size_t count;

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

/* A range that overlaps none. */
static void
add(struct range r) {
	size_t i = 0;
	while (i < count && ranges[i].end < r.start) {
		i++;
	}
	if (i < count && ranges[i].end == r.start) {
		ranges[i].end = r.end;
		if (i + 1 < count && ranges[i + 1].start == r.end) {
			ranges[i].end = ranges[i + 1].end;
			erase(i + 1);
		}
	} else if (i < count && ranges[i].start == r.end) {
		ranges[i].start = r.start;
	} else {
		insert(i, r);
	}
}

static void
take_away(struct range r) {
	for (size_t i = 0; i < count; i++) {
		struct range *x = &ranges[i];
		if (x->end <= r.start || x->start >= r.end) {
			continue;
		}
		struct range rest = {.start = r.end, .end = x->end};
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

void *
je_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
	void *p = mmap(address, size, protection, flags, fd, offset);
	/* With MAP_FIXED it only changes pages that it has. */
	if (p != MAP_FAILED && (flags & MAP_FIXED) == 0) {
		pthread_mutex_lock(&lock);
		add((struct range){.start = (uintptr_t)p, .end = (uintptr_t)p + size});
		pthread_mutex_unlock(&lock);
	}
	return p;
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

#endif
