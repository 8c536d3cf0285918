/*
 * Allocations of a Lua state that fail on demand, for test/lib/allocfail.lua. A library for
 * Lua beside the C services, since it is loaded from their path.
 *
 * One state at a time has the injector, which stands before the allocator of its container
 * and keeps its userdata, by which libraries find the container. Everything runs on the
 * thread of the service that has it, but release, which any thread may call.
 *
 * Lua calls its allocator once more after a collection when it has failed: such a second
 * call, which asks for the same, is no allocation of its own.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "skynet_malloc.h"
#include "skynet_socket.h"
#include "t_descriptors.h"

/* How an allocation fails. */
enum mode {
	MODE_RETRY,  /* the second call succeeds: nothing is noticed but a full collection */
	MODE_ONCE,   /* the second call fails as well; those that follow succeed */
	MODE_ALWAYS, /* all fail from there on */
};

#define MAX_SEEN 4096
/* A collection frees every other call frame that is not in use. */
#define FRAMES 32
#define COLLECTIONS 2

static struct {
	lua_Alloc next; /* NULL: no state has the injector */
	void *ud;
	enum mode mode;
	bool has_fired;
	_Atomic(long) countdown; /* allocations up to the one that fails, it included; 0: none does */
	void *ptr;               /* what failed last, if it may come again */
	size_t osize;
	size_t nsize;
} the;

static uintptr_t seen[MAX_SEEN]; /* C functions that were called, by address; 0: free */

int luaopen_t_allocfail(lua_State *L);

/* ---------------------------------------------------------------- the allocator */

static bool
is_second_call(void *ptr, size_t osize, size_t nsize) {
	bool same = the.nsize == nsize && the.ptr == ptr && the.osize == osize;
	the.nsize = 0;
	return same;
}

static bool
must_fail(void *ptr, size_t osize, size_t nsize) {
	if (is_second_call(ptr, osize, nsize)) {
		return the.mode != MODE_RETRY;
	}
	long left = atomic_load(&the.countdown);
	if (left == 0) {
		return false;
	}
	if (left > 1) {
		atomic_store(&the.countdown, left - 1);
		return false;
	}
	if (the.mode != MODE_ALWAYS) {
		atomic_store(&the.countdown, 0);
	}
	the.has_fired = true;
	the.ptr = ptr;
	the.osize = osize;
	the.nsize = nsize;
	return true;
}

static void *
inject(void *ud, void *ptr, size_t osize, size_t nsize) {
	size_t old = ptr != NULL ? osize : 0;
	if (nsize > old && must_fail(ptr, osize, nsize)) {
		return NULL;
	}
	return the.next(ud, ptr, osize, nsize);
}

static void
arm(lua_State *L, long n, enum mode mode) {
	void *ud;
	lua_Alloc f = lua_getallocf(L, &ud);
	if (f != inject) {
		the.next = f;
		the.ud = ud;
		lua_setallocf(L, inject, ud);
	}
	the.mode = mode;
	the.has_fired = false;
	the.nsize = 0;
	atomic_store(&the.countdown, n);
}

/* True if an allocation failed. */
static bool
disarm(lua_State *L) {
	void *ud;
	atomic_store(&the.countdown, 0);
	the.nsize = 0;
	if (lua_getallocf(L, &ud) == inject) {
		lua_setallocf(L, the.next, ud);
	}
	return the.has_fired;
}

/* -------------------------------------------------------------------- functions */

/* n and mode at `index` and after it. */
static long
check_plan(lua_State *L, int index, enum mode *mode) {
	static const char *const modes[] = {"retry", "once", "always", NULL};
	*mode = (enum mode)luaL_checkoption(L, index + 1, NULL, modes);
	return (long)luaL_checkinteger(L, index);
}

/* Calls itself so often that Lua has call frames for what follows. */
static int
go_deep(lua_State *L) {
	lua_Integer n = lua_tointeger(L, 1);
	if (n > 0) {
		lua_pushcfunction(L, go_deep);
		lua_pushinteger(L, n - 1);
		lua_call(L, 1, 0);
	}
	return 0;
}

