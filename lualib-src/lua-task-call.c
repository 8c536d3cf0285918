/*
 * lua-task-call: sending, and requests that suspend until the answer comes.
 *
 * Payloads are packed by the class's pack function. The standard serialiser is
 * called directly; any other function is called as Lua does. Arguments are
 * checked and packed before a session is taken or anything is sent, so a call
 * that raises leaves nothing behind.
 */
#include "lua-task-imp.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lua-seri.h"
#include "lua-skynet.h"
#include "skynet_malloc.h"

/* A message that is ready to be sent. tag: PTYPE_TAG_DONTCOPY if it is ours. */
struct payload {
	void *msg;
	size_t sz;
	int tag;
};

struct address
address_check(lua_State *L, struct sched *S, int arg) {
	struct address a = {0, NULL, false};
	int type = lua_type(L, arg);
	if (type != LUA_TNUMBER && type != LUA_TSTRING) {
		luaL_error(L, "dest address type (%s) must be a string or number.", luaL_typename(L, arg));
	}
	if (type == LUA_TSTRING) {
		const char *name = lua_tostring(L, arg);
		if (name[0] == ':') {
			a.handle = (uint32_t)strtoul(name + 1, NULL, 16);
			a.missing = a.handle == 0;
			return a;
		}
		if (name[0] == '.') {
			a.handle = skynet_queryname(S->ctx, name);
			a.missing = a.handle == 0;
			return a;
		}
		if (!lua_isnumber(L, arg)) {
			a.name = name;
			return a;
		}
	}
	a.handle = (uint32_t)lua_tointeger(L, arg);
	if (a.handle == 0) {
		lua_skynet_refuseaddress(L, arg);
	}
	return a;
}

/* Session on success, -1 for a dead destination, -2 for a message too large. */
static int
send_payload(struct sched *S, const struct address *to, uint32_t source, int type, int session,
             const struct payload *p) {
	if (to->missing) {
		if (p->tag) {
			skynet_free(p->msg);
		}
		return -1;
	}
	if (to->name != NULL) {
		return skynet_sendname(S->ctx, source, to->name, type | p->tag, session, p->msg, p->sz);
	}
	return skynet_send(S->ctx, source, to->handle, type | p->tag, session, p->msg, p->sz);
}

/* The message in arguments arg (string or pointer) and arg + 1 (size). */
static struct payload
check_payload(lua_State *L, int arg) {
	struct payload p = {NULL, 0, 0};
	switch (lua_type(L, arg)) {
	case LUA_TSTRING:
		p.msg = (void *)lua_tolstring(L, arg, &p.sz);
		if (p.sz == 0) {
			p.msg = NULL;
		}
		break;
	case LUA_TLIGHTUSERDATA:
		p.msg = lua_touserdata(L, arg);
		p.sz = (size_t)luaL_checkinteger(L, arg + 1);
		p.tag = PTYPE_TAG_DONTCOPY;
		break;
	default:
		luaL_error(L, "invalid param %s", luaL_typename(L, arg));
	}
	return p;
}

static int
class_id(lua_State *L, int cls) {
	lua_getfield(L, cls, "id");
	int id = (int)luaL_checkinteger(L, -1);
	lua_pop(L, 1);
	return id;
}

/* Is field `name` of the class the standard serialiser's f? Else leaves it pushed. */
static bool
is_standard(lua_State *L, int cls, const char *name, lua_CFunction f) {
	lua_getfield(L, cls, name);
	if (lua_tocfunction(L, -1) == f) {
		lua_pop(L, 1);
		return true;
	}
	return false;
}

/*
 * Pack the arguments from index `from` (absolute) up with the class on the
 * top of the stack. What the payload points to is ours or stays on the stack.
 */
static struct payload
pack_values(lua_State *L, int from) {
	struct payload p = {NULL, 0, PTYPE_TAG_DONTCOPY};
	int cls = lua_gettop(L);
	lua_insert(L, from++);
	if (is_standard(L, from - 1, "pack", luaseri_pack)) {
		luaseri_pack_range(L, from, &p.msg, &p.sz);
		return p;
	}
	lua_insert(L, from);
	lua_call(L, cls - from + 1, 2);
	return check_payload(L, from);
}

/* ------------------------------------------------------------ plain sends */

static int
send_result(lua_State *L, int r) {
	if (r == -1) {
		return 0;
	}
	if (r == -2) {
		lua_pushboolean(L, 0);
	} else {
		lua_pushinteger(L, r);
	}
	return 1;
}

/* Lua: send(addr, typename, ...) -> 0; nothing: no such service; false: too large */
static int
task_send(lua_State *L) {
	struct sched *S = sched_of(L);
	struct address to = address_check(L, S, 1);
	sched_push_class(L, S, 2);
	int type = class_id(L, -1);
	struct payload p = pack_values(L, 3);
	return send_result(L, send_payload(S, &to, 0, type, 0, &p));
}

