/*
 * skynet.crypt: the module, random numbers, comparison, uuids. doc/reference/crypt.md lists all
 * functions; see lua-crypt.h for what the files share.
 */
#include "lua-crypt.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#define KEY_SIZE 8
#define UUID_SIZE 16
/* More than anyone needs at a time, and small enough to make in one go. */
#define MAX_RANDOM (16 * 1024 * 1024)
/* What one call of getentropy may ask for. */
#define ENTROPY_CHUNK 256

const uint8_t *
crypt_check_sized(lua_State *L, int arg, size_t size, const char *what) {
	struct crypt_bytes b = crypt_check_bytes(L, arg);
	if (b.size != size) {
		luaL_argerror(L, arg,
		              lua_pushfstring(L, "%s of %d bytes expected, got %I", what, (int)size,
		                              (lua_Integer)b.size));
	}
	return b.data;
}

int
crypt_openssl_error(lua_State *L, const char *what) {
	char reason[160];
	ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
	ERR_clear_error();
	return luaL_error(L, "crypt: %s failed (%s)", what, reason);
}

//-------------------------------------------------------------------- random

void
crypt_random(lua_State *L, uint8_t *out, size_t size) {
	while (size > 0) {
		size_t n = size < ENTROPY_CHUNK ? size : ENTROPY_CHUNK;
		if (getentropy(out, n) != 0) {
			luaL_error(L, "crypt: no random bytes from the system (%s)", strerror(errno));
		}
		out += n;
		size -= n;
	}
}

/* randomkey() -> 8 bytes, never all zero */
static int
lrandomkey(lua_State *L) {
	uint8_t key[KEY_SIZE];
	crypt_random(L, key, sizeof(key));
	uint8_t x = 0;
	for (int i = 0; i < KEY_SIZE; i++) {
		x ^= key[i];
	}
	if (x == 0) {
		key[0] |= 1;
	}
	lua_pushlstring(L, (const char *)key, sizeof(key));
	return 1;
}

/* random(n) -> n bytes */
static int
lrandom(lua_State *L) {
	lua_Integer n = luaL_checkinteger(L, 1);
	luaL_argcheck(L, n >= 0 && n <= MAX_RANDOM, 1, "size out of range");
	luaL_Buffer b;
	char *out = luaL_buffinitsize(L, &b, (size_t)n);
	crypt_random(L, (uint8_t *)out, (size_t)n);
	luaL_pushresultsize(&b, (size_t)n);
	return 1;
}

//---------------------------------------------------------------------- uuid

static void
push_uuid(lua_State *L, uint8_t *id, int version) {
	id[6] = (uint8_t)((id[6] & 0x0f) | version << 4);
	id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
	char text[UUID_SIZE * 2 + 5];
	char *p = text;
	for (int i = 0; i < UUID_SIZE; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10) {
			*p++ = '-';
		}
		snprintf(p, 3, "%02x", id[i]);
		p += 2;
	}
	lua_pushlstring(L, text, (size_t)(p - text));
}

/* uuid_v4() -> text */
static int
luuid_v4(lua_State *L) {
	uint8_t id[UUID_SIZE];
	crypt_random(L, id, sizeof(id));
	push_uuid(L, id, 4);
	return 1;
}

/* Milliseconds since 1970 above, 1/4096 ms in the low 12 bits; greater at every call. */
static uint64_t
next_instant(void) {
	static _Atomic uint64_t last;
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	uint64_t ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	uint64_t now = ms << 12 | ((uint64_t)ts.tv_nsec % 1000000) * 4096 / 1000000;
	// Relaxed: nothing but the order of the values themselves depends on it.
	uint64_t before = atomic_load_explicit(&last, memory_order_relaxed);
	uint64_t next;
	do {
		next = now > before ? now : before + 1;
	} while (!atomic_compare_exchange_weak_explicit(&last, &before, next, memory_order_relaxed,
	                                                memory_order_relaxed));
	return next;
}

/* uuid_v7() -> text; each of this process sorts after the one before */
static int
luuid_v7(lua_State *L) {
	uint8_t id[UUID_SIZE];
	crypt_random(L, id, sizeof(id));
	uint64_t at = next_instant();
	for (int i = 0; i < 6; i++) {
		id[i] = (uint8_t)(at >> (52 - 8 * i));
	}
	id[6] = (uint8_t)(at >> 8 & 0x0f);
	id[7] = (uint8_t)at;
	push_uuid(L, id, 7);
	return 1;
}

//---------------------------------------------------------------------- bytes

/* equal(a, b) -> boolean, in a time that depends on the lengths only */
static int
lequal(lua_State *L) {
	struct crypt_bytes a = crypt_check_bytes(L, 1);
	struct crypt_bytes b = crypt_check_bytes(L, 2);
	lua_pushboolean(L, a.size == b.size && CRYPTO_memcmp(a.data, b.data, a.size) == 0);
	return 1;
}

/* xor_str(s, key) -> bytes */
static int
lxor_str(lua_State *L) {
	struct crypt_bytes s = crypt_check_bytes(L, 1);
	struct crypt_bytes key = crypt_check_bytes(L, 2);
	if (key.size == 0) {
		return luaL_error(L, "Can't xor empty string");
	}
	luaL_Buffer b;
	uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, s.size);
	for (size_t i = 0, k = 0; i < s.size; i++) {
		out[i] = s.data[i] ^ key.data[k];
		if (++k == key.size) {
			k = 0;
		}
	}
	luaL_pushresultsize(&b, s.size);
	return 1;
}

static const luaL_Reg functions[] = {
    {"randomkey", lrandomkey}, {"random", lrandom},   {"uuid_v4", luuid_v4}, {"uuid_v7", luuid_v7},
    {"equal", lequal},         {"xor_str", lxor_str}, {NULL, NULL},
};

int
luaopen_skynet_crypt(lua_State *L) {
	luaL_checkversion(L);
	luaL_newlib(L, functions);
	luaL_setfuncs(L, crypt_login_functions, 0);
	luaL_setfuncs(L, crypt_des_functions, 0);
	luaL_setfuncs(L, crypt_text_functions, 0);
	luaL_setfuncs(L, crypt_hash_functions, 0);
	luaL_setfuncs(L, crypt_password_functions, 0);
	luaL_setfuncs(L, crypt_key_functions, 0);
	luaL_setfuncs(L, crypt_aead_functions, 0);
	lua_createtable(L, 0, 2);
	lua_pushinteger(L, 0);
	lua_setfield(L, -2, "iso7816_4");
	lua_pushinteger(L, 1);
	lua_setfield(L, -2, "pkcs7");
	lua_setfield(L, -2, "padding");
	return 1;
}
