/*
 * Units of lualib-src/lua-seri.c: bytes, errors, and what happens when memory
 * runs out half-way. The vectors of test/vectors/seri.json run in
 * test/lua/test_seri.lua.
 */
#include "lua-seri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>

#include "skynet_malloc.h"

/* A Lua allocator that counts, and fails once `countdown` has reached 0. */
struct heap {
	size_t used;
	size_t peak;
	long countdown; /* negative: never fails */
};

static void *
heap_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
	struct heap *h = ud;
	size_t old = ptr != NULL ? osize : 0;
	if (nsize > old && h->countdown >= 0) {
		if (h->countdown == 0) {
			return NULL;
		}
		h->countdown--;
	}
	h->used += nsize - old;
	if (h->used > h->peak) {
		h->peak = h->used;
	}
	if (nsize == 0) {
		free(ptr);
		return NULL;
	}
	return realloc(ptr, nsize);
}

static lua_State *
new_state(struct heap *h) {
	*h = (struct heap){.countdown = -1};
	lua_State *L = lua_newstate(heap_alloc, h, 0);
	assert_non_null(L);
	luaL_openlibs(L);
	lua_register(L, "packstring", luaseri_packstring);
	lua_register(L, "unpack", luaseri_unpack);
	return L;
}

/* Leave the bytes that `expr` packs to at the top of the stack. */
static void
push_packed(lua_State *L, const char *expr) {
	lua_pushfstring(L, "return packstring(%s)", expr);
	int status = luaL_dostring(L, lua_tostring(L, -1));
	if (status != LUA_OK) {
		fail_msg("%s: %s", expr, lua_tostring(L, -1));
	}
	lua_remove(L, -2);
}

static void
assert_bytes(lua_State *L, const char *expr, const char *bytes, size_t len) {
	push_packed(L, expr);
	size_t got;
	const char *s = lua_tolstring(L, -1, &got);
	assert_int_equal(got, len);
	assert_memory_equal(s, bytes, len);
	lua_settop(L, 0);
}

#define ASSERT_BYTES(L, expr, literal) assert_bytes(L, expr, literal, sizeof(literal) - 1)

static void
values_have_their_documented_bytes(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	ASSERT_BYTES(L, "", "");
	ASSERT_BYTES(L, "nil, nil", "\x00\x00");
	ASSERT_BYTES(L, "false, true", "\x01\x09");
	ASSERT_BYTES(L, "0, 1, 255", "\x02\x0a\x01\x0a\xff");
	ASSERT_BYTES(L, "256, 65535", "\x12\x00\x01\x12\xff\xff");
	ASSERT_BYTES(L, "65536, 0x7fffffff", "\x22\x00\x00\x01\x00\x22\xff\xff\xff\x7f");
	ASSERT_BYTES(L, "0x80000000", "\x32\x00\x00\x00\x80\x00\x00\x00\x00");
	ASSERT_BYTES(L, "-1, -0x80000000", "\x22\xff\xff\xff\xff\x22\x00\x00\x00\x80");
	ASSERT_BYTES(L, "-0x80000001", "\x32\xff\xff\xff\x7f\xff\xff\xff\xff");
	ASSERT_BYTES(L, "1.0", "\x42\x00\x00\x00\x00\x00\x00\xf0\x3f");
	ASSERT_BYTES(L, "'', 'a'", "\x04\x0c\x61");
	ASSERT_BYTES(L, "{}, {1}", "\x06\x00\x0e\x0a\x01\x00");
	ASSERT_BYTES(L, "{a=1}", "\x06\x0c\x61\x0a\x01\x00");
	ASSERT_BYTES(L, "{1,2,a=true}", "\x16\x0a\x01\x0a\x02\x0c\x61\x09\x00");
	ASSERT_BYTES(L, "{[2]=1}", "\x06\x0a\x02\x0a\x01\x00");
	lua_close(L);
}

static void
array_keys_outside_the_array_part_keep_their_order(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	ASSERT_BYTES(L, "(function() local t = {} t[3] = 'c' t[2] = 'b' t[1] = 'a' return t end)()",
	             "\x1e\x0c\x61\x0c\x62\x0c\x63\x00");
	ASSERT_BYTES(L, "(function() local t = {x=1} t[2] = 'b' t[1] = 'a' return t end)()",
	             "\x16\x0c\x61\x0c\x62\x0c\x78\x0a\x01\x00");
	ASSERT_BYTES(L, "{1, 2, [4] = 4, [1.5] = 3} and {[1] = 1}", "\x0e\x0a\x01\x00");
	lua_close(L);
}

