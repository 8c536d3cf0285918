/*
 * md5.core: MD5 digests, and a stream cipher made of them. Loads in any Lua; lualib/md5.lua adds
 * the functions that give text. Keeps no state, never yields.
 */
#include <lauxlib.h>
#include <lua.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#define DIGEST_SIZE 16
#define MAX_SEED DIGEST_SIZE
#define MAX_KEY 256

int luaopen_md5_core(lua_State *L);

static bool
digest(const void *data, size_t size, uint8_t *out) {
	return EVP_Digest(data, size, out, NULL, EVP_md5(), NULL) == 1;
}

static int
digest_error(lua_State *L) {
	ERR_clear_error();
	return luaL_error(L, "md5 is not available");
}

/* sum(s) -> 16 bytes */
static int
lsum(lua_State *L) {
	size_t size;
	const char *s = luaL_checklstring(L, 1, &size);
	uint8_t out[DIGEST_SIZE];
	if (!digest(s, size, out)) {
		return digest_error(L);
	}
	lua_pushlstring(L, (const char *)out, DIGEST_SIZE);
	return 1;
}

/* exor(a, b) -> bytes */
static int
lexor(lua_State *L) {
	size_t size, other;
	const char *a = luaL_checklstring(L, 1, &size);
	const char *b = luaL_checklstring(L, 2, &other);
	luaL_argcheck(L, size == other, 2, "lengths must be equal");
	luaL_Buffer buffer;
	char *out = luaL_buffinitsize(L, &buffer, size);
	for (size_t i = 0; i < size; i++) {
		out[i] = (char)(a[i] ^ b[i]);
	}
	luaL_pushresultsize(&buffer, size);
	return 1;
}

//-------------------------------------------------------------------- cipher

/* Cipher feedback: `block` holds the last 16 bytes of ciphertext, and the key behind it. */
struct cipher {
	uint8_t block[DIGEST_SIZE + MAX_KEY];
	size_t key_size;
};

static void
cipher_init(lua_State *L, struct cipher *c, const char *seed, size_t seed_size, int key_arg) {
	const char *key = luaL_checklstring(L, key_arg, &c->key_size);
	if (c->key_size > MAX_KEY) {
		luaL_error(L, "key too long (> %d)", MAX_KEY);
	}
	memset(c->block, 0, DIGEST_SIZE);
	memcpy(c->block, seed, seed_size);
	memcpy(c->block + DIGEST_SIZE, key, c->key_size);
}

static bool
cipher_run(struct cipher *c, const char *in, size_t size, char *out, bool encrypt) {
	for (size_t at = 0; at < size; at += DIGEST_SIZE) {
		uint8_t stream[DIGEST_SIZE];
		if (!digest(c->block, DIGEST_SIZE + c->key_size, stream)) {
			return false;
		}
		size_t n = size - at < DIGEST_SIZE ? size - at : DIGEST_SIZE;
		for (size_t i = 0; i < n; i++) {
			out[at + i] = (char)(in[at + i] ^ stream[i]);
		}
		memcpy(c->block, (encrypt ? out : in) + at, n);
	}
	return true;
}

/* crypt(text, key [, seed]) -> size of the seed, seed, ciphertext */
static int
lcrypt(lua_State *L) {
	size_t size, seed_size;
	const char *text = luaL_checklstring(L, 1, &size);
	uint64_t now = (uint64_t)time(NULL);
	char default_seed[sizeof(now)];
	memcpy(default_seed, &now, sizeof(now));
	const char *seed = luaL_optlstring(L, 3, NULL, &seed_size);
	if (seed == NULL) {
		seed = default_seed;
		seed_size = sizeof(default_seed);
	}
	if (seed_size > MAX_SEED) {
		return luaL_error(L, "seed too long (> %d)", MAX_SEED);
	}
	struct cipher c;
	cipher_init(L, &c, seed, seed_size, 2);
	luaL_Buffer b;
	char *out = luaL_buffinitsize(L, &b, 1 + seed_size + size);
	out[0] = (char)seed_size;
	memcpy(out + 1, seed, seed_size);
	if (!cipher_run(&c, text, size, out + 1 + seed_size, true)) {
		return digest_error(L);
	}
	luaL_pushresultsize(&b, 1 + seed_size + size);
	return 1;
}

/* decrypt(cipher, key) -> text */
static int
ldecrypt(lua_State *L) {
	size_t size;
	const char *text = luaL_checklstring(L, 1, &size);
	size_t seed_size = size > 0 ? (uint8_t)text[0] : 0;
	luaL_argcheck(L, size > 0 && seed_size <= MAX_SEED && size - 1 >= seed_size, 1,
	              "invalid cyphered string");
	struct cipher c;
	cipher_init(L, &c, text + 1, seed_size, 2);
	text += 1 + seed_size;
	size -= 1 + seed_size;
	luaL_Buffer b;
	char *out = luaL_buffinitsize(L, &b, size);
	if (!cipher_run(&c, text, size, out, false)) {
		return digest_error(L);
	}
	luaL_pushresultsize(&b, size);
	return 1;
}

int
luaopen_md5_core(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"sum", lsum}, {"exor", lexor}, {"crypt", lcrypt}, {"decrypt", ldecrypt}, {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlib(L, functions);
	return 1;
}
