/*
 * lua-task-module: the module `skynet`, which every service uses: the scheduler's
 * birth and end, and the module table. `skynet.task` is another name of it.
 *
 * Messages, tasks, waiting, requests and answers are C functions. What is written in
 * Lua lives in skynet.find, skynet.extra, skynet.hooks and skynet.managing, and is
 * loaded when one of its functions is first used; so an idle service carries next to
 * nothing. skynet/meta.lua documents every function.
 *
 * A VM's share of the table is what it uses: a name is looked up in the static
 * lists below when it is first read, and only then stored in the table. The
 * functions are light C functions, which cost nothing but that slot; they find
 * the scheduler through the extra space of their thread (lua-task-imp.h).
 * pairs(skynet) fills everything in first.
 */
#include "lua-task.h"
#include "lua-task-imp.h"

#include <string.h>

#include "lua-container.h"
#include "lua-seri.h"
#include "lua-skynet.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

#define INITIAL_SLOTS 8

/* The scheduler of L's VM, or NULL. */
static struct sched *
find_sched(lua_State *L) {
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_SCHED_FIELD);
	struct sched *S = sched_in(lua_touserdata(L, -1));
	lua_pop(L, 1);
	return S;
}

struct sched *
sched_of(lua_State *L) {
	struct task *t = task_of(L);
	if (t != NULL) {
		return t->S;
	}
	/* L is older than the scheduler: its container left the space empty. */
	struct sched *S = find_sched(L);
	if (S == NULL) {
		luaL_error(L, "module skynet.task is not loaded");
	}
	return S;
}

int
task_new_session(lua_State *L, struct skynet_context *ctx) {
	struct sched *S = find_sched(L);
	return S != NULL ? sched_new_session(S) : skynet_context_newsession(ctx);
}

struct sched *
task_set_filter(lua_State *L, int type, task_filter f, void *ud) {
	struct sched *S = sched_of(L);
	S->filter_type = (int16_t)type;
	S->filter = f;
	S->filter_ud = ud;
	return S;
}

void
task_set_lost(struct sched *S, int type, task_lost f) {
	int i = 0;
	while (i < LOST_TYPES - 1 && S->lost[i].f != NULL && S->lost[i].type != type) {
		i++;
	}
	S->lost[i] = (struct lost_by){type, f};
}

struct sched *
task_scheduler(lua_State *L) {
	return find_sched(L);
}

void
sched_push_hook(lua_State *L, struct sched *S, const char *name) {
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_hooks);
	if (lua_getfield(L, -1, name) == LUA_TNIL) {
		/* The usual ones are set by this module. */
		sched_require(L, "skynet.hooks");
		lua_pop(L, 2);
		lua_getfield(L, -1, name);
	}
	lua_remove(L, -2);
}

void
sched_set_callback(struct sched *S, skynet_cb cb) {
	if (S->container != NULL) {
		S->container->ops->callback(S->container, S->main.L, S, cb);
	} else {
		skynet_callback(S->ctx, S, cb);
	}
}

/* -------------------------------------------------------- module table */

static const luaL_Reg *const groups[] = {
    task_dispatch_functions, task_start_functions, task_wait_functions,  task_call_functions,
    task_reply_functions,    task_fail_functions,  task_trace_functions, task_info_functions,
};

static const struct {
	const char *name;
	int value;
} constants[] = {
    {"PTYPE_TEXT", PTYPE_TEXT},
    {"PTYPE_RESPONSE", PTYPE_RESPONSE},
    {"PTYPE_MULTICAST", PTYPE_MULTICAST},
    {"PTYPE_CLIENT", PTYPE_CLIENT},
    {"PTYPE_SYSTEM", PTYPE_SYSTEM},
    {"PTYPE_HARBOR", PTYPE_HARBOR},
    {"PTYPE_SOCKET", PTYPE_SOCKET},
    {"PTYPE_ERROR", PTYPE_ERROR},
    {"PTYPE_QUEUE", PTYPE_RESERVED_QUEUE},
    {"PTYPE_DEBUG", PTYPE_RESERVED_DEBUG},
    {"PTYPE_LUA", PTYPE_RESERVED_LUA},
    {"PTYPE_SNAX", PTYPE_RESERVED_SNAX},
    {"PTYPE_TRACE", TYPE_TRACE},
};

/* Fields of other modules, by the name they have there. */
static const struct {
	const char *name;
	const char *module;
} borrowed[] = {
    {"error", "skynet.core"},         {"harbor", "skynet.core"},
    {"tostring", "skynet.core"},      {"trash", "skynet.core"},
    {"init", "skynet.require"},       {"newservice", "skynet.find"},
    {"uniqueservice", "skynet.find"}, {"queryservice", "skynet.find"},
};

