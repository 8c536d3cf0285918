/* Sorted sets: a million entries, memory to the byte, an allocator that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zset.h"
#include "ledger.h"

static struct zset *
new_set(struct ledger *l) {
	*l = (struct ledger){.fail_after = -1};
	return zset_new(&(struct zset_options){.alloc = ledger_alloc, .alloc_ud = l, .seed = 1});
}

static struct zset_member
named(const char *name) {
	return (struct zset_member){.bytes = name, .size = strlen(name)};
}

static void
a_million_entries_have_their_ranks(void **state) {
	(void)state;
	enum { N = 1000000, STEP = 7919 };
	struct ledger l;
	struct zset *z = new_set(&l);
	for (int64_t i = 0; i < N; i++) {
		int64_t score = i * STEP % N;
		struct zset_member m = {.integer = score};
		assert_int_equal(zset_add(z, &m, (struct zset_score){.i = score}), ZSET_ADDED);
	}
	assert_int_equal(zset_count(z), N);
	assert_int_equal(zset_memory(z), l.bytes);
	for (int64_t i = 0; i < N; i += 101) {
		struct zset_member m = {.integer = i};
		const struct zset_node *n = zset_find(z, &m);
		assert_int_equal(zset_rank(z, n), N - i);
		assert_ptr_equal(zset_at(z, (size_t)(N - i)), n);
		assert_int_equal(zset_before(z, (struct zset_score){.i = i}, false), N - i - 1);
	}
	zset_delete(z);
	assert_int_equal(l.bytes, 0);
}

static void
neighbours_run_through_all_entries_both_ways(void **state) {
	(void)state;
	struct ledger l;
	struct zset *z = new_set(&l);
	for (int64_t i = 1; i <= 100; i++) {
		struct zset_member m = {.integer = i};
		zset_add(z, &m, (struct zset_score){.i = i * 37 % 101});
	}
	size_t rank = 0;
	for (const struct zset_node *n = zset_at(z, 1); n != NULL; n = zset_next(n)) {
		assert_ptr_equal(n, zset_at(z, ++rank));
	}
	assert_int_equal(rank, 100);
	for (const struct zset_node *n = zset_at(z, 100); n != NULL; n = zset_previous(n)) {
		assert_ptr_equal(n, zset_at(z, rank--));
	}
	assert_int_equal(rank, 0);
	zset_delete(z);
	assert_int_equal(l.bytes, 0);
}

static void
an_emptied_set_holds_what_a_new_one_does(void **state) {
	(void)state;
	struct ledger l;
	struct zset *z = new_set(&l);
	size_t empty = l.bytes;
	char name[32];
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "member %d", i);
		struct zset_member m = named(name);
		zset_add(z, &m, (struct zset_score){.is_float = true, .d = i * 0.5});
	}
	while (zset_count(z) > 0) {
		zset_remove(z, zset_at(z, (zset_count(z) + 1) / 2));
	}
	assert_int_equal(l.bytes, empty);
	zset_delete(z);
	assert_int_equal(l.bytes, 0);
}

static void
without_memory_nothing_changes(void **state) {
	(void)state;
	for (long fail = 0; fail < 40; fail++) {
		struct ledger l = {.fail_after = fail};
		struct zset *z = zset_new(&(struct zset_options){.alloc = ledger_alloc, .alloc_ud = &l});
		if (z == NULL) {
			assert_int_equal(l.bytes, 0);
			continue;
		}
		size_t added = 0;
		for (int64_t i = 0; i < 40; i++) {
			struct zset_member m = {.integer = i};
			enum zset_result r = zset_add(z, &m, (struct zset_score){.i = i});
			added += r == ZSET_ADDED;
			assert_true(r == ZSET_ADDED || zset_find(z, &m) == NULL);
			assert_int_equal(zset_count(z), added);
			assert_int_equal(zset_memory(z), l.bytes);
		}
		// One allocation failed at most: that of an entry, or of a larger table.
		assert_true(added >= 39);
		for (int64_t i = 0; i < 40; i++) {
			struct zset_member m = {.integer = i};
			const struct zset_node *n = zset_find(z, &m);
			assert_true(n == NULL || zset_at(z, zset_rank(z, n)) == n);
		}
		zset_delete(z);
		assert_int_equal(l.bytes, 0);
	}
}

static void
members_of_all_bytes_are_told_apart(void **state) {
	(void)state;
	struct ledger l;
	struct zset *z = new_set(&l);
	struct zset_member m[] = {
	    {.bytes = "", .size = 0},
	    {.bytes = "\0", .size = 1},
	    {.bytes = "\0\0", .size = 2},
	    {.bytes = "12345678", .size = 8},
	    {.bytes = "12345678\0", .size = 9},
	    {.integer = 0},
	    {.integer = INT64_MIN},
	};
	size_t count = sizeof(m) / sizeof(m[0]);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(zset_add(z, &m[i], (struct zset_score){.i = (int64_t)i}), ZSET_ADDED);
	}
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(zset_node_score(zset_find(z, &m[i])).i, i);
	}
	zset_delete(z);
	assert_int_equal(l.bytes, 0);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_million_entries_have_their_ranks),
	    cmocka_unit_test(neighbours_run_through_all_entries_both_ways),
	    cmocka_unit_test(an_emptied_set_holds_what_a_new_one_does),
	    cmocka_unit_test(without_memory_nothing_changes),
	    cmocka_unit_test(members_of_all_bytes_are_told_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