/* That a function is called needs no memory, so that it is there to take what it is given. */
static void
make_frames(lua_State *L) {
	lua_pushcfunction(L, go_deep);
	lua_pushinteger(L, FRAMES);
	lua_call(L, 1, 0);
}

/*
 * attempt(n, mode, f, ...) -> failed, ok, ...: pcall(f, ...) whose n-th allocation fails,
 * and whether one did. f cannot yield.
 */
static int
lattempt(lua_State *L) {
	enum mode mode;
	long n = check_plan(L, 1, &mode);
	luaL_checkany(L, 3);
	luaL_checkstack(L, 2, NULL);
	int nargs = lua_gettop(L) - 3;
	make_frames(L);
	arm(L, n, mode);
	int status = lua_pcall(L, nargs, LUA_MULTRET, 0);
	bool failed = disarm(L);
	int results = lua_gettop(L) - 2;
	luaL_checkstack(L, 2, NULL);
	lua_pushboolean(L, failed);
	lua_replace(L, 1);
	lua_pushboolean(L, status == LUA_OK);
	lua_replace(L, 2);
	return results + 2;
}

/*
 * collect([is_bare]): full collections, during which every allocation fails, each with a step,
 * which calls the finalizers. Returns whether one did. is_bare: also those of call frames for
 * finalizers, in a coroutine of its own.
 */
static int
lcollect(lua_State *L) {
	if (!lua_toboolean(L, 1)) {
		make_frames(L);
	}
	arm(L, 1, MODE_ALWAYS);
	for (int i = 0; i < COLLECTIONS; i++) {
		lua_gc(L, LUA_GCCOLLECT);
		lua_gc(L, LUA_GCSTEP, (size_t)0);
	}
	lua_pushboolean(L, disarm(L));
	return 1;
}

/* arm(n, mode): the n-th allocation of this service from now on fails, whoever makes it. */
static int
larm(lua_State *L) {
	enum mode mode;
	long n = check_plan(L, 1, &mode);
	arm(L, n, mode);
	return 0;
}

/* disarm() -> whether an allocation failed; in the service that has armed */
static int
ldisarm(lua_State *L) {
	lua_pushboolean(L, disarm(L));
	return 1;
}

/* release(): nothing fails any more; in another service than the one that has armed */
static int
lrelease(lua_State *L) {
	(void)L;
	atomic_store(&the.countdown, 0);
	return 0;
}

/* Lua, protected: (state): what a service has before its first library */
static int
prepare(lua_State *P) {
	lua_State *L = lua_touserdata(P, 1);
	lua_getfield(L, LUA_REGISTRYINDEX, "skynet_context");
	lua_pushlightuserdata(P, lua_touserdata(L, -1));
	lua_pop(L, 1);
	lua_setfield(P, LUA_REGISTRYINDEX, "skynet_context");
	luaL_openlibs(P);
	return 0;
}

static int
open_library(lua_State *P, lua_CFunction f, const char *name) {
	lua_settop(P, 0);
	lua_pushcfunction(P, f);
	lua_pushstring(P, name);
	return lua_pcall(P, 1, 1, 0);
}

/*
 * open(n, mode, name, f [, before]) -> failed, first, then: opens the library f in a state of its
 * own, in which `before` was opened; its n-th allocation fails; and once more, when none does.
 * first, then: nil, or what the error was.
 */
static int
lopen(lua_State *L) {
	enum mode mode;
	long n = check_plan(L, 1, &mode);
	const char *name = luaL_checkstring(L, 3);
	lua_CFunction f = lua_tocfunction(L, 4);
	lua_CFunction before = lua_tocfunction(L, 5);
	lua_State *P = luaL_newstate();
	char text[2][200] = {"", ""};
	lua_pushcfunction(P, prepare);
	lua_pushlightuserdata(P, L);
	lua_call(P, 1, 0);
	if (before != NULL) {
		open_library(P, before, "before");
	}
	make_frames(P);
	arm(P, n, mode);
	bool first = open_library(P, f, name) == LUA_OK;
	bool failed = disarm(P);
	snprintf(text[0], sizeof(text[0]), "%s", first ? "" : lua_tostring(P, -1));
	lua_gc(P, LUA_GCCOLLECT);
	bool then = open_library(P, f, name) == LUA_OK;
	snprintf(text[1], sizeof(text[1]), "%s", then ? "" : lua_tostring(P, -1));
	lua_close(P);
	lua_pushboolean(L, failed);
	lua_pushstring(L, first ? NULL : text[0]);
	lua_pushstring(L, then ? NULL : text[1]);
	return 3;
}

