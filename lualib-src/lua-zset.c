/*
 * skynet.zset: sorted sets for Lua. A set belongs to its VM, whose allocator it uses: its memory is
 * the service's, under its limit, and returns when the set is collected or closed. Loads in any
 * Lua; nothing yields.
 */
#include "lua-options.h"
#include "lua-nomem.h"
#include "zset.h"

#include <lauxlib.h>

#include <math.h>
#include <string.h>
#include <sys/random.h>

#define META "skynet.zset"

int luaopen_skynet_zset(lua_State *L);

struct box {
	struct zset *set;
};

/* The set of argument 1. */
static struct zset *
check_set(lua_State *L) {
	struct box *b = luaL_checkudata(L, 1, META);
	luaL_argcheck(L, b->set != NULL, 1, "the zset is closed");
	return b->set;
}

static struct zset_member
check_member(lua_State *L, int arg) {
	struct zset_member m = {.bytes = NULL};
	if (lua_type(L, arg) == LUA_TSTRING) {
		m.bytes = lua_tolstring(L, arg, &m.size);
		return m;
	}
	int is_integer = 0;
	if (lua_type(L, arg) == LUA_TNUMBER) {
		m.integer = lua_tointegerx(L, arg, &is_integer);
	}
	if (!is_integer) {
		luaL_typeerror(L, arg, "member: string or integer");
	}
	return m;
}

static struct zset_score
check_score(lua_State *L, int arg) {
	luaL_checktype(L, arg, LUA_TNUMBER);
	if (lua_isinteger(L, arg)) {
		return (struct zset_score){.i = lua_tointeger(L, arg)};
	}
	double d = lua_tonumber(L, arg);
	luaL_argcheck(L, !isnan(d), arg, "score is NaN");
	return (struct zset_score){.is_float = true, .d = d};
}

static void
push_score(lua_State *L, struct zset_score s) {
	if (s.is_float) {
		lua_pushnumber(L, s.d);
	} else {
		lua_pushinteger(L, s.i);
	}
}

static void
push_member(lua_State *L, const struct zset_node *n) {
	struct zset_member m = zset_node_member(n);
	if (m.bytes != NULL) {
		lua_pushlstring(L, m.bytes, m.size);
	} else {
		lua_pushinteger(L, m.integer);
	}
}

//------------------------------------------------------------ life and death

/* Whether the option has the second of its two values; the first one is the default. */
static bool
second_choice(lua_State *L, const char *name, const char *first, const char *second) {
	const char *choice[] = {first, second, NULL};
	if (lua_isnoneornil(L, 1)) {
		return false;
	}
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_getfield(L, 1, name);
	const char *value = luaL_optstring(L, -1, first);
	int i = 0;
	while (choice[i] != NULL && strcmp(choice[i], value) != 0) {
		i++;
	}
	if (choice[i] == NULL) {
		luaL_error(L, "zset option %s must be \"%s\" or \"%s\", not \"%s\"", name, first, second,
		           value);
	}
	lua_pop(L, 1);
	return i == 1;
}

/* new([options]) -> set */
static int
lnew(lua_State *L) {
	static const char *const known[] = {"order", "ties", NULL};
	if (!lua_isnoneornil(L, 1)) {
		lua_checkoptions(L, 1, "zset", known);
	}
	struct zset_options o = {
	    .low_first = second_choice(L, "order", "high", "low"),
	    .ties_by_member = second_choice(L, "ties", "time", "member"),
	};
	o.alloc = lua_getallocf(L, &o.alloc_ud);
	if (getrandom(&o.seed, sizeof(o.seed), GRND_NONBLOCK) != sizeof(o.seed)) {
		o.seed = (uint64_t)(uintptr_t)lua_topointer(L, LUA_REGISTRYINDEX);
	}
	struct box *b = lua_newuserdatauv(L, sizeof(*b), 0);
	b->set = NULL;
	luaL_setmetatable(L, META);
	b->set = zset_new(&o);
	return b->set != NULL ? 1 : lua_nomem(L);
}

/* set:close() */
static int
lclose(lua_State *L) {
	struct box *b = luaL_checkudata(L, 1, META);
	struct zset *z = b->set;
	b->set = NULL;
	if (z != NULL) {
		zset_delete(z);
	}
	return 0;
}

/* set:clear() */
static int
lclear(lua_State *L) {
	zset_clear(check_set(L));
	return 0;
}

/* set:memory() -> bytes */
static int
lmemory(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)zset_memory(check_set(L)));
	return 1;
}

