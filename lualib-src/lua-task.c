/*
 * lua-task: module `skynet.task`, the scheduler of one Lua service: set-up,
 * and what a message of each type does.
 *
 * The module table is the `skynet` table itself: lualib/skynet.lua adds what
 * is better said in Lua. The functions are light C functions, which cost a VM
 * nothing but their table slot; they find the scheduler through the extra
 * space of their thread (see lua-task-imp.h).
 *
 * Invariant of the message path: outside of a resumed coroutine nothing here
 * raises a Lua error; what can raise (unpacking, user functions, looking up
 * class fields) runs inside the task.
 */
#include "lua-task.h"
#include "lua-task-imp.h"

#include <string.h>

#include "lua-container.h"
#include "lua-seri.h"
#include "lua-skynet.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

#define SCHED_KEY "skynet_sched"
#define INITIAL_SLOTS 8
/* Scratch values that the dispatcher may push on the main thread. */
#define SCRATCH_STACK 40

struct sched *
sched_of(lua_State *L)
{
	struct task *t = task_of(L);
	if (t != NULL && t->S != NULL) {
		return t->S;
	}
	/* L is older than the scheduler. */
	lua_getfield(L, LUA_REGISTRYINDEX, SCHED_KEY);
	struct sched *S = lua_touserdata(L, -1);
	lua_pop(L, 1);
	if (S == NULL) {
		luaL_error(L, "module skynet.task is not loaded");
	}
	return S;
}

int
sched_push_hook(lua_State *L, struct sched *S, const char *name)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_hooks);
	int type = lua_getfield(L, -1, name);
	lua_remove(L, -2);
	return type;
}

void
sched_push_class(lua_State *L, struct sched *S, int arg)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	lua_pushvalue(L, arg);
	if (lua_rawget(L, -2) != LUA_TTABLE) {
		luaL_error(L, "unknown protocol type: %s", luaL_tolstring(L, arg, NULL));
	}
	lua_remove(L, -2);
}

/* ------------------------------------------------------------- requests */

static int
request_done(lua_State *L, int status, lua_KContext ctx)
{
	(void)L;
	(void)status;
	(void)ctx;
	return 0;
}

/* The class's own unpack has returned: its results follow the four below. */
static int
request_unpacked(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx;
	lua_callk(L, lua_gettop(L) - 3, 0, 0, request_done);
	return 0;
}

static const char *
type_name(lua_State *L, int cls)
{
	if (lua_istable(L, cls)) {
		lua_getfield(L, cls, "name");
		return luaL_tolstring(L, -1, NULL);
	}
	return NULL;
}

/* Nobody handles this message: an error for a request, a log line otherwise. */
static int
unhandled(lua_State *L, struct sched *S, struct task *t, const struct inbound *in, int cls)
{
	const char *name = type_name(L, cls);
	if (in->type == PTYPE_ERROR) {
		return 0;
	}
	if (in->session != 0) {
		lua_pushfstring(L, "no handler of message type %s", name ? name :
			lua_pushfstring(L, "%d", in->type));
		task_fail_debt(S, t, lua_tostring(L, -1));
		return 0;
	}
	t->debt = false;
	sched_push_hook(L, S, "unknown_request");
	lua_pushinteger(L, in->session);
	lua_pushinteger(L, in->source);
	lua_pushlightuserdata(L, (void *)in->msg);
	lua_pushinteger(L, (lua_Integer)in->sz);
	if (name != NULL) {
		lua_pushstring(L, name);
	} else {
		lua_pushinteger(L, in->type);
	}
	lua_callk(L, 5, 0, 0, request_done);
	return 0;
}

static void
begin_debt(struct task *t, const struct inbound *in)
{
	t->debt = in->type != PTYPE_ERROR;
	t->type = (uint8_t)in->type;
	t->has_source = true;
	t->debt_session = in->session;
	t->debt_source = in->source;
}

/* Is it the kernel's notice that the node goes down? */
static bool
is_shutdown(const struct inbound *in)
{
	static const char text[] = "shutdown";
	return in->type == PTYPE_SYSTEM && in->source == 0 && in->session == 0
		&& in->sz == sizeof(text) - 1 && memcmp(in->msg, text, in->sz) == 0;
}

/*
 * Body of a task that a message starts. Stack: 1 protocol tables, 2 class,
 * 3 dispatch, 4 session, 5 source, then the unpacked values.
 */
