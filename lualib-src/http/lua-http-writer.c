// http.codec, writing half: builds messages in one string, refusing what would break
// out of a header line. Keeps nothing, never yields.
#include "lua-http.h"

#include <lauxlib.h>

#include <string.h>
#include <time.h>

#include "../lua-nomem.h"
#include "http_chunk.h"
#include "http_head.h"
#include "skynet_malloc.h"

int luaopen_http_codec(lua_State *L);

static void
add_text(luaL_Buffer *b, const char *p, size_t n) {
	luaL_addlstring(b, p, n);
}

static void
check_name(lua_State *L, const char *p, size_t n) {
	if (!http_is_token(p, n)) {
		luaL_error(L, "Invalid HTTP header name '%s'", p);
	}
}

// One line `name: value`. The value at the top of the stack is left there.
static void
add_field(lua_State *L, luaL_Buffer *b, const char *name, size_t name_bytes, int value) {
	size_t n;
	// Not in place: a number that is a key or in the caller's table must stay one.
	const char *p;
	if (lua_type(L, value) == LUA_TSTRING) {
		p = lua_tolstring(L, value, &n);
	} else {
		p = luaL_tolstring(L, value, &n);
		lua_replace(L, value);
	}
	if (!http_is_value(p, n)) {
		luaL_error(L, "Invalid value of HTTP header '%s'", name);
	}
	add_text(b, name, name_bytes);
	add_text(b, ": ", 2);
	add_text(b, p, n);
	add_text(b, "\r\n", 2);
}

// The framing of a message is said by whoever builds it, in `extra`.
static bool
is_framing(const char *p, size_t n) {
	struct http_text t = {p, n};
	return http_is_name(&t, "content-length", 14) || http_is_name(&t, "transfer-encoding", 17);
}

// The stack has the table at 2 and, in fixed slots from `slot` on, room for: the key,
// the value, an element. A buffer may lie above them.
static void
add_table(lua_State *L, luaL_Buffer *b, int slot, bool skip_framing) {
	for (;;) {
		// lua_next takes the key from the top, where the buffer may be.
		lua_pushvalue(L, slot);
		if (lua_next(L, 2) == 0) {
			return;
		}
		lua_replace(L, slot + 1);
		lua_replace(L, slot);
		if (lua_type(L, slot) != LUA_TSTRING) {
			luaL_error(L, "Invalid HTTP header name (a %s)", luaL_typename(L, slot));
		}
		size_t n;
		const char *name = lua_tolstring(L, slot, &n);
		check_name(L, name, n);
		if (skip_framing && is_framing(name, n)) {
			continue;
		}
		if (lua_type(L, slot + 1) != LUA_TTABLE) {
			add_field(L, b, name, n, slot + 1);
			continue;
		}
		for (lua_Integer i = 1; lua_geti(L, slot + 1, i) != LUA_TNIL; i++) {
			lua_replace(L, slot + 2);
			add_field(L, b, name, n, slot + 2);
		}
		lua_pop(L, 1);
	}
}

static void
add_length(luaL_Buffer *b, uint64_t length) {
	char digits[20];
	size_t at = sizeof(digits);
	do {
		digits[--at] = (char)('0' + length % 10);
		length /= 10;
	} while (length > 0);
	add_text(b, "content-length: ", 16);
	add_text(b, digits + at, sizeof(digits) - at);
	add_text(b, "\r\n", 2);
}

