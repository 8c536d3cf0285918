/*
 * lua-task: what a message does, by its type.
 *
 * Invariant of the message path: outside of a resumed coroutine nothing here
 * raises a Lua error; what can raise (unpacking, user functions, looking up
 * class fields) runs inside the task.
 */
#include "lua-task-imp.h"

#include <string.h>

#include "lshare.h"
#include "lua-nomem.h"
#include "lua-seri.h"
#include "skynet_context.h"
#include "skynet_malloc.h"
#include "skynet_socket.h"

/* --------------------------------------------------------------- places */

/* The places change with time: they are noted every so many messages. */
#define PLACES_AGE 100
/* What the container has for each message is in the first bytes of it. */
#define CONTAINER_HOT 128

void
sched_note_places(struct sched *S, struct task *t, int class, int function) {
	struct context_place place[CONTEXT_PLACES] = {
	    {S->container, CONTAINER_HOT},
	    {S, offsetof(struct sched, ref_hooks)},
	    {t, offsetof(struct task, nest)},
	};
	size_t n = 3;
	struct lua_Place own[CONTEXT_PLACES];
	int owns = lua_places(t->L, class, function, own, CONTEXT_PLACES - (int)n);
	for (int i = 0; i < owns; i++) {
		place[n++] = (struct context_place){own[i].at, own[i].size};
	}
	S->places_age = PLACES_AGE;
	context_note_places(S->ctx, place, n);
}

/* ------------------------------------------------------------- requests */

static int
request_done(lua_State *L, int status, lua_KContext ctx) {
	(void)L;
	(void)status;
	(void)ctx;
	return 0;
}

/* The class's own unpack has returned: its results follow the four below. */
static int
request_unpacked(lua_State *L, int status, lua_KContext ctx) {
	(void)status;
	(void)ctx;
	lua_callk(L, lua_gettop(L) - 2, 0, 0, request_done);
	return 0;
}

static const char *
type_name(lua_State *L, int cls) {
	if (lua_istable(L, cls)) {
		lua_getfield(L, cls, "name");
		return luaL_tolstring(L, -1, NULL);
	}
	return NULL;
}

