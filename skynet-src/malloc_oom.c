/*
 * Out of memory (see malloc_oom.h). Owns the reserve: pages that were touched
 * beforehand, so that unmapping them gives the system something to hand out
 * again to whatever the report and the hook need.
 */
#include "malloc_oom.h"

#include "malloc_hook.h"
#include "malloc_report.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t reserve_lock = PTHREAD_MUTEX_INITIALIZER;
static void *reserve; /* under reserve_lock, as its size */
static size_t reserve_size;

static _Atomic(malloc_oom_hook) oom_hook;
static atomic_flag someone_is_dying = ATOMIC_FLAG_INIT;
static __thread bool i_am_dying;
static __thread size_t dying_size; /* what failed, until it is reported */

static void
reserve_release(void) {
	pthread_mutex_lock(&reserve_lock);
	if (reserve != NULL) {
		munmap(reserve, reserve_size);
		reserve = NULL;
		reserve_size = 0;
	}
	pthread_mutex_unlock(&reserve_lock);
}

int
malloc_set_reserve(size_t bytes) {
	reserve_release();
	if (bytes == 0) {
		return 0;
	}
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		return -errno;
	}
	/* Not zero: the kernel must really give the pages. */
	memset(p, 0xff, bytes);
	pthread_mutex_lock(&reserve_lock);
	reserve = p;
	reserve_size = bytes;
	pthread_mutex_unlock(&reserve_lock);
	return 0;
}

size_t
malloc_reserve(void) {
	pthread_mutex_lock(&reserve_lock);
	size_t bytes = reserve_size;
	pthread_mutex_unlock(&reserve_lock);
	return bytes;
}

void
malloc_set_oom_hook(malloc_oom_hook f) {
	/* Release: pairs with the acquire in malloc_oom. */
	atomic_store_explicit(&oom_hook, f, memory_order_release);
}

/* The second failure on the dying thread: say what was not said, and end. */
static void
die_again(size_t size) {
	if (dying_size != 0) {
		malloc_report("xmalloc: Out of memory trying to allocate %zu bytes for :%08x", dying_size,
		              malloc_charged());
	} else {
		malloc_report("xmalloc: Out of memory in the hook, trying to allocate %zu bytes", size);
	}
	abort();
}

void
malloc_oom(size_t size, int tries) {
	if (i_am_dying) {
		die_again(size);
	}
	if (atomic_flag_test_and_set(&someone_is_dying)) {
		if (tries == 0) {
			return;
		}
		for (;;) {
			pause();
		}
	}
	i_am_dying = true;
	dying_size = size;
	reserve_release();
	uint32_t owner = malloc_charged();
	/* The namer should not allocate, but who knows. */
	const char *name = malloc_report_name(owner);
	malloc_report("xmalloc: Out of memory trying to allocate %zu bytes for :%08x %s", size, owner,
	              name);
	dying_size = 0;
	malloc_oom_hook f = atomic_load_explicit(&oom_hook, memory_order_acquire);
	if (f != NULL) {
		f(size, owner);
	}
	abort();
}
