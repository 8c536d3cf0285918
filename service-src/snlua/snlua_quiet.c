/*
 * The garbage of a VM that has gone quiet, collected in steps by idle workers
 * (skynet_quiet.h).
 *
 * A small heap is collected in one step, in whatever mode it is. A large one
 * would take too long: it is switched to the incremental mode, if it is
 * generational, and collected by many small steps; a message may come between
 * any two. It goes back to the generational mode once it is small; a heap that
 * stays large stays incremental, because the way back is a whole collection at
 * once.
 *
 * Objects with finalizers die in the cycle after the one that found them, so a
 * cycle that freed much is followed by another. A VM that gets a message every
 * now and then spends no more than one part in REST_FACTOR of its time here.
 *
 * A VM whose collector the script has stopped is left alone.
 */
#include "snlua.h"

#include "lshare.h"
#include "platform.h"
#include "skynet_module.h"
#include "skynet_quiet.h"
#include "skynet_server.h"

/* Collected at once: a third of a millisecond. */
#define SMALL_HEAP ((size_t)512 * 1024)
/* One visit makes incremental steps for as long as this. */
#define STEP_NS 300000
/* More than one part in this many was freed: look again. */
#define MUCH 16
#define MAX_CYCLES 3
#define REST_FACTOR 20

void
snlua_quiet_note(struct snlua *l) {
	l->is_listed = true;
	skynet_quiet_note(skynet_context_handle(l->base.ctx));
}

static size_t
used(struct snlua *l) {
	return snlua_memory_used(&l->base);
}

/* Enter the incremental mode: true if that was a step. */
static bool
become_incremental(struct snlua *l) {
	if (lua_gc(l->L, LUA_GCINC) != LUA_GCGEN) {
		return false;
	}
	l->quiet.is_ours = true;
	return true;
}

/* Steps until the time is over or a cycle has ended; true for the latter. */
static bool
make_steps(lua_State *L) {
	uint64_t end = platform_monotonic_ns() + STEP_NS;
	do {
		if (lua_gc(L, LUA_GCSTEP, (size_t)0)) {
			return true;
		}
	} while (platform_monotonic_ns() < end);
	return false;
}

/* One step; true when it completed a cycle. */
static bool
collect(struct snlua *l) {
	if (used(l) > SMALL_HEAP) {
		return !become_incremental(l) && make_steps(l->L);
	}
	if (l->quiet.is_ours) {
		/* Collects everything on its way. */
		lua_gc(l->L, LUA_GCGEN);
		l->quiet.is_ours = false;
	} else {
		lua_gc(l->L, LUA_GCCOLLECT);
	}
	return true;
}

/* A cycle is complete: is another one worth its time? */
static bool
wants_another(struct snlua_quiet *q, size_t now) {
	bool freed_much = now < q->before && q->before - now > q->before / MUCH;
	q->before = now;
	return ++q->cycles < MAX_CYCLES && freed_much;
}

static enum skynet_quiet
rest(struct snlua *l) {
	struct snlua_quiet *q = &l->quiet;
	q->not_before_ns = platform_monotonic_ns() + q->spent_ns * REST_FACTOR;
	q->spent_ns = 0;
	q->cycles = 0;
	q->before = 0;
	l->is_listed = false;
	snlua_measure_code(l);
	return QUIET_DONE;
}

enum skynet_quiet snlua_quiet(struct snlua *l, size_t *freed);

/* NAME_quiet of the module. */
enum skynet_quiet
snlua_quiet(struct snlua *l, size_t *freed) {
	struct snlua_quiet *q = &l->quiet;
	uint64_t start = platform_monotonic_ns();
	if (!lua_gc(l->L, LUA_GCISRUNNING)) {
		return rest(l);
	}
	if (start < q->not_before_ns) {
		return QUIET_LATER;
	}
	size_t before = used(l);
	if (q->before == 0) {
		q->before = before;
	}
	struct snlua *outer = snlua_turn_begin(l, l->L);
	bool is_complete = collect(l);
	snlua_turn_end(l, outer);
	q->spent_ns += platform_monotonic_ns() - start;
	size_t now = used(l);
	*freed = now < before ? before - now : 0;
	return is_complete && !wants_another(q, now) ? rest(l) : QUIET_MORE;
}
