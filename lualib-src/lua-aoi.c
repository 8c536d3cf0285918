/*
 * skynet.aoi: areas of interest for Lua. A space belongs to its VM, whose allocator it uses: its
 * memory is the service's, under its limit, and returns when the space is collected or closed.
 * Loads in any Lua; nothing yields.
 */
#include "aoi.h"
#include "lua-nomem.h"
#include "lua-options.h"

#include <lauxlib.h>

#include <math.h>
#include <sys/random.h>

#define META "skynet.aoi"
/* Values of one event in the list. */
#define EVENT_SIZE 3

int luaopen_skynet_aoi(lua_State *L);

struct box {
	struct aoi *space;
};

static struct aoi *
check_space(lua_State *L) {
	const struct box *b = luaL_checkudata(L, 1, META);
	luaL_argcheck(L, b->space != NULL, 1, "the space is closed");
	return b->space;
}

static struct aoi_object *
check_object(lua_State *L, struct aoi *a) {
	lua_Integer id = luaL_checkinteger(L, 2);
	struct aoi_object *o = aoi_find(a, id);
	if (o == NULL) {
		luaL_error(L, "aoi: there is no object %I", (LUAI_UACINT)id);
	}
	return o;
}

/* The place in arguments `arg` and the one after it. */
static void
check_place(lua_State *L, const struct aoi *a, int arg, double *x, double *y) {
	*x = luaL_checknumber(L, arg);
	*y = luaL_checknumber(L, arg + 1);
	if (!aoi_is_place(a, *x, *y)) {
		luaL_error(L, "aoi: the place %f, %f is not finite, or too many cells away", *x, *y);
	}
}

static double
check_range(lua_State *L, const struct aoi *a, int arg) {
	double range = luaL_checknumber(L, arg);
	luaL_argcheck(L, aoi_is_range(a, range), arg,
	              "range must be 0 or more, whole when it counts cells, and at most 2^23 cells");
	return range;
}

//------------------------------------------------------------ life and death

/* The number option `name`. */
static double
check_option(lua_State *L, const char *name, double absent) {
	int type = lua_getfield(L, 1, name);
	double v = type == LUA_TNIL ? absent : lua_tonumber(L, -1);
	if ((type != LUA_TNIL && type != LUA_TNUMBER) || !isfinite(v) || v < 0) {
		luaL_error(L, "aoi option %s must be a number that is not negative", name);
	}
	lua_pop(L, 1);
	return v;
}

/* new{ cell =, margin =, by_cells = } -> space */
static int
lnew(lua_State *L) {
	static const char *const known[] = {"cell", "margin", "by_cells", NULL};
	lua_checkoptions(L, 1, "aoi", known);
	struct aoi_options o = {.cell = check_option(L, "cell", 0),
	                        .margin = check_option(L, "margin", 0)};
	luaL_argcheck(L, o.cell > 1e-100 && o.cell < 1e100, 1,
	              "aoi option cell must be the size of a cell");
	lua_getfield(L, 1, "by_cells");
	o.by_cells = lua_toboolean(L, -1);
	o.alloc = lua_getallocf(L, &o.alloc_ud);
	if (getrandom(&o.seed, sizeof(o.seed), GRND_NONBLOCK) != sizeof(o.seed)) {
		o.seed = (uint64_t)(uintptr_t)lua_topointer(L, LUA_REGISTRYINDEX);
	}
	struct box *b = lua_newuserdatauv(L, sizeof(*b), 0);
	b->space = NULL;
	luaL_setmetatable(L, META);
	b->space = aoi_new(&o);
	return b->space != NULL ? 1 : lua_nomem(L);
}

/* space:close() */
static int
lclose(lua_State *L) {
	struct box *b = luaL_checkudata(L, 1, META);
	struct aoi *a = b->space;
	b->space = NULL;
	if (a != NULL) {
		aoi_delete(a);
	}
	return 0;
}

//------------------------------------------------------------------- objects

/* space:add(id, x, y [, range [, is_hidden]]) */
static int
ladd(lua_State *L) {
	struct aoi *a = check_space(L);
	lua_Integer id = luaL_checkinteger(L, 2);
	double x, y;
	check_place(L, a, 3, &x, &y);
	struct aoi_role role = {
	    .is_watcher = !lua_isnoneornil(L, 5),
	    .is_marker = !lua_toboolean(L, 6),
	};
	if (role.is_watcher) {
		role.range = check_range(L, a, 5);
	}
	luaL_argcheck(L, role.is_watcher || role.is_marker, 6, "a hidden object needs a range");
	if (aoi_find(a, id) != NULL) {
		return luaL_error(L, "aoi: there is an object %I already", (LUAI_UACINT)id);
	}
	return aoi_add(a, id, &role, x, y) != NULL ? 0 : lua_nomem(L);
}

/* space:move(id, x, y) */
static int
lmove(lua_State *L) {
	struct aoi *a = check_space(L);
	struct aoi_object *o = check_object(L, a);
	double x, y;
	check_place(L, a, 3, &x, &y);
	return aoi_move(a, o, x, y) ? 0 : lua_nomem(L);
}

/* space:set_range(id, range) */
static int
lset_range(lua_State *L) {
	struct aoi *a = check_space(L);
	struct aoi_object *o = check_object(L, a);
	double range = check_range(L, a, 3);
	if (!aoi_object_is_watcher(o)) {
		return luaL_error(L, "aoi: object %I does not watch", (LUAI_UACINT)lua_tointeger(L, 2));
	}
	return aoi_set_range(a, o, range) ? 0 : lua_nomem(L);
}

/* space:remove(id) */
static int
lremove(lua_State *L) {
	struct aoi *a = check_space(L);
	return aoi_remove(a, check_object(L, a)) ? 0 : lua_nomem(L);
}

