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

/*
** The stock functions become static. The ones that running code uses all the
** time are compiled into their replacements, which then cost no extra call.
*/
#define STOCK	static
#define HOT	static inline __attribute__((always_inline))

HOT lu_byte stock_luaH_get (Table *t, const TValue *key, TValue *res);
HOT lu_byte stock_luaH_getshortstr (Table *t, TString *key, TValue *res);
STOCK lu_byte stock_luaH_getstr (Table *t, TString *key, TValue *res);
HOT const TValue *stock_luaH_Hgetshortstr (Table *t, TString *key);
HOT int stock_luaH_psetint (Table *t, lua_Integer key, TValue *val);
HOT int stock_luaH_psetshortstr (Table *t, TString *key, TValue *val);
STOCK int stock_luaH_psetstr (Table *t, TString *key, TValue *val);
HOT int stock_luaH_pset (Table *t, const TValue *key, TValue *val);
STOCK void stock_luaH_set (lua_State *L, Table *t, const TValue *key,
                                                   TValue *value);
STOCK void stock_luaH_setint (lua_State *L, Table *t, lua_Integer key,
                                                      TValue *value);
STOCK void stock_luaH_finishset (lua_State *L, Table *t, const TValue *key,
                                               TValue *value, int hres);
STOCK void stock_luaH_resize (lua_State *L, Table *t, unsigned nasize,
                                                      unsigned nhsize);
STOCK void stock_luaH_resizearray (lua_State *L, Table *t, unsigned nasize);
STOCK int stock_luaH_next (lua_State *L, Table *t, StkId key);
STOCK lua_Unsigned stock_luaH_getn (lua_State *L, Table *t);

#define luaH_get stock_luaH_get
#define luaH_getshortstr stock_luaH_getshortstr
#define luaH_getstr stock_luaH_getstr
#define luaH_Hgetshortstr stock_luaH_Hgetshortstr
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
#undef luaH_get
#undef luaH_getshortstr
#undef luaH_getstr
#undef luaH_Hgetshortstr
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
** Twins
** =======================================================
*/

/*
** Returns the key of 't' with the same text as 'key', or 'key' itself if there
** is none. What follows can then compare keys by address, as stock Lua does.
*/
static __attribute__((noinline)) TString *twinkey (Table *t, TString *key) {
  Node *n = hashstr(t, key);
  for (;;) {
    int nx = gnext(n);
    if (keyisshrstr(n) &&
        (keystrval(n) == key || share_istwin(keystrval(n), key)))
      return keystrval(n);
    if (nx == 0)
      return key;
    n += nx;
  }
}


/* the key to use for a string */
#define samekey(t,key) \
  (share_meetstwins() ? twinkey(t, key) : (key))


/* the key to use for any value; 'aux' is room for it */
#define samekeyTV(t,key,aux) \
  (share_meetstwins() && ttisshrstring(key) ? twinkeyTV(t, key, aux) : (key))

static const TValue *twinkeyTV (Table *t, const TValue *key, TValue *aux) {
  setsvalue(cast(lua_State *, NULL), aux, twinkey(t, tsvalue(key)));
  return aux;
}

/* }====================================================== */


/*
** {======================================================
** Writes
** =======================================================
*/

static l_noret writeerror (lua_State *L, const TValue *key) {
  static const char message[] = "attempt to change a shared table";
  if (key == NULL)
    luaG_runerror(L, "%s", message);
  else if (ttisstring(key))
    luaG_runerror(L, "%s (field '%s' is read-only)", message, getstr(tsvalue(key)));
  else if (ttisinteger(key))
    luaG_runerror(L, "%s (field [%I] is read-only)", message, (LUAI_UACINT)ivalue(key));
  else
    luaG_runerror(L, "%s (with a %s as key)", message, luaT_objtypename(L, key));
}