static void
everything_comes_back(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	static const char check[] =
	    "local function same(a, b) "
	    "  if type(a) ~= 'table' then return math.type(a) == math.type(b) and a == b end "
	    "  for k, v in pairs(a) do if not same(v, b[k]) then return false end end "
	    "  for k in pairs(b) do if a[k] == nil then return false end end return true end "
	    "local t = {n = {}, s = ('x'):rep(70000), [1.5] = true} "
	    "for i = 1, 300 do t[i] = {i, i * i, -i, tostring(i), {k = i / 7}} end "
	    "for i = 1, 300 do t['k' .. i] = i end "
	    "local a, b, c, d = unpack(packstring(t, nil, math.mininteger, 'a\\0b')) "
	    "assert(same(t, a) and b == nil and c == math.mininteger and d == 'a\\0b') "
	    "assert(1 / select(2, unpack(packstring(1, -0.0))) == -math.huge) "
	    "assert(select('#', unpack(packstring(nil, nil, nil))) == 3)";
	if (luaL_dostring(L, check) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	lua_close(L);
}

static int
unpack_argument(lua_State *L) {
	size_t len;
	const char *s = lua_tolstring(L, 1, &len);
	/* A block of the exact size: a checker sees any step beyond it. */
	char *copy = lua_newuserdatauv(L, len + 1, 0);
	memcpy(copy + 1, s, len);
	return luaseri_unpack_buffer(L, copy + 1, len);
}

/* Unpack raw bytes; returns the status, the results or the error stay on the stack. */
static int
try_unpack(lua_State *L, const char *bytes, size_t len) {
	lua_settop(L, 0);
	lua_pushcfunction(L, unpack_argument);
	lua_pushlstring(L, bytes, len);
	return lua_pcall(L, 1, LUA_MULTRET, 0);
}

#define TRY_UNPACK(L, literal) try_unpack(L, literal, sizeof(literal) - 1)

static void
malformed_streams_are_errors(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
	    {"\x07", 1},
	    {"\x0a", 1},
	    {"\x1a", 1},
	    {"\x1d\x01\x00", 3},
	    {"\x15\x05\x00", 3},
	    {"\xfe\x04", 2},
	    {"\xfe", 1},
	    {"\x06", 1},
	    {"\x2c\x61", 2},
	    {"\x03\x01", 2},
	    {"\x32\x00\x00", 3},
	    {"\x42\x00", 2},
	    {"\x06\x0c\x61", 3},
	    {"\x25\xff\xff\xff\xff", 5},
	    {"\xfe\x42\x00\x00\x00\x00\x00\x00\xf0\x3f", 10},
	    {"\xfe\x22\xff\xff\xff\xff\x00", 7},                  /* length -1 */
	    {"\xfe\x32\x01\x00\x00\x00\x01\x00\x00\x00\x00", 11}, /* length 2^32 + 1 */
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(try_unpack(L, bad[i].bytes, bad[i].len), LUA_ERRRUN);
		assert_non_null(strstr(lua_tostring(L, -1), "Invalid serialize stream"));
	}
	lua_close(L);
}

static void
lenient_forms_are_accepted(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	assert_int_equal(TRY_UNPACK(L, "\x01\x09\x11\xf9"), LUA_OK);
	assert_int_equal(lua_gettop(L), 4);
	assert_false(lua_toboolean(L, 1));
	assert_true(lua_toboolean(L, 2) && lua_toboolean(L, 3) && lua_toboolean(L, 4));
	assert_int_equal(TRY_UNPACK(L, "\x08\xf8"), LUA_OK);
	assert_int_equal(lua_gettop(L), 2);
	assert_true(lua_isnil(L, 1) && lua_isnil(L, 2));
	assert_int_equal(TRY_UNPACK(L, "\x14\x61\x62\x22\xff\xff\xff\xff"), LUA_OK);
	assert_string_equal(lua_tostring(L, 1), "ab");
	assert_int_equal(lua_tointeger(L, 2), -1);
	assert_int_equal(TRY_UNPACK(L, "\x32\x01\x00\x00\x00\x00\x00\x00\x00\xfe\x0a\x01\x09\x00"),
	                 LUA_OK);
	assert_int_equal(lua_tointeger(L, 1), 1);
	assert_int_equal(lua_rawlen(L, 2), 1);
	assert_int_equal(TRY_UNPACK(L, "\x06\x0c\x61\x00\x00"), LUA_OK); /* a nil value */
	assert_int_equal(TRY_UNPACK(L, "\x0b\x01\x00\x00\x00\x00\x00\x00\x00"), LUA_OK);
	assert_true(lua_islightuserdata(L, 1));
	lua_close(L);
}