/* Fields that are there once skynet.manager is loaded. */
static const char *const managing[] = {
    "launch", "kill", "abort", "register", "name", "forward_type", "filter", "monitor",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
/* Everything else that Lua code offers. */
#define EXTRA_MODULE "skynet.extra"
#define MANAGING_MODULE "skynet.managing"
/* Fields of the table in a service that does little. */
#define USUAL_FIELDS 4

/* Most names differ in the first letter. */
static bool
is_name(const char *a, const char *b) {
	return *a == *b && strcmp(a, b) == 0;
}

static bool
push_function(lua_State *L, const char *name) {
	for (size_t g = 0; g < COUNT(groups); g++) {
		for (const luaL_Reg *r = groups[g]; r->name != NULL; r++) {
			if (is_name(r->name, name)) {
				lua_pushcfunction(L, r->func);
				return true;
			}
		}
	}
	return false;
}

static bool
push_constant(lua_State *L, const char *name) {
	for (size_t i = 0; i < COUNT(constants); i++) {
		if (is_name(constants[i].name, name)) {
			lua_pushinteger(L, constants[i].value);
			return true;
		}
	}
	return false;
}

static bool
is_managing(const char *name) {
	for (size_t i = 0; i < COUNT(managing); i++) {
		if (is_name(managing[i], name)) {
			return true;
		}
	}
	return false;
}

bool
sched_needs_manager(const struct sched *S, const char *name) {
	return !S->has_manager && is_managing(name);
}

static const char *
home_module(const struct sched *S, const char *name) {
	if (S->has_manager && is_managing(name)) {
		return MANAGING_MODULE;
	}
	for (size_t i = 0; i < COUNT(borrowed); i++) {
		if (is_name(borrowed[i].name, name)) {
			return borrowed[i].module;
		}
	}
	return EXTRA_MODULE;
}

void
sched_require(lua_State *L, const char *module) {
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	if (lua_getfield(L, -1, module) == LUA_TNIL) {
		lua_getglobal(L, "require");
		lua_pushstring(L, module);
		lua_call(L, 1, 1);
		lua_replace(L, -2);
	}
	lua_remove(L, -2);
}

/* Lua: __index(skynet, key) */
static int
table_index(lua_State *L) {
	if (lua_type(L, 2) != LUA_TSTRING) {
		return 0;
	}
	const char *name = lua_tostring(L, 2);
	struct sched *S = sched_of(L);
	if (strcmp(name, "_proto") == 0) {
		lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	} else if (strcmp(name, "_hooks") == 0) {
		lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_hooks);
	} else if (!push_function(L, name) && !push_constant(L, name)) {
		sched_require(L, home_module(S, name));
		if (!lua_istable(L, -1) || lua_getfield(L, -1, name) == LUA_TNIL) {
			return 0;
		}
	}
	lua_pushvalue(L, 2);
	lua_pushvalue(L, -2);
	lua_rawset(L, 1);
	return 1;
}

static void
touch(lua_State *L, const char *name) {
	lua_getfield(L, 1, name);
	lua_pop(L, 1);
}

static int
table_next(lua_State *L) {
	lua_settop(L, 2);
	return lua_next(L, 1) ? 2 : 0;
}

/* Lua: __pairs(skynet) */
static int
table_pairs(lua_State *L) {
	for (size_t g = 0; g < COUNT(groups); g++) {
		for (const luaL_Reg *r = groups[g]; r->name != NULL; r++) {
			touch(L, r->name);
		}
	}
	for (size_t i = 0; i < COUNT(constants); i++) {
		touch(L, constants[i].name);
	}
	for (size_t i = 0; i < COUNT(borrowed); i++) {
		touch(L, borrowed[i].name);
	}
	for (size_t i = 0; sched_of(L)->has_manager && i < COUNT(managing); i++) {
		touch(L, managing[i]);
	}
	touch(L, "_proto");
	sched_require(L, EXTRA_MODULE);
	lua_pushnil(L);
	while (lua_next(L, 2)) {
		touch(L, lua_tostring(L, -2));
		lua_pop(L, 1);
	}
	lua_settop(L, 1);
	lua_pushcfunction(L, table_next);
	lua_insert(L, 1);
	lua_pushnil(L);
	return 3;
}

static void
push_module(lua_State *L) {
	static const luaL_Reg meta[] = {
	    {"__index", table_index},
	    {"__pairs", table_pairs},
	    {NULL, NULL},
	};
	lua_createtable(L, 0, USUAL_FIELDS);
	luaL_newlib(L, meta);
	lua_setmetatable(L, -2);
}

/* ----------------------------------------------------------------- open */

