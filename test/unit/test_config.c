/*
 * The configuration file. The environment is written once per process, so
 * each case evaluates its files in a child process, which answers with the
 * error line or with the environment entries that were asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "skynet_config.h"
#include "skynet_env.h"
#include "skynet_malloc.h"

static char directory[] = "/tmp/skynet-config-XXXXXX";
static char answer[4096];

static int
setup(void **state) {
	(void)state;
	if (mkdtemp(directory) == NULL || chdir(directory) != 0) {
		return -1;
	}
	return mkdir("d", 0755) != 0 || mkdir("d/sub", 0755) != 0 ? -1 : 0;
}

static int
teardown(void **state) {
	(void)state;
	char command[64];
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return chdir("/") != 0 || system(command) != 0 ? -1 : 0;
}

static void
write_file(const char *name, const char *text) {
	FILE *f = fopen(name, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* In the child: print the error, or `key=value;` for each of the wanted keys. */
static void
evaluate(FILE *out, const char *file, const char *keys) {
	struct skynet_config config;
	char *message = skynet_config_load(file, &config);
	if (message != NULL) {
		fprintf(out, "%s", message);
		skynet_free(message);
		return;
	}
	char *list = strdup(keys);
	for (char *key = strtok(list, " "); key != NULL; key = strtok(NULL, " ")) {
		const char *value = skynet_getenv(key);
		fprintf(out, "%s=%s;", key, value == NULL ? "(absent)" : value);
	}
	free(list);
}

/* Load `file`; the error line or the values of `keys`. */
static const char *
load(const char *file, const char *keys) {
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		FILE *out = fdopen(ends[1], "w");
		evaluate(out, file, keys);
		fclose(out);
		_exit(0);
	}
	close(ends[1]);
	size_t size = 0;
	ssize_t n;
	while ((n = read(ends[0], answer + size, sizeof(answer) - 1 - size)) > 0) {
		size += (size_t)n;
	}
	answer[size] = '\0';
	close(ends[0]);
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	return answer;
}

/* Load a file `c` with this text behind `harbor = 0`. */
static const char *
load_text(const char *text, const char *keys) {
	char full[2048];
	snprintf(full, sizeof(full), "harbor = 0 %s", text);
	write_file("c", full);
	return load("c", keys);
}

static void
assert_contains(const char *text, const char *part) {
	if (strstr(text, part) == NULL) {
		fail_msg("no \"%s\" in \"%s\"", part, text);
	}
}

/*-------------------------------------------------------------------- values */

static void
values_become_strings(void **state) {
	(void)state;
	setenv("CONFIG_TEST_HOME", "/home/of", 1);
	assert_string_equal(load_text("b = true; n = 1.5; e = 1e15; i = 8; f = 2.0; no = false "
	                              "s = \"$CONFIG_TEST_HOME/x\"; empty = ''",
	                              "b n e i f no s empty"),
	                    "b=true;n=1.5;e=1e+15;i=8;f=2.0;no=false;s=/home/of/x;empty=;");
}

static void
locals_and_nil_make_no_key(void **state) {
	(void)state;
	assert_string_equal(load_text("local a = 1; b = a; c = 2; c = nil; d = undefined", "a b c d"),
	                    "a=(absent);b=1;c=(absent);d=(absent);");
}

static void
temporary_table_may_be_removed_again(void **state) {
	(void)state;
	assert_string_equal(load_text("t = {'x','y'}; v = t[2]; t = nil", "t v"), "t=(absent);v=y;");
}

static void
defaults_are_written_back(void **state) {
	(void)state;
	assert_string_equal(load_text("", "thread cpath bootstrap profile logservice harbor logger "
	                                  "daemon lua_path lualoader include"),
	                    "thread=8;cpath=./cservice/?.so;bootstrap=snlua bootstrap;profile=true;"
	                    "logservice=logger;harbor=0;logger=(absent);daemon=(absent);"
	                    "lua_path=(absent);lualoader=(absent);include=(absent);");
}

