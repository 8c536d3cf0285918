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
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "platform.h"

#ifdef LUA_CACHELIB

#define BUCKETS 256
/* More than this many names are not remembered: somebody generates them. */
#define ENTRIES_MAX 4096

/* What keeps keys of different kinds apart. */
enum { KEY_MODULE, KEY_SEARCHPATH, KEY_SCRIPT };

enum { KEY_PARTS = 3 };

/* What was looked for: a name and the paths it was looked for in. */
struct key {
	int kind;
	int parts;
	const char *part[KEY_PARTS];
	size_t len[KEY_PARTS];
};

struct entry {
	struct entry *next;
	uint64_t hash;
	struct key key;       /* its parts are behind it */
	lua_CFunction opener; /* NULL: a Lua file */
	char *file;
	char text[];
};

/* A copy of an entry's content. */
struct found {
	lua_CFunction opener;
	char file[SNLUA_FILE_MAX];
};

static struct {
	pthread_mutex_t lock;
	int count;
	struct entry *bucket[BUCKETS];
} map = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Eight bytes at a time: paths are long. */
static uint64_t
mix(uint64_t h, const char *text, size_t len) {
	while (len > 0) {
		uint64_t word = 0;
		size_t n = len < sizeof word ? len : sizeof word;
		memcpy(&word, text, n);
		h = (h ^ word) * 0x9e3779b97f4a7c15u;
		h ^= h >> 32;
		text += n;
		len -= n;
	}
	return h;
}

static uint64_t
hash_of(const struct key *key) {
	uint64_t h = (uint64_t)key->kind;
	for (int i = 0; i < key->parts; i++) {
		h = mix(h + key->len[i], key->part[i], key->len[i]);
	}
	return h;
}

static bool
is_same(const struct key *a, const struct key *b) {
	bool same = a->kind == b->kind && a->parts == b->parts;
	for (int i = 0; same && i < a->parts; i++) {
		same = a->len[i] == b->len[i] && memcmp(a->part[i], b->part[i], a->len[i]) == 0;
	}
	return same;
}

static struct entry *
map_find(const struct key *key, uint64_t hash) {
	struct entry *e = map.bucket[hash % BUCKETS];
	while (e != NULL && (e->hash != hash || !is_same(&e->key, key))) {
		e = e->next;
	}
	return e;
}

static bool
map_get(const struct key *key, struct found *out) {
	uint64_t hash = hash_of(key);
	pthread_mutex_lock(&map.lock);
	struct entry *e = map_find(key, hash);
	if (e != NULL) {
		out->opener = e->opener;
		strcpy(out->file, e->file); /* map_put saw that it fits */
	}
	pthread_mutex_unlock(&map.lock);
	return e != NULL;
}

static struct entry *
new_entry(const struct key *key, lua_CFunction opener, const char *file) {
	size_t size = strlen(file) + 1;
	for (int i = 0; i < key->parts; i++) {
		size += key->len[i];
	}
	struct entry *e = skynet_malloc(sizeof *e + size);
	char *text = e->text;
	e->hash = hash_of(key);
	e->key = *key;
	e->opener = opener;
	for (int i = 0; i < key->parts; i++) {
		memcpy(text, key->part[i], key->len[i]);
		e->key.part[i] = text;
		text += key->len[i];
	}
	e->file = strcpy(text, file);
	return e;
}

static void
map_put(const struct key *key, lua_CFunction opener, const char *file) {
	if (strlen(file) >= SNLUA_FILE_MAX) {
		return;
	}
	struct entry *e = new_entry(key, opener, file);
	pthread_mutex_lock(&map.lock);
	bool is_new = map.count < ENTRIES_MAX && map_find(key, e->hash) == NULL;
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

static enum cache_mode
mode_of(lua_State *L) {
	return snlua_here(L)->cache_mode;
}

/*
 * Make the key of a module: its name and both paths of the table `package`, which
 * are pushed and stay there as long as the key is used. False when there is none,
 * since a path is no string.
 */
static bool
make_module_key(lua_State *L, int package, const char *name, struct key *key) {
	*key = (struct key){.kind = KEY_MODULE, .parts = 3, .part = {name}, .len = {strlen(name)}};
	lua_getfield(L, package, "path");
	lua_getfield(L, package, "cpath");
	if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING) {
		return false;
	}
	key->part[1] = lua_tolstring(L, -2, &key->len[1]);
	key->part[2] = lua_tolstring(L, -1, &key->len[2]);
	return true;
}

