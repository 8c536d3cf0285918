/*
 * skynet.crypt: encryption with authentication. AES-GCM with keys of 16, 24 or 32 bytes, and
 * ChaCha20-Poly1305 (RFC 8439). A sealed text is the ciphertext and then the tag.
 */
#include "lua-crypt.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#define NONCE_SIZE 12
#define TAG_SIZE 16
/* OpenSSL counts in int. */
#define MAX_UPDATE ((size_t)1 << 30)

/* What one operation needs; `out` has room for `text`, and for the tag when sealing. */
struct aead {
	const EVP_CIPHER *cipher;
	const uint8_t *key;
	const uint8_t *nonce;
	struct crypt_bytes text;
	struct crypt_bytes aad;
	uint8_t *out;
};

static int
update(EVP_CIPHER_CTX *ctx, uint8_t *out, struct crypt_bytes in) {
	int ok = 1;
	while (ok && in.size > 0) {
		size_t n = in.size < MAX_UPDATE ? in.size : MAX_UPDATE;
		int written;
		ok = EVP_CipherUpdate(ctx, out, &written, in.data, (int)n) == 1;
		in.data += n;
		in.size -= n;
		if (out != NULL) {
			out += n;
		}
	}
	return ok;
}

/* With the tag to expect when opening, NULL when sealing. Returns 1, or 0. */
static int
run_cipher(EVP_CIPHER_CTX *ctx, const struct aead *a, uint8_t *expected_tag) {
	int sealing = expected_tag == NULL;
	uint8_t none[EVP_MAX_BLOCK_LENGTH];
	int written;
	if (EVP_CipherInit_ex(ctx, a->cipher, NULL, a->key, a->nonce, sealing) != 1 ||
	    !update(ctx, NULL, a->aad) || !update(ctx, a->out, a->text)) {
		return 0;
	}
	if (!sealing && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, expected_tag) != 1) {
		return 0;
	}
	if (EVP_CipherFinal_ex(ctx, none, &written) != 1) {
		return 0;
	}
	return !sealing ||
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, a->out + a->text.size) == 1;
}

static int
with_context(const struct aead *a, uint8_t *expected_tag) {
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int ok = ctx != NULL && run_cipher(ctx, a, expected_tag);
	EVP_CIPHER_CTX_free(ctx);
	return ok;
}

/* Arguments key, nonce, text [, aad]; the key was checked. */
static void
check_arguments(lua_State *L, struct aead *a) {
	a->key = crypt_check_bytes(L, 1).data;
	a->nonce = crypt_check_sized(L, 2, NONCE_SIZE, "nonce");
	a->text = crypt_check_bytes(L, 3);
	a->aad = crypt_opt_bytes(L, 4);
}

static int
seal(lua_State *L, const EVP_CIPHER *cipher) {
	struct aead a = {.cipher = cipher};
	check_arguments(L, &a);
	luaL_Buffer b;
	a.out = (uint8_t *)luaL_buffinitsize(L, &b, a.text.size + TAG_SIZE);
	if (!with_context(&a, NULL)) {
		return crypt_openssl_error(L, "encryption");
	}
	luaL_pushresultsize(&b, a.text.size + TAG_SIZE);
	return 1;
}

static int
open_failed(lua_State *L) {
	ERR_clear_error();
	lua_pushnil(L);
	lua_pushliteral(L, "authentication failed");
	return 2;
}

static int
open_sealed(lua_State *L, const EVP_CIPHER *cipher) {
	struct aead a = {.cipher = cipher};
	check_arguments(L, &a);
	if (a.text.size < TAG_SIZE) {
		return open_failed(L);
	}
	a.text.size -= TAG_SIZE;
	uint8_t tag[TAG_SIZE];
	memcpy(tag, a.text.data + a.text.size, TAG_SIZE);
	luaL_Buffer b;
	a.out = (uint8_t *)luaL_buffinitsize(L, &b, a.text.size);
	if (!with_context(&a, tag)) {
		return open_failed(L);
	}
	luaL_pushresultsize(&b, a.text.size);
	return 1;
}

static const EVP_CIPHER *
check_aes(lua_State *L) {
	switch (crypt_check_bytes(L, 1).size) {
	case 16:
		return EVP_aes_128_gcm();
	case 24:
		return EVP_aes_192_gcm();
	case 32:
		return EVP_aes_256_gcm();
	default:
		luaL_argerror(L, 1, "key of 16, 24 or 32 bytes expected");
		return NULL;
	}
}

static const EVP_CIPHER *
check_chacha(lua_State *L) {
	crypt_check_sized(L, 1, 32, "key");
	return EVP_chacha20_poly1305();
}

/* aes_gcm_encrypt(key, nonce, text [, aad]) -> sealed */
static int
laes_gcm_encrypt(lua_State *L) {
	return seal(L, check_aes(L));
}

/* aes_gcm_decrypt(key, nonce, sealed [, aad]) -> text, or nil and a message */
static int
laes_gcm_decrypt(lua_State *L) {
	return open_sealed(L, check_aes(L));
}

/* chacha20_poly1305_encrypt(key, nonce, text [, aad]) -> sealed */
static int
lchacha_encrypt(lua_State *L) {
	return seal(L, check_chacha(L));
}

/* chacha20_poly1305_decrypt(key, nonce, sealed [, aad]) -> text, or nil and a message */
static int
lchacha_decrypt(lua_State *L) {
	return open_sealed(L, check_chacha(L));
}

const luaL_Reg crypt_aead_functions[] = {
    {"aes_gcm_encrypt", laes_gcm_encrypt},
    {"aes_gcm_decrypt", laes_gcm_decrypt},
    {"chacha20_poly1305_encrypt", lchacha_encrypt},
    {"chacha20_poly1305_decrypt", lchacha_decrypt},
    {NULL, NULL},
};