static void
every_truncation_is_an_error_or_a_shorter_list(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	push_packed(L, "1, 'abc', {1, 2, {x = 3.5, y = ('z'):rep(40)}, k = {}}, 70000, nil");
	size_t len;
	char bytes[256];
	const char *s = lua_tolstring(L, -1, &len);
	assert_true(len < sizeof bytes);
	memcpy(bytes, s, len);
	for (size_t n = 0; n < len; n++) {
		if (try_unpack(L, bytes, n) == LUA_OK) {
			assert_true(lua_gettop(L) < 5);
		}
	}
	assert_int_equal(try_unpack(L, bytes, len), LUA_OK);
	assert_int_equal(lua_gettop(L), 5);
	lua_close(L);
}

static void
depth_is_limited_both_ways(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	static const char check[] =
	    "local function nest(t, n) for i = 1, n do t = {t} end return t end "
	    "unpack(packstring(nest({}, 32))) "
	    "unpack(packstring(nest(1, 32))) "
	    "for _, t in ipairs {nest({}, 33), nest({1}, 32), nest(1, 33)} do "
	    "  local ok, msg = pcall(packstring, t) "
	    "  assert(not ok and msg:find(\"serialize can't pack too depth table\", 1, true), msg) end";
	if (luaL_dostring(L, check) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	char *deep = malloc(200000);
	memset(deep, 0x0e, 200000);
	assert_int_equal(try_unpack(L, deep, 200000), LUA_ERRRUN);
	free(deep);
	lua_close(L);
}

static void
claimed_lengths_cost_nothing(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	lua_gc(L, LUA_GCCOLLECT);
	h.peak = h.used;
	size_t before = h.used;
	assert_int_equal(TRY_UNPACK(L, "\xfe\x22\xff\xff\xff\x7f"), LUA_ERRRUN);
	assert_int_equal(TRY_UNPACK(L, "\xfe\x22\xff\xff\x00\x00\x00\x00\x00"), LUA_ERRRUN);
	assert_true(h.peak < before + 16 * 1024);
	lua_close(L);
}

static int
pack_and_free(lua_State *L) {
	void *buf;
	size_t sz;
	luaseri_pack_range(L, 1, &buf, &sz);
	skynet_free(buf);
	return 0;
}

/* Run `body` with every allocation failing in turn, until it gets through. */
static void
assert_survives_failures(const char *body) {
	struct heap h;
	for (long n = 0;; n++) {
		lua_State *L = new_state(&h);
		lua_register(L, "pack_and_free", pack_and_free);
		assert_int_equal(luaL_loadstring(L, body), LUA_OK);
		h.countdown = n;
		int status = lua_pcall(L, 0, 0, 0);
		bool is_done = h.countdown > 0;
		h.countdown = -1;
		assert_true(status == LUA_OK || status == LUA_ERRMEM);
		/* The thread's block is as good as new. */
		assert_int_equal(luaL_dostring(L, "assert(packstring(1) == '\\x0a\\1')"), LUA_OK);
		lua_close(L);
		assert_int_equal(h.used, 0);
		if (is_done) {
			return;
		}
	}
}

static void
running_out_of_memory_leaks_nothing(void **state) {
	(void)state;
	assert_survives_failures("local t = {1, 2, {k = ('x'):rep(2000)}} pack_and_free(t, t) "
	                         "unpack(packstring(t, t))");
	assert_survives_failures("local p = setmetatable({}, {__pairs = function() "
	                         "  pack_and_free(('y'):rep(3000)) return next, {a = 1} end}) "
	                         "pack_and_free(('z'):rep(3000), p, {p}) return packstring(p)");
}

static void
a_metamethod_may_pack_and_may_fail(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	static const char check[] =
	    "local inner "
	    "local p = setmetatable({}, {__pairs = function() "
	    "  inner = packstring(('i'):rep(5000)) "
	    "  return function(_, k) if not k then return 1, 'one' elseif k == 1 then return 'k', 'v' "
	    "end end "
	    "end}) "
	    "local want = '\\x06\\x0a\\x01\\x1c\\x6f\\x6e\\x65\\x0c\\x6b\\x0c\\x76\\x00' "
	    "assert(packstring(p) == want) "
	    "assert(packstring(('o'):rep(9), p, p) == packstring(('o'):rep(9)) .. want .. want) "
	    "assert(#inner == 5003) "
	    "local bad = setmetatable({}, {__pairs = function() error('mine', 0) end}) "
	    "for i = 1, 50 do "
	    "  local ok, msg = pcall(packstring, {1, bad}) assert(not ok and msg == 'mine') end "
	    "local ok, msg = pcall(packstring, setmetatable({}, {__pairs = 1})) "
	    "assert(not ok and msg:find('attempt to call a number value', 1, true)) "
	    "local co = coroutine.wrap(function() "
	    "  return pcall(packstring, setmetatable({}, {__pairs = coroutine.yield})) end) "
	    "assert(co() == false)";
	if (luaL_dostring(L, check) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	lua_close(L);
}

static void
what_cannot_be_packed_is_named(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	static const char check[] = "for _, v in ipairs {print, coroutine.create(print), io.stdout} do "
	                            "  local ok, msg = pcall(packstring, 'x', {v}) "
	                            "  assert(not ok and msg:find('Unsupport type ' .. type(v) .. ' to "
	                            "serialize (value ', 1, true), msg) end";
	if (luaL_dostring(L, check) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	lua_close(L);
}

static void
arguments_of_unpack_are_checked(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	static const char check[] =
	    "assert(select('#', unpack()) == 0 and select('#', unpack(nil)) == 0) "
	    "assert(select('#', unpack('')) == 0 and select('#', unpack(nil, 5)) == 0) "
	    "local function fails(text, ...) local ok, msg = pcall(unpack, ...) "
	    "  assert(not ok and msg:find(text, 1, true), msg) end "
	    "fails('#2', {}) fails('#2', true, 'x') fails('negative size', {}, -1) "
	    "fails('deserialize null pointer', {}, 5) "
	    "fails('userdata', io.stdout, 8)";
	if (luaL_dostring(L, check) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	lua_settop(L, 0);
	lua_pushcfunction(L, luaseri_unpack);
	lua_pushlightuserdata(L, NULL);
	lua_pushinteger(L, 4);
	assert_int_equal(lua_pcall(L, 2, 0, 0), LUA_ERRRUN);
	assert_non_null(strstr(lua_tostring(L, -1), "deserialize null pointer"));
	lua_close(L);
}

static void
an_empty_pack_is_a_block(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	lua_settop(L, 0);
	assert_int_equal(luaseri_pack(L), 2);
	assert_non_null(lua_touserdata(L, -2));
	assert_int_equal(lua_tointeger(L, -1), 0);
	skynet_free(lua_touserdata(L, -2));
	lua_close(L);
}

static void
many_values_and_many_tables_fit(void **state) {
	(void)state;
	struct heap h;
	lua_State *L = new_state(&h);
	char *nils = calloc(1, 100000);
	assert_int_equal(try_unpack(L, nils, 100000), LUA_OK);
	assert_int_equal(lua_gettop(L), 100000);
	free(nils);
	size_t len = 2 * 100000;
	char *tables = malloc(len);
	for (size_t i = 0; i < len; i += 2) {
		tables[i] = 6;
		tables[i + 1] = 0;
	}
	assert_int_equal(try_unpack(L, tables, len), LUA_OK);
	assert_int_equal(lua_gettop(L), 100000);
	free(tables);
	char *too_many = calloc(1, 2000000);
	assert_int_equal(try_unpack(L, too_many, 2000000), LUA_ERRRUN);
	free(too_many);
	lua_close(L);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(values_have_their_documented_bytes),
	    cmocka_unit_test(array_keys_outside_the_array_part_keep_their_order),
	    cmocka_unit_test(everything_comes_back),
	    cmocka_unit_test(malformed_streams_are_errors),
	    cmocka_unit_test(lenient_forms_are_accepted),
	    cmocka_unit_test(every_truncation_is_an_error_or_a_shorter_list),
	    cmocka_unit_test(depth_is_limited_both_ways),
	    cmocka_unit_test(claimed_lengths_cost_nothing),
	    cmocka_unit_test(running_out_of_memory_leaks_nothing),
	    cmocka_unit_test(a_metamethod_may_pack_and_may_fail),
	    cmocka_unit_test(what_cannot_be_packed_is_named),
	    cmocka_unit_test(arguments_of_unpack_are_checked),
	    cmocka_unit_test(an_empty_pack_is_a_block),
	    cmocka_unit_test(many_values_and_many_tables_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
