/* The grow-only pool. */
#include "pool_test.h"

#include "pool_global.h"

#include <pthread.h>

static void
page_sizes_have_limits(void **state) {
	(void)state;
	errno = 0;
	assert_null(pool_global_create(NO_OPTIONS, POOL_GLOBAL_MIN_PAGE - 1));
	assert_int_equal(errno, EINVAL);
	assert_null(pool_global_create(NO_OPTIONS, (size_t)POOL_GLOBAL_MAX_PAGE + 1));
	pool_destroy(NULL);
}

static void
blocks_advance_and_keep_their_content(void **state) {
	(void)state;
	struct pool *pool = pool_global_create(NO_OPTIONS, 4096);
	char *block[1000];
	size_t sum = 0;
	for (size_t i = 0; i < 1000; i++) {
		size_t size = 1 + i % 300;
		block[i] = pool_alloc(pool, size);
		assert_aligned(block[i]);
		assert_true(pool_is_filled(block[i], 0, size));
		memset(block[i], (int)(i % 251), size);
		sum += pool_round(size, POOL_ALIGN);
	}
	for (size_t i = 0; i < 1000; i++) {
		assert_true(pool_is_filled(block[i], (unsigned char)(i % 251), 1 + i % 300));
	}
	struct pool_stats s = stats_of(pool);
	assert_int_equal(s.blocks, 1000);
	assert_int_equal(s.used, sum);
	assert_int_equal(s.peak, sum);
	assert_true(s.reserved > sum);
	assert_string_equal(pool_name(pool), "test");
	pool_destroy(pool);
}

static void
exactly_the_capacity_fits_a_page(void **state) {
	(void)state;
	struct pool *pool = pool_global_create(NO_OPTIONS, 4096);
	size_t capacity = pool_global_capacity(pool);
	for (int i = 0; i < 3; i++) {
		memset(pool_alloc(pool, capacity), 1, capacity);
	}
	assert_int_equal(stats_of(pool).oversize, 0);
	memset(pool_alloc(pool, capacity + 1), 1, capacity + 1);
	assert_int_equal(stats_of(pool).oversize, 1);
	memset(pool_alloc(pool, 1000000), 1, 1000000);
	assert_int_equal(stats_of(pool).oversize, 2);
	assert_int_equal(stats_of(pool).blocks, 5);
	pool_destroy(pool);
}

static void
illegal_sizes_have_codes(void **state) {
	(void)state;
	struct pool *pool = pool_global_create(NO_OPTIONS, 4096);
	assert_null(pool_alloc(pool, 0));
	assert_int_equal(errno, EINVAL);
	assert_null(pool_alloc(pool, SIZE_MAX));
	assert_int_equal(errno, E2BIG);
	pool_destroy(pool);
}

static int elsewhere;

static void
free_foreign(struct pool *pool) {
	pool_free(pool, &elsewhere);
}

static void
free_is_counted(void **state) {
	(void)state;
	struct pool *pool = pool_global_create(NO_OPTIONS, 4096);
	void *p = pool_alloc(pool, 10);
	pool_free(pool, p);
	pool_free(pool, NULL);
	assert_int_equal(stats_of(pool).bad_frees, 1);
	assert_int_equal(stats_of(pool).blocks, 1);
	assert_complains(pool, free_foreign, POOL_IS_CHECKED ? "free of a foreign pointer, " : NULL);
	pool_destroy(pool);
}

enum { THREADS = 8, ROUNDS = 100000 };

struct worker {
	pthread_t id;
	struct pool *pool;
	uint32_t number;
	uint32_t *block[ROUNDS];
};

static void *
allocate(void *arg) {
	struct worker *w = arg;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		w->block[i] = pool_global_alloc(w->pool, 8 + i % 40);
		w->block[i][0] = w->number;
		w->block[i][1] = i;
	}
	return NULL;
}

static void
threads_never_overlap(void **state) {
	(void)state;
	struct pool *pool = pool_global_create(NO_OPTIONS, 65536);
	struct worker *w = calloc(THREADS, sizeof(*w));
	for (uint32_t i = 0; i < THREADS; i++) {
		w[i].pool = pool;
		w[i].number = i;
		assert_int_equal(pthread_create(&w[i].id, NULL, allocate, &w[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(w[i].id, NULL);
	}
	for (uint32_t t = 0; t < THREADS; t++) {
		for (uint32_t i = 0; i < ROUNDS; i++) {
			assert_true(w[t].block[i][0] == t && w[t].block[i][1] == i);
		}
	}
	assert_int_equal(stats_of(pool).blocks, THREADS * ROUNDS);
	free(w);
	pool_destroy(pool);
}

static char *shared_text;

static bool
write_in_child(struct pool *pool) {
	memcpy(shared_text, "child", 6);
	/* Beyond the page that exists already. */
	for (int i = 0; i < 100; i++) {
		char *p = pool_alloc(pool, 1000);
		if (p == NULL) {
			return false;
		}
		memset(p, 'c', 1000);
	}
	return true;
}

static void
a_shared_pool_is_seen_after_fork(void **state) {
	(void)state;
	struct pool_options options = {.name = "shared", .flags = POOL_SHARED, .shared_bytes = 1 << 20};
	struct pool *pool = pool_global_create(&options, 8192);
	shared_text = pool_alloc(pool, 100);
	assert_in_child(pool, write_in_child);
	assert_string_equal(shared_text, "child");
	assert_int_equal(stats_of(pool).blocks, 101);
	char *p = pool_alloc(pool, 1000);
	assert_true(pool_is_filled(p, 0, 1000));
	while (pool_alloc(pool, 4000)) {
	}
	assert_int_equal(errno, ENOMEM);
	pool_destroy(pool);
	options.shared_bytes = 4096;
	assert_null(pool_global_create(&options, 8192));
	assert_int_equal(errno, EINVAL);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(page_sizes_have_limits),
	    cmocka_unit_test(blocks_advance_and_keep_their_content),
	    cmocka_unit_test(exactly_the_capacity_fits_a_page),
	    cmocka_unit_test(illegal_sizes_have_codes),
	    cmocka_unit_test(free_is_counted),
	    cmocka_unit_test(threads_never_overlap),
	    cmocka_unit_test(a_shared_pool_is_seen_after_fork),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