/* Nobody handles this message: an error for a request, a log line otherwise. */
static int
unhandled(lua_State *L, struct sched *S, struct task *t, const struct inbound *in, int cls) {
	const char *name = type_name(L, cls);
	if (in->type == PTYPE_ERROR) {
		return 0;
	}
	if (in->session != 0) {
		lua_pushfstring(L, "no handler of message type %s",
		                name ? name : lua_pushfstring(L, "%d", in->type));
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
begin_debt(struct task *t, const struct inbound *in) {
	t->debt = in->type != PTYPE_ERROR;
	t->type = (uint8_t)in->type;
	t->has_source = true;
	t->debt_session = in->session;
	t->debt_source = in->source;
}

/* Is it the kernel's notice that the node goes down? */
static bool
is_shutdown(const struct inbound *in) {
	static const char text[] = "shutdown";
	return in->type == PTYPE_SYSTEM && in->source == 0 && in->session == 0 &&
	       in->sz == sizeof(text) - 1 && memcmp(in->msg, text, in->sz) == 0;
}

void
class_name_fields(lua_State *L, struct sched *S) {
	static const char *const name[CLASS_FIELDS] = {"dispatch", "trace", "unpack"};
	for (int i = 0; i < CLASS_FIELDS; i++) {
		lua_pushstring(L, name[i]);
		S->name[i] = lua_topointer(L, -1);
		luaL_ref(L, LUA_REGISTRYINDEX);
	}
}

/*
 * Body of a task that a message starts. Stack: 1 class, if it is known, 2 dispatch,
 * 3 session, 4 source, then the unpacked values.
 */
static int
request_body(lua_State *L) {
	struct task *t = task_of(L);
	struct sched *S = t->S;
	const struct inbound in = S->in;
	bool known = lua_gettop(L) > 0 || class_push_builtin(L, S, in.type);
	if (!known && is_shutdown(&in)) {
		t->debt = false;
		sched_push_hook(L, S, "shutdown");
		lua_callk(L, 0, 0, 0, request_done);
		return 0;
	}
	if (!known) {
		return unhandled(L, S, t, &in, 1);
	}
	if (lua_getnamed(L, 1, S->name[CLASS_DISPATCH]) == LUA_TNIL) {
		trace_refuse(L, S);
		return unhandled(L, S, t, &in, 1);
	}
	lua_getnamed(L, 1, S->name[CLASS_TRACE]);
	trace_adopt(L, S, t);
	sched_age_places(S, t, 1, 2);
	lua_pushinteger(L, in.session);
	lua_pushinteger(L, in.source);
	lua_getnamed(L, 1, S->name[CLASS_UNPACK]);
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

/*
 * Put the class of a message type at the bottom of t's stack, which has nothing else
 * on it. It stays there while the coroutine serves messages of that type: with many
 * services, each table on the way to it is a line that no cache has. False: there is
 * no such class, or it is made when it is first asked for.
 */
static bool
keep_class(struct sched *S, struct task *t, int type) {
	lua_State *L = t->L;
	if (t->kept_class == type + 1) {
		return true;
	}
	lua_settop(L, 0);
	t->kept_class = 0;
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	if (lua_rawgeti(L, 1, type) != LUA_TTABLE) {
		lua_settop(L, 0);
		return false;
	}
	lua_remove(L, 1);
	t->kept_class = (uint16_t)(type + 1);
	return true;
}

static void on_error(struct sched *S, lua_State *L, const struct inbound *in);

static void
tell_lost(struct sched *S, const struct inbound *in) {
	for (int i = 0; i < LOST_TYPES; i++) {
		if (S->lost[i].f != NULL && S->lost[i].type == in->type) {
			S->lost[i].f(S, S->ctx, (void *)(uintptr_t)in->msg, in->sz);
			return;
		}
	}
}

/* Shall it come again, see class_repeat? Whoever has a session gets an error instead. */
static bool
is_repeated(const struct sched *S, const struct inbound *in) {
	return in->session == 0 && in->type < REPEATED_TYPES && (S->again_types >> in->type & 1) != 0;
}

/* There was no memory for what a message asks for. */
static void
on_starved(struct sched *S, const struct inbound *in) {
	if (in->type == PTYPE_ERROR) {
		on_error(S, S->L, in);
	} else if (is_shutdown(in) || is_repeated(S, in)) {
		sched_deliver_again(S, in);
	} else {
		tell_lost(S, in);
	}
}

static void
start_request(struct sched *S, lua_State *L, const struct inbound *in) {
	struct task *t = task_new_kept(S, L);
	if (t == NULL) {
		if (in->session != 0 && in->type != PTYPE_ERROR) {
			sched_send_error(S, in->source, in->session, NO_MEMORY);
		}
		on_starved(S, in);
		return;
	}
	bool is_kept = keep_class(S, t, in->type);
	lua_pushcfunction(t->L, request_body);
	if (is_kept) {
		lua_pushvalue(t->L, 1);
	}
	/* Here, as there may be no memory to enter the body. */
	begin_debt(t, in);
	if (!task_run(S, t, is_kept ? 1 : 0)) {
		on_starved(S, in);
	}
}

/* -------------------------------------------------------------- answers */

/* Start a task for the value that ref keeps; ref stays. nargs follow later. */
static struct task *
start_value(struct sched *S, lua_State *L, int ref) {
	struct task *t = task_new(S, L);
	if (t != NULL) {
		value_push(t->L, S, ref);
	}
	return t;
}

/* Due: it runs, or is tried again a little later. */
static void
on_timer(struct sched *S, lua_State *L, const struct pending *e) {
	struct task *t = start_value(S, L, pending_ref(e));
	if (t == NULL) {
		pending_add(S, e->session, PENDING_TIMER, e->word & ~(uintptr_t)7, 0);
		sched_arm(S, e->session, 1);
		return;
	}
	value_drop(L, S, pending_ref(e));
	task_start(S, t);
}

/* handler(session, ok, ptr, size) for an answer to one of a set of requests. */
static void
on_set(struct sched *S, lua_State *L, const struct pending *e, bool ok, const struct inbound *in) {
	struct inbound later = *in;
	bool has_run = false;
	struct task *t = start_value(S, L, pending_ref(e));
	if (t != NULL) {
		lua_pushinteger(t->L, e->session);
		lua_pushboolean(t->L, ok);
		lua_pushlightuserdata(t->L, (void *)in->msg);
		lua_pushinteger(t->L, (lua_Integer)in->sz);
		has_run = task_run(S, t, 4);
	}
	if (!has_run) {
		/* Its task waits for it. */
		later.type = ok ? PTYPE_RESPONSE : PTYPE_ERROR;
		later.session = e->session;
		pending_add(S, e->session, PENDING_SET, e->word & ~(uintptr_t)7, e->aux);
		sched_deliver_again(S, &later);
	}
}

static void
on_deadline(struct sched *S, struct task *t) {
	static const char cause[] = "";
	t->deadline = 0;
	pending_void(S, t->session, PENDING_ANSWER, t->watch);
	t->timed_out = true;
	task_fail_call(S, t, cause, 0);
}

/* Body of a task for an answer that nobody waits for. */
static int
unknown_response_body(lua_State *L) {
	struct sched *S = task_of(L)->S;
	const struct inbound in = S->in;
	sched_push_hook(L, S, "unknown_response");
	lua_pushinteger(L, in.session);
	lua_pushinteger(L, in.source);
	lua_pushlightuserdata(L, (void *)in.msg);
	lua_pushinteger(L, (lua_Integer)in.sz);
	lua_callk(L, 4, 0, 0, request_done);
	return 0;
}

static void
on_unknown(struct sched *S, lua_State *L) {
	struct task *t = task_new(S, L);
	if (t != NULL) {
		lua_pushcfunction(t->L, unknown_response_body);
		task_run(S, t, 0);
	}
}

/* The wait of t is over by a message; the queue may hold it as woken. */
static void
continue_task(struct sched *S, struct task *t) {
	if (t->queued) {
		task_queue_remove(&S->wake, t);
		t->woken = false;
	}
	t->session = 0;
	sched_age_places(S, t, 0, 0);
	task_run(S, t, 0);
}

static void take_message(struct sched *S, const struct inbound *in);

static void
start_timer_task(struct sched *S, struct task *t) {
	t->session = 0;
	task_start(S, t);
}

void
sched_deliver_again(struct sched *S, const struct inbound *in) {
	size_t sz = in->msg != NULL ? in->sz : 0;
	struct again *a = skynet_malloc(sizeof(*a) + sz);
	*a = (struct again){.in = *in};
	if (in->msg != NULL) {
		memcpy(a + 1, in->msg, sz);
		a->in.msg = a + 1;
	}
	if (S->again == NULL) {
		S->again = a;
	} else {
		S->last_again->next = a;
	}
	S->last_again = a;
	sched_kick(S, 1);
}

void
task_deliver_again(struct sched *S, int type, const void *msg, size_t sz) {
	const struct inbound in = {.type = type, .msg = msg, .sz = sz};
	sched_deliver_again(S, &in);
}

void
sched_forget_again(struct sched *S) {
	while (S->again != NULL) {
		struct again *a = S->again;
		S->again = a->next;
		if (a->in.type == PTYPE_SOCKET) {
			skynet_free(((struct skynet_socket_message *)(a + 1))->buffer);
		}
		skynet_free(a);
	}
}

static void
on_kick(struct sched *S) {
	struct again *a = S->again;
	S->again = NULL;
	S->kicked = false;
	sched_retry_stalled(S);
	while (a != NULL) {
		struct again *next = a->next;
		take_message(S, &a->in);
		skynet_free(a);
		a = next;
	}
}

static void
on_response(struct sched *S, lua_State *L, const struct inbound *in) {
	struct pending e;
	if (!pending_take(S, in->session, &e)) {
		on_unknown(S, L);
		return;
	}
	switch (pending_kind(&e)) {
	case PENDING_TASK:
		if (pending_task(&e)->state == TASK_READY) {
			/* A timer whose coroutine was made in advance. */
			start_timer_task(S, pending_task(&e));
		} else {
			continue_task(S, pending_task(&e));
		}
		break;
	case PENDING_TIMER:
		on_timer(S, L, &e);
		break;
	case PENDING_SET:
		on_set(S, L, &e, true, in);
		break;
	case PENDING_DEADLINE:
		on_deadline(S, pending_task(&e));
		break;
	case PENDING_KICK:
		on_kick(S);
		break;
	case PENDING_TICK:
	case PENDING_ANSWER:
		break;
	}
}

/* -------------------------------------------------------------- failures */

static bool
error_concerns(const struct sched *S, uint32_t watched, const struct inbound *in) {
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
on_request_error(struct sched *S, lua_State *L, const struct inbound *in) {
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
			on_set(S, L, &taken, false, in);
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
sets_of(struct sched *S, uint32_t handle, int *session, int n) {
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
fail_sets(struct sched *S, lua_State *L, uint32_t handle) {
	const struct inbound none = {.source = handle};
	int session[16];
	int n;
	while ((n = sets_of(S, handle, session, 16)) > 0) {
		for (int i = 0; i < n; i++) {
			struct pending e;
			if (pending_take(S, session[i], &e)) {
				on_set(S, L, &e, false, &none);
			}
		}
	}
}

void
sched_source_dead(struct sched *S, lua_State *L, uint32_t handle) {
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

static void
on_error(struct sched *S, lua_State *L, const struct inbound *in) {
	if (in->session == 0) {
		sched_source_dead(S, L, in->source);
	} else {
		on_request_error(S, L, in);
	}
}

/* Default dispatch of class `error`: (session, source, ptr, size). */
int
task_on_error(lua_State *L) {
	struct inbound in = {
	    .type = PTYPE_ERROR,
	    .session = (int)luaL_checkinteger(L, 1),
	    .source = (uint32_t)luaL_checkinteger(L, 2),
	    .msg = lua_touserdata(L, 3),
	    .sz = (size_t)luaL_optinteger(L, 4, 0),
	};
	on_error(sched_of(L), L, &in);
	return 0;
}

/* Whether it is an error with which the service does nothing of its own. */
static bool
is_plain_error(struct sched *S, lua_State *L, int type) {
	if (type != PTYPE_ERROR) {
		return false;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	bool is_plain = lua_rawgeti(L, -1, PTYPE_ERROR) != LUA_TTABLE;
	if (!is_plain) {
		lua_pushliteral(L, "dispatch");
		lua_rawget(L, -2);
		is_plain = lua_tocfunction(L, -1) == task_on_error;
		lua_pop(L, 1);
	}
	lua_pop(L, 2);
	return is_plain;
}

/* -------------------------------------------------------------- dispatch */

static bool
is_trace(struct sched *S, lua_State *L, int type) {
	if (type != TYPE_TRACE) {
		return false;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	bool known = lua_rawgeti(L, -1, TYPE_TRACE) == LUA_TTABLE;
	lua_pop(L, 2);
	return !known;
}

void
sched_deliver(struct sched *S, lua_State *from, const struct inbound *message) {
	const struct inbound outer = S->in;
	const struct inbound *in = &S->in;
	lua_State *outer_from = S->from;
	S->in = *message;
	if (message->msg == NULL) {
		/* A size without data means nothing, and is dangerous to believe. */
		S->in.sz = 0;
	}
	S->from = from;
	if (in->type == PTYPE_RESPONSE) {
		on_response(S, from, in);
	} else if (is_trace(S, from, in->type)) {
		trace_incoming(S, from, in);
	} else if (is_plain_error(S, from, in->type)) {
		/* Without a task: a call must not wait for ever for want of memory. */
		on_error(S, from, in);
	} else {
		start_request(S, from, in);
	}
	sched_pump(S);
	sched_run_forks(S);
	S->in = outer;
	S->from = outer_from;
}

/* The tasks that a filter woke. */
static void
run_woken(struct sched *S, const struct inbound *message) {
	const struct inbound outer = S->in;
	lua_State *outer_from = S->from;
	S->in = *message;
	S->from = S->L;
	sched_pump(S);
	sched_run_forks(S);
	S->in = outer;
	S->from = outer_from;
}

/* Events of sockets stay in order: behind one that comes again the others have to wait. */
static bool
is_behind_again(const struct sched *S, const struct inbound *in) {
	const struct again *a = in->type == PTYPE_SOCKET ? S->again : NULL;
	while (a != NULL && a->in.type != PTYPE_SOCKET) {
		a = a->next;
	}
	return a != NULL;
}

static void
take_message(struct sched *S, const struct inbound *in) {
	if (S->kicked && is_behind_again(S, in)) {
		sched_deliver_again(S, in);
	} else if (in->type == S->filter_type && S->filter != NULL &&
	           S->filter(S->filter_ud, S->ctx, in->msg, in->sz)) {
		if (S->due != 0) {
			run_woken(S, in);
		}
	} else {
		sched_deliver(S, S->L, in);
	}
}

int
sched_on_message(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
                 const void *msg, size_t sz) {
	struct sched *S = ud;
	const struct inbound in = {type, session, source, msg, sz};
	(void)ctx;
	take_message(S, &in);
	if (S->failure != NULL) {
		sched_report(S, &in);
	}
	return 0;
}

/* Raise the collected failures as one error. */
static int
raise_failures(lua_State *L, struct sched *S) {
	if (S->failure == NULL) {
		return 0;
	}
	/* The string is made first: the C copy must not be lost. */
	lua_pushlstring(L, S->failure, S->failure_n);
	skynet_free(S->failure);
	S->failure = NULL;
	S->failure_n = S->failure_cap = 0;
	return lua_error(L);
}

/* Lua: dispatch_message(type, ptr, size, session, source). */
static int
dispatch_message(lua_State *L) {
	struct sched *S = sched_of(L);
	const struct inbound in = {
	    .type = (int)luaL_checkinteger(L, 1),
	    .msg = lua_touserdata(L, 2),
	    .sz = (size_t)luaL_optinteger(L, 3, 0),
	    .session = (int)luaL_checkinteger(L, 4),
	    .source = (uint32_t)luaL_checkinteger(L, 5),
	};
	luaL_checkstack(L, SCHED_SCRATCH_STACK, NULL);
	sched_deliver(S, L, &in);
	return raise_failures(L, S);
}

/*
 * Lua: _debugger(on): from now on a hook may suspend tasks; off: no more, and
 * messages go to the dispatcher directly again.
 */
static int
debugger(lua_State *L) {
	struct sched *S = sched_of(L);
	S->in_debugger = lua_toboolean(L, 1);
	if (S->in_debugger && !S->own_callback) {
		S->in_debugger = false;
		return luaL_error(L, "the debugger needs a service that uses skynet.start");
	}
	if (!S->in_debugger && !S->exiting) {
		sched_set_callback(S, sched_on_message);
	}
	return 0;
}

/* Lua: _unpark(coroutine): continue a task that a hook suspended. */
static int
unpark(lua_State *L) {
	struct sched *S = sched_of(L);
	lua_State *co = lua_tothread(L, 1);
	struct task *t = co != NULL ? task_of(co) : NULL;
	if (t == NULL || t->L != co || t->state != TASK_PARKED) {
		return luaL_error(L, "the task is not suspended by a hook");
	}
	lua_State *outer_from = S->from;
	luaL_checkstack(L, SCHED_SCRATCH_STACK, NULL);
	S->from = L;
	task_run(S, t, 0);
	sched_pump(S);
	sched_run_forks(S);
	S->from = outer_from;
	return raise_failures(L, S);
}

const luaL_Reg task_dispatch_functions[] = {
    {"dispatch_message", dispatch_message},
    {"_debugger", debugger},
    {"_unpark", unpark},
    {NULL, NULL},
};
