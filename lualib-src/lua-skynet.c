/*
 * skynet.core: the kernel's functions for Lua, one C function each. Opened in
 * a VM whose registry field skynet_context holds the service's context. In a VM
 * of the Lua container the functions find it through the container; in another
 * host's it is their upvalue. Nothing here yields.
 *
 * A message reaches Lua through a Lua thread of its own, made by callback();
 * the registry keeps it alive. Its stack holds the error handler, the function
 * and, until the first message, the thread it replaces, which may be running.
 */
#include "lua-skynet.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "lshare.h"
#include "lua-container.h"
#include "lua-seri.h"
#include "lua-task.h"
#include "platform.h"
#include "skynet_env.h"
#include "skynet_handle.h"
#include "skynet_notice.h"
#include "skynet_server.h"

/* Room for the number of failures that were not logged, and the words with it. */
#define MORE_ROOM 64

/* Room for a 32-bit integer in decimal, or ":" and 8 hex digits. */
#define NUMBER_ROOM 16

#define MESSAGE_TYPE_MAX 255
#define TAG_BITS (PTYPE_TAG_DONTCOPY | PTYPE_TAG_ALLOCSESSION)

/* Stack slots of a callback's thread. */
enum { SLOT_TRACEBACK = 1, SLOT_FUNCTION, SLOT_REPLACED };

/* Its address is the registry key of the callback's thread. */
static const char callback_key;

static struct skynet_context *
context(lua_State *L) {
	void *ctx = lua_touserdata(L, lua_upvalueindex(1));
	return ctx != NULL ? ctx : lua_container_here(L)->ctx;
}

struct skynet_context *
lua_skynet_context(lua_State *L) {
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_CONTEXT_FIELD);
	struct skynet_context *ctx = lua_touserdata(L, -1);
	lua_pop(L, 1);
	if (ctx == NULL) {
		luaL_error(L, "Init skynet context first");
	}
	return ctx;
}

/* ------------------------------------------------------------------ failures */

int
lua_skynet_traceback(lua_State *L) {
	const char *msg = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : NULL;
	if (msg != NULL) {
		luaL_traceback(L, L, msg, 1);
	} else {
		lua_pushliteral(L, "(no error message)");
	}
	return 1;
}

/* Whether log lines end up on a terminal: the stock logger on standard output. */
static bool
log_has_colour(void) {
	return skynet_getenv("logger") == NULL && isatty(STDOUT_FILENO);
}

/*
 * A log service is not told of its own failures: it would fail at them again,
 * for ever. They go to standard error.
 */
__attribute__((format(printf, 3, 4))) static void
log_failure(struct skynet_context *ctx, struct skynet_notice *notice, const char *format, ...) {
	char *text = NULL, more[MORE_ROOM] = "";
	unsigned hidden = 0;
	if (notice != NULL && !skynet_notice_begin(notice, &hidden)) {
		return;
	} else if (hidden > 0) {
		snprintf(more, sizeof(more), " (and %u more of that kind before)", hidden);
	}
	va_list ap;
	va_start(ap, format);
	int n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0) {
		return;
	}
	uint32_t handle = skynet_context_handle(ctx);
	if (handle == skynet_handle_findname("logger")) {
		fprintf(stderr, "[:%08x] %s%s\n", handle, text, more);
	} else {
		skynet_error(ctx, "%s%s", text, more);
	}
	free(text);
}

static void
log_runtime_error(struct skynet_context *ctx, struct skynet_notice *notice, const char *where,
                  const char *msg) {
	if (log_has_colour()) {
		log_failure(ctx, notice, "lua call [%s] error : \x1b[31m%s\x1b[0m", where, msg);
	} else {
		log_failure(ctx, notice, "lua call [%s] error : %s", where, msg);
	}
}

void
lua_skynet_log_failure(struct skynet_context *ctx, struct skynet_notice *notice, lua_State *L,
                       int status, uint32_t source, int session, size_t sz) {
	char where[96];
	int n = snprintf(where, sizeof where, "%x to :%x : %d", source, skynet_context_handle(ctx),
	                 session);
	switch (status) {
	case LUA_ERRMEM:
		log_failure(ctx, notice, "lua memory error : [%s]", where);
		break;
	case LUA_ERRERR:
		log_failure(ctx, notice, "lua error in error : [%s]", where);
		break;
	default: {
		const char *msg = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
		snprintf(where + n, sizeof where - (size_t)n, " msgsz = %zu", sz);
		log_runtime_error(ctx, notice, where, msg != NULL ? msg : "(no error message)");
	}
	}
}

