/*
 * lua-nomem: the error for want of memory, as Lua raises it itself.
 *
 * Who has caught an error, or finds without Lua that there is no memory, knows it by its
 * text: Lua keeps that string in every state, so that nothing here needs memory.
 */
#ifndef LUA_NOMEM_H
#define LUA_NOMEM_H

#include <stdbool.h>
#include <string.h>

#include <lua.h>

#define NO_MEMORY "not enough memory"

/* Raises it. */
static inline int
lua_nomem(lua_State *L) {
	lua_pushliteral(L, NO_MEMORY);
	return lua_error(L);
}

/* Whether the value is that error, which Lua code may have caught and raised again. */
static inline bool
lua_isnomem(lua_State *L, int idx) {
	return lua_type(L, idx) == LUA_TSTRING && strcmp(lua_tostring(L, idx), NO_MEMORY) == 0;
}

#endif
