/*
 * snlua, the container of Lua services: one VM per service.
 *
 * create and init only note the arguments and queue them to the service as its
 * first message, so a launch costs its caller almost nothing. On that message,
 * on a worker, the VM is made and the loader script runs the service's main
 * chunk. Messages that arrive meanwhile wait in the mailbox.
 *
 * The container owns the VM and its memory accounting (snlua_memory.c), brackets
 * each message so that it can be interrupted (snlua_interrupt.c), and measures
 * coroutines (snlua_profile.c).
 */
#include "snlua.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "lshare.h"
#include "skynet_context.h"
#include "skynet_env.h"
#include "skynet_handle.h"
#include "skynet_server.h"
#include "skynet_start.h"

#define KIBIBYTE 1024.0

/* Twice the memory of a VM that does nothing. */
#define SMALL_VM ((size_t)32 * 1024)

/* The launcher hears at most this much of why a service failed to start. */
#define REASON_SIZE 512

/* The log service is launched first, the bootstrap service second, all others later. */
#define BOOTSTRAP_INDEX 2

/* A node whose bootstrap service cannot start ends with this status. */
#define STATUS_BOOTSTRAP_FAILED 1

/* All states hash strings alike, so that they can share them. Set once. */
static unsigned process_seed;

static const char *
optional_env(const char *key, const char *fallback) {
	const char *value = skynet_getenv(key);
	return value != NULL ? value : fallback;
}

/* -------------------------------------------------------------------- failure */

static int
traceback(lua_State *L) {
	const char *msg = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "(no error message)";
	luaL_traceback(L, L, msg, 1);
	return 1;
}

static int
start_failed(struct lua_container *c) {
	if (!snlua_of(c)->is_bootstrap) {
		return 0;
	}
	skynet_error(c->ctx, "error: the bootstrap service failed, the node ends");
	skynet_start_abort(STATUS_BOOTSTRAP_FAILED);
	return 1;
}

/*
 * Log why the service cannot live, and tell the launcher the first line of it,
 * which is for whoever asked for the service.
 */
static void
give_reason(struct skynet_context *ctx, const char *format, const char *text) {
	char reason[REASON_SIZE];
	skynet_error(ctx, format, text);
	if (skynet_queryname(ctx, ".launcher") != 0) {
		snprintf(reason, sizeof reason, "REASON %.*s", (int)strcspn(text, "\n"), text);
		skynet_sendname(ctx, 0, ".launcher", PTYPE_TEXT, 0, reason, strlen(reason));
	}
}

/* Tell whoever asked for this service, and go. */
static void
report_failure(struct snlua *l) {
	struct skynet_context *ctx = l->base.ctx;
	if (skynet_queryname(ctx, ".launcher") != 0) {
		skynet_sendname(ctx, 0, ".launcher", PTYPE_TEXT, 0, (void *)(uintptr_t) "ERROR", 5);
	}
	start_failed(&l->base);
	skynet_command(ctx, "EXIT", NULL);
}

/* ---------------------------------------------------------------- preparation */

static void
set_global(lua_State *L, const char *name, const char *value) {
	if (value != NULL) {
		lua_pushstring(L, value);
		lua_setglobal(L, name);
	}
}

static void
set_registry(struct snlua *l, lua_State *L) {
	lua_pushlightuserdata(L, l->base.ctx);
	lua_setfield(L, LUA_REGISTRYINDEX, LUA_CONTEXT_FIELD);
	lua_pushlightuserdata(L, l);
	lua_setfield(L, LUA_REGISTRYINDEX, LUA_CONTAINER_FIELD);
}

/* Everything up to the call of the loader. Raises when there is no memory. */
static void
prepare(struct snlua *l, lua_State *L) {
	set_registry(l, L);
	snlua_open_libs(L);
	set_global(L, "LUA_PATH", optional_env("lua_path", "./lualib/?.lua;./lualib/?/init.lua"));
	set_global(L, "LUA_CPATH", optional_env("lua_cpath", "./luaclib/?.so"));
	set_global(L, "LUA_SERVICE", optional_env("luaservice", "./service/?.lua"));
	set_global(L, "LUA_PRELOAD", skynet_getenv("preload"));
}

