/* Timers: the wheel with ticks of our own making, and the real clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "platform.h"
#include "skynet.h"
#include "skynet_timer.h"
#include "timer_wheel.h"
#include "unit_random.h"

#define MAX_NODES 4096

static struct timer_wheel wheel;
static struct timer_node nodes[MAX_NODES];
static int node_count;

static void
begin(uint32_t now) {
	timer_wheel_init(&wheel, now);
	node_count = 0;
}

static void
add(uint32_t tick, int session) {
	struct timer_node *n = &nodes[node_count++];

	n->expire = tick;
	n->session = session;
	timer_wheel_add(&wheel, n);
}

/* Advances to `now` and asserts that exactly the given sessions come out. */
static void
expect(uint32_t now, const int *sessions, int count) {
	struct timer_list list = {NULL};
	struct timer_node *n;
	int i = 0;

	timer_wheel_advance(&wheel, now, &list);
	while ((n = timer_list_pop(&list)) != NULL) {
		assert_true(i < count);
		assert_int_equal(n->session, sessions[i++]);
	}
	assert_int_equal(i, count);
}

#define EXPECT(now, ...)                                                                           \
	expect(now, (const int[]){__VA_ARGS__}, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)))
#define EXPECT_NONE(now) expect(now, NULL, 0)

static void
expires_on_its_tick_and_not_before(void **state) {
	(void)state;
	begin(0);
	add(5, 1);
	EXPECT_NONE(4);
	EXPECT(5, 1);
	EXPECT_NONE(1000);
}

static void
one_tick_keeps_the_order_of_arming(void **state) {
	(void)state;
	begin(0);
	add(5, 1);
	add(5, 2);
	add(1, 3);
	add(2, 4);
	add(3, 5);
	add(5, 6);
	EXPECT(1, 3);
	EXPECT(2, 4);
	EXPECT(3, 5);
	EXPECT(5, 1, 2, 6);
}

/* Armed from far away and from near by, for the same tick. */
static void
order_survives_the_way_down_the_levels(void **state) {
	static const uint32_t ticks[] = {300, 20000, 1500000, 90000000, 3000000};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(ticks) / sizeof(ticks[0]); i++) {
		uint32_t tick = ticks[i];
		begin(0);
		add(tick, 1);
		EXPECT_NONE(tick / 2);
		add(tick, 2);
		EXPECT_NONE(tick - 200);
		add(tick, 3);
		EXPECT_NONE(tick - 1);
		add(tick, 4);
		EXPECT(tick, 1, 2, 3, 4);
	}
}

static void
catching_up_gives_everything_in_order_of_ticks(void **state) {
	(void)state;
	begin(0);
	add(70000, 4);
	add(3, 1);
	add(300, 3);
	add(4, 2);
	EXPECT(100000, 1, 2, 3, 4);
}

static void
armed_for_a_tick_that_has_passed_is_due_at_once(void **state) {
	uint32_t ticks;

	(void)state;
	begin(0);
	EXPECT_NONE(100);
	add(100, 1);
	add(99, 2);
	assert_true(timer_wheel_next(&wheel, &ticks));
	assert_int_equal(ticks, 0);
	EXPECT(100, 1, 2);
}

static void
tick_counter_may_wrap(void **state) {
	uint32_t start = UINT32_MAX - 10;

	(void)state;
	begin(start);
	add(start + 5, 1);
	add(start + 50, 2);
	add(start + 100000, 3);
	EXPECT_NONE(start + 4);
	EXPECT(start + 5, 1);
	EXPECT_NONE(start + 49);
	EXPECT(start + 50, 2);
	EXPECT_NONE(start + 99999);
	EXPECT(start + 100000, 3);
}

static void
longest_delay_is_exact(void **state) {
	(void)state;
	begin(123456789);
	add(123456789u + INT32_MAX, 1);
	EXPECT_NONE(123456789u + INT32_MAX - 1);
	EXPECT(123456789u + INT32_MAX, 1);
}

/* Nobody visits an empty wheel; a day later the clock is far ahead of it. */
static void
longest_delay_is_exact_after_a_long_rest(void **state) {
	uint32_t now = 8640000;

	(void)state;
	begin(0);
	timer_wheel_touch(&wheel, now);
	assert_int_equal(wheel.current, now);
	/* And a little ahead of it once more. */
	now += 900;
	add(now + INT32_MAX, 1);
	EXPECT_NONE(now);
	EXPECT_NONE(now + INT32_MAX - 1);
	EXPECT(now + INT32_MAX, 1);
}

static void
touching_skips_no_timer(void **state) {
	uint32_t ticks;

	(void)state;
	begin(0);
	add(500, 1);
	timer_wheel_touch(&wheel, 499);
	assert_int_equal(wheel.current, 499);
	timer_wheel_touch(&wheel, 10);
	assert_int_equal(wheel.current, 499);
	timer_wheel_touch(&wheel, 600);
	assert_true(timer_wheel_next(&wheel, &ticks));
	assert_int_equal(ticks, 0);
	EXPECT(600, 1);
}

