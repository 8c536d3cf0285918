/* The region pool. */
#include "pool_test.h"

#include "pool_region.h"

#include <fcntl.h>
#include <stdio.h>

static void
blocks_are_chained_and_keep_their_content(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	char *block[500];
	for (size_t i = 0; i < 500; i++) {
		size_t size = 1 + i % 100;
		block[i] = pool_alloc(pool, size);
		assert_aligned(block[i]);
		memset(block[i], (int)(i % 251), size);
	}
	for (size_t i = 0; i < 500; i++) {
		assert_true(pool_is_filled(block[i], (unsigned char)(i % 251), 1 + i % 100));
	}
	assert_true(pool_region_block_count(pool) > 20);
	assert_int_equal(stats_of(pool).blocks, 500);
	pool_destroy(pool);
}

static void
creation_and_sizes_are_checked(void **state) {
	(void)state;
	assert_null(pool_region_create(NO_OPTIONS, POOL_REGION_MIN_BLOCK - 1));
	assert_int_equal(errno, EINVAL);
	struct pool *pool = pool_region_create(NO_OPTIONS, POOL_REGION_MIN_BLOCK);
	assert_null(pool_alloc(pool, 0));
	assert_int_equal(errno, EINVAL);
	assert_null(pool_alloc(pool, SIZE_MAX));
	assert_int_equal(errno, E2BIG);
	assert_null(pool_region_calloc(pool, SIZE_MAX / 2, 3));
	assert_int_equal(errno, E2BIG);
	assert_null(pool_region_memalign(pool, 24, 10));
	assert_int_equal(errno, EINVAL);
	pool_destroy(pool);
}

static void
the_small_limit_is_exact(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 2048);
	size_t limit = pool_region_small_limit(pool);
	assert_true(limit < 2048);
	void *small = pool_alloc(pool, limit);
	void *large = pool_alloc(pool, limit + 1);
	assert_aligned(small);
	assert_aligned(large);
	memset(small, 1, limit);
	memset(large, 1, limit + 1);
	assert_false(pool_region_free_large(pool, small));
	assert_true(pool_region_free_large(pool, large));
	pool_destroy(pool);
	/* Beyond a page the page decides. */
	pool = pool_region_create(NO_OPTIONS, 1 << 20);
	assert_int_equal(pool_region_small_limit(pool), (size_t)sysconf(_SC_PAGESIZE) - 1);
	pool_destroy(pool);
}

static void
alignments_are_kept(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 4096);
	for (size_t align = 1; align <= 65536; align *= 2) {
		for (size_t size = 1; size < 5000; size = size * 3 + 1) {
			char *p = pool_region_memalign(pool, align, size);
			assert_int_equal((uintptr_t)p % align, 0);
			memset(p, 1, size);
		}
	}
	pool_destroy(pool);
}

/* A request that the free room of a block cannot serve fails there; after more
 * than four failures the block is left alone, and small requests that it could
 * serve go to later blocks. */
static void
a_block_is_left_after_more_than_four_failures(void **state) {
	(void)state;
	for (int failures = 3; failures <= 6; failures++) {
		struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
		size_t limit = pool_region_small_limit(pool);
		char *first = pool_alloc(pool, limit - 200);
		for (int i = 0; i < failures; i++) {
			pool_alloc(pool, limit);
		}
		assert_int_equal(pool_region_block_count(pool), 1 + failures);
		char *p = pool_alloc(pool, 8);
		bool in_first = p > first && p < first + 1024;
		assert_int_equal(in_first, failures <= 4);
		pool_destroy(pool);
	}
}

static void
headers_of_large_blocks_are_reused(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	for (int i = 0; i < 10000; i++) {
		void *p = pool_alloc(pool, 50000);
		assert_true(pool_region_free_large(pool, p));
		assert_false(pool_region_free_large(pool, p));
	}
	assert_int_equal(pool_region_block_count(pool), 1);
	assert_int_equal(stats_of(pool).blocks, 0);
	/* One header. */
	assert_true(stats_of(pool).used <= 64);
	assert_true(stats_of(pool).peak >= 50000);
	pool_destroy(pool);
}

/* With five large blocks, the newest of number 0, the room taken by one more once
 * this one was freed, beyond its own. */
