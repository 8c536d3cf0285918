/*
 * skynet.memory: the figures of malloc_hook.h for Lua. No function yields; all
 * may be called from any service. Lua's own heap is in none of the figures but
 * those of services, top and ledger.
 *
 * LuaLS:
 * ---@class skynet.memory
 * ---@field total fun(): integer          bytes of C memory in the process, headers included
 * ---@field block fun(): integer          live blocks in the process
 * ---@field current fun(): integer        bytes of the calling service
 * ---@field info fun(): table<integer, integer>  handle -> bytes, of all that hold something
 * ---@field dump fun()                    logs info() and the total
 * ---@field jestat fun(): table<string, integer>  jemalloc's main figures, refreshed
 * ---@field mallctl fun(name: string): integer    a jemalloc control, 0 when unknown
 * ---@field dumpinfo fun(opts?: string)   jemalloc's report on stderr
 * ---@field profactive fun(on?: boolean): boolean heap profiling; returns what it was
 * ---@field dumpheap fun(): boolean       writes a heap profile; false without profiling
 * ---@field trim fun(): boolean           gives unused pages back to the system
 * ---@class skynet.memory.service         bytes, but for two counts
 * ---@field total integer                 lua + c + mailbox
 * ---@field lua integer                   heap of the Lua state
 * ---@field c integer                     C memory, buffers of its sockets included
 * ---@field code integer                  shared code that it uses
 * ---@field messages integer              how many wait for it
 * ---@field mailbox integer               their payload
 * ---@field undelivered integer           received from sockets, not yet delivered
 * ---@field unsent integer                not yet sent to sockets
 * ---@field sockets integer               how many it owns
 * ---@field services fun(): table<integer, skynet.memory.service>  by handle
 * ---@field top fun(n?: integer, by?: "total"|"lua"|"c"|"mailbox"|"socket"|"code"): skynet.memory.service[]  the largest n (10), with `handle`
 * ---@field ledger fun(): {parts: table<string, integer>, services: table<integer, skynet.memory.service>, sum: integer, rss: integer, retained: integer}
 */
#include "lua-memory.h"
#include "malloc_hook.h"

#include <lauxlib.h>
#include <lua.h>

/* A listing on its way into a table, collectable if Lua runs out of memory. */
struct listing {
	struct malloc_account *line;
	size_t n;
};

static int
listing_gc(lua_State *L) {
	struct listing *l = lua_touserdata(L, 1);
	malloc_account_list_free(l->line, l->n);
	l->line = NULL;
	l->n = 0;
	return 0;
}

static struct listing *
listing_new(lua_State *L) {
	struct listing *l = lua_newuserdatauv(L, sizeof(*l), 0);
	l->line = NULL;
	l->n = 0;
	if (luaL_newmetatable(L, "skynet.memory.listing")) {
		lua_pushcfunction(L, listing_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	return l;
}

int
dump_mem_lua(lua_State *L) {
	struct listing *l = listing_new(L);
	int holder = lua_gettop(L);
	l->n = malloc_account_list(&l->line);
	lua_createtable(L, 0, (int)l->n);
	for (size_t i = 0; i < l->n; i++) {
		lua_pushinteger(L, l->line[i].bytes);
		lua_rawseti(L, -2, l->line[i].handle);
	}
	malloc_account_list_free(l->line, l->n);
	l->line = NULL;
	l->n = 0;
	lua_remove(L, holder);
	return 1;
}

static int
memory_total(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)malloc_used_memory());
	return 1;
}

static int
memory_block(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)malloc_memory_block());
	return 1;
}

static int
memory_current(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)malloc_current_memory());
	return 1;
}

static int
memory_dump(lua_State *L) {
	(void)L;
	dump_c_mem();
	return 0;
}

static int
memory_jestat(lua_State *L) {
	static const char *const names[] = {"stats.allocated", "stats.resident", "stats.retained",
	                                    "stats.mapped", "stats.active"};
	/* jemalloc takes its figures anew when the epoch is written. */
	size_t epoch = 1;
	mallctl_int64("epoch", &epoch);
	lua_newtable(L);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		lua_pushinteger(L, (lua_Integer)mallctl_int64(names[i], NULL));
		lua_setfield(L, -2, names[i]);
	}
	return 1;
}

static int
memory_mallctl(lua_State *L) {
	const char *name = luaL_checkstring(L, 1);
	lua_pushinteger(L, (lua_Integer)mallctl_int64(name, NULL));
	return 1;
}

static int
memory_dumpinfo(lua_State *L) {
	memory_info_dump(luaL_optstring(L, 1, NULL));
	return 0;
}

static int
memory_profactive(lua_State *L) {
	bool was;
	if (lua_isnoneornil(L, 1)) {
		was = mallctl_bool("prof.active", NULL);
	} else {
		bool on = lua_toboolean(L, 1);
		was = mallctl_bool("prof.active", &on);
	}
	lua_pushboolean(L, was);
	return 1;
}

/* Without jemalloc, mallctl_bool has logged the fact and says false. */
static int
memory_dumpheap(lua_State *L) {
	lua_pushboolean(L, mallctl_bool("opt.prof", NULL) && mallctl_cmd("prof.dump") == 0);
	return 1;
}

static int
memory_trim(lua_State *L) {
	lua_pushboolean(L, malloc_trim_unused() == 0);
	return 1;
}

int
luaopen_skynet_memory(lua_State *L);

int
luaopen_skynet_memory(lua_State *L) {
	luaL_checkversion(L);
	static const luaL_Reg functions[] = {
	    {"total", memory_total},
	    {"block", memory_block},
	    {"info", dump_mem_lua},
	    {"current", memory_current},
	    {"dump", memory_dump},
	    {"jestat", memory_jestat},
	    {"mallctl", memory_mallctl},
	    {"dumpinfo", memory_dumpinfo},
	    {"profactive", memory_profactive},
	    {"dumpheap", memory_dumpheap},
	    {"trim", memory_trim},
	    {"ledger", memory_ledger},
	    {"services", memory_services},
	    {"top", memory_top},
	    {"snapshot", memory_snapshot},
	    {"sample", memory_sample},
	    {"sites", memory_sites},
	    {NULL, NULL},
	};
	luaL_newlib(L, functions);
	return 1;
}
