/*
** lgc.c, with shared strings that need not be fixed, and a look for unused
** shared code whenever a collection may have ended. The collector proper needs
** no change: it follows white objects only, and shared ones never are.
** Minor collections leave small stacks of coroutines as they are: a service
** under load would have them all cut down some hundred times a second, to grow
** each again with its next task. Major ones, which idle services get, do not.
*/

#define LUA_CORE

#include "lprefix.h"

#include "ldo.h"
#include "lgc.h"
#include "share.h"

/* Slots up to which a stack is small: a first one, twice doubled. */
#define SMALL_STACK	(4 * BASIC_STACK_SIZE)

static void stock_luaC_fix (lua_State *L, GCObject *o);
static void stock_luaC_step (lua_State *L);
static void stock_luaC_fullgc (lua_State *L, int isemergency);


static void shrink_stack (lua_State *L) {
  if (G(L)->gckind != KGC_GENMINOR || stacksize(L) > SMALL_STACK)
    luaD_shrinkstack(L);
}

#define luaC_fix stock_luaC_fix
#define luaC_step stock_luaC_step
#define luaC_fullgc stock_luaC_fullgc
#define luaD_shrinkstack shrink_stack
#include "lgc.c"
#undef luaC_fix
#undef luaC_step
#undef luaC_fullgc
#undef luaD_shrinkstack


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


/*
** What 'sweep2old' does, of objects that nobody looked for.
*/
static void makeold (global_State *g, GCObject *o) {
  for (; o != NULL; o = o->next) {
    set2black(o);
    setage(o, G_OLD);
    if (o->tt == LUA_VTHREAD)  /* threads must be watched */
      linkgclist(gco2th(o), g->grayagain);
    else if (o->tt == LUA_VUPVAL && upisopen(gco2upv(o)))
      set2gray(o);
  }
}


/*
** 'entergen' without the collection before it: compare 'atomic2gen'.
*/
LUA_API void lua_gcsettle (lua_State *L) {
  global_State *g = G(L);
  if (g->gckind != KGC_GENMINOR &&
      !(g->gckind == KGC_INC && g->gcstate == GCSpause)) {
    luaC_changemode(L, KGC_GENMINOR);  /* there is a collection under way */
    return;
  }
  cleargraylists(g);
  makeold(g, g->allgc);
  makeold(g, g->finobj);
  makeold(g, g->tobefnz);
  g->reallyold = g->old1 = g->survival = g->allgc;
  g->firstold1 = NULL;
  g->finobjrold = g->finobjold1 = g->finobjsur = g->finobj;
  g->gckind = KGC_GENMINOR;
  g->GCmajorminor = gettotalbytes(g);
  g->GCmarked = 0;
  luaD_shrinkstack(L);
  finishgencycle(L, g);
  setminordebt(g);
}


LUA_API int lua_isgenerational (lua_State *L) {
  return G(L)->gckind != KGC_INC;
}
