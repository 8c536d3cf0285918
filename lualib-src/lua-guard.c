// See lua-guard.h.
#include "lua-guard.h"

#include <lauxlib.h>

int64_t
guard_limit_field(lua_State *L, int index, const char *key) {
	lua_getfield(L, index, key);
	lua_Integer v = luaL_optinteger(L, -1, 0);
	lua_pop(L, 1);
	if (v < 0 || v > GUARD_MAX) {
		luaL_error(L, "limit %s is out of range", key);
	}
	return v;
}

void
guard_read_limits(lua_State *L, int index, struct guard_limits *l) {
	luaL_checktype(L, index, LUA_TTABLE);
	l->connection.packages = guard_limit_field(L, index, "package_rate");
	l->connection.package_burst = guard_limit_field(L, index, "package_burst");
	l->connection.bytes = guard_limit_field(L, index, "byte_rate");
	l->connection.byte_burst = guard_limit_field(L, index, "byte_burst");
	l->address.packages = guard_limit_field(L, index, "address_package_rate");
	l->address.package_burst = guard_limit_field(L, index, "address_package_burst");
	l->address.bytes = guard_limit_field(L, index, "address_byte_rate");
	l->address.byte_burst = guard_limit_field(L, index, "address_byte_burst");
}

uint32_t
guard_opt_handle(lua_State *L, int index) {
	lua_Integer handle = luaL_optinteger(L, index, 0);
	luaL_argcheck(L, handle >= 0 && handle <= UINT32_MAX, index, "not the handle of a service");
	return (uint32_t)handle;
}
