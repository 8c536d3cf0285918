/*
** lstate.c, with what the overlay keeps for each state attached to it.
*/

#define LUA_CORE

#include "lprefix.h"

#include <pthread.h>
#include <stdlib.h>

#include "lauxlib.h"
#include "lualib.h"
#include "share.h"

static lua_State *stock_lua_newstate (lua_Alloc f, void *ud, unsigned seed);
static void stock_lua_close (lua_State *L);

#define lua_newstate stock_lua_newstate
#define lua_close stock_lua_close
#include "lstate.c"
#undef lua_newstate
#undef lua_close


int share_publishing;


/*
** The record of a state hangs on a userdata that is the only fixed object: all
** strings that stock Lua would fix are shared.
*/
struct share_vm *share_vmof (global_State *g) {
  GCObject *o = g->fixedgc;
  if (o == NULL)
    return NULL;
  lua_assert(o->tt == LUA_VUSERDATA && o->next == NULL);
  return *cast(struct share_vm **, getudatamem(gco2u(o)));
}


static void newholder (lua_State *L, void *ud) {
  Udata *u = luaS_newudata(L, sizeof(ud), 0);
  *cast(void **, getudatamem(u)) = ud;
  luaC_fix(L, obj2gco(u));
}


static int attach (lua_State *L) {
  struct share_vm *vm = share_alloc(sizeof(*vm));
  if (vm == NULL)
    return 0;
  memset(vm, 0, sizeof(*vm));
  if (luaD_rawrunprotected(L, newholder, vm) != LUA_OK) {
    share_free(vm, sizeof(*vm));
    return 0;
  }
  return 1;
}


/*
** How many states there are. When a first one is made, what is shared by then
** will be found by it and by all that are made while there is any, so that none
** of them makes a twin. Each change is acquire and release: whoever makes a state
** afterwards sees the strings that were counted, and whoever makes a first state
** comes after all use of the former ones.
*/
static atomic_uint states;
atomic_size_t share_twinless;

static void count_state (void) {
  size_t n = share_stringcount();
  if (atomic_fetch_add_explicit(&states, 1, memory_order_acq_rel) == 0)
    /* an older value is only smaller */
    atomic_store_explicit(&share_twinless, n, memory_order_relaxed);
}


static void uncount_state (void) {
  atomic_fetch_sub_explicit(&states, 1, memory_order_acq_rel);
}


LUA_API lua_State *lua_newstate (lua_Alloc f, void *ud, unsigned seed) {
  lua_State *L;
  UNUSED(seed);  /* hashes must agree in all states */
  luaL_initcodecache();
  count_state();
  L = stock_lua_newstate(f, ud, share_seed);
  if (L != NULL && !attach(L)) {
    stock_lua_close(L);
    L = NULL;
  }
  if (L == NULL)
    uncount_state();
  return L;
}


LUA_API void lua_close (lua_State *L) {
  /* code may run until the very end of the state */
  struct share_vm *vm = share_vmof(G(L));
  stock_lua_close(L);
  uncount_state();
  if (vm != NULL) {
    share_releaseheld(vm);
    share_free(vm, sizeof(*vm));
  }
}


/*
** {======================================================
** Strings that all states have
** =======================================================
*/

static void *firstalloc (void *ud, void *ptr, size_t osize, size_t nsize) {
  UNUSED(ud); UNUSED(osize);
  if (nsize == 0) {
    free(ptr);
    return NULL;
  }
  return realloc(ptr, nsize);
}


static int openlibs (lua_State *L) {
  luaL_openlibs(L);
  return 0;
}


/*
** A state that lives for a moment makes reserved words, names of metamethods
** and the names in the standard libraries, and everything it makes is shared.
*/
static void publish (void) {
  lua_State *L;
  share_initstrings(luaL_makeseed(NULL));
  share_publishing = 1;
  L = stock_lua_newstate(firstalloc, NULL, share_seed);
  if (L != NULL) {
    lua_pushcfunction(L, openlibs);
    if (lua_pcall(L, 0, 0, 0) == LUA_OK) {
      stock_lua_close(L);
      share_publishing = 0;
      return;
    }
  }
  lua_writestringerror("%s\n", "not enough memory for shared strings");
  abort();
}


LUALIB_API void luaL_initcodecache (void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, publish);
}

/* }====================================================== */
