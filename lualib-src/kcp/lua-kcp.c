/*
 * kcp.core: KCP conversations (kcp_arq.h) as userdata that send their datagrams
 * through a UDP socket of the service, or through a function. Used by skynet.kcp,
 * which doc/reference/kcp.md describes. A conversation frees itself.
 *
 * Times are milliseconds of the monotonic clock, unless a caller passes its own:
 * `now` below, an integer of which the low 32 bits count.
 */
#include "kcp_arq.h"
#include "lshare.h"
#include "../lua-nomem.h"
#include "platform.h"
#include "skynet.h"
#include "skynet_socket.h"

#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <string.h>

#define METATABLE "kcp.core"
#define ADDRESS_V4 7
#define ADDRESS_V6 19
/* From the function that takes a block out to who gets it, and what that calls. */
#define TAKE_CALLS 8
#define TAKE_SLOTS 100

struct conversation {
	struct kcp *kcp; /* NULL once closed */
	struct skynet_context *ctx;
	int socket;
	char address[ADDRESS_V6]; /* begins with 0: the default peer */
	lua_State *L; /* during a flush with an output function: its stack has it at `index` */
	int index;
	int status; /* of that function */
};

static uint32_t
now_ms(lua_State *L, int index) {
	if (lua_isnoneornil(L, index)) {
		return (uint32_t)(platform_monotonic_ns() / 1000000);
	}
	return (uint32_t)luaL_checkinteger(L, index);
}

static struct conversation *
check(lua_State *L) {
	struct conversation *c = luaL_checkudata(L, 1, METATABLE);

	luaL_argcheck(L, c->kcp != NULL, 1, "the conversation is closed");
	return c;
}

/*---------------------------------------------------------------------- output */

static void
send_udp(void *ud, const char *data, size_t size) {
	struct conversation *c = ud;
	struct socket_sendbuffer b = {
	    .id = c->socket, .type = SOCKET_BUFFER_RAWPOINTER, .buffer = data, .sz = size};

	/* A datagram that cannot be sent is one that was lost. */
	if (c->address[0] == 0) {
		skynet_socket_sendbuffer(c->ctx, &b);
	} else {
		skynet_socket_udp_sendbuffer(c->ctx, c->address, &b);
	}
}

struct datagram {
	const char *data;
	size_t size;
};

/* Lua, protected: (function, datagram) */
static int
call_function(lua_State *L) {
	const struct datagram *d = lua_touserdata(L, 2);

	lua_pushlstring(L, d->data, d->size);
	lua_replace(L, 2);
	lua_call(L, 1, 0);
	return 0;
}

/* An error, of the function or on the way to it, waits until the flush is over. */
static void
send_function(void *ud, const char *data, size_t size) {
	struct conversation *c = ud;
	struct datagram d = {data, size};

	if (c->L == NULL || c->status != LUA_OK) {
		return;
	}
	lua_pushcfunction(c->L, call_function);
	lua_pushvalue(c->L, c->index);
	lua_pushlightuserdata(c->L, &d);
	c->status = lua_pcall(c->L, 2, 0, 0);
}

/*------------------------------------------------------------------------- new */

static uint32_t
number_field(lua_State *L, const char *name) {
	lua_getfield(L, 1, name);
	lua_Integer n = luaL_optinteger(L, -1, 0);
	lua_pop(L, 1);
	if (n < 0 || n > UINT32_MAX) {
		luaL_error(L, "kcp: %s must be from 0 to 2^32-1, not %I", name, n);
	}
	return (uint32_t)n;
}

static bool
boolean_field(lua_State *L, const char *name) {
	lua_getfield(L, 1, name);
	bool b = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return b;
}

static struct kcp_config
read_config(lua_State *L) {
	uint32_t nodelay = number_field(L, "nodelay");

	return (struct kcp_config){
	    .conv = number_field(L, "conv"),
	    .mtu = number_field(L, "mtu"),
	    .send_window = number_field(L, "send_window"),
	    .receive_window = number_field(L, "receive_window"),
	    .interval = number_field(L, "interval"),
	    .resend = number_field(L, "resend"),
	    .dead_link = number_field(L, "dead_link"),
	    .send_limit = number_field(L, "send_limit"),
	    .nodelay = nodelay > INT_MAX ? INT_MAX : (int)nodelay,
	    .no_congestion = boolean_field(L, "no_congestion"),
	    .stream = boolean_field(L, "stream"),
	};
}

