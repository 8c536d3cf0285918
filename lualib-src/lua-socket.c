// skynet.socketdriver: the socket layer for Lua services (net.md section 3). Thin: checks
// and converts arguments; sockets belong to the service whose VM this is.
#include <arpa/inet.h>
#include <lauxlib.h>
#include <lua.h>

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lua-owned.h"
#include "lua-socket-buffer.h"
#include "lua-socket-lost.h"
#include "lua-socket-option.h"
#include "skynet.h"
#include "skynet_malloc.h"
#include "skynet_socket.h"

#define MAX_PORT 65535
#define PEER_TEXT_SIZE 64

int luaopen_skynet_socketdriver(lua_State *L);

static struct skynet_context *
context(lua_State *L) {
	return lua_touserdata(L, lua_upvalueindex(1));
}

static int
check_id(lua_State *L, int index) {
	lua_Integer id = luaL_checkinteger(L, index);
	// Nothing has an id outside of int: any impossible one will do.
	return id < INT_MIN || id > INT_MAX ? -1 : (int)id;
}

//----------------------------------------------------------------- addresses

static int
parse_port(lua_State *L, const char *text, const char *addr) {
	size_t digits = strspn(text, "0123456789");
	// Five digits cannot overflow.
	long port = digits > 0 && digits <= 5 && text[digits] == '\0' ? atol(text) : -1;
	if (port < 0 || port > MAX_PORT) {
		return luaL_error(L, "Invalid port in address %s.", addr);
	}
	return (int)port;
}

// Splits "host:port" or "[v6]:port". The host is pushed on the stack.
static const char *
split_address(lua_State *L, const char *addr, int *port) {
	const char *from = addr;
	const char *end;
	const char *colon;
	if (addr[0] == '[') {
		from = addr + 1;
		end = strchr(from, ']');
		colon = end != NULL && end[1] == ':' ? end + 1 : NULL;
	} else {
		colon = end = strchr(addr, ':');
	}
	if (colon == NULL) {
		luaL_error(L,
		           "Invalid address %s. It names no port: say host:port or [v6]:port, "
		           "or give the port as the next argument",
		           addr);
		return NULL;
	}
	*port = parse_port(L, colon + 1, addr);
	return lua_pushlstring(L, from, (size_t)(end - from));
}

// Host at `index` and port at the next one, or both in one text.
static const char *
check_address(lua_State *L, int index, int *port) {
	const char *addr = luaL_checkstring(L, index);
	if (lua_isnoneornil(L, index + 1)) {
		return split_address(L, addr, port);
	}
	lua_Integer n = luaL_checkinteger(L, index + 1);
	if (n < 0 || n > MAX_PORT) {
		luaL_error(L, "Invalid port %I", (LUAI_UACINT)n);
	}
	*port = (int)n;
	return addr;
}

//------------------------------------------------------------------- streams

// connect(addr [, port [, options]]) -> id or -1
static int
lconnect(lua_State *L) {
	struct socket_option options[SOCKET_OPTION_COUNT];
	int port;
	lua_settop(L, 3);
	int n = lua_isnil(L, 3) ? 0 : socket_option_check(L, 3, false, options);
	const char *host = check_address(L, 1, &port);
	if (port == 0) {
		return luaL_error(L, "Invalid port");
	}
	lua_pushinteger(L, skynet_socket_connect_with(context(L), host, port, options, n));
	return 1;
}

// A backlog or a table at `index`, or neither.
static int
listen_options(lua_State *L, int index, struct socket_option *options) {
	if (lua_isnil(L, index)) {
		return 0;
	}
	if (lua_istable(L, index)) {
		return socket_option_check(L, index, true, options);
	}
	lua_Integer backlog = luaL_checkinteger(L, index);
	luaL_argcheck(L, backlog >= 0 && backlog <= INT_MAX, index, "backlog out of range");
	options[0] = (struct socket_option){SOCKET_OPTION_BACKLOG, backlog};
	return 1;
}

// Raises what went wrong, at which address and, of errno, why.
static int
raise_failure(lua_State *L, const char *what, const char *host, int port) {
	const char *why = strerror(errno);
	if (host == NULL || host[0] == '\0') {
		host = "0.0.0.0";
	}
	return luaL_error(L, strchr(host, ':') == NULL ? "%s: %s:%d: %s" : "%s: [%s]:%d: %s", what,
	                  host, port, why);
}

