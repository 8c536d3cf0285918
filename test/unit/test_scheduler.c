/*
 * The scheduler with runnables of our own: everything runs exactly as often as
 * it is made runnable, with one worker and with many, and nobody sleeps through
 * work.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "platform.h"
#include "runqueue.h"
#include "scheduler.h"
#include "unit_random.h"

#define MAX_WORKERS 16

/* A bound against hanging for ever; reached only when a test fails. */
#define LIMIT_NS UINT64_C(100000000000)

static pthread_t threads[MAX_WORKERS];
static int worker_count;

static void *
work(void *index) {
	scheduler_work((int)(intptr_t)index);
	return NULL;
}

static void
begin(int count) {
	int i;

	scheduler_init(count);
	worker_count = count;
	for (i = 0; i < count; i++) {
		pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i);
	}
}

static void
end(void) {
	int i;

	scheduler_stop();
	for (i = 0; i < worker_count; i++) {
		pthread_join(threads[i], NULL);
	}
	scheduler_exit();
}

static void
wait_for(_Atomic(int) *counter, int value) {
	uint64_t start = platform_monotonic_ns();

	while (atomic_load(counter) < value) {
		if (platform_monotonic_ns() - start > LIMIT_NS) {
			fail_msg("stuck at %d of %d", atomic_load(counter), value);
		}
		platform_yield();
	}
}

static void
wait_until_asleep(void) {
	uint64_t start = platform_monotonic_ns();

	while (!scheduler_is_asleep()) {
		if (platform_monotonic_ns() - start > LIMIT_NS) {
			fail_msg("workers do not go to sleep");
		}
		platform_yield();
	}
}

/*------------------------------------------------------------------ run queue */

static void
run_queue_is_a_bounded_fifo(void **state) {
	static struct runqueue q;
	static struct runnable items[RUNQUEUE_SIZE + 1];
	int i, round;

	(void)state;
	runqueue_init(&q);
	/* Near the wrap of the 32-bit counters. */
	atomic_store(&q.head, UINT32_MAX - 100);
	atomic_store(&q.tail, UINT32_MAX - 100);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < RUNQUEUE_SIZE; i++) {
			assert_true(runqueue_push(&q, &items[i]));
		}
		assert_false(runqueue_push(&q, &items[i]));
		assert_int_equal(runqueue_length(&q), RUNQUEUE_SIZE);
		for (i = 0; i < RUNQUEUE_SIZE; i++) {
			assert_ptr_equal(runqueue_pop(&q), &items[i]);
		}
		assert_null(runqueue_pop(&q));
	}
}

static void
thief_takes_the_older_half(void **state) {
	static struct runqueue from, into;
	static struct runnable items[7];
	int i;

	(void)state;
	runqueue_init(&from);
	runqueue_init(&into);
	assert_null(runqueue_steal(&from, &into));
	for (i = 0; i < 7; i++) {
		runqueue_push(&from, &items[i]);
	}
	assert_ptr_equal(runqueue_steal(&from, &into), &items[0]);
	for (i = 1; i < 4; i++) {
		assert_ptr_equal(runqueue_pop(&into), &items[i]);
	}
	assert_null(runqueue_pop(&into));
	for (; i < 7; i++) {
		assert_ptr_equal(runqueue_pop(&from), &items[i]);
	}
	runqueue_push(&from, &items[0]);
	assert_ptr_equal(runqueue_steal(&from, &into), &items[0]);
	assert_int_equal(runqueue_length(&from), 0);
}

static void
thief_takes_no_more_than_it_has_room_for(void **state) {
	static struct runqueue from, into;
	static struct runnable items[10], full[RUNQUEUE_SIZE];
	int i;

	(void)state;
	runqueue_init(&from);
	runqueue_init(&into);
	for (i = 0; i < 10; i++) {
		runqueue_push(&from, &items[i]);
	}
	for (i = 0; i < RUNQUEUE_SIZE - 2; i++) {
		runqueue_push(&into, &full[i]);
	}
	assert_ptr_equal(runqueue_steal(&from, &into), &items[0]);
	assert_int_equal(runqueue_length(&into), RUNQUEUE_SIZE);
	assert_ptr_equal(runqueue_steal(&from, &into), &items[3]);
	assert_int_equal(runqueue_length(&into), RUNQUEUE_SIZE);
	for (i = 0; i < RUNQUEUE_SIZE - 2; i++) {
		assert_ptr_equal(runqueue_pop(&into), &full[i]);
	}
	assert_ptr_equal(runqueue_pop(&into), &items[1]);
	assert_ptr_equal(runqueue_pop(&into), &items[2]);
	assert_int_equal(runqueue_length(&from), 6);
}

/*-------------------------------------------------------------------- running */

/* More than two workers' queues hold. */
#define ITEMS (3 * RUNQUEUE_SIZE)

struct item {
	struct runnable r;
	_Atomic(int) runs;
	_Atomic(int) is_running;
	int left; /* times it makes itself runnable again */
};

static struct item items[ITEMS];
static _Atomic(int) total_runs;

