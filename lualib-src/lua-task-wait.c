/*
 * lua-task-wait: sleep, yield, wait and wakeup; timeout; fork; killthread.
 *
 * A timer whose coroutine nobody asked for is a function reference and one
 * slot of the session table: its coroutine is made when it fires.
 */
#include "lua-task-imp.h"
#include "lua-nomem.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the Lua overlay; a stock Lua does not tell how many results are wanted. */
__attribute__((weak)) int lua_wantedresults(lua_State *L);

static bool
result_wanted(lua_State *L) {
	return lua_wantedresults == NULL || lua_wantedresults(L) != 0;
}

/* A time argument in centiseconds. What does not fit the kernel is refused. */
static int
check_time(lua_State *L, int arg) {
	int is_whole;
	lua_Integer ti = lua_tointegerx(L, arg, &is_whole);
	if (!is_whole) {
		if (lua_type(L, arg) == LUA_TNUMBER) {
			luaL_argerror(L, arg,
			              lua_pushfstring(L, "a whole number of 1/100 s expected, got %f",
			                              lua_tonumber(L, arg)));
		}
		luaL_checkinteger(L, arg);
	}
	if (ti > INT_MAX) {
		luaL_argerror(L, arg, lua_pushfstring(L, "time %I is out of range", ti));
	}
	return ti < 0 ? 0 : (int)ti;
}

/* ---------------------------------------------------------------- tokens */

/*
 * The usual token of a wait is its own coroutine, and then nothing is stored:
 * the coroutine leads to the task. Other tokens are keys of a table, whose
 * values are sessions: an entry whose session is over means nothing.
 */

static bool
is_waiting(const struct task *t) {
	return t->state == TASK_SLEEPING || t->state == TASK_WAITING;
}

/* The task that waits under a number, or NULL. */
static struct task *
waiter(struct sched *S, int session) {
	struct pending *e = session != 0 ? pending_find(S, session) : NULL;
	if (e == NULL || pending_kind(e) != PENDING_TASK || !is_waiting(pending_task(e))) {
		return NULL;
	}
	return pending_task(e);
}

/* The sleeper or waiter that value arg is the token of, or NULL. */
static struct task *
find_token(lua_State *L, struct sched *S, int arg) {
	lua_State *co = lua_tothread(L, arg);
	if (co != NULL) {
		struct task *t = task_of(co);
		if (t != NULL && t->own_token && t->top == co && is_waiting(t)) {
			return t;
		}
		if (!S->thread_tokens) {
			return NULL;
		}
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_tokens);
	lua_pushvalue(L, arg);
	lua_rawget(L, -2);
	int session = (int)lua_tointeger(L, -1);
	lua_pop(L, 2);
	return waiter(S, session);
}

static void
store_token(lua_State *L, struct sched *S, int arg, int session) {
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_tokens);
	lua_pushvalue(L, arg);
	if (session != 0) {
		S->thread_tokens |= lua_isthread(L, arg);
		lua_pushinteger(L, session);
	} else {
		lua_pushnil(L);
	}
	lua_rawset(L, -3);
	lua_pop(L, 1);
}

static void
drop_token(lua_State *L, struct sched *S, struct task *t, int arg) {
	if (t->own_token) {
		t->own_token = false;
	} else {
		store_token(L, S, arg, 0);
	}
}

void
wait_forget_token(struct sched *S, struct task *t) {
	lua_State *L = t->top;
	if (t->own_token) {
		t->own_token = false;
	} else if (is_waiting(t) && lua_status(L) == LUA_YIELD && !lua_isnoneornil(L, 1)) {
		/* The suspended function keeps the token as its only argument. */
		store_token(L, S, 1, 0);
	}
}

/* ------------------------------------------------------- sleep and wait */

