/*
 * lua-task-fail: what happens when a task fails, and how a service ends.
 *
 * The text of a failure goes to the log of this service, one entry for all
 * failures of a message; its first line goes to the requester, as the payload
 * of the ERROR message (which may be empty).
 */
#include "lua-task-imp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua-container.h"
#include "lua-seri.h"
#include "lua-skynet.h"
#include "skynet_handle.h"
#include "skynet_malloc.h"
#include "skynet_mq.h"
#include "skynet_server.h"

/* A requester gets at most this much of the first line of an error. */
#define CAUSE_MAX 512

/* -------------------------------------------------------------- ERROR out */

bool
sched_send_error(struct sched *S, uint32_t dest, int session, const char *cause) {
	size_t n = cause != NULL ? strcspn(cause, "\r\n") : 0;
	if (n > CAUSE_MAX) {
		n = CAUSE_MAX;
	}
	return skynet_send(S->ctx, 0, dest, PTYPE_ERROR, session, (void *)cause, n) >= 0;
}

/* Where the function that handled t's request is defined. */
static void
handler_position(struct sched *S, const struct task *t, char *buf, size_t sz) {
	lua_State *L = t->L;
	lua_Debug ar;
	int top = lua_gettop(L);
	snprintf(buf, sz, "?");
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	if (lua_rawgeti(L, -1, t->type) == LUA_TTABLE) {
		lua_pushliteral(L, "dispatch");
		lua_rawget(L, -2);
		if (lua_isfunction(L, -1) && lua_getinfo(L, ">S", &ar)) {
			snprintf(buf, sz, "%s:%d", ar.source, ar.linedefined);
		}
	}
	lua_settop(L, top);
}

void
task_fail_debt(struct sched *S, struct task *t, const char *cause) {
	if (!t->debt) {
		return;
	}
	t->debt = false;
	if (t->debt_session == 0) {
		return;
	}
	if (t->trace == TRACE_ON) {
		trace_event(S, t, "error", NULL);
	}
	sched_send_error(S, t->debt_source, t->debt_session, cause);
}

void
task_forgot_debt(struct sched *S, struct task *t) {
	char where[LUA_IDSIZE + 256];
	task_clear(t);
	handler_position(S, t, where, sizeof(where));
	skynet_notice(S->ctx, &S->forgotten, "Maybe forgot response session %d from :%08x : %s",
	              t->debt_session, t->debt_source, where);
	task_fail_debt(S, t, "the handler returned without an answer");
}

void
sched_bounce_dropped(struct sched *S, const struct response *r) {
	static const char cause[] = "the answer was dropped";
	struct skynet_context *self = skynet_handle_grab(S->handle);
	if (self != NULL) {
		skynet_notice(S->ctx, &S->forgotten,
		              "Maybe forgot response session %d from :%08x : the function of "
		              "skynet.response was dropped",
		              r->session, r->source);
		sched_send_error(S, r->source, r->session, cause);
		skynet_context_release(self);
		return;
	}
	sched_push_error(S, r->source, r->session);
}

/* The service is retired: it may not send, but a message can be queued. */
void
sched_push_error(struct sched *S, uint32_t dest, int session) {
	struct skynet_message m = {
	    .source = S->handle,
	    .session = session,
	    .data = NULL,
	    .sz = (size_t)PTYPE_ERROR << MESSAGE_TYPE_SHIFT,
	};
	skynet_context_push(dest, &m);
}

void
sched_bounce_debts(struct sched *S) {
	for (int i = 1; i < S->all_cap; i++) {
		struct task *t = S->all[i];
		if (t != NULL && t->debt && t->debt_session != 0) {
			sched_push_error(S, t->debt_source, t->debt_session);
		}
	}
}

/* --------------------------------------------------------- failure texts */

void
sched_add_failure(struct sched *S, const char *text) {
	size_t n = strlen(text);
	size_t need = S->failure_n + n + 2;
	if (need > S->failure_cap) {
		S->failure_cap = need * 2;
		S->failure = skynet_realloc(S->failure, S->failure_cap);
	}
	if (S->failure_n > 0) {
		S->failure[S->failure_n++] = '\n';
	}
	memcpy(S->failure + S->failure_n, text, n + 1);
	S->failure_n += n;
}

/* Lua, protected: (sched, inbound) */
static int
report(lua_State *L) {
	struct sched *S = lua_touserdata(L, 1);
	const struct inbound *in = lua_touserdata(L, 2);
	lua_pushlstring(L, S->failure, S->failure_n);
	lua_skynet_log_failure(S->ctx, &S->failures, L, LUA_ERRRUN, in->source, in->session, in->sz);
	return 0;
}

