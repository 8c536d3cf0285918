/*
 * skynet.snowflake: ids for Lua. All generators of a process share one sequence, so that services
 * with the same node number never give the same id; one with a clock of its own has its own.
 * Nothing yields.
 */
#include "lua-options.h"
#include "snowflake.h"

#include <lauxlib.h>
#include <lua.h>

#include <time.h>

#define META "skynet.snowflake"
/* 2020-01-01 00:00 UTC. */
#define DEFAULT_EPOCH 1577836800000
#define MAX_NODE ((1 << SNOWFLAKE_NODE_BITS) - 1)
#define MAX_TIME ((INT64_C(1) << SNOWFLAKE_TIME_BITS) - 1)
#define SEQUENCE_MASK ((1u << SNOWFLAKE_SEQUENCE_BITS) - 1)
#define TIME_SHIFT (SNOWFLAKE_NODE_BITS + SNOWFLAKE_SEQUENCE_BITS)
#define MAX_BATCH 1000000

int luaopen_skynet_snowflake(lua_State *L);

static struct snowflake_sequence shared;

/* User value 1 is the clock, or nil. */
struct generator {
	int64_t epoch;
	uint64_t node;
	struct snowflake_sequence own;
	struct snowflake_sequence *sequence;
};

static struct generator *
check_generator(lua_State *L) {
	return luaL_checkudata(L, 1, META);
}

/* Milliseconds since 1970, of the generator's clock. */
static int64_t
now_ms(lua_State *L, const struct generator *g) {
	if (g->sequence == &shared) {
		struct timespec t;
		clock_gettime(CLOCK_REALTIME, &t);
		return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
	}
	lua_getiuservalue(L, 1, 1);
	lua_call(L, 0, 1);
	if (!lua_isinteger(L, -1)) {
		luaL_error(L, "snowflake: the clock must return an integer, milliseconds since 1970");
	}
	int64_t now = lua_tointeger(L, -1);
	lua_pop(L, 1);
	return now;
}

/* Takes `count` pairs, of which the first is returned. Raises when the time does not fit an id. */
static uint64_t
take(lua_State *L, const struct generator *g, uint64_t count) {
	int64_t now = now_ms(L, g);
	// A clock before the epoch is an error only as long as no id was given.
	uint64_t first = snowflake_take(g->sequence, now > 0 ? (uint64_t)now : 0, count);
	int64_t from = (int64_t)(first >> SNOWFLAKE_SEQUENCE_BITS) - g->epoch;
	int64_t to = (int64_t)((first + count - 1) >> SNOWFLAKE_SEQUENCE_BITS) - g->epoch;
	if (from < 0) {
		luaL_error(L, "snowflake: the clock is before the epoch");
	} else if (to > MAX_TIME) {
		luaL_error(L, "snowflake: more than 2^%d ms since the epoch; take a later one",
		           SNOWFLAKE_TIME_BITS);
	}
	return first;
}

static lua_Integer
make_id(const struct generator *g, uint64_t pair) {
	uint64_t time = (pair >> SNOWFLAKE_SEQUENCE_BITS) - (uint64_t)g->epoch;
	return (lua_Integer)(time << TIME_SHIFT | g->node << SNOWFLAKE_SEQUENCE_BITS |
	                     (pair & SEQUENCE_MASK));
}

/* generator:next() -> id */
static int
lnext(lua_State *L) {
	const struct generator *g = check_generator(L);
	lua_pushinteger(L, make_id(g, take(L, g, 1)));
	return 1;
}

