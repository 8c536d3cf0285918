/*
 * lua-task-start: message classes (protocols) and the start-up of a service.
 *
 * The classes are Lua tables that belong to the user, in one table by name and
 * by id. Three of the four that every service has are rarely looked at, so they
 * are made when their name or id is first read.
 */
#include "lua-task-imp.h"

#include <string.h>

#include "lua-container.h"
#include "lua-nomem.h"
#include "lua-seri.h"
#include "near_name.h"
#include "platform.h"
#include "skynet_env.h"

/* --------------------------------------------------------------- classes */

/*
 * Store the class on the top of L (popped) under id and name. Without memory for the name
 * it is known by its id alone, until it is stored again.
 */
static void
store_class(lua_State *L, struct sched *S, const char *name, int id) {
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	lua_insert(L, -2);
	lua_pushstring(L, name);
	lua_pushvalue(L, -2);
	lua_rawseti(L, -4, id);
	lua_insert(L, -2);
	lua_rawset(L, -3);
	lua_pop(L, 1);
}

/* Push a class that will have so many fields. */
static void
new_class(lua_State *L, const char *name, int id, int fields) {
	lua_createtable(L, 0, fields);
	lua_pushstring(L, name);
	lua_setfield(L, -2, "name");
	lua_pushinteger(L, id);
	lua_setfield(L, -2, "id");
}

static void
set_function(lua_State *L, const char *field, lua_CFunction f) {
	lua_pushcfunction(L, f);
	lua_setfield(L, -2, field);
}

static int
identity(lua_State *L) {
	return lua_gettop(L);
}

static int
debug_done(lua_State *L, int status, lua_KContext ctx) {
	(void)L;
	(void)status;
	(void)ctx;
	return 0;
}

/* First dispatch of class `debug`: the commands are loaded and take over. */
static int
debug_dispatch(lua_State *L) {
	struct sched *S = sched_of(L);
	sched_require(L, "skynet.debug");
	lua_getfield(L, -1, "dispatch");
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	lua_rawgeti(L, -1, PTYPE_RESERVED_DEBUG);
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "dispatch");
	lua_pop(L, 2);
	lua_insert(L, 1);
	lua_pop(L, 1);
	lua_callk(L, lua_gettop(L) - 1, 0, 0, debug_done);
	return 0;
}

/* Push the class that is known by this id; else push nothing and return false. */
static bool
push_known(lua_State *L, struct sched *S, int id) {
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	bool is_known = lua_rawgeti(L, -1, id) == LUA_TTABLE;
	lua_remove(L, -2);
	lua_pop(L, is_known ? 0 : 1);
	return is_known;
}

bool
class_push_builtin(lua_State *L, struct sched *S, int id) {
	const char *name;
	if (push_known(L, S, id)) {
		lua_getfield(L, -1, "name");
		lua_pushvalue(L, -2);
		store_class(L, S, lua_tostring(L, -2), id);
		lua_pop(L, 1);
		return true;
	}
	switch (id) {
	case PTYPE_RESPONSE:
		name = "response";
		new_class(L, name, id, 2);
		break;
	case PTYPE_ERROR:
		name = "error";
		new_class(L, name, id, 4);
		set_function(L, "unpack", identity);
		set_function(L, "dispatch", task_on_error);
		break;
	case PTYPE_RESERVED_DEBUG:
		name = "debug";
		new_class(L, name, id, 5);
		set_function(L, "pack", luaseri_pack);
		set_function(L, "unpack", luaseri_unpack);
		set_function(L, "dispatch", debug_dispatch);
		break;
	default:
		lua_pushnil(L);
		return false;
	}
	lua_pushvalue(L, -1);
	store_class(L, S, name, id);
	return true;
}

/* Lua: __index(classes, name or id) */
static int
classes_index(lua_State *L) {
	static const struct {
		const char *name;
		int id;
	} builtin[] = {
	    {"response", PTYPE_RESPONSE},
	    {"error", PTYPE_ERROR},
	    {"debug", PTYPE_RESERVED_DEBUG},
	};
	struct sched *S = sched_of(L);
	if (lua_isinteger(L, 2)) {
		class_push_builtin(L, S, (int)lua_tointeger(L, 2));
		return 1;
	}
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
	for (size_t i = 0; i < sizeof(builtin) / sizeof(builtin[0]); i++) {
		if (strcmp(builtin[i].name, name) == 0) {
			class_push_builtin(L, S, builtin[i].id);
			return 1;
		}
	}
	return 0;
}

void
class_init(lua_State *L, struct sched *S) {
	new_class(L, "lua", PTYPE_RESERVED_LUA, 5);
	set_function(L, "pack", luaseri_pack);
	set_function(L, "unpack", luaseri_unpack);
	store_class(L, S, "lua", PTYPE_RESERVED_LUA);
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	lua_createtable(L, 0, 1);
	set_function(L, "__index", classes_index);
	lua_setmetatable(L, -2);
	lua_pop(L, 1);
}

