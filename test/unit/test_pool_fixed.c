/* The pool of equal slices. */
#include "pool_test.h"

#include "pool_fixed.h"

#include <pthread.h>
#include <sched.h>

enum { SLICES = 100 };

static void
all_slices_are_distinct_then_it_is_full(void **state) {
	(void)state;
	struct pool *pool = pool_fixed_create(NO_OPTIONS, 40, SLICES, NULL);
	void *p[SLICES];
	assert_int_equal(pool_fixed_slice_num(pool), SLICES);
	assert_int_equal(pool_fixed_slice_size(pool), 40);
	for (int i = 0; i < SLICES; i++) {
		p[i] = pool_fixed_alloc(pool);
		assert_aligned(p[i]);
		memset(p[i], i, 40);
	}
	assert_int_equal(pool_fixed_slice_use(pool), SLICES);
	errno = 0;
	assert_null(pool_fixed_alloc(pool));
	assert_int_equal(errno, ENOMEM);
	for (int i = 0; i < SLICES; i++) {
		assert_true(pool_is_filled(p[i], (unsigned char)i, 40));
		pool_fixed_free(pool, p[i]);
	}
	assert_int_equal(pool_fixed_slice_use(pool), 0);
	assert_int_equal(stats_of(pool).peak, SLICES * 40);
	pool_destroy(pool);
}

static void
the_last_slice_freed_comes_back_first(void **state) {
	(void)state;
	for (unsigned flags = 0; flags <= POOL_THREADS; flags += POOL_THREADS) {
		struct pool *pool =
		    pool_fixed_create(&(struct pool_options){.flags = flags}, 64, 1000, NULL);
		void *a = pool_fixed_alloc(pool);
		void *b = pool_fixed_alloc(pool);
		pool_fixed_free(pool, a);
		pool_fixed_free(pool, b);
		assert_ptr_equal(pool_fixed_alloc(pool), b);
		assert_ptr_equal(pool_fixed_alloc(pool), a);
		pool_fixed_free(pool, a);
		pool_fixed_free(pool, b);
		pool_destroy(pool);
	}
}

static void
creation_and_sizes_are_checked(void **state) {
	(void)state;
	struct pool_options shared = {.flags = POOL_SHARED | POOL_GROWABLE};
	assert_null(pool_fixed_create(NO_OPTIONS, 0, 10, NULL));
	assert_int_equal(errno, EINVAL);
	assert_null(pool_fixed_create(NO_OPTIONS, 10, 0, NULL));
	assert_null(pool_fixed_create(NO_OPTIONS, SIZE_MAX, 2, NULL));
	assert_null(pool_fixed_create(NO_OPTIONS, 1 << 20, SIZE_MAX / 4, NULL));
	assert_null(pool_fixed_create(&shared, 10, 10, NULL));
	assert_int_equal(errno, EINVAL);
	shared.flags = POOL_SHARED;
	errno = 0;
	assert_null(pool_fixed_create(&shared, 10, 10, &shared));
	assert_int_equal(errno, EINVAL);
	struct pool *pool = pool_fixed_create(NO_OPTIONS, 32, 4, NULL);
	assert_null(pool_alloc(pool, 0));
	assert_int_equal(errno, EINVAL);
	assert_null(pool_alloc(pool, 33));
	assert_int_equal(errno, E2BIG);
	void *p = pool_alloc(pool, 32);
	assert_non_null(p);
	pool_free(pool, p);
	pool_destroy(pool);
}

static void
a_callers_block_is_used_and_left(void **state) {
	(void)state;
	size_t size = pool_fixed_footprint(24, 10);
	char *memory = aligned_alloc(16, pool_round(size, 16));
	struct pool *pool = pool_fixed_create(NO_OPTIONS, 24, 10, memory);
	for (int i = 0; i < 10; i++) {
		char *p = pool_fixed_alloc(pool);
		assert_true(p >= memory && p + 24 <= memory + size);
	}
	assert_null(pool_fixed_alloc(pool));
	pool_destroy(pool);
	free(memory);
}