static void
record_is_filled_from_the_file(void **state) {
	(void)state;
	write_file("c", "harbor=0 thread=2.0 profile=1 logger='l' logservice='s' bootstrap='b x' "
	                "cpath='./?.so' daemon='p'");
	struct skynet_config config;
	pid_t child = fork();
	if (child == 0) {
		int bad = skynet_config_load("c", &config) != NULL;
		bad |= config.thread != 2 || config.harbor != 0 || config.profile != 0;
		bad |= strcmp(config.logger, "l") || strcmp(config.logservice, "s");
		bad |= strcmp(config.bootstrap, "b x") || strcmp(config.module_path, "./?.so");
		bad |= strcmp(config.daemon, "p");
		_exit(bad);
	}
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
}

/*------------------------------------------------------------------ includes */

static void
includes_follow_the_directory_of_the_file(void **state) {
	(void)state;
	write_file("d/a.cfg", "harbor = 0 include 'sub/b.cfg' include 'e.cfg' over = over .. 'a'");
	write_file("d/sub/b.cfg", "b = 1; include 'c.cfg' over = 'b'");
	write_file("d/sub/c.cfg", "c = 2; over = 'c'");
	write_file("d/e.cfg", "e = b + c");
	assert_string_equal(load("d/a.cfg", "b c e over"), "b=1;c=2;e=3;over=ba;");
}

static void
absolute_include_is_used_as_is(void **state) {
	(void)state;
	char text[128];
	write_file("d/abs.cfg", "x = 1; include 'e2.cfg'");
	write_file("d/e2.cfg", "y = 2");
	snprintf(text, sizeof(text), "include '%s/d/abs.cfg'", directory);
	assert_string_equal(load_text(text, "x y"), "x=1;y=2;");
}

static void
unknown_include_names_both_files_and_the_line(void **state) {
	(void)state;
	const char *text = load_text("\n\ninclude 'nowhere.cfg'", "");
	assert_contains(text, "./c:3: ");
	assert_contains(text, "./nowhere.cfg: No such file or directory");
}

static void
include_of_itself_ends_with_an_error(void **state) {
	(void)state;
	assert_contains(load_text("include 'c'", ""), "nested too deeply");
}

static void
include_without_a_name_is_an_error(void **state) {
	(void)state;
	assert_contains(load_text("\ninclude()", ""), "./c:2: bad argument #1 to 'include'");
}

/*-------------------------------------------------------------- bad content */

static void
missing_and_unreadable_files_are_named(void **state) {
	(void)state;
	assert_contains(load("no/such.cfg", ""), "no/such.cfg: No such file or directory");
	assert_contains(load("d", ""), "d: Is a directory");
}

static void
syntax_error_names_file_and_line(void **state) {
	(void)state;
	assert_contains(load_text("\nx = = 1", ""), "./c:2: unexpected symbol near '='");
}

static void
long_file_names_are_not_cut(void **state) {
	(void)state;
	write_file("d/a_rather_long_name_of_a_file_that_does_not_fit_the_sixty_bytes_of_lua.cfg",
	           "x = = 1");
	assert_contains(
	    load("d/a_rather_long_name_of_a_file_that_does_not_fit_the_sixty_bytes_of_lua.cfg", ""),
	    "./d/a_rather_long_name_of_a_file_that_does_not_fit_the_sixty_bytes_of_lua.cfg:1: ");
}

static void
names_of_the_standard_library_are_absent(void **state) {
	(void)state;
	assert_contains(load_text("\n\nprint 'x'", ""),
	                "./c:3: attempt to call a nil value (global 'print')");
}

static void
precompiled_chunk_is_refused(void **state) {
	(void)state;
	write_file("c", "\033Lua");
	assert_contains(load("c", ""), "./c: attempt to load a binary chunk");
}

static void
table_value_names_key_file_and_line(void **state) {
	(void)state;
	const char *text = load_text("\nx = {}", "");
	assert_contains(text, "./c:2: ");
	assert_contains(text, "Invalid config table key = x");
}

static void
key_that_is_no_string_is_refused(void **state) {
	(void)state;
	assert_contains(load_text("_ENV[1] = 2", ""), "Invalid config table");
}

static void
unset_variable_names_itself_and_the_line_even_in_comments(void **state) {
	(void)state;
	const char *text = load_text("\n-- $NO_SUCH_VARIABLE", "");
	assert_contains(text, "./c:2: ");
	assert_contains(text, "os.getenv() failed: NO_SUCH_VARIABLE");
}

