/* The session table of a Lua service: lookup, removal, wrap-around, tombstones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "skynet_server.h"
#include "skynet_timer.h"

/* The kernel's counter and clock, under our control. */
static int counter;
static uint64_t clock_cs;

static int
next_session(struct skynet_context *ctx) {
	(void)ctx;
	counter = counter == 0x7fffffff ? 1 : counter + 1;
	return counter;
}

static uint64_t
test_clock(void) {
	return clock_cs;
}

#define skynet_context_newsession next_session
#define skynet_now test_clock
#include "../../lualib-src/lua-task-session.c"

static struct sched S;
static struct task T;

static int
set_up(void **state) {
	(void)state;
	memset(&S, 0, sizeof(S));
	counter = 0;
	clock_cs = 1000;
	pending_init(&S);
	return 0;
}

static int
tear_down(void **state) {
	(void)state;
	pending_free(&S);
	return 0;
}

static void
add(int session) {
	pending_add(&S, session, PENDING_TASK, (uintptr_t)&T, (uint32_t)session);
}

static void
what_was_added_is_found_with_its_kind_and_values(void **state) {
	struct pending e;
	(void)state;
	add(7);
	pending_add(&S, 8, PENDING_TIMER, (uintptr_t)123456 << 3, 0);
	assert_ptr_equal(pending_task(pending_find(&S, 7)), &T);
	assert_true(pending_take(&S, 8, &e));
	assert_int_equal(pending_kind(&e), PENDING_TIMER);
	assert_int_equal(pending_ref(&e), 123456);
	assert_null(pending_find(&S, 8));
	assert_false(pending_take(&S, 9, &e));
}

/* A model in plain arrays, and random operations on both. */
static void
the_table_agrees_with_a_model(void **state) {
	enum { RANGE = 3000, STEPS = 200000 };
	static bool in[RANGE];
	struct pending e;
	uint32_t seed = 12345;
	uint32_t n = 0;
	(void)state;
	memset(in, 0, sizeof(in));
	for (int step = 0; step < STEPS; step++) {
		seed = seed * 1664525 + 1013904223;
		int i = (int)((seed >> 8) % RANGE);
		/* Spread over the whole range of numbers, ends included. */
		int session = i % 2 == 0 ? i + 1 : 0x7fffffff - i;
		if (in[i]) {
			assert_true(pending_take(&S, session, &e));
			assert_int_equal(e.aux, (uint32_t)session);
			n--;
		} else {
			assert_null(pending_find(&S, session));
			add(session);
			n++;
		}
		in[i] = !in[i];
		assert_int_equal(S.pending.count, n);
	}
}

static void
the_memory_of_a_burst_is_given_back(void **state) {
	struct pending e;
	(void)state;
	for (int i = 1; i <= 100000; i++) {
		add(i);
	}
	assert_true(S.pending.size >= 100000);
	for (int i = 1; i <= 100000; i++) {
		assert_true(pending_take(&S, i, &e));
	}
	assert_true(S.pending.size <= 256);
}

static void
pending_numbers_are_skipped_after_the_wrap(void **state) {
	(void)state;
	for (int i = 3; i <= 41; i += 2) {
		add(i);
	}
	counter = 0x7ffffff0;
	add(0x7ffffff3);
	for (int i = 0; i < 100; i++) {
		int session = sched_new_session(&S);
		assert_true(session > 0);
		assert_null(pending_find(&S, session));
		assert_int_not_equal(session, 0x7ffffff3);
		if (session < 100) {
			assert_false(session % 2 == 1 && session >= 3 && session <= 41);
			add(session);
		}
	}
	for (int i = 3; i <= 41; i += 2) {
		assert_non_null(pending_find(&S, i));
	}
}

static void
tombstones_of_answers_expire_and_those_of_ticks_do_not(void **state) {
	(void)state;
	for (int i = 1; i <= 200; i++) {
		add(i);
		pending_void(&S, i, i % 2 ? PENDING_ANSWER : PENDING_TICK, 5);
	}
	assert_int_equal(S.pending.voids, 200);
	clock_cs += ANSWER_TTL_CS + 1;
	for (int i = 1001; i <= 1100; i++) {
		add(i);
		pending_void(&S, i, PENDING_ANSWER, 5);
	}
	assert_null(pending_find(&S, 1));
	assert_non_null(pending_find(&S, 2));
	assert_non_null(pending_find(&S, 1100));
	assert_int_equal(S.pending.count, S.pending.voids);
}

static void
values_are_kept_dropped_and_reused(void **state) {
	lua_State *L = luaL_newstate();
	int ref[5000];
	(void)state;
	lua_newtable(L);
	S.ref_values = luaL_ref(L, LUA_REGISTRYINDEX);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 5000; i++) {
			lua_pushinteger(L, i);
			ref[i] = value_keep(L, &S);
			assert_true(ref[i] > 0 && ref[i] <= 5000);
		}
		for (int i = 0; i < 5000; i++) {
			value_push(L, &S, ref[i]);
			assert_int_equal(lua_tointeger(L, -1), i);
			lua_pop(L, 1);
			value_drop(L, &S, ref[i]);
		}
		assert_int_equal(S.value_n, 0);
		assert_int_equal(lua_gettop(L), 0);
	}
	lua_close(L);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_was_added_is_found_with_its_kind_and_values, set_up,
	                                    tear_down),
	    cmocka_unit_test_setup_teardown(the_table_agrees_with_a_model, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(the_memory_of_a_burst_is_given_back, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(pending_numbers_are_skipped_after_the_wrap, set_up,
	                                    tear_down),
	    cmocka_unit_test_setup_teardown(tombstones_of_answers_expire_and_those_of_ticks_do_not,
	                                    set_up, tear_down),
	    cmocka_unit_test_setup_teardown(values_are_kept_dropped_and_reused, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