/* A wait of L's task is over: was it woken? Unless it was its own, its token is at 1. */
static bool
end_wait(lua_State *L) {
	struct task *t = task_resumed(L);
	bool woken = t->woken;
	t->woken = false;
	drop_token(L, t->S, t, 1);
	if (t->trace == TRACE_ON) {
		trace_event(t->S, t, "resume", NULL);
	}
	return woken;
}

/* Continues sleep. Results: "BREAK" if woken. */
static int
sleep_over(lua_State *L, int status, lua_KContext ctx) {
	(void)status;
	(void)ctx;
	if (!end_wait(L)) {
		return 0;
	}
	lua_pushliteral(L, TASK_BREAK);
	return 1;
}

static int
wait_over(lua_State *L, int status, lua_KContext ctx) {
	(void)status;
	(void)ctx;
	end_wait(L);
	return 0;
}

void
task_wait_end(lua_State *L) {
	end_wait(L);
}

/* Suspend t under that number. cs < 0 waits without a timer. */
static int
suspend(lua_State *L, struct task *t, int cs, int session, lua_KFunction k) {
	struct sched *S = t->S;
	if (t->trace == TRACE_ON) {
		trace_event(S, t, "sleep", L);
	}
	pending_add(S, session, PENDING_TASK, (uintptr_t)t, 0);
	if (cs >= 0) {
		sched_arm(S, session, cs);
		return task_suspend(L, t, TASK_SLEEPING, session, k);
	}
	return task_suspend(L, t, TASK_WAITING, session, k);
}

static void
check_token_free(lua_State *L, struct sched *S, int arg) {
	if (find_token(L, S, arg) != NULL) {
		luaL_error(L, "token duplicative");
	}
}

/* Suspend t with its coroutine as token; the stack stays as it is. *told gets the number. */
static int
suspend_own(lua_State *L, struct task *t, int cs, int *told, lua_KFunction k) {
	struct sched *S = t->S;
	if (S->thread_tokens) {
		lua_pushthread(L);
		check_token_free(L, S, lua_gettop(L));
		lua_pop(L, 1);
	}
	t->own_token = true;
	*told = sched_new_session(S);
	return suspend(L, t, cs, *told, k);
}

/* Suspend t with what is at index arg as token; nothing or nil stands for the coroutine. */
static int
suspend_wait(lua_State *L, struct task *t, int cs, int arg) {
	struct sched *S = t->S;
	lua_KFunction k = cs >= 0 ? sleep_over : wait_over;
	int session;
	if (lua_isnoneornil(L, arg) || lua_tothread(L, arg) == L) {
		return suspend_own(L, t, cs, &session, k);
	}
	lua_copy(L, arg, 1);
	lua_settop(L, 1);
	check_token_free(L, S, 1);
	session = sched_new_session(S);
	store_token(L, S, 1, session);
	return suspend(L, t, cs, session, k);
}

/* Lua: sleep(cs [, token]) */
static int
task_sleep(lua_State *L) {
	struct task *t = task_blocking(L, "skynet.sleep");
	return suspend_wait(L, t, check_time(L, 1), 2);
}

/* Lua: yield() */
static int
task_yield(lua_State *L) {
	int session;
	return suspend_own(L, task_blocking(L, "skynet.yield"), 0, &session, sleep_over);
}

/* Lua: wait([token]) */
static int
task_wait(lua_State *L) {
	return suspend_wait(L, task_blocking(L, "skynet.wait"), -1, 1);
}

int
task_wait_session(lua_State *L, const char *what, int cs, int *session, lua_KFunction k) {
	struct task *t = task_blocking(L, what);
	return suspend_own(L, t, cs, session, k != NULL ? k : cs >= 0 ? sleep_over : wait_over);
}

static void
wake(struct sched *S, struct task *t) {
	if (!t->woken) {
		t->woken = true;
		task_queue_push(&S->wake, t);
	}
}

void
task_wake(struct sched *S, int session) {
	struct task *t = waiter(S, session);
	if (t != NULL) {
		wake(S, t);
	}
}

