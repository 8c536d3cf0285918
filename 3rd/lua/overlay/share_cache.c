/*
** The code cache: compiled files by name, one for the process.
**
** Owns a hash table of entries under one lock; an entry owns its name and one
** reference of its chunk. Files are compiled without the lock, in a state of
** their own, so that no string of theirs gets into the state that asked first;
** when two threads compile the same file, the second takes the first one's.
*/

#define LUA_CORE

#include "lprefix.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lauxlib.h"
#include "lualib.h"
#include "share.h"

/* The order is that of 'mode_names'; a new state's mode is zero. */
enum { MODE_ON, MODE_EXIST, MODE_OFF };

static const char *const mode_names[] = {"ON", "EXIST", "OFF", NULL};

struct entry {
	struct entry *next;
	struct share_chunk *chunk;
	unsigned hash;
	char name[];
};

enum { FIRST_BUCKETS = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry **buckets;
static size_t nbuckets; /* a power of 2, or zero */
static size_t nentries;

static size_t
entry_size(const char *name) {
	return sizeof(struct entry) + strlen(name) + 1;
}

static struct entry *
find(const char *name, unsigned hash) {
	struct entry *e = nbuckets == 0 ? NULL : buckets[hash & (nbuckets - 1)];
	while (e != NULL && (e->hash != hash || strcmp(e->name, name) != 0)) {
		e = e->next;
	}
	return e;
}

/*
** Returns the chunk of a file with a reference for the caller, or NULL.
*/
static struct share_chunk *
lookup(const char *name) {
	unsigned hash = share_hash(name, strlen(name));
	struct share_chunk *chunk = NULL;
	struct entry *e;
	pthread_mutex_lock(&lock);
	e = find(name, hash);
	if (e != NULL) {
		chunk = e->chunk;
		/* The entry's own reference keeps it alive under the lock. */
		atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&lock);
	return chunk;
}

static int
grow(void) {
	size_t n = nbuckets == 0 ? FIRST_BUCKETS : nbuckets * 2;
	struct entry **bigger = share_alloc(n * sizeof(*bigger));
	if (bigger == NULL) {
		return 0;
	}
	memset(bigger, 0, n * sizeof(*bigger));
	for (size_t i = 0; i < nbuckets; i++) {
		struct entry *next;
		for (struct entry *e = buckets[i]; e != NULL; e = next) {
			next = e->next;
			e->next = bigger[e->hash & (n - 1)];
			bigger[e->hash & (n - 1)] = e;
		}
	}
	share_free(buckets, nbuckets * sizeof(*buckets));
	buckets = bigger;
	nbuckets = n;
	return 1;
}

static int
add(const char *name, unsigned hash, struct share_chunk *chunk) {
	struct entry *e;
	if (nentries >= nbuckets && !grow()) {
		return 0;
	}
	e = share_alloc(entry_size(name));
	if (e == NULL) {
		return 0;
	}
	memcpy(e->name, name, strlen(name) + 1);
	e->hash = hash;
	e->chunk = chunk;
	e->next = buckets[hash & (nbuckets - 1)];
	buckets[hash & (nbuckets - 1)] = e;
	nentries++;
	/* The entry's reference. */
	atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);
	return 1;
}

