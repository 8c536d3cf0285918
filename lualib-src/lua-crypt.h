/*
 * skynet.crypt, private to its files (lua-crypt*.c). They are linked into skynet.so and into
 * client.so, which plain Lua loads: nothing in them may call the kernel. Nothing yields, and there
 * is no state but one counter (uuid_v7); every function may run on any thread.
 *
 * Memory: results are made in Lua's buffers before OpenSSL is called, so that no error of Lua can
 * jump over the release of an OpenSSL object.
 */
#ifndef LUA_CRYPT_H
#define LUA_CRYPT_H

#include <lauxlib.h>
#include <lua.h>

#include <stddef.h>
#include <stdint.h>

struct crypt_bytes {
	const uint8_t *data;
	size_t size;
};

/* Functions of the module by subject; each list ends with NULL, NULL. */
extern const luaL_Reg crypt_login_functions[];
extern const luaL_Reg crypt_des_functions[];
extern const luaL_Reg crypt_text_functions[];
extern const luaL_Reg crypt_hash_functions[];
extern const luaL_Reg crypt_password_functions[];
extern const luaL_Reg crypt_key_functions[];
extern const luaL_Reg crypt_aead_functions[];

int luaopen_skynet_crypt(lua_State *L);

/* The string argument `arg`, valid while it is on the stack. */
static inline struct crypt_bytes
crypt_check_bytes(lua_State *L, int arg) {
	struct crypt_bytes b;
	b.data = (const uint8_t *)luaL_checklstring(L, arg, &b.size);
	return b;
}

/* The same; the empty string when the argument is absent. */
static inline struct crypt_bytes
crypt_opt_bytes(lua_State *L, int arg) {
	struct crypt_bytes b;
	b.data = (const uint8_t *)luaL_optlstring(L, arg, "", &b.size);
	return b;
}

/* The same, of exactly `size` bytes: else an argument error that calls it `what`. */
const uint8_t *crypt_check_sized(lua_State *L, int arg, size_t size, const char *what);

/* Fill with random bytes of the operating system; raises when it has none. */
void crypt_random(lua_State *L, uint8_t *out, size_t size);

/* Raise "crypt: WHAT failed (reason of OpenSSL)", and empty OpenSSL's list of errors. */
int crypt_openssl_error(lua_State *L, const char *what);

/* Base64 without line breaks; returns the end. Room for 4 characters per begun group of 3. */
char *crypt_base64_write(const uint8_t *data, size_t size, char *out);

/* Inverse: at most 3 bytes per begun group of 4 go to `out`. Returns the number, or -1. */
ptrdiff_t crypt_base64_read(const char *text, size_t size, uint8_t *out);

#endif
