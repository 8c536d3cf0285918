/*
 * Tables of options for functions in C: names that do not exist are an error, with the one
 * that was probably meant. For libraries of any .so.
 */
#ifndef LUA_OPTIONS_H
#define LUA_OPTIONS_H

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "near_name.h"

/* Raises for the name at the top of the stack. `known` ends with NULL. */
static inline int
lua_refuseoption(lua_State *L, const char *what, const char *const *known) {
	const char *meant = NULL;
	struct near_name n;
	if (lua_type(L, -1) == LUA_TSTRING) {
		near_begin(&n, lua_tostring(L, -1));
		for (int i = 0; known[i] != NULL; i++) {
			near_offer(&n, known[i]);
		}
		meant = near_result(&n);
	}
	const char *name = luaL_tolstring(L, -1, NULL);
	if (meant != NULL) {
		return luaL_error(L, "unknown %s option '%s', did you mean '%s'?", what, name, meant);
	}
	return luaL_error(L, "unknown %s option '%s'", what, name);
}

/*
 * Raises unless at `index` is a table whose keys are all in `known`, which ends with NULL.
 * what: whose options they are.
 */
static inline void
lua_checkoptions(lua_State *L, int index, const char *what, const char *const *known) {
	luaL_checktype(L, index, LUA_TTABLE);
	lua_pushnil(L);
	while (lua_next(L, index) != 0) {
		lua_pop(L, 1);
		bool is_known = false;
		if (lua_type(L, -1) == LUA_TSTRING) {
			const char *name = lua_tostring(L, -1);
			for (int i = 0; known[i] != NULL && !is_known; i++) {
				is_known = strcmp(known[i], name) == 0;
			}
		}
		if (!is_known) {
			lua_refuseoption(L, what, known);
		}
	}
}

#endif
