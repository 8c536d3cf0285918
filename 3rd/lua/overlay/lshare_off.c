/*
** The functions of lshare.h on a stock Lua, where nothing is shared: code and
** tables travel as copies, and the code cache is an empty shell.
**
** Owns two process-wide lists under one lock: the codes of shared functions,
** kept for the life of the process (equal codes once), and the tables made by
** lua_sharetable, each of which lives in a small state of its own until it is
** freed. Any thread may call anything here.
*/

#define LUA_CORE

#include "lprefix.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lauxlib.h"
#include "ldo.h"
#include "lshare.h"
#include "lstate.h"
#include "lualib.h"

struct code {
	struct code *next;
	size_t size;
	char bytes[];
};

/*
** The stack of 'L' holds the graph of the table (see "tables" below).
*/
struct frozen {
	struct frozen *next;
	pthread_mutex_t lock; /* one thread at a time uses 'L' */
	lua_State *L;
};

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct code *codes;
static struct frozen *tables;

LUALIB_API void
luaL_initcodecache(void) {
}

LUA_API void
lua_setsharealloc(lua_ShareAlloc f) {
	(void)f;
}

LUA_API int
lua_wantedresults(lua_State *L) {
	return get_nresults(L->ci->callstatus);
}

LUA_API int
lua_checkroom(lua_State *L, int calls, int slots) {
	const CallInfo *ci = L->ci;
	if (ci == &L->base_ci && L->nci >= calls) {
		calls = 0; /* they are counted, so that none has to be touched */
	}
	for (; calls > 0 && ci->next != NULL; calls--) {
		ci = ci->next;
	}
	for (; calls > 0; calls--) {
		if (luaE_extendCI(L, 0) == NULL) {
			return 0;
		}
	}
	return L->stack_last.p - L->top.p > slots || luaD_growstack(L, slots, 0);
}

LUA_API void *
lua_testmeta(lua_State *L, int idx, int meta) {
	const void *wanted = lua_topointer(L, meta);
	if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) {
		return NULL;
	}
	const void *found = lua_topointer(L, -1);
	lua_pop(L, 1);
	return found == wanted ? lua_touserdata(L, idx) : NULL;
}

LUA_API int
lua_getnamed(lua_State *L, int idx, const void *name) {
	idx = lua_absindex(L, idx);
	setsvalue2s(L, L->top.p, (TString *)(uintptr_t)name);
	L->top.p++;
	return lua_gettable(L, idx);
}

/*-------------------------------------------------------------- code cache */

static int
cache_nothing(lua_State *L) {
	(void)L;
	return 0;
}

LUAMOD_API int
luaopen_cache(lua_State *L) {
	static const char *const names[] = {"clear", "mode", "invalidate", "users"};
	lua_createtable(L, 0, 5);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		lua_pushcfunction(L, cache_nothing);
		lua_setfield(L, -2, names[i]);
	}
	lua_getglobal(L, "loadfile");
	lua_setfield(L, -2, "loadfile");
	return 1;
}

/*--------------------------------------------------------------- functions */

static int
count_bytes(lua_State *L, const void *data, size_t size, void *ud) {
	(void)L;
	(void)data;
	*(size_t *)ud += size;
	return 0;
}

static int
append_bytes(lua_State *L, const void *data, size_t size, void *ud) {
	struct code *c = ud;
	(void)L;
	if (size > 0) {
		memcpy(c->bytes + c->size, data, size);
		c->size += size;
	}
	return 0;
}

/*
** Puts 'c' into the list of codes, or frees it when an equal one is there.
*/
static const struct code *
keep_code(struct code *c) {
	struct code *old;
	pthread_mutex_lock(&list_lock);
	for (old = codes; old != NULL; old = old->next) {
		if (old->size == c->size && memcmp(old->bytes, c->bytes, c->size) == 0) {
			break;
		}
	}
	if (old == NULL) {
		c->next = codes;
		codes = old = c;
		c = NULL;
	}
	pthread_mutex_unlock(&list_lock);
	free(c);
	return old;
}

