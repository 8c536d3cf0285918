/* What all kinds of pools have in common. */
#include "pool_test.h"

#include "malloc_hook.h"
#include "pool_fixed.h"
#include "pool_global.h"
#include "pool_region.h"
#include "pool_ring.h"

enum { GLOBAL, RING, FIXED, REGION, KINDS };

static struct pool *
make_global(const struct pool_options *options) {
	return pool_global_create(options, 4096);
}

static struct pool *
make_ring(const struct pool_options *options) {
	return pool_ring_create(options, 4096);
}

static struct pool *
make_fixed(const struct pool_options *options) {
	return pool_fixed_create(options, 128, 100, NULL);
}

static struct pool *
make_region(const struct pool_options *options) {
	return pool_region_create(options, 1024);
}

static struct pool *(*const make[KINDS])(const struct pool_options *options) = {
    [GLOBAL] = make_global,
    [RING] = make_ring,
    [FIXED] = make_fixed,
    [REGION] = make_region,
};

static void
a_name_is_copied_and_cut(void **state) {
	(void)state;
	for (int i = 0; i < KINDS; i++) {
		char name[] = "thirty-one bytes of a name are kept";
		struct pool *pool = make[i](&(struct pool_options){.name = name});
		memset(name, 'x', sizeof(name) - 1);
		assert_string_equal(pool_name(pool), "thirty-one bytes of a name are ");
		pool_destroy(pool);
		pool = make[i](&(struct pool_options){0});
		assert_string_equal(pool_name(pool), "");
		pool_destroy(pool);
	}
}

static void
a_shared_pool_has_16_mib_by_default(void **state) {
	(void)state;
	struct pool *pool = pool_region_create(&(struct pool_options){.flags = POOL_SHARED}, 1024);
	assert_null(pool_alloc(pool, 16 << 20));
	assert_int_equal(errno, ENOMEM);
	assert_non_null(pool_alloc(pool, (16 << 20) - 4096));
	pool_destroy(pool);
}

/* Two services. */
enum { ALICE = 5, BOB = 6 };

static const char *
name_of(uint32_t handle) {
	return handle == ALICE ? "alice" : NULL;
}

/* Grows what can grow: by 100000 bytes, of which some kinds make one block. */
static void
use(struct pool *pool) {
	for (int i = 0; i < 1000; i++) {
		void *p = pool_alloc(pool, 100);
		if (p) {
			memset(p, 1, 100);
		}
	}
	pool_alloc(pool, 50000);
}

static void
memory_is_charged_to_the_maker(void **state) {
	(void)state;
	bool has_accounts = malloc_used_memory() > 0;
	for (int i = 0; i < KINDS; i++) {
		malloc_set_owner(ALICE);
		struct pool *pool =
		    make[i](&(struct pool_options){.flags = i == FIXED ? POOL_GROWABLE : 0});
		malloc_set_owner(BOB);
		use(pool);
		size_t reserved = stats_of(pool).reserved;
		assert_true(i == RING || reserved > 100000);
		assert_int_equal(malloc_service_memory(BOB), 0);
		assert_true(!has_accounts || malloc_service_memory(ALICE) >= reserved);
		pool_destroy(pool);
		assert_int_equal(malloc_service_memory(ALICE), 0);
		malloc_set_owner(0);
	}
}

static int elsewhere[8];

static void
free_foreign(struct pool *pool) {
	pool_free(pool, &elsewhere[4]);
}

static void
a_report_names_the_service_of_the_maker(void **state) {
	(void)state;
	malloc_set_namer(name_of);
	for (int i = 0; i < KINDS; i++) {
		char text[REPORT_SIZE] = "";
		malloc_set_owner(ALICE);
		struct pool *pool = make[i](&(struct pool_options){.name = "mine"});
		malloc_set_owner(BOB);
		misuse = free_foreign;
		run_caught(pool, POOL_IS_CHECKED ? misuse_in_child : free_foreign, text);
		pool_destroy(pool);
		malloc_set_owner(0);
		/* Others tell a foreign pointer in checked builds only. */
		if (POOL_IS_CHECKED || i == RING || i == FIXED) {
			assert_non_null(strstr(text, " pool 'mine' of :00000005 alice\n"));
		}
	}
	malloc_set_namer(NULL);
}

static bool
use_and_destroy(struct pool *pool) {
	use(pool);
	pool_destroy(pool);
	return true;
}

enum { MINE = 30 };

static void
the_end_of_one_process_leaves_a_shared_pool(void **state) {
	(void)state;
	for (int i = 0; i < KINDS; i++) {
		struct pool_options options = {.flags = POOL_SHARED, .shared_bytes = 1 << 20};
		struct pool *pool = make[i](&options);
		char *mine[MINE];
		for (int n = 0; n < MINE; n++) {
			mine[n] = pool_alloc(pool, 100);
			assert_non_null(mine[n]);
			memset(mine[n], 'a' + n, 100);
		}
		assert_in_child(pool, use_and_destroy);
		use(pool);
		for (int n = 0; n < MINE; n++) {
			assert_true(pool_is_filled(mine[n], (unsigned char)('a' + n), 100));
		}
		assert_int_equal(stats_of(pool).bad_frees, 0);
		pool_destroy(pool);
	}
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_name_is_copied_and_cut),
	    cmocka_unit_test(a_shared_pool_has_16_mib_by_default),
	    cmocka_unit_test(memory_is_charged_to_the_maker),
	    cmocka_unit_test(a_report_names_the_service_of_the_maker),
	    cmocka_unit_test(the_end_of_one_process_leaves_a_shared_pool),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
