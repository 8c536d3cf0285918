// skynet.netpack: turns socket events into packages for a gate (net.md section 6).
//
// The queue is a userdata that owns unfinished packages (netpack_frame.h) and whole ones
// that were not popped yet; its finaliser frees both. What goes beyond the well-known
// functions serves snax.gateserver: limits (netpack_guard.h); for a gate with TLS, bytes
// that are fed to the queue after they were decrypted; and routes, on which packages go
// to another service without entering Lua.
#include <lauxlib.h>
#include <lua.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lua-guard.h"
#include "lua-owned.h"
#include "lua-socket-lost.h"
#include "lua-task.h"
#include "netpack_address.h"
#include "netpack_frame.h"
#include "netpack_guard.h"
#include "skynet.h"
#include "skynet_malloc.h"
#include "skynet_server.h"
#include "skynet_socket.h"

#define QUEUE_META "skynet.netpack.queue"
#define FIRST_PACKAGES 16
// Beside the events of the socket core: packages wait, and nobody is about to dispatch them.
#define EVENT_MORE 0
// The route of a connection of which nothing more is wanted.
#define NOWHERE UINT64_MAX

// Upvalues of filter and feed. The last six come only to who asked for it.
enum {
	KIND_DATA = 1,
	KIND_MORE,
	KIND_ERROR,
	KIND_OPEN,
	KIND_CLOSE,
	KIND_INIT,
	KIND_WARNING,
	KIND_SLOW, // a limit is exceeded: fd, 1/100 s to wait, why
	KIND_HUGE, // a package is too long: fd, its length
	KIND_RAW,  // bytes as they came: fd, block, size
	KIND_SEND, // bytes to be sent, of a relay: fd, block, size
	KIND_LOST, // the service that packages were routed to is gone: fd, service
	KIND_LAG,  // too much waits for that service: fd, service
	KIND_LAST = KIND_LAG,
};

// What there is to tell of a read besides its packages; kind 0 = nothing. The numbers
// are what follows fd.
struct outcome {
	int kind;
	int id;
	int64_t first;
	int64_t second;
};

struct package {
	int id;
	int size;
	char *data;
};

// A ring: `n` packages from `head` on.
struct queue {
	struct frame_table *frames;
	struct guard *guard; // NULL = no limits
	bool is_raw;         // bytes are handed out as they come
	size_t agent_limit;  // bytes that may wait for a service with a route, 0 = no limit
	size_t unwanted;     // connections whose route is NOWHERE
	struct outcome late; // of a read whose packages went their route
	struct package *ring;
	size_t cap;
	size_t head;
	size_t n;
};

int luaopen_skynet_netpack(lua_State *L);

//--------------------------------------------------------------------- queue

static void
queue_grow(struct queue *q) {
	size_t cap = q->cap == 0 ? FIRST_PACKAGES : q->cap * 2;
	struct package *ring = skynet_malloc(cap * sizeof(ring[0]));
	for (size_t i = 0; i < q->n; i++) {
		ring[i] = q->ring[(q->head + i) % q->cap];
	}
	skynet_free(q->ring);
	q->ring = ring;
	q->cap = cap;
	q->head = 0;
}

static void
queue_push(struct queue *q, int id, char *data, size_t size) {
	if (q->n == q->cap) {
		queue_grow(q);
	}
	q->ring[(q->head + q->n++) % q->cap] = (struct package){id, (int)size, data};
}

static struct package
queue_pop(struct queue *q) {
	struct package p = q->ring[q->head];
	q->head = (q->head + 1) % q->cap;
	q->n--;
	return p;
}

static void
queue_clear(struct queue *q) {
	while (q->n > 0) {
		skynet_free(queue_pop(q).data);
	}
	skynet_free(q->ring);
	q->ring = NULL;
	q->cap = q->head = 0;
	if (q->frames != NULL) {
		frame_clear(q->frames);
	}
}

