/*
 * What accounting costs: malloc+free pairs of one size through the hook,
 * against jemalloc itself, in one run, alternating.
 *
 *   build/bench/alloc [size] [seconds per figure]
 *
 * Prints nanoseconds per pair and the ratio: one thread; two threads that work
 * for different services; two threads that work for one service.
 */
#include "jemalloc_api.h"
#include "malloc_hook.h"
#include "skynet_malloc.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BATCH 64    /* blocks alive at once: allocate them, then free them */
#define ROUNDS 4000 /* batches between two looks at the clock */
#define TURNS 31    /* figures taken alternately; the median counts */

enum kind { RAW, HOOKED };

struct job {
	enum kind kind;
	uint32_t owner;
	size_t size;
	double seconds;
	double ns; /* result: nanoseconds per pair */
};

/* CPU time: neighbours on the machine disturb it less. Neither side sleeps. */
static double
now(void) {
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
batch_raw(size_t size) {
	void *p[BATCH];
	for (int i = 0; i < BATCH; i++) {
		p[i] = je_malloc(size);
		__asm__ volatile("" : "+r"(p[i]));
	}
	for (int i = 0; i < BATCH; i++) {
		je_free(p[i]);
	}
}

static void
batch_hooked(size_t size) {
	void *p[BATCH];
	for (int i = 0; i < BATCH; i++) {
		p[i] = skynet_malloc(size);
		__asm__ volatile("" : "+r"(p[i]));
	}
	for (int i = 0; i < BATCH; i++) {
		skynet_free(p[i]);
	}
}

static void *
run(void *arg) {
	struct job *j = arg;
	malloc_set_owner(j->owner);
	double start = now();
	double end = start;
	long pairs = 0;
	while (end - start < j->seconds) {
		for (int i = 0; i < ROUNDS; i++) {
			if (j->kind == RAW) {
				batch_raw(j->size);
			} else {
				batch_hooked(j->size);
			}
		}
		pairs += (long)ROUNDS * BATCH;
		end = now();
	}
	j->ns = (end - start) * 1e9 / (double)pairs;
	return NULL;
}

static double
measure(enum kind kind, const uint32_t *owner, int threads, const struct job *model) {
	struct job job[2];
	pthread_t id[2];
	double sum = 0;
	for (int i = 0; i < threads; i++) {
		job[i] = *model;
		job[i].kind = kind;
		job[i].owner = owner[i];
		pthread_create(&id[i], NULL, run, &job[i]);
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(id[i], NULL);
		sum += job[i].ns;
	}
	return sum / threads;
}

static int
compare(const void *a, const void *b) {
	double x = *(const double *)a;
	double y = *(const double *)b;
	return (x > y) - (x < y);
}

static void
report(const char *name, const uint32_t *owner, int threads, const struct job *model) {
	double raw[TURNS];
	double hooked[TURNS];
	double ratio[TURNS];
	for (int i = 0; i < TURNS; i++) {
		raw[i] = measure(RAW, owner, threads, model);
		hooked[i] = measure(HOOKED, owner, threads, model);
		ratio[i] = hooked[i] / raw[i];
	}
	qsort(raw, TURNS, sizeof(raw[0]), compare);
	qsort(hooked, TURNS, sizeof(hooked[0]), compare);
	qsort(ratio, TURNS, sizeof(ratio[0]), compare);
	printf("%-24s jemalloc %6.2f ns  skynet %6.2f ns  ratio %.2f (%.2f to %.2f)\n", name,
	       raw[TURNS / 2], hooked[TURNS / 2], ratio[TURNS / 2], ratio[0], ratio[TURNS - 1]);
}

int
main(int argc, char **argv) {
	struct job model = {.size = 64, .seconds = 0.02};
	if (argc > 1) {
		model.size = strtoul(argv[1], NULL, 10);
	}
	if (argc > 2) {
		model.seconds = strtod(argv[2], NULL);
	}
	report("1 thread", (uint32_t[]){1}, 1, &model);
	report("2 threads, 2 services", (uint32_t[]){1, 2}, 2, &model);
	report("2 threads, 1 service", (uint32_t[]){3, 3}, 2, &model);
	return 0;
}