/* Lua: rawsend(addr, typename, msg [, size]) -> as send */
static int
task_rawsend(lua_State *L) {
	struct sched *S = sched_of(L);
	struct address to = address_check(L, S, 1);
	sched_push_class(L, S, 2);
	int type = class_id(L, -1);
	struct payload p = check_payload(L, 3);
	return send_result(L, send_payload(S, &to, 0, type, 0, &p));
}

/* Lua: redirect(addr, source, typename, session, msg [, size]) -> as send */
static int
task_redirect(lua_State *L) {
	struct sched *S = sched_of(L);
	struct address to = address_check(L, S, 1);
	uint32_t source = (uint32_t)luaL_checkinteger(L, 2);
	sched_push_class(L, S, 3);
	int type = class_id(L, -1);
	int session = (int)luaL_checkinteger(L, 4);
	struct payload p = check_payload(L, 5);
	return send_result(L, send_payload(S, &to, source, type, session, &p));
}

/* Lua: genid() -> session that nothing in this service waits for */
static int
task_genid(lua_State *L) {
	lua_pushinteger(L, sched_new_session(sched_of(L)));
	return 1;
}

/* ------------------------------------------------------------------ calls */

static const char *
address_text(lua_State *L, int arg) {
	if (lua_isinteger(L, arg)) {
		char text[16];
		snprintf(text, sizeof(text), ":%08x", (unsigned)(uint32_t)lua_tointeger(L, arg));
		return lua_pushstring(L, text);
	}
	return luaL_tolstring(L, arg, NULL);
}

/* There is no service where a call goes; `what` names the place. */
static int
refuse_address(lua_State *L, const char *what) {
	task_push_place(L);
	lua_pushfstring(L, "call to invalid address%s%s", *what != '\0' ? " " : "", what);
	lua_concat(L, 2);
	return lua_error(L);
}

/* The call of t has failed; its task runs again to raise that. */
static int
raise_failure(lua_State *L, struct task *t) {
	const char *cause = t->cause;
	bool timed_out = t->timed_out;
	t->failed = t->timed_out = false;
	task_push_place(L);
	if (timed_out) {
		lua_pushliteral(L, "call timeout");
	} else if (cause != NULL) {
		/* The first line of a list of what was tried ends with a colon. */
		size_t len = strlen(cause);
		lua_pushlstring(L, cause, len > 0 && cause[len - 1] == ':' ? len - 1 : len);
		skynet_free(t->cause);
		t->cause = NULL;
		lua_pushliteral(L, ": call failed");
		lua_concat(L, 2);
	} else {
		lua_pushliteral(L, "call failed");
	}
	lua_concat(L, 2);
	return lua_error(L);
}

/* First step of every continuation of a call. */
static struct task *
answered(lua_State *L) {
	struct task *t = task_resumed(L);
	if (t->deadline != 0) {
		pending_void(t->S, t->deadline, PENDING_TICK, 0);
		t->deadline = 0;
	}
	if (t->failed) {
		raise_failure(L, t);
	}
	if (t->trace == TRACE_ON) {
		trace_event(t->S, t, "resume", NULL);
	}
	return t;
}

static int
answer_unpacked(lua_State *L, int status, lua_KContext ctx) {
	(void)status;
	(void)ctx;
	return lua_gettop(L) - 2;
}

/* Stack: 1 address, 2 class. */
static int
call_answered(lua_State *L, int status, lua_KContext ctx) {
	struct sched *S = answered(L)->S;
	const struct inbound *in = &S->in;
	if (is_standard(L, 2, "unpack", luaseri_unpack)) {
		lua_settop(L, 0);
		return luaseri_unpack_buffer(L, in->msg, in->sz);
	}
	lua_pushlightuserdata(L, (void *)in->msg);
	lua_pushinteger(L, (lua_Integer)in->sz);
	lua_callk(L, 2, LUA_MULTRET, 0, answer_unpacked);
	return answer_unpacked(L, status, ctx);
}

static int
rawcall_answered(lua_State *L, int status, lua_KContext ctx) {
	(void)status;
	(void)ctx;
	struct sched *S = answered(L)->S;
	lua_pushlightuserdata(L, (void *)S->in.msg);
	lua_pushinteger(L, (lua_Integer)S->in.sz);
	return 2;
}

static void
limit_call(struct sched *S, struct task *t, int cs) {
	t->deadline = sched_new_session(S);
	pending_add(S, t->deadline, PENDING_DEADLINE, (uintptr_t)t, 0);
	sched_arm(S, t->deadline, cs);
}

/*
 * Send the request and suspend. 0 is returned when the destination is missing;
 * a message that is too large raises here. cs < 0: no time limit.
 */
