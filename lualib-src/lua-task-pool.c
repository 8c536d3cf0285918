/*
 * lua-task-pool: creating, reusing, running and closing tasks, and the queues
 * of tasks that are due.
 *
 * DESIGN. A coroutine whose function returned is started again for the next
 * task: lua_resume accepts a finished coroutine with a new function on its
 * empty stack, so reuse costs nothing. The pool is a stack; whatever stayed in
 * it unused between two collections is given back (a sentinel object's
 * finalizer runs sched_trim).
 */
#include "lua-task-imp.h"

#include <string.h>

#include "lshare.h"
#include "lua-container.h"
#include "lua-nomem.h"
#include "skynet_malloc.h"

/* A task begins with a cache line. */
#define TASK_ALIGN 64
/* Idle coroutines that are never given back. */
#define POOL_KEEP 1
/* Room for tasks that is never given back. */
#define SLOTS_KEEP 64
/* Forks that forks make, run within one message, beyond those queued before. */
#define FORK_EXTRA 1024
/* What had no memory tries again after so many cs. */
#define RETRY_CS 1
/*
 * A fork or a timer, whose failure nobody is told of, begins with room for its first calls:
 * no more slots than a new stack has, since those that sleep are many.
 */
#define FIRST_CALLS 3
#define FIRST_SLOTS 30

void
task_queue_push(struct task_queue *q, struct task *t) {
	t->next = NULL;
	t->queued = true;
	if (q->tail != NULL) {
		q->tail->next = t;
	} else {
		q->head = t;
	}
	q->tail = t;
	q->n++;
	t->S->due++;
}

struct task *
task_queue_pop(struct task_queue *q) {
	struct task *t = q->head;
	if (t == NULL) {
		return NULL;
	}
	q->head = t->next;
	if (q->head == NULL) {
		q->tail = NULL;
	}
	t->next = NULL;
	t->queued = false;
	q->n--;
	t->S->due--;
	return t;
}

bool
task_queue_remove(struct task_queue *q, struct task *t) {
	struct task *prev = NULL;
	struct task *it = q->head;
	while (it != NULL && it != t) {
		prev = it;
		it = it->next;
	}
	if (it == NULL) {
		return false;
	}
	if (prev != NULL) {
		prev->next = t->next;
	} else {
		q->head = t->next;
	}
	if (q->tail == t) {
		q->tail = prev;
	}
	t->next = NULL;
	t->queued = false;
	q->n--;
	t->S->due--;
	return true;
}

/* ------------------------------------------------------------- the pool */

static int
free_slot(struct sched *S) {
	int slot = S->slot_free;
	while (slot < S->all_cap && S->all[slot] != NULL) {
		slot++;
	}
	if (slot >= S->all_cap) {
		int cap = S->all_cap * 2;
		S->all = skynet_realloc(S->all, (size_t)cap * sizeof(*S->all));
		memset(S->all + S->all_cap, 0, (size_t)(cap - S->all_cap) * sizeof(*S->all));
		S->all_cap = cap;
	}
	S->slot_free = slot;
	return slot;
}

/* Lua: (sched) -> task. Protected, since it allocates Lua objects. */
static int
create_task(lua_State *L) {
	struct sched *S = lua_touserdata(L, 1);
	lua_State *co = lua_newthread(L);
	/* A collection may have released tasks up to here, not from here on. */
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_threads);
	int slot = free_slot(S);
	lua_pushvalue(L, 2);
	lua_rawseti(L, 3, slot);
	struct task *t = skynet_memalign(TASK_ALIGN, sizeof(*t));
	memset(t, 0, sizeof(*t));
	t->S = S;
	t->L = co;
	t->top = co;
	t->slot = slot;
	t->state = TASK_READY;
	S->all[slot] = t;
	task_bind(co, t);
	lua_pushlightuserdata(L, t);
	return 1;
}