/* space:place(id) -> x, y; nil when there is no such object */
static int
lplace(lua_State *L) {
	const struct aoi *a = check_space(L);
	const struct aoi_object *o = aoi_find(a, luaL_checkinteger(L, 2));
	if (o == NULL) {
		return 0;
	}
	double x, y;
	aoi_object_place(o, &x, &y);
	lua_pushnumber(L, x);
	lua_pushnumber(L, y);
	return 2;
}

//-------------------------------------------------------------------- events

/* space:update([list]) -> list, count: kind, watcher, marker, kind, watcher, ... */
static int
lupdate(lua_State *L) {
	struct aoi *a = check_space(L);
	lua_settop(L, 2);
	if (!aoi_update(a)) {
		return lua_nomem(L);
	}
	size_t count;
	const struct aoi_event *e = aoi_events(a, &count);
	luaL_argcheck(L, count < INT32_MAX / EVENT_SIZE, 1, "too many events");
	if (lua_isnil(L, 2)) {
		lua_createtable(L, (int)count * EVENT_SIZE, 0);
	} else {
		luaL_checktype(L, 2, LUA_TTABLE);
		for (size_t i = lua_rawlen(L, 2); i > count * EVENT_SIZE; i--) {
			lua_pushnil(L);
			lua_rawseti(L, -2, (lua_Integer)i);
		}
	}
	lua_Integer n = 0;
	for (size_t i = 0; i < count; i++) {
		lua_pushinteger(L, e[i].kind);
		lua_rawseti(L, -2, ++n);
		lua_pushinteger(L, e[i].watcher);
		lua_rawseti(L, -2, ++n);
		lua_pushinteger(L, e[i].marker);
		lua_rawseti(L, -2, ++n);
	}
	aoi_clear_events(a); // only now: until here an error leaves them for the next call
	lua_pushinteger(L, (lua_Integer)count);
	return 2;
}

//------------------------------------------------------------------- queries

/* Ids that are collected; `list` is NULL while they are counted. */
struct ids {
	lua_Integer *list;
	size_t count;
};

static void
collect(void *ud, int64_t id) {
	struct ids *ids = ud;
	if (ids->list != NULL) {
		ids->list[ids->count] = id;
	}
	ids->count++;
}

/* Room for the ids that were counted. Visits run outside of Lua, so that no error passes them. */
static void
start_list(lua_State *L, struct ids *ids) {
	ids->list = lua_newuserdatauv(L, (ids->count + 1) * sizeof(*ids->list), 0);
	ids->count = 0;
}

static int
push_list(lua_State *L, const struct ids *ids) {
	lua_createtable(L, ids->count < INT32_MAX ? (int)ids->count : 0, 0);
	for (size_t i = 0; i < ids->count; i++) {
		lua_pushinteger(L, ids->list[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* space:seen_by(watcher) -> array of markers, as of the last update */
static int
lseen_by(lua_State *L) {
	struct aoi *a = check_space(L);
	const struct aoi_object *o = check_object(L, a);
	struct ids ids = {NULL, 0};
	aoi_seen_by(o, collect, &ids);
	start_list(L, &ids);
	aoi_seen_by(o, collect, &ids);
	return push_list(L, &ids);
}

/* space:watchers_of(marker) -> array of watchers, as of the last update */
static int
lwatchers_of(lua_State *L) {
	struct aoi *a = check_space(L);
	const struct aoi_object *o = check_object(L, a);
	struct ids ids = {NULL, 0};
	aoi_watchers_of(o, collect, &ids);
	start_list(L, &ids);
	aoi_watchers_of(o, collect, &ids);
	return push_list(L, &ids);
}

/* space:near(x, y, range) -> array of markers, as of now */
static int
lnear(lua_State *L) {
	struct aoi *a = check_space(L);
	double x, y;
	check_place(L, a, 2, &x, &y);
	double range = check_range(L, a, 4);
	struct ids ids = {NULL, 0};
	aoi_near(a, x, y, range, collect, &ids);
	start_list(L, &ids);
	aoi_near(a, x, y, range, collect, &ids);
	return push_list(L, &ids);
}

static void
set_field(lua_State *L, const char *name, size_t value) {
	lua_pushinteger(L, (lua_Integer)value);
	lua_setfield(L, -2, name);
}

/* space:stat() -> { objects =, pairs =, cells =, memory = } */
static int
lstat(lua_State *L) {
	struct aoi_stat s = aoi_stat(check_space(L));
	lua_createtable(L, 0, 4);
	set_field(L, "objects", s.objects);
	set_field(L, "pairs", s.pairs);
	set_field(L, "cells", s.cells);
	set_field(L, "memory", s.memory);
	return 1;
}

//-------------------------------------------------------------------- module

int
luaopen_skynet_aoi(lua_State *L) {
	static const luaL_Reg methods[] = {
	    {"add", ladd},
	    {"move", lmove},
	    {"set_range", lset_range},
	    {"remove", lremove},
	    {"place", lplace},
	    {"update", lupdate},
	    {"seen_by", lseen_by},
	    {"watchers_of", lwatchers_of},
	    {"near", lnear},
	    {"stat", lstat},
	    {"close", lclose},
	    {NULL, NULL},
	};
	static const luaL_Reg meta[] = {
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
	lua_pushinteger(L, AOI_ENTER);
	lua_setfield(L, -2, "ENTER");
	lua_pushinteger(L, AOI_MOVE);
	lua_setfield(L, -2, "MOVE");
	lua_pushinteger(L, AOI_LEAVE);
	lua_setfield(L, -2, "LEAVE");
	return 1;
}
