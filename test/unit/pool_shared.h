/*
 * What the tests of shared pools and dead processes share. Each test file is its own
 * program.
 */
#ifndef POOL_SHARED_H
#define POOL_SHARED_H

#include "pool_test.h"

#include <sys/mman.h>

/* Longer than anything here takes, for a lock that nobody gives back. */
enum { SECONDS = 300 };

static inline const struct pool_options *
options_of(const char *name, size_t bytes) {
	static struct pool_options options;

	options = (struct pool_options){.name = name, .flags = POOL_SHARED, .shared_bytes = bytes};
	return &options;
}

/* Blocks that the parent has, each filled with its number. */
enum { BLOCKS = 4000 };
static struct {
	unsigned char *p;
	size_t size;
} mine[BLOCKS];
static int blocks;

static inline unsigned char *
keep(void *p, size_t size) {
	if (p) {
		assert_true(blocks < BLOCKS);
		mine[blocks].p = memset(p, blocks % 251, size);
		mine[blocks++].size = size;
	}
	return p;
}

/* Nobody else wrote to any of them, so none was handed out twice. */
static inline void
assert_intact(void) {
	for (int i = 0; i < blocks; i++) {
		assert_true(pool_is_filled(mine[i].p, (unsigned char)(i % 251), mine[i].size));
	}
}

/* Memory, of zeros, that children share; without it the test ends. */
static inline void *
share(size_t size) {
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

static int true_stderr;

/* A test that failed while its reports were caught is told of. */
static inline int
end_capture(void **state) {
	(void)state;
	return dup2(true_stderr, STDERR_FILENO) < 0;
}

static inline void
begin(void) {
	true_stderr = dup(STDERR_FILENO);
	alarm(SECONDS);
}

#endif