void
sched_push_class(lua_State *L, struct sched *S, int arg) {
	bool is_missing = arg > lua_gettop(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	lua_pushvalue(L, arg);
	if (lua_rawget(L, -2) != LUA_TTABLE) {
		lua_pop(L, 1);
		lua_pushvalue(L, arg);
		if (lua_gettable(L, -2) != LUA_TTABLE) {
			const char *name = is_missing ? "no value" : luaL_tolstring(L, arg, NULL);
			luaL_error(L, "unknown protocol type: %s", name);
		}
	}
	lua_remove(L, -2);
}

/*
 * Log the names in the class at index 1 that look like slips of the pen: a handler under
 * such a name would never be called. All others are the user's own.
 */
static void
tell_slips(lua_State *L, struct sched *S) {
	static const char *const known[] = {"name", "id", "pack", "unpack", "dispatch", "trace"};
	lua_pushnil(L);
	while (lua_next(L, 1)) {
		struct near_name n;
		lua_pop(L, 1);
		if (lua_type(L, -1) != LUA_TSTRING) {
			continue;
		}
		near_begin(&n, lua_tostring(L, -1));
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
			near_offer(&n, known[i]);
		}
		if (near_result(&n) != NULL) {
			skynet_error(S->ctx, "field '%s' of a protocol does not exist, did you mean '%s'?",
			             n.given, near_result(&n));
		}
	}
}

/* Lua: register_protocol(class) */
static int
register_protocol(lua_State *L) {
	struct sched *S = sched_of(L);
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	bool named = lua_getfield(L, 1, "name") == LUA_TSTRING;
	lua_getfield(L, 1, "id");
	lua_Integer id = lua_isinteger(L, 4) ? lua_tointeger(L, 4) : -1;
	if (!named || id < 0 || id > 255) {
		return luaL_error(L,
		                  "a protocol needs a name, a string, and an id, 0 to 255 "
		                  "(name = %s, id = %s): assertion failed!",
		                  luaL_tolstring(L, 3, NULL), luaL_tolstring(L, 4, NULL));
	}
	lua_geti(L, 2, id);
	bool is_half_stored = lua_rawequal(L, -1, 1);
	lua_pushvalue(L, 3);
	lua_gettable(L, 2);
	if ((!lua_isnil(L, -2) && !is_half_stored) || !lua_isnil(L, -1)) {
		return luaL_error(L, "protocol %s: its name or its id %d is taken: assertion failed!",
		                  lua_tostring(L, 3), (int)id);
	}
	lua_pushvalue(L, 1);
	store_class(L, S, lua_tostring(L, 3), (int)id);
	tell_slips(L, S);
	return 0;
}

static bool
is_callable(lua_State *L, int index) {
	if (lua_isfunction(L, index)) {
		return true;
	}
	bool callable = luaL_getmetafield(L, index, "__call") != LUA_TNIL;
	lua_pop(L, callable ? 1 : 0);
	return callable;
}