void
sched_report(struct sched *S, const struct inbound *in) {
	lua_State *L = S->main.L;
	lua_pushcfunction(L, report);
	lua_pushlightuserdata(L, S);
	lua_pushlightuserdata(L, (void *)in);
	if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
		lua_pop(L, 1);
		lua_skynet_log_failure(S->ctx, &S->failures, L, LUA_ERRMEM, in->source, in->session,
		                       in->sz);
	}
	skynet_free(S->failure);
	S->failure = NULL;
	S->failure_n = S->failure_cap = 0;
}

/* Lua, protected: (task, sched): the error value is on the task's stack. */
static int
describe_failure(lua_State *L) {
	struct task *t = lua_touserdata(L, 1);
	struct sched *S = lua_touserdata(L, 2);
	if (!lua_checkstack(t->L, 1)) {
		return luaL_error(L, "stack overflow");
	}
	lua_pushvalue(t->L, -1);
	lua_xmove(t->L, L, 1);
	const char *msg = task_hint(L, luaL_tolstring(L, -1, NULL));
	task_fail_debt(S, t, msg);
	luaL_traceback(L, t->L, msg, 0);
	sched_add_failure(S, lua_tostring(L, -1));
	return 0;
}

void
task_failed(struct sched *S, struct task *t) {
	lua_State *L = S->main.L;
	lua_pushcfunction(L, describe_failure);
	lua_pushlightuserdata(L, t);
	lua_pushlightuserdata(L, S);
	if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
		/* Out of memory, or an error value that cannot be described. */
		const char *msg = lua_type(t->L, -1) == LUA_TSTRING ? lua_tostring(t->L, -1) : NULL;
		sched_add_failure(S, msg != NULL ? msg : "(no error message)");
		lua_pop(L, 1);
	}
	task_fail_debt(S, t, NULL);
	lua_container_task_end(S->container, t->L);
	task_close(S, t);
}

/* Lua, protected: (task, sched, what or nothing) */
static int
describe_park(lua_State *L) {
	struct task *t = lua_touserdata(L, 1);
	struct sched *S = lua_touserdata(L, 2);
	const char *msg = "Task suspended by a plain coroutine.yield: nothing will resume it";
	if (lua_isstring(L, 3)) {
		msg = lua_pushfstring(L, "Unknown command : %s", lua_tostring(L, 3));
	}
	luaL_traceback(L, t->L, msg, 0);
	sched_add_failure(S, lua_tostring(L, -1));
	return 0;
}

void
sched_park_failure(struct sched *S, struct task *t, const char *what) {
	lua_State *L = S->main.L;
	lua_pushcfunction(L, describe_park);
	lua_pushlightuserdata(L, t);
	lua_pushlightuserdata(L, S);
	int n = 2;
	if (what != NULL && lua_checkstack(t->L, 1)) {
		n = 3;
		/* The string lives on the task's stack; no copy is made. */
		lua_pushvalue(t->L, -1);
		lua_xmove(t->L, L, 1);
	}
	if (lua_pcall(L, n, 0, 0) != LUA_OK) {
		lua_pop(L, 1);
		sched_add_failure(S, "Task suspended by a plain coroutine.yield");
	}
}

/* ---------------------------------------------------------- failed calls */

void
task_fail_call(struct sched *S, struct task *t, const char *cause, size_t n) {
	t->failed = true;
	t->session = 0;
	skynet_free(t->cause);
	t->cause = NULL;
	if (n > 0) {
		if (n > CAUSE_MAX) {
			n = CAUSE_MAX;
		}
		t->cause = skynet_malloc(n + 1);
		memcpy(t->cause, cause, n);
		t->cause[n] = '\0';
	}
	task_queue_push(&S->fail, t);
}

/* Calls to a global name that was not known when they were made. */
static void
fail_named(lua_State *L, struct sched *S, int arg) {
	for (int i = 1; i < S->all_cap; i++) {
		struct task *t = S->all[i];
		if (t == NULL || t->state != TASK_CALLING || t->queued || t->watch != 0) {
			continue;
		}
		/* A suspended call keeps its address as the first value. */
		lua_State *co = t->top;
		if (lua_type(co, 1) == LUA_TSTRING &&
		    strcmp(lua_tostring(co, 1), lua_tostring(L, arg)) == 0) {
			pending_void(S, t->session, PENDING_ANSWER, 0);
			task_fail_call(S, t, NULL, 0);
		}
	}
}

/* Lua: term(address): act as if it had been reported dead */
static int
task_term(lua_State *L) {
	struct sched *S = sched_of(L);
	if (lua_type(L, 1) == LUA_TSTRING && !lua_isnumber(L, 1)) {
		struct address a = address_check(L, S, 1);
		if (a.name != NULL) {
			fail_named(L, S, 1);
		} else if (!a.missing) {
			sched_source_dead(S, L, a.handle);
		}
		return 0;
	}
	sched_source_dead(S, L, (uint32_t)luaL_checkinteger(L, 1));
	return 0;
}