bool
task_waits(struct sched *S, int session) {
	return waiter(S, session) != NULL;
}

/* Lua: wakeup(token) -> true, or nothing when nobody waits on it */
static int
task_wakeup(lua_State *L) {
	struct sched *S = sched_of(L);
	luaL_checkany(L, 1);
	struct task *t = find_token(L, S, 1);
	if (t == NULL) {
		return 0;
	}
	wake(S, t);
	lua_pushboolean(L, 1);
	return 1;
}

/* ------------------------------------------------------ timeout and fork */

static void
check_callable(lua_State *L, int arg) {
	if (!lua_isfunction(L, arg) && luaL_getmetafield(L, arg, "__call") == LUA_TNIL) {
		luaL_typeerror(L, arg, "function");
	}
}

/* A started task for the function at index 1 and the arguments above it. */
static struct task *
task_with_function(lua_State *L, struct sched *S, int n) {
	struct task *t = task_new(S, L);
	if (t != NULL && !lua_checkstack(t->L, n + LUA_MINSTACK)) {
		task_release(S, t);
		t = NULL;
	}
	if (t == NULL) {
		lua_nomem(L);
	}
	lua_xmove(L, t->L, n);
	return t;
}

static int
push_thread(lua_State *L, struct task *t) {
	t->escaped = true;
	lua_pushthread(t->L);
	lua_xmove(t->L, L, 1);
	return 1;
}

/* Remember where a timer was armed; a task dump shows it. */
static void
note_timeout(lua_State *L, struct sched *S, int session, int cs) {
	sched_push_hook(L, S, "timeout_note");
	lua_pushinteger(L, session);
	luaL_traceback(L, L, lua_pushfstring(L, "TIMER %I+%d : ", (lua_Integer)skynet_now(), cs), 1);
	lua_remove(L, -2);
	lua_call(L, 2, 0);
}

/* Arm a timer for the function at index 2; returns its session. */
static int
arm_function(lua_State *L, struct sched *S, int cs, bool want_thread, struct task **made) {
	lua_settop(L, 2);
	int session = sched_new_session(S);
	if (S->trace_timeout) {
		note_timeout(L, S, session, cs);
	}
	if (want_thread || S->trace_timeout) {
		struct task *t = task_with_function(L, S, 1);
		t->session = session;
		pending_add(S, session, PENDING_TASK, (uintptr_t)t, 0);
		*made = t;
	} else {
		pending_add(S, session, PENDING_TIMER, (uintptr_t)value_keep(L, S) << 3, 0);
	}
	sched_arm(S, session, cs);
	return session;
}

/* Lua: timeout(cs, function) -> coroutine */
static int
task_timeout(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t = NULL;
	int cs = check_time(L, 1);
	check_callable(L, 2);
	bool wanted = result_wanted(L);
	arm_function(L, S, cs, wanted, &t);
	return wanted ? push_thread(L, t) : 0;
}

/* Lua: _arm(cs, function) -> session, for _cancel */
static int
task_arm(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t = NULL;
	int cs = check_time(L, 1);
	check_callable(L, 2);
	lua_pushinteger(L, arm_function(L, S, cs, false, &t));
	return 1;
}

/* Lua: fork(function, ...) -> coroutine */
static int
task_fork(lua_State *L) {
	struct sched *S = sched_of(L);
	check_callable(L, 1);
	bool wanted = result_wanted(L);
	struct task *t = task_with_function(L, S, lua_gettop(L));
	task_queue_push(&S->fork, t);
	return wanted ? push_thread(L, t) : 0;
}

/* Lua: _trace_timeout(on) */
static int
task_trace_timeout(lua_State *L) {
	sched_of(L)->trace_timeout = lua_toboolean(L, 1);
	return 0;
}

/* ------------------------------------------------------------ killthread */