// listen(addr [, port [, backlog or options]]) -> id
static int
llisten(lua_State *L) {
	struct socket_option options[SOCKET_OPTION_COUNT];
	int port;
	lua_settop(L, 3);
	int n = listen_options(L, 3, options);
	const char *host = check_address(L, 1, &port);
	int id = skynet_socket_listen_with(context(L), host, port, options, n);
	if (id < 0) {
		return raise_failure(L, "Listen error", host, port);
	}
	lua_pushinteger(L, id);
	return 1;
}

static int
lbind(lua_State *L) {
	lua_pushinteger(L, skynet_socket_bind(context(L), check_id(L, 1)));
	return 1;
}

static int
lclose(lua_State *L) {
	skynet_socket_close(context(L), check_id(L, 1));
	return 0;
}

static int
lshutdown(lua_State *L) {
	skynet_socket_shutdown(context(L), check_id(L, 1));
	return 0;
}

static int
lstart(lua_State *L) {
	skynet_socket_start(context(L), check_id(L, 1));
	return 0;
}

static int
laccept(lua_State *L) {
	skynet_socket_accept(context(L), check_id(L, 1));
	return 0;
}

static int
lpause(lua_State *L) {
	skynet_socket_pause(context(L), check_id(L, 1));
	return 0;
}

static int
lnodelay(lua_State *L) {
	skynet_socket_nodelay(context(L), check_id(L, 1));
	return 0;
}

// option(id, options) -> whether the id exists
static int
loption(lua_State *L) {
	struct socket_option options[SOCKET_OPTION_COUNT];
	int id = check_id(L, 1);
	int n = socket_option_check(L, 2, false, options);
	lua_pushboolean(L, skynet_socket_option(context(L), id, options, n) == 0);
	return 1;
}

//------------------------------------------------------------------- sending

// Replaces the array at `index` by a plain one: what metamethods give, they give once.
static void
make_plain(lua_State *L, int index) {
	lua_newtable(L);
	for (int i = 1; lua_geti(L, index, i) != LUA_TNIL; i++) {
		lua_rawseti(L, -2, i);
	}
	lua_pop(L, 1);
	lua_replace(L, index);
}

// The string or number on the top of the stack, as text; NULL if it is neither. A number is
// written to `number`. Needs no memory.
static const char *
piece_of(lua_State *L, char number[LUA_N2SBUFFSZ], size_t *len) {
	if (lua_type(L, -1) != LUA_TNUMBER) {
		return lua_tolstring(L, -1, len);
	}
	*len = lua_numbertocstring(L, -1, number) - 1;
	return number;
}

