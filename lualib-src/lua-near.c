/* skynet.near: which of known names another one is a slip of the pen for. */
#include <lauxlib.h>
#include <lua.h>

#include "near_name.h"

int luaopen_skynet_near(lua_State *L);

/* The keys of the table at `index`. */
static void
offer_keys(lua_State *L, int index, struct near_name *n) {
	luaL_checktype(L, index, LUA_TTABLE);
	lua_pushnil(L);
	while (lua_next(L, index) != 0) {
		if (lua_type(L, -2) == LUA_TSTRING) {
			near_offer(n, lua_tostring(L, -2));
		}
		lua_pop(L, 1);
	}
}

/* near(name, known [, more]) -> key of one of the tables, or nil */
static int
lnear(lua_State *L) {
	struct near_name n;
	near_begin(&n, luaL_checkstring(L, 1));
	lua_settop(L, 3);
	offer_keys(L, 2, &n);
	if (!lua_isnil(L, 3)) {
		offer_keys(L, 3, &n);
	}
	lua_pushstring(L, near_result(&n));
	return 1;
}

int
luaopen_skynet_near(lua_State *L) {
	luaL_checkversion(L);
	lua_pushcfunction(L, lnear);
	return 1;
}