struct task *
task_new(struct sched *S, lua_State *L) {
	struct task *t = task_new_kept(S, L);
	if (t != NULL && t->kept_class != 0) {
		lua_settop(t->L, 0);
		t->kept_class = 0;
	}
	return t;
}

struct task *
task_new_kept(struct sched *S, lua_State *L) {
	struct task *t = S->pool;
	if (t != NULL) {
		S->pool = t->next;
		if (--S->pool_n < S->pool_low) {
			S->pool_low = S->pool_n;
		}
		t->next = NULL;
		t->state = TASK_READY;
		return t;
	}
	S->pool_low = 0;
	if (!lua_checkstack(L, 4)) {
		sched_add_failure(S, NO_MEMORY);
		return NULL;
	}
	lua_pushcfunction(L, create_task);
	lua_pushlightuserdata(L, S);
	if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
		lua_pop(L, 1);
		sched_add_failure(S, NO_MEMORY);
		return NULL;
	}
	t = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return t;
}

static void
unanchor(struct sched *S, int slot) {
	lua_State *L = S->main.L;
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_threads);
	lua_pushnil(L);
	lua_rawseti(L, -2, slot);
	lua_pop(L, 1);
}

static void
unbind_nest(struct sched *S, struct task *t) {
	for (int i = 0; i < t->nest_n; i++) {
		task_bind(t->nest[i], &S->orphan);
	}
	t->nest_n = 0;
	t->top = t->L;
}

static void
drop_trace(struct sched *S, struct task *t) {
	if (t->trace == TRACE_ON) {
		value_drop(S->main.L, S, t->trace_ref);
		t->trace_ref = 0;
	}
	t->trace = TRACE_NONE;
}

void
task_release(struct sched *S, struct task *t) {
	unbind_nest(S, t);
	drop_trace(S, t);
	task_bind(t->L, &S->main);
	S->all[t->slot] = NULL;
	if (t->slot < S->slot_free) {
		S->slot_free = t->slot;
	}
	if (S->init_slot == t->slot) {
		S->init_slot = 0;
	}
	unanchor(S, t->slot);
	skynet_free(t->nest);
	skynet_free(t->cause);
	skynet_free(t);
}

static void
recycle(struct sched *S, struct task *t) {
	drop_trace(S, t);
	t->state = TASK_FREE;
	t->debt = false;
	t->has_source = false;
	t->session = 0;
	t->next = S->pool;
	S->pool = t;
	S->pool_n++;
}

/* Lua: (length). Replaces the anchor table by one of that length. */
static int
shorten_threads(lua_State *L) {
	struct sched *S = lua_touserdata(L, lua_upvalueindex(1));
	int n = (int)lua_tointeger(L, 1);
	lua_createtable(L, n, 0);
	/* After the allocation, which may have run a collection and so this. */
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_threads);
	for (int i = 1; i < n; i++) {
		lua_rawgeti(L, 3, i);
		lua_rawseti(L, 2, i);
	}
	lua_pop(L, 1);
	lua_rawseti(L, LUA_REGISTRYINDEX, S->ref_threads);
	return 0;
}

/* After a burst of tasks: let go of the room that only the burst needed. */
static void
shrink_slots(struct sched *S) {
	lua_State *L = S->main.L;
	int used = S->all_cap;
	int cap = S->all_cap;
	while (used > 1 && S->all[used - 1] == NULL) {
		used--;
	}
	while (cap > SLOTS_KEEP && used * 4 <= cap) {
		cap /= 2;
	}
	if (cap == S->all_cap || !lua_checkstack(L, 6)) {
		return;
	}
	lua_pushlightuserdata(L, S);
	lua_pushcclosure(L, shorten_threads, 1);
	lua_pushinteger(L, cap);
	if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
		lua_pop(L, 1); /* no memory for it now: another time */
		return;
	}
	S->all_cap = cap;
	S->all = skynet_realloc(S->all, (size_t)cap * sizeof(*S->all));
}

