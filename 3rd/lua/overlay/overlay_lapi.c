/*
** lapi.c, with writes into shared tables refused, messages of errors that there
** is no memory for, and the questions that stock Lua has no answer for, or a
** dear one.
*/

#define LUA_CORE

#include "lprefix.h"

#include "share.h"
#include "share_write.h"

static int stock_lua_setmetatable (lua_State *L, int objindex);
static const char *stock_lua_pushvfstring (lua_State *L, const char *fmt,
                                           va_list argp);

#define lua_setmetatable stock_lua_setmetatable
#define lua_pushvfstring stock_lua_pushvfstring
#include "lapi.c"
#undef lua_setmetatable
#undef lua_pushvfstring


/*
** The stock one returns NULL and pushes nothing when memory is out, which
** luaL_error does not expect: it joins whatever two values are on the top.
*/
LUA_API const char *lua_pushvfstring (lua_State *L, const char *fmt,
                                      va_list argp) {
  const char *text = stock_lua_pushvfstring(L, fmt, argp);
  if (l_unlikely(text == NULL))
    luaM_error(L);
  return text;
}


LUA_API int lua_setmetatable (lua_State *L, int objindex) {
  const TValue *o = index2value(L, objindex);
  if (ttistable(o) && isshared(hvalue(o)))
    luaG_runerror(L, "can't setmetatable to shared table");
  return stock_lua_setmetatable(L, objindex);
}


LUA_API int lua_wantedresults (lua_State *L) {
  return get_nresults(L->ci->callstatus);
}


LUA_API int lua_checkroom (lua_State *L, int calls, int slots) {
  const CallInfo *ci = L->ci;
  if (ci == &L->base_ci && L->nci >= calls)
    calls = 0;  /* they are counted, so that none has to be touched */
  for (; calls > 0 && ci->next != NULL; calls--)
    ci = ci->next;
  for (; calls > 0; calls--) {
    if (luaE_extendCI(L, 0) == NULL)
      return 0;
  }
  return L->stack_last.p - L->top.p > slots || luaD_growstack(L, slots, 0);
}


LUA_API void *lua_testmeta (lua_State *L, int idx, int meta) {
  const TValue *o = index2value(L, idx);
  const TValue *m = index2value(L, meta);
  if (!ttisfulluserdata(o) || !ttistable(m) ||
      uvalue(o)->metatable != hvalue(m))
    return NULL;
  return getudatamem(uvalue(o));
}


LUA_API int lua_getnamed (lua_State *L, int idx, const void *name) {
  TString *str = cast(TString *, cast_sizet(name));
  const TValue *t = index2value(L, idx);
  lu_byte tag;
  luaV_fastget(t, str, s2v(L->top.p), luaH_getshortstr, tag);
  if (!tagisempty(tag)) {
    api_incr_top(L);
  }
  else {
    setsvalue2s(L, L->top.p, str);
    api_incr_top(L);
    tag = luaV_finishget(L, t, s2v(L->top.p - 1), L->top.p - 1, tag);
  }
  return novariant(tag);
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


/*
** {======================================================
** Places
** =======================================================
*/

/* what a frame or two of a thread need of its stack, before and behind its top */
#define PLACE_BELOW	(6 * sizeof(StackValue))
#define PLACE_ABOVE	(10 * sizeof(StackValue))

struct places {
  struct lua_Place *place;
  int n;
  int room;
};


static void addplace (struct places *p, const void *at, size_t size) {
  if (at != NULL && p->n < p->room) {
    p->place[p->n].at = at;
    p->place[p->n].size = size;
    p->n++;
  }
}


/* a frame of the C host is a part of the thread */
static void addframe (struct places *p, const lua_State *L,
                                        const CallInfo *ci) {
  if (ci != NULL && ci != &L->base_ci)
    addplace(p, ci, sizeof(CallInfo));
}


static void addthread (struct places *p, lua_State *L) {
  const char *bottom = cast(char *, L->stack.p);
  const char *top = cast(char *, L->top.p);
  CallInfo *ci = L->ci;
  if (cast_sizet(top - bottom) > PLACE_BELOW)
    bottom = top - PLACE_BELOW;
  addplace(p, cast(char *, L) - offsetof(LX, l), sizeof(LX));
  addplace(p, bottom, cast_sizet(top - bottom) + PLACE_ABOVE);
  addframe(p, L, ci->previous);
  addframe(p, L, ci);
  addframe(p, L, ci->next);
  if (ci->next != NULL)
    addframe(p, L, ci->next->next);
}


/* the node with a string that the function names, if the table has it */
static void addfields (struct places *p, Table *t, const Proto *f) {
  int i;
  for (i = 0; i < f->sizek; i++) {
    if (ttisshrstring(&f->k[i])) {
      const TValue *v = luaH_Hgetshortstr(t, tsvalue(&f->k[i]));
      if (!isabstkey(v))
        addplace(p, v, sizeof(Node));
    }
  }
}


static void addupvalues (struct places *p, const LClosure *cl) {
  int i;
  for (i = 0; i < cl->nupvalues; i++) {
    const UpVal *uv = cl->upvals[i];
    if (uv == NULL)
      continue;
    addplace(p, uv, sizeof(UpVal));
    if (ttistable(uv->v.p) && !isshared(hvalue(uv->v.p))) {
      addplace(p, hvalue(uv->v.p), sizeof(Table));
      addfields(p, hvalue(uv->v.p), cl->p);
    }
  }
}


LUA_API int lua_places (lua_State *L, int table, int function,
                        struct lua_Place *place, int n) {
  struct places p = {place, 0, n};
  addthread(&p, L);
  addplace(&p, G(L), offsetof(global_State, sweepgc));
  if (table != 0 && ttistable(index2value(L, table))) {
    Table *t = hvalue(index2value(L, table));
    addplace(&p, t, sizeof(Table));
    if (!isdummy(t))
      addplace(&p, t->node, sizenode(t) * sizeof(Node));
  }
  if (function != 0 && ttisLclosure(index2value(L, function))) {
    const LClosure *cl = clLvalue(index2value(L, function));
    addplace(&p, cl, sizeLclosure(cl->nupvalues));
    addupvalues(&p, cl);
  }
  return p.n;
}

/* }====================================================== */