// Copies the strings and numbers of the array at `index` into one block.
static void
concat_table(lua_State *L, int index, struct socket_sendbuffer *b) {
	char number[LUA_N2SBUFFSZ];
	size_t len;
	size_t total = 0;
	int n = 0;
	if (lua_getmetatable(L, index)) {
		lua_pop(L, 1);
		make_plain(L, index);
	}
	while (lua_rawgeti(L, index, n + 1) != LUA_TNIL) {
		if (piece_of(L, number, &len) == NULL) {
			luaL_error(L, "Invalid type %s at index %d of the table to send", luaL_typename(L, -1),
			           n + 1);
		}
		total += len;
		n++;
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	// From here on nothing raises.
	char *block = skynet_malloc(total);
	size_t at = 0;
	for (int i = 1; i <= n; i++) {
		lua_rawgeti(L, index, i);
		const char *s = piece_of(L, number, &len);
		memcpy(block + at, s, len);
		at += len;
		lua_pop(L, 1);
	}
	b->type = SOCKET_BUFFER_MEMORY;
	b->buffer = block;
	b->sz = total;
}

static void
from_userdata(lua_State *L, int index, struct socket_sendbuffer *b) {
	size_t len = lua_rawlen(L, index);
	lua_Integer sz = luaL_optinteger(L, index + 1, (lua_Integer)len);
	luaL_argcheck(L, sz >= 0 && (size_t)sz <= len, index + 1, "size out of range");
	b->type = SOCKET_BUFFER_RAWPOINTER;
	b->buffer = lua_touserdata(L, index);
	b->sz = (size_t)sz;
}

static void
from_pointer(lua_State *L, int index, struct socket_sendbuffer *b) {
	lua_Integer sz = luaL_optinteger(L, index + 1, -1);
	b->type = sz < 0 ? SOCKET_BUFFER_OBJECT : SOCKET_BUFFER_MEMORY;
	b->buffer = lua_touserdata(L, index);
	b->sz = sz < 0 ? 0 : (size_t)sz;
}

// The data at `index` (and its size at the next one) in any of the forms of
// net.md 3.2.
static void
check_data(lua_State *L, int index, struct socket_sendbuffer *b) {
	switch (lua_type(L, index)) {
	case LUA_TTABLE:
		concat_table(L, index, b);
		break;
	case LUA_TUSERDATA:
		from_userdata(L, index, b);
		break;
	case LUA_TLIGHTUSERDATA:
		from_pointer(L, index, b);
		break;
	default:
		b->type = SOCKET_BUFFER_RAWPOINTER;
		b->buffer = luaL_checklstring(L, index, &b->sz);
		break;
	}
}

// The id at 1 and the data at 2. What changes hands does so also where the id is none.
static void
check_send(lua_State *L, struct socket_sendbuffer *b) {
	int is_integer;
	lua_Integer id = lua_tointegerx(L, 1, &is_integer);
	check_data(L, 2, b);
	b->id = !is_integer || id < INT_MIN || id > INT_MAX ? -1 : (int)id;
	if (!is_integer) {
		skynet_socket_sendbuffer(context(L), b);
		luaL_checkinteger(L, 1); // raises
	}
}

static int
lsend(lua_State *L) {
	struct socket_sendbuffer b;
	check_send(L, &b);
	lua_pushboolean(L, skynet_socket_sendbuffer(context(L), &b) == 0);
	return 1;
}

static int
llsend(lua_State *L) {
	struct socket_sendbuffer b;
	check_send(L, &b);
	lua_pushboolean(L, skynet_socket_sendbuffer_lowpriority(context(L), &b) == 0);
	return 1;
}

// relay(id, on) -> whether the id exists
static int
lrelay(lua_State *L) {
	int r = skynet_socket_relay(context(L), check_id(L, 1), lua_toboolean(L, 2));
	lua_pushboolean(L, r == 0);
	return 1;
}

// rawsend(id, data [, size]): past the relay
static int
lrawsend(lua_State *L) {
	struct socket_sendbuffer b;
	check_send(L, &b);
	lua_pushboolean(L, skynet_socket_send_raw(context(L), &b) == 0);
	return 1;
}

//----------------------------------------------------------------------- UDP

#define BLOB_V4 7
#define BLOB_V6 19

static bool
is_address(const char *blob, size_t n) {
	return (n == BLOB_V4 && blob[0] == 1) || (n == BLOB_V6 && blob[0] == 2);
}

static int
ludp(lua_State *L) {
	int port = 0;
	const char *host = NULL;
	if (!lua_isnoneornil(L, 1)) {
		host = check_address(L, 1, &port);
	}
	int id = skynet_socket_udp(context(L), host, port);
	if (id < 0) {
		return raise_failure(L, "udp init failed", host, port);
	}
	lua_pushinteger(L, id);
	return 1;
}

static int
ludp_connect(lua_State *L) {
	int port;
	int id = check_id(L, 1);
	const char *host = check_address(L, 2, &port);
	if (skynet_socket_udp_connect(context(L), id, host, port) != 0) {
		return raise_failure(L, "udp connect failed", host, port);
	}
	return 0;
}

static int
ludp_dial(lua_State *L) {
	int port;
	const char *host = check_address(L, 1, &port);
	int id = skynet_socket_udp_dial(context(L), host, port);
	if (id < 0) {
		return raise_failure(L, "udp dial host failed", host, port);
	}
	lua_pushinteger(L, id);
	return 1;
}

static int
ludp_listen(lua_State *L) {
	int port;
	const char *host = check_address(L, 1, &port);
	int id = skynet_socket_udp_listen(context(L), host, port);
	if (id < 0) {
		return raise_failure(L, "udp listen host failed", host, port);
	}
	lua_pushinteger(L, id);
	return 1;
}

// The core takes owned data whatever happens: with a bad address the send must
// still be made, to an address that is refused.
static int
ludp_send(lua_State *L) {
	static const char nowhere[BLOB_V6];
	struct socket_sendbuffer b;
	size_t n;
	b.id = check_id(L, 1);
	const char *blob = luaL_checklstring(L, 2, &n);
	check_data(L, 3, &b);
	int r = skynet_socket_udp_sendbuffer(context(L), is_address(blob, n) ? blob : nowhere, &b);
	lua_pushboolean(L, r == 0);
	return 1;
}

static int
ludp_address(lua_State *L) {
	size_t n;
	char text[INET6_ADDRSTRLEN];
	const char *blob = luaL_checklstring(L, 1, &n);
	if (!is_address(blob, n)) {
		return luaL_error(L, "Invalid udp address");
	}
	inet_ntop(n == BLOB_V4 ? AF_INET : AF_INET6, blob + 3, text, sizeof(text));
	lua_pushstring(L, text);
	lua_pushinteger(L, (uint8_t)blob[1] << 8 | (uint8_t)blob[2]);
	return 2;
}

//-------------------------------------------------------------------- events

static int
push_bytes(lua_State *L) {
	lua_pushlstring(L, lua_touserdata(L, 1), (size_t)lua_tointeger(L, 2));
	return 1;
}

// The address that a datagram came from, which is freed if there is no memory for that.
static void
push_sender(lua_State *L, struct skynet_socket_message *m, const char *from, size_t n) {
	lua_pushcfunction(L, push_bytes);
	lua_pushlightuserdata(L, (void *)(uintptr_t)from);
	lua_pushinteger(L, (lua_Integer)n);
	if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
		skynet_free(m->buffer);
		m->buffer = NULL;
		lua_error(L);
	}
}