//------------------------------------------------------------------- members

static enum zset_result
add(lua_State *L, struct zset *z, const struct zset_member *m, struct zset_score s) {
	enum zset_result r = zset_add(z, m, s);
	if (r == ZSET_NO_MEMORY) {
		lua_nomem(L);
	}
	return r;
}

/* set:add(member, score) -> true when the member is new */
static int
ladd(lua_State *L) {
	struct zset *z = check_set(L);
	struct zset_member m = check_member(L, 2);
	lua_pushboolean(L, add(L, z, &m, check_score(L, 3)) == ZSET_ADDED);
	return 1;
}

static double
as_double(struct zset_score s) {
	return s.is_float ? s.d : (double)s.i;
}

/* set:incr(member, delta) -> score; an absent member counts as 0 */
static int
lincr(lua_State *L) {
	struct zset *z = check_set(L);
	struct zset_member m = check_member(L, 2);
	struct zset_score s = check_score(L, 3);
	const struct zset_node *n = zset_find(z, &m);
	if (n != NULL) {
		struct zset_score old = zset_node_score(n);
		if (!old.is_float && !s.is_float) {
			luaL_argcheck(L, !__builtin_add_overflow(old.i, s.i, &s.i), 3,
			              "the score leaves the range of integers");
		} else {
			s = (struct zset_score){.is_float = true, .d = as_double(old) + as_double(s)};
			luaL_argcheck(L, !isnan(s.d), 3, "the score becomes NaN");
		}
	}
	add(L, z, &m, s);
	push_score(L, s);
	return 1;
}

static struct zset_node *
find(lua_State *L, const struct zset *z) {
	struct zset_member m = check_member(L, 2);
	return zset_find(z, &m);
}

/* set:remove(member) -> score, or nil when it is no member */
static int
lremove(lua_State *L) {
	struct zset *z = check_set(L);
	struct zset_node *n = find(L, z);
	if (n == NULL) {
		return 0;
	}
	push_score(L, zset_node_score(n));
	zset_remove(z, n);
	return 1;
}

/* set:score(member) -> score or nil */
static int
lscore(lua_State *L) {
	const struct zset_node *n = find(L, check_set(L));
	if (n == NULL) {
		return 0;
	}
	push_score(L, zset_node_score(n));
	return 1;
}

/* set:rank(member) -> rank, score; or nil */
static int
lrank(lua_State *L) {
	const struct zset *z = check_set(L);
	const struct zset_node *n = find(L, z);
	if (n == NULL) {
		return 0;
	}
	lua_pushinteger(L, (lua_Integer)zset_rank(z, n));
	push_score(L, zset_node_score(n));
	return 2;
}

/* set:rev_rank(member) -> rank from the end, score; or nil */
static int
lrev_rank(lua_State *L) {
	const struct zset *z = check_set(L);
	const struct zset_node *n = find(L, z);
	if (n == NULL) {
		return 0;
	}
	lua_pushinteger(L, (lua_Integer)(zset_count(z) - zset_rank(z, n) + 1));
	push_score(L, zset_node_score(n));
	return 2;
}

/* set:at(rank) -> member, score; or nil. Negative ranks count from the end. */
static int
lat(lua_State *L) {
	const struct zset *z = check_set(L);
	lua_Integer rank = luaL_checkinteger(L, 2);
	if (rank < 0) {
		rank += (lua_Integer)zset_count(z) + 1;
	}
	const struct zset_node *n = rank > 0 ? zset_at(z, (size_t)rank) : NULL;
	if (n == NULL) {
		return 0;
	}
	push_member(L, n);
	push_score(L, zset_node_score(n));
	return 2;
}

//-------------------------------------------------------------------- ranges

/* Ranks first to last, of which there are none when last < first; read forward or backward. */
struct range {
	size_t first;
	size_t last;
	bool backward;
};

static size_t
range_size(const struct range *r) {
	return r->last < r->first ? 0 : r->last - r->first + 1;
}

static struct zset_node *
step(const struct zset_node *n, bool backward) {
	return backward ? zset_previous(n) : zset_next(n);
}

/* Push two arrays: the members of the range, and their scores. */
static int
push_range(lua_State *L, const struct zset *z, const struct range *r) {
	size_t size = range_size(r);
	int hint = size < INT32_MAX ? (int)size : INT32_MAX;
	lua_createtable(L, hint, 0);
	lua_createtable(L, hint, 0);
	const struct zset_node *n = size > 0 ? zset_at(z, r->backward ? r->last : r->first) : NULL;
	for (size_t i = 1; i <= size; i++) {
		push_member(L, n);
		lua_rawseti(L, -3, (lua_Integer)i);
		push_score(L, zset_node_score(n));
		lua_rawseti(L, -2, (lua_Integer)i);
		n = step(n, r->backward);
	}
	return 2;
}