static void
run_item(struct runnable *r, struct worker *w) {
	struct item *it = (struct item *)r;

	assert_true(w == scheduler_current());
	if (atomic_exchange(&it->is_running, 1) != 0) {
		abort();
	}
	atomic_fetch_add(&it->runs, 1);
	int again = it->left-- > 0;
	atomic_store(&it->is_running, 0);
	if (again) {
		scheduler_push(r);
	}
	atomic_fetch_add(&total_runs, 1);
}

static void
reset_items(int left) {
	int i;

	atomic_store(&total_runs, 0);
	for (i = 0; i < ITEMS; i++) {
		items[i].r.run = run_item;
		items[i].left = left;
		atomic_store(&items[i].runs, 0);
		atomic_store(&items[i].is_running, 0);
	}
}

static void
check_all_run_once(int workers) {
	int i;

	reset_items(0);
	begin(workers);
	for (i = 0; i < ITEMS; i++) {
		scheduler_push(&items[i].r);
	}
	wait_for(&total_runs, ITEMS);
	end();
	for (i = 0; i < ITEMS; i++) {
		assert_int_equal(atomic_load(&items[i].runs), 1);
	}
}

static void
everything_pushed_runs_once(void **state) {
	(void)state;
	check_all_run_once(1);
	check_all_run_once(2);
	check_all_run_once(MAX_WORKERS);
}

static struct runnable gate;
static atomic_bool is_gate_open;

/* Holds a worker until it is opened. */
static void
run_gate(struct runnable *r, struct worker *w) {
	(void)r;
	(void)w;
	while (!atomic_load(&is_gate_open)) {
		platform_yield();
	}
}

/* More runnables than local queues hold, all of them busy for ever. */
static void
check_fairness(int workers) {
	enum { ROUNDS = 20 };
	int i, least = INT_MAX, most = 0;

	reset_items(1 << 30);
	gate.run = run_gate;
	atomic_store(&is_gate_open, false);
	begin(workers);
	/* They begin together, or those that are pushed first could run for long alone. */
	scheduler_push(&gate);
	for (i = 0; i < ITEMS; i++) {
		scheduler_push(&items[i].r);
	}
	atomic_store(&is_gate_open, true);
	/* Everybody's turn comes again and again, however slow the machine. */
	for (i = 0; i < ITEMS; i++) {
		wait_for(&items[i].runs, ROUNDS);
	}
	end();
	for (i = 0; i < ITEMS; i++) {
		int runs = atomic_load(&items[i].runs);
		least = runs < least ? runs : least;
		most = runs > most ? runs : most;
	}
	/* Among several workers the system decides who gets a CPU. */
	if (workers == 1) {
		assert_true(most < least * 10);
	}
}

static void
nobody_starves_among_the_busy(void **state) {
	(void)state;
	check_fairness(1);
	check_fairness(2);
}

/*------------------------------------------------------------------- stealing */

static struct runnable blocker, behind;
static _Atomic(int) is_behind_done, is_blocker_done;
static atomic_bool is_given_up;

static void
run_behind(struct runnable *r, struct worker *w) {
	(void)r;
	(void)w;
	atomic_store(&is_behind_done, 1);
}

/* Makes another one runnable, and then does not return until that has run. */
static void
run_blocker(struct runnable *r, struct worker *w) {
	uint64_t start = platform_monotonic_ns();

	(void)r;
	(void)w;
	scheduler_push(&behind);
	while (!atomic_load(&is_behind_done)) {
		if (platform_monotonic_ns() - start > LIMIT_NS) {
			atomic_store(&is_given_up, true);
			break;
		}
		platform_yield();
	}
	atomic_store(&is_blocker_done, 1);
}

static void
work_behind_a_spinning_callback_is_stolen(void **state) {
	int i;

	(void)state;
	blocker.run = run_blocker;
	behind.run = run_behind;
	begin(2);
	for (i = 0; i < 20; i++) {
		atomic_store(&is_behind_done, 0);
		atomic_store(&is_blocker_done, 0);
		if (i % 2) {
			wait_until_asleep();
		}
		scheduler_push(&blocker);
		wait_for(&is_blocker_done, 1);
	}
	assert_false(atomic_load(&is_given_up));
	end();
}

static struct runnable player;

/* Keeps its worker busy with short turns until the work behind is done. */
static void
run_player(struct runnable *r, struct worker *w) {
	(void)w;
	if (!atomic_load(&is_blocker_done)) {
		scheduler_push(r);
	}
}

static void
work_behind_a_spinning_callback_is_rescued_by_the_busy(void **state) {
	int i;

	(void)state;
	blocker.run = run_blocker;
	behind.run = run_behind;
	player.run = run_player;
	for (i = 0; i < 5; i++) {
		begin(2);
		atomic_store(&is_behind_done, 0);
		atomic_store(&is_blocker_done, 0);
		scheduler_push(&player);
		scheduler_push(&blocker);
		wait_for(&is_blocker_done, 1);
		end();
	}
	assert_false(atomic_load(&is_given_up));
}

/*------------------------------------------------------------------ wake-ups */