void
sched_trim(struct sched *S) {
	int n = S->pool_low - POOL_KEEP;
	while (n-- > 0) {
		struct task *t = S->pool;
		S->pool = t->next;
		S->pool_n--;
		task_release(S, t);
	}
	S->pool_low = S->pool_n;
	shrink_slots(S);
}

void
sched_free_tasks(struct sched *S) {
	for (int i = 0; i < S->all_cap; i++) {
		struct task *t = S->all[i];
		if (t != NULL) {
			skynet_free(t->nest);
			skynet_free(t->cause);
			skynet_free(t);
		}
	}
	skynet_free(S->all);
	S->all = NULL;
	S->all_cap = 0;
}

/* -------------------------------------------------------------- running */

static void
task_finished(struct sched *S, struct task *t) {
	if (t->debt && t->debt_session != 0) {
		task_forgot_debt(S, t);
	}
	if (t->trace == TRACE_ON) {
		trace_end(S, t);
	}
	lua_container_task_end(S->container, t->L);
	task_clear(t);
	if (S->init_slot == t->slot) {
		S->init_slot = 0;
	}
	if (t->escaped || S->exiting) {
		task_release(S, t);
	} else {
		recycle(S, t);
	}
}

/* The task yielded, but not through a function of the framework. */
static void
odd_yield(struct sched *S, struct task *t, int nres) {
	if (t->state == TASK_QUITTING) {
		task_close(S, t);
		return;
	}
	t->state = TASK_PARKED;
	if (S->in_debugger) {
		return;
	}
	const char *what =
	    nres > 0 && lua_type(t->L, -nres) == LUA_TSTRING ? lua_tostring(t->L, -nres) : NULL;
	sched_park_failure(S, t, what);
}

enum outcome {
	DONE,
	STARVED, /* it has failed for want of memory */
	UNBEGUN, /* so much so that it was not entered: function, arguments and the error are on
	            its stack, and t is not settled */
};

static enum outcome
resume(struct sched *S, struct task *t, int nargs) {
	struct task *prev = S->running;
	/* Of the thread that resumes only the depth of its calls counts: the main thread
	   has none when no task runs on it. */
	lua_State *from = prev != NULL || S->from != S->L ? S->from : NULL;
	int nres;
	S->running = t;
	t->state = TASK_RUNNING;
	int status = lua_container_resume(S->container, t->L, from, nargs, &nres);
	S->running = prev;
	if (status == LUA_YIELD) {
		if (t->state == TASK_RUNNING || t->state == TASK_QUITTING) {
			odd_yield(S, t, nres);
		}
	} else if (status == LUA_OK) {
		task_finished(S, t);
	} else if (status == LUA_ERRMEM && !lua_getstack(t->L, 0, &(lua_Debug){0})) {
		return UNBEGUN;
	} else {
		enum outcome o = lua_isnomem(t->L, -1) ? STARVED : DONE;
		task_failed(S, t);
		return o;
	}
	return DONE;
}

bool
task_run(struct sched *S, struct task *t, int nargs) {
	enum outcome o = resume(S, t, nargs);
	if (o == UNBEGUN) {
		task_failed(S, t);
	}
	return o == DONE;
}

static void
stall(struct sched *S, struct task *t) {
	task_queue_push(&S->stalled, t);
	sched_kick(S, RETRY_CS);
}

/*
 * The function of t was not entered: start t again a little later. Its coroutine stays the
 * same, since somebody may know it.
 */
static void
start_later(struct sched *S, struct task *t) {
	lua_State *L = S->main.L;
	int n = lua_gettop(t->L) - 1;
	if (!lua_checkstack(L, n)) {
		task_failed(S, t);
		return;
	}
	lua_pop(t->L, 1);
	lua_xmove(t->L, L, n);
	lua_closethread(t->L, L);
	lua_settop(t->L, 0);
	t->state = TASK_READY;
	if (!lua_checkstack(t->L, n + LUA_MINSTACK)) {
		lua_pop(L, n);
		sched_add_failure(S, NO_MEMORY);
		task_release(S, t);
		return;
	}
	lua_xmove(L, t->L, n);
	stall(S, t);
}