static int
request(lua_State *L, struct task *t, const struct address *to, int type, const struct payload *p,
        int cs, lua_KFunction k) {
	struct sched *S = t->S;
	if (t->trace == TRACE_ON) {
		trace_event(S, t, "call", L);
		if (!trace_send_tag(S, t, to)) {
			if (p->tag) {
				skynet_free(p->msg);
			}
			return 0;
		}
	}
	int session = sched_new_session(S);
	int r = send_payload(S, to, 0, type, session, p);
	if (r == -1) {
		return 0;
	}
	if (r == -2) {
		return luaL_error(L, "call to %s: the message is too large", address_text(L, 1));
	}
	pending_add(S, session, PENDING_TASK, (uintptr_t)t, 0);
	t->watch = to->handle;
	if (cs >= 0) {
		limit_call(S, t, cs);
	}
	lua_settop(L, 2);
	return task_suspend(L, t, TASK_CALLING, session, k);
}

/* Stack: 1 address, 2 typename, 3... arguments. */
static int
call_packed(lua_State *L, struct task *t, int cs) {
	struct address to = address_check(L, t->S, 1);
	sched_push_class(L, t->S, 2);
	lua_copy(L, -1, 2);
	int type = class_id(L, -1);
	struct payload p = pack_values(L, 3);
	request(L, t, &to, type, &p, cs, call_answered);
	return refuse_address(L, address_text(L, 1));
}

/* Lua: call(addr, typename, ...) -> unpacked answer */
static int
task_call(lua_State *L) {
	return call_packed(L, task_blocking(L, "skynet.call"), -1);
}

/* Lua: call_timeout(cs, addr, typename, ...) -> unpacked answer */
static int
task_call_timeout(lua_State *L) {
	struct task *t = task_blocking(L, "skynet.call_timeout");
	lua_Integer cs = luaL_checkinteger(L, 1);
	luaL_argcheck(L, cs >= 0 && cs <= INT_MAX, 1, "time out of range");
	lua_remove(L, 1);
	return call_packed(L, t, (int)cs);
}

/* Lua: rawcall(addr, typename, msg [, size]) -> pointer, size */
static int
task_rawcall(lua_State *L) {
	struct task *t = task_blocking(L, "skynet.rawcall");
	struct address to = address_check(L, t->S, 1);
	sched_push_class(L, t->S, 2);
	int type = class_id(L, -1);
	struct payload p = check_payload(L, 3);
	request(L, t, &to, type, &p, -1, rawcall_answered);
	return refuse_address(L, "");
}

/* ----------------------------------------------------------- request sets */

/*
 * Lua: _request(ref, addr, typename, ...) -> session, or nothing when the
 * destination is missing. The answer goes to the handler that ref keeps.
 */
static int
task_request(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t = S->running;
	lua_Integer ref = luaL_checkinteger(L, 1);
	struct address to = address_check(L, S, 2);
	sched_push_class(L, S, 3);
	int type = class_id(L, -1);
	struct payload p = pack_values(L, 4);
	if (t != NULL && t->trace == TRACE_ON) {
		trace_event(S, t, "call", L);
		trace_send_tag(S, t, &to);
	}
	int session = sched_new_session(S);
	int r = send_payload(S, &to, 0, type, session, &p);
	if (r < 0) {
		return 0;
	}
	pending_add(S, session, PENDING_SET, (uintptr_t)ref << 3, to.handle);
	lua_pushinteger(L, session);
	return 1;
}

/* Lua: _cancel(session): a timer of _arm or a request of _request is not wanted. */
static int
task_cancel(lua_State *L) {
	struct sched *S = sched_of(L);
	int session = (int)luaL_checkinteger(L, 1);
	struct pending *e = pending_find(S, session);
	if (e == NULL) {
		return 0;
	}
	if (pending_kind(e) == PENDING_TIMER) {
		value_drop(L, S, pending_ref(e));
		pending_void(S, session, PENDING_TICK, 0);
	} else if (pending_kind(e) == PENDING_SET) {
		pending_void(S, session, PENDING_ANSWER, e->aux);
	}
	return 0;
}

/* Lua: _keep(value) -> ref */
static int
task_keep(lua_State *L) {
	luaL_checkany(L, 1);
	lua_settop(L, 1);
	lua_pushinteger(L, value_keep(L, sched_of(L)));
	return 1;
}

/* Lua: _drop(ref) */
static int
task_drop(lua_State *L) {
	value_drop(L, sched_of(L), (int)luaL_checkinteger(L, 1));
	return 0;
}

const luaL_Reg task_call_functions[] = {
    {"send", task_send},       {"rawsend", task_rawsend},  {"redirect", task_redirect},
    {"genid", task_genid},     {"call", task_call},        {"call_timeout", task_call_timeout},
    {"rawcall", task_rawcall}, {"_request", task_request}, {"_cancel", task_cancel},
    {"_keep", task_keep},      {"_drop", task_drop},       {NULL, NULL},
};
