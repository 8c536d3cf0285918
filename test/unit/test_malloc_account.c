/* The counters on their own, so that every sanitizer can watch them. */
#include "malloc_account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Handles that no other part of this process is charged to. */
#define BASE 0x01000000u

static void
assert_holds(uint32_t handle, int64_t bytes, int64_t blocks) {
	struct malloc_account a = malloc_account_of(handle);
	assert_int_equal(a.handle, handle);
	assert_int_equal(a.bytes, bytes);
	assert_int_equal(a.blocks, blocks);
}

static void
charge(uint32_t handle, int64_t bytes, int64_t blocks) {
	if (!malloc_account_try_add(handle, bytes, blocks)) {
		malloc_account_add(handle, bytes, blocks);
	}
}

static void
unknown_handle_holds_nothing(void **state) {
	(void)state;
	assert_holds(BASE + 1, 0, 0);
}

static void
handles_with_equal_low_bits_are_separate(void **state) {
	(void)state;
	for (uint32_t i = 0; i < 10; i++) {
		charge(BASE + 5 + (i << 16), i + 1, 1);
	}
	for (uint32_t i = 0; i < 10; i++) {
		assert_holds(BASE + 5 + (i << 16), i + 1, 1);
	}
	for (uint32_t i = 0; i < 10; i++) {
		charge(BASE + 5 + (i << 16), -(int64_t)(i + 1), -1);
		assert_holds(BASE + 5 + (i << 16), 0, 0);
	}
}

static void
pseudo_handles_count(void **state) {
	(void)state;
	for (uint32_t h = 0xfffffffcu; h != 0; h++) {
		struct malloc_account was = malloc_account_of(h);
		charge(h, 100, 1);
		assert_holds(h, was.bytes + 100, was.blocks + 1);
		charge(h, -100, -1);
	}
}

/* Lines of the listing within [first, first + n), and their sums. */
static struct malloc_account
sum_listed(uint32_t first, uint32_t n, size_t *lines) {
	struct malloc_account *list;
	size_t len = malloc_account_list(&list);
	struct malloc_account sum = {0};
	*lines = 0;
	for (size_t i = 0; i < len; i++) {
		assert_true(i == 0 || list[i].handle > list[i - 1].handle);
		if (list[i].handle - first < n) {
			sum.bytes += list[i].bytes;
			sum.blocks += list[i].blocks;
			(*lines)++;
		}
	}
	malloc_account_list_free(list, len);
	return sum;
}

static void
listing_forgets_who_holds_nothing(void **state) {
	(void)state;
	enum { N = 50000 };
	size_t lines;
	for (uint32_t i = 0; i < N; i++) {
		charge(BASE + 0x10000 + i, 10, 1);
	}
	struct malloc_account sum = sum_listed(BASE + 0x10000, N, &lines);
	assert_int_equal(lines, N);
	assert_int_equal(sum.bytes, 10 * N);
	assert_int_equal(sum.blocks, N);
	for (uint32_t i = 0; i < N; i++) {
		if (i % 1000 != 0) {
			charge(BASE + 0x10000 + i, -10, -1);
		}
	}
	sum = sum_listed(BASE + 0x10000, N, &lines);
	assert_int_equal(lines, N / 1000);
	assert_int_equal(sum.bytes, 10 * (N / 1000));
	for (uint32_t i = 0; i < N; i += 1000) {
		charge(BASE + 0x10000 + i, -10, -1);
	}
	sum_listed(BASE + 0x10000, N, &lines);
	assert_int_equal(lines, 0);
}

enum { THREADS = 4, HANDLES = 700, STEPS = 60000 };

struct worker {
	pthread_t id;
	uint64_t seed;
	int64_t expected[HANDLES];
};

/* Random charges; every handle is visited by every thread. */
static void *
work(void *arg) {
	struct worker *w = arg;
	for (int i = 0; i < STEPS; i++) {
		w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
		uint32_t h = (uint32_t)(w->seed >> 33) % HANDLES;
		int64_t bytes = (int64_t)((w->seed >> 20) % 1000) - 400;
		w->expected[h] += bytes;
		charge(BASE + 0x100000 + h, bytes, 1);
	}
	return NULL;
}

static _Atomic bool is_over;
static _Atomic bool is_watched;

/* Reads all the time while others write. Its figures mean nothing then, but it
 * must neither race nor block. */
static void *
watch(void *arg) {
	while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
		size_t lines;
		sum_listed(BASE + 0x100000, HANDLES, &lines);
		malloc_account_total();
		malloc_account_of(BASE + 0x100000);
		atomic_store_explicit(&is_watched, true, memory_order_relaxed);
	}
	return arg;
}

