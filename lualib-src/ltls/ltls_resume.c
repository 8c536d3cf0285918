// Session resumption: what a client keeps of a session to shorten the next handshake
// (RFC 5077, RFC 8446 2.2), as a string. See ltls.h.
//
// A resumed handshake shows no certificate, so that the string tells for which host
// the session was made and whether its certificate was verified; it is of no use
// for another host, nor for a client that verifies if that one did not.
#include "ltls.h"

#include <openssl/err.h>

#include <string.h>

#include "skynet_malloc.h"

// Layout: FORMAT, 1 if verified, length of the host name, the name, the session
// (DER).
#define FORMAT 1
#define HEAD 3

// A new session of a client. 1 = the reference is ours.
static int
on_ticket(SSL *ssl, SSL_SESSION *ticket) {
	struct ltls_session *s = SSL_get_app_data(ssl);
	if (s == NULL) {
		return 0;
	}
	SSL_SESSION_free(s->ticket);
	s->ticket = ticket;
	return 1;
}

void
ltls_resume_install(SSL_CTX *ctx) {
	// Servers keep nothing: all of a session is in its ticket.
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_ticket);
}

// session() -> string, or nil: what set_session of a later client takes
int
ltls_session_get(lua_State *L) {
	struct ltls_session *s = ltls_check_session(L);
	int n = s->ticket == NULL || s->has_failed ? 0 : i2d_SSL_SESSION(s->ticket, NULL);
	if (n <= 0) {
		lua_pushnil(L);
		return 1;
	}
	size_t host_n = strlen(s->host);
	size_t size = HEAD + host_n + (size_t)n;
	luaL_Buffer b;
	unsigned char *p = (unsigned char *)luaL_buffinitsize(L, &b, size);
	*p++ = FORMAT;
	*p++ = s->verifies;
	*p++ = (unsigned char)host_n;
	memcpy(p, s->host, host_n);
	p += host_n;
	i2d_SSL_SESSION(s->ticket, &p);
	luaL_pushresultsize(&b, size);
	return 1;
}

// The session in a string of ltls_session_get if `s` may use it, else NULL. Gives a
// reference.
static SSL_SESSION *
read_session(const struct ltls_session *s, const unsigned char *p, size_t size) {
	if (size < HEAD || p[0] != FORMAT || size - HEAD < p[2]) {
		return NULL;
	}
	size_t host_n = p[2];
	if (strlen(s->host) != host_n || memcmp(p + HEAD, s->host, host_n) != 0) {
		return NULL;
	}
	if (s->verifies && p[1] != 1) {
		return NULL;
	}
	const unsigned char *der = p + HEAD + host_n;
	SSL_SESSION *ticket = d2i_SSL_SESSION(NULL, &der, (long)(size - HEAD - host_n));
	// A short handshake looks at no certificate, and this one may have been taken back since.
	if (ticket != NULL && s->verifies &&
	    ltls_is_revoked(ltls_config(SSL_get_SSL_CTX(s->ssl)), SSL_SESSION_get0_peer(ticket))) {
		SSL_SESSION_free(ticket);
		return NULL;
	}
	return ticket;
}

// set_session(string) -> boolean: offer an earlier session. Before the handshake. False:
// it was of another host, was not verified, its server's certificate is revoked, or it is no
// such string; the handshake will be a full one.
int
ltls_session_set(lua_State *L) {
	struct ltls_session *s = ltls_check_session(L);
	size_t n;
	const char *bytes = luaL_checklstring(L, 2, &n);
	if (!s->is_client || !SSL_in_before(s->ssl)) {
		return luaL_error(L, "a session is set at the client, before the handshake");
	}
	SSL_SESSION *ticket = read_session(s, (const unsigned char *)bytes, n);
	bool ok = ticket != NULL && SSL_set_session(s->ssl, ticket) == 1;
	SSL_SESSION_free(ticket);
	ERR_clear_error();
	lua_pushboolean(L, ok);
	return 1;
}

// resumed() -> boolean: the handshake was a short one
int
ltls_session_resumed(lua_State *L) {
	struct ltls_session *s = ltls_check_session(L);
	lua_pushboolean(L, s->is_finished && SSL_session_reused(s->ssl));
	return 1;
}
