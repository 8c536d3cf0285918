/*
 * Where modules and scripts were found: a map, shared by all Lua services of the
 * process, from a name and the search paths to a file (and to the opener of a C
 * module). With it a further service opens its modules without looking for any
 * file; the code itself comes from the code cache. The two belong together:
 * what is cached is not looked for again until codecache.clear(), mode EXIST
 * adds nothing, mode OFF does not look here, and failures are not remembered.
 *
 * Entries are never changed; the map is under one mutex, held for a look-up. C
 * modules found are kept loaded, since their openers are remembered.
 */
#include "snlua.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#ifdef LUA_CACHELIB

#define BUCKETS 256
/* More than this many names are not remembered: somebody generates them. */
#define ENTRIES_MAX 4096
#define FILE_MAX 512

/* What keeps keys of different kinds apart; the first byte of a key. */
enum { KEY_MODULE = 'm', KEY_SEARCHPATH = 's', KEY_SEARCHPATH_WHOLE = 'w' };

struct entry {
	struct entry *next;
	uint32_t hash;
	size_t key_len;
	lua_CFunction opener; /* NULL: a Lua file */
	char *file;           /* behind the key */
	char key[];
};

/* A copy of an entry's content. */
struct found {
	lua_CFunction opener;
	char file[FILE_MAX];
};

static struct {
	pthread_mutex_t lock;
	int count;
	struct entry *bucket[BUCKETS];
} map = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint32_t
hash_of(const char *key, size_t len) {
	uint32_t h = 2166136261u; /* FNV-1a */
	for (size_t i = 0; i < len; i++) {
		h = (h ^ (unsigned char)key[i]) * 16777619u;
	}
	return h;
}

static struct entry *
map_find(const char *key, size_t len, uint32_t hash) {
	for (struct entry *e = map.bucket[hash % BUCKETS]; e != NULL; e = e->next) {
		if (e->hash == hash && e->key_len == len && memcmp(e->key, key, len) == 0) {
			return e;
		}
	}
	return NULL;
}

static bool
map_get(const char *key, size_t len, struct found *out) {
	uint32_t hash = hash_of(key, len);
	pthread_mutex_lock(&map.lock);
	struct entry *e = map_find(key, len, hash);
	if (e != NULL) {
		out->opener = e->opener;
		strcpy(out->file, e->file); /* map_put saw that it fits */
	}
	pthread_mutex_unlock(&map.lock);
	return e != NULL;
}

static void
map_put(const char *key, size_t len, lua_CFunction opener, const char *file) {
	size_t file_len = strlen(file);
	if (file_len >= FILE_MAX) {
		return;
	}
	struct entry *e = skynet_malloc(sizeof *e + len + file_len + 1);
	e->hash = hash_of(key, len);
	e->key_len = len;
	e->opener = opener;
	e->file = e->key + len;
	memcpy(e->key, key, len);
	memcpy(e->file, file, file_len + 1);
	pthread_mutex_lock(&map.lock);
	bool is_new = map.count < ENTRIES_MAX && map_find(key, len, e->hash) == NULL;
	if (is_new) {
		struct entry **bucket = &map.bucket[e->hash % BUCKETS];
		e->next = *bucket;
		*bucket = e;
		map.count++;
	}
	pthread_mutex_unlock(&map.lock);
	if (!is_new) {
		skynet_free(e);
	}
}

static void
map_clear(void) {
	pthread_mutex_lock(&map.lock);
	for (int i = 0; i < BUCKETS; i++) {
		while (map.bucket[i] != NULL) {
			struct entry *e = map.bucket[i];
			map.bucket[i] = e->next;
			skynet_free(e);
		}
	}
	map.count = 0;
	pthread_mutex_unlock(&map.lock);
}

/* ------------------------------------------------------------------ searchers */

/* Upvalues: the function that is replaced, and (searchers) the table package. */
enum { UP_ORIGINAL = 1, UP_PACKAGE };

/* Stack of the functions below: name, key, then what the original returned. */
enum { ARG_NAME = 1, ARG_KEY };

static enum cache_mode
mode_of(lua_State *L) {
	return snlua_here(L)->cache_mode;
}