static int
lqueue_gc(lua_State *L) {
	struct queue *q = luaL_checkudata(L, 1, QUEUE_META);
	queue_clear(q);
	if (q->frames != NULL) {
		frame_table_free(q->frames);
		q->frames = NULL;
	}
	if (q->guard != NULL) {
		guard_free(q->guard);
		q->guard = NULL;
	}
	return 0;
}

static struct queue *
to_queue(lua_State *L) {
	return lua_isnoneornil(L, 1) ? NULL : luaL_checkudata(L, 1, QUEUE_META);
}

// The queue in slot 1, made now if there is none.
static struct queue *
need_queue(lua_State *L) {
	struct queue *q = to_queue(L);
	if (q == NULL) {
		q = lua_newuserdatauv(L, sizeof(*q), 0);
		memset(q, 0, sizeof(*q));
		luaL_setmetatable(L, QUEUE_META);
		lua_replace(L, 1);
	}
	if (q->frames == NULL) {
		q->frames = frame_table_new();
	}
	return q;
}

static struct queue *
check_guarded(lua_State *L) {
	struct queue *q = luaL_checkudata(L, 1, QUEUE_META);
	luaL_argcheck(L, q->guard != NULL, 1, "not guarded");
	return q;
}

//-------------------------------------------------------------------- filter

static void
push_kind(lua_State *L, int kind) {
	lua_pushvalue(L, lua_upvalueindex(kind));
}

static int
push_package(lua_State *L, struct package p) {
	lua_pushinteger(L, p.id);
	lua_pushlightuserdata(L, p.data);
	lua_pushinteger(L, p.size);
	return 3;
}

static int
push_block(lua_State *L, int kind, int id, void *block, int size) {
	push_kind(L, kind);
	lua_pushinteger(L, id);
	lua_pushlightuserdata(L, block);
	lua_pushinteger(L, size);
	return 4;
}

static int
push_outcome(lua_State *L, struct outcome o) {
	push_kind(L, o.kind);
	lua_pushinteger(L, o.id);
	lua_pushinteger(L, o.first);
	lua_pushinteger(L, o.second);
	return 4;
}

// The packages of one read, on their way.
struct delivery {
	struct queue *q;
	size_t n;
	struct skynet_context *ctx; // the rest is for a route
	uint32_t service;
	uint32_t source;
	bool is_lost;
};

// Cuts the block, which it frees.
static struct outcome
cut(struct delivery *d, int id, char *block, size_t size, frame_sink sink) {
	struct queue *q = d->q;
	enum guard_reason why = GUARD_NONE;
	size_t refused = frame_feed(q->frames, id, block, size, sink, d);
	skynet_free(block);
	if (refused > 0) {
		return (struct outcome){KIND_HUGE, id, (int64_t)refused, 0};
	}
	int64_t wait = q->guard != NULL ? guard_count(q->guard, id, d->n, size, &why) : 0;
	if (wait > 0) {
		return (struct outcome){KIND_SLOW, id, wait, why};
	}
	return (struct outcome){0};
}

static void
collect(void *ud, int id, char *data, size_t size) {
	struct delivery *d = ud;
	queue_push(d->q, id, data, size);
	d->n++;
}

static bool
is_unwanted(const struct queue *q, int id) {
	return q->unwanted > 0 && guard_note(q->guard, id) == NOWHERE;
}

static void
set_route(struct queue *q, int id, uint64_t route) {
	q->unwanted -= is_unwanted(q, id);
	guard_set_note(q->guard, id, route);
	q->unwanted += guard_note(q->guard, id) == NOWHERE;
}