static void
threads_add_up(void **state) {
	(void)state;
	struct worker *w = calloc(THREADS, sizeof(*w));
	struct malloc_account before = malloc_account_total();
	pthread_t watcher;
	is_over = false;
	assert_int_equal(pthread_create(&watcher, NULL, watch, NULL), 0);
	while (!atomic_load_explicit(&is_watched, memory_order_relaxed)) {
		sched_yield();
	}
	for (int i = 0; i < THREADS; i++) {
		w[i].seed = 20261121u + (unsigned)i;
		assert_int_equal(pthread_create(&w[i].id, NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(w[i].id, NULL);
	}
	atomic_store_explicit(&is_over, true, memory_order_relaxed);
	pthread_join(watcher, NULL);

	int64_t total = 0;
	for (uint32_t h = 0; h < HANDLES; h++) {
		int64_t bytes = 0;
		for (int i = 0; i < THREADS; i++) {
			bytes += w[i].expected[h];
		}
		assert_int_equal(malloc_account_of(BASE + 0x100000 + h).bytes, bytes);
		total += bytes;
	}
	size_t lines;
	struct malloc_account sum = sum_listed(BASE + 0x100000, HANDLES, &lines);
	assert_int_equal(sum.bytes, total);
	assert_int_equal(sum.blocks, THREADS * STEPS);
	/* Starting threads may allocate too: only the blocks of ours are certain. */
	struct malloc_account after = malloc_account_total();
	assert_true(after.blocks - before.blocks >= THREADS * STEPS);
	for (uint32_t h = 0; h < HANDLES; h++) {
		struct malloc_account a = malloc_account_of(BASE + 0x100000 + h);
		charge(a.handle, -a.bytes, -a.blocks);
		assert_holds(a.handle, 0, 0);
	}
	free(w);
}

static void *
charge_and_end(void *arg) {
	charge(*(uint32_t *)arg, 1000, 1);
	return NULL;
}

static void
figures_of_ended_threads_stay(void **state) {
	(void)state;
	uint32_t h = BASE + 9;
	for (int i = 1; i <= 20; i++) {
		pthread_t id;
		assert_int_equal(pthread_create(&id, NULL, charge_and_end, &h), 0);
		pthread_join(id, NULL);
		assert_holds(h, 1000 * i, i);
	}
	charge(h, -20000, -20);
	assert_holds(h, 0, 0);
}

static pthread_key_t late_key;

static void
charge_late(void *arg) {
	charge(*(uint32_t *)arg, 7, 1);
}

static void *
leave_work_for_destructor(void *arg) {
	charge(*(uint32_t *)arg, 1, 1);
	pthread_setspecific(late_key, arg);
	return NULL;
}

static void
destructors_of_threads_still_count(void **state) {
	(void)state;
	uint32_t h = BASE + 10;
	assert_int_equal(pthread_key_create(&late_key, charge_late), 0);
	pthread_t id;
	assert_int_equal(pthread_create(&id, NULL, leave_work_for_destructor, &h), 0);
	pthread_join(id, NULL);
	assert_holds(h, 8, 2);
	charge(h, -8, -2);
	pthread_key_delete(late_key);
}

static void *
keep_charging(void *arg) {
	uint32_t h = *(uint32_t *)arg;
	while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
		/* Two handles of one slot: each charge takes a shard's lock. */
		charge(h, 1, 0);
		charge(h + MALLOC_ACCOUNT_SLOTS, 1, 0);
	}
	return NULL;
}

static void
child_of_a_busy_process_can_count(void **state) {
	(void)state;
	uint32_t h = BASE + 11;
	pthread_t id;
	is_over = false;
	assert_int_equal(pthread_create(&id, NULL, keep_charging, &h), 0);
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			charge(h + 1, 5, 1);
			charge(h + 1 + MALLOC_ACCOUNT_SLOTS, 5, 1);
			struct malloc_account a = malloc_account_of(h + 1);
			_exit(a.bytes == 5 && a.blocks == 1 && malloc_account_total().blocks >= 2 ? 0 : 1);
		}
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	atomic_store_explicit(&is_over, true, memory_order_relaxed);
	pthread_join(id, NULL);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(unknown_handle_holds_nothing),
	    cmocka_unit_test(handles_with_equal_low_bits_are_separate),
	    cmocka_unit_test(pseudo_handles_count),
	    cmocka_unit_test(listing_forgets_who_holds_nothing),
	    cmocka_unit_test(threads_add_up),
	    cmocka_unit_test(figures_of_ended_threads_stay),
	    cmocka_unit_test(destructors_of_threads_still_count),
	    cmocka_unit_test(child_of_a_busy_process_can_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
