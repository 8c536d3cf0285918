/*
 * skynet.crypt: keys from passwords with scrypt (RFC 7914), and the text under which a hashed
 * password is stored: $scrypt$ln=14,r=8,p=5$SALT$HASH, in base64 without padding.
 *
 * These functions are slow by design and keep their worker busy meanwhile.
 */
#include "lua-crypt.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define SALT_SIZE 16
#define HASH_SIZE 32
/* 16 MiB and about 0.2 s: what is commonly advised for interactive log-ins. */
#define DEFAULT_LN 14
#define DEFAULT_R 8
#define DEFAULT_P 5
/* No stored text and no caller may ask for more memory than this, nor for more rounds. */
#define MAX_MEMORY (256u * 1024 * 1024)
#define MAX_P 64
#define MAX_LN 24
#define MAX_R 64
#define MAX_OUTPUT 65536

struct cost {
	lua_Integer ln, r, p;
};

static uint64_t
memory_of(const struct cost *c) {
	return (uint64_t)128 * (uint64_t)c->r * (((uint64_t)1 << c->ln) + (uint64_t)c->p);
}

static bool
is_allowed(const struct cost *c) {
	return c->ln >= 1 && c->ln <= MAX_LN && c->r >= 1 && c->r <= MAX_R && c->p >= 1 &&
	       c->p <= MAX_P && memory_of(c) <= MAX_MEMORY;
}

static bool
run_scrypt(struct crypt_bytes password, struct crypt_bytes salt, const struct cost *c, uint8_t *out,
           size_t size) {
	return EVP_PBE_scrypt((const char *)password.data, password.size, salt.data, salt.size,
	                      (uint64_t)1 << c->ln, (uint64_t)c->r, (uint64_t)c->p,
	                      MAX_MEMORY + 1024 * 1024, out, size) == 1;
}

static lua_Integer
cost_field(lua_State *L, int arg, const char *name, lua_Integer normal) {
	if (lua_isnoneornil(L, arg)) {
		return normal;
	}
	luaL_checktype(L, arg, LUA_TTABLE);
	int kind = lua_getfield(L, arg, name);
	if (kind != LUA_TNIL) {
		int is_integer;
		normal = lua_tointegerx(L, -1, &is_integer);
		if (!is_integer) {
			luaL_argerror(L, arg, lua_pushfstring(L, "field '%s' is no integer", name));
		}
	}
	lua_pop(L, 1);
	return normal;
}

/* Without lua-options.h: this is part of client.so, which needs no skynet. */
static void
check_names(lua_State *L, int arg) {
	if (lua_isnoneornil(L, arg)) {
		return;
	}
	luaL_checktype(L, arg, LUA_TTABLE);
	lua_pushnil(L);
	while (lua_next(L, arg) != 0) {
		lua_pop(L, 1);
		const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
		if (strcmp(name, "ln") != 0 && strcmp(name, "r") != 0 && strcmp(name, "p") != 0) {
			name = luaL_tolstring(L, -1, NULL);
			luaL_argerror(L, arg,
			              lua_pushfstring(L, "unknown field '%s'; a cost has ln, r and p", name));
		}
	}
}

/* The optional table { ln =, r =, p = }. */
static struct cost
opt_cost(lua_State *L, int arg) {
	check_names(L, arg);
	struct cost c = {
	    cost_field(L, arg, "ln", DEFAULT_LN),
	    cost_field(L, arg, "r", DEFAULT_R),
	    cost_field(L, arg, "p", DEFAULT_P),
	};
	luaL_argcheck(L, is_allowed(&c), arg, "cost out of range");
	return c;
}

/* scrypt(password, salt, length [, cost]) -> key */
static int
lscrypt(lua_State *L) {
	struct crypt_bytes password = crypt_check_bytes(L, 1);
	struct crypt_bytes salt = crypt_check_bytes(L, 2);
	lua_Integer length = luaL_checkinteger(L, 3);
	luaL_argcheck(L, length > 0 && length <= MAX_OUTPUT, 3, "length out of range");
	struct cost c = opt_cost(L, 4);
	luaL_Buffer b;
	uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, (size_t)length);
	if (!run_scrypt(password, salt, &c, out, (size_t)length)) {
		return crypt_openssl_error(L, "scrypt");
	}
	luaL_pushresultsize(&b, (size_t)length);
	return 1;
}