/* Registry field "memlimit", the old way for a script to ask for a limit. */
static void
take_memlimit(struct snlua *l, lua_State *L) {
	if (lua_getfield(L, LUA_REGISTRYINDEX, "memlimit") == LUA_TNUMBER) {
		lua_Number bytes = lua_tonumber(L, -1);
		lua_pushnil(L);
		lua_setfield(L, LUA_REGISTRYINDEX, "memlimit");
		if (bytes > 0 && bytes < 0x1p62) { /* infinity is no limit */
			snlua_limit_memory(&l->base, (size_t)bytes);
		}
	}
	lua_pop(L, 1);
}

/*
 * Protected body of the launch. Argument: the container. Returns nothing, or
 * what to log when the loader file itself cannot be used. An error raised here
 * is an error of the loader or of the service's main chunk.
 */
static int
launch_protected(lua_State *L) {
	struct snlua *l = lua_touserdata(L, 1);
	prepare(l, L);
	const char *loader = optional_env("lualoader", "./lualib/loader.lua");
	if (luaL_loadfile(L, loader) != LUA_OK) {
		lua_pushfstring(L, "Can't load %s : %s", loader, lua_tostring(L, -1));
		return 1;
	}
	lua_pushstring(L, l->args);
	lua_call(L, 1, 0);
	take_memlimit(l, L);
	return 0;
}

/* Whether the main chunk left something that handles messages, or is gone. */
static bool
is_in_service(struct snlua *l) {
	struct skynet_context *ctx = l->base.ctx;
	return ctx->cb != NULL || mailbox_is_shut(&ctx->mailbox);
}

/* Make the VM; false when there is no memory. */
static bool
make_state(struct snlua *l) {
	lua_State *L = lua_newstate(snlua_alloc, l, process_seed);
	if (L == NULL) {
		return false;
	}
	l->L = L;
	snlua_quota_init(l);
	/* Every thread starts with a copy; the libraries take NULL for "not ours". */
	*(void **)lua_getextraspace(L) = NULL;
	/* Nothing of what start-up makes is garbage soon: no collection before it
	   is complete. */
	lua_gc(L, LUA_GCSTOP);
	if (!snlua_lay_libs(L)) {
		return false;
	}
	lua_gcsettle(L);
	snlua_take_warnings(l);
	return true;
}

/*
 * Start collecting. What the service is made of now will mostly stay, so all of it
 * becomes old, and the next collections need not look at it, unless the script chose
 * another mode. Of a small VM not even this one does; in a bigger one there may be
 * garbage worth the time.
 */
static void
start_collector(struct snlua *l) {
	lua_State *L = l->L;
	if (lua_isgenerational(L)) {
		if (snlua_memory_used(&l->base) > SMALL_VM) {
			lua_gc(L, LUA_GCINC);
			lua_gc(L, LUA_GCGEN);
		} else {
			lua_gcsettle(L);
		}
	}
	lua_gc(L, LUA_GCRESTART);
}

/* Run the loader. Returns false after logging why the service cannot live. */
static bool
launch(struct snlua *l) {
	struct skynet_context *ctx = l->base.ctx;
	lua_State *L = l->L;
	lua_pushcfunction(L, traceback);
	lua_pushcfunction(L, launch_protected);
	lua_pushlightuserdata(L, l);
	if (lua_pcall(L, 1, 1, 1) != LUA_OK) {
		give_reason(ctx, "lua loader error : %s", lua_tostring(L, -1));
		return false;
	}
	if (!lua_isnil(L, -1)) {
		give_reason(ctx, "%s", lua_tostring(L, -1));
		return false;
	}
	if (!is_in_service(l)) {
		char text[REASON_SIZE];
		snprintf(text, sizeof text, "%s did not call skynet.start", l->args);
		give_reason(ctx, "lua loader error : %s", text);
		return false;
	}
	lua_settop(L, 0);
	start_collector(l);
	snlua_measure_code(l);
	return true;
}

/* The first message: the service was just launched. */
static int
on_launch(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
          const void *msg, size_t sz) {
	struct snlua *l = ud;
	(void)type;
	(void)session;
	(void)msg;
	(void)sz;
	if (source != skynet_context_handle(ctx)) {
		return 0; /* somebody guessed the address of a service that is not up */
	}
	skynet_callback(ctx, NULL, NULL);
	bool ok = false;
	if (make_state(l)) {
		struct snlua *outer = snlua_turn_begin(l, l->L);
		ok = launch(l);
		snlua_turn_end(l, outer);
	} else {
		skynet_error(ctx, "error: no memory for a Lua state");
	}
	if (!ok) {
		skynet_callback(ctx, NULL, NULL);
		report_failure(l);
	}
	return 0;
}