LUA_API const void *
lua_sharefunction(lua_State *L, int idx) {
	struct code *c;
	size_t size = 0;
	if (!lua_isfunction(L, idx) || lua_iscfunction(L, idx)) {
		luaL_error(L, "Only Lua function can share");
	}
	lua_pushvalue(L, idx);
	lua_dump(L, count_bytes, &size, 0);
	/* The second dump could run out of memory, so a userdata holds its result. */
	c = lua_newuserdatauv(L, sizeof(*c) + size, 0);
	c->size = 0;
	lua_insert(L, -2);
	lua_dump(L, append_bytes, c, 0);
	c = malloc(sizeof(*c) + size);
	if (c == NULL) {
		luaL_error(L, "not enough memory");
	}
	memcpy(c, lua_touserdata(L, -2), sizeof(*c) + size);
	lua_pop(L, 2);
	return keep_code(c);
}

LUA_API void
lua_clonefunction(lua_State *L, const void *fp) {
	const struct code *c = fp;
	if (luaL_loadbufferx(L, c->bytes, c->size, "=?", "b") != LUA_OK) {
		lua_error(L);
	}
}

LUA_API void
lua_sharestring(lua_State *L, int idx) {
	if (lua_type(L, idx) != LUA_TSTRING) {
		luaL_error(L, "need a string to share");
	}
}

/*------------------------------------------------------------------ tables */

/*
** A graph is two tables on a stack, the list and its index: list[i] is the i-th
** table reached; index[table] is i, and index[function] is its shared code as
** a light userdata. Everything that can fail in the source state happens while
** the graph is collected; copying from a graph only reads the source.
*/
enum { LIST = -2, INDEX = -1 };

/*
** Enters the value on the top into the graph below it and pops it.
*/
static void
collect_value(lua_State *L, int list, int index) {
	int type = lua_type(L, -1);
	switch (type) {
	case LUA_TBOOLEAN:
	case LUA_TNUMBER:
	case LUA_TSTRING:
	case LUA_TLIGHTUSERDATA:
		break;
	case LUA_TTABLE:
		if (lua_getmetatable(L, -1)) {
			luaL_error(L, "Can't share metatable");
		}
		lua_pushvalue(L, -1);
		if (lua_rawget(L, index) == LUA_TNIL) {
			lua_Integer n = (lua_Integer)lua_rawlen(L, list) + 1;
			lua_pushvalue(L, -2);
			lua_rawseti(L, list, n);
			lua_pushvalue(L, -2);
			lua_pushinteger(L, n);
			lua_rawset(L, index);
		}
		lua_pop(L, 1);
		break;
	case LUA_TFUNCTION:
		if (lua_getupvalue(L, -1, 1) != NULL) {
			luaL_error(L, "Invalid function with upvalue");
		}
		if (!lua_iscfunction(L, -1)) {
			lua_pushvalue(L, -1);
			lua_pushlightuserdata(L, (void *)lua_sharefunction(L, -1));
			lua_rawset(L, index);
		}
		break;
	default:
		luaL_error(L, "Invalid type [%s]", lua_typename(L, type));
	}
	lua_pop(L, 1);
}