// Cuts the block, which it frees, and pushes what came of it.
static int
feed_block(lua_State *L, struct queue *q, int id, char *block, size_t size) {
	if (is_unwanted(q, id)) {
		skynet_free(block);
		return 0;
	}
	struct delivery d = {.q = q};
	struct outcome o = cut(&d, id, block, size, collect);
	if (o.kind != 0) {
		return push_outcome(L, o);
	}
	if (d.n == 0) {
		return 0;
	}
	socket_block_room(L);
	if (q->n > 1) {
		push_kind(L, KIND_MORE);
		return 1;
	}
	push_kind(L, KIND_DATA);
	return 1 + push_package(L, queue_pop(q));
}

static int
filter_data(lua_State *L, struct queue *q, struct skynet_socket_message *m) {
	char *buffer = m->buffer;
	if (buffer == NULL) {
		// The packages went their route: only the rest is to be told.
		return q->late.kind == 0 ? 0 : push_outcome(L, q->late);
	}
	if (q->is_raw) {
		socket_block_room(L);
		m->buffer = NULL;
		return push_block(L, KIND_RAW, m->id, buffer, m->ud);
	}
	m->buffer = NULL;
	return feed_block(L, q, m->id, buffer, (size_t)m->ud);
}

// The connection has ended: nothing of it may be mistaken for a later one's. True if it
// ended within a package.
static bool
forget(struct queue *q, int id) {
	bool is_cut = q != NULL && q->frames != NULL && frame_drop(q->frames, id);
	if (q != NULL && q->guard != NULL) {
		q->unwanted -= is_unwanted(q, id);
		guard_leave(q->guard, id);
	}
	return is_cut;
}

static void
welcome(struct queue *q, const struct skynet_socket_message *m, size_t size) {
	if (q != NULL && q->guard != NULL) {
		guard_enter(q->guard, m->ud, (const char *)(m + 1), size - sizeof(*m));
	}
}

static void
push_text(lua_State *L, struct skynet_socket_message *m, size_t size) {
	lua_pushlstring(L, (const char *)(m + 1), size - sizeof(*m));
}

// Pushes what there is to tell of an event. q may be NULL, unless it is of data.
static int
filter_event(lua_State *L, struct queue *q, struct skynet_socket_message *m, size_t size) {
	bool is_cut;
	switch (m->type) {
	case EVENT_MORE:
		push_kind(L, KIND_MORE);
		return 1;
	case SKYNET_SOCKET_TYPE_DATA:
		return filter_data(L, q, m);
	case SKYNET_SOCKET_TYPE_CONNECT:
		push_kind(L, KIND_INIT);
		lua_pushinteger(L, m->id);
		push_text(L, m, size);
		lua_pushinteger(L, m->ud);
		return 4;
	case SKYNET_SOCKET_TYPE_CLOSE:
		is_cut = forget(q, m->id);
		push_kind(L, KIND_CLOSE);
		lua_pushinteger(L, m->id);
		if (is_cut) {
			lua_pushboolean(L, true);
		}
		return is_cut ? 3 : 2;
	case SKYNET_SOCKET_TYPE_ACCEPT:
		welcome(q, m, size);
		push_kind(L, KIND_OPEN);
		lua_pushinteger(L, m->ud);
		push_text(L, m, size);
		return 3;
	case SKYNET_SOCKET_TYPE_ERROR:
		forget(q, m->id);
		push_kind(L, KIND_ERROR);
		lua_pushinteger(L, m->id);
		push_text(L, m, size);
		return 3;
	case SKYNET_SOCKET_TYPE_WARNING:
		push_kind(L, KIND_WARNING);
		lua_pushinteger(L, m->id);
		lua_pushinteger(L, m->ud);
		return 3;
	case SKYNET_SOCKET_TYPE_SEND:
		socket_block_room(L);
		push_block(L, KIND_SEND, m->id, m->buffer, m->ud);
		m->buffer = NULL;
		return 4;
	default:
		skynet_free(m->buffer);
		m->buffer = NULL;
		return 0;
	}
}

