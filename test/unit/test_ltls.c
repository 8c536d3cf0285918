// TLS sessions from the inside: what a peer can do that no peer of the other tests does.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lualib.h>
#include <string.h>

#include "ltls/ltls.h"
#include "tls_cert.h"

int luaopen_ltls_c(lua_State *L);
int luaopen_ltls_init_c(lua_State *L);

// Gives a server and a client behind their handshake, and a function that sends what
// the client has to say.
static const char program[] =
    "local init, open, cert, key, version = ...\n"
    "init().constructor()\n"
    "local ltls = open()\n"
    "local sctx, cctx = ltls.newctx(), ltls.newctx()\n"
    "sctx:set_cert_pem(cert, key)\n"
    "cctx:set_verify 'none'\n"
    "cctx:set_versions(version, version)\n"
    "local s, c = ltls.newtls('server', sctx), ltls.newtls('client', cctx)\n"
    "local bytes = c:handshake(s:handshake(c:handshake()))\n"
    "local last = s:handshake(bytes)\n"
    "if not c:finished() then c:handshake(last) else c:read(last or '') end\n"
    "assert(s:finished() and c:finished())\n"
    "return s, c, function(text)\n"
    "	local data, _, _, failure = s:read(c:write(text))\n"
    "	c:read(s:write())\n"
    "	assert(data == (text or ''))\n"
    "	return failure\n"
    "end\n";

static lua_State *L;

// Leaves server, client and that function in slots 1 to 3.
static struct ltls_session *
connect_pair(const char *version) {
	L = luaL_newstate();
	luaL_openlibs(L);
	assert_int_equal(luaL_loadstring(L, program), LUA_OK);
	lua_pushcfunction(L, luaopen_ltls_init_c);
	lua_pushcfunction(L, luaopen_ltls_c);
	push_certificate(L);
	lua_pushstring(L, version);
	if (lua_pcall(L, 5, 3, 0) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	return luaL_checkudata(L, 2, LTLS_SESSION);
}

// Carries what the client has to say, with `text` behind it. Returns what is wrong, or NULL.
static const char *
carry(const char *text) {
	lua_settop(L, 3);
	lua_pushvalue(L, 3);
	lua_pushstring(L, text);
	lua_pcall(L, 1, 1, 0);
	return lua_tostring(L, -1);
}

static void
key_updates_between_data_are_fine(void **state) {
	(void)state;
	struct ltls_session *client = connect_pair("1.3");
	for (int i = 0; i < 200; i++) {
		assert_int_equal(SSL_key_update(client->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		assert_null(carry("data"));
	}
	lua_close(L);
}

static void
a_flood_of_key_updates_ends_the_session(void **state) {
	(void)state;
	struct ltls_session *client = connect_pair("1.3");
	const char *failure = NULL;
	int n = 0;
	while (failure == NULL && n < 1000) {
		SSL_key_update(client->ssl, SSL_KEY_UPDATE_REQUESTED);
		SSL_do_handshake(client->ssl);
		failure = carry(NULL);
		n++;
	}
	assert_non_null(failure);
	assert_non_null(strstr(failure, "too many handshake messages"));
	assert_in_range(n, LTLS_CHATTER_MAX, LTLS_CHATTER_MAX + 2);
	lua_close(L);
}

static void
renegotiation_is_refused(void **state) {
	(void)state;
	struct ltls_session *client = connect_pair("1.2");
	SSL_clear_options(client->ssl, SSL_OP_NO_RENEGOTIATION);
	assert_int_equal(SSL_renegotiate(client->ssl), 1);
	SSL_do_handshake(client->ssl);
	// The client takes the refusal as an error; the server goes on.
	const char *failure = carry(NULL);
	assert_non_null(failure);
	assert_non_null(strstr(failure, "no renegotiation"));
	lua_getfield(L, 1, "write");
	lua_pushvalue(L, 1);
	lua_pushstring(L, "still here");
	assert_int_equal(lua_pcall(L, 2, 1, 0), LUA_OK);
	lua_close(L);
}

int
main(void) {
	static const struct CMUnitTest claims[] = {
	    cmocka_unit_test(key_updates_between_data_are_fine),
	    cmocka_unit_test(a_flood_of_key_updates_ends_the_session),
	    cmocka_unit_test(renegotiation_is_refused),
	};
	return cmocka_run_group_tests(claims, NULL, NULL);
}
