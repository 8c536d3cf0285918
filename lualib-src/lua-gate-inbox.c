// skynet.gateinbox: the receiving end of the connections of snax.wsgateserver (internal).
//
// What a connection receives goes to its sink (lua-sink.h), which makes messages of it, and
// these go to the service that they are routed to, before anything gets as far as Lua. What
// is not usual (a message without a route, or not of the only kind that is allowed; anything
// that is no message; a limit) is told to Lua, which has the connection from then on: nothing
// is delivered here until it asks with `take` for what comes next, and there is nothing.
//
// A line is a userdata per connection. It keeps its sink; guard knows it by the id of its
// connection. Everything here runs on the thread of the service.
#include <lauxlib.h>
#include <lua.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lshare.h"
#include "lua-guard.h"
#include "lua-sink.h"
#include "lua-socket-lost.h"
#include "lua-task.h"
#include "skynet.h"
#include "skynet_malloc.h"
#include "skynet_server.h"
#include "skynet_socket.h"

#define LINE_META "skynet.gateinbox.line"
// So many messages go to a service between two looks at what waits for it; as snax.gatelag.
#define SHARE 16
// The event that is told in place of DATA, beside those of the socket core.
#define EVENT_FOUND 9

// What there is for Lua: the kind of a message, or one of these.
enum {
	FOUND_NOTHING = 0,
	FOUND_OTHER = -1, // the sink's next item is no message
	FOUND_HELD = -2,  // over a limit, and maybe the service lags behind
	FOUND_LOST = -3,  // the service is gone
};

struct found {
	int what;
	char *block; // of a message; owned
	size_t size;
	int64_t wait; // HELD: 1/100 s, 0 = its rates allow more
	enum guard_reason why;
	uint32_t service; // LOST; HELD: 0 = it does not lag
};

struct line {
	int id;
	bool is_known; // to the guard
	bool is_live;  // messages are delivered here
	bool is_plain; // what the socket receives is what the sink takes
	bool has_spoken;
	int unseen;       // messages since the last look at what waits for the service
	uint32_t service; // 0 = Lua gets the messages
	uint32_t source;
	const struct stream_sink *sink;
	void *sink_ud; // lives in the user value
};

struct inbox {
	struct skynet_context *ctx;
	struct guard *guard; // NULL: the VM ends
	size_t agent_limit;  // bytes that may wait for a service, 0 = no limit
	int only_kind;       // 0 = any
	struct found late;   // by the filter, for `receive`
	int late_id;         // of its connection
};

int luaopen_skynet_gateinbox(lua_State *L);

//------------------------------------------------------------------- deliver

static bool
is_behind(const struct inbox *in, struct line *l) {
	l->unseen = 0;
	return in->agent_limit > 0 && skynet_context_waiting(l->service) > in->agent_limit;
}

// Whether Lua has to see a message: also the first one.
static bool
is_for_lua(const struct inbox *in, const struct line *l, int kind) {
	return l->service == 0 || !l->has_spoken || (in->only_kind != 0 && kind != in->only_kind);
}

// Sends a message on its route. True if nothing more may follow for now, and why is told.
static bool
send_on(struct inbox *in, struct line *l, struct found *f) {
	int type = PTYPE_CLIENT | PTYPE_TAG_DONTCOPY;
	if (skynet_send(in->ctx, l->source, l->service, type, l->id, f->block, f->size) < 0) {
		*f = (struct found){.what = FOUND_LOST, .service = l->service};
		l->service = 0;
		return true;
	}
	f->block = NULL;
	f->wait = guard_take(in->guard, l->id, f->size, &f->why);
	bool looks = ++l->unseen >= SHARE || f->wait > 0;
	f->service = looks && is_behind(in, l) ? l->service : 0;
	f->what = FOUND_HELD;
	return f->wait > 0 || f->service != 0;
}

// Delivers what the sink has, up to what Lua has to see.
static struct found
advance(struct inbox *in, struct line *l) {
	struct found f = {0};
	for (;;) {
		f.what = l->sink->message(l->sink_ud, &f.block, &f.size);
		if (f.what == 0) {
			break;
		}
		if (f.what < 0) {
			f.what = FOUND_OTHER;
			return f;
		}
		if (is_for_lua(in, l, f.what)) {
			l->has_spoken = true;
			return f;
		}
		if (send_on(in, l, &f)) {
			return f;
		}
	}
	if (l->unseen > 0 && is_behind(in, l)) {
		return (struct found){.what = FOUND_HELD, .service = l->service};
	}
	return (struct found){.what = FOUND_NOTHING};
}