static int
request_body(lua_State *L)
{
	struct task *t = task_of(L);
	struct sched *S = t->S;
	const struct inbound in = S->in;
	begin_debt(t, &in);
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	bool known = lua_rawgeti(L, 1, in.type) == LUA_TTABLE;
	if (!known && is_shutdown(&in)) {
		t->debt = false;
		sched_push_hook(L, S, "shutdown");
		lua_callk(L, 0, 0, 0, request_done);
		return 0;
	}
	bool handled = known && lua_getfield(L, 2, "dispatch") != LUA_TNIL;
	if (known) {
		trace_adopt(L, S, t, 2, handled);
	}
	if (!handled) {
		return unhandled(L, S, t, &in, 2);
	}
	lua_pushinteger(L, in.session);
	lua_pushinteger(L, in.source);
	lua_getfield(L, 2, "unpack");
	if (lua_tocfunction(L, -1) == luaseri_unpack) {
		lua_pop(L, 1);
		int n = luaseri_unpack_buffer(L, in.msg, in.sz);
		lua_callk(L, n + 2, 0, 0, request_done);
		return 0;
	}
	lua_pushlightuserdata(L, (void *)in.msg);
	lua_pushinteger(L, (lua_Integer)in.sz);
	lua_callk(L, 2, LUA_MULTRET, 0, request_unpacked);
	return request_unpacked(L, LUA_OK, 0);
}

static void
start_request(struct sched *S, lua_State *L, const struct inbound *in)
{
	struct task *t = task_new(S, L);
	if (t == NULL) {
		if (in->session != 0) {
			sched_send_error(S, in->source, in->session, "not enough memory");
		}
		return;
	}
	lua_pushcfunction(t->L, request_body);
	task_run(S, t, 0);
}

/* -------------------------------------------------------------- answers */

/* Start a task for the value that ref keeps; ref stays. nargs follow later. */
static struct task *
start_value(struct sched *S, lua_State *L, int ref)
{
	struct task *t = task_new(S, L);
	if (t != NULL) {
		value_push(t->L, S, ref);
	}
	return t;
}

static void
on_timer(struct sched *S, lua_State *L, int ref)
{
	struct task *t = start_value(S, L, ref);
	value_drop(L, S, ref);
	if (t != NULL) {
		task_run(S, t, 0);
	}
}

/* handler(session, ok, ptr, size) for an answer to one of a set of requests. */
static void
on_set(struct sched *S, lua_State *L, int ref, int session, bool ok, const struct inbound *in)
{
	struct task *t = start_value(S, L, ref);
	if (t == NULL) {
		return;
	}
	lua_pushinteger(t->L, session);
	lua_pushboolean(t->L, ok);
	lua_pushlightuserdata(t->L, (void *)in->msg);
	lua_pushinteger(t->L, (lua_Integer)in->sz);
	task_run(S, t, 4);
}

static void
on_deadline(struct sched *S, struct task *t)
{
	static const char cause[] = "";
	t->deadline = 0;
	pending_void(S, t->session, PENDING_ANSWER, t->watch);
	t->timed_out = true;
	task_fail_call(S, t, cause, 0);
}

static void
on_unknown(struct sched *S, lua_State *L, const struct inbound *in)
{
	struct task *t = task_new(S, L);
	if (t == NULL) {
		return;
	}
	/* The hook table and the key exist: neither line can raise. */
	sched_push_hook(t->L, S, "unknown_response");
	lua_pushinteger(t->L, in->session);
	lua_pushinteger(t->L, in->source);
	lua_pushlightuserdata(t->L, (void *)in->msg);
	lua_pushinteger(t->L, (lua_Integer)in->sz);
	task_run(S, t, 4);
}

/* The wait of t is over by a message; the queue may hold it as woken. */
static void
continue_task(struct sched *S, struct task *t)
{
	if (t->queued) {
		task_queue_remove(&S->wake, t);
		t->woken = false;
	}
	t->session = 0;
	task_run(S, t, 0);
}

