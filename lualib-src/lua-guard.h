// Limits of a gate's connections as Lua gives them (netpack_guard.h).
#ifndef lua_guard_h
#define lua_guard_h

#include <lua.h>

#include <stdint.h>

#include "netpack_guard.h"

// A limit in field `key` of the table at `index`, 0 without one. Raises when it is out of
// range.
int64_t guard_limit_field(lua_State *L, int index, const char *key);
// All rates in the table at `index`: [address_]package_rate, package_burst, byte_rate,
// byte_burst.
void guard_read_limits(lua_State *L, int index, struct guard_limits *l);
// The handle of a service that a gate routes to, at `index`; 0 without one.
uint32_t guard_opt_handle(lua_State *L, int index);

#endif
