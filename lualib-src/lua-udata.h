/*
 * lua-udata: the check of an object whose metatable is at hand as an upvalue of the
 * called function. luaL_checkudata looks it up by name, which is noticed where each
 * message comes by several times. Owns nothing; the thread that runs the service.
 */
#ifndef LUA_UDATA_H
#define LUA_UDATA_H

#include <stddef.h>

#include <lua.h>

/* The block of the userdata at `arg` if upvalue `n` is its metatable, else NULL. */
static inline void *
udata_of(lua_State *L, int arg, int n) {
	void *p = lua_touserdata(L, arg);
	if (p == NULL || !lua_getmetatable(L, arg)) {
		return NULL;
	}
	const void *meta = lua_topointer(L, -1);
	lua_pop(L, 1);
	return meta == lua_topointer(L, lua_upvalueindex(n)) ? p : NULL;
}

#endif
