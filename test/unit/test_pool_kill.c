/*
 * Several processes that work on a shared pool and are killed at random: none of the
 * others is held up, no block has two holders, and a death costs what was in the
 * process's hand.
 */
#include "pool_shared.h"

#include "pool_fixed.h"
#include "pool_region.h"

#include <time.h>

enum { WORKERS = 3, KILLS = 100, HELD = 24, CROWD = 64, SLICE = 48, PIECE = 1024 };

/* What each worker has: written down once it is filled, crossed out before it is
 * given back. */
static struct ledger {
	struct {
		_Atomic(unsigned char *) p;
		size_t size;
	} held[HELD];
} * ledgers;

struct crowd {
	struct pool *(*make)(void);
	void *(*take)(struct pool *pool, size_t size);
	void (*give)(struct pool *pool, void *p, size_t size);
	size_t max; /* size of a block */
};

static void *
take_slice(struct pool *pool, size_t size) {
	return pool_alloc(pool, size);
}

static void
give_slice(struct pool *pool, void *p, size_t size) {
	(void)size;
	pool_free(pool, p);
}

static void
give_back(const struct crowd *c, struct pool *pool, struct ledger *l, int worker, int i) {
	unsigned char *p = l->held[i].p;

	l->held[i].p = NULL;
	/* Written over by another: given to two. */
	if (!pool_is_filled(p, (unsigned char)(worker * HELD + i), l->held[i].size)) {
		_exit(3);
	}
	c->give(pool, p, l->held[i].size);
}

static void
work(const struct crowd *c, struct pool *pool, int worker, uint64_t seed) {
	struct ledger *l = &ledgers[worker];

	for (;;) {
		int i = (int)random_below(&seed, HELD);
		if (l->held[i].p) {
			give_back(c, pool, l, worker, i);
			continue;
		}
		l->held[i].size = 1 + random_below(&seed, (uint32_t)c->max);
		void *p = c->take(pool, l->held[i].size);
		if (p) {
			memset(p, worker * HELD + i, l->held[i].size);
			l->held[i].p = p;
		} else if (errno != ENOMEM) {
			_exit(4);
		}
	}
}

static pid_t
start_worker(const struct crowd *c, struct pool *pool, int worker, uint64_t seed) {
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		work(c, pool, worker, seed);
	}
	return pid;
}

/* Gives back what the dead one had, which anybody may. */
static void
bury(const struct crowd *c, struct pool *pool, int worker, pid_t pid) {
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	for (int i = 0; i < HELD; i++) {
		if (ledgers[worker].held[i].p) {
			give_back(c, pool, &ledgers[worker], worker, i);
		}
	}
}

static const struct crowd *crowd;

static void
kill_at_random(struct pool *pool) {
	pid_t pid[WORKERS];
	uint64_t seed = 20261128;

	for (int i = 0; i < WORKERS; i++) {
		pid[i] = start_worker(crowd, pool, i, (uint64_t)i);
	}
	for (int n = 0; n < KILLS; n++) {
		struct timespec some = {0, random_below(&seed, 3000000)};
		int i = (int)random_below(&seed, WORKERS);
		nanosleep(&some, NULL);
		bury(crowd, pool, i, pid[i]);
		pid[i] = start_worker(crowd, pool, i, seed);
	}
	for (int i = 0; i < WORKERS; i++) {
		bury(crowd, pool, i, pid[i]);
	}
}

static struct pool *
make_crowded(void) {
	return pool_fixed_create(options_of("crowded", 1 << 16), SLICE, CROWD, NULL);
}

static struct pool *
make_pieces(void) {
	return pool_region_create(options_of("pieces", 64 << 10), PIECE);
}

static int
count_all(struct pool *pool) {
	int n = 0;

	while (keep(crowd->take(pool, crowd->max), crowd->max)) {
		n++;
	}
	assert_intact();
	return n;
}

/* Nobody waits for a dead process, nothing has two holders, and each death costs
 * no more than what was in the process's hand. */
static void
assert_crowd_survives(const struct crowd *c) {
	char text[REPORT_SIZE];
	struct pool *pool = c->make();

	crowd = c;
	blocks = 0;
	int all = count_all(pool);
	pool_destroy(pool);
	pool = c->make();
	blocks = 0;
	memset(ledgers, 0, WORKERS * sizeof(*ledgers));
	run_caught(pool, kill_at_random, text);
	assert_null(strstr(text, "makes no sense"));
	assert_int_equal(stats_of(pool).bad_frees, 0);
	assert_in_range(count_all(pool), all > KILLS + WORKERS ? all - KILLS - WORKERS : 0, all);
	pool_destroy(pool);
}

static void
processes_that_are_killed_at_random_harm_nobody(void **state) {
	(void)state;
	assert_crowd_survives(&(struct crowd){make_crowded, take_slice, give_slice, SLICE});
	assert_crowd_survives(&(struct crowd){make_pieces, pool_draw, pool_return, PIECE});
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(processes_that_are_killed_at_random_harm_nobody, end_capture),
	};

	ledgers = share(WORKERS * sizeof(*ledgers));
	begin();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