/* ------------------------------------------------------------------ callback */

/* The Lua function gets type, msg, size, session, source. */
static void
run_callback(struct skynet_context *ctx, lua_State *L, int type, int session, uint32_t source,
             const void *msg, size_t sz) {
	lua_settop(L, SLOT_FUNCTION);
	lua_pushvalue(L, SLOT_FUNCTION);
	lua_pushinteger(L, type);
	lua_pushlightuserdata(L, (void *)(uintptr_t)msg);
	lua_pushinteger(L, (lua_Integer)sz);
	lua_pushinteger(L, session);
	lua_pushinteger(L, source);
	int status = lua_pcall(L, 5, 0, SLOT_TRACEBACK);
	if (status != LUA_OK) {
		lua_skynet_log_failure(ctx, NULL, L, status, source, session, sz);
		lua_settop(L, SLOT_FUNCTION);
	}
}

static int
deliver(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
        const void *msg, size_t sz) {
	run_callback(ctx, ud, type, session, source, msg, sz);
	return 0;
}

static int
deliver_forward(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
                const void *msg, size_t sz) {
	run_callback(ctx, ud, type, session, source, msg, sz);
	return 1;
}

/* callback(f [, forward]) */
static int
lcallback(lua_State *L) {
	struct skynet_context *ctx = context(L);
	struct lua_container *c = lua_container(L);
	luaL_checktype(L, 1, LUA_TFUNCTION);
	skynet_cb cb = lua_toboolean(L, 2) ? deliver_forward : deliver;
	lua_settop(L, 1);
	lua_State *thread = lua_newthread(L);
	lua_pushcfunction(thread, lua_skynet_traceback);
	lua_pushvalue(L, 1);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &callback_key);
	lua_xmove(L, thread, 2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &callback_key);
	if (c != NULL) {
		c->ops->callback(c, thread, thread, cb);
	} else {
		skynet_callback(ctx, thread, cb);
	}
	return 0;
}

/* ------------------------------------------------------------------- sending */

void
lua_skynet_refuseaddress(lua_State *L, int idx) {
	const char *given = luaL_tolstring(L, idx, NULL);
	if (strcmp(given, "0") == 0) {
		luaL_error(L, "Invalid service address 0");
	}
	luaL_error(L, "Invalid service address 0: %s is no handle", given);
}

uint32_t
lua_skynet_checkaddress(lua_State *L, int idx, const char **name) {
	*name = NULL;
	if (lua_isnumber(L, idx)) {
		uint32_t handle = (uint32_t)lua_tointeger(L, idx);
		if (handle == 0) {
			lua_skynet_refuseaddress(L, idx);
		}
		return handle;
	}
	if (lua_type(L, idx) != LUA_TSTRING) {
		luaL_error(L, "dest address type (%s) must be a string or number.", luaL_typename(L, idx));
	}
	*name = lua_tostring(L, idx);
	return 0;
}

/*
 * A type is 0..255. The kernel's tag bits are taken off, so that no script can
 * claim that a Lua string is a block of the kernel's.
 */
static int
check_type(lua_State *L, int idx) {
	lua_Integer type = luaL_checkinteger(L, idx) & ~(lua_Integer)TAG_BITS;
	luaL_argcheck(L, 0 <= type && type <= MESSAGE_TYPE_MAX, idx, "message type out of range");
	return (int)type;
}

/* Session argument; nil asks for a new one, which nothing in the VM waits for. */
static int
check_session(lua_State *L, int idx) {
	if (lua_isnil(L, idx)) {
		return task_new_session(L, context(L));
	}
	lua_Integer session = luaL_checkinteger(L, idx);
	luaL_argcheck(L, 0 <= session && session <= INT_MAX, idx, "session out of range");
	return (int)session;
}