/*
 * Put the key of a module behind its name: the name and both paths. False when
 * there is none, since a path is no string.
 */
static bool
make_module_key(lua_State *L) {
	const char *name = luaL_checkstring(L, ARG_NAME);
	lua_settop(L, ARG_NAME);
	lua_getfield(L, lua_upvalueindex(UP_PACKAGE), "path");
	lua_getfield(L, lua_upvalueindex(UP_PACKAGE), "cpath");
	if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING) {
		return false;
	}
	lua_pushfstring(L, "%c%s\n%s\n%s", KEY_MODULE, name, lua_tostring(L, -2), lua_tostring(L, -1));
	lua_replace(L, ARG_KEY);
	lua_settop(L, ARG_KEY);
	return true;
}

static bool
get_found(lua_State *L, struct found *out) {
	size_t len;
	const char *key = lua_tolstring(L, ARG_KEY, &len);
	return map_get(key, len, out);
}

static void
put_found(lua_State *L, lua_CFunction opener, const char *file) {
	size_t len;
	const char *key = lua_tolstring(L, ARG_KEY, &len);
	if (mode_of(L) == CACHE_ON) {
		map_put(key, len, opener, file);
	}
}

/* Call the replaced searcher; returns the number of its results, which are on the top. */
static int
search(lua_State *L) {
	int base = lua_gettop(L);
	lua_pushvalue(L, lua_upvalueindex(UP_ORIGINAL));
	lua_pushvalue(L, ARG_NAME);
	lua_call(L, 1, LUA_MULTRET);
	return lua_gettop(L) - base;
}

/* Whether the results are a loader and the name of its file. */
static bool
has_found(lua_State *L, int results) {
	return results == 2 && lua_isfunction(L, -2) && lua_type(L, -1) == LUA_TSTRING;
}

/* Push the loader of what was found before; false when it cannot be had any more. */
static bool
push_loader(lua_State *L, const struct found *found) {
	if (found->opener != NULL) {
		lua_pushcfunction(L, found->opener);
	} else if (luaL_loadfile(L, found->file) != LUA_OK) {
		lua_pop(L, 1);
		return false;
	}
	lua_pushstring(L, found->file);
	return true;
}

/* In place of the searcher of Lua modules, the first one that looks for files. */
static int
find_lua(lua_State *L) {
	struct found found;
	if (mode_of(L) == CACHE_OFF || !make_module_key(L)) {
		return search(L);
	}
	if (get_found(L, &found) && push_loader(L, &found)) {
		return 2;
	}
	int results = search(L);
	if (has_found(L, results)) {
		put_found(L, NULL, lua_tostring(L, -1));
	}
	return results;
}

/* Keep a library for ever whose opener is remembered. */
static bool
pin_library(const char *file) {
	return dlopen(file, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) != NULL;
}

/* In place of the two searchers of C modules; find_lua has looked in the map. */
static int
find_c(lua_State *L) {
	if (mode_of(L) != CACHE_ON || !make_module_key(L)) {
		return search(L);
	}
	int results = search(L);
	if (has_found(L, results)) {
		lua_CFunction opener = lua_tocfunction(L, -2);
		const char *file = lua_tostring(L, -1);
		if (opener != NULL && pin_library(file)) {
			put_found(L, opener, file);
		}
	}
	return results;
}

/* Whether the template of n bytes gives `file` with `name` for each `?`. */
static bool
gives_file(const char *template, size_t n, const char *name, const char *file) {
	size_t name_len = strlen(name);
	for (size_t i = 0; i < n; i++) {
		if (template[i] == '?') {
			if (strncmp(file, name, name_len) != 0) {
				return false;
			}
			file += name_len;
		} else if (*file++ != template[i]) {
			return false;
		}
	}
	return *file == '\0';
}

/* Push the template of `path` that `file` comes from, or nil. */
static void
push_template(lua_State *L, const char *path, const char *name, const char *file) {
	while (*path != '\0') {
		size_t n = strcspn(path, LUA_PATH_SEP);
		if (gives_file(path, n, name, file)) {
			lua_pushlstring(L, path, n);
			return;
		}
		path += n + (path[n] != '\0');
	}
	lua_pushnil(L);
}

