/*
 * The pools against jemalloc itself, in one run, alternating; 64-byte blocks
 * unless said otherwise.
 *
 *   make bench-pool
 *
 * "inline" is pool_fast.h, which region uses too; the others are calls. "job" is
 * what the core does today against the pool in its place: see doc/reference/
 * pools.md for what came of that.
 *
 * Prints nanoseconds: per alloc+free pair for fixed and ring, per allocation for
 * region (bursts of 200, then a reset) and global (no free; jemalloc allocates
 * and, outside the measure, frees).
 */
#include "jemalloc_api.h"
#include "nodepool.h"
#include "pool_fast.h"
#include "pool_global.h"
#include "pool_ring.h"
#include "skynet_malloc.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SIZE 64
#define BURST 200
#define BURSTS 2000
#define TURNS 15
#define MANY 100000 /* blocks in a turn of the global pool */

typedef double (*measure)(void *ud);

static double
now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int
compare(const void *a, const void *b) {
	double x = *(const double *)a;
	double y = *(const double *)b;
	return (x > y) - (x < y);
}

static void
report_against(const char *name, const char *other, measure raw, measure pool, void *ud) {
	double r[TURNS];
	double p[TURNS];
	for (int i = 0; i < TURNS; i++) {
		r[i] = raw(ud);
		p[i] = pool(ud);
	}
	qsort(r, TURNS, sizeof(r[0]), compare);
	qsort(p, TURNS, sizeof(p[0]), compare);
	printf("%-28s %-8s %6.2f ns  pool %6.2f ns  %.1f times faster\n", name, other, r[TURNS / 2],
	       p[TURNS / 2], r[TURNS / 2] / p[TURNS / 2]);
}

static void
report(const char *name, measure raw, measure pool, void *ud) {
	report_against(name, "jemalloc", raw, pool, ud);
}

#define KEEP(p) __asm__ volatile("" : "+r"(p))

/* Pairs in bursts: allocate BURST, then free them in that order. */
#define PAIRS(allocate, release)                                                                   \
	do {                                                                                           \
		void *block[BURST];                                                                        \
		for (int b = 0; b < BURSTS; b++) {                                                         \
			for (int i = 0; i < BURST; i++) {                                                      \
				block[i] = (allocate);                                                             \
				KEEP(block[i]);                                                                    \
			}                                                                                      \
			for (int i = 0; i < BURST; i++) {                                                      \
				release;                                                                           \
			}                                                                                      \
		}                                                                                          \
	} while (0)

/* One pair at a time. */
#define SINGLES(allocate, release)                                                                 \
	do {                                                                                           \
		for (int b = 0; b < BURSTS * BURST; b++) {                                                 \
			void *one = (allocate);                                                                \
			KEEP(one);                                                                             \
			release;                                                                               \
		}                                                                                          \
	} while (0)

#define TIMED(statement)                                                                           \
	double start = now_ns();                                                                       \
	statement;                                                                                     \
	return (now_ns() - start) / (BURSTS * BURST)

static double
raw_single(void *ud) {
	(void)ud;
	TIMED(SINGLES(je_malloc(SIZE), je_free(one)));
}

static double
raw_burst(void *ud) {
	(void)ud;
	TIMED(PAIRS(je_malloc(SIZE), je_free(block[i])));
}

static double
fixed_single(void *pool) {
	TIMED(SINGLES(pool_fixed_alloc(pool), pool_fixed_free(pool, one)));
}

static double
fixed_burst(void *pool) {
	TIMED(PAIRS(pool_fixed_alloc(pool), pool_fixed_free(pool, block[i])));
}

static double
inline_single(void *pool) {
	TIMED(SINGLES(pool_fixed_take(pool), pool_fixed_give(pool, one)));
}

static double
inline_burst(void *pool) {
	TIMED(PAIRS(pool_fixed_take(pool), pool_fixed_give(pool, block[i])));
}

static double
ring_burst(void *pool) {
	TIMED(PAIRS(pool_ring_alloc(pool, SIZE), pool_ring_free(pool, block[i])));
}

/* Messages and timers take their nodes like this. */
static double
node_burst(void *ud) {
	(void)ud;
	TIMED(PAIRS(nodepool_take(NODEPOOL_MESSAGE), nodepool_give(NODEPOOL_MESSAGE, block[i])));
}

/* Commands to a socket loop, and what a write leaves over, like this. */
static double
malloc_burst(void *ud) {
	(void)ud;
	TIMED(PAIRS(skynet_malloc(SIZE), skynet_free(block[i])));
}

/* Sizes of 16 to 128, as a request would make. */
static size_t mixed_size[BURST];

