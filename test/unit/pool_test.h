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

/* f misuses the pool: a checked build stops (in a child), others count it. */
static inline void
assert_complains(struct pool *pool, void (*f)(struct pool *)) {
	if (!POOL_IS_CHECKED) {
		size_t before = stats_of(pool).bad_frees;
		f(pool);
		assert_int_equal(stats_of(pool).bad_frees, before + 1);
		return;
	}
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit no_core = {0, 0};
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		f(pool);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
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