/* send and redirect: the arguments from `idx` on are type, session, msg, size. */
static int
send_message(lua_State *L, uint32_t source, int idx) {
	struct skynet_context *ctx = context(L);
	const char *name;
	uint32_t dest = lua_skynet_checkaddress(L, 1, &name);
	int type = check_type(L, idx);
	int session = check_session(L, idx + 1);
	void *msg;
	size_t sz;
	switch (lua_type(L, idx + 2)) {
	case LUA_TSTRING:
		msg = (void *)(uintptr_t)lua_tolstring(L, idx + 2, &sz);
		if (sz == 0) {
			msg = NULL;
		}
		break;
	case LUA_TLIGHTUSERDATA:
		msg = lua_touserdata(L, idx + 2);
		sz = (size_t)luaL_checkinteger(L, idx + 3);
		type |= PTYPE_TAG_DONTCOPY;
		break;
	default:
		return luaL_error(L, "invalid param %s", luaL_typename(L, idx + 2));
	}
	int result = name != NULL ? skynet_sendname(ctx, source, name, type, session, msg, sz)
	                          : skynet_send(ctx, source, dest, type, session, msg, sz);
	if (result >= 0) {
		lua_pushinteger(L, result);
		return 1;
	}
	if (result == -2) {
		lua_pushboolean(L, 0);
		return 1;
	}
	return 0;
}

/* send(addr, type, session, msg [, size]) */
static int
lsend(lua_State *L) {
	return send_message(L, 0, 2);
}

/* redirect(addr, source, type, session, msg [, size]) */
static int
lredirect(lua_State *L) {
	uint32_t source = (uint32_t)luaL_checkinteger(L, 2);
	return send_message(L, source, 3);
}

/* genid() */
static int
lgenid(lua_State *L) {
	lua_pushinteger(L, task_new_session(L, context(L)));
	return 1;
}

/* ------------------------------------------------------------------ commands */

static int
lcommand(lua_State *L) {
	const char *result =
	    skynet_command(context(L), luaL_checkstring(L, 1), luaL_optstring(L, 2, NULL));
	if (result == NULL) {
		return 0;
	}
	lua_pushstring(L, result);
	return 1;
}

static int
laddresscommand(lua_State *L) {
	const char *result =
	    skynet_command(context(L), luaL_checkstring(L, 1), luaL_optstring(L, 2, NULL));
	if (result == NULL || result[0] != ':') {
		return 0;
	}
	lua_pushinteger(L, (lua_Integer)strtoul(result + 1, NULL, 16));
	return 1;
}

/*
 * A number as the 32 bits a command understands. Handles are unsigned, delays
 * are signed: what lies beyond both is clamped, so that a long delay never
 * becomes a short one.
 */
static void
format_parameter(lua_State *L, const char *cmd, char out[NUMBER_ROOM]) {
	lua_Integer v = luaL_checkinteger(L, 2);
	lua_Integer max = strcmp(cmd, "TIMEOUT") == 0 ? INT32_MAX : UINT32_MAX;
	if (v > max) {
		v = max;
	} else if (v < INT32_MIN) {
		v = INT32_MIN;
	}
	snprintf(out, NUMBER_ROOM, "%" PRId32, (int32_t)(uint32_t)v);
}

/* intcommand(cmd [, integer or text]) */
static int
lintcommand(lua_State *L) {
	const char *cmd = luaL_checkstring(L, 1);
	const char *param = NULL;
	char number[NUMBER_ROOM];
	if (lua_type(L, 2) == LUA_TNUMBER) {
		format_parameter(L, cmd, number);
		param = number;
	} else {
		param = luaL_optstring(L, 2, NULL);
	}
	const char *result = skynet_command(context(L), cmd, param);
	if (result == NULL) {
		return 0;
	}
	char *end;
	long long integer = strtoll(result, &end, 0);
	if (*end == '\0') {
		lua_pushinteger(L, integer);
		return 1;
	}
	double real = strtod(result, &end);
	if (*end != '\0') {
		return luaL_error(L, "Invalid result %s", result);
	}
	lua_pushnumber(L, real);
	return 1;
}

/* ------------------------------------------------------------------- logging */

/* error(...) */
static int
lerror(lua_State *L) {
	int n = lua_gettop(L);
	size_t len;
	const char *text;
	if (n <= 1) {
		lua_settop(L, 1);
		text = luaL_tolstring(L, 1, &len);
	} else {
		luaL_Buffer b;
		luaL_buffinit(L, &b);
		for (int i = 1; i <= n; i++) {
			luaL_tolstring(L, i, NULL);
			luaL_addvalue(&b);
			if (i < n) {
				luaL_addchar(&b, ' ');
			}
		}
		luaL_pushresult(&b);
		text = lua_tolstring(L, -1, &len);
	}
	skynet_error(context(L), "%*s", len > INT_MAX ? INT_MAX : (int)len, text);
	return 0;
}

