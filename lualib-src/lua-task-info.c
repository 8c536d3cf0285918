/*
 * lua-task-info: looking at the tasks of a service. The texts of dumps are
 * made in lualib/skynet/taskinfo.lua; here is only what Lua cannot see.
 */
#include "lua-task-imp.h"

#include <stdio.h>

#include "skynet_server.h"

/* Lua: self() -> handle */
static int
task_self(lua_State *L) {
	lua_pushinteger(L, sched_of(L)->handle);
	return 1;
}

/* Lua: address(addr) -> ":%08x" for an integer, else tostring(addr) */
static int
task_address(lua_State *L) {
	luaL_checkany(L, 1);
	if (lua_isinteger(L, 1)) {
		char text[16];
		snprintf(text, sizeof(text), ":%08x", (unsigned)(uint32_t)lua_tointeger(L, 1));
		lua_pushstring(L, text);
	} else {
		luaL_tolstring(L, 1, NULL);
	}
	return 1;
}

/*
 * Lua: _pending() -> table: session -> coroutine, function (a timer without a
 * coroutine), table (a set of requests) or false (not wanted any more)
 */
static int
task_pending(lua_State *L) {
	struct sched *S = sched_of(L);
	lua_createtable(L, 0, (int)S->pending.count);
	for (uint32_t i = 0; i < S->pending.size; i++) {
		const struct pending *e = &S->pending.slot[i];
		if (e->session == 0) {
			continue;
		}
		switch (pending_kind(e)) {
		case PENDING_TASK: {
			struct task *t = pending_task(e);
			/* The dump hands the coroutine out: it must stay this task's. */
			luaL_checkstack(t->L, 1, NULL);
			lua_pushthread(t->L);
			lua_xmove(t->L, L, 1);
			break;
		}
		case PENDING_TIMER:
		case PENDING_SET:
			value_push(L, S, pending_ref(e));
			break;
		case PENDING_TICK:
		case PENDING_ANSWER:
			lua_pushboolean(L, 0);
			break;
		default:
			continue;
		}
		lua_rawseti(L, -2, e->session);
	}
	return 1;
}

/* Lua: _count() -> waiting entries without tombstones */
static int
task_count(lua_State *L) {
	struct sched *S = sched_of(L);
	lua_pushinteger(L, (lua_Integer)S->pending.count - S->pending.voids);
	return 1;
}

/* Lua: _session(coroutine) -> what it waits for, or nothing */
static int
task_session_of(lua_State *L) {
	lua_State *co = lua_tothread(L, 1);
	struct task *t = co != NULL ? task_of(co) : NULL;
	if (t == NULL || t->L != co || t->session == 0) {
		return 0;
	}
	lua_pushinteger(L, t->session);
	return 1;
}

/* Lua: _init_thread() -> the start-up task's coroutine while it runs, or nothing */
static int
task_init_thread(lua_State *L) {
	struct sched *S = sched_of(L);
	if (S->init_slot == 0) {
		return 0;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_threads);
	lua_rawgeti(L, -1, S->init_slot);
	return 1;
}

/* Lua: _root() -> coroutine of the running task, or nothing */
static int
task_root(lua_State *L) {
	struct sched *S = sched_of(L);
	if (S->running == NULL) {
		return 0;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_threads);
	lua_rawgeti(L, -1, S->running->slot);
	return 1;
}

const luaL_Reg task_info_functions[] = {
    {"self", task_self},           {"address", task_address},
    {"_pending", task_pending},    {"_count", task_count},
    {"_session", task_session_of}, {"_init_thread", task_init_thread},
    {"_root", task_root},          {NULL, NULL},
};