static void
a_growable_pool_grows(void **state) {
	(void)state;
	struct pool_options options = {.flags = POOL_GROWABLE};
	struct pool *pool = pool_fixed_create(&options, 100, 8, NULL);
	void *p[1000];
	for (int i = 0; i < 1000; i++) {
		p[i] = pool_fixed_alloc(pool);
		memset(p[i], 1, 100);
	}
	assert_int_equal(pool_fixed_slice_num(pool), 1000);
	for (int i = 0; i < 1000; i++) {
		pool_fixed_free(pool, p[i]);
	}
	pool_destroy(pool);
}

static void *victim;

static void
free_victim(struct pool *pool) {
	pool_fixed_free(pool, victim);
}

static void
give_victim(struct pool *pool) {
	pool_fixed_give(pool, victim);
}

static void
odd_frees_are_reported(void **state) {
	(void)state;
	static _Alignas(16) char elsewhere[64];
	for (unsigned flags = 0; flags <= POOL_THREADS; flags += POOL_THREADS) {
		struct pool *pool =
		    pool_fixed_create(&(struct pool_options){.flags = flags}, 64, 1000, NULL);
		victim = pool_fixed_alloc(pool);
		pool_fixed_free(pool, victim);
		assert_complains(pool, free_victim, "double free, ");
		assert_complains(pool, give_victim, "double free, ");
		victim = elsewhere + 32;
		assert_complains(pool, free_victim, "free of a foreign pointer, ");
		assert_complains(pool, give_victim, "free of a foreign pointer, ");
		victim = elsewhere + 33;
		assert_complains(pool, free_victim, "free of a foreign pointer, ");
		assert_complains(pool, give_victim, "free of a foreign pointer, ");
		assert_int_equal(pool_fixed_slice_use(pool), 0);
		pool_destroy(pool);
	}
}

#ifdef MEMORY_CHECK

static void
overrun(struct pool *pool) {
	char *p = pool_fixed_alloc(pool);
	p[20] = 1;
	pool_fixed_free(pool, p);
}

static void
write_late(struct pool *pool) {
	char *p = pool_fixed_alloc(pool);
	pool_fixed_free(pool, p);
	p[3] = 1;
	pool_fixed_alloc(pool);
}

static void
overruns_and_late_writes_are_found(void **state) {
	(void)state;
	struct pool *pool = pool_fixed_create(NO_OPTIONS, 20, 10, NULL);
	assert_complains(pool, overrun, "overrun, ");
	assert_complains(pool, write_late, "write to a freed slice, ");
	char *p = pool_fixed_alloc(pool);
	memset(p, 1, 20);
	pool_fixed_free(pool, p);
	assert_true(pool_is_filled(p, POOL_POISON, 20));
	pool_destroy(pool);
}

#endif

/* Against an oracle: which slices are out, and what is in them. Half of the calls
 * are the inlined ones. */
static void
random_use_agrees_with_an_oracle(void **state) {
	(void)state;
	enum { LIVE = 300 };
	struct pool_options options = {.flags = POOL_GROWABLE};
	struct pool *pool = pool_fixed_create(&options, 48, 16, NULL);
	unsigned char *live[LIVE] = {NULL};
	unsigned char value[LIVE] = {0};
	size_t n = 0;
	uint64_t seed = 5;
	for (int step = 0; step < 300000; step++) {
		uint32_t i = random_below(&seed, LIVE);
		if (live[i] == NULL) {
			live[i] = step & 1 ? pool_fixed_take(pool) : pool_fixed_alloc(pool);
			value[i] = (unsigned char)step;
			memset(live[i], value[i], 48);
			n++;
		} else {
			assert_true(pool_is_filled(live[i], value[i], 48));
			(step & 2 ? pool_fixed_give : pool_fixed_free)(pool, live[i]);
			live[i] = NULL;
			n--;
		}
		if (step % 1000 == 0) {
			assert_int_equal(pool_fixed_slice_use(pool), n);
		}
	}
	pool_destroy(pool);
}

static void *
take_all(void *arg) {
	size_t n = 0;
	while (pool_fixed_alloc(arg)) {
		n++;
	}
	return (void *)n;
}