// The filter of the service, see lua-task.h.
static bool
filter_event(void *ud, struct skynet_context *ctx, const void *msg, size_t size) {
	struct inbox *in = ud;
	struct skynet_socket_message *m = (void *)(uintptr_t)msg;
	(void)ctx;
	if (size < sizeof(*m) || m->type != SKYNET_SOCKET_TYPE_DATA || m->buffer == NULL) {
		return false;
	}
	struct line *l = (void *)(uintptr_t)guard_note(in->guard, m->id);
	if (l == NULL || !l->is_live || !l->is_plain) {
		return false;
	}
	l->sink->feed(l->sink_ud, m->buffer, (size_t)m->ud);
	m->buffer = NULL;
	skynet_free(in->late.block); // of a task that could not be started
	in->late = advance(in, l);
	in->late_id = m->id;
	l->is_live = in->late.what == FOUND_NOTHING;
	return l->is_live;
}

static int
push_found(lua_State *L, const struct found *f) {
	lua_pushinteger(L, f->what);
	switch (f->what) {
	case FOUND_OTHER:
		return 1;
	case FOUND_HELD:
		lua_pushinteger(L, f->wait);
		lua_pushinteger(L, f->why);
		lua_pushinteger(L, f->service);
		return 4;
	case FOUND_LOST:
		lua_pushinteger(L, f->service);
		return 2;
	default:
		lua_pushlightuserdata(L, f->block);
		lua_pushinteger(L, (lua_Integer)f->size);
		return 3;
	}
}

//----------------------------------------------------------------- functions

static struct inbox *
the_inbox(lua_State *L) {
	return lua_touserdata(L, lua_upvalueindex(1));
}

static struct line *
check_line(lua_State *L) {
	struct line *l = lua_testmeta(L, 1, lua_upvalueindex(2));
	if (l == NULL) {
		luaL_typeerror(L, 1, LINE_META);
	}
	return l;
}

// (msg, size) -> event, fd, ...: see receiver. The events of the socket core as
// skynet.socketdriver.unpack gives them, with ud and text or block, and EVENT_FOUND with what
// take returns.
static int
lreceive(lua_State *L) {
	struct inbox *in = the_inbox(L);
	struct skynet_socket_message *m = lua_touserdata(L, 1);
	lua_Integer size = luaL_checkinteger(L, 2);
	luaL_argcheck(L, m != NULL, 1, "need a socket message");
	luaL_argcheck(L, size >= (lua_Integer)sizeof(*m), 2, "not a socket message");
	if (m->type == SKYNET_SOCKET_TYPE_DATA && m->buffer == NULL && m->id == in->late_id &&
	    in->late.what != FOUND_NOTHING) {
		socket_block_room(L);
		struct found f = in->late;
		in->late = (struct found){.what = FOUND_NOTHING};
		lua_pushinteger(L, EVENT_FOUND);
		lua_pushinteger(L, m->id);
		return 2 + push_found(L, &f);
	}
	lua_pushinteger(L, m->type);
	lua_pushinteger(L, m->id);
	lua_pushinteger(L, m->ud);
	if (m->buffer == NULL) {
		lua_pushlstring(L, (const char *)(m + 1), (size_t)size - sizeof(*m));
	} else {
		socket_block_room(L);
		lua_pushlightuserdata(L, m->buffer);
		m->buffer = NULL;
	}
	return 4;
}

// receiver() -> the unpack function of class socket. From now on messages are delivered
// before they get to Lua.
static int
lreceiver(lua_State *L) {
	struct sched *S = task_set_filter(L, PTYPE_SOCKET, filter_event, the_inbox(L));
	task_set_lost(S, PTYPE_SOCKET, socket_event_lost);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_pushcclosure(L, lreceive, 1);
	return 1;
}

// limit(limits, local_limits [, only_kind]): the rates of netpack.guard, which are counted
// for each message, and agent_limit of the first; from now on. only_kind is for messages with
// a route: others are told.
static int
llimit(lua_State *L) {
	struct inbox *in = the_inbox(L);
	struct guard_limits limits;
	struct guard_limits local;
	guard_read_limits(L, 1, &limits);
	guard_read_limits(L, 2, &local);
	int only_kind = (int)luaL_optinteger(L, 3, 0);
	in->agent_limit = (size_t)guard_limit_field(L, 1, "agent_limit");
	in->only_kind = only_kind;
	guard_set(in->guard, &limits, &local, 0, 0);
	return 0;
}