// unpack(msg, size) -> type, id, ud, payload[, address]. Once: a block is the caller's then.
// When it raises, the payload is freed.
static int
lunpack(lua_State *L) {
	struct skynet_socket_message *m = lua_touserdata(L, 1);
	lua_Integer size = luaL_checkinteger(L, 2);
	luaL_argcheck(L, m != NULL, 1, "need a socket message");
	luaL_argcheck(L, size >= (lua_Integer)sizeof(*m), 2, "not a socket message");
	lua_pushinteger(L, m->type);
	lua_pushinteger(L, m->id);
	lua_pushinteger(L, m->ud);
	if (m->buffer == NULL) {
		lua_pushlstring(L, (const char *)(m + 1), (size_t)size - sizeof(*m));
		return 4;
	}
	lua_pushlightuserdata(L, m->buffer);
	int n = 0;
	const char *from = m->type == SKYNET_SOCKET_TYPE_UDP ? skynet_socket_udp_address(m, &n) : NULL;
	if (from != NULL) {
		push_sender(L, m, from, (size_t)n);
	}
	socket_block_room(L);
	m->buffer = NULL;
	return from != NULL ? 5 : 4;
}

//---------------------------------------------------------------------- info

static void
set_integer(lua_State *L, const char *key, uint64_t v) {
	lua_pushinteger(L, (lua_Integer)v);
	lua_setfield(L, -2, key);
}

static void
set_boolean(lua_State *L, const char *key, int v) {
	lua_pushboolean(L, v);
	lua_setfield(L, -2, key);
}

static void
set_name(lua_State *L, const char *key, const char *name) {
	if (name[0] != '\0') {
		lua_pushstring(L, name);
		lua_setfield(L, -2, key);
	}
}

static void
set_traffic(lua_State *L, const struct socket_info *si) {
	set_integer(L, "read", si->read);
	set_integer(L, "write", si->write);
	set_integer(L, "wbuffer", (uint64_t)si->wbuffer);
	set_integer(L, "rtime", si->rtime);
	set_integer(L, "wtime", si->wtime);
	set_boolean(L, "reading", si->reading);
	set_boolean(L, "writing", si->writing);
	set_name(L, "peer", si->name);
	set_name(L, "sock", si->local);
}

