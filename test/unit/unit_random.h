/*
 * Random numbers for model and stress tests: reproducible from the seed, which
 * the tests print when they fail. SEED=n in the environment repeats a run.
 */
#ifndef UNIT_RANDOM_H
#define UNIT_RANDOM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct unit_random {
	uint64_t state;
};

/* splitmix64: passes statistical tests, needs one word. */
static inline uint64_t
unit_random_next(struct unit_random *r) {
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* 0 .. limit-1 */
static inline uint32_t
unit_random_below(struct unit_random *r, uint32_t limit) {
	return (uint32_t)(unit_random_next(r) % limit);
}

static inline struct unit_random
unit_random_seed(void) {
	const char *text = getenv("SEED");
	struct unit_random r = {text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL)};

	printf("# SEED=%llu\n", (unsigned long long)r.state);
	return r;
}

#endif
