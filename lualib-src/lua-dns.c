// skynet.dnscodec: answers of name servers as Lua tables, and when a file changed. Used
// by skynet.dns only. Keeps no state.
#include "dns_message.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <lauxlib.h>
#include <lua.h>

int luaopen_skynet_dnscodec(lua_State *L);

static void
set_integer(lua_State *L, const char *key, lua_Integer value) {
	lua_pushinteger(L, value);
	lua_setfield(L, -2, key);
}

static void
set_string(lua_State *L, const char *key, const char *value) {
	lua_pushstring(L, value);
	lua_setfield(L, -2, key);
}

static void
push_record(lua_State *L, const struct dns_record *r) {
	lua_createtable(L, 0, 4);
	set_string(L, "name", r->name);
	set_integer(L, "type", r->type);
	set_integer(L, "ttl", r->ttl);
	set_string(L, "data", r->data);
}

static void
push_head(lua_State *L, const struct dns_message *m) {
	lua_createtable(L, 0, 10);
	set_integer(L, "id", m->id);
	set_integer(L, "opcode", m->opcode);
	set_integer(L, "rcode", m->rcode);
	set_string(L, "name", m->qname);
	set_integer(L, "type", m->qtype);
	set_integer(L, "class", m->qclass);
	lua_pushboolean(L, m->is_response);
	lua_setfield(L, -2, "is_response");
	lua_pushboolean(L, m->is_truncated);
	lua_setfield(L, -2, "is_truncated");
}

// parse(bytes) -> { id, opcode, rcode, is_response, is_truncated, name, type, class,
// answers = { { name, type, ttl, data } }, negative_ttl }; or nil. Types other than A, AAAA
// and CNAME are 0. A truncated message has no answers.
static int
lparse(lua_State *L) {
	size_t size;
	const char *data = luaL_checklstring(L, 1, &size);
	struct dns_message m;
	if (!dns_message_read(&m, (const uint8_t *)data, size)) {
		return 0;
	}
	push_head(L, &m);
	lua_newtable(L);
	int n = m.is_truncated ? 0 : dns_message_answers(&m);
	for (int i = 0; i < n; i++) {
		struct dns_record r;
		if (!dns_message_answer(&m, i, &r)) {
			return 0;
		}
		push_record(L, &r);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, "answers");
	int64_t ttl = dns_message_negative_ttl(&m);
	if (ttl >= 0) {
		set_integer(L, "negative_ttl", ttl);
	}
	return 1;
}

// version(path) -> a string that changes with the file; nil without one; nil and the reason
// when the system can't tell now
static int
lversion(lua_State *L) {
	struct stat st;
	if (stat(luaL_checkstring(L, 1), &st) != 0) {
		int err = errno;
		if (err == ENOENT || err == ENOTDIR) {
			return 0;
		}
		lua_pushnil(L);
		lua_pushfstring(L, "%s: %s", lua_tostring(L, 1), strerror(err));
		return 2;
	}
#ifdef __APPLE__
	struct timespec changed = st.st_mtimespec;
#else
	struct timespec changed = st.st_mtim;
#endif
	lua_pushfstring(L, "%I %I %I.%I", (LUAI_UACINT)st.st_ino, (LUAI_UACINT)st.st_size,
	                (LUAI_UACINT)changed.tv_sec, (LUAI_UACINT)changed.tv_nsec);
	return 1;
}

int
luaopen_skynet_dnscodec(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"parse", lparse},
	    {"version", lversion},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlib(L, functions);
	return 1;
}
