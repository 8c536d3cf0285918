/* Epochs: nothing is freed while a section that may have seen it lasts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "epoch.h"
#include "platform.h"

static void
passes_at_once_when_nobody_is_inside(void **state) {
	(void)state;
	assert_true(epoch_passed(epoch_retire()));
	epoch_enter();
	epoch_exit();
	assert_true(epoch_passed(epoch_retire()));
}

static void
section_that_began_before_holds_it_up(void **state) {
	uint64_t e;

	(void)state;
	epoch_enter();
	e = epoch_retire();
	assert_false(epoch_passed(e));
	epoch_exit();
	assert_true(epoch_passed(e));
}

static void
section_that_began_after_does_not(void **state) {
	uint64_t e;

	(void)state;
	e = epoch_retire();
	epoch_enter();
	assert_true(epoch_passed(e));
	epoch_exit();
}

static void
sections_nest(void **state) {
	uint64_t e;

	(void)state;
	epoch_enter();
	epoch_enter();
	e = epoch_retire();
	epoch_exit();
	assert_false(epoch_passed(e));
	epoch_exit();
	assert_true(epoch_passed(e));
}

static void *
enter_once(void *unused) {
	epoch_enter();
	epoch_exit();
	return unused;
}

static void
threads_come_and_go(void **state) {
	int i;

	(void)state;
	for (i = 0; i < 200; i++) {
		pthread_t t;
		pthread_create(&t, NULL, enter_once, NULL);
		pthread_join(t, NULL);
	}
	assert_true(epoch_passed(epoch_retire()));
}

/*------------------------------------------------------------------- stress */

#define READERS 3
#define ROUNDS 20000
#define ALIVE 0x600d600d
#define DEAD 0xdeaddead

/* The published object; its word is wiped before it is used again. */
static _Atomic(uint32_t *) shared;
static atomic_bool is_over;

static void *
reader(void *unused) {
	intptr_t bad = 0;

	(void)unused;
	while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
		epoch_enter();
		uint32_t *p = atomic_load(&shared);
		bad += *p != ALIVE;
		epoch_exit();
	}
	return (void *)bad;
}

static void
readers_never_see_what_was_freed(void **state) {
	static uint32_t objects[2] = {ALIVE, DEAD};
	pthread_t threads[READERS];
	int i;

	(void)state;
	atomic_store(&shared, &objects[0]);
	for (i = 0; i < READERS; i++) {
		pthread_create(&threads[i], NULL, reader, NULL);
	}
	for (i = 1; i <= ROUNDS; i++) {
		/* Plain accesses: the thread checker proves the order as well. */
		objects[i % 2] = ALIVE;
		atomic_store(&shared, &objects[i % 2]);
		epoch_wait(epoch_retire());
		objects[(i + 1) % 2] = DEAD;
	}
	atomic_store(&is_over, true);
	for (i = 0; i < READERS; i++) {
		void *bad;
		pthread_join(threads[i], &bad);
		assert_null(bad);
	}
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(passes_at_once_when_nobody_is_inside),
	    cmocka_unit_test(section_that_began_before_holds_it_up),
	    cmocka_unit_test(section_that_began_after_does_not),
	    cmocka_unit_test(sections_nest),
	    cmocka_unit_test(threads_come_and_go),
	    cmocka_unit_test(readers_never_see_what_was_freed),
	};

	return cmocka_run_group_tests_name("epoch", tests, NULL, NULL);
}
