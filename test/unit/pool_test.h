/* What the tests of the pools share. Each test file is its own program. */
#ifndef POOL_TEST_H
#define POOL_TEST_H

#include "pool.h"
#include "pool_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_OPTIONS (&(struct pool_options){.name = "test"})

/* Repeatable numbers below n. */
static inline uint32_t
random_below(uint64_t *seed, uint32_t n) {
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33) % n;
}

static inline struct pool_stats
stats_of(struct pool *pool) {
	struct pool_stats s;
	pool_stats(pool, &s);
	return s;
}

static inline void
assert_aligned(const void *p) {
	assert_non_null(p);
	assert_int_equal((uintptr_t)p % POOL_ALIGN, 0);
}

enum { REPORT_SIZE = 4096 };

/* Runs f with stderr on a pipe; what it wrote goes to `text`, a string. A report
 * is shorter than what a pipe holds. */
static inline void
run_caught(struct pool *pool, void (*f)(struct pool *), char text[REPORT_SIZE]) {
	int fd[2];
	int old = dup(STDERR_FILENO);
	assert_true(old >= 0);
	assert_int_equal(pipe(fd), 0);
	dup2(fd[1], STDERR_FILENO);
	f(pool);
	dup2(old, STDERR_FILENO);
	close(fd[1]);
	close(old);
	size_t n = 0;
	ssize_t got;
	while (n < REPORT_SIZE - 1 && (got = read(fd[0], text + n, REPORT_SIZE - 1 - n)) > 0) {
		n += (size_t)got;
	}
	text[n] = '\0';
	close(fd[0]);
}

static void (*misuse)(struct pool *);

/* Runs misuse in a child, which it must stop. */
static inline void
misuse_in_child(struct pool *pool) {
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit no_core = {0, 0};
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		misuse(pool);
		_exit(0);
	}
	int status;
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* f misuses the pool: the report says what, names the pool and its service. A
 * checked build stops (in a child), others count it. what: NULL for no report. */
static inline void
assert_complains(struct pool *pool, void (*f)(struct pool *), const char *what) {
	char text[REPORT_SIZE];
	char place[100];
	size_t before = stats_of(pool).bad_frees;
	if (POOL_IS_CHECKED) {
		misuse = f;
		run_caught(pool, misuse_in_child, text);
	} else {
		run_caught(pool, f, text);
		assert_int_equal(stats_of(pool).bad_frees, before + 1);
	}
	if (what == NULL) {
		assert_string_equal(text, "");
		return;
	}
	snprintf(place, sizeof(place), " in %s pool '%s' of :%08x ", pool->ops->kind, pool_name(pool),
	         pool->owner);
	assert_ptr_equal(strstr(text, "pool: "), text);
	assert_memory_equal(text + 6, what, strlen(what));
	assert_non_null(strstr(text, place));
}

/* Runs f in a child that shares the pool; it must return true. */
static inline void
assert_in_child(struct pool *pool, bool (*f)(struct pool *)) {
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		_exit(f(pool) ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#endif
