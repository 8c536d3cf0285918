/* The ring pool. */
#include "pool_test.h"

#include "pool_ring.h"

#include <pthread.h>
#include <sched.h>

static void
sizes_are_checked(void **state) {
	(void)state;
	assert_null(pool_ring_create(NO_OPTIONS, 16));
	assert_int_equal(errno, EINVAL);
	/* What an item's size can count. */
	size_t too_large = (size_t)64 << 30;
	const size_t sizes[] = {too_large - 31, too_large, too_large + 1024, SIZE_MAX - 15, SIZE_MAX};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		errno = 0;
		assert_null(pool_ring_create(NO_OPTIONS, sizes[i]));
		assert_int_equal(errno, E2BIG);
	}
	struct pool *pool = pool_ring_create(NO_OPTIONS, 1024);
	size_t capacity = pool_ring_capacity(pool);
	assert_null(pool_alloc(pool, 0));
	assert_int_equal(errno, EINVAL);
	assert_null(pool_alloc(pool, capacity + 1));
	assert_int_equal(errno, E2BIG);
	void *p = pool_alloc(pool, capacity);
	assert_aligned(p);
	memset(p, 1, capacity);
	assert_null(pool_alloc(pool, 1));
	assert_int_equal(errno, ENOMEM);
	pool_free(pool, p);
	pool_destroy(pool);
}

static void
capacity_comes_back_from_any_position(void **state) {
	(void)state;
	struct pool *pool = pool_ring_create(NO_OPTIONS, 1024);
	size_t capacity = pool_ring_capacity(pool);
	for (size_t first = 1; first < capacity; first += 7) {
		void *a = pool_alloc(pool, first);
		void *b = pool_alloc(pool, 1);
		pool_free(pool, a);
		if (b) {
			pool_free(pool, b);
		}
		void *all = pool_alloc(pool, capacity);
		assert_non_null(all);
		pool_free(pool, all);
		assert_int_equal(stats_of(pool).blocks, 0);
		assert_int_equal(stats_of(pool).used, 0);
	}
	pool_destroy(pool);
}

static void
a_block_freed_early_waits_for_older_ones(void **state) {
	(void)state;
	struct pool *pool = pool_ring_create(NO_OPTIONS, 512);
	void *a = pool_alloc(pool, 200);
	void *b = pool_alloc(pool, 200);
	pool_free(pool, b);
	assert_null(pool_alloc(pool, 200));
	assert_int_equal(stats_of(pool).blocks, 1);
	pool_free(pool, a);
	assert_non_null(pool_alloc(pool, 200));
	pool_destroy(pool);
}

static void *victim;

static void
free_victim(struct pool *pool) {
	pool_ring_free(pool, victim);
}

static void
odd_frees_are_reported(void **state) {
	(void)state;
	struct pool *pool = pool_ring_create(NO_OPTIONS, 1024);
	void *keep = pool_alloc(pool, 10);
	victim = pool_alloc(pool, 100);
	pool_ring_free(pool, victim);
	assert_complains(pool, free_victim, "double free, ");
	victim = (char *)keep + 1;
	assert_complains(pool, free_victim, "free of a foreign pointer, ");
	victim = &victim;
	assert_complains(pool, free_victim, "free of a foreign pointer, ");
	assert_int_equal(stats_of(pool).blocks, 1);
	pool_ring_free(pool, keep);
	pool_destroy(pool);
}

#ifdef MEMORY_CHECK

static void
overrun(struct pool *pool) {
	char *p = pool_alloc(pool, 16);
	p[16] = 1;
	pool_free(pool, p);
}

static void
overruns_are_found(void **state) {
	(void)state;
	struct pool *pool = pool_ring_create(NO_OPTIONS, 1024);
	assert_complains(pool, overrun, "overrun, ");
	char *p = pool_alloc(pool, 100);
	memset(p, 1, 100);
	pool_free(pool, p);
	assert_true(pool_is_filled(p, POOL_POISON, 100));
	pool_destroy(pool);
}

#endif

/* The oracle keeps all live blocks in their order and knows their content. */
enum { LIVE = 64, STEPS = 1000000 };

struct oracle {
	unsigned char *p[LIVE];
	size_t size[LIVE];
	unsigned char value[LIVE];
	int n;
};

static void
oracle_check(const struct oracle *o, int i) {
	assert_true(pool_is_filled(o->p[i], o->value[i], o->size[i]));
}

