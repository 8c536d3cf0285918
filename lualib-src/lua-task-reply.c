/*
 * lua-task-reply: answering the request that started the running task, at once
 * (ret) or later from anywhere (response).
 *
 * A deferred answer is a C function over a userdata, `struct response`, which
 * is linked into S->responses without keeping it alive: a function that is
 * dropped unused answers with ERROR when it is collected.
 */
#include "lua-task-imp.h"

#include <string.h>

#include "lua-seri.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

#define RESPONSE_TYPE "skynet.response"

/* ------------------------------------------------------------------- ret */

/* Send an answer; takes msg if it is ours (tag). false: nobody gets it. */
static bool
send_answer(struct sched *S, uint32_t dest, int session, int tag, void *msg, size_t sz) {
	int r = skynet_send(S->ctx, 0, dest, PTYPE_RESPONSE | tag, session, msg, sz);
	if (r == -2) {
		sched_send_error(S, dest, session, "the answer is too large");
	}
	return r >= 0;
}

static bool
answer_debt(struct sched *S, struct task *t, int tag, void *msg, size_t sz) {
	if (t->trace == TRACE_ON) {
		trace_event(S, t, "response", NULL);
	}
	t->debt = false;
	if (t->debt_session == 0) {
		if (tag) {
			skynet_free(msg);
		}
		return false;
	}
	return send_answer(S, t->debt_source, t->debt_session, tag, msg, sz);
}

/* Lua: ret([msg [, size]]) -> was it sent? */
static int
task_ret(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t = S->running;
	void *msg = NULL;
	size_t sz = 0;
	int tag = 0;
	if (lua_islightuserdata(L, 1)) {
		msg = lua_touserdata(L, 1);
		sz = (size_t)luaL_checkinteger(L, 2);
		tag = PTYPE_TAG_DONTCOPY;
	} else {
		msg = (void *)luaL_optlstring(L, 1, NULL, &sz);
	}
	if (t == NULL || !t->debt) {
		if (tag) {
			skynet_free(msg);
		}
		return luaL_error(L, "No session");
	}
	lua_pushboolean(L, answer_debt(S, t, tag, msg, sz));
	return 1;
}

/* Lua: retpack(...) -> was it sent? */
static int
task_retpack(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t = S->running;
	void *msg;
	size_t sz;
	if (t == NULL || !t->debt) {
		return luaL_error(L, "No session");
	}
	luaseri_pack_range(L, 1, &msg, &sz);
	lua_pushboolean(L, answer_debt(S, t, PTYPE_TAG_DONTCOPY, msg, sz));
	return 1;
}

/* Lua: ignoreret() */
static int
task_ignoreret(lua_State *L) {
	struct task *t = sched_of(L)->running;
	if (t != NULL) {
		t->debt = false;
	}
	return 0;
}

/* Lua: context() -> session or nil, source or nil */
static int
task_context(lua_State *L) {
	struct task *t = sched_of(L)->running;
	if (t != NULL && t->debt) {
		lua_pushinteger(L, t->debt_session);
	} else {
		lua_pushnil(L);
	}
	if (t != NULL && t->has_source) {
		lua_pushinteger(L, t->debt_source);
	} else {
		lua_pushnil(L);
	}
	return 2;
}

/* -------------------------------------------------------------- response */

static void
unlink_response(struct response *r) {
	r->prev->next = r->next;
	r->next->prev = r->prev;
	r->prev = r->next = r;
}

/* R("TEST") */
static int
test_response(lua_State *L, const struct response *r) {
	lua_pushboolean(L, !r->done && !r->gone);
	return 1;
}

/* The answer's bytes: results of the pack function, for arguments 2 and up. */
static int
pack_response(lua_State *L, void **msg, size_t *sz) {
	lua_pushvalue(L, lua_upvalueindex(2));
	if (lua_tocfunction(L, -1) == luaseri_pack) {
		lua_pop(L, 1);
		luaseri_pack_range(L, 2, msg, sz);
		return PTYPE_TAG_DONTCOPY;
	}
	lua_insert(L, 2);
	lua_call(L, lua_gettop(L) - 2, 2);
	if (lua_islightuserdata(L, 2)) {
		*msg = lua_touserdata(L, 2);
		*sz = (size_t)luaL_checkinteger(L, 3);
		return PTYPE_TAG_DONTCOPY;
	}
	*msg = (void *)luaL_optlstring(L, 2, NULL, sz);
	return 0;
}

/* Lua: R(true, ...), R(false [, why]) -> was it delivered? R("TEST") -> wanted? */
static int
use_response(lua_State *L) {
	struct response *r = lua_touserdata(L, lua_upvalueindex(1));
	const char *text = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : NULL;
	if (text != NULL && strcmp(text, "TEST") == 0) {
		return test_response(L, r);
	}
	if (r->done) {
		return luaL_error(L, "Can't response more than once");
	}
	struct sched *S = r->S;
	bool sent = false;
	if (lua_toboolean(L, 1)) {
		void *msg = NULL;
		size_t sz = 0;
		int tag = r->gone ? 0 : pack_response(L, &msg, &sz);
		if (!r->gone) {
			int n = skynet_send(S->ctx, 0, r->source, PTYPE_RESPONSE | tag, r->session, msg, sz);
			if (n == -2) {
				sched_send_error(S, r->source, r->session, "the answer is too large");
			}
			sent = n != -1;
		}
	} else if (!r->gone) {
		const char *cause = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "refused";
		sent = sched_send_error(S, r->source, r->session, cause);
	}
	r->done = true;
	unlink_response(r);
	lua_pushboolean(L, sent);
	return 1;
}

/* What response() gives for a plain send. */
static int
no_response(lua_State *L) {
	(void)L;
	return 0;
}

static int
response_gc(lua_State *L) {
	struct response *r = lua_touserdata(L, 1);
	if (!r->done) {
		r->done = true;
		unlink_response(r);
		if (!r->gone) {
			sched_bounce_dropped(r->S, r);
		}
	}
	return 0;
}

/* Push a deferred answer, which is to be begun. */
static struct response *
new_response(lua_State *L) {
	struct response *r = lua_newuserdatauv(L, sizeof(*r), 0);
	*r = (struct response){.prev = r, .next = r, .done = true};
	if (luaL_newmetatable(L, RESPONSE_TYPE)) {
		lua_pushcfunction(L, response_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	return r;
}

/* From now on r owes the answer that t has owed. */
static void
begin_response(struct response *r, struct sched *S, struct task *t) {
	*r = (struct response){
	    .prev = S->responses.prev,
	    .next = &S->responses,
	    .S = S,
	    .session = t->debt_session,
	    .source = t->debt_source,
	};
	r->prev->next = r;
	r->next->prev = r;
	t->debt = false;
}

/* Lua: response([pack]) -> function(ok, ...) */
static int
task_response(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t = S->running;
	if (t == NULL || !t->debt) {
		return luaL_error(L, "no session");
	}
	if (t->debt_session == 0) {
		t->debt = false;
		lua_pushcfunction(L, no_response);
		return 1;
	}
	if (lua_isnoneornil(L, 1)) {
		lua_pushcfunction(L, luaseri_pack);
	} else {
		lua_pushvalue(L, 1);
	}
	struct response *r = new_response(L);
	lua_insert(L, -2);
	lua_pushcclosure(L, use_response, 2);
	begin_response(r, S, t);
	return 1;
}

const luaL_Reg task_reply_functions[] = {
    {"ret", task_ret},         {"retpack", task_retpack},   {"ignoreret", task_ignoreret},
    {"context", task_context}, {"response", task_response}, {NULL, NULL},
};
