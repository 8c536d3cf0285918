/*
 * Processes that are killed while they change a shared pool. Each operation is
 * tried on a fresh pool with a child that is killed after its first instruction,
 * after its second and so on (in long ones at some hundred places), whereupon the
 * parent goes on with the pool: it is not held up, finds everything intact, and
 * gets no block twice. Several processes at a time are in test_pool_kill.c.
 */
#include "pool_shared.h"

#include "platform_process.h"
#include "pool_fixed.h"
#include "pool_global.h"
#include "pool_region.h"
#include "pool_ring.h"

#include <limits.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

/* Instructions that children do one by one in one operation, all together. */
enum { BUDGET = 12000 };
/* At which a lock that an operation takes is looked for. */
enum { PLACES = 40 };

/* An operation on a shared pool, and what must hold whether it was done, or in part. */
struct deed {
	struct pool *(*make)(void);
	void (*act)(struct pool *);
	void (*check)(struct pool *);
};

/* In memory that the child shares. */
static struct {
	_Atomic(int) is_acting;
	_Atomic(int) cleanups; /* that ran */
} * common;

/*----------------------------------------------------------------- kill a child */

static pid_t
start_child(const struct deed *d, struct pool *pool) {
	common->is_acting = 0;
	common->cleanups = 0;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
			_exit(77);
		}
		common->is_acting = 1;
		/* Not raise, in which sanitizers have a lot to do. */
		syscall(SYS_kill, getpid(), SIGSTOP);
		d->act(pool);
		common->is_acting = 0;
		_exit(0);
	}
	return pid;
}

static bool
step(pid_t pid) {
	int status;

	assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSTOPPED(status);
}

/* Lets the child do so many instructions of the deed, then kills it. How many it
 * did. */
static long
run_and_kill(const struct deed *d, struct pool *pool, long instructions) {
	pid_t pid = start_child(d, pool);
	long done = 0;
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSTOPPED(status)) {
		skip(); /* nobody may be traced here */
	}
	while (done < instructions && common->is_acting) {
		assert_true(step(pid));
		done++;
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return done;
}

static const struct deed *deed;
static long death;

static void
die_and_check(struct pool *pool) {
	run_and_kill(deed, pool, death);
	deed->check(pool);
}

/* How many instructions the deed takes. */
static long
length_of(const struct deed *d) {
	struct pool *pool = d->make();
	long all = run_and_kill(d, pool, LONG_MAX);

	pool_destroy(pool);
	return all;
}

static void
assert_survives(const struct deed *d) {
	long all = length_of(d);
	/* Of each of `all / gap` children half of the instructions. */
	long gap = all * all / 2 / BUDGET + 1;
	char text[REPORT_SIZE];

	deed = d;
	for (death = 0; death <= all; death += gap) {
		struct pool *pool = d->make();
		run_caught(pool, die_and_check, text);
		assert_int_equal(stats_of(pool).bad_frees, 0);
		assert_null(strstr(text, "makes no sense"));
		pool_destroy(pool);
	}
}

/* Takes all that there is; how many blocks. */
static int
drain(struct pool *pool, size_t size) {
	int n = 0;

	while (keep(pool_alloc(pool, size), size)) {
		n++;
	}
	assert_int_equal(errno, ENOMEM);
	assert_intact();
	return n;
}

static unsigned char *victim;

/*------------------------------------------------------------------------ fixed */

enum { SLICES = 40, SLICE = 48, CUT = 12, FREED = 4 };

/* Some slices are out, some are free, some were never used. */
static struct pool *
make_fixed(void) {
	struct pool *pool = pool_fixed_create(options_of("slices", 1 << 16), SLICE, SLICES, NULL);
	void *p[FREED];

	blocks = 0;
	for (int i = 0; i < FREED; i++) {
		p[i] = pool_fixed_alloc(pool);
	}
	victim = pool_fixed_alloc(pool);
	for (int i = FREED + 1; i < CUT; i++) {
		keep(pool_fixed_alloc(pool), SLICE);
	}
	for (int i = 0; i < FREED; i++) {
		pool_fixed_free(pool, p[i]);
	}
	return pool;
}

static struct pool *
make_fixed_unused(void) {
	struct pool *pool = pool_fixed_create(options_of("slices", 1 << 16), SLICE, SLICES, NULL);

	blocks = 0;
	return pool;
}

static void
alloc_slice(struct pool *pool) {
	pool_fixed_alloc(pool);
}

