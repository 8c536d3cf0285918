// skynet.netpack: turns socket events into packages for a gate (net.md section 6).
//
// The queue is a userdata that owns unfinished packages (netpack_frame.h) and whole ones
// that were not popped yet; its finaliser frees both.
#include <lauxlib.h>
#include <lua.h>

#include <stdint.h>
#include <string.h>

#include "netpack_frame.h"
#include "skynet_malloc.h"
#include "skynet_socket.h"

#define QUEUE_META "skynet.netpack.queue"
#define FIRST_PACKAGES 16

enum { KIND_DATA = 1, KIND_MORE, KIND_ERROR, KIND_OPEN, KIND_CLOSE, KIND_INIT, KIND_WARNING };

struct package {
	int id;
	int size;
	char *data;
};

// A ring: `n` packages from `head` on.
struct queue {
	struct frame_table *frames;
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
queue_push(void *ud, int id, char *data, size_t size) {
	struct queue *q = ud;
	if (q->n == q->cap) {
		queue_grow(q);
	}
	q->ring[(q->head + q->n++) % q->cap] = (struct package){ id, (int)size, data };
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
filter_data(lua_State *L, struct skynet_socket_message *m) {
	char *buffer = m->buffer;
	struct queue *q = need_queue(L);
	size_t before = q->n;
	frame_feed(q->frames, m->id, buffer, (size_t)m->ud, queue_push, q);
	skynet_free(buffer);
	m->buffer = NULL;
	if (q->n == before) {
		return 1;
	}
	if (q->n > 1) {
		push_kind(L, KIND_MORE);
		return 2;
	}
	push_kind(L, KIND_DATA);
	return 2 + push_package(L, queue_pop(q));
}

// The connection has ended: nothing of it may be mistaken for a later one's.
static void
forget(lua_State *L, int id) {
	struct queue *q = to_queue(L);
	if (q != NULL && q->frames != NULL) {
		frame_drop(q->frames, id);
	}
}

static void
push_text(lua_State *L, struct skynet_socket_message *m, size_t size) {
	lua_pushlstring(L, (const char *)(m + 1), size - sizeof(*m));
}

static int
filter_event(lua_State *L, struct skynet_socket_message *m, size_t size) {
	switch (m->type) {
	case SKYNET_SOCKET_TYPE_DATA:
		return filter_data(L, m);
	case SKYNET_SOCKET_TYPE_CONNECT:
		push_kind(L, KIND_INIT);
		lua_pushinteger(L, m->id);
		push_text(L, m, size);
		lua_pushinteger(L, m->ud);
		return 5;
	case SKYNET_SOCKET_TYPE_CLOSE:
		forget(L, m->id);
		push_kind(L, KIND_CLOSE);
		lua_pushinteger(L, m->id);
		return 3;
	case SKYNET_SOCKET_TYPE_ACCEPT:
		push_kind(L, KIND_OPEN);
		lua_pushinteger(L, m->ud);
		push_text(L, m, size);
		return 4;
	case SKYNET_SOCKET_TYPE_ERROR:
		forget(L, m->id);
		push_kind(L, KIND_ERROR);
		lua_pushinteger(L, m->id);
		push_text(L, m, size);
		return 4;
	case SKYNET_SOCKET_TYPE_WARNING:
		push_kind(L, KIND_WARNING);
		lua_pushinteger(L, m->id);
		lua_pushinteger(L, m->ud);
		return 4;
	default:
		skynet_socket_dispose(m, size);
		return 1;
	}
}

// filter(queue, msg, size) -> queue, kind, ...
static int
lfilter(lua_State *L) {
	struct skynet_socket_message *m = lua_touserdata(L, 2);
	lua_Integer size = luaL_checkinteger(L, 3);
	luaL_argcheck(L, m != NULL, 2, "need a socket message");
	luaL_argcheck(L, size >= (lua_Integer)sizeof(*m), 3, "not a socket message");
	lua_settop(L, 1);
	return filter_event(L, m, (size_t)size);
}

//----------------------------------------------------------------- functions

// pop(queue) -> fd, msg, sz, or nothing
static int
lpop(lua_State *L) {
	struct queue *q = to_queue(L);
	if (q == NULL || q->n == 0) {
		return 0;
	}
	return push_package(L, queue_pop(q));
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
	lua_pushlstring(L, data, (size_t)n);
	skynet_free(data);
	return 1;
}

int
luaopen_skynet_netpack(lua_State *L) {
	static const luaL_Reg functions[] = {
		{ "pop", lpop },
		{ "pack", lpack },
		{ "clear", lclear },
		{ "tostring", ltostring },
		{ NULL, NULL },
	};
	static const luaL_Reg meta[] = {
		{ "__gc", lqueue_gc },
		{ NULL, NULL },
	};
	luaL_checkversion(L);
	if (luaL_newmetatable(L, QUEUE_META)) {
		luaL_setfuncs(L, meta, 0);
	}
	lua_pop(L, 1);
	luaL_newlib(L, functions);
	// In the order of the KIND_ constants: their upvalues.
	lua_pushliteral(L, "data");
	lua_pushliteral(L, "more");
	lua_pushliteral(L, "error");
	lua_pushliteral(L, "open");
	lua_pushliteral(L, "close");
	lua_pushliteral(L, "init");
	lua_pushliteral(L, "warning");
	lua_pushcclosure(L, lfilter, KIND_WARNING);
	lua_setfield(L, -2, "filter");
	return 1;
}