/* Frames of a trace line. */
#define TRACE_FRAMES 3

/* Append " : SRC:LINE ..." for the frames of `thread` from `level` outwards. */
static void
add_positions(luaL_Buffer *b, lua_State *thread, int level) {
	lua_Debug ar;
	int found = 0;
	for (; found < TRACE_FRAMES && lua_getstack(thread, level, &ar); level++) {
		lua_getinfo(thread, "Sl", &ar);
		if (ar.currentline < 0) {
			continue;
		}
		luaL_addstring(b, found == 0 ? " : " : " ");
		luaL_addlstring(b, ar.source, ar.srclen);
		char line[NUMBER_ROOM];
		snprintf(line, sizeof line, ":%d", ar.currentline);
		luaL_addstring(b, line);
		found++;
	}
}

/* trace(tag, text [, thread] [, level]) */
static int
ltrace(lua_State *L) {
	const char *tag = luaL_checkstring(L, 1);
	const char *text = luaL_checkstring(L, 2);
	lua_State *thread = L;
	int level = 1;
	bool positions = !lua_isnoneornil(L, 3);
	if (lua_isthread(L, 3)) {
		thread = lua_tothread(L, 3);
		level = (int)luaL_optinteger(L, 4, 1);
	} else if (positions) {
		level = (int)luaL_checkinteger(L, 3);
	}
	uint64_t now = platform_monotonic_ns();
	luaL_Buffer b;
	luaL_buffinit(L, &b);
	if (positions && level >= 0) {
		add_positions(&b, thread, level);
	}
	luaL_pushresult(&b);
	skynet_error(context(L), "<TRACE %s> %" PRIu64 " %s%s", tag, now, text, lua_tostring(L, -1));
	return 0;
}

/* ------------------------------------------------------------------ messages */

/* tostring(ptr, size) */
static int
ltostring(lua_State *L) {
	if (lua_isnoneornil(L, 1)) {
		return 0;
	}
	luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
	lua_Integer sz = luaL_checkinteger(L, 2);
	luaL_argcheck(L, sz >= 0, 2, "negative size");
	const char *msg = lua_touserdata(L, 1);
	luaL_argcheck(L, msg != NULL || sz == 0, 1, "null pointer");
	lua_pushlstring(L, msg != NULL ? msg : "", (size_t)sz);
	return 1;
}

/* trash(ptr, size) or trash(string) */
static int
ltrash(lua_State *L) {
	switch (lua_type(L, 1)) {
	case LUA_TSTRING:
		return 0;
	case LUA_TLIGHTUSERDATA:
		luaL_checkinteger(L, 2);
		skynet_free(lua_touserdata(L, 1));
		return 0;
	default:
		return luaL_error(L, "skynet.trash invalid param %s", luaL_typename(L, 1));
	}
}

/* ------------------------------------------------------------------- the rest */

/* harbor(handle) */
static int
lharbor(lua_State *L) {
	uint32_t handle = (uint32_t)luaL_checkinteger(L, 1);
	int harbor = 0;
	int is_remote = skynet_isremote(context(L), handle, &harbor);
	lua_pushinteger(L, harbor);
	lua_pushboolean(L, is_remote);
	return 2;
}

/* alive(handle): whether its service lives; one of another node counts as alive, since
 * only that node knows */
static int
lalive(lua_State *L) {
	uint32_t handle = (uint32_t)luaL_checkinteger(L, 1);
	struct skynet_context *target = NULL;
	bool is_alive = skynet_isremote(context(L), handle, NULL) != 0;
	if (!is_alive && (target = skynet_handle_grab(handle)) != NULL) {
		skynet_context_release(target);
		is_alive = true;
	}
	lua_pushboolean(L, is_alive);
	return 1;
}

/* now() */
static int
lnow(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)skynet_now());
	return 1;
}

/* hpc() */
static int
lhpc(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)platform_monotonic_ns());
	return 1;
}

/* A size_t, whatever is added to it. */
#define MAX_BYTES 0x1p62

/* memlimit(bytes): at once, up or down; 0 lifts it. */
static int
lmemlimit(lua_State *L) {
	struct lua_container *c = lua_container(L);
	lua_Number bytes = luaL_checknumber(L, 1);
	luaL_argcheck(L, !(bytes < 0), 1, "negative limit");
	luaL_argcheck(L, bytes < MAX_BYTES, 1, "not a number of bytes");
	if (c == NULL) {
		return luaL_error(L, "this host has no memory limit");
	}
	c->ops->limit_memory(c, (size_t)bytes);
	return 0;
}