/* searchpath of a name and a path, the key of which is `kind`, name and path. */
static int
searchpath_cached(lua_State *L, int kind) {
	struct found found;
	const char *name = luaL_checkstring(L, 1);
	const char *path = luaL_checkstring(L, 2);
	lua_settop(L, 3); /* name, path, separator */
	lua_pushfstring(L, "%c%s\n%s", kind, name, path);
	lua_insert(L, ARG_KEY);
	if (get_found(L, &found)) {
		lua_pushstring(L, found.file);
	} else {
		lua_pushvalue(L, lua_upvalueindex(UP_ORIGINAL));
		lua_pushvalue(L, 1);
		lua_pushvalue(L, ARG_KEY + 1);
		lua_pushvalue(L, ARG_KEY + 2);
		lua_call(L, 3, 2);
		if (lua_isnil(L, -2)) {
			return 2;
		}
		lua_pop(L, 1);
		put_found(L, NULL, lua_tostring(L, -1));
	}
	if (kind != KEY_SEARCHPATH_WHOLE) {
		return 1;
	}
	push_template(L, path, name, lua_tostring(L, -1));
	return 2;
}

/*
 * package.searchpath(name, path [, sep [, rep]]). With an empty separator, as the
 * loader looks for scripts, the second result is the template that fits.
 */
static int
searchpath(lua_State *L) {
	const char *sep = luaL_optstring(L, 3, NULL);
	bool is_plain = (sep == NULL || *sep == '\0') && lua_isnoneornil(L, 4);
	if (is_plain && mode_of(L) != CACHE_OFF) {
		return searchpath_cached(L, sep == NULL ? KEY_SEARCHPATH : KEY_SEARCHPATH_WHOLE);
	}
	lua_pushvalue(L, lua_upvalueindex(UP_ORIGINAL));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/* ------------------------------------------------------------------ codecache */

/* clear() */
static int
cache_clear(lua_State *L) {
	lua_pushvalue(L, lua_upvalueindex(UP_ORIGINAL));
	lua_call(L, 0, 0);
	map_clear();
	return 0;
}

/* mode([m]) */
static int
cache_mode(lua_State *L) {
	/* The original raises for anything but these. */
	static const char *const names[] = {
	    [CACHE_ON] = "ON", [CACHE_EXIST] = "EXIST", [CACHE_OFF] = "OFF"};
	lua_settop(L, 1);
	lua_pushvalue(L, lua_upvalueindex(UP_ORIGINAL));
	lua_pushvalue(L, 1);
	lua_call(L, 1, 1);
	for (int mode = CACHE_ON; mode <= CACHE_OFF && !lua_isnil(L, 1); mode++) {
		if (strcmp(lua_tostring(L, 1), names[mode]) == 0) {
			snlua_here(L)->cache_mode = (enum cache_mode)mode;
		}
	}
	return lua_isnil(L, 1) ? 1 : 0;
}

/* Replace field `name` of the table at the top by a closure over it. */
static void
wrap_field(lua_State *L, const char *name, lua_CFunction f) {
	lua_getfield(L, -1, name);
	lua_pushcclosure(L, f, 1);
	lua_setfield(L, -2, name);
}

void
snlua_open_search(lua_State *L) {
	static const lua_CFunction finders[] = {find_lua, find_c, find_c};
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, "skynet.codecache");
	wrap_field(L, "clear", cache_clear);
	wrap_field(L, "mode", cache_mode);
	lua_getfield(L, -2, LUA_LOADLIBNAME);
	wrap_field(L, "searchpath", searchpath);
	lua_getfield(L, -1, "searchers");
	for (int i = 0; i < (int)(sizeof finders / sizeof *finders); i++) {
		lua_rawgeti(L, -1, i + 2); /* the first one is that of package.preload */
		lua_pushvalue(L, -3);
		lua_pushcclosure(L, finders[i], 2);
		lua_rawseti(L, -2, i + 2);
	}
	lua_pop(L, 4);
}

#else

void
snlua_open_search(lua_State *L) {
	(void)L; /* every load reads its file; so does every search */
}

#endif
