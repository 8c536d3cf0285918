/*
 * Between the two halves of skynet.sharetable.core. Everything belongs to the
 * thread that runs the service.
 */
#ifndef LUA_SHARETABLE_H
#define LUA_SHARETABLE_H

#include <lua.h>

/*
 * The frozen table that the lease at stack index `idx` stands for, or NULL when
 * the value is no lease or a closed one.
 */
const void *lua_sharetable_leased(lua_State *L, int idx);

/* Close the lease at `idx`: nothing in this VM points into its table any more. */
void lua_sharetable_close_lease(lua_State *L, int idx);

/*
 * Lua: rebind(new, olds): everywhere in this VM, replace the tables of the old
 * versions by what is at the same path of table `new`. `olds` is an array of leases, or
 * of tables where sharing is off. Does not yield.
 */
int lua_sharetable_rebind(lua_State *L);

/*
 * Lua: release(leases): close those of an array of leases into whose tables
 * nothing in this VM points; the number of the others. Does not yield.
 */
int lua_sharetable_release(lua_State *L);

#endif