static void
push_info(lua_State *L, const struct socket_info *si) {
	static const char *const type_name[] = {
	    "UNKNOWN", "LISTEN", "TCP", "UDP", "BIND", "CLOSING",
	};
	lua_newtable(L);
	set_integer(L, "id", (uint64_t)si->id);
	set_integer(L, "address", si->opaque);
	set_name(L, "type", type_name[si->type]);
	switch (si->type) {
	case SOCKET_INFO_LISTEN:
		set_integer(L, "accept", si->read);
		set_integer(L, "rtime", si->rtime);
		set_name(L, "sock", si->name);
		break;
	case SOCKET_INFO_UNKNOWN:
		break;
	default:
		set_traffic(L, si);
		break;
	}
}

static int
push_infos(lua_State *L) {
	int i = 0;
	const struct socket_info *list = lua_touserdata(L, 1);
	lua_newtable(L);
	for (const struct socket_info *si = list; si != NULL; si = si->next) {
		push_info(L, si);
		lua_rawseti(L, -2, ++i);
	}
	return 1;
}

static void
release_infos(void *list) {
	socket_info_release(list);
}

static int
linfo(lua_State *L) {
	lua_owned_call(L, push_infos, skynet_socket_info(), 1, release_infos);
	return 1;
}

// peer(id) -> "ip:port", or nil
static int
lpeer(lua_State *L) {
	char text[PEER_TEXT_SIZE];
	if (!skynet_socket_peer(check_id(L, 1), text, sizeof(text))) {
		return 0;
	}
	lua_pushstring(L, text);
	return 1;
}

// split(addr [, port]) -> host, port
static int
lsplit(lua_State *L) {
	int port;
	lua_settop(L, 2);
	lua_pushstring(L, check_address(L, 1, &port));
	lua_pushinteger(L, port);
	return 2;
}

// lookup(host) -> id, or -1, or nil if the host is an address
static int
llookup(lua_State *L) {
	const char *host = luaL_checkstring(L, 1);
	if (skynet_socket_is_numeric(host)) {
		return 0;
	}
	lua_pushinteger(L, skynet_socket_lookup(context(L), host));
	return 1;
}

static int
push_addresses(lua_State *L) {
	int i = 0;
	const char *list = lua_touserdata(L, 1);
	lua_newtable(L);
	for (const char *p = list; *p != '\0'; p += strlen(p) + 1) {
		lua_pushstring(L, p);
		lua_rawseti(L, -2, ++i);
	}
	return 1;
}

static int
lresolve(lua_State *L) {
	const char *error = NULL;
	char *list = skynet_socket_resolve(luaL_checkstring(L, 1), &error);
	if (list == NULL) {
		return luaL_error(L, "%s", error);
	}
	lua_owned_call(L, push_addresses, list, 1, skynet_free);
	return 1;
}

int
luaopen_skynet_socketdriver(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"connect", lconnect},
	    {"listen", llisten},
	    {"bind", lbind},
	    {"close", lclose},
	    {"shutdown", lshutdown},
	    {"start", lstart},
	    {"accept", laccept},
	    {"pause", lpause},
	    {"nodelay", lnodelay},
	    {"option", loption},
	    {"send", lsend},
	    {"lsend", llsend},
	    {"relay", lrelay},
	    {"rawsend", lrawsend},
	    {"udp", ludp},
	    {"udp_connect", ludp_connect},
	    {"udp_dial", ludp_dial},
	    {"udp_listen", ludp_listen},
	    {"udp_send", ludp_send},
	    {"udp_address", ludp_address},
	    {"unpack", lunpack},
	    {"info", linfo},
	    {"peer", lpeer},
	    {"split", lsplit},
	    {"lookup", llookup},
	    {"resolve", lresolve},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	lua_newtable(L);
	socket_buffer_register(L);
	lua_getfield(L, LUA_REGISTRYINDEX, "skynet_context");
	if (lua_touserdata(L, -1) == NULL) {
		return luaL_error(L, "Init skynet context first");
	}
	luaL_setfuncs(L, functions, 1);
	return 1;
}
