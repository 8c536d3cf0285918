/*
 * Tables of what C keeps about threads, functions and other values of a VM, each under a
 * key of the registry. Their keys are weak: what is kept ends with the value. For libraries
 * of any .so.
 */
#ifndef LUA_WEAKTABLE_H
#define LUA_WEAKTABLE_H

#include <lauxlib.h>
#include <lua.h>

/* Push the table whose registry key is that address, made when it is first needed. */
static inline void
lua_pushweaktable(lua_State *L, const void *key) {
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) == LUA_TTABLE) {
		return;
	}
	lua_pop(L, 1);
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "k");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

#endif