/* What one thread gave back another can take, but for 1/32 of the slices. */
static void
stocks_of_a_pool_that_cannot_grow_are_small(void **state) {
	(void)state;
	enum { N = 640 };
	struct pool *pool =
	    pool_fixed_create(&(struct pool_options){.flags = POOL_THREADS}, 16, N, NULL);
	void *p[N];
	pthread_t id;
	void *taken;
	for (int i = 0; i < N; i++) {
		p[i] = pool_fixed_alloc(pool);
		assert_non_null(p[i]);
	}
	for (int i = 0; i < N; i++) {
		pool_fixed_free(pool, p[i]);
	}
	assert_int_equal(pthread_create(&id, NULL, take_all, pool), 0);
	pthread_join(id, &taken);
	assert_in_range((size_t)taken, N - N / 32, N);
	assert_int_equal(pool_fixed_slice_use(pool), (size_t)taken);
	pool_destroy(pool);
}

/* Producers take slices, consumers give them back. */
enum { PAIRS = 4, ROUNDS = 30000, LANE = 64 };

struct lane {
	struct pool *pool;
	_Atomic(uint32_t *) slot[LANE];
	pthread_t producer;
	pthread_t consumer;
};

static void *
produce(void *arg) {
	struct lane *l = arg;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t *p = pool_fixed_take(l->pool);
		*p = i;
		uint32_t *none = NULL;
		while (!atomic_compare_exchange_weak(&l->slot[i % LANE], &none, p)) {
			none = NULL;
			sched_yield();
		}
	}
	return NULL;
}

static void *
consume(void *arg) {
	struct lane *l = arg;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t *p;
		while ((p = atomic_exchange(&l->slot[i % LANE], NULL)) == NULL) {
			sched_yield();
		}
		assert_int_equal(*p, i);
		pool_fixed_give(l->pool, p);
	}
	return NULL;
}

static void
slices_travel_between_threads(void **state) {
	(void)state;
	struct pool_options options = {.flags = POOL_THREADS | POOL_GROWABLE};
	struct pool *pool = pool_fixed_create(&options, 16, 64, NULL);
	struct lane *lane = calloc(PAIRS, sizeof(*lane));
	for (int i = 0; i < PAIRS; i++) {
		lane[i].pool = pool;
		assert_int_equal(pthread_create(&lane[i].producer, NULL, produce, &lane[i]), 0);
		assert_int_equal(pthread_create(&lane[i].consumer, NULL, consume, &lane[i]), 0);
	}
	for (int i = 0; i < PAIRS; i++) {
		pthread_join(lane[i].producer, NULL);
		pthread_join(lane[i].consumer, NULL);
	}
	assert_int_equal(pool_fixed_slice_use(pool), 0);
	assert_int_equal(stats_of(pool).bad_frees, 0);
	/* Stocks and what is on the way bound what was ever made. */
	assert_true(pool_fixed_slice_num(pool) < 4000);
	free(lane);
	pool_destroy(pool);
}

static bool
free_in_child(struct pool *pool) {
	pool_fixed_free(pool, victim);
	return pool_fixed_alloc(pool) == victim;
}

static void
a_shared_pool_is_seen_after_fork(void **state) {
	(void)state;
	struct pool_options options = {.flags = POOL_SHARED, .shared_bytes = 1 << 16};
	struct pool *pool = pool_fixed_create(&options, 32, 100, NULL);
	victim = pool_fixed_alloc(pool);
	assert_in_child(pool, free_in_child);
	assert_int_equal(pool_fixed_slice_use(pool), 1);
	pool_fixed_free(pool, victim);
	assert_int_equal(pool_fixed_slice_use(pool), 0);
	pool_destroy(pool);
	options.shared_bytes = 4096;
	assert_null(pool_fixed_create(&options, 32, 1000, NULL));
	assert_int_equal(errno, ENOMEM);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_slices_are_distinct_then_it_is_full),
	    cmocka_unit_test(the_last_slice_freed_comes_back_first),
	    cmocka_unit_test(creation_and_sizes_are_checked),
	    cmocka_unit_test(a_callers_block_is_used_and_left),
	    cmocka_unit_test(a_growable_pool_grows),
	    cmocka_unit_test(odd_frees_are_reported),
#ifdef MEMORY_CHECK
	    cmocka_unit_test(overruns_and_late_writes_are_found),
#endif
	    cmocka_unit_test(random_use_agrees_with_an_oracle),
	    cmocka_unit_test(stocks_of_a_pool_that_cannot_grow_are_small),
	    cmocka_unit_test(slices_travel_between_threads),
	    cmocka_unit_test(a_shared_pool_is_seen_after_fork),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