/*
** Pushes the graph of the table at 'idx', an absolute index.
*/
static void
collect(lua_State *L, int idx) {
	int list, index;
	luaL_checkstack(L, 10, NULL);
	lua_newtable(L);
	lua_newtable(L);
	list = lua_absindex(L, LIST);
	index = lua_absindex(L, INDEX);
	lua_pushvalue(L, idx);
	collect_value(L, list, index);
	for (lua_Integer i = 1; lua_rawgeti(L, list, i) != LUA_TNIL; i++) {
		lua_pushnil(L);
		while (lua_next(L, -2)) {
			collect_value(L, list, index);
			lua_pushvalue(L, -1);
			collect_value(L, list, index);
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}

/*
** Moves the value on the top of 'from' to 'to'.
*/
static void
copy_value(lua_State *from, lua_State *to) {
	size_t size;
	const char *s;
	switch (lua_type(from, -1)) {
	case LUA_TBOOLEAN:
		lua_pushboolean(to, lua_toboolean(from, -1));
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(from, -1)) {
			lua_pushinteger(to, lua_tointeger(from, -1));
		} else {
			lua_pushnumber(to, lua_tonumber(from, -1));
		}
		break;
	case LUA_TSTRING:
		s = lua_tolstring(from, -1, &size);
		lua_pushlstring(to, s, size);
		break;
	case LUA_TLIGHTUSERDATA:
		lua_pushlightuserdata(to, lua_touserdata(from, -1));
		break;
	case LUA_TTABLE:
		lua_pushvalue(from, -1);
		lua_rawget(from, 2);
		lua_rawgeti(to, 1, lua_tointeger(from, -1));
		lua_pop(from, 1);
		break;
	default:
		if (lua_iscfunction(from, -1)) {
			lua_pushcfunction(to, lua_tocfunction(from, -1));
		} else {
			lua_pushvalue(from, -1);
			lua_rawget(from, 2);
			lua_clonefunction(to, lua_touserdata(from, -1));
			lua_pushvalue(to, -1);
			lua_pushlightuserdata(to, lua_touserdata(from, -1));
			lua_rawset(to, 2);
			lua_pop(from, 1);
		}
	}
	lua_pop(from, 1);
}

/*
** Runs in the destination: copies the graph at 1 and 2 of the source's stack,
** and returns the new graph.
*/
static int
copy_graph(lua_State *to) {
	lua_State *from = lua_touserdata(to, 1);
	lua_Integer n = (lua_Integer)lua_rawlen(from, 1);
	lua_settop(to, 0);
	lua_createtable(to, (int)n, 0);
	lua_createtable(to, 0, (int)n);
	for (lua_Integer i = 1; i <= n; i++) {
		lua_newtable(to);
		lua_pushvalue(to, -1);
		lua_rawseti(to, 1, i);
		lua_pushinteger(to, i);
		lua_rawset(to, 2);
	}
	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(from, 1, i);
		lua_rawgeti(to, 1, i);
		lua_pushnil(from);
		while (lua_next(from, -2)) {
			lua_pushvalue(from, -2);
			copy_value(from, to);
			copy_value(from, to);
			lua_rawset(to, -3);
		}
		lua_pop(from, 1);
		lua_pop(to, 1);
	}
	return 2;
}

static size_t
size_of(lua_State *L) {
	return (size_t)lua_gc(L, LUA_GCCOUNT) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB);
}

/*
** Makes a state that holds a copy of the graph at 1 and 2 of the source's
** stack. Returns NULL when memory runs out.
*/
static lua_State *
freeze(lua_State *from) {
	lua_State *to = luaL_newstate();
	if (to == NULL) {
		return NULL;
	}
	lua_pushcfunction(to, copy_graph);
	lua_pushlightuserdata(to, from);
	if (lua_pcall(to, 1, 2, 0) != LUA_OK) {
		lua_close(to);
		return NULL;
	}
	lua_gc(to, LUA_GCCOLLECT);
	lua_checkstack(to, LUA_MINSTACK);
	return to;
}

LUA_API const void *
lua_sharetable(lua_State *L, int idx) {
	lua_State *from;
	struct frozen *f;
	pthread_mutexattr_t attr;
	if (!lua_istable(L, idx)) {
		luaL_error(L, "Not a table");
	}
	idx = lua_absindex(L, idx);
	from = lua_newthread(L);
	luaL_checkstack(from, LUA_MINSTACK, NULL);
	collect(L, idx);
	lua_xmove(L, from, 2);
	f = malloc(sizeof(*f));
	if (f == NULL || (f->L = freeze(from)) == NULL) {
		free(f);
		luaL_error(L, "not enough memory");
	}
	lua_pop(L, 1);
	/* A finalizer that runs while a copy is made may ask for another one. */
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&f->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	pthread_mutex_lock(&list_lock);
	f->next = tables;
	tables = f;
	pthread_mutex_unlock(&list_lock);
	return f;
}