static void
read_address(lua_State *L, struct conversation *c) {
	size_t size;
	const char *address = luaL_checklstring(L, 3, &size);
	bool is_blob =
	    (size == ADDRESS_V4 && address[0] == 1) || (size == ADDRESS_V6 && address[0] == 2);

	luaL_argcheck(L, is_blob, 3, "not the address of a UDP peer");
	memcpy(c->address, address, size);
}

static void
read_target(lua_State *L, struct conversation *c) {
	if (lua_isfunction(L, 2)) {
		return;
	}
	c->socket = (int)luaL_checkinteger(L, 2);
	if (!lua_isnoneornil(L, 3)) {
		read_address(L, c);
	}
	lua_getfield(L, LUA_REGISTRYINDEX, "skynet_context");
	c->ctx = lua_touserdata(L, -1);
	lua_pop(L, 1);
	luaL_argcheck(L, c->ctx != NULL, 2, "a socket needs a service");
}

/* new(config, udp id [, address: else the default peer]) | new(config, function(datagram)) */
static int
lnew(lua_State *L) {
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 3);
	struct kcp_config config = read_config(L);
	struct conversation *c = lua_newuserdatauv(L, sizeof(*c), 1);
	memset(c, 0, sizeof(*c));
	luaL_setmetatable(L, METATABLE);
	read_target(L, c);
	bool has_function = lua_isfunction(L, 2);
	if (has_function) {
		lua_pushvalue(L, 2);
		lua_setiuservalue(L, -2, 1);
	}
	c->kcp = kcp_new(&config, has_function ? send_function : send_udp, c);
	if (c->kcp == NULL) {
		return luaL_error(L,
		                  "kcp: out of range: mtu %d to %d, windows 1 to %d, interval %d to %d ms, "
		                  "nodelay 0 to 2",
		                  KCP_MTU_MIN, KCP_MTU_MAX, KCP_WINDOW_MAX, KCP_INTERVAL_MIN,
		                  KCP_INTERVAL_MAX);
	}
	return 1;
}

static int
lclose(lua_State *L) {
	struct conversation *c = luaL_checkudata(L, 1, METATABLE);

	kcp_free(c->kcp);
	c->kcp = NULL;
	return 0;
}

/*--------------------------------------------------------------------- messages */

static const char *
name_of(enum kcp_result r) {
	switch (r) {
	case KCP_TOO_LARGE:
		return "too large";
	case KCP_FULL:
		return "full";
	case KCP_FOREIGN:
		return "foreign";
	default:
		return "malformed";
	}
}

static int
result(lua_State *L, enum kcp_result r) {
	if (r == KCP_OK) {
		lua_pushboolean(L, 1);
		return 1;
	}
	lua_pushnil(L);
	lua_pushstring(L, name_of(r));
	return 2;
}

/* send(text) | send(pointer, size) -> true | nil, "full" | "too large"; lends */
static int
lsend(lua_State *L) {
	struct conversation *c = check(L);
	size_t size;
	const char *data;

	if (lua_islightuserdata(L, 2)) {
		lua_Integer n = luaL_checkinteger(L, 3);
		luaL_argcheck(L, n > 0, 3, "the message is empty");
		data = lua_touserdata(L, 2);
		size = (size_t)n;
	} else {
		data = luaL_checklstring(L, 2, &size);
		luaL_argcheck(L, size > 0, 2, "the message is empty");
	}
	return result(L, kcp_send(c->kcp, data, size));
}

/* input(datagram [, now]) -> true | nil, "foreign" | "malformed" */
static int
linput(lua_State *L) {
	struct conversation *c = check(L);
	size_t size;
	const char *data = luaL_checklstring(L, 2, &size);

	return result(L, kcp_input(c->kcp, now_ms(L, 3), data, size));
}

