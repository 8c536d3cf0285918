/*
 * The module loader, on libraries that the compiler makes on the spot out of a
 * few lines each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

#include "skynet_module.h"

#define THREADS 4

static char directory[] = "/tmp/skynet-module-XXXXXX";

/* Compile DIR/name.so from `source`; `prefix` stands for P in it. */
static void
build(const char *name, const char *prefix, const char *source) {
	char path[128];
	snprintf(path, sizeof(path), "%s/%s.c", directory, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "#define N2(a, b) a##b\n#define N1(a, b) N2(a, b)\n#define N(b) N1(%s, b)\n%s\n",
	        prefix, source);
	fclose(f);
	char command[512];
	snprintf(command, sizeof(command), "cc -shared -fPIC -w -o %s/%s.so %s", directory, name, path);
	assert_int_equal(system(command), 0);
}

static const char WHOLE[] = "static int made, freed, sig;\n"
                            "void *N(_create)(void) { made++; return &made; }\n"
                            "int N(_init)(void *i, void *c, char *p) { return p ? *p : -1; }\n"
                            "void N(_release)(void *i) { freed++; }\n"
                            "void N(_signal)(void *i, int s) { *(int *)i = s; }\n";

static int
setup(void **state) {
	(void)state;
	if (mkdtemp(directory) == NULL) {
		return -1;
	}
	char path[256];
	snprintf(path, sizeof(path), "./nowhere.so;;%s/missing/?.so;%s/?.so;", directory, directory);
	skynet_module_init(path);
	return 0;
}

static int
teardown(void **state) {
	(void)state;
	char command[64];
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command);
}

static void
templates_without_question_mark_do_not_count(void **state) {
	(void)state;
	assert_int_equal(skynet_module_path_count(""), 0);
	assert_int_equal(skynet_module_path_count(";;"), 0);
	assert_int_equal(skynet_module_path_count("a.so"), 0);
	assert_int_equal(skynet_module_path_count("./?.so"), 1);
	assert_int_equal(skynet_module_path_count("a.so;b/?.so;;c/?/?.so"), 2);
}

static void
module_is_loaded_once(void **state) {
	(void)state;
	build("whole", "whole", WHOLE);
	struct skynet_module *m = skynet_module_query("whole");
	assert_non_null(m);
	assert_string_equal(m->name, "whole");
	assert_ptr_equal(skynet_module_query("whole"), m);
}

static void
functions_are_called_with_their_arguments(void **state) {
	(void)state;
	build("calls", "calls", WHOLE);
	struct skynet_module *m = skynet_module_query("calls");
	assert_non_null(m);
	int *inst = skynet_module_instance_create(m);
	assert_int_equal(*inst, 1);
	assert_int_equal(skynet_module_instance_init(m, inst, NULL, "a"), 'a');
	assert_int_equal(skynet_module_instance_init(m, inst, NULL, NULL), -1);
	skynet_module_instance_signal(m, inst, 16);
	assert_int_equal(*inst, 16);
	skynet_module_instance_release(m, inst);
}

static void
only_init_is_required(void **state) {
	(void)state;
	build("bare", "bare", "int N(_init)(void *i, void *c, char *p) { return i == (void *)-1L; }");
	struct skynet_module *m = skynet_module_query("bare");
	assert_non_null(m);
	void *inst = skynet_module_instance_create(m);
	assert_ptr_equal(inst, (void *)~(uintptr_t)0);
	assert_int_equal(skynet_module_instance_init(m, inst, NULL, NULL), 1);
	skynet_module_instance_signal(m, inst, 1);
	skynet_module_instance_release(m, inst);
}

static void
library_without_init_is_no_module(void **state) {
	(void)state;
	build("noinit", "noinit", "void *N(_create)(void) { return 0; }");
	assert_null(skynet_module_query("noinit"));
	assert_null(skynet_module_query("noinit"));
}

static void
create_that_returns_null_is_passed_on(void **state) {
	(void)state;
	build("nothing", "nothing",
	      "void *N(_create)(void) { return 0; } int N(_init)(void) { return 0; }");
	struct skynet_module *m = skynet_module_query("nothing");
	assert_non_null(m);
	assert_null(skynet_module_instance_create(m));
}

static void
unknown_and_empty_names_are_refused(void **state) {
	(void)state;
	assert_null(skynet_module_query("unknown"));
	assert_null(skynet_module_query(""));
}

static void
prefix_is_what_follows_the_last_dot(void **state) {
	(void)state;
	build("x.y.dotted", "dotted", WHOLE);
	struct skynet_module *m = skynet_module_query("x.y.dotted");
	assert_non_null(m);
	assert_string_equal(m->name, "x.y.dotted");
	assert_non_null(m->create);
}

static void
module_that_appears_later_is_found(void **state) {
	(void)state;
	assert_null(skynet_module_query("later"));
	build("later", "later", WHOLE);
	assert_non_null(skynet_module_query("later"));
}

static void
more_modules_than_any_fixed_table(void **state) {
	(void)state;
	char path[128];
	char command[256];
	build("copy", "copy", WHOLE);
	struct skynet_module *first = NULL;
	for (int i = 0; i < 100; i++) {
		char name[32];
		snprintf(name, sizeof(name), "n%d.copy", i);
		snprintf(path, sizeof(path), "%s/%s.so", directory, name);
		snprintf(command, sizeof(command), "cp %s/copy.so %s", directory, path);
		assert_int_equal(system(command), 0);
		struct skynet_module *m = skynet_module_query(name);
		assert_non_null(m);
		first = i == 0 ? m : first;
	}
	assert_ptr_equal(skynet_module_query("n0.copy"), first);
}

static void *
query_race(void *arg) {
	return skynet_module_query(arg);
}

static void
concurrent_queries_agree(void **state) {
	(void)state;
	static char name[] = "race";
	build("race", "race", WHOLE);
	pthread_t thread[THREADS];
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&thread[i], NULL, query_race, name), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		void *m;
		pthread_join(thread[i], &m);
		assert_non_null(m);
		assert_ptr_equal(m, skynet_module_query("race"));
	}
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(templates_without_question_mark_do_not_count),
	    cmocka_unit_test(module_is_loaded_once),
	    cmocka_unit_test(functions_are_called_with_their_arguments),
	    cmocka_unit_test(only_init_is_required),
	    cmocka_unit_test(library_without_init_is_no_module),
	    cmocka_unit_test(create_that_returns_null_is_passed_on),
	    cmocka_unit_test(unknown_and_empty_names_are_refused),
	    cmocka_unit_test(prefix_is_what_follows_the_last_dot),
	    cmocka_unit_test(module_that_appears_later_is_found),
	    cmocka_unit_test(more_modules_than_any_fixed_table),
	    cmocka_unit_test(concurrent_queries_agree),
	};
	return cmocka_run_group_tests_name("module", tests, setup, teardown);
}