/*
** Returns the link that points to 'tp', or to NULL. The list is locked.
*/
static struct frozen **
find(const void *tp) {
	struct frozen **link = &tables;
	while (*link != NULL && *link != tp) {
		link = &(*link)->next;
	}
	return link;
}

LUA_API void
lua_freeshared(const void *tp) {
	struct frozen **link, *f;
	pthread_mutex_lock(&list_lock);
	link = find(tp);
	f = *link;
	if (f != NULL) {
		*link = f->next;
	}
	pthread_mutex_unlock(&list_lock);
	if (f != NULL) {
		lua_close(f->L);
		pthread_mutex_destroy(&f->lock);
		free(f);
	}
}

LUA_API void
lua_clonetable(lua_State *L, const void *tp) {
	struct frozen *f;
	int status;
	pthread_mutex_lock(&list_lock);
	f = *find(tp);
	pthread_mutex_unlock(&list_lock);
	if (f == NULL) {
		luaL_error(L, "Not a shared table");
	}
	luaL_checkstack(L, 4, NULL);
	lua_pushcfunction(L, copy_graph);
	lua_pushlightuserdata(L, f->L);
	pthread_mutex_lock(&f->lock);
	int top = lua_gettop(f->L);
	status = lua_pcall(L, 1, 2, 0);
	lua_settop(f->L, top);
	pthread_mutex_unlock(&f->lock);
	if (status != LUA_OK) {
		lua_error(L);
	}
	lua_rawgeti(L, LIST, 1);
	lua_replace(L, -3);
	lua_pop(L, 1);
}

LUA_API void
lua_copytable(lua_State *L, const void *tp) {
	lua_clonetable(L, tp);
}

LUA_API const void *
lua_takeimage(lua_State *L, const char **error) {
	(void)L;
	*error = "Lua was built without sharing";
	return NULL;
}

LUA_API void
lua_freeimage(const void *image) {
	(void)image;
}

LUA_API int
lua_layimage(lua_State *L, const void *image) {
	(void)L;
	(void)image;
	return LUA_ERRRUN;
}

LUA_API void
lua_gcsettle(lua_State *L) {
	lua_gc(L, LUA_GCINC);
	lua_gc(L, LUA_GCGEN);
}

LUA_API int
lua_isgenerational(lua_State *L) {
	return G(L)->gckind != KGC_INC;
}

LUA_API int
lua_places(lua_State *L, int table, int function, struct lua_Place *place, int n) {
	(void)table;
	(void)function;
	if (n < 1) {
		return 0;
	}
	place[0].at = L;
	place[0].size = 1;
	return 1;
}

LUA_API int
lua_issharedtable(lua_State *L, int idx) {
	(void)L;
	(void)idx;
	return 0;
}

LUA_API size_t
lua_sharedsize(const void *tp) {
	const struct frozen *f = tp;
	return f == NULL ? 0 : size_of(f->L);
}

LUA_API const void *
lua_sharedend(const void *tp) {
	return tp;
}

/*-------------------------------------------------------------- statistics */

LUA_API void
lua_sharestats(struct lua_ShareStats *stats) {
	memset(stats, 0, sizeof(*stats));
	pthread_mutex_lock(&list_lock);
	for (struct code *c = codes; c != NULL; c = c->next) {
		stats->chunk_count++;
		stats->chunk_bytes += sizeof(*c) + c->size;
	}
	for (struct frozen *f = tables; f != NULL; f = f->next) {
		stats->table_count++;
		stats->table_bytes += size_of(f->L);
	}
	pthread_mutex_unlock(&list_lock);
}

LUA_API size_t
lua_sharedcode(lua_State *L) {
	(void)L;
	return 0;
}