/* generator:batch(n) -> array of n ids */
static int
lbatch(lua_State *L) {
	const struct generator *g = check_generator(L);
	lua_Integer n = luaL_checkinteger(L, 2);
	luaL_argcheck(L, n >= 1 && n <= MAX_BATCH, 2, "1 to 1000000 ids");
	lua_createtable(L, (int)n, 0);
	uint64_t first = take(L, g, (uint64_t)n);
	for (lua_Integer i = 0; i < n; i++) {
		lua_pushinteger(L, make_id(g, first + (uint64_t)i));
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

static int
push_parts(lua_State *L, lua_Integer id, int64_t epoch) {
	lua_pushinteger(L, (id >> TIME_SHIFT) + epoch);
	lua_pushinteger(L, id >> SNOWFLAKE_SEQUENCE_BITS & MAX_NODE);
	lua_pushinteger(L, id & SEQUENCE_MASK);
	return 3;
}

static lua_Integer
check_id(lua_State *L, int arg) {
	lua_Integer id = luaL_checkinteger(L, arg);
	luaL_argcheck(L, id >= 0, arg, "no id: it is negative");
	return id;
}

/* generator:decode(id) -> milliseconds since 1970, node, sequence */
static int
lgenerator_decode(lua_State *L) {
	const struct generator *g = check_generator(L);
	return push_parts(L, check_id(L, 2), g->epoch);
}

static int64_t
check_epoch(lua_State *L, int arg) {
	lua_Integer epoch = luaL_optinteger(L, arg, DEFAULT_EPOCH);
	luaL_argcheck(L, epoch >= 0 && epoch <= MAX_TIME, arg, "epoch must be milliseconds since 1970");
	return epoch;
}

/* decode(id [, epoch]) -> milliseconds since 1970, node, sequence */
static int
ldecode(lua_State *L) {
	lua_Integer id = check_id(L, 1);
	return push_parts(L, id, check_epoch(L, 2));
}

/* The integer option `name`, within the limits. */
static lua_Integer
check_option(lua_State *L, const char *name, lua_Integer absent, lua_Integer high) {
	int type = lua_getfield(L, 1, name);
	int ok = 1;
	lua_Integer v = type == LUA_TNIL ? absent : lua_tointegerx(L, -1, &ok);
	if (!ok || v < 0 || v > high) {
		luaL_error(L, "snowflake option %s must be an integer from 0 to %I", name,
		           (LUAI_UACINT)high);
	}
	lua_pop(L, 1);
	return v;
}

/* new{ node =, epoch =, after =, clock = } -> generator */
static int
lnew(lua_State *L) {
	static const char *const known[] = {"node", "epoch", "after", "clock", NULL};
	lua_checkoptions(L, 1, "snowflake", known);
	lua_settop(L, 1);
	struct generator *g = lua_newuserdatauv(L, sizeof(*g), 1);
	*g = (struct generator){.sequence = &shared};
	g->node = (uint64_t)check_option(L, "node", -1, MAX_NODE);
	g->epoch = check_option(L, "epoch", DEFAULT_EPOCH, MAX_TIME);
	if (lua_getfield(L, 1, "clock") != LUA_TNIL) {
		luaL_argcheck(L, lua_isfunction(L, -1), 1, "snowflake option clock must be a function");
		g->sequence = &g->own;
	}
	lua_setiuservalue(L, -2, 1);
	lua_Integer after = check_option(L, "after", 0, LUA_MAXINTEGER);
	if (after > 0) {
		uint64_t time = (uint64_t)(after >> TIME_SHIFT) + (uint64_t)g->epoch;
		snowflake_raise(g->sequence,
		                time << SNOWFLAKE_SEQUENCE_BITS | ((uint64_t)after & SEQUENCE_MASK));
	}
	luaL_setmetatable(L, META);
	return 1;
}

int
luaopen_skynet_snowflake(lua_State *L) {
	static const luaL_Reg methods[] = {
	    {"next", lnext},
	    {"batch", lbatch},
	    {"decode", lgenerator_decode},
	    {NULL, NULL},
	};
	static const luaL_Reg functions[] = {
	    {"new", lnew},
	    {"decode", ldecode},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	if (luaL_newmetatable(L, META)) {
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	luaL_newlib(L, functions);
	lua_pushinteger(L, DEFAULT_EPOCH);
	lua_setfield(L, -2, "EPOCH");
	return 1;
}