void
task_start(struct sched *S, struct task *t) {
	/* Below the arguments lies the function, unless somebody else ran it. */
	int n = lua_gettop(t->L);
	if (!lua_checkroom(t->L, FIRST_CALLS, FIRST_SLOTS)) {
		stall(S, t);
	} else if (resume(S, t, n > 0 ? n - 1 : 0) == UNBEGUN) {
		start_later(S, t);
	}
}

void
sched_retry_stalled(struct sched *S) {
	struct task *t;
	while ((t = task_queue_pop(&S->stalled)) != NULL) {
		task_queue_push(&S->fork, t);
	}
}

struct task *
task_resumed(lua_State *L) {
	struct task *t = task_of(L);
	if (t == NULL || t->S->running != t) {
		luaL_error(L, "a task that waits was resumed by coroutine.resume");
	}
	return t;
}

void
task_close(struct sched *S, struct task *t) {
	struct task *prev = S->running;
	lua_State *from = S->main.L;
	wait_forget_token(S, t);
	t->session = 0;
	t->debt = false;
	/* Close handlers may call us: they run as this task. */
	S->running = t;
	t->state = TASK_RUNNING;
	for (int i = t->nest_n - 1; i >= 0; i--) {
		t->top = t->nest[i];
		lua_closethread(t->nest[i], from);
		task_bind(t->nest[i], &S->orphan);
	}
	t->nest_n = 0;
	t->top = t->L;
	lua_closethread(t->L, from);
	S->running = prev;
	lua_settop(t->L, 0);
	task_release(S, t);
}

static void
run_woken(struct sched *S, struct task *t) {
	if (t->state == TASK_SLEEPING) {
		pending_void(S, t->session, PENDING_TICK, 0);
	} else {
		struct pending e;
		pending_take(S, t->session, &e);
	}
	t->session = 0;
	task_run(S, t, 0);
}

void
sched_pump(struct sched *S) {
	while (S->due != 0) {
		struct task *t = task_queue_pop(&S->wake);
		if (t != NULL) {
			run_woken(S, t);
			continue;
		}
		t = task_queue_pop(&S->fail);
		if (t == NULL) {
			break;
		}
		task_run(S, t, 0);
	}
}

void
sched_kick(struct sched *S, int cs) {
	if (!S->kicked) {
		int session = sched_new_session(S);
		pending_add(S, session, PENDING_KICK, 0, 0);
		sched_arm(S, session, cs);
		S->kicked = true;
	}
}

void
sched_run_forks(struct sched *S) {
	if (S->due == 0) {
		return;
	}
	int budget = S->fork.n + FORK_EXTRA;
	while (S->fork.head != NULL) {
		if (budget-- == 0) {
			/* The queue is long: let messages in, and go on after them. */
			sched_kick(S, 0);
			return;
		}
		struct task *t = task_queue_pop(&S->fork);
		task_start(S, t);
		sched_pump(S);
	}
}

/* ----------------------------------------------------------- suspending */

struct task *
task_blocking(lua_State *L, const char *what) {
	struct task *t = task_of(L);
	struct sched *S = sched_of(L);
	if (t != NULL && t == S->running && t->top == L && t->rigid == 0 && lua_isyieldable(L)) {
		return t;
	}
	if (S->running == NULL) {
		task_push_place(L);
		lua_pushfstring(
		    L, "attempt to yield from outside a coroutine (%s), wait inside skynet.start", what);
		lua_concat(L, 2);
		lua_error(L);
	}
	if (t != S->running || t->top != L) {
		luaL_error(L, "%s in a coroutine that is not a task, use skynet.coroutine", what);
	}
	luaL_error(L, "attempt to yield across a C-call boundary (%s)", what);
	return NULL;
}

int
task_suspend(lua_State *L, struct task *t, int state, int session, lua_KFunction k) {
	t->state = (uint8_t)state;
	t->session = session;
	return lua_yieldk(L, 0, 0, k);
}