static uintptr_t *
slot_of(lua_CFunction f) {
	uintptr_t key = (uintptr_t)f;
	size_t i = (key >> 4) % MAX_SEEN;
	while (seen[i] != 0 && seen[i] != key) {
		i = (i + 1) % MAX_SEEN;
	}
	return &seen[i];
}

static void
note_call(lua_State *L, lua_Debug *ar) {
	lua_getinfo(L, "f", ar);
	lua_CFunction f = lua_tocfunction(L, -1);
	if (f != NULL) {
		*slot_of(f) = (uintptr_t)f;
	}
	lua_pop(L, 1);
}

/* trace(f, ...) -> ...: calls f, and notes which C functions that calls in turn */
static int
ltrace(lua_State *L) {
	lua_Hook hook = lua_gethook(L);
	int mask = lua_gethookmask(L);
	int count = lua_gethookcount(L);
	luaL_checkany(L, 1);
	lua_sethook(L, note_call, LUA_MASKCALL, 0);
	int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
	lua_sethook(L, hook, mask, count);
	return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* traced(f) -> whether trace has noted a call of it; nil if it is no C function */
static int
ltraced(lua_State *L) {
	lua_CFunction f = lua_tocfunction(L, 1);
	if (f == NULL) {
		return 0;
	}
	lua_pushboolean(L, *slot_of(f) != 0);
	return 1;
}

/* descriptors() -> how many descriptors the process has open */
static int
ldescriptors(lua_State *L) {
	lua_pushinteger(L, open_descriptors());
	return 1;
}

/*
 * message(type, id, ud, data, text) -> message, size: what the socket core would send. data
 * goes into a block of its own, of which ud is the size; nil = there is none.
 */
static int
lmessage(lua_State *L) {
	size_t n;
	size_t text_size;
	struct skynet_socket_message m = {
	    .type = (int)luaL_checkinteger(L, 1),
	    .id = (int)luaL_checkinteger(L, 2),
	    .ud = (int)luaL_optinteger(L, 3, 0),
	};
	const char *data = luaL_optlstring(L, 4, NULL, &n);
	const char *text = luaL_optlstring(L, 5, "", &text_size);
	if (data != NULL) {
		m.buffer = skynet_malloc(n);
		memcpy(m.buffer, data, n);
		m.ud = (int)n;
	}
	struct skynet_socket_message *to = skynet_malloc(sizeof(m) + text_size);
	*to = m;
	memcpy(to + 1, text, text_size);
	lua_pushlightuserdata(L, to);
	lua_pushinteger(L, (lua_Integer)(sizeof(m) + text_size));
	return 2;
}

/* holds(message) -> whether it still has its data */
static int
lholds(lua_State *L) {
	const struct skynet_socket_message *m = lua_touserdata(L, 1);
	lua_pushboolean(L, m->buffer != NULL);
	return 1;
}

/* dispose(message): as the kernel does with one that was handled */
static int
ldispose(lua_State *L) {
	struct skynet_socket_message *m = lua_touserdata(L, 1);
	skynet_free(m->buffer);
	skynet_free(m);
	return 0;
}

int
luaopen_t_allocfail(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"open", lopen},       {"attempt", lattempt}, {"arm", larm},
	    {"disarm", ldisarm},   {"release", lrelease}, {"trace", ltrace},
	    {"traced", ltraced},   {"collect", lcollect}, {"descriptors", ldescriptors},
	    {"message", lmessage}, {"holds", lholds},     {"dispose", ldispose},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlib(L, functions);
	return 1;
}