/*
 * heap(): bytes that the VM has from its allocator. Lua's own count leaves out long
 * strings that were built in a buffer.
 */
static int
lheap(lua_State *L) {
	struct lua_container *c = lua_container(L);
	if (c != NULL) {
		lua_pushinteger(L, (lua_Integer)c->ops->memory(c));
	} else {
		lua_pushinteger(L, (lua_Integer)lua_gc(L, LUA_GCCOUNT) * 1024);
	}
	return 1;
}

static size_t
check_bytes(lua_State *L, int arg) {
	lua_Number bytes = luaL_optnumber(L, arg, 0);
	luaL_argcheck(L, bytes >= 0 && bytes < MAX_BYTES, arg, "not a number of bytes");
	return (size_t)bytes;
}

/* memquota([hard, warn]): sets both if one is given. Returns them, and the total. */
static int
lmemquota(lua_State *L) {
	struct lua_container *c = lua_container(L);
	size_t hard, warn, total;
	if (c == NULL) {
		return luaL_error(L, "this host has no memory quota");
	}
	if (!lua_isnoneornil(L, 1) || !lua_isnoneornil(L, 2)) {
		hard = check_bytes(L, 1);
		warn = check_bytes(L, 2);
		c->ops->set_quota(c, hard, warn);
	}
	c->ops->get_quota(c, &hard, &warn, &total);
	lua_pushinteger(L, (lua_Integer)hard);
	lua_pushinteger(L, (lua_Integer)warn);
	lua_pushinteger(L, (lua_Integer)total);
	return 3;
}

/* startfailed(): true when that ends the node, see lua-container.h */
static int
lstartfailed(lua_State *L) {
	struct lua_container *c = lua_container(L);
	lua_pushboolean(L, c != NULL && c->ops->start_failed(c));
	return 1;
}

/* Push the module for a VM without a container, or as all that have one get it. */
static void
push_module(lua_State *L, bool has_container) {
	static const luaL_Reg with_context[] = {
	    {"send", lsend},         {"redirect", lredirect},     {"genid", lgenid},
	    {"command", lcommand},   {"intcommand", lintcommand}, {"addresscommand", laddresscommand},
	    {"error", lerror},       {"harbor", lharbor},         {"alive", lalive},
	    {"callback", lcallback}, {"trace", ltrace},           {NULL, NULL},
	};
	static const luaL_Reg plain[] = {
	    {"tostring", ltostring},
	    {"pack", luaseri_pack},
	    {"unpack", luaseri_unpack},
	    {"packstring", luaseri_packstring},
	    {"trash", ltrash},
	    {"now", lnow},
	    {"hpc", lhpc},
	    {"heap", lheap},
	    {"memlimit", lmemlimit},
	    {"memquota", lmemquota},
	    {"startfailed", lstartfailed},
	    {NULL, NULL},
	};
	lua_createtable(
	    L, 0, (int)(sizeof with_context / sizeof *with_context + sizeof plain / sizeof *plain - 2));
	luaL_setfuncs(L, plain, 0);
	if (has_container) {
		luaL_setfuncs(L, with_context, 0);
	} else {
		lua_pushlightuserdata(L, lua_skynet_context(L));
		luaL_setfuncs(L, with_context, 1);
	}
}

/*
 * In a container's VM all functions are plain, so one table is made and frozen, and
 * each VM gets a copy of it.
 */
static void
push_copy(lua_State *L) {
#ifdef LUA_CACHELIB
	static _Atomic(const void *) frozen;
	/* Pairs with the release below. */
	const void *known = atomic_load_explicit(&frozen, memory_order_acquire);
	if (known != NULL) {
		lua_copytable(L, known);
		return;
	}
	push_module(L, true);
	const void *new = lua_sharetable(L, -1);
	if (!atomic_compare_exchange_strong_explicit(&frozen, &known, new, memory_order_release,
	                                             memory_order_relaxed)) {
		lua_freeshared(new); /* another VM was faster */
	}
#else
	push_module(L, true);
#endif
}

int luaopen_skynet_core(lua_State *L);

int
luaopen_skynet_core(lua_State *L) {
	luaL_checkversion(L);
	if (lua_container(L) != NULL) {
		push_copy(L);
	} else {
		push_module(L, false);
	}
	return 1;
}
