/*
** ltable.c, with frozen tables: every function that writes a table refuses one
** that is shared, and those that only read leave no traces in it. Also the
** primitives to build such a table.
*/

#define LUA_CORE

#include "lprefix.h"

#include "lstring.h"
#include "ltable.h"
#include "share.h"
#include "share_write.h"

static int stock_luaH_psetint (Table *t, lua_Integer key, TValue *val);
static int stock_luaH_psetshortstr (Table *t, TString *key, TValue *val);
static int stock_luaH_psetstr (Table *t, TString *key, TValue *val);
static int stock_luaH_pset (Table *t, const TValue *key, TValue *val);
static void stock_luaH_set (lua_State *L, Table *t, const TValue *key,
                                                    TValue *value);
static void stock_luaH_setint (lua_State *L, Table *t, lua_Integer key,
                                                       TValue *value);
static void stock_luaH_finishset (lua_State *L, Table *t, const TValue *key,
                                                TValue *value, int hres);
static void stock_luaH_resize (lua_State *L, Table *t, unsigned nasize,
                                                       unsigned nhsize);
static void stock_luaH_resizearray (lua_State *L, Table *t, unsigned nasize);
static int stock_luaH_next (lua_State *L, Table *t, StkId key);
static lua_Unsigned stock_luaH_getn (lua_State *L, Table *t);

#define luaH_psetint stock_luaH_psetint
#define luaH_psetshortstr stock_luaH_psetshortstr
#define luaH_psetstr stock_luaH_psetstr
#define luaH_pset stock_luaH_pset
#define luaH_set stock_luaH_set
#define luaH_setint stock_luaH_setint
#define luaH_finishset stock_luaH_finishset
#define luaH_resize stock_luaH_resize
#define luaH_resizearray stock_luaH_resizearray
#define luaH_next stock_luaH_next
#define luaH_getn stock_luaH_getn
#include "ltable.c"
#undef luaH_psetint
#undef luaH_psetshortstr
#undef luaH_psetstr
#undef luaH_pset
#undef luaH_set
#undef luaH_setint
#undef luaH_finishset
#undef luaH_resize
#undef luaH_resizearray
#undef luaH_next
#undef luaH_getn


/*
** {======================================================
** Writes
** =======================================================
*/

static void checkwrite (lua_State *L, const Table *t) {
  if (l_unlikely(isshared(t)))
    luaG_runerror(L, "attempt to change a shared table");
}


/*
** A 'pset' cannot raise errors. "Not found" makes its caller go on to
** 'luaH_finishset', which can.
*/
int luaH_psetint (Table *t, lua_Integer key, TValue *val) {
  if (l_unlikely(isshared(t)))
    return HNOTFOUND;
  return stock_luaH_psetint(t, key, val);
}


int luaH_psetshortstr (Table *t, TString *key, TValue *val) {
  if (l_unlikely(isshared(t)))
    return HNOTFOUND;
  return stock_luaH_psetshortstr(t, key, val);
}


int luaH_psetstr (Table *t, TString *key, TValue *val) {
  if (l_unlikely(isshared(t)))
    return HNOTFOUND;
  return stock_luaH_psetstr(t, key, val);
}


int luaH_pset (Table *t, const TValue *key, TValue *val) {
  if (l_unlikely(isshared(t)))
    return HNOTFOUND;
  return stock_luaH_pset(t, key, val);
}


void luaH_set (lua_State *L, Table *t, const TValue *key, TValue *value) {
  checkwrite(L, t);
  stock_luaH_set(L, t, key, value);
}


void luaH_setint (lua_State *L, Table *t, lua_Integer key, TValue *value) {
  checkwrite(L, t);
  stock_luaH_setint(L, t, key, value);
}


void luaH_finishset (lua_State *L, Table *t, const TValue *key,
                                   TValue *value, int hres) {
  checkwrite(L, t);
  stock_luaH_finishset(L, t, key, value, hres);
}


void luaH_resize (lua_State *L, Table *t, unsigned nasize, unsigned nhsize) {
  checkwrite(L, t);
  stock_luaH_resize(L, t, nasize, nhsize);
}


void luaH_resizearray (lua_State *L, Table *t, unsigned nasize) {
  checkwrite(L, t);
  stock_luaH_resizearray(L, t, nasize);
}

/* }====================================================== */


/*
** {======================================================
** Reads
** =======================================================
*/

/*
** The array part of a shared table ends at a border ('share_table.c' sees to
** that), so there is nothing to search and no hint to keep.
*/
lua_Unsigned luaH_getn (lua_State *L, Table *t) {
  if (isshared(t))
    return t->asize;
  return stock_luaH_getn(L, t);
}


/*
** Stock 'next' finds strings by address. If the key has a twin in the table,
** that one is meant.
*/
int luaH_next (lua_State *L, Table *t, StkId key) {
  TValue *k = s2v(key);
  if (share_meetstwins() && ttisshrstring(k)) {
    const TValue *slot = luaH_Hgetshortstr(t, tsvalue(k));
    if (!isabstkey(slot))
      getnodekey(L, k, nodefromval(slot));
  }
  return stock_luaH_next(L, t, key);
}

/* }====================================================== */


/*
** {======================================================
** Building shared tables
** =======================================================
*/

size_t share_arraybytes (unsigned n) {
  return concretesize(n);
}


size_t share_hashbytes (unsigned n) {
  int lsize;
  if (n == 0)
    return 0;
  lsize = luaO_ceillog2(n);
  return twoto(lsize) * sizeof(Node) + (lsize < LIMFORLAST ? 0 : sizeof(Limbox));
}


/*
** Same layout as the stock parts; see 'resizearray' and 'setnodevector'.
*/
void share_inittable (Table *t, char *array, unsigned asize,
                                char *hash, unsigned n) {
  unsigned i;
  t->next = NULL;
  t->tt = LUA_VTABLE;
  t->marked = SHAREDMARK;
  t->flags = maskflags;
  t->metatable = NULL;
  t->gclist = NULL;
  t->asize = asize;
  t->array = NULL;
  if (asize > 0) {
    t->array = cast(Value *, array) + asize;
    *lenhint(t) = asize;
    clearNewSlice(t, 0, asize);
  }
  t->lsizenode = 0;
  t->node = cast(Node *, dummynode);
  setdummy(t);
  if (n > 0) {
    t->lsizenode = luaO_ceillog2(n);
    setnodummy(t);
    if (haslastfree(t))
      hash += sizeof(Limbox);
    t->node = cast(Node *, hash);
    for (i = 0; i < sizenode(t); i++) {
      gnext(gnode(t, i)) = 0;
      setnilkey(gnode(t, i));
      setempty(gval(gnode(t, i)));
    }
    if (haslastfree(t))
      getlastfree(t) = gnode(t, sizenode(t));
  }
}


void share_insert (Table *t, const TValue *key, TValue *value) {
  newcheckedkey(t, key, value);
}


/*
** Names of metamethods are shared strings, hence the same in all states.
*/
void share_seal (Table *t) {
  static const char *const names[] = {  /* ORDER TM */
    "__index", "__newindex", "__gc", "__mode", "__len", "__eq"
  };
  int i;
  for (i = 0; i <= TM_EQ; i++) {
    size_t len = strlen(names[i]);
    TString *name = share_find(names[i], len, share_hash(names[i], len));
    lua_assert(name != NULL);
    if (!isabstkey(luaH_Hgetshortstr(t, name)))
      t->flags &= cast_byte(~(1u << i));
  }
}

/* }====================================================== */
