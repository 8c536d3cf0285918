/*
** lauxlib.c, whose luaL_loadfilex the code cache (share_cache.c) replaces and
** uses.
*/

#define LUA_LIB

#include "lprefix.h"

#include "lauxlib.h"
#include "share.h"

#define luaL_loadfilex stock_loadfilex
#include "lauxlib.c"
#undef luaL_loadfilex