/* ------------------------------------------------------------------- messages */

static int
deliver(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
        const void *msg, size_t sz) {
	struct snlua *l = ud;
	struct snlua *outer = snlua_turn_begin(l, l->cb_thread);
	int taken = l->cb(ctx, l->cb_ud, type, session, source, msg, sz);
	snlua_turn_end(l, outer);
	if (!l->is_listed) {
		snlua_quiet_note(l);
	}
	return taken;
}

static void
install_callback(struct lua_container *c, lua_State *L, void *ud, skynet_cb cb) {
	struct snlua *l = snlua_of(c);
	l->cb_thread = L;
	l->cb_ud = ud;
	l->cb = cb;
	skynet_callback(c->ctx, l, deliver);
}

/* ----------------------------------------------------------- module functions */

static void
init_process(void) {
	snlua_charge_shared();
	luaL_initcodecache();
	process_seed = luaL_makeseed(NULL);
	snlua_interrupt_init();
	snlua_init_libs();
}

struct snlua *snlua_create(void);
int snlua_init(struct snlua *l, struct skynet_context *ctx, const char *args);
void snlua_release(struct snlua *l);
void snlua_signal(struct snlua *l, int signal);
void snlua_stuck(struct snlua *l);

struct snlua *
snlua_create(void) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, init_process);
	struct snlua *l = skynet_memalign(_Alignof(struct snlua), sizeof *l);
	memset(l, 0, sizeof *l);
	snlua_memory_init(l);
	return l;
}

/* Whether the service is the bootstrap one, and no later one that has its index. */
static bool
is_bootstrap(struct skynet_context *ctx) {
	static atomic_bool is_over;
	uint32_t index = skynet_context_handle(ctx) & HANDLE_MASK;
	/* Relaxed: the first launches follow each other on one thread. */
	return index >= BOOTSTRAP_INDEX &&
	       !atomic_exchange_explicit(&is_over, true, memory_order_relaxed) &&
	       index == BOOTSTRAP_INDEX;
}

static const struct lua_container_ops ops = {
    .callback = install_callback,
    .resume_measured = snlua_resume_measured,
    .forget_measured = snlua_forget_measured,
    .limit_memory = snlua_limit_memory,
    .set_quota = snlua_set_quota,
    .get_quota = snlua_get_quota,
    .sample = snlua_sample,
    .list_sites = snlua_list_sites,
    .memory = snlua_memory_used,
    .start_failed = start_failed,
};

int
snlua_init(struct snlua *l, struct skynet_context *ctx, const char *args) {
	l->base.ctx = ctx;
	l->is_bootstrap = is_bootstrap(ctx);
	l->base.ops = &ops;
	size_t sz = args != NULL ? strlen(args) : 0;
	l->args = skynet_malloc(sz + 1);
	memcpy(l->args, args != NULL ? args : "", sz + 1);
	skynet_callback(ctx, l, on_launch);
	uint32_t self = skynet_context_handle(ctx);
	return skynet_send(ctx, 0, self, PTYPE_TEXT, 0, l->args, sz) < 0;
}

void
snlua_release(struct snlua *l) {
	if (l->L != NULL) {
		/* Nothing fails for want of memory now: finalizers have one go only. */
		snlua_lift_limits(l);
		lua_close(l->L);
	}
	snlua_forget_sites(l);
	snlua_forget_warnings(l);
	while (l->base.endings != NULL) {
		struct lua_container_ending *e = l->base.endings;
		l->base.endings = e->next;
		e->run(e);
	}
	skynet_free(l->args);
	skynet_free(l);
}

void
snlua_signal(struct snlua *l, int signal) {
	skynet_error(l->base.ctx, "recv a signal %d", signal);
	switch (signal) {
	case SNLUA_SIGNAL_INTERRUPT:
		snlua_interrupt(l, INTERRUPT_RAISE);
		break;
	case SNLUA_SIGNAL_MEMORY:
		skynet_error(l->base.ctx, "Current Memory %.3fK",
		             (double)snlua_memory_used(&l->base) / KIBIBYTE);
		break;
	default:
		break;
	}
}

/* The monitor thread suspects an endless loop: have the VM log where it is. */
void
snlua_stuck(struct snlua *l) {
	snlua_interrupt(l, INTERRUPT_TRACEBACK);
}
