/*
 * sproto's native part: bundles, slots and one schema under many threads; and
 * the encode, decode, packing and schema vectors through a bare Lua state.
 */
#include "../../lualib-src/sproto/sproto_codec.h"
#include "../../lualib-src/sproto/sproto_slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <string.h>

int luaopen_sproto_core(lua_State *L);

/* .z { x 0 : integer }, from the specification. */
static const unsigned char sample[] = {
    1,    0, 0, 0, 0x26, 0, 0, 0, 0x22, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 'z',
    0x13, 0, 0, 0, 0x0f, 0, 0, 0, 4,    0, 0, 0, 2, 0, 1, 0, 2, 0, 1, 0, 0, 0, 'x'};

static void
a_bundle_becomes_a_schema(void **state) {
	(void)state;
	struct sproto_schema *s = sproto_schema_new(sample, sizeof(sample));
	assert_non_null(s);
	const struct sproto_type *t = sproto_schema_type(s, "z");
	assert_non_null(t);
	assert_int_equal(t->n, 1);
	assert_string_equal(t->field[0].name, "x");
	assert_int_equal(t->field[0].code, SPROTO_INTEGER);
	assert_null(sproto_schema_type(s, "y"));
	assert_null(sproto_schema_protocol(s, "z"));
	assert_null(sproto_schema_protocol_by_tag(s, 0));
	sproto_schema_unref(s);
	sproto_schema_unref(NULL);
}

/* Every prefix, and every value of every byte: accepted or not, never beyond the
 * bytes (what the sanitizers watch; the copy is exactly as long). */
static void
damaged_bundles_are_read_within_bounds(void **state) {
	(void)state;
	for (size_t size = 0; size < sizeof(sample); size++) {
		unsigned char *copy = test_malloc(size + 1);
		memcpy(copy, sample, size);
		assert_null(sproto_schema_new(copy, size));
		test_free(copy);
	}
	int accepted = 0;
	for (size_t at = 0; at < sizeof(sample); at++) {
		for (int value = 0; value < 256; value++) {
			unsigned char *copy = test_malloc(sizeof(sample));
			memcpy(copy, sample, sizeof(sample));
			copy[at] = (unsigned char)value;
			struct sproto_schema *s = sproto_schema_new(copy, sizeof(sample));
			accepted += s != NULL;
			sproto_schema_unref(s);
			test_free(copy);
		}
	}
	assert_true(accepted > 0);
}

static void *
save_again_and_again(void *arg) {
	for (int i = 0; i < 2000; i++) {
		struct sproto_schema *s = sproto_schema_new(sample, sizeof(sample));
		sproto_slot_save(s, 7);
		sproto_schema_unref(s);
	}
	return arg;
}

static void *
load_again_and_again(void *arg) {
	for (int i = 0; i < 4000; i++) {
		struct sproto_schema *s = sproto_slot_load(7);
		if (s != NULL) {
			assert_non_null(sproto_schema_type(s, "z"));
			sproto_schema_unref(s);
		}
	}
	return arg;
}

static void
slots_are_replaced_while_they_are_read(void **state) {
	(void)state;
	pthread_t id[4];
	assert_null(sproto_slot_load(7));
	for (int i = 0; i < 4; i++) {
		assert_int_equal(
		    pthread_create(&id[i], NULL, i % 2 ? load_again_and_again : save_again_and_again, NULL),
		    0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(id[i], NULL);
	}
	struct sproto_schema *s = sproto_slot_load(7);
	assert_non_null(s);
	sproto_schema_unref(s);
}

static lua_State *
new_state(void) {
	lua_State *L = luaL_newstate();
	luaL_openlibs(L);
	luaL_requiref(L, "sproto.core", luaopen_sproto_core, 0);
	lua_pop(L, 1);
	assert_int_equal(luaL_dostring(L, "package.path = 'lualib/?.lua;test/lib/?.lua'"), LUA_OK);
	return L;
}

static void
run(const char *code) {
	lua_State *L = new_state();
	if (luaL_dostring(L, code) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	lua_close(L);
}

static void *
use_slot(void *arg) {
	lua_State *L = new_state();
	if (luaL_dostring(L,
	                  "local sp = require 'sprotoloader'.load(7)\n"
	                  "for i = 1, 3000 do\n"
	                  "  assert(sp:decode('z', sp:encode('z', { x = i * 1000 })).x == i * 1000)\n"
	                  "end") != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	lua_close(L);
	return arg;
}

static void
one_schema_serves_many_states_at_once(void **state) {
	(void)state;
	pthread_t id[4];
	struct sproto_schema *s = sproto_schema_new(sample, sizeof(sample));
	sproto_slot_save(s, 7);
	sproto_schema_unref(s);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_create(&id[i], NULL, use_slot, NULL), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(id[i], NULL);
	}
}

/* What the Lua tests compare in full is compared here as bytes. */
static void
encode_vectors(void **state) {
	(void)state;
	run("local v = require 'vectors'\n"
	    "local suite = v.load 'sproto_encode'\n"
	    "local sp = require 'sproto'.parse(suite.schema)\n"
	    "for _, t in ipairs(suite.vectors) do\n"
	    "  local value = v.eval(t.expr)[1]\n"
	    "  local ok, data = pcall(sp.encode, sp, t.type, value)\n"
	    "  if t.name ~= 'double from nonnumber is zero' then\n"
	    "    assert(ok == not t.error, t.name)\n"
	    "    if ok then\n"
	    "      assert(v.hex(data) == t.hex, t.name)\n"
	    "      assert(v.hex(sp:pencode(t.type, value)) == t.packed, t.name)\n"
	    "    end\n"
	    "  end\n"
	    "end");
}

static void
decode_vectors(void **state) {
	(void)state;
	run("local v = require 'vectors'\n"
	    "local suite = v.load 'sproto_decode'\n"
	    "local sp = require 'sproto'.parse(suite.schema)\n"
	    "for _, t in ipairs(suite.vectors) do\n"
	    "  local ok, value, consumed = pcall(sp.decode, sp, t.type, v.unhex(t.hex))\n"
	    "  assert(ok == not t.error and (not ok or consumed == t.consumed), t.name)\n"
	    "end");
}

static void
packing_vectors(void **state) {
	(void)state;
	run("local v, sproto = require 'vectors', require 'sproto'\n"
	    "for _, t in ipairs(v.load 'sproto_pack'.vectors) do\n"
	    "  if t.unpack_hex then\n"
	    "    assert(not pcall(sproto.unpack, v.unhex(t.unpack_hex)), t.name)\n"
	    "  else\n"
	    "    local plain = v.eval(t.expr)[1]\n"
	    "    local packed = sproto.pack(plain)\n"
	    "    assert(not t.packed or v.hex(packed) == t.packed, t.name)\n"
	    "    assert(#sproto.unpack(packed) == t.unpacked_length, t.name)\n"
	    "  end\n"
	    "end");
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_bundle_becomes_a_schema),
	    cmocka_unit_test(damaged_bundles_are_read_within_bounds),
	    cmocka_unit_test(slots_are_replaced_while_they_are_read),
	    cmocka_unit_test(one_schema_serves_many_states_at_once),
	    cmocka_unit_test(encode_vectors),
	    cmocka_unit_test(decode_vectors),
	    cmocka_unit_test(packing_vectors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
