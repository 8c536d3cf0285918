/*
 * The libraries of a new VM: Lua's own, and those of the container.
 *
 * Opening them took a third of a launch: 160 functions, each with a string to look
 * up and a table to grow. All VMs begin with the same, so one is made the usual way,
 * an image of it is taken (lshare.h), and that is laid into each further VM. Only
 * the random numbers differ from VM to VM.
 */
#include "snlua.h"

#include <stdbool.h>
#include <sys/random.h>

#include <lauxlib.h>
#include <lualib.h>

#include "lshare.h"

/* Entries of package.loaded once a service has started: libraries and modules. */
#define LOADED_ROOM 20

/* References that the scheduler of a service has in the registry (lua-task-module.c). */
#define REFERENCES 5

/* Written once, by snlua_init_libs; NULL: libraries are opened in each VM. */
static const void *image;

/* Where the random numbers of VMs begin: counted on from a start that nobody knows. */
static _Atomic(uint64_t) next_seed;

static void
open_profile(lua_State *L) {
	luaL_requiref(L, "skynet.profile", snlua_open_profile, 0);
	lua_getglobal(L, "coroutine");
	lua_getfield(L, -2, "resume");
	lua_setfield(L, -2, "resume");
	lua_getfield(L, -2, "wrap");
	lua_setfield(L, -2, "wrap");
	lua_pop(L, 2);
}

/* Give the registry of an image room for what a service adds, so that it need not grow. */
static void
reserve_registry(lua_State *L) {
	static const char *const names[] = {LUA_CONTEXT_FIELD, LUA_CONTAINER_FIELD, LUA_SCHED_FIELD,
	                                    SNLUA_INIT_FIELD};
	int ref[REFERENCES];
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		lua_pushboolean(L, 1);
		lua_setfield(L, LUA_REGISTRYINDEX, names[i]);
	}
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		lua_pushnil(L);
		lua_setfield(L, LUA_REGISTRYINDEX, names[i]);
	}
	for (int i = 0; i < REFERENCES; i++) {
		lua_pushboolean(L, 1);
		ref[i] = luaL_ref(L, LUA_REGISTRYINDEX);
	}
	for (int i = REFERENCES - 1; i >= 0; i--) {
		luaL_unref(L, LUA_REGISTRYINDEX, ref[i]);
	}
}

/* Everything that all VMs have. */
static int
open_all(lua_State *L) {
	lua_pushboolean(L, 1);
	lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
	lua_createtable(L, 0, LOADED_ROOM);
	lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	luaL_openlibs(L);
	snlua_open_print(L);
	open_profile(L);
	luaL_requiref(L, "skynet.codecache", luaopen_cache, 0);
	lua_pop(L, 1);
	snlua_open_search(L);
	luaL_requiref(L, "skynet.require", snlua_open_require, 0);
	lua_pop(L, 1);
	return 0;
}

/*
 * Names that C libraries ask for with most messages. What is shared before there is
 * any service is found without a look into the state (lshare.h).
 */
static void
share_names(lua_State *L) {
	static const char *const names[] = {"name",     "id",     "pack",    "unpack",  "dispatch",
	                                    "trace",    "__gc",   "__index", "__close", "__name",
	                                    "LAUNCHOK", "REMOVE", "socket"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		lua_pushstring(L, names[i]);
		lua_sharestring(L, -1);
		lua_pop(L, 1);
	}
}

static int
open_first(lua_State *L) {
	open_all(L);
	share_names(L);
	reserve_registry(L);
	return 0;
}

void
snlua_init_libs(void) {
	const char *error;
	uint64_t start;
	if (getrandom(&start, sizeof start, GRND_NONBLOCK) != sizeof start) {
		start = (uint64_t)luaL_makeseed(NULL) << 32;
	}
	atomic_init(&next_seed, start);
	lua_State *L = luaL_newstate();
	if (L != NULL) {
		lua_pushcfunction(L, open_first);
		if (lua_pcall(L, 0, 0, 0) == LUA_OK) {
			image = lua_takeimage(L, &error);
		}
		lua_close(L);
	}
}

/* The next of a sequence of evenly spread numbers (Steele, Lea, Flood: SplitMix64). */
static lua_Integer
make_seed(void) {
	/* Relaxed: each caller gets another value, whatever the order. */
	uint64_t z = atomic_fetch_add_explicit(&next_seed, 0x9e3779b97f4a7c15u, memory_order_relaxed);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (lua_Integer)(z ^ (z >> 31));
}

/*
 * No two VMs have the same random numbers. (Lua's own seed is made of the time in
 * seconds and of addresses, which later VMs have again.)
 */
static void
seed_random(lua_State *L) {
	lua_getglobal(L, LUA_MATHLIBNAME);
	lua_getfield(L, -1, "randomseed");
	lua_pushinteger(L, make_seed());
	lua_pushinteger(L, make_seed());
	lua_call(L, 2, 0);
	lua_pop(L, 1);
}

bool
snlua_lay_libs(lua_State *L) {
	return image == NULL || lua_layimage(L, image) == LUA_OK;
}

void
snlua_open_libs(lua_State *L) {
	if (image == NULL) {
		open_all(L);
	}
	seed_random(L);
}