static void
free_slice(struct pool *pool) {
	pool_fixed_free(pool, victim);
}

/* All slices but those that are out, and perhaps the child's. */
static void
check_fixed(struct pool *pool) {
	int out = blocks > 0 ? CUT - FREED : 0;
	int got = drain(pool, SLICE);

	assert_in_range(got, SLICES - out - 1, SLICES - out + 1);
	assert_int_equal(pool_fixed_slice_use(pool), SLICES);
	for (int i = 0; i < blocks; i++) {
		pool_fixed_free(pool, mine[i].p);
	}
	assert_in_range(pool_fixed_slice_use(pool), 0, 2);
}

static void
a_fixed_pool_survives_deaths(void **state) {
	(void)state;
	assert_survives(&(struct deed){make_fixed, alloc_slice, check_fixed});
	assert_survives(&(struct deed){make_fixed_unused, alloc_slice, check_fixed});
	assert_survives(&(struct deed){make_fixed, free_slice, check_fixed});
}

/*------------------------------------------------------------------------ arena */

enum { PIECE = 1024, PIECES = 30 };

/* Three pieces in a row of which the first and the last are free. */
static struct pool *
make_arena(void) {
	struct pool *pool = pool_region_create(options_of("pieces", 4096 + PIECES * PIECE), 512);
	char *p[5];

	blocks = 0;
	for (int i = 0; i < 5; i++) {
		p[i] = pool_draw(pool, PIECE);
	}
	keep(p[0], PIECE);
	keep(p[4], PIECE);
	victim = (unsigned char *)p[2];
	pool_return(pool, p[1], PIECE);
	pool_return(pool, p[3], PIECE);
	return pool;
}

static int
drain_arena(struct pool *pool) {
	int n = 0;

	while (keep(pool_draw(pool, PIECE), PIECE)) {
		n++;
	}
	assert_int_equal(errno, ENOMEM);
	assert_intact();
	return n;
}

static int free_pieces;

/* What there is when nothing happens, and that it is all of it. */
static void
count_pieces(void) {
	struct pool *pool = make_arena();

	free_pieces = drain_arena(pool);
	assert_in_range(free_pieces, PIECES - 3, PIECES + 1);
	pool_destroy(pool);
}

static void
take_piece(struct pool *pool) {
	pool_draw(pool, PIECE);
}

static void
split_piece(struct pool *pool) {
	pool_draw(pool, PIECE / 2);
}

static void
give_piece(struct pool *pool) {
	pool_return(pool, victim, PIECE);
}

static void
check_taken(struct pool *pool) {
	assert_in_range(drain_arena(pool), free_pieces - 1, free_pieces);
}

/* It is there, joined with both neighbours, or not. */
static void
check_given(struct pool *pool) {
	size_t three = 3 * PIECE;

	for (int i = 0; i < free_pieces - 2; i++) {
		assert_non_null(keep(pool_draw(pool, PIECE), PIECE));
	}
	bool is_joined = keep(pool_draw(pool, three), three) != NULL;
	assert_int_equal(drain_arena(pool), is_joined ? 0 : 2);
}

static void
shared_memory_survives_deaths(void **state) {
	(void)state;
	count_pieces();
	assert_survives(&(struct deed){make_arena, take_piece, check_taken});
	assert_survives(&(struct deed){make_arena, split_piece, check_taken});
	assert_survives(&(struct deed){make_arena, give_piece, check_given});
}

/* Something wrote to memory that was free when a process died under the lock. */
static bool
is_told_broken(struct pool *pool) {
	errno = 0;
	bool fails = pool_draw(pool, PIECE) == NULL && errno == ENOTRECOVERABLE;
	/* Nothing to be said twice, nothing to be done. */
	pool_return(pool, victim, PIECE);
	return fails && pool_draw(pool, PIECE) == NULL && errno == ENOTRECOVERABLE;
}

static void
die_and_tell(struct pool *pool) {
	run_and_kill(deed, pool, death);
	if (pool_draw(pool, PIECE) == NULL) {
		assert_true(is_told_broken(pool));
		assert_in_child(pool, is_told_broken);
		death = LONG_MIN;
	}
}