/* 'key' is NULL when it is not known. */
static void checkwrite (lua_State *L, const Table *t, const TValue *key) {
  if (l_unlikely(isshared(t)))
    writeerror(L, key);
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
  return stock_luaH_psetshortstr(t, samekey(t, key), val);
}


int luaH_psetstr (Table *t, TString *key, TValue *val) {
  if (l_unlikely(isshared(t)))
    return HNOTFOUND;
  if (strisshr(key))
    key = samekey(t, key);
  return stock_luaH_psetstr(t, key, val);
}


int luaH_pset (Table *t, const TValue *key, TValue *val) {
  TValue aux;
  if (l_unlikely(isshared(t)))
    return HNOTFOUND;
  return stock_luaH_pset(t, samekeyTV(t, key, &aux), val);
}


void luaH_set (lua_State *L, Table *t, const TValue *key, TValue *value) {
  TValue aux;
  checkwrite(L, t, key);
  stock_luaH_set(L, t, samekeyTV(t, key, &aux), value);
}


void luaH_setint (lua_State *L, Table *t, lua_Integer key, TValue *value) {
  TValue aux;
  setivalue(&aux, key);
  checkwrite(L, t, &aux);
  stock_luaH_setint(L, t, key, value);
}


void luaH_finishset (lua_State *L, Table *t, const TValue *key,
                                   TValue *value, int hres) {
  checkwrite(L, t, key);
  stock_luaH_finishset(L, t, key, value, hres);
}


void luaH_resize (lua_State *L, Table *t, unsigned nasize, unsigned nhsize) {
  checkwrite(L, t, NULL);
  stock_luaH_resize(L, t, nasize, nhsize);
}


void luaH_resizearray (lua_State *L, Table *t, unsigned nasize) {
  checkwrite(L, t, NULL);
  stock_luaH_resizearray(L, t, nasize);
}

/* }====================================================== */


/*
** {======================================================
** Reads
** =======================================================
*/

lu_byte luaH_get (Table *t, const TValue *key, TValue *res) {
  TValue aux;
  return stock_luaH_get(t, samekeyTV(t, key, &aux), res);
}


lu_byte luaH_getshortstr (Table *t, TString *key, TValue *res) {
  return stock_luaH_getshortstr(t, samekey(t, key), res);
}


lu_byte luaH_getstr (Table *t, TString *key, TValue *res) {
  if (strisshr(key))
    key = samekey(t, key);
  return stock_luaH_getstr(t, key, res);
}


const TValue *luaH_Hgetshortstr (Table *t, TString *key) {
  return stock_luaH_Hgetshortstr(t, samekey(t, key));
}


/*
** The array part of a shared table ends at a border ('share_table.c' sees to
** that), so there is nothing to search and no hint to keep.
*/
lua_Unsigned luaH_getn (lua_State *L, Table *t) {
  if (isshared(t))
    return t->asize;
  return stock_luaH_getn(L, t);
}


int luaH_next (lua_State *L, Table *t, StkId key) {
  TValue *k = s2v(key);
  if (share_meetstwins() && ttisshrstring(k))
    setsvalue(L, k, twinkey(t, tsvalue(k)));
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


/*
** {======================================================
** Tables of images
** =======================================================
*/

void share_nonodes (Table *t) {
  setnodevector(NULL, t, 0);
}


Node *share_newnodes (lua_State *L, Table *t, lu_byte lsize,
                                   const char *nodes) {
  size_t size = twoto(lsize) * sizeof(Node);
  if (lsize < LIMFORLAST)
    t->node = cast(Node *, luaM_newblock(L, size));
  else
    t->node = cast(Node *, luaM_newblock(L, size + sizeof(Limbox))
                           + sizeof(Limbox));
  t->lsizenode = lsize;
  setnodummy(t);
  if (haslastfree(t))
    getlastfree(t) = gnode(t, sizenode(t));
  memcpy(t->node, nodes, size);
  return t->node;
}

/* }====================================================== */
