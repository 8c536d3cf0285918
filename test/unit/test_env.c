/* The node environment: written once, read by anybody at any time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "skynet_env.h"

#define THREADS 4
#define KEYS 2000

static void
absent_key_reads_null(void **state) {
	(void)state;
	assert_null(skynet_getenv("env.absent"));
}

static void
added_value_reads_back(void **state) {
	(void)state;
	assert_int_equal(skynet_env_add("env.k", "v w"), 0);
	assert_string_equal(skynet_getenv("env.k"), "v w");
}

static void
empty_value_and_empty_key_are_legal(void **state) {
	(void)state;
	assert_int_equal(skynet_env_add("env.empty", ""), 0);
	assert_string_equal(skynet_getenv("env.empty"), "");
	assert_int_equal(skynet_env_add("", "x"), 0);
	assert_string_equal(skynet_getenv(""), "x");
}

static void
second_write_is_refused_and_changes_nothing(void **state) {
	(void)state;
	assert_int_equal(skynet_env_add("env.once", "first"), 0);
	assert_int_equal(skynet_env_add("env.once", "second"), -1);
	skynet_setenv("env.once", "third");
	assert_string_equal(skynet_getenv("env.once"), "first");
}

static void
setenv_adds_like_add(void **state) {
	(void)state;
	skynet_setenv("env.set", "1");
	assert_string_equal(skynet_getenv("env.set"), "1");
}

static void
values_are_copied_and_stay_where_they_are(void **state) {
	(void)state;
	char key[] = "env.copy";
	char value[] = "original";
	skynet_env_add(key, value);
	const char *stored = skynet_getenv("env.copy");
	memset(key, 'x', sizeof(key) - 1);
	memset(value, 'x', sizeof(value) - 1);
	for (int i = 0; i < 1000; i++) {
		char name[32];
		snprintf(name, sizeof(name), "env.fill%d", i);
		skynet_env_add(name, "filler");
	}
	assert_ptr_equal(skynet_getenv("env.copy"), stored);
	assert_string_equal(stored, "original");
}

static void
value_larger_than_a_page_is_kept(void **state) {
	(void)state;
	static char big[100000];
	memset(big, 'b', sizeof(big) - 1);
	assert_int_equal(skynet_env_add("env.big", big), 0);
	assert_int_equal(strlen(skynet_getenv("env.big")), sizeof(big) - 1);
}

/* All threads write the same keys; each key must have exactly one winner. */
static void *
writer(void *arg) {
	intptr_t id = (intptr_t)arg;
	intptr_t won = 0;
	for (int i = 0; i < KEYS; i++) {
		char key[32];
		char value[32];
		snprintf(key, sizeof(key), "env.race%d", i);
		snprintf(value, sizeof(value), "%d by %d", i, (int)id);
		won += skynet_env_add(key, value) == 0;
		int got = -1;
		const char *stored = skynet_getenv(key);
		if (stored == NULL || sscanf(stored, "%d by", &got) != 1 || got != i) {
			return (void *)(intptr_t)-1;
		}
	}
	return (void *)won;
}

static void
concurrent_writers_have_one_winner_per_key(void **state) {
	(void)state;
	pthread_t thread[THREADS];
	for (intptr_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&thread[i], NULL, writer, (void *)i), 0);
	}
	intptr_t sum = 0;
	for (int i = 0; i < THREADS; i++) {
		void *won;
		pthread_join(thread[i], &won);
		assert_true((intptr_t)won >= 0);
		sum += (intptr_t)won;
	}
	assert_int_equal(sum, KEYS);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(absent_key_reads_null),
	    cmocka_unit_test(added_value_reads_back),
	    cmocka_unit_test(empty_value_and_empty_key_are_legal),
	    cmocka_unit_test(second_write_is_refused_and_changes_nothing),
	    cmocka_unit_test(setenv_adds_like_add),
	    cmocka_unit_test(values_are_copied_and_stay_where_they_are),
	    cmocka_unit_test(value_larger_than_a_page_is_kept),
	    cmocka_unit_test(concurrent_writers_have_one_winner_per_key),
	};
	return cmocka_run_group_tests_name("env", tests, NULL, NULL);
}