static void
oracle_remove(struct oracle *o, struct pool *pool, int i) {
	oracle_check(o, i);
	pool_ring_free(pool, o->p[i]);
	o->n--;
	memmove(&o->p[i], &o->p[i + 1], (size_t)(o->n - i) * sizeof(o->p[0]));
	memmove(&o->size[i], &o->size[i + 1], (size_t)(o->n - i) * sizeof(o->size[0]));
	memmove(&o->value[i], &o->value[i + 1], (size_t)(o->n - i));
}

static void
oracle_add(struct oracle *o, void *p, size_t size, unsigned char value) {
	memset(p, value, size);
	o->p[o->n] = p;
	o->size[o->n] = size;
	o->value[o->n] = value;
	o->n++;
}

static void
random_use_agrees_with_an_oracle(void **state) {
	(void)state;
	struct pool *pool = pool_ring_create(NO_OPTIONS, 4096);
	struct oracle o = {.n = 0};
	uint64_t seed = 20261121;
	int full = 0;
	for (int step = 0; step < STEPS; step++) {
		size_t size = 1 + random_below(&seed, random_below(&seed, 20) == 0 ? 3000 : 100);
		void *p = o.n < LIVE && random_below(&seed, 2) ? pool_ring_alloc(pool, size) : NULL;
		if (p) {
			assert_aligned(p);
			oracle_add(&o, p, size, (unsigned char)step);
		} else if (o.n > 0) {
			full++;
			/* Mostly the oldest, sometimes another. */
			int i = random_below(&seed, 4) ? 0 : (int)random_below(&seed, (uint32_t)o.n);
			oracle_remove(&o, pool, i);
		}
	}
	assert_true(full > STEPS / 10);
	assert_int_equal(stats_of(pool).blocks, o.n);
	while (o.n > 0) {
		oracle_remove(&o, pool, o.n - 1);
	}
	assert_non_null(pool_ring_alloc(pool, pool_ring_capacity(pool)));
	pool_destroy(pool);
}

enum { MESSAGES = 100000, LANE = 64 };
static _Atomic(uint32_t *) lane[LANE];

static void *
consume(void *arg) {
	struct pool *pool = arg;
	for (uint32_t i = 0; i < MESSAGES; i++) {
		uint32_t *p;
		while ((p = atomic_exchange(&lane[i % LANE], NULL)) == NULL) {
			sched_yield();
		}
		assert_int_equal(*p, i);
		pool_ring_free(pool, p);
	}
	return NULL;
}

static void
another_thread_may_free(void **state) {
	(void)state;
	struct pool *pool = pool_ring_create(NO_OPTIONS, 8192);
	pthread_t id;
	uint64_t seed = 9;
	assert_int_equal(pthread_create(&id, NULL, consume, pool), 0);
	for (uint32_t i = 0; i < MESSAGES; i++) {
		size_t size = 4 + random_below(&seed, 500);
		uint32_t *p;
		while ((p = pool_ring_alloc(pool, size)) == NULL) {
			sched_yield();
		}
		memset(p, 0xee, size);
		*p = i;
		uint32_t *none = NULL;
		while (!atomic_compare_exchange_weak(&lane[i % LANE], &none, p)) {
			none = NULL;
			sched_yield();
		}
	}
	pthread_join(id, NULL);
	assert_int_equal(stats_of(pool).blocks, 0);
	assert_int_equal(stats_of(pool).bad_frees, 0);
	assert_non_null(pool_ring_alloc(pool, pool_ring_capacity(pool)));
	pool_destroy(pool);
}

static bool
free_in_child(struct pool *pool) {
	pool_ring_free(pool, victim);
	return true;
}

static void
a_shared_ring_is_seen_after_fork(void **state) {
	(void)state;
	struct pool_options options = {.flags = POOL_SHARED, .shared_bytes = 1 << 16};
	struct pool *pool = pool_ring_create(&options, 4096);
	victim = pool_ring_alloc(pool, 4000);
	assert_null(pool_ring_alloc(pool, 4000));
	assert_in_child(pool, free_in_child);
	assert_non_null(pool_ring_alloc(pool, 4000));
	pool_destroy(pool);
	assert_null(pool_ring_create(&options, 1 << 20));
	assert_int_equal(errno, ENOMEM);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sizes_are_checked),
	    cmocka_unit_test(capacity_comes_back_from_any_position),
	    cmocka_unit_test(a_block_freed_early_waits_for_older_ones),
	    cmocka_unit_test(odd_frees_are_reported),
#ifdef MEMORY_CHECK
	    cmocka_unit_test(overruns_are_found),
#endif
	    cmocka_unit_test(random_use_agrees_with_an_oracle),
	    cmocka_unit_test(another_thread_may_free),
	    cmocka_unit_test(a_shared_ring_is_seen_after_fork),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
