/*
** lstring.c, with short strings looked up first among the state's own and then
** among the shared ones before one is made.
*/

#define LUA_CORE

#include "lprefix.h"

#include "lstring.h"
#include "share.h"

static TString *stock_luaS_newlstr (lua_State *L, const char *str, size_t l);

/* replaced altogether */
#define UNUSED_STOCK	static __attribute__((unused))
UNUSED_STOCK void stock_luaS_init (lua_State *L);
UNUSED_STOCK TString *stock_luaS_new (lua_State *L, const char *str);
UNUSED_STOCK TString *stock_luaS_normstr (lua_State *L, TString *ts);

#define luaS_init stock_luaS_init
#define luaS_newlstr stock_luaS_newlstr
#define luaS_new stock_luaS_new
#define luaS_normstr stock_luaS_normstr
#include "lstring.c"
#undef luaS_init
#undef luaS_newlstr
#undef luaS_new
#undef luaS_normstr


unsigned share_hash (const char *str, size_t len) {
  return luaS_hash(str, len, share_seed);
}


/*
** Adds to the state's own strings one that is known to be missing.
*/
static TString *newshrstr (lua_State *L, const char *str, size_t l,
                           unsigned h) {
  stringtable *tb = &G(L)->strt;
  TString **list;
  TString *ts;
  if (tb->nuse >= tb->size)  /* need to grow string table? */
    growstrtab(L, tb);
  ts = createstrobj(L, sizestrshr(l), LUA_VSHRSTR, h);
  ts->shrlen = cast(ls_byte, l);
  memcpy(getshrstr(ts), str, l * sizeof(char));
  getshrstr(ts)[l] = '\0';  /* ending 0 */
  /* a collection while creating can have resized the table */
  list = &tb->hash[lmod(h, tb->size)];
  ts->u.hnext = *list;
  *list = ts;
  tb->nuse++;
  return ts;
}


/*
** An own string comes before a shared one with the same text, as it is the
** one that the state uses since it was created.
*/
static TString *shrstr (lua_State *L, const char *str, size_t l) {
  global_State *g = G(L);
  unsigned h = luaS_hash(str, l, g->seed);
  TString *ts;
  lua_assert(str != NULL);  /* otherwise 'memcmp'/'memcpy' are undefined */
  for (ts = g->strt.hash[lmod(h, g->strt.size)]; ts; ts = ts->u.hnext) {
    if (h == ts->hash && l == cast_uint(ts->shrlen) &&
        (memcmp(str, getshrstr(ts), l * sizeof(char)) == 0)) {
      if (isdead(g, ts))  /* dead (but not collected yet)? */
        changewhite(ts);  /* resurrect it */
      return ts;
    }
  }
  ts = share_find(str, l, h);
  if (ts != NULL)
    return ts;
  if (l_unlikely(share_publishing)) {
    ts = share_intern(str, l);
    if (ts == NULL)
      luaM_error(L);
    return ts;
  }
  return newshrstr(L, str, l, h);
}


TString *luaS_newlstr (lua_State *L, const char *str, size_t l) {
  if (l <= LUAI_MAXSHORTLEN)
    return shrstr(L, str, l);
  else
    return stock_luaS_newlstr(L, str, l);
}


/*
** Returns the state's own string with the text of a shared one, or NULL. Of most
** shared strings it need not look for one: where states are many, what is their
** own is in no cache.
*/
static TString *owntwin (lua_State *L, const TString *shared) {
  stringtable *tb = &G(L)->strt;
  TString *ts;
  if (l_likely(share_istwinless(shared)))
    return NULL;
  ts = tb->hash[lmod(shared->hash, tb->size)];
  for (; ts != NULL; ts = ts->u.hnext) {
    if (ts->hash == shared->hash && ts->shrlen == shared->shrlen &&
        memcmp(getshrstr(ts), getshrstr(shared),
               cast_sizet(ts->shrlen)) == 0)
      return ts;
  }
  return NULL;
}


/*
** Shared strings by the address of the C string that asked for them: most C
** strings are literals, and most literals name something that is shared. All
** states use the one cache. Shared strings live for ever, so that an entry is
** never wrong, only unhelpful.
*/
#define ADDRESSES	1021  /* a prime: literals lie close together */

static _Atomic(TString *) byaddress[ADDRESSES];


/*
** Asks the cache of all states, then that of the state as the stock function.
*/
TString *luaS_new (lua_State *L, const char *str) {
  _Atomic(TString *) *entry = &byaddress[point2uint(str) % ADDRESSES];
  /* pairs with the release below */
  TString *ts = atomic_load_explicit(entry, memory_order_acquire);
  TString **p;
  int j;
  if (ts != NULL && strcmp(str, getshrstr(ts)) == 0) {
    TString *own = owntwin(L, ts);
    if (own == NULL)
      return ts;
  }
  p = G(L)->strcache[point2uint(str) % STRCACHE_N];
  for (j = 0; j < STRCACHE_M; j++) {
    if (strcmp(str, getstr(p[j])) == 0)
      return p[j];
  }
  for (j = STRCACHE_M - 1; j > 0; j--)
    p[j] = p[j - 1];  /* move out last element */
  p[0] = luaS_newlstr(L, str, strlen(str));
  if (isshared(p[0]) && strisshr(p[0]))
    /* pairs with the acquire above: who finds the string sees its text */
    atomic_store_explicit(entry, p[0], memory_order_release);
  return p[0];
}


TString *luaS_normstr (lua_State *L, TString *ts) {
  size_t len = ts->u.lnglen;
  if (len > LUAI_MAXSHORTLEN)
    return ts;
  else
    return shrstr(L, getlngstr(ts), len);
}


void luaS_init (lua_State *L) {
  global_State *g = G(L);
  stringtable *tb = &g->strt;
  int i, j;
  tb->hash = luaM_newvector(L, MINSTRTABSIZE, TString*);
  tablerehash(tb->hash, 0, MINSTRTABSIZE);  /* clear array */
  tb->size = MINSTRTABSIZE;
  g->memerrmsg = luaS_newliteral(L, MEMERRMSG);
  luaC_fix(L, obj2gco(g->memerrmsg));
  for (i = 0; i < STRCACHE_N; i++)  /* fill cache with valid strings */
    for (j = 0; j < STRCACHE_M; j++)
      g->strcache[i][j] = g->memerrmsg;
}
