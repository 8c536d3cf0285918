/* Areas of interest: memory to the byte, and an allocator that fails at each place in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "aoi.h"
#include "ledger.h"

enum { OBJECTS = 30 };

static struct aoi *
new_space(struct ledger *l) {
	return aoi_new(&(struct aoi_options){.cell = 10, .alloc = ledger_alloc, .alloc_ud = l});
}

static size_t
count_events(struct aoi *a, enum aoi_kind kind) {
	size_t count, n = 0;
	const struct aoi_event *e = aoi_events(a, &count);
	for (size_t i = 0; i < count; i++) {
		n += e[i].kind == kind;
	}
	aoi_clear_events(a);
	return n;
}

/* Adds all objects, and updates, until that has succeeded; returns how often something failed. */
static int
fill(struct aoi *a) {
	const struct aoi_role role = {.is_watcher = true, .is_marker = true, .range = 100};
	int failures = 0;
	for (int64_t i = 0; i < OBJECTS; i++) {
		while (aoi_add(a, i, &role, (double)i, 0) == NULL) {
			failures++;
			assert_null(aoi_find(a, i));
		}
	}
	while (!aoi_update(a)) {
		failures++;
	}
	return failures;
}

static void
a_failed_allocation_loses_nothing(void **state) {
	(void)state;
	int failures = 0;
	for (long fail = 1; fail < 1200; fail++) {
		struct ledger l = {.fail_after = fail};
		struct aoi *a = new_space(&l);
		failures += fill(a);
		assert_int_equal(count_events(a, AOI_ENTER), OBJECTS * (OBJECTS - 1));
		for (int64_t i = 0; i < OBJECTS; i++) {
			while (!aoi_move(a, aoi_find(a, i), 0, (double)i + 1)) {
				failures++;
			}
		}
		while (!aoi_update(a)) {
			failures++;
		}
		assert_int_equal(count_events(a, AOI_MOVE), OBJECTS * (OBJECTS - 1));
		for (int64_t i = 0; i < OBJECTS; i++) {
			while (!aoi_remove(a, aoi_find(a, i))) {
				failures++;
			}
		}
		assert_int_equal(count_events(a, AOI_LEAVE), OBJECTS * (OBJECTS - 1) / 2);
		assert_int_equal(aoi_stat(a).memory, l.bytes);
		aoi_delete(a);
		assert_int_equal(l.bytes, 0);
	}
	assert_true(failures > 100);
}

static void
a_space_that_is_deleted_gives_all_back(void **state) {
	(void)state;
	struct ledger l = {.fail_after = -1};
	struct aoi *a = new_space(&l);
	assert_int_equal(fill(a), 0);
	assert_int_equal(aoi_stat(a).memory, l.bytes);
	assert_int_equal(aoi_stat(a).pairs, OBJECTS * (OBJECTS - 1));
	aoi_delete(a);
	assert_int_equal(l.bytes, 0);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_failed_allocation_loses_nothing),
	    cmocka_unit_test(a_space_that_is_deleted_gives_all_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
