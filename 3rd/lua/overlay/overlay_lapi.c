/*
** lapi.c, with writes into shared tables refused and the questions about a
** running C function that stock Lua has no answer for.
*/

#define LUA_CORE

#include "lprefix.h"

#include "share.h"
#include "share_write.h"

static int stock_lua_setmetatable (lua_State *L, int objindex);

#define lua_setmetatable stock_lua_setmetatable
#include "lapi.c"
#undef lua_setmetatable


LUA_API int lua_setmetatable (lua_State *L, int objindex) {
  const TValue *o = index2value(L, objindex);
  if (ttistable(o) && isshared(hvalue(o)))
    luaG_runerror(L, "can't setmetatable to shared table");
  return stock_lua_setmetatable(L, objindex);
}


LUA_API int lua_wantedresults (lua_State *L) {
  return get_nresults(L->ci->callstatus);
}


LUA_API int lua_issharedtable (lua_State *L, int idx) {
  const TValue *o = index2value(L, idx);
  return ttistable(o) && isshared(hvalue(o));
}


LUA_API void lua_sharestring (lua_State *L, int idx) {
  const TValue *o = index2value(L, idx);
  if (!ttisstring(o))
    luaG_runerror(L, "need a string to share");
  if (ttisshrstring(o)) {
    TString *ts = tsvalue(o);
    if (share_intern(getshrstr(ts), cast_sizet(ts->shrlen)) == NULL)
      luaM_error(L);
  }
}
