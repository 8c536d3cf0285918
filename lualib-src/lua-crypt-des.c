/*
 * skynet.crypt: DES in ECB mode, for the login handshake.
 *
 * OpenSSL 3 has single DES in a provider that need not be installed. Triple DES is in the default
 * one, and with three times the same key it is single DES: decrypting undoes the first round.
 */
#include "lua-crypt.h"

#include <openssl/evp.h>
#include <string.h>

#define BLOCK 8
#define KEY_SIZE 8
/* OpenSSL counts in int; a multiple of the block below its limit. */
#define MAX_UPDATE ((size_t)1 << 30)

enum { PAD_ISO7816_4, PAD_PKCS7 };

/* `size` bytes, a multiple of the block, in place. Returns 1, or 0 with an error queued. */
static int
run_des(const uint8_t *key, int encrypt, uint8_t *data, size_t size) {
	uint8_t keys[3 * KEY_SIZE];
	for (int i = 0; i < 3; i++) {
		memcpy(keys + i * KEY_SIZE, key, KEY_SIZE);
	}
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int ok = ctx != NULL &&
	         EVP_CipherInit_ex(ctx, EVP_des_ede3_ecb(), NULL, keys, NULL, encrypt) == 1 &&
	         EVP_CIPHER_CTX_set_padding(ctx, 0) == 1;
	while (ok && size > 0) {
		size_t n = size < MAX_UPDATE ? size : MAX_UPDATE;
		int written;
		ok = EVP_CipherUpdate(ctx, data, &written, data, (int)n) == 1;
		data += n;
		size -= n;
	}
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

static const uint8_t *
check_key(lua_State *L) {
	struct crypt_bytes key = crypt_check_bytes(L, 1);
	if (key.size != KEY_SIZE) {
		luaL_error(L, "Invalid key size %I, need 8 bytes", (lua_Integer)key.size);
	}
	return key.data;
}

static int
check_padding(lua_State *L) {
	lua_Integer mode = luaL_optinteger(L, 3, PAD_ISO7816_4);
	if (mode != PAD_ISO7816_4 && mode != PAD_PKCS7) {
		luaL_error(L, "Invalid padding mode %I", mode);
	}
	return (int)mode;
}

/* desencode(key, text [, padding]) -> ciphertext */
static int
ldesencode(lua_State *L) {
	const uint8_t *key = check_key(L);
	struct crypt_bytes text = crypt_check_bytes(L, 2);
	int padding = check_padding(L);
	size_t added = BLOCK - text.size % BLOCK;
	size_t size = text.size + added;
	luaL_Buffer b;
	uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, size);
	memcpy(out, text.data, text.size);
	memset(out + text.size, padding == PAD_PKCS7 ? (int)added : 0, added);
	if (padding == PAD_ISO7816_4) {
		out[text.size] = 0x80;
	}
	if (!run_des(key, 1, out, size)) {
		return crypt_openssl_error(L, "des");
	}
	luaL_pushresultsize(&b, size);
	return 1;
}

/* How many bytes of the last block are padding; 0 when it is none. */
static size_t
padding_of(const uint8_t *block, int padding) {
	size_t n = 1;
	if (padding == PAD_PKCS7) {
		n = block[BLOCK - 1];
		for (size_t i = 1; n <= BLOCK && i <= n; i++) {
			if (block[BLOCK - i] != n) {
				return 0;
			}
		}
		return n <= BLOCK ? n : 0;
	}
	while (n < BLOCK && block[BLOCK - n] == 0) {
		n++;
	}
	return block[BLOCK - n] == 0x80 ? n : 0;
}

/* desdecode(key, ciphertext [, padding]) -> text */
static int
ldesdecode(lua_State *L) {
	const uint8_t *key = check_key(L);
	struct crypt_bytes text = crypt_check_bytes(L, 2);
	int padding = check_padding(L);
	if (text.size == 0 || text.size % BLOCK != 0) {
		return luaL_error(L, "Invalid des crypt text length %I", (lua_Integer)text.size);
	}
	luaL_Buffer b;
	uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, text.size);
	memcpy(out, text.data, text.size);
	if (!run_des(key, 0, out, text.size)) {
		return crypt_openssl_error(L, "des");
	}
	size_t added = padding_of(out + text.size - BLOCK, padding);
	if (added == 0) {
		return luaL_error(L, "Invalid des crypt text");
	}
	luaL_pushresultsize(&b, text.size - added);
	return 1;
}

const luaL_Reg crypt_des_functions[] = {
    {"desencode", ldesencode},
    {"desdecode", ldesdecode},
    {NULL, NULL},
};