/* Each push from outside meets workers that are about to sleep, or asleep. */
static void
check_no_lost_wakeups(int workers) {
	enum { PUSHES = 3000 };
	struct unit_random r = unit_random_seed();
	int i;

	reset_items(0);
	begin(workers);
	for (i = 0; i < PUSHES; i++) {
		uint32_t pause = unit_random_below(&r, 3000);
		struct item *it = &items[i % ITEMS];
		it->left = 0;
		scheduler_push(&it->r);
		wait_for(&total_runs, i + 1);
		while (pause-- > 0) {
			platform_cpu_relax();
		}
	}
	end();
}

static void
no_push_is_slept_through(void **state) {
	(void)state;
	check_no_lost_wakeups(1);
	check_no_lost_wakeups(2);
	check_no_lost_wakeups(4);
}

/* Chains: each item pushes another random one that is not queued. */
#define CHAIN_ITEMS 64
#define HOPS 60000

static struct chain_item {
	struct runnable r;
	_Atomic(int) is_free;
} chain_items[CHAIN_ITEMS];
static _Atomic(int) hops;
static _Atomic(uint64_t) chain_seed;

static void
run_chain(struct runnable *r, struct worker *w) {
	struct chain_item *me = (struct chain_item *)r;
	struct unit_random rnd = {atomic_fetch_add(&chain_seed, 7919)};
	int spin = (int)unit_random_below(&rnd, 200);

	(void)w;
	while (spin-- > 0) {
		platform_cpu_relax();
	}
	atomic_store(&me->is_free, 1);
	if (atomic_fetch_add(&hops, 1) >= HOPS) {
		return;
	}
	for (;;) {
		struct chain_item *next = &chain_items[unit_random_below(&rnd, CHAIN_ITEMS)];
		int one = 1;
		if (atomic_compare_exchange_strong(&next->is_free, &one, 0)) {
			scheduler_push(&next->r);
			return;
		}
	}
}

static void
check_chains(int workers, int chains) {
	struct unit_random r = unit_random_seed();
	int i;

	atomic_store(&hops, 0);
	atomic_store(&chain_seed, unit_random_next(&r));
	for (i = 0; i < CHAIN_ITEMS; i++) {
		chain_items[i].r.run = run_chain;
		atomic_store(&chain_items[i].is_free, i >= chains);
	}
	begin(workers);
	for (i = 0; i < chains; i++) {
		scheduler_push(&chain_items[i].r);
	}
	wait_for(&hops, HOPS + chains);
	wait_until_asleep();
	end();
}

static void
chains_of_work_never_break_and_then_all_sleep(void **state) {
	(void)state;
	check_chains(1, 1);
	check_chains(2, 1);
	check_chains(4, 3);
	check_chains(MAX_WORKERS, 8);
}

/*------------------------------------------------------------------- the rest */

static _Atomic(int) rouses;

static void
count_rouse(void) {
	atomic_fetch_add(&rouses, 1);
}

static void
first_wake_up_after_rest_is_reported(void **state) {
	(void)state;
	atomic_store(&rouses, 0);
	reset_items(0);
	scheduler_on_rouse(count_rouse);
	begin(3);
	wait_until_asleep();
	scheduler_push(&items[0].r);
	wait_for(&total_runs, 1);
	wait_for(&rouses, 1);
	scheduler_on_rouse(NULL);
	end();
}

static void
drain_runs_what_no_worker_will(void **state) {
	(void)state;
	reset_items(1);
	scheduler_init(2);
	scheduler_push(&items[0].r);
	scheduler_push(&items[1].r);
	scheduler_drain();
	assert_int_equal(atomic_load(&total_runs), 4);
	assert_null(scheduler_current());
	scheduler_exit();
}

static void
weights_follow_the_number_of_the_worker(void **state) {
	static const struct {
		int worker, weight;
	} known[] = {
	    {0, -1}, {3, -1}, {4, 0},  {7, 0},  {8, 1},  {15, 1},
	    {16, 2}, {23, 2}, {24, 3}, {31, 3}, {32, 0}, {39, 0},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		assert_int_equal(scheduler_weight_of(known[i].worker), known[i].weight);
	}
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(run_queue_is_a_bounded_fifo),
	    cmocka_unit_test(thief_takes_the_older_half),
	    cmocka_unit_test(thief_takes_no_more_than_it_has_room_for),
	    cmocka_unit_test(everything_pushed_runs_once),
	    cmocka_unit_test(nobody_starves_among_the_busy),
	    cmocka_unit_test(work_behind_a_spinning_callback_is_stolen),
	    cmocka_unit_test(work_behind_a_spinning_callback_is_rescued_by_the_busy),
	    cmocka_unit_test(no_push_is_slept_through),
	    cmocka_unit_test(chains_of_work_never_break_and_then_all_sleep),
	    cmocka_unit_test(first_wake_up_after_rest_is_reported),
	    cmocka_unit_test(drain_runs_what_no_worker_will),
	    cmocka_unit_test(weights_follow_the_number_of_the_worker),
	};

	platform_init();
	return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
