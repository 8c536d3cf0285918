/*
 * Module skynet.require: `require` for services. A module's chunk may register work
 * that yields with skynet.init. In a task that work is done before require returns
 * (skynet.loading); on the main thread, where nothing can yield, it is kept here
 * until the service starts.
 *
 * On the main thread, where a service loads what it is made of, a module whose file
 * is known (snlua_search.c) is loaded at once; everything else, errors too, is left
 * to the standard function. The loader finds here what it needs, too.
 */
#include "snlua.h"

#include <lauxlib.h>
#include <lualib.h>

/* Upvalues of the functions here. */
enum { UP_STANDARD = 1, UP_PACKAGE };

/* Stack of a require: the name, package.loaded, and what follows. */
enum { ARG_NAME = 1, LOADED };

/* ---------------------------------------------------------------------- require */

/* Run the loader and its datum, which are on the top, and note what it returns. */
static int
run_loader(lua_State *L, const char *name) {
	lua_rotate(L, -2, 1);
	lua_pushvalue(L, ARG_NAME);
	lua_pushvalue(L, -3);
	lua_call(L, 2, 1);
	if (!lua_isnil(L, -1)) {
		lua_setfield(L, LOADED, name);
	} else {
		lua_pop(L, 1);
	}
	if (lua_getfield(L, LOADED, name) == LUA_TNIL) {
		lua_pushboolean(L, 1);
		lua_copy(L, -1, -2);
		lua_setfield(L, LOADED, name);
	}
	lua_rotate(L, -2, 1);
	return 2;
}

/* require(name) as the standard one: same results, same errors. */
static int
plain_require(lua_State *L) {
	const char *name = luaL_checkstring(L, ARG_NAME);
	lua_settop(L, ARG_NAME);
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, LOADED, name);
	if (lua_toboolean(L, -1)) {
		return 1;
	}
	lua_settop(L, LOADED);
	lua_pushvalue(L, lua_upvalueindex(UP_PACKAGE));
	if (snlua_push_known(L, name)) {
		return run_loader(L, name);
	}
	lua_settop(L, ARG_NAME);
	lua_pushvalue(L, lua_upvalueindex(UP_STANDARD));
	lua_insert(L, ARG_NAME);
	lua_call(L, 1, LUA_MULTRET);
	return lua_gettop(L);
}

static void
push_plain(lua_State *L) {
	lua_pushvalue(L, lua_upvalueindex(UP_STANDARD));
	lua_pushvalue(L, lua_upvalueindex(UP_PACKAGE));
	lua_pushcclosure(L, plain_require, 2);
}

static bool
is_preloaded(lua_State *L, const char *name) {
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
	bool is_there = lua_istable(L, -1) && lua_getfield(L, -1, name) != LUA_TNIL;
	lua_settop(L, ARG_NAME);
	return is_there;
}

static bool
is_main(lua_State *L) {
	bool is = lua_pushthread(L);
	lua_pop(L, 1);
	return is;
}

static int
results_of(lua_State *L, int status, lua_KContext base) {
	(void)status;
	return lua_gettop(L) - (int)base;
}

/* Push field `name` of skynet.loading. */
static void
push_loading(lua_State *L, const char *name) {
	push_plain(L);
	lua_pushliteral(L, "skynet.loading");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, name);
	lua_remove(L, -2);
}

/*
 * Lua: require(name). Loads a module, as the standard function does. Yields while
 * another task loads it, and in the work that it registered with skynet.init.
 */
static int
service_require(lua_State *L) {
	const char *name = luaL_checkstring(L, ARG_NAME);
	lua_settop(L, ARG_NAME);
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	if (lua_getfield(L, LOADED, name) != LUA_TNIL) {
		return 1;
	}
	lua_settop(L, ARG_NAME);
	if (is_main(L) || is_preloaded(L, name)) {
		return plain_require(L);
	}
	push_loading(L, "require");
	lua_pushvalue(L, ARG_NAME);
	push_plain(L);
	lua_callk(L, 2, LUA_MULTRET, ARG_NAME, results_of);
	return results_of(L, LUA_OK, ARG_NAME);
}

/* ------------------------------------------------------------------------- init */

/*
 * Lua: init(f). Registers start-up work of a service or module that may yield. In
 * its main chunk: f runs before the start function, or before require returns. In a
 * task that loads nothing: f runs at once.
 */
static int
init(lua_State *L) {
	if (!lua_isfunction(L, 1)) {
		return luaL_error(L,
		                  "bad argument #1 to 'skynet.init' (function expected, got %s): "
		                  "assertion failed!",
		                  luaL_typename(L, 1));
	}
	lua_settop(L, 1);
	if (!is_main(L)) {
		push_loading(L, "init");
		lua_insert(L, 1);
		lua_callk(L, 1, 0, 0, results_of);
		return 0;
	}
	switch (lua_getfield(L, LUA_REGISTRYINDEX, SNLUA_INIT_FIELD)) {
	case LUA_TNIL:
		lua_createtable(L, 1, 0);
		lua_pushvalue(L, -1);
		lua_setfield(L, LUA_REGISTRYINDEX, SNLUA_INIT_FIELD);
		break;
	case LUA_TTABLE:
		break;
	default:
		return luaL_error(L, "skynet.init after the service has started");
	}
	lua_pushvalue(L, 1);
	lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	return 0;
}

/* Run the functions of the list, which is at 1, after the n-th. */
static int
run_rest(lua_State *L, int status, lua_KContext n) {
	(void)status;
	while (lua_rawgeti(L, 1, (lua_Integer)++n) != LUA_TNIL) {
		lua_callk(L, 0, 0, n, run_rest);
	}
	return 0;
}

/* Lua: init_all(). Runs what was registered on the main thread, in order. Once. Yields. */
static int
init_all(lua_State *L) {
	lua_settop(L, 0);
	int type = lua_getfield(L, LUA_REGISTRYINDEX, SNLUA_INIT_FIELD);
	if (type == LUA_TBOOLEAN) {
		return luaL_error(L, "module init functions have run already");
	}
	lua_pushboolean(L, 0);
	lua_setfield(L, LUA_REGISTRYINDEX, SNLUA_INIT_FIELD);
	return type == LUA_TTABLE ? run_rest(L, LUA_OK, 0) : 0;
}

int
snlua_open_require(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"require", service_require},
	    {"init", init},
	    {NULL, NULL},
	};
	lua_createtable(L, 0, 4);
	lua_getglobal(L, "require");
	lua_getglobal(L, LUA_LOADLIBNAME);
	luaL_setfuncs(L, functions, 2);
	lua_pushcfunction(L, init_all);
	lua_setfield(L, -2, "init_all");
	lua_pushcfunction(L, snlua_script);
	lua_setfield(L, -2, "script");
	return 1;
}