static size_t
growth_after_free_of(int number) {
	enum { SIZE = 50000 };
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	void *p[5];
	for (int i = 4; i >= 0; i--) {
		p[i] = pool_alloc(pool, SIZE);
	}
	size_t used = stats_of(pool).used;
	assert_true(pool_region_free_large(pool, p[number]));
	assert_non_null(pool_alloc(pool, SIZE));
	size_t growth = stats_of(pool).used - used;
	pool_destroy(pool);
	return growth;
}

static void
a_header_is_looked_for_among_the_first_four(void **state) {
	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(growth_after_free_of(i), 0);
	}
	assert_in_range(growth_after_free_of(4), 1, 64);
}

static void
reset_then_reuse_grows_nothing(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 4096);
	size_t reserved = 0;
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 200; i++) {
			memset(pool_alloc(pool, 100), 7, 100);
		}
		pool_alloc(pool, 100000);
		pool_region_reset(pool);
		struct pool_stats s = stats_of(pool);
		assert_int_equal(s.blocks, 0);
		assert_int_equal(s.used, 0);
		if (round == 0) {
			reserved = s.reserved;
		}
		assert_int_equal(s.reserved, reserved);
	}
	pool_destroy(pool);
}

static char trace[32];

static void
mark(void *data) {
	strcat(trace, data);
}

static void
add_mark(struct pool *pool, const char *text) {
	struct pool_cleanup *c = pool_region_cleanup(pool, strlen(text) + 1);
	strcpy(c->data, text);
	c->run = mark;
}

static void
cleanups_run_once_in_reverse_order(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	trace[0] = '\0';
	add_mark(pool, "a");
	struct pool_cleanup *c = pool_region_cleanup(pool, 0);
	assert_null(c->data);
	c->data = (void *)(uintptr_t) "early";
	c->run = mark;
	add_mark(pool, "b");
	pool_region_cleanup_run(c);
	pool_region_cleanup_run(c);
	assert_string_equal(trace, "early");
	pool_region_reset(pool);
	assert_string_equal(trace, "earlyba");
	pool_region_reset(pool);
	assert_string_equal(trace, "earlyba");
	add_mark(pool, "c");
	pool_destroy(pool);
	assert_string_equal(trace, "earlybac");
}

static void
cleanups_close_and_delete(void **state) {
	(void)state;
	char path[] = "/tmp/pool-test-XXXXXX";
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_true(pool_region_close_fd(pool, fd));
	assert_true(pool_region_delete_file(pool, path));
	assert_true(pool_region_delete_file(pool, "/tmp/pool-test-no-such-file"));
	pool_destroy(pool);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(access(path, F_OK), -1);
}

static void
fail_to_clean(struct pool *pool) {
	char path[] = "/tmp/pool-test-XXXXXX";
	assert_non_null(mkdtemp(path));
	assert_true(pool_region_delete_file(pool, path));
	assert_true(pool_region_delete_file(pool, "/tmp/pool-test-no-such-file"));
	assert_true(pool_region_close_fd(pool, -1));
	pool_region_reset(pool);
	rmdir(path);
}

static void
cleanups_that_fail_say_so(void **state) {
	(void)state;
	char text[REPORT_SIZE];
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	run_caught(pool, fail_to_clean, text);
	/* The last registered comes first; a missing file is fine. */
	const char *close_line = "pool: can't close descriptor -1: Bad file descriptor\n";
	const char *delete_line = "pool: can't delete /tmp/pool-test-XXXXXX: Is a directory\n";
	assert_int_equal(strlen(text), strlen(close_line) + strlen(delete_line));
	assert_memory_equal(text, close_line, strlen(close_line));
	assert_non_null(strstr(text, "pool: can't delete /tmp/pool-test-"));
	assert_non_null(strstr(text, ": Is a directory\n"));
	pool_destroy(pool);
}

static char seen[4];

static void
look(void *data) {
	const char *large = *(char **)data;
	memcpy(seen, large, 4);
}

static void
cleanups_run_before_memory_goes(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	for (int end = 0; end < 2; end++) {
		struct pool_cleanup *c = pool_region_cleanup(pool, sizeof(char *));
		char *large = pool_alloc(pool, 50000);
		memcpy(large, "kept", 4);
		*(char **)c->data = large;
		c->run = look;
		memset(seen, 0, 4);
		(end ? pool_destroy : pool_region_reset)(pool);
		assert_memory_equal(seen, "kept", 4);
	}
}

