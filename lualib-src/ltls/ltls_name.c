// What a TLS server decides by name: the certificate (SNI, RFC 6066) and the
// application protocol (ALPN, RFC 7301). See ltls.h.
#include "ltls.h"

#include <openssl/err.h>

#include <string.h>
#include <strings.h>

#include "skynet_imp.h"
#include "skynet_malloc.h"

#define PROTOCOL_MAX 255
#define ALPN_MAX 65535

//----------------------------------------------------------------------- SNI

// Does "*.b" or "a.b" stand for the name?
static bool
names_host(const char *pattern, const char *name) {
	if (pattern[0] != '*') {
		return strcasecmp(pattern, name) == 0;
	}
	const char *dot = strchr(name, '.');
	return dot != NULL && dot != name && strcasecmp(pattern + 1, dot) == 0;
}

static SSL_CTX *
find_host(const struct ltls_config *c, const char *name) {
	SSL_CTX *wild = NULL;
	for (size_t i = 0; i < c->host_n; i++) {
		if (names_host(c->host[i].name, name)) {
			if (c->host[i].name[0] != '*') {
				return c->host[i].ctx;
			}
			wild = c->host[i].ctx;
		}
	}
	return wild;
}

static int
on_server_name(SSL *ssl, int *alert, void *ud) {
	(void)ud;
	const struct ltls_config *c = ltls_config(SSL_get_SSL_CTX(ssl));
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	if (name == NULL || c->host_n == 0) {
		return SSL_TLSEXT_ERR_OK;
	}
	SSL_CTX *ctx = find_host(c, name);
	if (ctx != NULL) {
		SSL_set_SSL_CTX(ssl, ctx);
		// OpenSSL takes over the certificate only.
		SSL_set_verify(ssl, ltls_config(ctx)->client_auth, NULL);
	} else if (c->refuse_unknown_host) {
		*alert = SSL_AD_UNRECOGNIZED_NAME;
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	}
	return SSL_TLSEXT_ERR_OK;
}

// add_host(name, context): clients that ask for `name` get that context. "*.b"
// stands for one more label, "*" alone is not allowed; add_host(nil) refuses
// clients that ask for a name not in the list.
int
ltls_context_add_host(lua_State *L) {
	struct ltls_config *c = ltls_config(ltls_check_context(L, 1));
	if (lua_isnil(L, 2)) {
		c->refuse_unknown_host = true;
		return 0;
	}
	size_t n;
	const char *name = luaL_checklstring(L, 2, &n);
	luaL_argcheck(L, n > 0 && n <= LTLS_HOST_MAX && strlen(name) == n, 2, "not a host name");
	luaL_argcheck(L, name[0] != '*' || (name[1] == '.' && n > 2), 2, "not a host name");
	SSL_CTX *ctx = ltls_check_context(L, 3);
	luaL_argcheck(L, ltls_config(ctx) != c, 3, "a context cannot serve itself");
	luaL_argcheck(L, ltls_config(ctx)->host_n == 0, 3, "has hosts of its own");
	c->host = skynet_realloc(c->host, (c->host_n + 1) * sizeof(c->host[0]));
	SSL_CTX_up_ref(ctx);
	c->host[c->host_n].name = skynet_strdup(name);
	c->host[c->host_n++].ctx = ctx;
	return 0;
}

//---------------------------------------------------------------------- ALPN

static int
on_protocols(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in,
             unsigned in_n, void *ud) {
	const struct ltls_config *c = ltls_config(SSL_get_SSL_CTX(ssl));
	(void)ud;
	if (c->alpn_n == 0) {
		// A host without a list of its own has that of the listener.
		c = ((struct ltls_session *)SSL_get_app_data(ssl))->base;
	}
	if (c->alpn_n == 0) {
		return SSL_TLSEXT_ERR_NOACK;
	}
	int r = SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_n, c->alpn,
	                              (unsigned)c->alpn_n, in, in_n);
	return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// The wire form of a list of names, in a userdata that is left on the stack.
static unsigned char *
pack_protocols(lua_State *L, int index, size_t *size) {
	unsigned char *wire = lua_newuserdatauv(L, ALPN_MAX, 0);
	size_t at = 0;
	lua_Integer count = luaL_len(L, index);
	for (lua_Integer i = 1; i <= count; i++) {
		size_t n = 0;
		lua_geti(L, index, i);
		const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &n) : NULL;
		if (name == NULL || n == 0 || n > PROTOCOL_MAX || at + 1 + n > ALPN_MAX) {
			luaL_error(L, "ALPN protocol %d: need a text of 1 to 255 bytes", (int)i);
			return NULL;
		}
		wire[at++] = (unsigned char)n;
		memcpy(wire + at, name, n);
		at += n;
		lua_pop(L, 1);
	}
	*size = at;
	return wire;
}

// set_alpn(list): protocols by preference; clients offer them, servers choose
int
ltls_context_set_alpn(lua_State *L) {
	SSL_CTX *ctx = ltls_check_context(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	size_t n = 0;
	const unsigned char *wire = pack_protocols(L, 2, &n);
	struct ltls_config *c = ltls_config(ctx);
	ERR_clear_error();
	if (SSL_CTX_set_alpn_protos(ctx, wire, (unsigned)n) != 0) {
		return ltls_raise(L, "SSL_CTX_set_alpn_protos");
	}
	unsigned char *copy = skynet_malloc(n);
	if (n > 0) {
		memcpy(copy, wire, n);
	}
	skynet_free(c->alpn);
	c->alpn = copy;
	c->alpn_n = n;
	return 0;
}

void
ltls_name_install(SSL_CTX *ctx) {
	SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
	SSL_CTX_set_alpn_select_cb(ctx, on_protocols, NULL);
}
