/*
** llex.c, whose reserved words are shared strings: marked as reserved once, by
** the state that makes them, before any other state exists.
*/

#define LUA_CORE

#include "lprefix.h"

#include "llex.h"
#include "lstring.h"
#include "share.h"

static void stock_luaX_init (lua_State *L);
static void stock_luaX_setinput (lua_State *L, LexState *ls, ZIO *z,
                                 TString *source, int firstchar);

/*
** In its compatibility mode, stock Lua takes "global" out of the reserved
** words again whenever it starts to read a chunk. Here that is done once, so
** the stock code must not.
*/
#if LUA_COMPAT_GLOBAL
#define GLOBAL_IS_NAME	1
#else
#define GLOBAL_IS_NAME	0
#endif
#undef LUA_COMPAT_GLOBAL
#define LUA_COMPAT_GLOBAL	0

#define luaX_init stock_luaX_init
#define luaX_setinput stock_luaX_setinput
#include "llex.c"
#undef luaX_init
#undef luaX_setinput


void luaX_init (lua_State *L) {
  if (share_publishing) {
    stock_luaX_init(L);
    if (GLOBAL_IS_NAME)
      luaS_newliteral(L, "global")->extra = 0;
  }
  lua_assert(isreserved(luaS_newliteral(L, "and")));
}


void luaX_setinput (lua_State *L, LexState *ls, ZIO *z, TString *source,
                    int firstchar) {
  stock_luaX_setinput(L, ls, z, source, firstchar);
  ls->glbn = luaS_newliteral(L, "global");
}