static void
on_response(struct sched *S, lua_State *L, const struct inbound *in)
{
	struct pending e;
	if (!pending_take(S, in->session, &e)) {
		on_unknown(S, L, in);
		return;
	}
	switch (pending_kind(&e)) {
	case PENDING_TASK:
		if (pending_task(&e)->state == TASK_READY) {
			/* A timer whose coroutine was made in advance. */
			pending_task(&e)->session = 0;
			task_run(S, pending_task(&e), 0);
		} else {
			continue_task(S, pending_task(&e));
		}
		break;
	case PENDING_TIMER:
		on_timer(S, L, pending_ref(&e));
		break;
	case PENDING_SET:
		on_set(S, L, pending_ref(&e), e.session, true, in);
		break;
	case PENDING_DEADLINE:
		on_deadline(S, pending_task(&e));
		break;
	case PENDING_KICK:
		S->kicked = false;
		break;
	case PENDING_TICK:
	case PENDING_ANSWER:
		break;
	}
}

/* -------------------------------------------------------------- failures */

static bool
error_concerns(const struct sched *S, uint32_t watched, const struct inbound *in)
{
	if (watched == 0 || watched == in->source) {
		return true;
	}
	/* A remote answerer is announced by whoever noticed: not by itself. */
	if (skynet_isremote(S->ctx, watched, NULL)) {
		return true;
	}
	/*
	 * Another service answers when the request was passed on (redirect).
	 * A runtime that held the request names a cause; the kernel's notice
	 * about a dropped message is empty and must come from the callee.
	 */
	return in->sz > 0;
}

/* One request failed. */
static void
on_request_error(struct sched *S, lua_State *L, const struct inbound *in)
{
	struct pending *e = pending_find(S, in->session);
	if (e == NULL) {
		return;
	}
	struct pending taken;
	switch (pending_kind(e)) {
	case PENDING_TASK: {
		struct task *t = pending_task(e);
		if (t->state == TASK_CALLING && error_concerns(S, t->watch, in)) {
			pending_take(S, in->session, &taken);
			task_fail_call(S, t, in->msg, in->sz);
		}
		break;
	}
	case PENDING_SET:
		if (error_concerns(S, e->aux, in)) {
			pending_take(S, in->session, &taken);
			on_set(S, L, pending_ref(&taken), taken.session, false, in);
		}
		break;
	case PENDING_ANSWER:
		pending_take(S, in->session, &taken);
		break;
	default:
		break;
	}
}

/* Every session of a set whose request went to handle, at most n of them. */
static int
sets_of(struct sched *S, uint32_t handle, int *session, int n)
{
	int found = 0;
	for (uint32_t i = 0; i < S->pending.size && found < n; i++) {
		const struct pending *e = &S->pending.slot[i];
		if (e->session != 0 && pending_kind(e) == PENDING_SET && e->aux == handle) {
			session[found++] = e->session;
		}
	}
	return found;
}

static void
fail_sets(struct sched *S, lua_State *L, uint32_t handle)
{
	const struct inbound none = { .source = handle };
	int session[16];
	int n;
	while ((n = sets_of(S, handle, session, 16)) > 0) {
		for (int i = 0; i < n; i++) {
			struct pending e;
			if (pending_take(S, session[i], &e)) {
				on_set(S, L, pending_ref(&e), e.session, false, &none);
			}
		}
	}
}

void
sched_source_dead(struct sched *S, lua_State *L, uint32_t handle)
{
	for (struct response *r = S->responses.next; r != &S->responses; r = r->next) {
		if (r->source == handle) {
			r->gone = true;
		}
	}
	for (int i = 1; i < S->all_cap; i++) {
		struct task *t = S->all[i];
		if (t != NULL && t->state == TASK_CALLING && !t->queued && t->watch == handle) {
			pending_void(S, t->session, PENDING_ANSWER, handle);
			task_fail_call(S, t, NULL, 0);
		}
	}
	fail_sets(S, L, handle);
}

/* Default dispatch of class `error`: (session, source, ptr, size). */
static int
on_error(lua_State *L)
{
	struct sched *S = sched_of(L);
	struct inbound in = {
		.type = PTYPE_ERROR,
		.session = (int)luaL_checkinteger(L, 1),
		.source = (uint32_t)luaL_checkinteger(L, 2),
		.msg = lua_touserdata(L, 3),
		.sz = (size_t)luaL_optinteger(L, 4, 0),
	};
	if (in.session == 0) {
		sched_source_dead(S, L, in.source);
	} else {
		on_request_error(S, L, &in);
	}
	return 0;
}