static void
empty_wheel_wants_nothing(void **state) {
	uint32_t ticks;

	(void)state;
	begin(77);
	assert_false(timer_wheel_next(&wheel, &ticks));
	add(80, 1);
	EXPECT(80, 1);
	assert_false(timer_wheel_next(&wheel, &ticks));
}

/* Sleeping from one deadline to the next meets a far timer in a few steps. */
static void
far_timer_costs_few_wake_ups(void **state) {
	uint32_t now = 12345, tick = now + 360000 * 24, ticks;
	int steps = 0;
	struct timer_list list = {NULL};

	(void)state;
	begin(now);
	add(tick, 1);
	while (list.tail == NULL) {
		assert_true(timer_wheel_next(&wheel, &ticks));
		assert_true(ticks > 0 && ticks <= tick - now);
		now += ticks;
		timer_wheel_advance(&wheel, now, &list);
		steps++;
	}
	assert_int_equal(now, tick);
	assert_true(steps <= TIMER_LEVELS + 1);
}

/* Random arming and advancing against a list that is searched naively. */
static void
random_operations_match_a_model(void **state) {
	struct unit_random r = unit_random_seed();
	uint32_t now = (uint32_t)unit_random_next(&r);
	static bool is_pending[MAX_NODES];
	int round, i;

	(void)state;
	begin(now);
	for (round = 0; round < 4000; round++) {
		uint32_t step;
		struct timer_list list = {NULL};
		struct timer_node *n, *before = NULL;

		if (node_count < MAX_NODES) {
			/* Delays of all magnitudes. */
			uint32_t delay =
			    1 + (uint32_t)(unit_random_next(&r) >> (33 + unit_random_below(&r, 31)));
			is_pending[node_count] = true;
			add(now + delay, node_count);
		}
		step = (uint32_t)(unit_random_next(&r) >> (36 + unit_random_below(&r, 28)));
		now += step;
		timer_wheel_advance(&wheel, now, &list);
		while ((n = timer_list_pop(&list)) != NULL) {
			assert_true(is_pending[n->session]);
			is_pending[n->session] = false;
			assert_true((int32_t)(now - n->expire) >= 0);
			if (before) {
				int32_t apart = (int32_t)(n->expire - before->expire);
				assert_true(apart > 0 || (apart == 0 && n->session > before->session));
			}
			before = n;
		}
		for (i = 0; i < node_count; i++) {
			assert_true(!is_pending[i] || (int32_t)(nodes[i].expire - now) > 0);
		}
	}
}

static void
clear_gives_every_node_back(void **state) {
	struct timer_list list = {NULL};
	int n = 0, i;

	(void)state;
	begin(0);
	for (i = 0; i < 100; i++) {
		add((uint32_t)(i * i * i * 100), i);
	}
	timer_wheel_clear(&wheel, &list);
	while (timer_list_pop(&list)) {
		n++;
	}
	assert_int_equal(n, 100);
}

/*--------------------------------------------------------------- real clock */

static void
now_starts_at_the_fraction_of_the_start_second(void **state) {
	uint64_t before = platform_wallclock_ns();
	uint64_t now, wall;

	(void)state;
	skynet_timer_init();
	now = skynet_now();
	wall = skynet_starttime() * UINT64_C(100) + now;
	assert_true(wall >= before / 10000000);
	assert_true(wall <= platform_wallclock_ns() / 10000000);
	assert_true(skynet_now() >= now);
	skynet_timer_exit();
}

static void
timeout_at_a_dead_handle_fails_only_when_immediate(void **state) {
	(void)state;
	skynet_timer_init();
	assert_int_equal(skynet_timeout(0xdead, 0, 7), -1);
	assert_int_equal(skynet_timeout(0xdead, -5, 7), -1);
	assert_int_equal(skynet_timeout(0xdead, 100, 7), 7);
	assert_int_equal(skynet_timeout(0xdead, INT32_MAX, 8), 8);
	skynet_updatetime();
	skynet_timer_exit();
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(expires_on_its_tick_and_not_before),
	    cmocka_unit_test(one_tick_keeps_the_order_of_arming),
	    cmocka_unit_test(order_survives_the_way_down_the_levels),
	    cmocka_unit_test(catching_up_gives_everything_in_order_of_ticks),
	    cmocka_unit_test(armed_for_a_tick_that_has_passed_is_due_at_once),
	    cmocka_unit_test(tick_counter_may_wrap),
	    cmocka_unit_test(longest_delay_is_exact),
	    cmocka_unit_test(longest_delay_is_exact_after_a_long_rest),
	    cmocka_unit_test(touching_skips_no_timer),
	    cmocka_unit_test(empty_wheel_wants_nothing),
	    cmocka_unit_test(far_timer_costs_few_wake_ups),
	    cmocka_unit_test(random_operations_match_a_model),
	    cmocka_unit_test(clear_gives_every_node_back),
	    cmocka_unit_test(now_starts_at_the_fraction_of_the_start_second),
	    cmocka_unit_test(timeout_at_a_dead_handle_fails_only_when_immediate),
	};

	return cmocka_run_group_tests_name("timer", tests, NULL, NULL);
}