static void
texts_are_copied_and_formatted(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 512);
	assert_string_equal(pool_region_strdup(pool, "hello"), "hello");
	assert_string_equal(pool_region_strdup(pool, ""), "");
	assert_string_equal(pool_region_printf(pool, "%d-%s", 42, "x"), "42-x");
	char *wide = pool_region_printf(pool, "%5000d", 7);
	assert_int_equal(strlen(wide), 5000);
	char *zero = pool_region_calloc(pool, 10, 20);
	assert_true(pool_is_filled(zero, 0, 200));
	pool_destroy(pool);
}

static void
only_the_latest_block_grows_in_place(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 2048);
	char *a = pool_region_alloc_unaligned(pool, 10);
	assert_true(pool_region_extend(pool, a, 10, 100));
	memset(a, 'a', 100);
	char *b = pool_region_alloc_unaligned(pool, 10);
	memset(b, 'b', 10);
	assert_false(pool_region_extend(pool, a, 100, 101));
	assert_false(pool_region_extend(pool, b, 10, 5000));
	assert_false(pool_region_extend(pool, b, 10, 9));
	assert_true(pool_region_extend(pool, b, 10, 500));
	memset(b, 'b', 500);
	assert_true(pool_is_filled(a, 'a', 100));
	pool_destroy(pool);
}

static void
many_lives_leak_nothing(void **state) {
	(void)state;
	size_t before = 0;
	uint64_t seed = 3;
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	for (int life = 0; life < 100000; life++) {
		for (int i = 0; i < 5; i++) {
			pool_alloc(pool, 1 + random_below(&seed, 100));
		}
		if (life % 10 == 0) {
			pool_alloc(pool, 3000);
		}
		pool_region_reset(pool);
		if (life == 100) {
			before = stats_of(pool).reserved;
		}
	}
	assert_int_equal(stats_of(pool).reserved, before);
	pool_destroy(pool);
	for (int life = 0; life < 2000; life++) {
		pool = pool_region_create(NO_OPTIONS, 512);
		pool_alloc(pool, 100);
		pool_alloc(pool, 400);
		pool_alloc(pool, 5000);
		pool_destroy(pool);
	}
}

static int elsewhere;

static void
free_foreign(struct pool *pool) {
	pool_free(pool, &elsewhere);
}

static void
frees_without_meaning_are_counted(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	void *small = pool_alloc(pool, 10);
	void *large = pool_alloc(pool, 10000);
	pool_free(pool, small);
	assert_int_equal(stats_of(pool).bad_frees, 1);
	pool_free(pool, large);
	assert_int_equal(stats_of(pool).bad_frees, 1);
	assert_int_equal(stats_of(pool).blocks, 1);
	assert_complains(pool, free_foreign, POOL_IS_CHECKED ? "free of a foreign pointer, " : NULL);
	pool_destroy(pool);
}

/* One allocation, by one door or another. */
static unsigned char *
allocate_somehow(struct pool *pool, uint64_t *seed, size_t size) {
	switch (random_below(seed, 4)) {
	case 0:
		return pool_region_alloc(pool, size);
	case 1:
		return pool_region_alloc_unaligned(pool, size);
	case 2:
		return pool_region_memalign(pool, 64, size);
	default:
		return pool_region_take(pool, size);
	}
}

/* Against an oracle: what is in each block, after any mixture of calls. */
static void
random_use_keeps_all_blocks_apart(void **state) {
	(void)state;
	enum { LIVE = 200, LIVES = 300 };
	struct pool *pool = pool_region_create(NO_OPTIONS, 2048);
	unsigned char *block[LIVE];
	size_t size[LIVE];
	uint64_t seed = 11;
	for (int life = 0; life < LIVES; life++) {
		uint32_t n = 1 + random_below(&seed, LIVE);
		for (uint32_t i = 0; i < n; i++) {
			size[i] = 1 + random_below(&seed, random_below(&seed, 20) ? 200 : 5000);
			block[i] = allocate_somehow(pool, &seed, size[i]);
			if (size[i] < 100 && pool_region_extend(pool, block[i], size[i], size[i] + 9)) {
				size[i] += 9;
			}
			memset(block[i], (int)i, size[i]);
		}
		assert_int_equal(stats_of(pool).blocks, n);
		for (uint32_t i = 0; i < n; i++) {
			assert_true(pool_is_filled(block[i], (unsigned char)i, size[i]));
		}
		pool_region_reset(pool);
		assert_int_equal(stats_of(pool).used, 0);
	}
	pool_destroy(pool);
}