// enter(fd, address: "ip:port", sink, is_plain) -> line: a connection. Nothing is delivered
// before the first `take`.
static int
lenter(lua_State *L) {
	size_t n;
	struct inbox *in = the_inbox(L);
	int id = (int)luaL_checkinteger(L, 1);
	const char *address = luaL_checklstring(L, 2, &n);
	luaL_checktype(L, 3, LUA_TUSERDATA);
	if (luaL_getmetafield(L, 3, STREAM_SINK_FIELD) == LUA_TNIL) {
		return luaL_argerror(L, 3, "not a sink");
	}
	const struct stream_sink *sink = lua_touserdata(L, -1);
	luaL_argcheck(L, sink->message != NULL, 3, "not a sink of messages");
	struct line *l = lua_newuserdatauv(L, sizeof(*l), 1);
	memset(l, 0, sizeof(*l));
	l->id = id;
	l->is_plain = lua_toboolean(L, 4);
	l->sink = sink;
	l->sink_ud = lua_touserdata(L, 3);
	lua_pushvalue(L, 3);
	lua_setiuservalue(L, -2, 1);
	lua_pushvalue(L, lua_upvalueindex(2));
	lua_setmetatable(L, -2);
	guard_enter(in->guard, id, address, n);
	guard_set_note(in->guard, id, (uintptr_t)l);
	l->is_known = true;
	return 1;
}

// leave(line): the connection has ended
static int
lleave(lua_State *L) {
	struct inbox *in = the_inbox(L);
	struct line *l = check_line(L);
	if (l->is_known && in->guard != NULL) {
		guard_leave(in->guard, l->id);
	}
	l->is_known = l->is_live = false;
	return 0;
}

// halt(line): nothing is delivered before the next `take`
static int
lhalt(lua_State *L) {
	check_line(L)->is_live = false;
	return 0;
}

// route(line [, service [, source]]): from now on messages of the connection, except its
// first, go to the service at once, as messages of class client with session fd; without a
// service Lua gets them.
static int
lroute(lua_State *L) {
	struct line *l = check_line(L);
	uint32_t service = guard_opt_handle(L, 2);
	l->source = guard_opt_handle(L, 3);
	l->service = service;
	return 0;
}

// count(line, size) -> 1/100 s to wait, why: of one item that Lua has dealt with
static int
lcount(lua_State *L) {
	enum guard_reason why;
	struct line *l = check_line(L);
	lua_Integer size = luaL_checkinteger(L, 2);
	lua_pushinteger(L, guard_take(the_inbox(L)->guard, l->id, (size_t)size, &why));
	lua_pushinteger(L, why);
	return 2;
}

// take(line [, size]) -> nothing: all was delivered, and so will be what comes; or what Lua
// has to see, which are the kind, block and size of a message, or OTHER; HELD, wait, why, the
// service that lags or 0; LOST, service. With a size one item is counted first.
static int
ltake(lua_State *L) {
	struct found f = {0};
	struct inbox *in = the_inbox(L);
	struct line *l = check_line(L);
	if (!lua_isnoneornil(L, 2)) {
		f.wait = guard_take(in->guard, l->id, (size_t)luaL_checkinteger(L, 2), &f.why);
	}
	if (f.wait > 0) {
		f.what = FOUND_HELD;
	} else {
		socket_block_room(L);
		f = advance(in, l);
	}
	l->is_live = f.what == FOUND_NOTHING;
	return l->is_live ? 0 : push_found(L, &f);
}

// The VM ends.
static int
release(lua_State *L) {
	struct inbox *in = lua_touserdata(L, 1);
	skynet_free(in->late.block);
	guard_free(in->guard);
	in->guard = NULL;
	return 0;
}

// The inbox of the service, on the stack; the filter needs it as long as the VM lives.
static void
new_inbox(lua_State *L) {
	struct inbox *in = lua_newuserdatauv(L, sizeof(*in), 0);
	memset(in, 0, sizeof(*in));
	lua_getfield(L, LUA_REGISTRYINDEX, "skynet_context");
	in->ctx = lua_touserdata(L, -1);
	lua_pop(L, 1);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, release);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	in->guard = guard_new(skynet_now);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, (const void *)filter_event);
}

int
luaopen_skynet_gateinbox(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"receiver", lreceiver}, {"limit", llimit}, {"enter", lenter},
	    {"leave", lleave},       {"halt", lhalt},   {"route", lroute},
	    {"count", lcount},       {"take", ltake},   {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlibtable(L, functions);
	new_inbox(L);
	luaL_newmetatable(L, LINE_META);
	lua_pushvalue(L, -2);
	lua_pushvalue(L, -2);
	lua_pushcclosure(L, lleave, 2);
	lua_setfield(L, -2, "__gc");
	luaL_setfuncs(L, functions, 2);
	return 1;
}