/* The range of arguments `arg` and the one after it, which are ranks from where reading starts. */
static struct range
check_ranks(lua_State *L, const struct zset *z, int arg, bool backward) {
	lua_Integer count = (lua_Integer)zset_count(z);
	lua_Integer from = luaL_optinteger(L, arg, 1);
	lua_Integer to = luaL_optinteger(L, arg + 1, -1);
	from = from < 0 ? (from < -count ? 1 : from + count + 1) : from == 0 ? 1 : from;
	to = to < 0 ? (to < -count ? 0 : to + count + 1) : to;
	to = to > count ? count : to;
	if (from > to) {
		return (struct range){1, 0, backward};
	} else if (backward) {
		return (struct range){(size_t)(count - to + 1), (size_t)(count - from + 1), true};
	}
	return (struct range){(size_t)from, (size_t)to, false};
}

/* The range of scores min to max in arguments 2 and 3; nil is no bound. */
static struct range
check_scores(lua_State *L, const struct zset *z, bool backward) {
	struct zset_score low = {.is_float = true, .d = -HUGE_VAL};
	struct zset_score high = {.is_float = true, .d = HUGE_VAL};
	low = lua_isnoneornil(L, 2) ? low : check_score(L, 2);
	high = lua_isnoneornil(L, 3) ? high : check_score(L, 3);
	struct range r = {1, 0, backward};
	if (zset_compare_scores(low, high) > 0) {
		return r;
	}
	bool is_low_first = zset_is_low_first(z);
	r.first = zset_before(z, is_low_first ? low : high, false) + 1;
	r.last = zset_before(z, is_low_first ? high : low, true);
	return r;
}

/* set:range([from [, to]]) -> members, scores */
static int
lrange(lua_State *L) {
	const struct zset *z = check_set(L);
	struct range r = check_ranks(L, z, 2, false);
	return push_range(L, z, &r);
}

/* set:rev_range([from [, to]]) -> members, scores; rank 1 is the last one */
static int
lrev_range(lua_State *L) {
	const struct zset *z = check_set(L);
	struct range r = check_ranks(L, z, 2, true);
	return push_range(L, z, &r);
}

/* Leave out the first `offset` (argument 4) of the range, and all beyond `limit` (argument 5). */
static void
cut_range(lua_State *L, struct range *r) {
	lua_Integer offset = luaL_optinteger(L, 4, 0);
	lua_Integer limit = luaL_optinteger(L, 5, LUA_MAXINTEGER);
	luaL_argcheck(L, offset >= 0, 4, "negative offset");
	luaL_argcheck(L, limit >= 0, 5, "negative limit");
	size_t size = range_size(r);
	size_t skip = (size_t)offset < size ? (size_t)offset : size;
	size_t keep = (size_t)limit < size - skip ? (size_t)limit : size - skip;
	if (r->backward) {
		r->last -= skip;
		r->first = r->last + 1 - keep;
	} else {
		r->first += skip;
		r->last = r->first + keep - 1;
	}
}

/* set:range_by_score([min [, max [, offset [, limit]]]]) -> members, scores, in ranking order */
static int
lrange_by_score(lua_State *L) {
	const struct zset *z = check_set(L);
	struct range r = check_scores(L, z, false);
	cut_range(L, &r);
	return push_range(L, z, &r);
}

/* set:rev_range_by_score(...) -> members, scores; the other way round */
static int
lrev_range_by_score(lua_State *L) {
	const struct zset *z = check_set(L);
	struct range r = check_scores(L, z, true);
	cut_range(L, &r);
	return push_range(L, z, &r);
}

/* set:count([min [, max]]) -> how many have such a score */
static int
lcount(lua_State *L) {
	const struct zset *z = check_set(L);
	struct range r = check_scores(L, z, false);
	lua_pushinteger(L, (lua_Integer)range_size(&r));
	return 1;
}

static int
llen(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)zset_count(check_set(L)));
	return 1;
}

static int
remove_range(lua_State *L, struct zset *z, const struct range *r) {
	size_t size = range_size(r);
	struct zset_node *n = size > 0 ? zset_at(z, r->first) : NULL;
	for (size_t i = 0; i < size; i++) {
		struct zset_node *next = zset_next(n);
		zset_remove(z, n);
		n = next;
	}
	lua_pushinteger(L, (lua_Integer)size);
	return 1;
}