/* -------------------------------------------------------------- dispatch */

static bool
is_trace(struct sched *S, lua_State *L, int type)
{
	if (type != TYPE_TRACE) {
		return false;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	bool known = lua_rawgeti(L, -1, TYPE_TRACE) == LUA_TTABLE;
	lua_pop(L, 2);
	return !known;
}

void
sched_deliver(struct sched *S, lua_State *from, const struct inbound *in)
{
	const struct inbound outer = S->in;
	lua_State *outer_from = S->from;
	S->in = *in;
	S->from = from;
	if (in->type == PTYPE_RESPONSE) {
		on_response(S, from, in);
	} else if (is_trace(S, from, in->type)) {
		trace_incoming(S, from, in);
	} else {
		start_request(S, from, in);
	}
	sched_pump(S);
	sched_run_forks(S);
	S->in = outer;
	S->from = outer_from;
}

void
sched_set_callback(struct sched *S, skynet_cb cb)
{
	if (S->container != NULL) {
		S->container->callback(S->container, S->main.L, S, cb);
	} else {
		skynet_callback(S->ctx, S, cb);
	}
}

static int
on_message(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
	const void *msg, size_t sz)
{
	struct sched *S = ud;
	const struct inbound in = { type, session, source, msg, sz };
	(void)ctx;
	sched_deliver(S, S->main.L, &in);
	if (S->failure != NULL) {
		sched_report(S, &in);
	}
	return 0;
}

/* Lua: dispatch_message(type, ptr, size, session, source). */
static int
dispatch_message(lua_State *L)
{
	struct sched *S = sched_of(L);
	const struct inbound in = {
		.type = (int)luaL_checkinteger(L, 1),
		.msg = lua_touserdata(L, 2),
		.sz = (size_t)luaL_optinteger(L, 3, 0),
		.session = (int)luaL_checkinteger(L, 4),
		.source = (uint32_t)luaL_checkinteger(L, 5),
	};
	luaL_checkstack(L, SCRATCH_STACK, NULL);
	sched_deliver(S, L, &in);
	if (S->failure != NULL) {
		/* The string is made first: the C copy must not be lost. */
		lua_pushlstring(L, S->failure, S->failure_n);
		skynet_free(S->failure);
		S->failure = NULL;
		S->failure_n = S->failure_cap = 0;
		return lua_error(L);
	}
	return 0;
}

/*
 * Lua: begin(init). Install the dispatcher and start init in a task, by a
 * timer that fires behind everything queued so far.
 */
static int
begin(lua_State *L)
{
	struct sched *S = sched_of(L);
	luaL_checktype(L, 1, LUA_TFUNCTION);
	if (S->started) {
		return luaL_error(L, "skynet.start was called before in this service");
	}
	struct task *t = task_new(S, L);
	if (t == NULL) {
		return luaL_error(L, "not enough memory");
	}
	S->started = true;
	if (!lua_toboolean(L, 2)) {
		sched_set_callback(S, on_message);
		S->init_slot = t->slot;
	}
	lua_settop(L, 1);
	lua_xmove(L, t->L, 1);
	t->session = sched_new_session(S);
	pending_add(S, t->session, PENDING_TASK, (uintptr_t)t, 0);
	sched_arm(S, t->session, 0);
	return 0;
}

/* ----------------------------------------------------------------- open */

static int
sched_gc(lua_State *L)
{
	struct sched *S = lua_touserdata(L, 1);
	task_bind(S->main.L, NULL);
	sched_bounce_debts(S);
	pending_free(S);
	sched_free_tasks(S);
	skynet_free(S->failure);
	S->failure = NULL;
	return 0;
}

static void
set_gc(lua_State *L, lua_CFunction f)
{
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, f);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
}

/* A dead sentinel: a collection has run. Trim, and lay the next one out. */
static int
sentinel_gc(lua_State *L)
{
	struct sched *S = *(struct sched **)lua_touserdata(L, 1);
	if (task_of(S->main.L) == NULL) {
		return 0;
	}
	sched_trim(S);
	struct sched **next = lua_newuserdatauv(L, sizeof(*next), 0);
	*next = S;
	lua_getmetatable(L, 1);
	lua_setmetatable(L, -2);
	return 0;
}