/* Base64 without its padding; returns the end. */
static char *
write_field(const uint8_t *data, size_t size, char *out) {
	char *end = crypt_base64_write(data, size, out);
	while (end > out && end[-1] == '=') {
		end--;
	}
	return end;
}

static int
write_header(const struct cost *c, char *out, size_t size) {
	return snprintf(out, size, "$scrypt$ln=%d,r=%d,p=%d$", (int)c->ln, (int)c->r, (int)c->p);
}

/* password_hash(password [, cost]) -> text to store */
static int
lpassword_hash(lua_State *L) {
	struct crypt_bytes password = crypt_check_bytes(L, 1);
	struct cost c = opt_cost(L, 2);
	uint8_t salt[SALT_SIZE];
	uint8_t hash[HASH_SIZE];
	crypt_random(L, salt, sizeof(salt));
	if (!run_scrypt(password, (struct crypt_bytes){salt, sizeof(salt)}, &c, hash, sizeof(hash))) {
		return crypt_openssl_error(L, "scrypt");
	}
	char text[160];
	char *end = text + write_header(&c, text, sizeof(text));
	end = write_field(salt, sizeof(salt), end);
	*end++ = '$';
	end = write_field(hash, sizeof(hash), end);
	lua_pushlstring(L, text, (size_t)(end - text));
	return 1;
}

struct stored {
	struct cost cost;
	uint8_t salt[SALT_SIZE * 4];
	uint8_t hash[HASH_SIZE * 2];
	size_t salt_size, hash_size;
};

/* One field of base64 up to `end`: its size, or 0 when it is malformed, empty or above `max`. */
static size_t
read_field(const char *text, const char *end, uint8_t *out, size_t max) {
	size_t size = (size_t)(end - text);
	if (size > max / 3 * 4) {
		return 0;
	}
	ptrdiff_t n = crypt_base64_read(text, size, out);
	return n > 0 ? (size_t)n : 0;
}

static bool
read_stored(const char *text, size_t size, struct stored *s) {
	int ln, r, p;
	char header[64];
	if (strlen(text) != size || sscanf(text, "$scrypt$ln=%3d,r=%3d,p=%3d$", &ln, &r, &p) != 3) {
		return false;
	}
	s->cost = (struct cost){ln, r, p};
	// Written again, because sscanf lets signs, blanks and leading zeros pass.
	int n = write_header(&s->cost, header, sizeof(header));
	const char *end = strrchr(text, '$');
	if (strncmp(text, header, (size_t)n) != 0 || end < text + n) {
		return false;
	}
	s->salt_size = read_field(text + n, end, s->salt, sizeof(s->salt));
	s->hash_size = read_field(end + 1, text + size, s->hash, sizeof(s->hash));
	return s->salt_size > 0 && s->hash_size >= SALT_SIZE;
}

/* password_verify(password, text) -> boolean; raises when the text is none of password_hash */
static int
lpassword_verify(lua_State *L) {
	struct crypt_bytes password = crypt_check_bytes(L, 1);
	size_t size;
	const char *text = luaL_checklstring(L, 2, &size);
	struct stored s;
	luaL_argcheck(L, read_stored(text, size, &s) && is_allowed(&s.cost), 2,
	              "not a hashed password");
	uint8_t hash[sizeof(s.hash)];
	if (!run_scrypt(password, (struct crypt_bytes){s.salt, s.salt_size}, &s.cost, hash,
	                s.hash_size)) {
		return crypt_openssl_error(L, "scrypt");
	}
	lua_pushboolean(L, CRYPTO_memcmp(hash, s.hash, s.hash_size) == 0);
	return 1;
}

const luaL_Reg crypt_password_functions[] = {
    {"scrypt", lscrypt},
    {"password_hash", lpassword_hash},
    {"password_verify", lpassword_verify},
    {NULL, NULL},
};
