/* bson: the values that Lua has no type for. Constructors, and bson.type, which takes them apart.
 */
#include "lua-bson.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define OBJECTID_HEX (2 * BSON_OBJECTID_SIZE)
/* Contents of a date: seconds in 4 bytes when that is exact, else milliseconds in 8. */
#define DATE_SECONDS 4
#define DATE_MS 8

void
bson_push_typed(lua_State *L, int type, const void *content, size_t size) {
	luaL_Buffer b;
	char *out = luaL_buffinitsize(L, &b, TYPED_HEAD + size);
	out[0] = 0;
	out[1] = (char)type;
	memcpy(out + TYPED_HEAD, content, size);
	luaL_pushresultsize(&b, TYPED_HEAD + size);
}

/* Whether `size` bytes are a regex: two texts, each with its zero, and nothing else. */
static bool
is_regex(const char *s, size_t size) {
	const char *zero = memchr(s, 0, size);
	if (zero == NULL) {
		return false;
	}
	size_t rest = size - (size_t)(zero + 1 - s);
	return rest > 0 && memchr(zero + 1, 0, rest) == s + size - 1;
}

void
bson_check_typed(lua_State *L, const char *s, size_t size) {
	int type = (uint8_t)s[1];
	size_t content = size - TYPED_HEAD;
	bool ok = true;
	switch (type) {
	case BSON_STRING:
	case BSON_DBPOINTER:
	case BSON_CODE:
	case BSON_SYMBOL:
	case BSON_CODE_SCOPE:
		break;
	case BSON_BINARY:
		ok = content >= 1;
		break;
	case BSON_OBJECTID:
		ok = content == BSON_OBJECTID_SIZE;
		break;
	case BSON_DATE:
		ok = content == DATE_SECONDS || content == DATE_MS;
		break;
	case BSON_NULL:
	case BSON_MINKEY:
	case BSON_MAXKEY:
		ok = content == 0;
		break;
	case BSON_REGEX:
		ok = is_regex(s + TYPED_HEAD, content);
		break;
	case BSON_TIMESTAMP:
	case BSON_INT64:
		ok = content == 8;
		break;
	default:
		luaL_error(L, "Invalid subtype %d", type);
	}
	if (!ok) {
		luaL_error(L, "Invalid content of subtype %d (%I bytes)", type, (lua_Integer)content);
	}
}

//---------------------------------------------------------------------- date

int64_t
bson_date_ms(const char *s, size_t size) {
	const uint8_t *content = (const uint8_t *)s + TYPED_HEAD;
	if (size == TYPED_HEAD + DATE_SECONDS) {
		return (int64_t)bson_get_u32(content) * 1000;
	}
	return (int64_t)bson_get_u64(content);
}

void
bson_push_date(lua_State *L, int64_t ms) {
	uint8_t content[DATE_MS];
	if (ms >= 0 && ms % 1000 == 0 && ms / 1000 <= UINT32_MAX) {
		bson_put_u32(content, (uint32_t)(ms / 1000));
		bson_push_typed(L, BSON_DATE, content, DATE_SECONDS);
	} else {
		bson_put_u64(content, (uint64_t)ms);
		bson_push_typed(L, BSON_DATE, content, DATE_MS);
	}
}

/* date(seconds) -> value; seconds may have a fraction, of which milliseconds are kept */
static int
ldate(lua_State *L) {
	lua_Integer ms;
	if (lua_isinteger(L, 1)) {
		lua_Integer seconds = lua_tointeger(L, 1);
		luaL_argcheck(L, !__builtin_mul_overflow(seconds, 1000, &ms), 1, "date out of range");
	} else {
		lua_Number rounded = luaL_checknumber(L, 1) * 1000;
		rounded += rounded < 0 ? -0.5 : 0.5;
		// Written so that NaN is refused, too.
		luaL_argcheck(L, rounded > -9.2e18 && rounded < 9.2e18, 1, "date out of range");
		ms = (lua_Integer)rounded;
	}
	bson_push_date(L, ms);
	return 1;
}

/* date_ms(milliseconds) -> value */
static int
ldate_ms(lua_State *L) {
	bson_push_date(L, luaL_checkinteger(L, 1));
	return 1;
}

static int
push_date_parts(lua_State *L, const char *s, size_t size) {
	int64_t ms = bson_date_ms(s, size);
	lua_pushliteral(L, "date");
	if (size == TYPED_HEAD + DATE_SECONDS) {
		lua_pushinteger(L, ms / 1000);
		return 2;
	}
	if (ms % 1000 == 0) {
		lua_pushinteger(L, ms / 1000);
	} else {
		lua_pushnumber(L, (lua_Number)ms / 1000);
	}
	lua_pushinteger(L, ms);
	return 3;
}

//------------------------------------------------------------------ objectid

/* What is the same in all object ids of a process, and the count. Written by make_identity, once.
 */
static struct {
	uint8_t host[3];
	_Atomic uint32_t counter;
} identity;