#ifdef MEMORY_CHECK

static void
overrun_small(struct pool *pool) {
	char *p = pool_alloc(pool, 10);
	p[10] = 1;
	pool_region_reset(pool);
}

static void
overrun_large(struct pool *pool) {
	char *p = pool_alloc(pool, 10000);
	p[10000] = 1;
	pool_region_free_large(pool, p);
}

static void
overruns_are_found(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(NO_OPTIONS, 1024);
	assert_complains(pool, overrun_small, "overrun, ");
	assert_complains(pool, overrun_large, "overrun, ");
	pool_region_reset(pool);
	char *p = pool_alloc(pool, 100);
	memset(p, 1, 100);
	pool_region_reset(pool);
	assert_true(pool_is_filled(p, POOL_POISON, 100));
	pool_destroy(pool);
}

#endif

static char *shared_text;

static bool
use_in_child(struct pool *pool) {
	shared_text = pool_region_printf(pool, "%s", "from the child");
	char *large = pool_alloc(pool, 50000);
	memset(large, 1, 50000);
	for (int i = 0; i < 100; i++) {
		pool_alloc(pool, 500);
	}
	return pool_region_free_large(pool, large);
}

static void
a_shared_region_is_seen_after_fork(void **state) {
	(void)state;
	struct pool_options options = {.flags = POOL_SHARED, .shared_bytes = 1 << 20};
	struct pool *pool = pool_region_create(&options, 2048);
	assert_in_child(pool, use_in_child);
	assert_int_equal(stats_of(pool).blocks, 101);
	pool_region_reset(pool);
	for (int round = 0; round < 50; round++) {
		assert_non_null(pool_alloc(pool, 300000));
		pool_region_reset(pool);
	}
	assert_null(pool_alloc(pool, 2 << 20));
	assert_int_equal(errno, ENOMEM);
	pool_destroy(pool);
}

static bool
destroy_in_child(struct pool *pool) {
	pool_destroy(pool);
	return trace[0] == '\0';
}

static void
only_the_maker_of_a_shared_region_runs_its_cleanups(void **state) {
	(void)state;
	struct pool_options options = {.flags = POOL_SHARED, .shared_bytes = 1 << 20};
	struct pool *pool = pool_region_create(&options, 2048);
	trace[0] = '\0';
	add_mark(pool, "once");
	assert_in_child(pool, destroy_in_child);
	pool_destroy(pool);
	assert_string_equal(trace, "once");
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(blocks_are_chained_and_keep_their_content),
	    cmocka_unit_test(creation_and_sizes_are_checked),
	    cmocka_unit_test(the_small_limit_is_exact),
	    cmocka_unit_test(alignments_are_kept),
	    cmocka_unit_test(a_block_is_left_after_more_than_four_failures),
	    cmocka_unit_test(headers_of_large_blocks_are_reused),
	    cmocka_unit_test(a_header_is_looked_for_among_the_first_four),
	    cmocka_unit_test(reset_then_reuse_grows_nothing),
	    cmocka_unit_test(cleanups_run_once_in_reverse_order),
	    cmocka_unit_test(cleanups_close_and_delete),
	    cmocka_unit_test(cleanups_that_fail_say_so),
	    cmocka_unit_test(cleanups_run_before_memory_goes),
	    cmocka_unit_test(texts_are_copied_and_formatted),
	    cmocka_unit_test(only_the_latest_block_grows_in_place),
	    cmocka_unit_test(many_lives_leak_nothing),
	    cmocka_unit_test(frees_without_meaning_are_counted),
	    cmocka_unit_test(random_use_keeps_all_blocks_apart),
#ifdef MEMORY_CHECK
	    cmocka_unit_test(overruns_are_found),
#endif
	    cmocka_unit_test(a_shared_region_is_seen_after_fork),
	    cmocka_unit_test(only_the_maker_of_a_shared_region_runs_its_cleanups),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