/* set:remove_range(from [, to]) -> how many went */
static int
lremove_range(lua_State *L) {
	struct zset *z = check_set(L);
	luaL_checkinteger(L, 2);
	struct range r = check_ranks(L, z, 2, false);
	return remove_range(L, z, &r);
}

/* set:remove_by_score(min, max) -> how many went */
static int
lremove_by_score(lua_State *L) {
	struct zset *z = check_set(L);
	luaL_checkany(L, 3);
	struct range r = check_scores(L, z, false);
	return remove_range(L, z, &r);
}

static int
pop(lua_State *L, bool is_lowest) {
	struct zset *z = check_set(L);
	struct zset_node *n = zset_at(z, is_lowest == zset_is_low_first(z) ? 1 : zset_count(z));
	if (n == NULL) {
		return 0;
	}
	push_member(L, n);
	push_score(L, zset_node_score(n));
	zset_remove(z, n);
	return 2;
}

/* set:pop_min() -> member, score; or nil when the set is empty */
static int
lpop_min(lua_State *L) {
	return pop(L, true);
}

/* set:pop_max() -> member, score; or nil when the set is empty */
static int
lpop_max(lua_State *L) {
	return pop(L, false);
}

//----------------------------------------------------------------- iteration

/* Upvalue 2 of an iterator; upvalue 1 is the set. */
struct cursor {
	const struct zset_node *next;
	uint64_t version;
	size_t left;
	lua_Integer rank;
	bool backward;
};

static int
literate(lua_State *L) {
	struct cursor *c = lua_touserdata(L, lua_upvalueindex(2));
	if (c->left == 0) {
		return 0;
	}
	const struct box *b = lua_touserdata(L, lua_upvalueindex(1));
	if (b->set == NULL || zset_version(b->set) != c->version) {
		return luaL_error(L,
		                  "the zset was changed during the iteration; collect first, change after");
	}
	lua_pushinteger(L, c->rank++);
	push_member(L, c->next);
	push_score(L, zset_node_score(c->next));
	c->left--;
	c->next = step(c->next, c->backward);
	return 3;
}

static int
iterator(lua_State *L, bool backward) {
	const struct zset *z = check_set(L);
	struct range r = check_ranks(L, z, 2, backward);
	lua_pushvalue(L, 1);
	struct cursor *c = lua_newuserdatauv(L, sizeof(*c), 0);
	*c = (struct cursor){
	    .version = zset_version(z),
	    .left = range_size(&r),
	    .backward = backward,
	};
	if (c->left > 0) {
		c->next = zset_at(z, backward ? r.last : r.first);
		c->rank = (lua_Integer)(backward ? zset_count(z) - r.last + 1 : r.first);
	}
	lua_pushcclosure(L, literate, 2);
	return 1;
}

/* for rank, member, score in set:each([from [, to]]) */
static int
leach(lua_State *L) {
	return iterator(L, false);
}

/* for rank, member, score in set:rev_each([from [, to]]) */
static int
lrev_each(lua_State *L) {
	return iterator(L, true);
}

//-------------------------------------------------------------------- module

int
luaopen_skynet_zset(lua_State *L) {
	static const luaL_Reg methods[] = {
	    {"add", ladd},
	    {"incr", lincr},
	    {"remove", lremove},
	    {"score", lscore},
	    {"rank", lrank},
	    {"rev_rank", lrev_rank},
	    {"at", lat},
	    {"range", lrange},
	    {"rev_range", lrev_range},
	    {"range_by_score", lrange_by_score},
	    {"rev_range_by_score", lrev_range_by_score},
	    {"count", lcount},
	    {"remove_range", lremove_range},
	    {"remove_by_score", lremove_by_score},
	    {"pop_min", lpop_min},
	    {"pop_max", lpop_max},
	    {"each", leach},
	    {"rev_each", lrev_each},
	    {"clear", lclear},
	    {"memory", lmemory},
	    {"close", lclose},
	    {NULL, NULL},
	};
	static const luaL_Reg meta[] = {
	    {"__len", llen},
	    {"__gc", lclose},
	    {"__close", lclose},
	    {NULL, NULL},
	};
	static const luaL_Reg functions[] = {
	    {"new", lnew},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	if (luaL_newmetatable(L, META)) {
		luaL_setfuncs(L, meta, 0);
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	luaL_newlib(L, functions);
	return 1;
}
