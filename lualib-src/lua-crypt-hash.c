/* skynet.crypt: SHA-1 and the SHA-2 family, HMAC over them, HKDF (RFC 5869). */
#include "lua-crypt.h"

#include <limits.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

/* HKDF gives at most this many times the size of its hash. */
#define HKDF_BLOCKS 255

struct hash {
	const char *name;
	const char *label; /* OpenSSL's name */
	const EVP_MD *(*md)(void);
};

enum { SHA1, SHA224, SHA256, SHA384, SHA512, HASHES };

static const struct hash hashes[HASHES] = {
    {"sha1", "SHA1", EVP_sha1},       {"sha224", "SHA224", EVP_sha224},
    {"sha256", "SHA256", EVP_sha256}, {"sha384", "SHA384", EVP_sha384},
    {"sha512", "SHA512", EVP_sha512},
};

/* A hash by name; sha256 when the argument is absent. */
static const struct hash *
opt_hash(lua_State *L, int arg) {
	const char *name = luaL_optstring(L, arg, "sha256");
	for (int i = 0; i < HASHES; i++) {
		if (strcmp(hashes[i].name, name) == 0) {
			return &hashes[i];
		}
	}
	luaL_argerror(L, arg, lua_pushfstring(L, "no hash '%s'", name));
	return NULL;
}

static int
push_digest(lua_State *L, const struct hash *h) {
	struct crypt_bytes s = crypt_check_bytes(L, 1);
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned int size;
	if (EVP_Digest(s.data, s.size, digest, &size, h->md(), NULL) != 1) {
		return crypt_openssl_error(L, h->name);
	}
	lua_pushlstring(L, (const char *)digest, size);
	return 1;
}

static int
push_hmac(lua_State *L, const struct hash *h) {
	struct crypt_bytes key = crypt_check_bytes(L, 1);
	struct crypt_bytes text = crypt_check_bytes(L, 2);
	uint8_t short_key[EVP_MAX_MD_SIZE];
	unsigned int size;
	if (key.size > INT_MAX) {
		// OpenSSL counts keys in int; a key longer than a block stands for its digest.
		if (EVP_Digest(key.data, key.size, short_key, &size, h->md(), NULL) != 1) {
			return crypt_openssl_error(L, h->name);
		}
		key = (struct crypt_bytes){short_key, size};
	}
	uint8_t mac[EVP_MAX_MD_SIZE];
	if (HMAC(h->md(), key.data, (int)key.size, text.data, text.size, mac, &size) == NULL) {
		return crypt_openssl_error(L, "hmac");
	}
	lua_pushlstring(L, (const char *)mac, size);
	return 1;
}

/* shaN(s) -> digest */
static int
lsha1(lua_State *L) {
	return push_digest(L, &hashes[SHA1]);
}
static int
lsha224(lua_State *L) {
	return push_digest(L, &hashes[SHA224]);
}
static int
lsha256(lua_State *L) {
	return push_digest(L, &hashes[SHA256]);
}
static int
lsha384(lua_State *L) {
	return push_digest(L, &hashes[SHA384]);
}
static int
lsha512(lua_State *L) {
	return push_digest(L, &hashes[SHA512]);
}

/* hmac_shaN(key, text) -> code */
static int
lhmac_sha1(lua_State *L) {
	return push_hmac(L, &hashes[SHA1]);
}
static int
lhmac_sha224(lua_State *L) {
	return push_hmac(L, &hashes[SHA224]);
}
static int
lhmac_sha256(lua_State *L) {
	return push_hmac(L, &hashes[SHA256]);
}
static int
lhmac_sha384(lua_State *L) {
	return push_hmac(L, &hashes[SHA384]);
}
static int
lhmac_sha512(lua_State *L) {
	return push_hmac(L, &hashes[SHA512]);
}

static OSSL_PARAM
octets(const char *key, struct crypt_bytes b) {
	return OSSL_PARAM_construct_octet_string(key, (void *)(uintptr_t)b.data, b.size);
}

/* hkdf(secret, length [, salt [, info [, hash]]]) -> key */
static int
lhkdf(lua_State *L) {
	struct crypt_bytes secret = crypt_check_bytes(L, 1);
	lua_Integer length = luaL_checkinteger(L, 2);
	struct crypt_bytes salt = crypt_opt_bytes(L, 3);
	struct crypt_bytes info = crypt_opt_bytes(L, 4);
	const struct hash *h = opt_hash(L, 5);
	luaL_argcheck(L, secret.size > 0, 1, "secret is empty");
	luaL_argcheck(L, length > 0 && length <= HKDF_BLOCKS * EVP_MD_get_size(h->md()), 2,
	              "length out of range");
	OSSL_PARAM params[5];
	int n = 0;
	params[n++] =
	    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)h->label, 0);
	params[n++] = octets(OSSL_KDF_PARAM_KEY, secret);
	params[n++] = octets(OSSL_KDF_PARAM_INFO, info);
	if (salt.size > 0) {
		params[n++] = octets(OSSL_KDF_PARAM_SALT, salt);
	}
	params[n] = OSSL_PARAM_construct_end();
	luaL_Buffer b;
	uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, (size_t)length);
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	int ok = ctx != NULL && EVP_KDF_derive(ctx, out, (size_t)length, params) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	if (!ok) {
		return crypt_openssl_error(L, "hkdf");
	}
	luaL_pushresultsize(&b, (size_t)length);
	return 1;
}

const luaL_Reg crypt_hash_functions[] = {
    {"sha1", lsha1},
    {"sha224", lsha224},
    {"sha256", lsha256},
    {"sha384", lsha384},
    {"sha512", lsha512},
    {"hmac_sha1", lhmac_sha1},
    {"hmac_sha224", lhmac_sha224},
    {"hmac_sha256", lhmac_sha256},
    {"hmac_sha384", lhmac_sha384},
    {"hmac_sha512", lhmac_sha512},
    {"hkdf", lhkdf},
    {NULL, NULL},
};