// The message at `index`, with its size behind it.
static struct skynet_socket_message *
check_message(lua_State *L, int index, size_t *size) {
	struct skynet_socket_message *m = lua_touserdata(L, index);
	lua_Integer n = luaL_checkinteger(L, index + 1);
	luaL_argcheck(L, m != NULL, index, "need a socket message");
	luaL_argcheck(L, n >= (lua_Integer)sizeof(*m), index + 1, "not a socket message");
	*size = (size_t)n;
	return m;
}

// Lua: (queue or nil) -> queue
static int
open_queue(lua_State *L) {
	need_queue(L);
	lua_settop(L, 1);
	return 1;
}

// The queue in slot 1 for a message of data, which is freed if there is no memory for one.
static struct queue *
queue_for(lua_State *L, struct skynet_socket_message *m) {
	if (lua_isnoneornil(L, 1)) {
		lua_pushcfunction(L, open_queue);
		lua_pushvalue(L, 1);
		if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
			skynet_free(m->buffer);
			m->buffer = NULL;
			lua_error(L);
		}
		lua_replace(L, 1);
	}
	return need_queue(L);
}

// filter(queue, msg, size) -> queue, kind, ...
static int
lfilter(lua_State *L) {
	size_t size;
	struct skynet_socket_message *m = check_message(L, 2, &size);
	lua_settop(L, 1);
	struct queue *q = m->type == SKYNET_SOCKET_TYPE_DATA ? queue_for(L, m) : to_queue(L);
	return 1 + filter_event(L, q, m, size);
}

// (msg, size) -> kind, ...: filter for the queue of receiver
static int
lreceive(lua_State *L) {
	size_t size;
	struct skynet_socket_message *m = check_message(L, 1, &size);
	return filter_event(L, lua_touserdata(L, lua_upvalueindex(KIND_LAST + 1)), m, size);
}

// receiver(queue) -> a function that is filter with that queue, of which it tells nothing
static int
lreceiver(lua_State *L) {
	check_guarded(L);
	luaL_checkstack(L, KIND_LAST + 1, NULL);
	task_set_lost(task_set_filter(L, PTYPE_SOCKET, NULL, NULL), PTYPE_SOCKET, socket_event_lost);
	for (int i = 1; i <= KIND_LAST; i++) {
		push_kind(L, i);
	}
	lua_pushvalue(L, 1);
	lua_pushcclosure(L, lreceive, KIND_LAST + 1);
	return 1;
}

//-------------------------------------------------------------------- routes

static void
send_on(void *ud, int id, char *data, size_t size) {
	struct delivery *d = ud;
	int type = PTYPE_CLIENT | PTYPE_TAG_DONTCOPY;
	d->n++;
	d->is_lost |= skynet_send(d->ctx, d->source, d->service, type, id, data, size) < 0;
}

// Whether so much waits for the service that what it gets should not be read.
static bool
is_behind(const struct queue *q, uint32_t service) {
	return q->agent_limit > 0 && skynet_context_waiting(service) > q->agent_limit;
}

// What came of a connection with a route takes it, if nothing waits before it. The
// filter of the service, see lua-task.h: true when there is nothing to tell Lua.
static bool
route_data(void *ud, struct skynet_context *ctx, const void *msg, size_t size) {
	struct queue *q = ud;
	struct skynet_socket_message *m = (void *)(uintptr_t)msg;
	if (size < sizeof(*m) || m->type != SKYNET_SOCKET_TYPE_DATA || q->is_raw || q->n > 0) {
		return false;
	}
	uint64_t route = guard_note(q->guard, m->id);
	if (route == 0 || m->buffer == NULL) {
		return false;
	}
	if (route == NOWHERE) {
		skynet_free(m->buffer);
		m->buffer = NULL;
		q->late.kind = 0;
		return true;
	}
	struct delivery d = {.q = q, .ctx = ctx};
	d.service = (uint32_t)(route >> 32);
	d.source = (uint32_t)route;
	char *block = m->buffer;
	m->buffer = NULL;
	q->late = cut(&d, m->id, block, (size_t)m->ud, send_on);
	if (d.is_lost) {
		guard_set_note(q->guard, m->id, 0);
		q->late = (struct outcome){KIND_LOST, m->id, d.service, 0};
	} else if (q->late.kind == 0 && d.n > 0 && is_behind(q, d.service)) {
		q->late = (struct outcome){KIND_LAG, m->id, d.service, 0};
	}
	return q->late.kind == 0;
}

