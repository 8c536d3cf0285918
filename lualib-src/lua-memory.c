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
 * ---@field dumpheap fun(file?: string): boolean  writes a heap profile; false without profiling
 * ---@field control fun(name: string, value?: integer|boolean|string): any  reads or sets a
 * jemalloc control; raises
 * ---@field trim fun(): boolean           gives unused pages and caches back to the system
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
 * ---@field top fun(n?: integer, by?: "total"|"lua"|"c"|"mailbox"|"socket"|"code"):
 * skynet.memory.service[]  the largest n (10), with `handle`
 * ---@field ledger fun(): {parts: table<string, integer>, services: table<integer,
 * skynet.memory.service>, sum: integer, rss: integer, retained: integer}
 */
#include "lua-memory.h"
#include "malloc_hook.h"

#include "scheduler.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <string.h>

#define PROFILE_HINT "MALLOC_CONF=prof:true,prof_active:false in its environment"

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
	struct malloc_control file = {
	    .type = MALLOC_CONTROL_TEXT,
	    .size = sizeof(file.value.text),
	    .value.text = luaL_optstring(L, 1, NULL),
	};
	struct malloc_control scratch;
	bool ok = mallctl_bool("opt.prof", NULL) && malloc_control("prof.dump", &scratch, &file) == 0;
	lua_pushboolean(L, ok);
	return 1;
}

/* Workers give back what they keep for themselves when they have nothing to do;
 * those that sleep are woken for it. */
static int
memory_trim(lua_State *L) {
	malloc_recall_caches();
	scheduler_wake_all();
	lua_pushboolean(L, malloc_trim_unused() == 0);
	return 1;
}

static int
push_control(lua_State *L, const struct malloc_control *c) {
	switch (c->type) {
	case MALLOC_CONTROL_INTEGER:
		lua_pushinteger(L, (lua_Integer)c->value.u64);
		break;
	case MALLOC_CONTROL_BOOLEAN:
		lua_pushboolean(L, c->value.is_on);
		break;
	default:
		lua_pushstring(L, c->value.text);
		break;
	}
	return 1;
}

/* The value to set, at index 2. A string lives as long as the call. */
static void
to_control(lua_State *L, struct malloc_control *c) {
	*c = (struct malloc_control){.type = MALLOC_CONTROL_NONE};
	switch (lua_type(L, 2)) {
	case LUA_TBOOLEAN:
		c->type = MALLOC_CONTROL_BOOLEAN;
		c->size = sizeof(bool);
		c->value.is_on = lua_toboolean(L, 2);
		break;
	case LUA_TNUMBER:
		c->type = MALLOC_CONTROL_INTEGER;
		c->size = sizeof(uint64_t);
		c->value.u64 = (uint64_t)luaL_checkinteger(L, 2);
		break;
	default:
		c->value.text = luaL_checkstring(L, 2);
		if (strcmp(c->value.text, "run") != 0) {
			c->type = MALLOC_CONTROL_TEXT;
			c->size = sizeof(c->value.text);
		}
		break;
	}
}

static int
control_failed(lua_State *L, const char *name, int err, bool is_set) {
	if (strncmp(name, "prof.", 5) == 0 && (err == ENOENT || err == EPERM) &&
	    !mallctl_bool("opt.prof", NULL)) {
		return luaL_error(L, "heap profiling is off: start the node with " PROFILE_HINT);
	}
	switch (err) {
	case ENOENT:
		return luaL_error(L, "jemalloc has no control '%s'", name);
	case EPERM:
		return luaL_error(L, "jemalloc's control '%s' cannot be %s", name, is_set ? "set" : "read");
	case EINVAL:
	case EFAULT: /* of the right type, but out of range */
		return luaL_error(L, "jemalloc's control '%s' %s", name,
		                  is_set ? "does not take such a value" : "has no value that can be shown");
	case ENOSYS:
		return luaL_error(L, "this node was built without jemalloc");
	default:
		return luaL_error(L, "jemalloc's control '%s': %s", name, strerror(err));
	}
}

static int
memory_control(lua_State *L) {
	const char *name = luaL_checkstring(L, 1);
	bool is_set = !lua_isnoneornil(L, 2);
	struct malloc_control c;
	struct malloc_control new;
	if (is_set) {
		to_control(L, &new);
	} else {
		/* Figures are taken anew when the epoch is written. */
		size_t epoch = 1;
		mallctl_int64("epoch", &epoch);
	}
	int err = malloc_control(name, &c, is_set ? &new : NULL);
	if (err != 0) {
		return control_failed(L, name, err, is_set);
	}
	return is_set ? 0 : push_control(L, &c);
}

int luaopen_skynet_memory(lua_State *L);

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
	    {"control", memory_control},
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