static void
put_found(lua_State *L, const struct key *key, lua_CFunction opener, const char *file) {
	if (mode_of(L) == CACHE_ON) {
		map_put(key, opener, file);
	}
}

/* Call the replaced searcher; returns the number of its results, which are on the top. */
static int
search(lua_State *L) {
	int base = lua_gettop(L);
	lua_pushvalue(L, lua_upvalueindex(UP_ORIGINAL));
	lua_pushvalue(L, 1);
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

/* A search that finds nothing for want of a descriptor would say that there are no files. */
static void
check_descriptors(lua_State *L, const char *name) {
	int why = platform_lack_of_descriptors();
	if (why != 0) {
		luaL_error(L, "can't look for module '%s': %s", name, strerror(why));
	}
}

/*
 * A search takes a file that the system does not give now for one that is not there,
 * and goes on to the next. Whether one that comes before `found` (NULL: any) can be
 * opened now; raises when one can't be for another reason than what Lua passes over.
 */
static bool
has_passed_over(lua_State *L, const char *path, const char *name, const char *found) {
	int top = lua_gettop(L);
	const char *stem = luaL_gsub(L, name, ".", LUA_DIRSEP);
	bool is_there = false;
	for (const char *end; !is_there && *path != '\0'; path = *end == '\0' ? end : end + 1) {
		end = path + strcspn(path, LUA_PATH_SEP);
		lua_pushlstring(L, path, (size_t)(end - path));
		const char *file = luaL_gsub(L, lua_tostring(L, -1), LUA_PATH_MARK, stem);
		if (found != NULL && strcmp(file, found) == 0) {
			break;
		}
		int fd = open(file, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			close(fd);
			is_there = true;
		} else if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
			luaL_error(L, "can't open %s: %s", file, strerror(errno));
		}
		lua_pop(L, 2);
	}
	lua_settop(L, top);
	return is_there;
}

/* Modules that games for the framework require, and that are not there. */
static bool
is_missing_yet(const char *name) {
	static const char *const parts[] = {"skynet.cluster", "skynet.db"};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		size_t n = strlen(parts[i]);
		if (strncmp(name, parts[i], n) == 0 && (name[n] == '\0' || name[n] == '.')) {
			return true;
		}
	}
	return false;
}

/* The searcher's `results`, which are none but its message: say more if there is more to say. */
static int
explain(lua_State *L, const char *name, int results) {
	if (results == 1 && lua_type(L, -1) == LUA_TSTRING && is_missing_yet(name)) {
		lua_pushfstring(L, "this version of the framework does not have '%s' yet\n\t%s", name,
		                lua_tostring(L, -1));
	}
	return results;
}

/* In place of the searcher of Lua modules, the first one that looks for files. */
static int
find_lua(lua_State *L) {
	struct key key;
	struct found found;
	const char *name = luaL_checkstring(L, 1);
	if (mode_of(L) == CACHE_OFF || !make_module_key(L, lua_upvalueindex(UP_PACKAGE), name, &key)) {
		return explain(L, name, search(L));
	}
	if (map_get(&key, &found) && push_loader(L, &found)) {
		return 2;
	}
	int results = search(L);
	if (!has_found(L, results)) {
		check_descriptors(L, name);
	}
	if (has_passed_over(L, key.part[1], name, has_found(L, results) ? lua_tostring(L, -1) : NULL)) {
		lua_pop(L, results);
		results = search(L);
	}
	if (has_found(L, results)) {
		put_found(L, &key, NULL, lua_tostring(L, -1));
	}
	return explain(L, name, results);
}

/* Keep a library for ever whose opener is remembered. */
static bool
pin_library(const char *file) {
	return dlopen(file, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) != NULL;
}

/* In place of the two searchers of C modules; find_lua has looked in the map. */
static int
find_c(lua_State *L) {
	struct key key;
	const char *name = luaL_checkstring(L, 1);
	if (mode_of(L) != CACHE_ON || !make_module_key(L, lua_upvalueindex(UP_PACKAGE), name, &key)) {
		return search(L);
	}
	int results = search(L);
	if (has_found(L, results)) {
		lua_CFunction opener = lua_tocfunction(L, -2);
		const char *file = lua_tostring(L, -1);
		if (opener != NULL && pin_library(file)) {
			put_found(L, &key, opener, file);
		}
	}
	return results;
}

/* The function that looks in package.preload. Relaxed: it is the same in all VMs. */
static _Atomic(lua_CFunction) find_preloaded;