/* ------------------------------------------------------------------ exit */

static void
drop_forks(struct sched *S) {
	struct task *t;
	sched_retry_stalled(S);
	while ((t = task_queue_pop(&S->fork)) != NULL) {
		lua_settop(t->L, 0);
		task_release(S, t);
	}
}

static void
fail_debts(struct sched *S) {
	for (int i = 1; i < S->all_cap; i++) {
		if (S->all[i] != NULL) {
			task_fail_debt(S, S->all[i], "the service exits");
		}
	}
}

static int
compare_handles(const void *a, const void *b) {
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* Handles we wait for an answer of, sorted, may repeat. Caller frees. */
static uint32_t *
watched_handles(struct sched *S, size_t *n) {
	uint32_t *list = skynet_malloc((S->pending.count + 1) * sizeof(*list));
	*n = 0;
	for (uint32_t i = 0; i < S->pending.size; i++) {
		const struct pending *e = &S->pending.slot[i];
		uint32_t handle = 0;
		if (e->session == 0) {
			continue;
		}
		if (pending_kind(e) == PENDING_SET) {
			handle = e->aux;
		} else if (pending_kind(e) == PENDING_TASK && pending_task(e)->state == TASK_CALLING) {
			handle = pending_task(e)->watch;
		}
		if (handle != 0) {
			list[(*n)++] = handle;
		}
	}
	qsort(list, *n, sizeof(*list), compare_handles);
	return list;
}

static void
close_others(struct sched *S) {
	for (int i = 1; i < S->all_cap; i++) {
		struct task *t = S->all[i];
		if (t == NULL || t == S->running) {
			continue;
		}
		switch (t->state) {
		case TASK_SLEEPING:
		case TASK_WAITING:
		case TASK_CALLING:
		case TASK_PARKED:
			task_abandon_wait(S, t);
			task_close(S, t);
			break;
		case TASK_READY:
			task_abandon_wait(S, t);
			lua_settop(t->L, 0);
			task_release(S, t);
			break;
		default:
			break;
		}
	}
}

static void
fail_responses(struct sched *S) {
	struct response *r = S->responses.next;
	while (r != &S->responses) {
		struct response *next = r->next;
		if (!r->gone) {
			sched_send_error(S, r->source, r->session, "the service exits");
		}
		r->done = true;
		r->prev = r->next = r;
		r = next;
	}
	S->responses.prev = S->responses.next = &S->responses;
}

/* The callback of a service that has exited. */
static int
on_message_exited(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
                  const void *msg, size_t sz) {
	static const char cause[] = "the service exits";
	(void)ud;
	(void)msg;
	(void)sz;
	if (session != 0 && source != 0 && type != PTYPE_RESPONSE && type != PTYPE_ERROR) {
		skynet_send(ctx, 0, source, PTYPE_ERROR, session, (void *)cause, sizeof(cause) - 1);
	}
	return 0;
}

static void
tell_launcher(struct sched *S, lua_State *L) {
	void *msg;
	size_t sz;
	int top = lua_gettop(L);
	lua_pushliteral(L, "REMOVE");
	lua_pushinteger(L, S->handle);
	lua_pushboolean(L, 0);
	luaseri_pack_range(L, top + 1, &msg, &sz);
	skynet_sendname(S->ctx, 0, ".launcher", PTYPE_RESERVED_LUA | PTYPE_TAG_DONTCOPY, 0, msg, sz);
	lua_settop(L, top);
}

static int
never(lua_State *L, int status, lua_KContext ctx) {
	(void)status;
	(void)ctx;
	return luaL_error(L, "a task was resumed after skynet.exit");
}

int
task_exit(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t = task_blocking(L, "skynet.exit");
	/* It may raise, but for the rest there is always memory. */
	tell_launcher(S, L);
	S->exiting = true;
	drop_forks(S);
	fail_debts(S);
	size_t n;
	uint32_t *watched = watched_handles(S, &n);
	close_others(S);
	drop_forks(S);
	fail_responses(S);
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || watched[i] != watched[i - 1]) {
			skynet_send(S->ctx, 0, watched[i], PTYPE_ERROR, 0, NULL, 0);
		}
	}
	skynet_free(watched);
	sched_set_callback(S, on_message_exited);
	skynet_command(S->ctx, "EXIT", NULL);
	return task_suspend(L, t, TASK_QUITTING, 0, never);
}

const luaL_Reg task_fail_functions[] = {
    {"term", task_term},
    {"exit", task_exit},
    {NULL, NULL},
};