// route(queue, fd [, service [, source]]): from now on packages of the connection go to
// the service at once, as messages of class client with session fd; without a service no
// more. No effect on an unknown connection.
static int
lroute(lua_State *L) {
	struct queue *q = check_guarded(L);
	int id = (int)luaL_checkinteger(L, 2);
	uint32_t service = guard_opt_handle(L, 3);
	uint32_t source = guard_opt_handle(L, 4);
	if (service != 0) {
		// The filter needs the queue as long as the VM lives.
		lua_pushvalue(L, 1);
		lua_rawsetp(L, LUA_REGISTRYINDEX, (const void *)lroute);
		task_set_filter(L, PTYPE_SOCKET, route_data, q);
	}
	set_route(q, id, (uint64_t)service << 32 | source);
	return 0;
}

// discard(queue, fd): of a connection that is closed nothing more is wanted. What there is
// of it is freed, and what comes until its end is not even cut.
static int
ldiscard(lua_State *L) {
	struct queue *q = check_guarded(L);
	set_route(q, (int)luaL_checkinteger(L, 2), NOWHERE);
	return 0;
}

// waiting(service: handle or name) -> bytes of what waits for it
static int
lwaiting(lua_State *L) {
	uint32_t service;
	if (lua_type(L, 1) == LUA_TSTRING) {
		lua_getfield(L, LUA_REGISTRYINDEX, "skynet_context");
		service = skynet_queryname(lua_touserdata(L, -1), lua_tostring(L, 1));
	} else {
		service = guard_opt_handle(L, 1);
	}
	lua_pushinteger(L, (lua_Integer)skynet_context_waiting(service));
	return 1;
}

//----------------------------------------------------------------- functions

// pop(queue) -> fd, msg, sz, or nothing
static int
lpop(lua_State *L) {
	struct queue *q = to_queue(L);
	if (q != NULL && q->n > 0) {
		socket_block_room(L);
	}
	while (q != NULL && q->n > 0) {
		struct package p = queue_pop(q);
		if (!is_unwanted(q, p.id)) {
			return push_package(L, p);
		}
		skynet_free(p.data);
	}
	return 0;
}

// Lua: (queue, f, ...): f has returned or, for want of memory, not.
static int
dispatched(lua_State *L, int status, lua_KContext ctx) {
	static const struct skynet_socket_message more = {.type = EVENT_MORE};
	const struct queue *q = lua_touserdata(L, 1);
	(void)ctx;
	if (status == LUA_OK || status == LUA_YIELD) {
		return 0;
	}
	if (q->n > 0) {
		task_deliver_again(task_scheduler(L), PTYPE_SOCKET, &more, sizeof(more));
	}
	return lua_error(L);
}

// dispatch(queue, f): calls f if there are packages, and later once more if it raises and there
// still are some. Yields with f.
static int
ldispatch(lua_State *L) {
	const struct queue *q = check_guarded(L);
	if (q->n == 0) {
		return 0;
	}
	lua_settop(L, 2);
	return dispatched(L, lua_pcallk(L, 0, 0, 0, 0, dispatched), 0);
}

// room(): the calls up to who takes a package, which is handed over next, need no memory. Raises.
static int
lroom(lua_State *L) {
	socket_block_room(L);
	return 0;
}

// clear(queue): frees everything it holds; it may be used again
static int
lclear(lua_State *L) {
	struct queue *q = to_queue(L);
	if (q != NULL) {
		queue_clear(q);
	}
	return 0;
}