/* Whether the first two searchers of the table `package` are those of a new VM. */
static bool
has_own_searchers(lua_State *L, int package) {
	bool own = false;
	if (lua_getfield(L, package, "searchers") == LUA_TTABLE) {
		lua_rawgeti(L, -1, 1);
		lua_rawgeti(L, -2, 2);
		own = lua_tocfunction(L, -1) == find_lua &&
		      lua_tocfunction(L, -2) == atomic_load_explicit(&find_preloaded, memory_order_relaxed);
	}
	lua_settop(L, package);
	return own;
}

static bool
is_preloaded(lua_State *L, const char *name) {
	int top = lua_gettop(L);
	bool is = lua_getfield(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE) != LUA_TTABLE ||
	          lua_getfield(L, -1, name) != LUA_TNIL;
	lua_settop(L, top);
	return is;
}

bool
snlua_push_known(lua_State *L, const char *name) {
	struct key key;
	struct found found;
	int package = lua_gettop(L);
	return mode_of(L) != CACHE_OFF && has_own_searchers(L, package) && !is_preloaded(L, name) &&
	       make_module_key(L, package, name, &key) && map_get(&key, &found) &&
	       push_loader(L, &found);
}

/* Call the replaced searchpath with the n arguments; its two results are left on the top. */
static void
call_original(lua_State *L, int n) {
	lua_pushvalue(L, lua_upvalueindex(UP_ORIGINAL));
	for (int i = 1; i <= n; i++) {
		lua_pushvalue(L, i);
	}
	lua_call(L, n, 2);
}

/* package.searchpath(name, path [, sep [, rep]]) */
static int
searchpath(lua_State *L) {
	struct found found;
	const char *name = luaL_checkstring(L, 1);
	const char *path = luaL_checkstring(L, 2);
	struct key key = {.kind = KEY_SEARCHPATH,
	                  .parts = 2,
	                  .part = {name, path},
	                  .len = {strlen(name), strlen(path)}};
	bool is_plain = lua_isnoneornil(L, 3) && lua_isnoneornil(L, 4) && mode_of(L) != CACHE_OFF;
	if (is_plain && map_get(&key, &found)) {
		lua_pushstring(L, found.file);
		return 1;
	}
	int n = lua_gettop(L);
	call_original(L, n);
	if (is_plain && !lua_isnil(L, -2) && has_passed_over(L, path, name, lua_tostring(L, -2))) {
		call_original(L, n);
	}
	if (lua_isnil(L, -2)) {
		return 2;
	}
	lua_pop(L, 1);
	if (is_plain) {
		put_found(L, &key, NULL, lua_tostring(L, -1));
	}
	return 1;
}

/* -------------------------------------------------------------------- scripts */

static struct key
script_key(const char *name, const char *templates) {
	return (struct key){.kind = KEY_SCRIPT,
	                    .parts = 2,
	                    .part = {name, templates},
	                    .len = {strlen(name), strlen(templates)}};
}

bool
snlua_find_script(const char *name, const char *templates, char *file) {
	struct key key = script_key(name, templates);
	struct found found;
	if (!map_get(&key, &found)) {
		return false;
	}
	strcpy(file, found.file);
	return true;
}

void
snlua_note_script(const char *name, const char *templates, const char *file) {
	struct key key = script_key(name, templates);
	map_put(&key, NULL, file);
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
	lua_rawgeti(L, -1, 1);
	atomic_store_explicit(&find_preloaded, lua_tocfunction(L, -1), memory_order_relaxed);
	lua_pop(L, 1);
	for (int i = 0; i < (int)(sizeof finders / sizeof *finders); i++) {
		lua_rawgeti(L, -1, i + 2); /* the first one is that of package.preload */
		lua_pushvalue(L, -3);
		lua_pushcclosure(L, finders[i], 2);
		lua_rawseti(L, -2, i + 2);
	}
	lua_pop(L, 4);
}

#else

bool
snlua_find_script(const char *name, const char *templates, char *file) {
	(void)name;
	(void)templates;
	(void)file;
	return false;
}

void
snlua_note_script(const char *name, const char *templates, const char *file) {
	(void)name;
	(void)templates;
	(void)file;
}

bool
snlua_push_known(lua_State *L, const char *name) {
	(void)L;
	(void)name;
	return false;
}

void
snlua_open_search(lua_State *L) {
	(void)L; /* every load reads its file; so does every search */
}

#endif
