/* See malloc_arena.h. Owns the numbers of the arenas, which live as long as the process. */
#include "malloc_arena.h"

#ifdef NOUSE_JEMALLOC

int
malloc_arena_create(int threads) {
	(void)threads;
	return 0;
}

void
malloc_arena_enter(int thread) {
	(void)thread;
}

#else

#include "jemalloc_api.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* What jemalloc makes at most for each processor when it chooses. */
#define ARENAS_PER_CPU 4

/* Read by jemalloc as the process begins. */
const char *je_malloc_conf = "narenas:1";

/* Arenas made one after the other have numbers one after the other. Written before
 * threads start. */
static unsigned first;
static int count;

static int
most_arenas(void) {
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	return (cpus > 0 ? (int)cpus : 1) * ARENAS_PER_CPU - 1;
}

/* Whether the user's options leave the choice to us. */
static bool
is_ours(void) {
	unsigned n = 0;
	size_t size = sizeof(n);
	const char *percpu = "";
	size_t percpu_size = sizeof(percpu);
	je_mallctl("opt.narenas", &n, &size, NULL, 0);
	je_mallctl("opt.percpu_arena", &percpu, &percpu_size, NULL, 0);
	return n == 1 && strcmp(percpu, "disabled") == 0;
}

int
malloc_arena_create(int threads) {
	int most = most_arenas();
	if (!is_ours()) {
		return 0;
	}
	for (int i = 0; i < threads && i < most; i++) {
		unsigned arena;
		size_t size = sizeof(arena);
		int err = je_mallctl("arenas.create", &arena, &size, NULL, 0);
		if (err != 0) {
			return err;
		}
		first = i == 0 ? arena : first;
		count++;
	}
	return 0;
}

void
malloc_arena_enter(int thread) {
	if (count > 0) {
		unsigned arena = first + (unsigned)(thread % count);
		je_mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena));
	}
}

#endif