static int
sched_gc(lua_State *L) {
	struct sched *S = sched_in(lua_touserdata(L, 1));
	/* Not so if it was never completed: there may be another one. */
	if (task_of(S->main.L) == &S->main) {
		task_bind(S->main.L, NULL);
	}
	sched_bounce_debts(S);
	sched_forget_again(S);
	pending_free(S);
	sched_free_tasks(S);
	skynet_free(S->failure);
	S->failure = NULL;
	return 0;
}

static void
set_gc(lua_State *L, lua_CFunction f) {
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, f);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
}

/* Lua: (dead sentinel). Lay the next one out. */
static int
renew_sentinel(lua_State *L) {
	struct sched **next = lua_newuserdatauv(L, sizeof(*next), 0);
	*next = *(struct sched **)lua_touserdata(L, 1);
	lua_getmetatable(L, 1);
	lua_setmetatable(L, -2);
	return 0;
}

/* A dead sentinel: a collection has run. Trim. */
static int
sentinel_gc(lua_State *L) {
	struct sched *S = *(struct sched **)lua_touserdata(L, 1);
	if (S == NULL || task_of(S->main.L) == NULL) {
		return 0;
	}
	sched_trim(S);
	lua_pushcfunction(L, renew_sentinel);
	lua_pushvalue(L, 1);
	if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
		/* No memory for a young one: it dies once more, if only in a full collection. */
		lua_getmetatable(L, 1);
		lua_setmetatable(L, 1);
	}
	return 0;
}

static int
new_ref(lua_State *L) {
	lua_newtable(L);
	return luaL_ref(L, LUA_REGISTRYINDEX);
}

static lua_State *
main_thread(lua_State *L) {
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
	lua_State *M = lua_tothread(L, -1);
	lua_pop(L, 1);
	return M;
}

/* Push one that is to be installed. */
static struct sched *
new_sched(lua_State *L) {
	struct skynet_context *ctx = lua_skynet_context(L);
	struct sched *S = sched_in(lua_newuserdatauv(L, sizeof(*S) + SCHED_LINE - 8, 0));
	memset(S, 0, sizeof(*S));
	S->ctx = ctx;
	S->handle = skynet_context_handle(ctx);
	S->container = lua_container(L);
	S->main.S = S->orphan.S = S;
	S->L = S->main.L = S->main.top = S->from = main_thread(L);
	S->responses.prev = S->responses.next = &S->responses;
	S->slot_free = 1;
	S->places_age = 1;
	set_gc(L, sched_gc);
	S->all = skynet_calloc(INITIAL_SLOTS, sizeof(*S->all));
	S->all_cap = INITIAL_SLOTS;
	pending_init(S);
	luaL_checkstack(S->main.L, SCHED_SCRATCH_STACK, NULL);
	S->ref_threads = new_ref(L);
	S->ref_values = new_ref(L);
	/* The ids of usual classes lie in the array part. */
	lua_createtable(L, TYPE_TRACE, 4);
	S->ref_proto = luaL_ref(L, LUA_REGISTRYINDEX);
	S->ref_tokens = new_ref(L);
	S->ref_hooks = new_ref(L);
	/* For good, so that a task that is woken needs no memory for it. */
	lua_pushliteral(L, TASK_BREAK);
	luaL_ref(L, LUA_REGISTRYINDEX);
	class_name_fields(L, S);
	return S;
}

/* Push a sentinel that is to be laid out. */
static struct sched **
new_sentinel(lua_State *L) {
	struct sched **sentinel = lua_newuserdatauv(L, sizeof(*sentinel), 0);
	*sentinel = NULL;
	set_gc(L, sentinel_gc);
	return sentinel;
}

/* The scheduler at `index` becomes the VM's, unless there is no memory for it. */
static void
install(lua_State *L, int index, struct sched *S, struct sched **sentinel) {
	lua_pushvalue(L, index);
	lua_setfield(L, LUA_REGISTRYINDEX, LUA_SCHED_FIELD);
	*sentinel = S;
	task_bind(S->main.L, &S->main);
	if (L != S->main.L) {
		task_bind(L, &S->main);
	}
}

int
luaopen_skynet_task(lua_State *L) {
	luaL_checkversion(L);
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_SCHED_FIELD);
	if (!lua_isnil(L, -1)) {
		return luaL_error(L, "module skynet.task is loaded already");
	}
	struct sched *S = new_sched(L);
	int index = lua_gettop(L);
	class_init(L, S);
	struct sched **sentinel = new_sentinel(L);
	push_module(L);
	install(L, index, S, sentinel);
	return 1;
}

int luaopen_skynet(lua_State *L);

int
luaopen_skynet(lua_State *L) {
	luaL_requiref(L, "skynet.task", luaopen_skynet_task, 0);
	return 1;
}

int luaopen_skynet_manager(lua_State *L);

int
luaopen_skynet_manager(lua_State *L) {
	sched_require(L, "skynet");
	sched_of(L)->has_manager = true;
	return 1;
}
