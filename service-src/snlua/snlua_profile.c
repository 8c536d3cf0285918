/*
 * skynet.profile: CPU time of single Lua threads, counted only while they run
 * (or while threads they resumed run). Its resume and wrap take the place of
 * the coroutine library's, since somebody has to see every switch.
 *
 * Each measured thread has a record, a userdata in a table with weak keys, so a
 * dead thread takes its record with it. container->profiled counts the records;
 * while it is 0 a resume costs one test more than the standard one.
 */
#include "snlua.h"

#include <stdbool.h>

#include <lauxlib.h>

#include "../../lualib-src/lua-weaktable.h"
#include "platform.h"

#define NS_PER_SECOND 1e9

/* Its address is the registry key of the table thread -> record. */
static const char records_key;

struct record {
	struct lua_container *counted_by; /* NULL once it is not counted any more */
	bool is_running;                  /* measuring since `since` */
	uint64_t since;                   /* CPU clock of the system thread, ns */
	uint64_t total;                   /* ns */
};

static int
record_gc(lua_State *L) {
	struct record *r = lua_touserdata(L, 1);
	if (r->counted_by != NULL) {
		r->counted_by->profiled--;
		r->counted_by = NULL;
	}
	return 0;
}

static struct record *
push_new_record(lua_State *L) {
	struct record *r = lua_newuserdatauv(L, sizeof *r, 0);
	r->counted_by = NULL;
	if (luaL_newmetatable(L, "skynet.profile.record")) {
		lua_pushcfunction(L, record_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	return r;
}

/* The record of `co`, or NULL. Uses L's stack, which it leaves as it was; never raises. */
static struct record *
find_record(lua_State *L, lua_State *co) {
	if (!lua_checkstack(L, 2) || !lua_checkstack(co, 1)) {
		return NULL;
	}
	struct record *r = NULL;
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &records_key) == LUA_TTABLE) {
		lua_pushthread(co);
		if (co != L) {
			lua_xmove(co, L, 1);
		}
		lua_rawget(L, -2);
		r = lua_touserdata(L, -1);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return r;
}

/* Whether `co` is on the chain of threads that run or wait for one they resumed. */
static bool
is_active(lua_State *co) {
	lua_Debug ar;
	return lua_status(co) == LUA_OK && lua_getstack(co, 0, &ar);
}

static void
record_begin(struct record *r) {
	r->is_running = true;
	r->since = platform_thread_cpu_ns();
}

static void
record_end(struct record *r) {
	if (r->is_running) {
		r->is_running = false;
		r->total += platform_thread_cpu_ns() - r->since;
	}
}

/* Drop the record of `co`. */
static void
remove_record(lua_State *L, lua_State *co, struct record *r) {
	r->counted_by->profiled--;
	r->counted_by = NULL;
	lua_pushweaktable(L, &records_key);
	lua_pushthread(co);
	if (co != L) {
		lua_xmove(co, L, 1);
	}
	lua_pushnil(L);
	lua_rawset(L, -3);
	lua_pop(L, 1);
}

int
snlua_resume_measured(struct lua_container *c, lua_State *co, lua_State *from, int nargs,
                      int *nresults) {
	lua_State *L = from != NULL ? from : snlua_of(c)->L;
	struct record *r = find_record(L, co);
	if (r != NULL) {
		record_begin(r);
	}
	int status = lua_resume(co, from, nargs, nresults);
	r = find_record(L, co); /* it may have been stopped, or started, meanwhile */
	if (r != NULL) {
		record_end(r);
	}
	return status;
}

void
snlua_forget_measured(struct lua_container *c, lua_State *co) {
	lua_State *L = snlua_of(c)->L;
	struct record *r = find_record(L, co);
	if (r != NULL && lua_checkstack(L, 3)) {
		remove_record(L, co, r);
	}
}

/* ---------------------------------------------------------------- the library */

static lua_State *
optional_thread(lua_State *L) {
	if (lua_isnoneornil(L, 1)) {
		return L;
	}
	luaL_checktype(L, 1, LUA_TTHREAD);
	return lua_tothread(L, 1);
}

/* start([thread]) */
static int
lstart(lua_State *L) {
	struct lua_container *c = lua_container_here(L);
	lua_State *co = optional_thread(L);
	if (find_record(L, co) != NULL) {
		return luaL_error(L, "Thread %p start profile more than once", (void *)co);
	}
	luaL_checkstack(co, 1, NULL);
	lua_pushweaktable(L, &records_key);
	lua_pushthread(co);
	if (co != L) {
		lua_xmove(co, L, 1);
	}
	struct record *r = push_new_record(L);
	lua_rawset(L, -3);
	c->profiled++;
	r->counted_by = c;
	r->is_running = false;
	r->total = 0;
	if (is_active(co)) {
		record_begin(r);
	}
	return 0;
}

/* stop([thread]) -> seconds */
static int
lstop(lua_State *L) {
	lua_State *co = optional_thread(L);
	struct record *r = find_record(L, co);
	if (r == NULL) {
		return luaL_error(L, "Call profile.start() before profile.stop()");
	}
	record_end(r);
	double seconds = (double)r->total / NS_PER_SECOND;
	remove_record(L, co, r);
	lua_pushnumber(L, seconds);
	return 1;
}

/*
 * Resume `co` with the top nargs values of L. Returns the number of results,
 * now at the top, or -1 with an error value there.
 */
static int
resume_with(lua_State *L, lua_State *co, int nargs) {
	int nresults;
	if (!lua_checkstack(co, nargs)) {
		lua_pushliteral(L, "too many arguments to resume");
		return -1;
	}
	lua_xmove(L, co, nargs);
	int status = lua_container_resume(lua_container_here(L), co, L, nargs, &nresults);
	if (status != LUA_OK && status != LUA_YIELD) {
		lua_xmove(co, L, 1);
		return -1;
	}
	if (!lua_checkstack(L, nresults + 1)) {
		lua_pop(co, nresults);
		lua_pushliteral(L, "too many results to resume");
		return -1;
	}
	lua_xmove(co, L, nresults);
	return nresults;
}

/* resume(co, ...) */
static int
lresume(lua_State *L) {
	luaL_checktype(L, 1, LUA_TTHREAD);
	int n = resume_with(L, lua_tothread(L, 1), lua_gettop(L) - 1);
	int values = n < 0 ? 1 : n;
	lua_pushboolean(L, n >= 0);
	lua_insert(L, -(values + 1));
	return values + 1;
}

/* What wrap returned; upvalue: the thread. */
static int
call_wrapped(lua_State *L) {
	lua_State *co = lua_tothread(L, lua_upvalueindex(1));
	int n = resume_with(L, co, lua_gettop(L));
	if (n >= 0) {
		return n;
	}
	int status = lua_status(co);
	bool has_failed = status != LUA_OK && status != LUA_YIELD;
	if (has_failed) {
		/* Its pending to-be-closed variables may put another error in place. */
		status = lua_closethread(co, L);
		lua_xmove(co, L, 1);
	}
	if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
		luaL_where(L, 1);
		lua_insert(L, -2);
		lua_concat(L, 2);
	}
	return lua_error(L);
}

/* wrap(f) */
static int
lwrap(lua_State *L) {
	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_State *co = lua_newthread(L);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	lua_pushcclosure(L, call_wrapped, 1);
	return 1;
}

int
snlua_open_profile(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"start", lstart}, {"stop", lstop}, {"resume", lresume}, {"wrap", lwrap}, {NULL, NULL},
	};
	luaL_newlib(L, functions);
	return 1;
}