/*
** Enters a chunk and returns the one to use, which may be another thread's. The
** caller's reference is passed through.
*/
static struct share_chunk *
store(const char *name, struct share_chunk *chunk) {
	unsigned hash = share_hash(name, strlen(name));
	struct share_chunk *used = chunk;
	struct entry *e;
	pthread_mutex_lock(&lock);
	e = find(name, hash);
	if (e != NULL) {
		used = e->chunk;
		atomic_fetch_add_explicit(&used->refs, 1, memory_order_relaxed);
	} else if (!add(name, hash, chunk)) {
		/* It works uncached, and is freed by its only user. */
		atomic_store_explicit(&chunk->is_dropped, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&lock);
	if (used != chunk) {
		share_release(chunk);
	}
	return used;
}

/*
** Forgets all entries. Chunks in use live on until their last user goes.
*/
static void
clear(void) {
	struct entry **old;
	size_t n;
	pthread_mutex_lock(&lock);
	old = buckets;
	n = nbuckets;
	buckets = NULL;
	nbuckets = nentries = 0;
	pthread_mutex_unlock(&lock);
	for (size_t i = 0; i < n; i++) {
		struct entry *next;
		for (struct entry *e = old[i]; e != NULL; e = next) {
			next = e->next;
			atomic_store_explicit(&e->chunk->is_dropped, 1, memory_order_relaxed);
			share_release(e->chunk);
			share_free(e, entry_size(e->name));
		}
	}
	share_free(old, n * sizeof(*old));
	/* Pairs with the acquire in share_collect: it finds the chunks marked. */
	atomic_fetch_add_explicit(&share_clears, 1, memory_order_release);
}

void
share_cachestats(struct lua_ShareStats *stats) {
	pthread_mutex_lock(&lock);
	stats->cache_count = nentries;
	pthread_mutex_unlock(&lock);
}

/*----------------------------------------------------------------- loading */

static void *
scratch_alloc(void *ud, void *block, size_t osize, size_t nsize) {
	(void)ud;
	(void)osize;
	if (nsize == 0) {
		free(block);
		return NULL;
	}
	return realloc(block, nsize);
}

struct request {
	const char *filename, *mode;
	int status;
	struct share_chunk *chunk;
};

/*
** Runs in the scratch state. Leaves an error message on the stack.
*/
static int
compile(lua_State *S) {
	struct request *r = lua_touserdata(S, 1);
	r->status = stock_loadfilex(S, r->filename, r->mode);
	if (r->status == LUA_OK) {
		const LClosure *cl = lua_topointer(S, -1);
		r->chunk = share_newchunk(cl->p);
		if (r->chunk == NULL) {
			r->status = LUA_ERRMEM;
			lua_pushliteral(S, "not enough memory");
		}
	}
	return 1;
}

static int
push_message(lua_State *L) {
	const char *message = lua_touserdata(L, 1);
	lua_pushstring(L, message != NULL ? message : "not enough memory");
	return 1;
}

/*
** Compiles a file. Returns its chunk with a reference for the caller, or NULL
** with a message on the stack of L and its status in *status.
*/
static struct share_chunk *
compile_file(lua_State *L, const char *filename, const char *mode, int *status) {
	struct request r = {.filename = filename, .mode = mode, .status = LUA_ERRMEM};
	lua_State *S = lua_newstate(scratch_alloc, NULL, 0);
	if (S == NULL) {
		lua_pushliteral(L, "not enough memory");
		*status = LUA_ERRMEM;
		return NULL;
	}
	lua_gc(S, LUA_GCSTOP);
	lua_pushcfunction(S, compile);
	lua_pushlightuserdata(S, &r);
	*status = lua_pcall(S, 1, 1, 0);
	if (*status == LUA_OK) {
		*status = r.status;
	}
	if (*status != LUA_OK) {
		/* Protected, because an error must not leave the scratch state behind. */
		int failed;
		lua_pushcfunction(L, push_message);
		lua_pushlightuserdata(L, (void *)lua_tostring(S, -1));
		failed = lua_pcall(L, 1, 1, 0);
		*status = failed != LUA_OK ? failed : *status;
	}
	lua_close(S);
	return r.chunk;
}

LUALIB_API int
luaL_loadfilex(lua_State *L, const char *filename, const char *mode) {
	struct share_vm *vm = share_vmof(G(L));
	struct share_chunk *chunk = NULL;
	int status = LUA_OK;
	if (filename == NULL || vm->mode == MODE_OFF) {
		return stock_loadfilex(L, filename, mode);
	}
	chunk = lookup(filename);
	if (chunk == NULL) {
		if (vm->mode == MODE_EXIST) {
			return stock_loadfilex(L, filename, mode);
		}
		chunk = compile_file(L, filename, mode, &status);
		if (chunk == NULL) {
			return status;
		}
		chunk = store(filename, chunk);
	}
	share_pushclosure(L, chunk, chunk->root);
	return LUA_OK;
}

/*---------------------------------------------------- module skynet.codecache */

static int
cache_clear(lua_State *L) {
	(void)L;
	clear();
	return 0;
}

static int
cache_mode(lua_State *L) {
	struct share_vm *vm = share_vmof(G(L));
	if (lua_isnoneornil(L, 1)) {
		lua_pushstring(L, mode_names[vm->mode]);
		return 1;
	}
	vm->mode = luaL_checkoption(L, 1, NULL, mode_names);
	return 0;
}

LUAMOD_API int
luaopen_cache(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"clear", cache_clear}, {"mode", cache_mode}, {NULL, NULL}};
	luaL_newlib(L, functions);
	lua_getglobal(L, "loadfile");
	lua_setfield(L, -2, "loadfile");
	return 1;
}
