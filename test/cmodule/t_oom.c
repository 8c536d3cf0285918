/*
 * t_oom, a Lua module for tests: lets the n-th allocation of another service's VM fail.
 *
 * Only growth counts, as only that may fail in Lua. Lua collects garbage and asks once
 * more for the same before it raises "not enough memory", so that fails as well.
 *
 * A watched VM keeps its record for the life of the process. The fields that two
 * threads touch are atomic; the message that begins an exchange orders everything else.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>

#include "t_descriptors.h"

struct watched {
	struct watched *next;
	lua_Integer handle;
	lua_Alloc alloc;
	void *ud;
	/* Allocations until one fails; 0 or less: none does. */
	_Atomic(long) left;
	_Atomic(long) failed;
	_Atomic(long) times; /* so many fail, one after the other */
	/* What failed last, for the second try. Of the thread that runs the VM. */
	void *ptr;
	size_t osize, nsize;
	bool again;
};

/* A wait of so long only bounds a failure, 1/100 s. */
#define LONG 3000

static _Atomic(struct watched *) all;
static atomic_bool starving; /* from arm to disarm */

int luaopen_t_oom(lua_State *L);

static bool
fails(struct watched *w, void *ptr, size_t osize, size_t nsize) {
	if (w->again) {
		w->again = false;
		if (ptr == w->ptr && osize == w->osize && nsize == w->nsize) {
			return true;
		}
	}
	long left = atomic_load(&w->left);
	if (left <= 0) {
		return false;
	}
	if (left > 1) {
		atomic_compare_exchange_strong(&w->left, &left, left - 1);
		return false;
	}
	if (atomic_fetch_sub(&w->times, 1) <= 1) {
		/* It may be armed anew by now. */
		atomic_compare_exchange_strong(&w->left, &left, 0);
	}
	atomic_fetch_add(&w->failed, 1);
	w->ptr = ptr;
	w->osize = osize;
	w->nsize = nsize;
	w->again = true;
	return true;
}

/* The user data stays what it was: libraries know the container by it. */
static void *
alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
	struct watched *w = atomic_load(&all);
	while (w->ud != ud) {
		w = w->next;
	}
	if (nsize > (ptr != NULL ? osize : 0) && fails(w, ptr, osize, nsize)) {
		return NULL;
	}
	return w->alloc(w->ud, ptr, osize, nsize);
}

static struct watched *
find(lua_State *L, int arg) {
	lua_Integer handle = luaL_checkinteger(L, arg);
	for (struct watched *w = atomic_load(&all); w != NULL; w = w->next) {
		if (w->handle == handle) {
			return w;
		}
	}
	luaL_argerror(L, arg, "no such service is watched");
	return NULL;
}

/* watch(handle): of the VM that calls; to be done once */
static int
lwatch(lua_State *L) {
	struct watched *w = calloc(1, sizeof(*w));
	if (w == NULL) {
		return luaL_error(L, "no memory for a test");
	}
	w->handle = luaL_checkinteger(L, 1);
	w->alloc = lua_getallocf(L, &w->ud);
	w->next = atomic_load(&all);
	while (!atomic_compare_exchange_weak(&all, &w->next, w)) {
	}
	lua_setallocf(L, alloc, w->ud);
	return 0;
}

/*
 * arm(handle, n [, times]): the n-th allocation fails, and those that follow, 1 in all; 0:
 * none does
 */
static int
larm(lua_State *L) {
	struct watched *w = find(L, 1);
	lua_Integer n = luaL_checkinteger(L, 2);
	if (n > 0) {
		atomic_store(&w->failed, 0);
		atomic_store(&starving, true);
	}
	atomic_store(&w->times, (long)luaL_optinteger(L, 3, 1));
	atomic_store(&w->left, (long)n);
	return 0;
}

/* failed(handle) -> number of failures since arm */
static int
lfailed(lua_State *L) {
	lua_pushinteger(L, atomic_load(&find(L, 1)->failed));
	return 1;
}

/* disarm(handle) -> number of failures since arm */
static int
ldisarm(lua_State *L) {
	struct watched *w = find(L, 1);
	atomic_store(&w->left, 0);
	atomic_store(&starving, false);
	lua_pushinteger(L, atomic_load(&w->failed));
	return 1;
}

/*
 * patience(limit) -> how long to wait for what may not come, in 1/100 s: `limit` from arm to
 * disarm, else LONG. For all services of the node.
 */
static int
lpatience(lua_State *L) {
	lua_Integer limit = luaL_checkinteger(L, 1);
	lua_pushinteger(L, atomic_load(&starving) ? limit : LONG);
	return 1;
}

/* starving() -> whether some service is between arm and disarm */
static int
lstarving(lua_State *L) {
	lua_pushboolean(L, atomic_load(&starving));
	return 1;
}

/* descriptors() -> number of open descriptors of the process */
static int
ldescriptors(lua_State *L) {
	lua_pushinteger(L, open_descriptors());
	return 1;
}

int
luaopen_t_oom(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"watch", lwatch},
	    {"arm", larm},
	    {"failed", lfailed},
	    {"disarm", ldisarm},
	    {"patience", lpatience},
	    {"starving", lstarving},
	    {"descriptors", ldescriptors},
	    {NULL, NULL},
	};
	luaL_newlib(L, functions);
	return 1;
}