static void
what_makes_no_sense_breaks_the_pool_for_all(void **state) {
	(void)state;
	static const struct deed give = {make_arena, give_piece, NULL};
	char text[REPORT_SIZE];

	deed = &give;
	long gap = length_of(deed) / PLACES + 1;
	for (death = 1; death > 0; death += gap) {
		struct pool *pool = make_arena();
		/* Of a free piece, which begins with its size. */
		unsigned char *stray = victim - PIECE;
		memset(stray, 0xee, 16);
		assert_true(death < PLACES * gap);
		run_caught(pool, die_and_tell, text);
		pool_destroy(pool);
	}
	/* Once, as the child has told it before it was forked. */
	assert_string_equal(
	    text, "pool: a process died while it changed region pool 'pieces' of :ffffffff : "
	          "what it left makes no sense; end all processes that use the pool and create "
	          "it anew\n");
}

/* A pool that makes no sense of where its unused slices begin. */
static void
use_broken_slices(struct pool *pool) {
	if (pool_fixed_alloc(pool)) {
		return;
	}
	assert_int_equal(errno, ENOTRECOVERABLE);
	pool_fixed_free(pool, mine[0].p);
	assert_int_equal(pool_fixed_slice_use(pool), 0);
	assert_int_equal(stats_of(pool).bad_frees, 0);
	death = LONG_MIN;
}

static uintptr_t *
find_unused_slice(struct pool *pool) {
	/* Slices are cut in the order of their addresses. */
	size_t stride = (size_t)(mine[1].p - mine[0].p);
	uintptr_t unused = (uintptr_t)mine[blocks - 1].p - sizeof(struct pool_slice) + stride;

	for (uintptr_t *word = (uintptr_t *)(pool + 1); (char *)word < (char *)pool + 4096; word++) {
		if (*word == unused) {
			return word;
		}
	}
	fail_msg("no such word");
	return NULL;
}

static void
slices_that_make_no_sense_are_no_slices(void **state) {
	(void)state;
	static const struct deed give = {make_fixed, free_slice, NULL};
	char text[REPORT_SIZE];

	long gap = length_of(&give) / PLACES + 1;
	for (death = 1; death > 0; death += gap) {
		struct pool *pool = make_fixed();
		*find_unused_slice(pool) += 1;
		assert_true(death < PLACES * gap);
		run_and_kill(&give, pool, death);
		run_caught(pool, use_broken_slices, text);
		pool_destroy(pool);
	}
	assert_non_null(
	    strstr(text, " fixed pool 'slices' of :ffffffff : what it left makes no sense;"));
	assert_null(strstr(strstr(text, "no sense") + 1, "no sense"));
}

/*---------------------------------------------------------------- the menders */

static const struct deed *first;
static long fatal;

/* A pool in which a process died. */
static struct pool *
make_hurt(void) {
	struct pool *pool = first->make();

	run_and_kill(first, pool, fatal);
	return pool;
}

/* Whether the lock was taken when it did. */
static bool
is_to_mend(void) {
	struct pool *pool = make_hurt();
	char text[REPORT_SIZE];

	run_caught(pool, first->act, text);
	pool_destroy(pool);
	return strstr(text, "mended") != NULL;
}

/* Those who mend what others left are killed as well. */
static void
assert_menders_survive(const struct deed *d, void (*check)(struct pool *)) {
	long gap = length_of(d) / PLACES + 1;
	long from = 1;

	first = d;
	for (fatal = from; !is_to_mend(); fatal = from) {
		from += gap;
		assert_true(from < PLACES * gap);
	}
	while (is_to_mend()) {
		fatal += gap;
	}
	long until = fatal - gap;
	for (int i = 0; i < 3; i++) {
		fatal = from + (until - from) * i / 2;
		assert_survives(&(struct deed){make_hurt, d->act, check});
	}
}

static void
check_hurt_fixed(struct pool *pool) {
	int out = CUT - FREED;

	assert_in_range(drain(pool, SLICE), SLICES - out - 2, SLICES - out);
}

static void
check_hurt_arena(struct pool *pool) {
	assert_in_range(drain_arena(pool), free_pieces - 2, free_pieces);
}

static void
menders_survive_deaths(void **state) {
	(void)state;
	count_pieces();
	assert_menders_survive(&(struct deed){make_fixed, alloc_slice, NULL}, check_hurt_fixed);
	assert_menders_survive(&(struct deed){make_arena, take_piece, NULL}, check_hurt_arena);
}

/*----------------------------------------------------------------------- region */

enum { REGION_BLOCK = 1024, SMALL = 100, LARGE = 3000 };

static void
count_cleanup(void *data) {
	(void)data;
	common->cleanups++;
}