static int
new_ref(lua_State *L)
{
	lua_newtable(L);
	return luaL_ref(L, LUA_REGISTRYINDEX);
}

static lua_State *
main_thread(lua_State *L)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
	lua_State *M = lua_tothread(L, -1);
	lua_pop(L, 1);
	return M;
}

static struct sched *
new_sched(lua_State *L)
{
	struct skynet_context *ctx = lua_skynet_context(L);
	struct sched *S = lua_newuserdatauv(L, sizeof(*S), 0);
	memset(S, 0, sizeof(*S));
	S->ctx = ctx;
	S->handle = skynet_context_handle(ctx);
	S->container = lua_container(L);
	S->main.S = S->orphan.S = S;
	S->main.L = S->main.top = S->from = main_thread(L);
	S->responses.prev = S->responses.next = &S->responses;
	S->slot_free = 1;
	S->all_cap = INITIAL_SLOTS;
	S->all = skynet_calloc(INITIAL_SLOTS, sizeof(*S->all));
	pending_init(S);
	set_gc(L, sched_gc);
	lua_setfield(L, LUA_REGISTRYINDEX, SCHED_KEY);
	luaL_checkstack(S->main.L, SCRATCH_STACK, NULL);
	S->ref_threads = new_ref(L);
	S->ref_values = new_ref(L);
	S->ref_proto = new_ref(L);
	S->ref_tokens = new_ref(L);
	S->ref_hooks = new_ref(L);
	task_bind(S->main.L, &S->main);
	if (L != S->main.L) {
		task_bind(L, &S->main);
	}
	return S;
}

static void
lay_sentinel(lua_State *L, struct sched *S)
{
	struct sched **sentinel = lua_newuserdatauv(L, sizeof(*sentinel), 0);
	*sentinel = S;
	set_gc(L, sentinel_gc);
	lua_pop(L, 1);
}

static const luaL_Reg functions[] = {
	{ "dispatch_message", dispatch_message },
	{ "_begin", begin },
	{ "_on_error", on_error },
	{ NULL, NULL },
};

static void
add_constants(lua_State *L)
{
	static const struct { const char *name; int value; } type[] = {
		{ "PTYPE_TEXT", PTYPE_TEXT }, { "PTYPE_RESPONSE", PTYPE_RESPONSE },
		{ "PTYPE_MULTICAST", PTYPE_MULTICAST }, { "PTYPE_CLIENT", PTYPE_CLIENT },
		{ "PTYPE_SYSTEM", PTYPE_SYSTEM }, { "PTYPE_HARBOR", PTYPE_HARBOR },
		{ "PTYPE_SOCKET", PTYPE_SOCKET }, { "PTYPE_ERROR", PTYPE_ERROR },
		{ "PTYPE_QUEUE", PTYPE_RESERVED_QUEUE }, { "PTYPE_DEBUG", PTYPE_RESERVED_DEBUG },
		{ "PTYPE_LUA", PTYPE_RESERVED_LUA }, { "PTYPE_SNAX", PTYPE_RESERVED_SNAX },
		{ "PTYPE_TRACE", TYPE_TRACE },
	};
	for (size_t i = 0; i < sizeof(type) / sizeof(type[0]); i++) {
		lua_pushinteger(L, type[i].value);
		lua_setfield(L, -2, type[i].name);
	}
}

int
luaopen_skynet_task(lua_State *L)
{
	luaL_checkversion(L);
	lua_getfield(L, LUA_REGISTRYINDEX, SCHED_KEY);
	if (!lua_isnil(L, -1)) {
		return luaL_error(L, "module skynet.task is loaded already");
	}
	struct sched *S = new_sched(L);
	lay_sentinel(L, S);
	/* skynet.lua adds about as many entries as are here. */
	lua_createtable(L, 0, 128);
	luaL_setfuncs(L, functions, 0);
	luaL_setfuncs(L, task_wait_functions, 0);
	luaL_setfuncs(L, task_call_functions, 0);
	luaL_setfuncs(L, task_reply_functions, 0);
	luaL_setfuncs(L, task_fail_functions, 0);
	luaL_setfuncs(L, task_trace_functions, 0);
	luaL_setfuncs(L, task_info_functions, 0);
	add_constants(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	lua_setfield(L, -2, "_proto");
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_hooks);
	lua_setfield(L, -2, "_hooks");
	return 1;
}