// A string, or pointer and size, at `index`.
static const char *
check_bytes(lua_State *L, int index, size_t *size) {
	if (!lua_isuserdata(L, index)) {
		return luaL_checklstring(L, index, size);
	}
	lua_Integer n = luaL_checkinteger(L, index + 1);
	luaL_argcheck(L, n >= 0, index + 1, "size out of range");
	*size = (size_t)n;
	return lua_touserdata(L, index);
}

// pack(string) or pack(ptr, size) -> ptr, size + 2
static int
lpack(lua_State *L) {
	size_t n;
	const char *bytes = check_bytes(L, 1, &n);
	if (n > FRAME_MAX) {
		return luaL_error(L, "Invalid size (too long) of data : %I", (LUAI_UACINT)n);
	}
	uint8_t *block = skynet_malloc(n + FRAME_HEADER);
	block[0] = (uint8_t)(n >> 8);
	block[1] = (uint8_t)(n & 0xff);
	if (n > 0) {
		memcpy(block + FRAME_HEADER, bytes, n);
	}
	lua_pushlightuserdata(L, block);
	lua_pushinteger(L, (lua_Integer)n + FRAME_HEADER);
	return 2;
}

// tostring(ptr, size) -> string; frees ptr
static int
ltostring(lua_State *L) {
	char *data = lua_touserdata(L, 1);
	lua_Integer n = luaL_checkinteger(L, 2);
	if (data == NULL) {
		lua_pushliteral(L, "");
		return 1;
	}
	luaL_argcheck(L, n >= 0, 2, "size out of range");
	lua_owned_string(L, data, (size_t)n);
	return 1;
}

//------------------------------------------------------------------- limits

static uint32_t
time_field(lua_State *L, int index, const char *key) {
	int64_t t = guard_limit_field(L, index, key);
	return t > UINT32_MAX ? UINT32_MAX : (uint32_t)t;
}

// guard(queue or nil, limits, local_limits) -> queue. Fields of both: [address_]package_rate,
// package_burst, byte_rate, byte_burst; the second is for peers on this machine. Fields of
// the first alone: maxpackage, first_timeout, idle_timeout (1/100 s), agent_limit (bytes),
// raw (boolean). What is missing is without limit. From now on the queue knows who connects.
static int
lguard(lua_State *L) {
	struct guard_limits limits;
	struct guard_limits local;
	guard_read_limits(L, 2, &limits);
	guard_read_limits(L, 3, &local);
	uint32_t first = time_field(L, 2, "first_timeout");
	uint32_t idle = time_field(L, 2, "idle_timeout");
	int64_t max = guard_limit_field(L, 2, "maxpackage");
	size_t agent_limit = (size_t)guard_limit_field(L, 2, "agent_limit");
	lua_getfield(L, 2, "raw");
	bool is_raw = lua_toboolean(L, -1);
	lua_settop(L, 1);
	struct queue *q = need_queue(L);
	if (q->guard == NULL) {
		q->guard = guard_new(skynet_now);
	}
	guard_set(q->guard, &limits, &local, first, idle);
	frame_limit(q->frames, max > 0 && max < FRAME_MAX ? (size_t)max : FRAME_MAX);
	q->is_raw = is_raw;
	q->agent_limit = agent_limit;
	return 1;
}

// wait(queue, fd) -> 1/100 s until a slow connection may be read again, why
static int
lwait(lua_State *L) {
	struct queue *q = check_guarded(L);
	enum guard_reason why;
	lua_pushinteger(L, guard_count(q->guard, (int)luaL_checkinteger(L, 2), 0, 0, &why));
	lua_pushinteger(L, why);
	return 2;
}

// A list on its way into a table: fd, has_spoken, fd, ...
struct silent {
	lua_State *L;
	lua_Integer n;
	lua_Integer room;
};