static struct pool *
make_region(void) {
	struct pool *pool = pool_region_create(options_of("region", 64 << 10), REGION_BLOCK);

	blocks = 0;
	for (int i = 0; i < 30; i++) {
		keep(pool_region_alloc(pool, SMALL), SMALL);
	}
	victim = pool_region_alloc(pool, LARGE);
	keep(pool_region_alloc(pool, LARGE), LARGE);
	/* Until the next one needs a new block. */
	while (pool_region_alloc(pool, SMALL) && pool->fast.end - pool->fast.next >= SMALL + 64) {
		continue;
	}
	for (int i = 0; i < 3; i++) {
		pool_region_cleanup(pool, 0)->run = count_cleanup;
	}
	return pool;
}

static void
chain_small(struct pool *pool) {
	for (int i = 0; i < 2; i++) {
		keep(pool_region_alloc(pool, SMALL), SMALL);
	}
}

static void
alloc_large(struct pool *pool) {
	keep(pool_region_alloc(pool, LARGE), LARGE);
}

static void
free_large(struct pool *pool) {
	pool_region_free_large(pool, victim);
}

static void
extend(struct pool *pool) {
	char *p = pool_region_alloc_unaligned(pool, 20);

	pool_region_extend(pool, p, 20, 40);
}

/* Until the mapping is full, after a reset again. */
static void
check_region(struct pool *pool) {
	static size_t most;

	drain(pool, LARGE);
	drain(pool, SMALL);
	pool_region_reset(pool);
	assert_int_equal(common->cleanups, 3);
	assert_int_equal(stats_of(pool).used, 0);
	blocks = 0;
	/* But for a block that the child had in hand. */
	size_t got = (size_t)drain(pool, LARGE) * LARGE + (size_t)drain(pool, SMALL) * SMALL;
	most = got > most ? got : most;
	assert_in_range(got, most - 2 * LARGE, most);
}

static void
check_reset(struct pool *pool) {
	blocks = 0;
	/* One that the child was about to run is not run again. */
	pool_region_reset(pool);
	assert_in_range(common->cleanups, 2, 3);
	assert_int_equal(stats_of(pool).used, 0);
	common->cleanups = 3;
	check_region(pool);
}

static void
a_region_survives_deaths(void **state) {
	(void)state;
	assert_survives(&(struct deed){make_region, chain_small, check_region});
	assert_survives(&(struct deed){make_region, alloc_large, check_region});
	assert_survives(&(struct deed){make_region, free_large, check_region});
	assert_survives(&(struct deed){make_region, extend, check_region});
	assert_survives(&(struct deed){make_region, pool_region_reset, check_reset});
}

/*----------------------------------------------------------------------- global */

enum { PAGE = 4096, NAME = 112 };

/* The next one needs a new page. */
static struct pool *
make_global(void) {
	struct pool *pool = pool_global_create(options_of("global", 64 << 10), PAGE);

	blocks = 0;
	for (size_t reserved = stats_of(pool).reserved; reserved == stats_of(pool).reserved;) {
		keep(pool_alloc(pool, NAME), NAME);
	}
	while (stats_of(pool).used + NAME <= stats_of(pool).reserved - 200) {
		keep(pool_alloc(pool, NAME), NAME);
	}
	return pool;
}

static void
alloc_name(struct pool *pool) {
	for (int i = 0; i < 3; i++) {
		pool_alloc(pool, NAME);
	}
}

static void
alloc_page(struct pool *pool) {
	pool_alloc(pool, 2 * PAGE);
}

static void
check_global(struct pool *pool) {
	static int most;
	int got = drain(pool, NAME);
	struct pool_stats s = stats_of(pool);

	/* But for a page that the child had in hand, and three blocks. */
	most = got > most ? got : most;
	assert_in_range(got, most - 3 * PAGE / NAME - 3, most);
	assert_in_range(s.blocks, blocks, blocks + 4);
	assert_true(s.used <= s.reserved);
}

static void
a_global_pool_survives_deaths(void **state) {
	(void)state;
	assert_survives(&(struct deed){make_global, alloc_name, check_global});
	assert_survives(&(struct deed){make_global, alloc_page, check_global});
}

/*------------------------------------------------------------------------- ring */

enum { RING = 1024, ITEM = 150 };

