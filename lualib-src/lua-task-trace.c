/*
 * lua-task-trace: trace tags of tasks.
 *
 * A tag is a string kept as a value of the scheduler while a task carries it.
 * It travels in a message of its own, type 12, right ahead of the request, and
 * waits at the receiver in a table by source until the request comes.
 */
#include "lua-task-imp.h"

#include <stdio.h>
#include <string.h>

#include "platform.h"
#include "skynet_malloc.h"

/* Call sites shown on one line. */
#define SITES 3
/* Frames looked at for a call site. */
#define FRAMES_MAX 64
/* Room for the call sites of a line. */
#define SITE_TEXT 768

/* " : source:line source:line", nothing when no frame has a line. */
static void
call_sites(lua_State *L, int level, char *buf, size_t sz) {
	size_t n = 0;
	int found = 0;
	lua_Debug ar;
	buf[0] = '\0';
	for (int end = level + FRAMES_MAX; level < end && found < SITES; level++) {
		if (!lua_getstack(L, level, &ar)) {
			break;
		}
		lua_getinfo(L, "Sl", &ar);
		if (ar.currentline > 0) {
			int w = snprintf(buf + n, sz - n, "%s%s:%d", found == 0 ? " : " : " ", ar.source,
			                 ar.currentline);
			if (w < 0 || (size_t)w >= sz - n) {
				buf[n] = '\0';
				break;
			}
			n += (size_t)w;
			found++;
		}
	}
}

static void
trace_line(struct sched *S, const char *tag, const char *text, const char *sites) {
	skynet_error(S->ctx, "<TRACE %s> %lld %s%s", tag, (long long)platform_monotonic_ns(), text,
	             sites);
}

/* The string on the top of the main thread's stack; the caller pops it. */
static const char *
push_tag(struct sched *S, const struct task *t) {
	value_push(S->main.L, S, t->trace_ref);
	return lua_tostring(S->main.L, -1);
}

void
trace_event(struct sched *S, struct task *t, const char *what, lua_State *L) {
	char sites[SITE_TEXT] = "";
	if (L != NULL) {
		call_sites(L, 1, sites, sizeof(sites));
	}
	trace_line(S, push_tag(S, t), what, sites);
	lua_pop(S->main.L, 1);
}

bool
trace_send_tag(struct sched *S, struct task *t, const struct address *to) {
	if (to->missing) {
		return false;
	}
	size_t n;
	push_tag(S, t);
	char *tag = (char *)lua_tolstring(S->main.L, -1, &n);
	int r = to->name != NULL ? skynet_sendname(S->ctx, 0, to->name, TYPE_TRACE, 0, tag, n)
	                         : skynet_send(S->ctx, 0, to->handle, TYPE_TRACE, 0, tag, n);
	lua_pop(S->main.L, 1);
	return r >= 0;
}

/* ----------------------------------------------------------------- arrival */

/* Lua, protected: (sched, inbound): remember the tag of a source. */
static int
store_tag(lua_State *L) {
	struct sched *S = lua_touserdata(L, 1);
	const struct inbound *in = lua_touserdata(L, 2);
	if (S->ref_tags == 0) {
		lua_newtable(L);
		S->ref_tags = luaL_ref(L, LUA_REGISTRYINDEX);
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_tags);
	bool is_new = lua_rawgeti(L, -1, in->source) == LUA_TNIL;
	lua_pop(L, 1);
	lua_pushlstring(L, in->msg, in->sz);
	lua_rawseti(L, -2, in->source);
	S->tag_n += is_new;
	return 0;
}

void
trace_incoming(struct sched *S, lua_State *L, const struct inbound *in) {
	if (in->msg == NULL) {
		return;
	}
	lua_pushcfunction(L, store_tag);
	lua_pushlightuserdata(L, S);
	lua_pushlightuserdata(L, (void *)in);
	if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
		lua_pop(L, 1);
	}
}

/* Take the tag that source announced; pushed if true. */
static bool
take_tag(lua_State *L, struct sched *S, uint32_t source) {
	if (S->tag_n == 0) {
		return false;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_tags);
	if (lua_rawgeti(L, -1, source) == LUA_TNIL) {
		lua_pop(L, 2);
		return false;
	}
	lua_pushnil(L);
	lua_rawseti(L, -3, source);
	S->tag_n--;
	lua_remove(L, -2);
	return true;
}