static void
lone_dollar_is_left_alone(void **state) {
	(void)state;
	assert_string_equal(load_text("x = '$ $'", "x"), "x=$ $;");
}

static void
thread_out_of_range_is_refused(void **state) {
	(void)state;
	assert_contains(load_text("\nthread = 0", ""),
	                "./c:2: Invalid thread 0 , should be in [1,1024]");
	assert_contains(load_text("thread = 1025", ""), "Invalid thread 1025 , should be in [1,1024]");
	assert_contains(load_text("thread = 'abc'", ""), "Invalid thread 0 , should be in [1,1024]");
	assert_contains(load_text("thread = true", ""), "thread = true, expected an integer");
	assert_contains(load_text("thread = -3", ""), "Invalid thread -3 ");
	assert_string_equal(load_text("thread = '2x'", "thread"), "thread=2x;");
}

static void
wrong_type_of_a_known_key_is_named(void **state) {
	(void)state;
	assert_contains(load_text("\n\ncpath = true", ""),
	                "./c:3: wrong type of cpath: expected a string, got a boolean");
	assert_contains(load_text("bootstrap = 1", ""),
	                "wrong type of bootstrap: expected a string, got a number");
	assert_contains(load_text("shutdown_timeout = 'soon'", ""), "Invalid shutdown_timeout soon");
}

static void
search_path_without_question_mark_is_refused(void **state) {
	(void)state;
	assert_contains(load_text("\ncpath = './cservice/x.so'", ""), "./c:2: Invalid C service path");
	assert_contains(load_text("cpath = ''", ""), "Invalid C service path");
}

static void
networks_are_refused_in_one_clear_line(void **state) {
	(void)state;
	write_file("c", "thread = 1");
	assert_contains(load("c", ""), "set harbor = 0");
	write_file("c", "\nharbor = 1");
	assert_contains(load("c", ""), "./c:2: harbor = 1 needs");
	write_file("c", "harbor = 256");
	assert_contains(load("c", ""), "Invalid harbor 256 ");
	write_file("c", "harbor = 'x'");
	assert_contains(load("c", ""), "Invalid harbor x ");
	assert_contains(load_text("cluster = 'x'", ""), "key cluster needs");
	assert_contains(load_text("standalone = 'x'", ""), "key standalone needs");
}

static void
errors_are_one_line(void **state) {
	(void)state;
	assert_null(strchr(load_text("x = 'unfinished\n\n", ""), '\n'));
	assert_null(strchr(load_text("x = [[unfinished\n\n", ""), '\n'));
	assert_true(strlen(answer) > 0);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(values_become_strings),
	    cmocka_unit_test(locals_and_nil_make_no_key),
	    cmocka_unit_test(temporary_table_may_be_removed_again),
	    cmocka_unit_test(defaults_are_written_back),
	    cmocka_unit_test(record_is_filled_from_the_file),
	    cmocka_unit_test(includes_follow_the_directory_of_the_file),
	    cmocka_unit_test(absolute_include_is_used_as_is),
	    cmocka_unit_test(unknown_include_names_both_files_and_the_line),
	    cmocka_unit_test(include_of_itself_ends_with_an_error),
	    cmocka_unit_test(include_without_a_name_is_an_error),
	    cmocka_unit_test(missing_and_unreadable_files_are_named),
	    cmocka_unit_test(syntax_error_names_file_and_line),
	    cmocka_unit_test(long_file_names_are_not_cut),
	    cmocka_unit_test(names_of_the_standard_library_are_absent),
	    cmocka_unit_test(precompiled_chunk_is_refused),
	    cmocka_unit_test(table_value_names_key_file_and_line),
	    cmocka_unit_test(key_that_is_no_string_is_refused),
	    cmocka_unit_test(unset_variable_names_itself_and_the_line_even_in_comments),
	    cmocka_unit_test(lone_dollar_is_left_alone),
	    cmocka_unit_test(thread_out_of_range_is_refused),
	    cmocka_unit_test(wrong_type_of_a_known_key_is_named),
	    cmocka_unit_test(search_path_without_question_mark_is_refused),
	    cmocka_unit_test(networks_are_refused_in_one_clear_line),
	    cmocka_unit_test(errors_are_one_line),
	};
	return cmocka_run_group_tests_name("config", tests, setup, teardown);
}
