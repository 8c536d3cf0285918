/*
 * Fuzzer of TLS sessions: whatever a peer sends gives plaintext, output or a Lua
 * error. The first byte of the input says who gets the rest (bit 0: a client, else a
 * server; bit 1: behind a handshake, else from the beginning; bit 2: encrypted by the
 * peer, which makes it application data) and, in the upper half, how large the
 * pieces are. The rest is tried as a session to resume as well.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lualib.h>

#include "../unit/tls_cert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int luaopen_ltls_c(lua_State *L);
int luaopen_ltls_init_c(lua_State *L);

static const char program[] =
    "local init, open, cert, key = ...\n"
    "init().constructor()\n"
    "local ltls = open()\n"
    "local server = ltls.newctx()\n"
    "server:set_cert_pem(cert, key)\n"
    "server:set_ca_pem(cert)\n"
    "server:set_client_auth 'optional'\n"
    "server:set_alpn { 'h2', 'http/1.1' }\n"
    "local other = ltls.newctx()\n"
    "other:set_cert_pem(cert, key)\n"
    "server:add_host('a.test', other)\n"
    "local client = ltls.newctx()\n"
    "client:set_ca_pem(cert)\n"
    "client:set_alpn { 'h2' }\n"
    "local function shake(s, c)\n"
    "	local bytes = c:handshake(s:handshake(c:handshake()))\n"
    "	c:read(s:handshake(bytes) or '')\n"
    "end\n"
    "local function drive(s, bytes, step)\n"
    "	for i = 1, #bytes, step do\n"
    "		local piece = bytes:sub(i, i + step - 1)\n"
    "		if s:finished() then s:read(piece) else s:handshake(piece) end\n"
    "	end\n"
    "end\n"
    "return function(data)\n"
    "	local how = data:byte() or 0\n"
    "	local bytes = data:sub(2)\n"
    "	local s = ltls.newtls('server', server)\n"
    "	local c = ltls.newtls('client', client, 'fuzz.test')\n"
    "	c:set_session(bytes)\n"
    "	if how & 2 ~= 0 then shake(s, c) elseif how & 1 ~= 0 then c:handshake() end\n"
    "	local target, peer = s, c\n"
    "	if how & 1 ~= 0 then target, peer = c, s end\n"
    "	if how & 6 == 6 then\n"
    "		assert(target:read(peer:write(bytes)) == bytes)\n"
    "	end\n"
    "	pcall(drive, target, bytes, (how >> 4) * 37 + 1)\n"
    "	pcall(target.write, target, 'x')\n"
    "	target:write() target:shutdown() target:session() target:peer_certificate()\n"
    "	s:close() c:close()\n"
    "end\n";

static lua_State *
start(void) {
	lua_State *L = luaL_newstate();
	luaL_openlibs(L);
	if (luaL_loadstring(L, program) != LUA_OK) {
		abort();
	}
	lua_pushcfunction(L, luaopen_ltls_init_c);
	lua_pushcfunction(L, luaopen_ltls_c);
	push_certificate(L);
	if (lua_pcall(L, 4, 1, 0) != LUA_OK) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
	return L;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static lua_State *L;
	if (L == NULL) {
		L = start();
	}
	lua_settop(L, 1);
	lua_pushvalue(L, 1);
	lua_pushlstring(L, (const char *)data, size);
	if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
	return 0;
}
