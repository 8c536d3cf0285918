// The Lua modules of ltls.so. `ltls.init.c` says once per process that TLS is to be
// used: the config item enablessl makes the bootstrap do it, skynet.tls does it by
// itself. `ltls.c` makes contexts and sessions.
#include "ltls.h"

#include <stdatomic.h>

// Relaxed: OpenSSL makes itself ready when it is first used, whatever this says.
static atomic_bool is_ready;

int luaopen_ltls_c(lua_State *L);
int luaopen_ltls_init_c(lua_State *L);

static int
lconstructor(lua_State *L) {
	if (OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL) !=
	    1) {
		return ltls_raise(L, "OPENSSL_init_ssl");
	}
	atomic_store_explicit(&is_ready, true, memory_order_relaxed);
	return 0;
}

// OpenSSL itself stays: other libraries of the process use it.
static int
ldestructor(lua_State *L) {
	(void)L;
	atomic_store_explicit(&is_ready, false, memory_order_relaxed);
	return 0;
}

int
luaopen_ltls_init_c(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"constructor", lconstructor},
	    {"destructor", ldestructor},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlib(L, functions);
	return 1;
}

int
luaopen_ltls_c(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"newctx", ltls_new_context},
	    {"newtls", ltls_new_session},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	if (!atomic_load_explicit(&is_ready, memory_order_relaxed)) {
		return luaL_error(L, "ltls need init, Put enablessl = true in you config file.");
	}
	ltls_context_register(L);
	ltls_session_register(L);
	luaL_newlib(L, functions);
	return 1;
}