static void
make_sizes(void) {
	for (int i = 0; i < BURST; i++) {
		mixed_size[i] = 16 + (size_t)(i * 37) % 113;
	}
}

static double
raw_mixed(void *ud) {
	(void)ud;
	TIMED(PAIRS(je_malloc(mixed_size[i]), je_free(block[i])));
}

static double
region_mixed(void *pool) {
	double start = now_ns();
	for (int b = 0; b < BURSTS; b++) {
		for (int i = 0; i < BURST; i++) {
			void *p = pool_region_take(pool, mixed_size[i]);
			KEEP(p);
		}
		pool_region_reset(pool);
	}
	return (now_ns() - start) / (BURSTS * BURST);
}

static double
region_plain(void *pool) {
	double start = now_ns();
	for (int b = 0; b < BURSTS; b++) {
		for (int i = 0; i < BURST; i++) {
			void *p = pool_region_take(pool, SIZE);
			KEEP(p);
		}
		pool_region_reset(pool);
	}
	return (now_ns() - start) / (BURSTS * BURST);
}

static double
region_without_reset(void *ud) {
	(void)ud;
	struct pool *pool = pool_region_create(&(struct pool_options){0}, 65536);
	double start = now_ns();
	for (int i = 0; i < MANY; i++) {
		void *p = pool_region_take(pool, SIZE);
		KEEP(p);
	}
	double ns = (now_ns() - start) / MANY;
	pool_destroy(pool);
	return ns;
}

static double
global_grow(void *ud) {
	(void)ud;
	struct pool *pool = pool_global_create(&(struct pool_options){0}, 65536);
	double start = now_ns();
	for (int i = 0; i < MANY; i++) {
		void *p = pool_global_alloc(pool, SIZE);
		KEEP(p);
	}
	double ns = (now_ns() - start) / MANY;
	pool_destroy(pool);
	return ns;
}

/* Two threads run the same measure; the mean. */
struct both {
	measure f;
	void *pool;
	double ns;
};

static void *
run(void *arg) {
	struct both *b = arg;
	b->ns = b->f(b->pool);
	return NULL;
}

static double
on_two(measure f, void *pool) {
	struct both b[2] = {{f, pool, 0}, {f, pool, 0}};
	pthread_t id[2];
	for (int i = 0; i < 2; i++) {
		pthread_create(&id[i], NULL, run, &b[i]);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(id[i], NULL);
	}
	return (b[0].ns + b[1].ns) / 2;
}

static double
raw_two(void *ud) {
	return on_two(raw_burst, ud);
}

static double
fixed_two(void *pool) {
	return on_two(fixed_burst, pool);
}

static double
node_two(void *ud) {
	return on_two(node_burst, ud);
}

int
main(void) {
	struct pool_options alone = {.name = "bench", .flags = POOL_GROWABLE};
	struct pool_options threads = {.name = "bench", .flags = POOL_GROWABLE | POOL_THREADS};
	struct pool *fixed = pool_fixed_create(&alone, SIZE, 1024, NULL);
	struct pool *fixed_mt = pool_fixed_create(&threads, SIZE, 1024, NULL);
	struct pool *ring = pool_ring_create(&alone, 65536);
	struct pool *region = pool_region_create(&alone, 32768);

	make_sizes();
	report("fixed, pair", raw_single, fixed_single, fixed);
	report("fixed, bursts of 200", raw_burst, fixed_burst, fixed);
	report("fixed inline, pair", raw_single, inline_single, fixed);
	report("fixed inline, bursts", raw_burst, inline_burst, fixed);
	report("fixed threads, pair", raw_single, fixed_single, fixed_mt);
	report("fixed threads, bursts", raw_burst, fixed_burst, fixed_mt);
	report("fixed threads, 2 threads", raw_two, fixed_two, fixed_mt);
	report("ring, bursts in FIFO order", raw_burst, ring_burst, ring);
	report("region, 64 bytes, bursts", raw_burst, region_plain, region);
	report("region, 16..128, bursts", raw_mixed, region_mixed, region);
	report("global against region", region_without_reset, global_grow, NULL);
	report_against("job: nodes", "nodepool", node_burst, fixed_burst, fixed_mt);
	report_against("job: nodes, 2 threads", "nodepool", node_two, fixed_two, fixed_mt);
	report_against("job: socket commands", "malloc", malloc_burst, ring_burst, ring);
	report_against("job: write nodes", "malloc", malloc_burst, fixed_burst, fixed_mt);
	pool_destroy(fixed);
	pool_destroy(fixed_mt);
	pool_destroy(ring);
	pool_destroy(region);
	return 0;
}