static void
make_identity(void) {
	char name[256] = "";
	gethostname(name, sizeof(name) - 1);
	uint32_t hash = 2166136261u;
	for (const char *p = name; *p != '\0'; p++) {
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	}
	identity.host[0] = (uint8_t)hash;
	identity.host[1] = (uint8_t)(hash >> 8);
	identity.host[2] = (uint8_t)(hash >> 16);
	uint32_t start;
	if (getentropy(&start, sizeof(start)) != 0) {
		start = (uint32_t)time(NULL);
	}
	// Relaxed: pthread_once orders it before every use.
	atomic_store_explicit(&identity.counter, start, memory_order_relaxed);
}

static void
make_objectid(uint8_t id[BSON_OBJECTID_SIZE]) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, make_identity);
	uint32_t now = (uint32_t)time(NULL);
	uint32_t pid = (uint32_t)getpid();
	// Relaxed: only the numbers must differ.
	uint32_t n = atomic_fetch_add_explicit(&identity.counter, 1, memory_order_relaxed);
	for (int i = 0; i < 4; i++) {
		id[i] = (uint8_t)(now >> (24 - 8 * i));
	}
	memcpy(id + 4, identity.host, sizeof(identity.host));
	id[7] = (uint8_t)pid;
	id[8] = (uint8_t)(pid >> 8);
	id[9] = (uint8_t)(n >> 16);
	id[10] = (uint8_t)(n >> 8);
	id[11] = (uint8_t)n;
}

static int
hex_digit(char c) {
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* objectid([hex]) -> value; a new one without argument */
static int
lobjectid(lua_State *L) {
	uint8_t id[BSON_OBJECTID_SIZE];
	if (lua_isnoneornil(L, 1)) {
		make_objectid(id);
		bson_push_typed(L, BSON_OBJECTID, id, sizeof(id));
		return 1;
	}
	luaL_checktype(L, 1, LUA_TSTRING);
	size_t size;
	const char *hex = lua_tolstring(L, 1, &size);
	bool ok = size == OBJECTID_HEX;
	for (size_t i = 0; ok && i < BSON_OBJECTID_SIZE; i++) {
		int high = hex_digit(hex[2 * i]);
		int low = hex_digit(hex[2 * i + 1]);
		ok = high >= 0 && low >= 0;
		id[i] = ok ? (uint8_t)(high << 4 | low) : 0;
	}
	if (!ok) {
		return luaL_error(L, "Invalid objectid %s", hex);
	}
	bson_push_typed(L, BSON_OBJECTID, id, sizeof(id));
	return 1;
}

static int
push_objectid_parts(lua_State *L, const char *s) {
	char hex[OBJECTID_HEX + 1];
	for (int i = 0; i < BSON_OBJECTID_SIZE; i++) {
		snprintf(hex + 2 * i, 3, "%02x", (uint8_t)s[TYPED_HEAD + i]);
	}
	lua_pushliteral(L, "objectid");
	lua_pushlstring(L, hex, OBJECTID_HEX);
	return 2;
}

//-------------------------------------------------------- other constructors

/* binary(bytes [, subtype]) -> value */
static int
lbinary(lua_State *L) {
	luaL_checktype(L, 1, LUA_TSTRING);
	lua_Integer subtype = luaL_optinteger(L, 2, 0);
	luaL_argcheck(L, subtype >= 0 && subtype <= 255, 2, "subtype out of range");
	size_t size;
	const char *s = lua_tolstring(L, 1, &size);
	luaL_Buffer b;
	char *out = luaL_buffinitsize(L, &b, TYPED_HEAD + 1 + size);
	out[0] = 0;
	out[1] = BSON_BINARY;
	out[2] = (char)subtype;
	memcpy(out + TYPED_HEAD + 1, s, size);
	luaL_pushresultsize(&b, TYPED_HEAD + 1 + size);
	return 1;
}

/* text(s) -> s, or what stands for it when it looks like another value */
static int
ltext(lua_State *L) {
	luaL_checktype(L, 1, LUA_TSTRING);
	size_t size;
	const char *s = lua_tolstring(L, 1, &size);
	if (bson_is_typed(s, size)) {
		bson_push_typed(L, BSON_STRING, s, size);
	}
	return 1;
}

/* timestamp(seconds [, increment]) -> value */
static int
ltimestamp(lua_State *L) {
	static _Atomic uint32_t count;
	lua_Integer seconds = luaL_checkinteger(L, 1);
	luaL_argcheck(L, seconds >= 0 && seconds <= UINT32_MAX, 1, "seconds out of range");
	lua_Integer increment;
	if (lua_isnoneornil(L, 2)) {
		// Relaxed: only the numbers must differ.
		increment = atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) + 1u;
	} else {
		increment = luaL_checkinteger(L, 2);
		luaL_argcheck(L, increment >= 0 && increment <= UINT32_MAX, 2, "increment out of range");
	}
	uint8_t content[8];
	bson_put_u32(content, (uint32_t)increment);
	bson_put_u32(content + 4, (uint32_t)seconds);
	bson_push_typed(L, BSON_TIMESTAMP, content, sizeof(content));
	return 1;
}

