/*
** lauxlib.c, whose luaL_loadfilex the code cache (share_cache.c) replaces and
** uses, and whose buffers ask for memory a second time after a collection, as
** everything else in Lua does: a service near its limit may well have garbage.
*/

#define LUA_LIB

#include "lprefix.h"

#include "lauxlib.h"
#include "share.h"

static void *alloc_or_collect (lua_State *L, lua_Alloc f, void *ud, void *block,
                               size_t osize, size_t nsize) {
  void *p = f(ud, block, osize, nsize);
  if (p == NULL && nsize > osize) {
    lua_gc(L, LUA_GCCOLLECT);
    p = f(ud, block, osize, nsize);
  }
  return p;
}

/* The variable of that name, where it is called. */
#define allocf(ud, block, osize, nsize) \
	alloc_or_collect(L, allocf, ud, block, osize, nsize)
#define luaL_loadfilex stock_loadfilex
#include "lauxlib.c"
#undef luaL_loadfilex
#undef allocf