void
task_abandon_wait(struct sched *S, struct task *t) {
	struct pending e;
	if (t->queued && t->state == TASK_READY) {
		(void)(task_queue_remove(&S->fork, t) || task_queue_remove(&S->stalled, t));
	} else if (t->queued) {
		task_queue_remove(t->failed ? &S->fail : &S->wake, t);
	}
	if (t->deadline != 0) {
		pending_void(S, t->deadline, PENDING_TICK, 0);
		t->deadline = 0;
	}
	if (t->session == 0) {
		return;
	}
	switch (t->state) {
	case TASK_CALLING:
		pending_void(S, t->session, PENDING_ANSWER, t->watch);
		break;
	case TASK_READY:
	case TASK_SLEEPING:
		pending_void(S, t->session, PENDING_TICK, 0);
		break;
	default:
		pending_take(S, t->session, &e);
		break;
	}
}

/* End a task that is not running. false: it is not in a state to be ended. */
static bool
kill_task(struct sched *S, struct task *t) {
	switch (t->state) {
	case TASK_READY:
		task_abandon_wait(S, t);
		lua_settop(t->L, 0);
		task_release(S, t);
		return true;
	case TASK_SLEEPING:
	case TASK_WAITING:
	case TASK_CALLING:
	case TASK_PARKED:
		task_abandon_wait(S, t);
		task_fail_debt(S, t, "the task was killed");
		task_close(S, t);
		return true;
	default:
		return false;
	}
}

/* Does text name the coroutine: "0x...", "thread: 0x...", or a dump's key? */
static bool
names_task(const char *text, const struct task *t) {
	char full[96];
	int n = snprintf(full, sizeof(full), "thread: %p", (void *)t->L);
	if (strcmp(text, full) == 0 || strcmp(text, full + strlen("thread: ")) == 0) {
		return true;
	}
	snprintf(full + n, sizeof(full) - (size_t)n, " session: %d", t->session);
	return strcmp(text, full) == 0 || strcmp(text, strstr(full, "session: ")) == 0;
}

static struct task *
find_named(struct sched *S, const char *text) {
	for (int i = 1; i < S->all_cap; i++) {
		struct task *t = S->all[i];
		if (t != NULL && t->state != TASK_FREE && names_task(text, t)) {
			return t;
		}
	}
	return NULL;
}

/*
 * Cancel a timer without a coroutine, named by its session as dumps do. Pushes
 * its function, or nothing and returns 0.
 */
static int
kill_timer(lua_State *L, struct sched *S, const char *text) {
	const char *at = strstr(text, "session: ");
	int session = at != NULL ? atoi(at + strlen("session: ")) : 0;
	struct pending *e = session > 0 ? pending_find(S, session) : NULL;
	if (e == NULL || pending_kind(e) != PENDING_TIMER) {
		return 0;
	}
	int ref = pending_ref(e);
	value_push(L, S, ref);
	pending_void(S, session, PENDING_TICK, 0);
	value_drop(L, S, ref);
	return 1;
}

/* Lua: killthread(coroutine or text) -> coroutine (function of a timer), or nothing */
static int
task_killthread(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t;
	if (lua_isthread(L, 1)) {
		t = task_of(lua_tothread(L, 1));
		if (t == NULL || t->L != lua_tothread(L, 1) || t->slot == 0) {
			return 0;
		}
	} else {
		const char *text = luaL_checkstring(L, 1);
		t = find_named(S, text);
		if (t == NULL) {
			return kill_timer(L, S, text);
		}
	}
	push_thread(L, t);
	return kill_task(S, t) ? 1 : 0;
}

const luaL_Reg task_wait_functions[] = {
    {"sleep", task_sleep},
    {"yield", task_yield},
    {"wait", task_wait},
    {"wakeup", task_wakeup},
    {"timeout", task_timeout},
    {"_arm", task_arm},
    {"fork", task_fork},
    {"_trace_timeout", task_trace_timeout},
    {"killthread", task_killthread},
    {NULL, NULL},
};