static const char *
check_cstring(lua_State *L, int arg, const char *normal, size_t *size) {
	const char *s =
	    normal != NULL ? luaL_optlstring(L, arg, normal, size) : luaL_checklstring(L, arg, size);
	luaL_argcheck(L, memchr(s, 0, *size) == NULL, arg, "zero byte in a regex");
	return s;
}

/* regex(pattern [, options]) -> value */
static int
lregex(lua_State *L) {
	size_t pattern_size, options_size;
	const char *pattern = check_cstring(L, 1, NULL, &pattern_size);
	const char *options = check_cstring(L, 2, "", &options_size);
	luaL_Buffer b;
	luaL_buffinit(L, &b);
	luaL_addlstring(&b, "\0\x0b", TYPED_HEAD);
	luaL_addlstring(&b, pattern, pattern_size + 1);
	luaL_addlstring(&b, options, options_size + 1);
	luaL_pushresult(&b);
	return 1;
}

/* int64(i) -> value that is encoded with 8 bytes, however small */
static int
lint64(lua_State *L) {
	uint8_t content[8];
	bson_put_u64(content, (uint64_t)luaL_checkinteger(L, 1));
	bson_push_typed(L, BSON_INT64, content, sizeof(content));
	return 1;
}

//---------------------------------------------------------------------- type

static int
push_named(lua_State *L, const char *name, const char *s, size_t size) {
	lua_pushstring(L, name);
	lua_pushlstring(L, s, size);
	return 2;
}

static int
push_typed_parts(lua_State *L, const char *s, size_t size) {
	const char *content = s + TYPED_HEAD;
	const uint8_t *bytes = (const uint8_t *)content;
	bson_check_typed(L, s, size);
	switch ((uint8_t)s[1]) {
	case BSON_STRING:
		return push_named(L, "string", content, size - TYPED_HEAD);
	case BSON_BINARY:
		push_named(L, "binary", content + 1, size - TYPED_HEAD - 1);
		lua_pushinteger(L, bytes[0]);
		return 3;
	case BSON_OBJECTID:
		return push_objectid_parts(L, s);
	case BSON_DATE:
		return push_date_parts(L, s, size);
	case BSON_NULL:
		lua_pushliteral(L, "nil");
		return 1;
	case BSON_MINKEY:
		lua_pushliteral(L, "minkey");
		return 1;
	case BSON_MAXKEY:
		lua_pushliteral(L, "maxkey");
		return 1;
	case BSON_REGEX:
		lua_pushliteral(L, "regex");
		lua_pushstring(L, content);
		lua_pushstring(L, content + strlen(content) + 1);
		return 3;
	case BSON_TIMESTAMP:
		lua_pushliteral(L, "timestamp");
		lua_pushinteger(L, bson_get_u32(bytes + 4));
		lua_pushinteger(L, bson_get_u32(bytes));
		return 3;
	case BSON_INT64:
		lua_pushliteral(L, "int64");
		lua_pushinteger(L, (lua_Integer)bson_get_u64(bytes));
		return 2;
	default:
		return push_named(L, "unsupported", content, size - TYPED_HEAD);
	}
}

/* type(value) -> name, and what it consists of */
static int
ltype(lua_State *L) {
	size_t size;
	const char *s;
	switch (lua_type(L, 1)) {
	case LUA_TNONE:
	case LUA_TNIL:
		lua_pushliteral(L, "nil");
		return 1;
	case LUA_TNUMBER:
	case LUA_TBOOLEAN:
	case LUA_TTABLE:
		break;
	case LUA_TSTRING:
		s = lua_tolstring(L, 1, &size);
		if (bson_is_typed(s, size)) {
			return push_typed_parts(L, s, size);
		}
		break;
	default:
		return luaL_error(L, "Invalid type %s", luaL_typename(L, 1));
	}
	lua_pushstring(L, luaL_typename(L, 1));
	lua_pushvalue(L, 1);
	return 2;
}

void
bson_set_constants(lua_State *L) {
	bson_push_typed(L, BSON_NULL, "", 0);
	lua_setfield(L, -2, "null");
	bson_push_typed(L, BSON_MINKEY, "", 0);
	lua_setfield(L, -2, "minkey");
	bson_push_typed(L, BSON_MAXKEY, "", 0);
	lua_setfield(L, -2, "maxkey");
}

const luaL_Reg bson_value_functions[] = {
    {"date", ldate},     {"date_ms", ldate_ms}, {"objectid", lobjectid},
    {"binary", lbinary}, {"text", ltext},       {"timestamp", ltimestamp},
    {"regex", lregex},   {"int64", lint64},     {"type", ltype},
    {NULL, NULL},
};