// Collects in the table on top of the stack, as far as there is room.
static bool
on_expired(void *ud, int id, bool has_spoken) {
	struct silent *s = ud;
	if (s->n == s->room) {
		return false;
	}
	lua_pushinteger(s->L, id);
	lua_rawseti(s->L, -2, ++s->n);
	lua_pushboolean(s->L, has_spoken);
	lua_rawseti(s->L, -2, ++s->n);
	return true;
}

// sweep(queue) -> 1/100 s until the next look, -1 = none is needed; and a list of who was
// silent for too long: fd, whether it has sent a package, fd, ...
static int
lsweep(lua_State *L) {
	struct queue *q = check_guarded(L);
	// Room for all of them comes first: who was told is not told again.
	struct silent s = {L, 0, 2 * (lua_Integer)guard_silent(q->guard)};
	lua_createtable(L, (int)s.room, 0);
	lua_pushinteger(L, guard_sweep(q->guard, on_expired, &s));
	lua_insert(L, -2);
	return 2;
}

// brief(address) -> what to keep of "ip:port": an integer for IPv4, which needs no memory, or
// the same string
static int
lbrief(lua_State *L) {
	size_t n;
	const char *text = luaL_checklstring(L, 1, &n);
	int64_t brief = address_to_brief(text, n);
	lua_settop(L, 1);
	if (brief >= 0) {
		lua_pushinteger(L, brief);
	}
	return 1;
}

// address(what brief gave) -> "ip:port"
static int
laddress(lua_State *L) {
	char text[BRIEF_TEXT_SIZE];
	if (lua_type(L, 1) == LUA_TSTRING) {
		lua_settop(L, 1);
	} else {
		lua_pushlstring(L, text, address_from_brief(luaL_checkinteger(L, 1), text));
	}
	return 1;
}

// feed(queue, fd, block, size) -> kind, ... as filter without the queue. Takes the block.
static int
lfeed(lua_State *L) {
	struct queue *q = luaL_checkudata(L, 1, QUEUE_META);
	int id = (int)luaL_checkinteger(L, 2);
	luaL_checktype(L, 3, LUA_TLIGHTUSERDATA);
	lua_Integer size = luaL_checkinteger(L, 4);
	luaL_argcheck(L, size >= 0, 4, "size out of range");
	luaL_argcheck(L, q->frames != NULL, 1, "not guarded");
	return feed_block(L, q, id, lua_touserdata(L, 3), (size_t)size);
}

// Adds a function that says what came in the words of KIND_.
static void
add_with_kinds(lua_State *L, const char *name, lua_CFunction f) {
	static const char *const kinds[] = {"data", "more", "error", "open", "close", "init", "warning",
	                                    "slow", "huge", "raw",   "send", "lost",  "lag"};
	for (int i = 0; i < KIND_LAST; i++) {
		lua_pushstring(L, kinds[i]);
	}
	lua_pushcclosure(L, f, KIND_LAST);
	lua_setfield(L, -2, name);
}

int
luaopen_skynet_netpack(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"pop", lpop},           {"pack", lpack},   {"clear", lclear},     {"tostring", ltostring},
	    {"guard", lguard},       {"wait", lwait},   {"sweep", lsweep},     {"brief", lbrief},
	    {"address", laddress},   {"route", lroute}, {"waiting", lwaiting}, {"discard", ldiscard},
	    {"dispatch", ldispatch}, {"room", lroom},   {NULL, NULL},
	};
	static const luaL_Reg meta[] = {
	    {"__gc", lqueue_gc},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	if (luaL_newmetatable(L, QUEUE_META)) {
		luaL_setfuncs(L, meta, 0);
	}
	lua_pop(L, 1);
	luaL_newlib(L, functions);
	add_with_kinds(L, "filter", lfilter);
	add_with_kinds(L, "feed", lfeed);
	add_with_kinds(L, "receiver", lreceiver);
	return 1;
}