/* Bind the string on the top of L (popped) to t. */
static void
bind_tag(lua_State *L, struct sched *S, struct task *t) {
	int before = t->trace_ref;
	t->trace_ref = value_keep(L, S);
	t->trace = TRACE_ON;
	if (before != 0) {
		value_drop(L, S, before);
	}
}

static void
new_tag(lua_State *L, struct sched *S, struct task *t) {
	char tag[32];
	snprintf(tag, sizeof(tag), ":%08x-%d", S->handle, ++S->trace_count);
	lua_pushstring(L, tag);
	bind_tag(L, S, t);
}

void
trace_refuse(lua_State *L, struct sched *S) {
	lua_pop(L, take_tag(L, S, S->in.source) ? 1 : 0);
}

void
trace_adopt(lua_State *L, struct sched *S, struct task *t) {
	bool on = lua_toboolean(L, -1);
	bool off = !on && !lua_isnil(L, -1);
	lua_pop(L, 1);
	bool tagged = take_tag(L, S, S->in.source);
	if (off) {
		lua_pop(L, tagged ? 1 : 0);
		t->trace = TRACE_OFF;
	} else if (tagged) {
		bind_tag(L, S, t);
		trace_event(S, t, "request", NULL);
	} else if (on) {
		new_tag(L, S, t);
		trace_event(S, t, "trace", NULL);
	}
}

void
trace_end(struct sched *S, struct task *t) {
	trace_event(S, t, "end", NULL);
}

/* --------------------------------------------------------------- functions */

/* Lua: trace([info]) */
static int
task_trace(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t = S->running;
	const char *info = luaL_optstring(L, 1, NULL);
	if (t == NULL) {
		return luaL_error(L, "skynet.trace outside of a task");
	}
	if (t->trace == TRACE_OFF) {
		return 0;
	}
	new_tag(L, S, t);
	trace_event(S, t, info != NULL ? lua_pushfstring(L, "trace %s", info) : "trace", NULL);
	return 0;
}

/* Lua: tracetag() -> tag, false (forced off) or nil */
static int
task_tracetag(lua_State *L) {
	struct sched *S = sched_of(L);
	struct task *t = S->running;
	if (t == NULL || t->trace == TRACE_NONE) {
		lua_pushnil(L);
	} else if (t->trace == TRACE_OFF) {
		lua_pushboolean(L, 0);
	} else {
		value_push(L, S, t->trace_ref);
	}
	return 1;
}

/* Lua: tracelog(tag, text [, thread] [, level]) */
static int
task_tracelog(lua_State *L) {
	struct sched *S = sched_of(L);
	const char *tag = luaL_checkstring(L, 1);
	const char *text = luaL_checkstring(L, 2);
	char sites[SITE_TEXT] = "";
	if (lua_isthread(L, 3)) {
		call_sites(lua_tothread(L, 3), (int)luaL_optinteger(L, 4, 1), sites, sizeof(sites));
	} else if (!lua_isnoneornil(L, 3)) {
		call_sites(L, (int)luaL_checkinteger(L, 3), sites, sizeof(sites));
	}
	trace_line(S, tag, text, sites);
	return 0;
}

/* Lua: traceproto(typename, flag) */
static int
task_traceproto(lua_State *L) {
	struct sched *S = sched_of(L);
	lua_settop(L, 2);
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_proto);
	lua_pushvalue(L, 1);
	if (lua_rawget(L, -2) != LUA_TTABLE) {
		return luaL_error(L,
		                  "bad argument #1 to 'skynet.traceproto' (no protocol is named '%s'): "
		                  "assertion failed!",
		                  luaL_tolstring(L, 1, NULL));
	}
	lua_pushvalue(L, 2);
	lua_setfield(L, -2, "trace");
	return 0;
}

/* Lua: _settag(tag): the running task carries tag from here on. */
static int
task_settag(lua_State *L) {
	struct sched *S = sched_of(L);
	luaL_checkstring(L, 1);
	if (S->running != NULL) {
		lua_settop(L, 1);
		bind_tag(L, S, S->running);
	}
	return 0;
}

const luaL_Reg task_trace_functions[] = {
    {"trace", task_trace},           {"tracetag", task_tracetag}, {"tracelog", task_tracelog},
    {"traceproto", task_traceproto}, {"_settag", task_settag},    {NULL, NULL},
};