/* receive() -> text | nil */
static int
lreceive(lua_State *L) {
	struct conversation *c = check(L);
	ptrdiff_t size = kcp_peek(c->kcp);
	luaL_Buffer b;

	if (size < 0) {
		return 0;
	}
	char *out = luaL_buffinitsize(L, &b, (size_t)size);
	kcp_copy(c->kcp, out);
	luaL_pushresultsize(&b, (size_t)size);
	/* Not before there is the string: what was acknowledged does not come again. */
	kcp_drop(c->kcp);
	return 1;
}

/* take() -> block, size | nil; the caller owns the block (skynet_free) */
static int
ltake(lua_State *L) {
	struct conversation *c = check(L);
	ptrdiff_t size = kcp_peek(c->kcp);

	if (size < 0) {
		return 0;
	}
	if (!lua_checkroom(L, TAKE_CALLS, TAKE_SLOTS)) {
		return lua_nomem(L);
	}
	char *out = skynet_malloc((size_t)size);
	kcp_receive(c->kcp, out);
	lua_pushlightuserdata(L, out);
	lua_pushinteger(L, size);
	return 2;
}

/*------------------------------------------------------------------------- time */

/* flush([now]); raises what the output function raised */
static int
lflush(lua_State *L) {
	struct conversation *c = check(L);
	uint32_t now = now_ms(L, 2);

	luaL_checkstack(L, 4, "kcp output");
	lua_getiuservalue(L, 1, 1);
	c->L = L;
	c->index = lua_gettop(L);
	c->status = LUA_OK;
	kcp_flush(c->kcp, now);
	c->L = NULL;
	return c->status == LUA_OK ? 0 : lua_error(L);
}

/* wait([now]) -> ms until flush is due | nil = nothing to do */
static int
lwait(lua_State *L) {
	struct conversation *c = check(L);
	uint32_t wait = kcp_wait(c->kcp, now_ms(L, 2));

	if (wait == UINT32_MAX) {
		return 0;
	}
	lua_pushinteger(L, wait);
	return 1;
}

static int
lprobe(lua_State *L) {
	kcp_probe(check(L)->kcp);
	return 0;
}

static int
lis_dead(lua_State *L) {
	lua_pushboolean(L, kcp_is_dead(check(L)->kcp));
	return 1;
}

/* stats() -> table; fields as in struct kcp_stats */
static int
lstats(lua_State *L) {
	struct kcp_stats s;

	kcp_stats(check(L)->kcp, &s);
	const struct {
		const char *name;
		size_t value;
	} field[] = {
	    {"send_bytes", s.send_bytes},
	    {"send_segments", s.send_segments},
	    {"ready_segments", s.ready_segments},
	    {"srtt", s.srtt},
	    {"rto", s.rto},
	    {"transmissions", s.transmissions},
	    {"retransmissions", s.retransmissions},
	};
	lua_createtable(L, 0, sizeof(field) / sizeof(field[0]));
	for (size_t i = 0; i < sizeof(field) / sizeof(field[0]); i++) {
		lua_pushinteger(L, (lua_Integer)field[i].value);
		lua_setfield(L, -2, field[i].name);
	}
	return 1;
}

int luaopen_kcp_core(lua_State *L);

int
luaopen_kcp_core(lua_State *L) {
	static const luaL_Reg method[] = {
	    {"send", lsend},   {"input", linput}, {"receive", lreceive}, {"take", ltake},
	    {"flush", lflush}, {"wait", lwait},   {"probe", lprobe},     {"is_dead", lis_dead},
	    {"stats", lstats}, {"close", lclose}, {"__gc", lclose},      {"__close", lclose},
	    {NULL, NULL},
	};
	static const luaL_Reg function[] = {{"new", lnew}, {NULL, NULL}};

	luaL_checkversion(L);
	if (luaL_newmetatable(L, METATABLE)) {
		luaL_setfuncs(L, method, 0);
		lua_pushvalue(L, -1);
		lua_setfield(L, -2, "__index");
	}
	luaL_newlib(L, function);
	return 1;
}