/* Lua: dispatch(typename [, function]) -> function before */
static int
class_dispatch(lua_State *L) {
	struct sched *S = sched_of(L);
	bool set = lua_toboolean(L, 2);
	luaL_checkany(L, 1);
	if (set) {
		luaL_argexpected(L, is_callable(L, 2), 2, "function");
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	lua_pushvalue(L, 1);
	if (lua_gettable(L, -2) != LUA_TTABLE) {
		if (set) {
			return luaL_error(L, "unknown protocol type: %s", luaL_tolstring(L, 1, NULL));
		}
		return 0;
	}
	lua_getfield(L, -1, "dispatch");
	if (set) {
		lua_pushvalue(L, 2);
		lua_setfield(L, -3, "dispatch");
	}
	return 1;
}

/*
 * Lua: _repeat(typename): messages of the class that want no answer come again a little later
 * when there was no memory for their task, or it ended with that error before it was
 * suspended. For handlers that may be run twice.
 */
static int
class_repeat(lua_State *L) {
	struct sched *S = sched_of(L);
	sched_push_class(L, S, 1);
	lua_getfield(L, -1, "id");
	lua_Integer id = lua_tointeger(L, -1);
	luaL_argcheck(L, id < REPEATED_TYPES, 1, "no such type can be repeated");
	S->again_types |= UINT32_C(1) << id;
	return 0;
}

/* -------------------------------------------------------------- start-up */

static int
traceback(lua_State *L) {
	luaL_traceback(L, L, task_hint(L, luaL_tolstring(L, 1, NULL)), 1);
	return 1;
}

static int
nothing_left(lua_State *L, int status, lua_KContext ctx) {
	(void)L;
	(void)status;
	(void)ctx;
	return 0;
}

static int
modules_ready(lua_State *L, int status, lua_KContext ctx) {
	(void)status;
	(void)ctx;
	lua_callk(L, 0, 0, 0, nothing_left);
	return 0;
}

/* Lua: (start_func): run what modules registered, then start_func. Yields. */
static int
init_modules_and_start(lua_State *L) {
	sched_require(L, "skynet.require");
	lua_getfield(L, -1, "init_all");
	lua_remove(L, -2);
	lua_callk(L, 0, 0, 0, modules_ready);
	return modules_ready(L, LUA_OK, 0);
}

static void
tell_started(lua_State *L, struct sched *S) {
	void *msg;
	size_t sz;
	lua_settop(L, 0);
	lua_pushliteral(L, "LAUNCHOK");
	luaseri_pack_range(L, 1, &msg, &sz);
	skynet_sendname(S->ctx, 0, ".launcher", PTYPE_RESERVED_LUA | PTYPE_TAG_DONTCOPY, 0, msg, sz);
}

/* Lua: (error): log it, tell the launcher and exit. */
static int
give_up(lua_State *L) {
	sched_push_hook(L, sched_of(L), "start_failed");
	lua_insert(L, -2);
	lua_callk(L, 1, 0, 0, nothing_left);
	return 0;
}

/* The same with next to no memory. Whoever waits for the service must not wait for ever. */
static int
gave_up(lua_State *L, int status, lua_KContext ctx) {
	struct sched *S = sched_of(L);
	(void)ctx;
	if (status == LUA_OK || status == LUA_YIELD) {
		return 0;
	}
	skynet_error(S->ctx, "init service failed: %s",
	             lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no error message)");
	if (S->container == NULL || !S->container->ops->start_failed(S->container)) {
		static char error[] = "ERROR";
		skynet_sendname(S->ctx, 0, ".launcher", PTYPE_TEXT, 0, error, sizeof(error) - 1);
	}
	return task_exit(L);
}

static int
start_over(lua_State *L, int status, lua_KContext ctx) {
	struct sched *S = sched_of(L);
	(void)ctx;
	if (status == LUA_OK || status == LUA_YIELD) {
		tell_started(L, S);
		return 0;
	}
	lua_pushcfunction(L, give_up);
	lua_insert(L, -2);
	return gave_up(L, lua_pcallk(L, 1, 0, 0, 0, gave_up), 0);
}

/* Lua: init_service(start_func). Yields. */
static int
init_service(lua_State *L) {
	luaL_checkany(L, 1);
	lua_settop(L, 1);
	lua_pushcfunction(L, traceback);
	lua_insert(L, 1);
	lua_pushcfunction(L, init_modules_and_start);
	lua_insert(L, 2);
	return start_over(L, lua_pcallk(L, 1, 0, 1, 0, start_over), 0);
}

/* Start start_func in a task, by a timer behind everything queued so far. */
static struct task *
begin(lua_State *L, struct sched *S) {
	luaL_checktype(L, 1, LUA_TFUNCTION);
	if (S->started) {
		luaL_error(L, "skynet.start was called before in this service");
	}
	struct task *t = task_new(S, L);
	if (t == NULL) {
		lua_nomem(L);
	}
	S->started = true;
	lua_settop(L, 1);
	lua_pushcfunction(t->L, init_service);
	lua_xmove(L, t->L, 1);
	t->session = sched_new_session(S);
	pending_add(S, t->session, PENDING_TASK, (uintptr_t)t, 0);
	sched_arm(S, t->session, 0);
	return t;
}

/* Lua: start(start_func) */
static int
start(lua_State *L) {
	struct sched *S = sched_of(L);
	S->init_slot = begin(L, S)->slot;
	S->own_callback = true;
	sched_set_callback(S, sched_on_message);
	return 0;
}

/* Lua: _begin(start_func): as start, with the callback that is installed. */
static int
begin_only(lua_State *L) {
	begin(L, sched_of(L));
	return 0;
}

/* -------------------------------------------------- small and often used */

/* Lua: getenv(key) -> value or nil */
static int
get_env(lua_State *L) {
	luaL_checktype(L, 1, LUA_TSTRING);
	lua_pushstring(L, skynet_getenv(lua_tostring(L, 1)));
	return 1;
}

/* Lua: now() -> cs */
static int
now(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)skynet_now());
	return 1;
}

/* Lua: hpc() -> ns */
static int
hpc(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)platform_monotonic_ns());
	return 1;
}

const luaL_Reg task_start_functions[] = {
    {"register_protocol", register_protocol},
    {"dispatch", class_dispatch},
    {"_repeat", class_repeat},
    {"init_service", init_service},
    {"start", start},
    {"_begin", begin_only},
    {"pack", luaseri_pack},
    {"packstring", luaseri_packstring},
    {"unpack", luaseri_unpack},
    {"getenv", get_env},
    {"now", now},
    {"hpc", hpc},
    {NULL, NULL},
};
