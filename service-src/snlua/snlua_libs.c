/*
 * The standard libraries of a new VM.
 *
 * Opening them is a quarter of the work of a launch: 150 functions, each with a
 * string to look up and a table to grow. So the tables that hold nothing but
 * plain functions and constants are made once, frozen, and copied into each VM
 * as ordinary tables. The libraries with state of their own (io, math with its
 * random numbers, package) are opened as always.
 */
#include "snlua.h"

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "lshare.h"

/* Entries of package.loaded once a service has started: libraries and modules. */
#define LOADED_ROOM 20

/* Written once, by snlua_init_libs; NULL: no copies, the libraries are opened. */
static struct library {
	const char *name;
	const void *frozen;
} libraries[] = {
    {LUA_COLIBNAME, NULL}, {LUA_TABLIBNAME, NULL},  {LUA_STRLIBNAME, NULL},
    {LUA_DBLIBNAME, NULL}, {LUA_UTF8LIBNAME, NULL}, {LUA_OSLIBNAME, NULL},
};
static const void *frozen_globals;
static const void *frozen_string_meta;
static bool is_frozen;

#define LIBRARIES (sizeof libraries / sizeof *libraries)

/* Whether any VM may have this value: a constant, or a C function without upvalues. */
static bool
is_plain(lua_State *L, int index) {
	if (lua_isstring(L, index)) {
		return true;
	}
	bool has_upvalue = lua_getupvalue(L, index, 1) != NULL;
	if (has_upvalue) {
		lua_pop(L, 1);
	}
	return lua_iscfunction(L, index) && !has_upvalue;
}

/*
 * Push a copy of the table at the top, with false in place of what belongs to
 * one VM only: its entry exists and will get its value in each VM.
 */
static void
push_template(lua_State *L) {
	int from = lua_gettop(L);
	lua_newtable(L);
	lua_pushnil(L);
	while (lua_next(L, from)) {
		lua_pushvalue(L, -2);
		if (is_plain(L, -2)) {
			lua_pushvalue(L, -2);
		} else {
			lua_pushboolean(L, 0);
		}
		lua_rawset(L, from + 1);
		lua_pop(L, 1);
	}
}

static const void *
freeze_top(lua_State *L) {
	push_template(L);
	const void *frozen = lua_sharetable(L, -1);
	lua_pop(L, 2);
	return frozen;
}

static int
freeze_all(lua_State *L) {
	luaL_openlibs(L);
	for (size_t i = 0; i < LIBRARIES; i++) {
		lua_getglobal(L, libraries[i].name);
		libraries[i].frozen = freeze_top(L);
	}
	lua_pushglobaltable(L);
	frozen_globals = freeze_top(L);
	lua_pushliteral(L, "");
	lua_getmetatable(L, -1);
	frozen_string_meta = freeze_top(L);
	return 0;
}

void
snlua_init_libs(void) {
#ifdef LUA_CACHELIB
	lua_State *L = luaL_newstate();
	if (L != NULL) {
		lua_pushcfunction(L, freeze_all);
		is_frozen = lua_pcall(L, 0, 0, 0) == LUA_OK;
		lua_close(L);
	}
#else
	(void)freeze_all; /* a copy would cost more than opening */
#endif
}

/* Name the table at the top in package.loaded, which is below it, and as a global. */
static void
publish(lua_State *L, const char *name) {
	lua_pushvalue(L, -1);
	lua_setfield(L, -3, name);
	lua_setglobal(L, name);
}

static void
open_globals(lua_State *L) {
	lua_copytable(L, frozen_globals);
	lua_pushvalue(L, -1);
	lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
	publish(L, LUA_GNAME);
}

/* All strings have one metatable, through which s:f() finds the library. */
static void
open_string_methods(lua_State *L) {
	lua_pushliteral(L, "");
	lua_copytable(L, frozen_string_meta);
	lua_getglobal(L, LUA_STRLIBNAME);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
	lua_pop(L, 1);
}

void
snlua_open_libs(lua_State *L) {
	if (!is_frozen) {
		luaL_openlibs(L);
		return;
	}
	lua_createtable(L, 0, LOADED_ROOM);
	lua_pushvalue(L, -1);
	lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	open_globals(L);
	for (size_t i = 0; i < LIBRARIES; i++) {
		lua_copytable(L, libraries[i].frozen);
		publish(L, libraries[i].name);
	}
	open_string_methods(L);
	luaL_requiref(L, LUA_LOADLIBNAME, luaopen_package, 1);
	luaL_requiref(L, LUA_IOLIBNAME, luaopen_io, 1);
	luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 1);
	lua_settop(L, lua_gettop(L) - 4);
}
