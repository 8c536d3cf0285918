/*
** lgc.c, with shared strings that need not be fixed, and a look for unused
** shared code whenever a collection may have ended. The collector proper needs
** no change: it follows white objects only, and shared ones never are.
*/

#define LUA_CORE

#include "lprefix.h"

#include "lgc.h"
#include "share.h"

static void stock_luaC_fix (lua_State *L, GCObject *o);
static void stock_luaC_step (lua_State *L);
static void stock_luaC_fullgc (lua_State *L, int isemergency);

#define luaC_fix stock_luaC_fix
#define luaC_step stock_luaC_step
#define luaC_fullgc stock_luaC_fullgc
#include "lgc.c"
#undef luaC_fix
#undef luaC_step
#undef luaC_fullgc


void luaC_fix (lua_State *L, GCObject *o) {
  if (!isshared(o))
    stock_luaC_fix(L, o);
}


void luaC_step (lua_State *L) {
  stock_luaC_step(L);
  share_collect(L, 0);
}


void luaC_fullgc (lua_State *L, int isemergency) {
  stock_luaC_fullgc(L, isemergency);
  if (!isemergency)  /* in an emergency, callers hold objects in C only */
    share_collect(L, 1);
}