/* Two old ones are freed, two are in use, and the next one must begin anew. */
static struct pool *
make_ring(void) {
	struct pool *pool = pool_ring_create(options_of("ring", 1 << 14), RING);
	void *old[2];

	blocks = 0;
	for (int i = 0; i < 2; i++) {
		old[i] = pool_ring_alloc(pool, ITEM);
	}
	keep(pool_ring_alloc(pool, ITEM), ITEM);
	victim = pool_ring_alloc(pool, ITEM);
	keep(pool_ring_alloc(pool, ITEM), ITEM);
	pool_ring_free(pool, old[0]);
	pool_ring_free(pool, old[1]);
	return pool;
}

static void
alloc_item(struct pool *pool) {
	assert_non_null(pool_ring_alloc(pool, ITEM));
}

static void
free_item(struct pool *pool) {
	pool_ring_free(pool, victim);
}

static void
hold_item(struct pool *pool) {
	assert_true(pool_ring_hold(pool, victim, getppid()));
}

/* What the dead one held comes back as soon as room is short. */
static void
check_ring(struct pool *pool) {
	drain(pool, ITEM);
	for (int i = 0; i < blocks; i++) {
		pool_ring_free(pool, mine[i].p);
	}
	if (deed->act == alloc_item) {
		pool_ring_free(pool, victim);
	} else if (!pool_ring_hold(pool, victim, getpid())) {
		/* Freed or held by the dead one. */
	} else {
		pool_ring_free(pool, victim);
	}
	size_t all = pool_ring_capacity(pool);
	blocks = 0;
	assert_non_null(keep(pool_ring_alloc(pool, all), all));
	assert_intact();
	assert_int_equal(stats_of(pool).blocks, 1);
}

static void
a_ring_survives_deaths(void **state) {
	(void)state;
	assert_survives(&(struct deed){make_ring, alloc_item, check_ring});
	assert_survives(&(struct deed){make_ring, free_item, check_ring});
	assert_survives(&(struct deed){make_ring, hold_item, check_ring});
}

static int to_parent[2];
static void *half;

static void
take_back_half(struct pool *pool) {
	half = pool_ring_alloc(pool, RING / 2);
}

static bool
alloc_and_die(struct pool *pool) {
	void *p = pool_ring_alloc(pool, RING / 2);
	return write(to_parent[1], &p, sizeof(p)) == sizeof(p);
}

/* Whoever receives a block from a process that died keeps it if he held it in
 * time, and is told if not. */
static void
a_block_of_a_dead_process_is_his_who_holds_it(void **state) {
	(void)state;
	struct pool *pool = pool_ring_create(options_of("ring", 1 << 14), RING);
	char text[REPORT_SIZE];

	assert_int_equal(pipe(to_parent), 0);
	for (int holds = 0; holds < 2; holds++) {
		void *p;
		pid_t pid = fork();
		if (pid == 0) {
			_exit(alloc_and_die(pool) ? 0 : 1);
		}
		assert_int_equal(read(to_parent[0], &p, sizeof(p)), sizeof(p));
		assert_true(!holds || pool_ring_hold(pool, p, pid));
		assert_false(pool_ring_hold(pool, p, 1));
		int status;
		siginfo_t info;
		/* Dead, and not even collected. */
		assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
		run_caught(pool, take_back_half, text);
		assert_int_equal(half != NULL, !holds);
		assert_int_equal(pool_ring_hold(pool, p, pid), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		if (holds) {
			assert_string_equal(text, "");
			pool_ring_free(pool, p);
		} else {
			assert_string_equal(text, "pool: took 1 blocks of dead processes back in ring pool "
			                          "'ring' of :ffffffff \n");
			pool_ring_free(pool, half);
		}
	}
	close(to_parent[0]);
	close(to_parent[1]);
	pool_destroy(pool);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(a_fixed_pool_survives_deaths, end_capture),
	    cmocka_unit_test_teardown(shared_memory_survives_deaths, end_capture),
	    cmocka_unit_test_teardown(what_makes_no_sense_breaks_the_pool_for_all, end_capture),
	    cmocka_unit_test_teardown(slices_that_make_no_sense_are_no_slices, end_capture),
	    cmocka_unit_test_teardown(menders_survive_deaths, end_capture),
	    cmocka_unit_test_teardown(a_region_survives_deaths, end_capture),
	    cmocka_unit_test_teardown(a_global_pool_survives_deaths, end_capture),
	    cmocka_unit_test_teardown(a_ring_survives_deaths, end_capture),
	    cmocka_unit_test_teardown(a_block_of_a_dead_process_is_his_who_holds_it, end_capture),
	};

	common = share(sizeof(*common));
	begin();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