// message(first, header | nil, extra, body | nil [, framed]) -> string
//   first: the first line without its end, extra: further lines with their ends; both are
//   the caller's own and not looked at. With `framed`, Content-Length and
//   Transfer-Encoding of `header` are left out, because `extra` has them, or because
//   `framed` is the length of the body, which is then written.
//   Raises on a name that is no token and on a value with control bytes.
static void
build(lua_State *L, luaL_Buffer *b) {
	size_t first_bytes, extra_bytes, body_bytes = 0;
	const char *first = luaL_checklstring(L, 1, &first_bytes);
	const char *extra = luaL_checklstring(L, 3, &extra_bytes);
	const char *body = luaL_optlstring(L, 4, "", &body_bytes);
	bool framed = lua_toboolean(L, 5);
	lua_Integer length = lua_isinteger(L, 5) ? lua_tointeger(L, 5) : -1;
	lua_settop(L, 8);
	lua_pushnil(L);
	lua_replace(L, 6);
	luaL_buffinit(L, b);
	add_text(b, first, first_bytes);
	add_text(b, "\r\n", 2);
	if (!lua_isnil(L, 2)) {
		luaL_checktype(L, 2, LUA_TTABLE);
		add_table(L, b, 6, framed);
	}
	if (length >= 0) {
		add_length(b, (uint64_t)length);
	}
	add_text(b, extra, extra_bytes);
	add_text(b, "\r\n", 2);
	add_text(b, body, body_bytes);
}

static int
lmessage(lua_State *L) {
	luaL_Buffer b;
	build(L, &b);
	luaL_pushresult(&b);
	return 1;
}

// block(as message) -> the message as a block of the allocator, which the caller has to
// give away, and its size: what is sent at once need not be a string before.
static int
lblock(lua_State *L) {
	luaL_Buffer b;
	build(L, &b);
	size_t n = luaL_bufflen(&b);
	char *block = skynet_malloc(n);
	if (block == NULL) {
		return lua_nomem(L);
	}
	memcpy(block, luaL_buffaddr(&b), n);
	lua_pushlightuserdata(L, block);
	lua_pushinteger(L, (lua_Integer)n);
	return 2;
}

// chunk(bytes) -> the chunk; of no bytes: the last one
static int
lchunk(lua_State *L) {
	size_t n;
	const char *p = luaL_checklstring(L, 1, &n);
	luaL_Buffer b;
	char *out = luaL_buffinitsize(L, &b, n + 24);
	// "%zx" through lua_pushfstring does not exist; 16 digits fit.
	static const char digits[] = "0123456789abcdef";
	char size[16];
	int count = 0;
	for (size_t left = n; left > 0 || count == 0; left >>= 4) {
		size[count++] = digits[left & 15];
	}
	size_t at = 0;
	while (count > 0) {
		out[at++] = size[--count];
	}
	memcpy(out + at, "\r\n", 2);
	memcpy(out + at + 2, p, n);
	memcpy(out + at + 2 + n, "\r\n", 2);
	luaL_pushresultsize(&b, at + n + 4);
	return 1;
}

// date(seconds since 1970) -> as HTTP writes it (RFC 9110, 5.6.7)
static int
ldate(lua_State *L) {
	time_t t = (time_t)luaL_checkinteger(L, 1);
	struct tm tm;
	char text[64];
	static const char *const day[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char *const month[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	if (gmtime_r(&t, &tm) == NULL || tm.tm_year > 9999 - 1900 || tm.tm_year < -1900) {
		return luaL_argerror(L, 1, "time out of range");
	}
	// Not by locale.
	size_t n = strftime(text, sizeof(text), ", %d XXX %Y %H:%M:%S GMT", &tm);
	memcpy(strstr(text, "XXX"), month[tm.tm_mon], 3);
	lua_pushstring(L, day[tm.tm_wday]);
	lua_pushlstring(L, text, n);
	lua_concat(L, 2);
	return 1;
}

// is_token(text) -> boolean
static int
lis_token(lua_State *L) {
	size_t n;
	const char *p = luaL_checklstring(L, 1, &n);
	lua_pushboolean(L, http_is_token(p, n));
	return 1;
}

void
http_writer_register(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"message", lmessage}, {"block", lblock},       {"chunk", lchunk},
	    {"date", ldate},       {"is_token", lis_token}, {NULL, NULL},
	};
	luaL_setfuncs(L, functions, 0);
}

int
luaopen_http_codec(lua_State *L) {
	luaL_checkversion(L);
	lua_newtable(L);
	http_reader_register(L);
	http_writer_register(L);
	return 1;
}
