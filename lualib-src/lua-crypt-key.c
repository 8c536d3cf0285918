/* skynet.crypt: key agreement with X25519 (RFC 7748), signatures with Ed25519 (RFC 8032). */
#include "lua-crypt.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#define KEY_SIZE 32
#define SIGNATURE_SIZE 64

/* The public key of a secret one. Returns 1, or 0 with an error queued. */
static int
derive_public(int type, const uint8_t *secret, uint8_t *public) {
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(type, NULL, secret, KEY_SIZE);
	size_t size = KEY_SIZE;
	int ok = key != NULL && EVP_PKEY_get_raw_public_key(key, public, &size) == 1;
	EVP_PKEY_free(key);
	return ok;
}

static int
push_public(lua_State *L, int type, const uint8_t *secret) {
	uint8_t public[KEY_SIZE];
	if (!derive_public(type, secret, public)) {
		return crypt_openssl_error(L, "public key");
	}
	lua_pushlstring(L, (const char *)public, KEY_SIZE);
	return 1;
}

static int
push_keypair(lua_State *L, int type) {
	uint8_t secret[KEY_SIZE];
	crypt_random(L, secret, KEY_SIZE);
	push_public(L, type, secret);
	lua_pushlstring(L, (const char *)secret, KEY_SIZE);
	OPENSSL_cleanse(secret, KEY_SIZE);
	return 2;
}

//-------------------------------------------------------------------- X25519

/* x25519_keypair() -> public, secret */
static int
lx25519_keypair(lua_State *L) {
	return push_keypair(L, EVP_PKEY_X25519);
}

/* x25519_public(secret) -> public */
static int
lx25519_public(lua_State *L) {
	return push_public(L, EVP_PKEY_X25519, crypt_check_sized(L, 1, KEY_SIZE, "secret key"));
}

static int
agree(const uint8_t *secret, const uint8_t *public, uint8_t *common) {
	EVP_PKEY *own = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, secret, KEY_SIZE);
	EVP_PKEY *other = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public, KEY_SIZE);
	EVP_PKEY_CTX *ctx = own != NULL ? EVP_PKEY_CTX_new(own, NULL) : NULL;
	size_t size = KEY_SIZE;
	int ok = ctx != NULL && other != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
	         EVP_PKEY_derive_set_peer(ctx, other) == 1 && EVP_PKEY_derive(ctx, common, &size) == 1;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(other);
	EVP_PKEY_free(own);
	return ok;
}

/* x25519(secret, public of the other side) -> common secret, to be given to hkdf */
static int
lx25519(lua_State *L) {
	const uint8_t *secret = crypt_check_sized(L, 1, KEY_SIZE, "secret key");
	const uint8_t *public = crypt_check_sized(L, 2, KEY_SIZE, "public key");
	uint8_t common[KEY_SIZE];
	if (!agree(secret, public, common)) {
		// A point of small order: the secret would be known to everybody.
		return crypt_openssl_error(L, "x25519");
	}
	lua_pushlstring(L, (const char *)common, KEY_SIZE);
	OPENSSL_cleanse(common, KEY_SIZE);
	return 1;
}

//------------------------------------------------------------------- Ed25519

/* ed25519_keypair() -> public, secret */
static int
led25519_keypair(lua_State *L) {
	return push_keypair(L, EVP_PKEY_ED25519);
}

/* ed25519_public(secret) -> public */
static int
led25519_public(lua_State *L) {
	return push_public(L, EVP_PKEY_ED25519, crypt_check_sized(L, 1, KEY_SIZE, "secret key"));
}

/* ed25519_sign(secret, text) -> signature */
static int
led25519_sign(lua_State *L) {
	const uint8_t *secret = crypt_check_sized(L, 1, KEY_SIZE, "secret key");
	struct crypt_bytes text = crypt_check_bytes(L, 2);
	uint8_t signature[SIGNATURE_SIZE];
	size_t size = SIGNATURE_SIZE;
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, KEY_SIZE);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok = key != NULL && ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
	         EVP_DigestSign(ctx, signature, &size, text.data, text.size) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	if (!ok) {
		return crypt_openssl_error(L, "ed25519_sign");
	}
	lua_pushlstring(L, (const char *)signature, size);
	return 1;
}

/* ed25519_verify(public, text, signature) -> boolean */
static int
led25519_verify(lua_State *L) {
	const uint8_t *public = crypt_check_sized(L, 1, KEY_SIZE, "public key");
	struct crypt_bytes text = crypt_check_bytes(L, 2);
	struct crypt_bytes signature = crypt_check_bytes(L, 3);
	EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public, KEY_SIZE);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ready = key != NULL && ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1;
	int valid =
	    ready && EVP_DigestVerify(ctx, signature.data, signature.size, text.data, text.size) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	if (!ready) {
		return crypt_openssl_error(L, "ed25519_verify");
	}
	ERR_clear_error();
	lua_pushboolean(L, valid);
	return 1;
}

const luaL_Reg crypt_key_functions[] = {
    {"x25519_keypair", lx25519_keypair},
    {"x25519_public", lx25519_public},
    {"x25519", lx25519},
    {"ed25519_keypair", led25519_keypair},
    {"ed25519_public", led25519_public},
    {"ed25519_sign", led25519_sign},
    {"ed25519_verify", led25519_verify},
    {NULL, NULL},
};
