// TLS sessions: ciphertext of the peer in, plaintext out, and back. See ltls.h.
//
// DESIGN. A session reads from and writes to two memory queues. Every method that
// can leave output behind either returns it or says so, so that nothing waits for
// the next write: neither the last flight of a handshake, nor an alert, nor the
// answer to a key update. After a failure the output still holds the alert that
// tells the peer: write() without an argument fetches it.
#include "ltls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "skynet_malloc.h"

// A record has at most so much plaintext.
#define RECORD_MAX 16384
// What OpenSSL compares before a client resumes a session.
static const unsigned char CLIENT_ID[] = "client";
// A memory queue that grew beyond is given back when it is empty.
#define QUEUE_KEEP 8192

//-------------------------------------------------------------------- queues

static struct ltls_session *
check_object(lua_State *L) {
	return luaL_checkudata(L, 1, LTLS_SESSION);
}

struct ltls_session *
ltls_check_session(lua_State *L) {
	struct ltls_session *s = check_object(L);
	if (s->ssl == NULL) {
		luaL_error(L, "context is closed");
	}
	return s;
}

static bool
is_large(BIO *bio) {
	BUF_MEM *mem = NULL;
	BIO_get_mem_ptr(bio, &mem);
	return mem != NULL && mem->max > QUEUE_KEEP;
}

// Empty queues of idle connections should not keep what a burst once needed.
static void
trim_input(struct ltls_session *s) {
	BIO *bio = SSL_get_rbio(s->ssl);
	if (BIO_pending(bio) == 0 && is_large(bio)) {
		BIO *fresh = BIO_new(BIO_s_mem());
		if (fresh != NULL) {
			SSL_set0_rbio(s->ssl, fresh);
		}
	}
}

static size_t
pending_output(const struct ltls_session *s) {
	return BIO_ctrl_pending(SSL_get_wbio(s->ssl));
}

// Pushes what is to be sent, "" if nothing.
static void
push_output(lua_State *L, struct ltls_session *s) {
	BIO *bio = SSL_get_wbio(s->ssl);
	char *data = NULL;
	long n = BIO_get_mem_data(bio, &data);
	lua_pushlstring(L, n > 0 ? data : "", n > 0 ? (size_t)n : 0);
	if (n > 0 && is_large(bio)) {
		BIO *fresh = BIO_new(BIO_s_mem());
		if (fresh != NULL) {
			SSL_set0_wbio(s->ssl, fresh);
			return;
		}
	}
	(void)BIO_reset(bio);
}

// The bytes in arguments 2 and 3: a string, or a block and its size, or nothing.
static const char *
check_bytes(lua_State *L, size_t *n) {
	if (lua_isnoneornil(L, 2)) {
		*n = 0;
		return NULL;
	}
	if (lua_islightuserdata(L, 2)) {
		lua_Integer size = luaL_checkinteger(L, 3);
		luaL_argcheck(L, size >= 0, 3, "size out of range");
		*n = (size_t)size;
		return lua_touserdata(L, 2);
	}
	return luaL_checklstring(L, 2, n);
}

// Appends the bytes of the peer in argument 2 to the input.
static void
feed(lua_State *L, struct ltls_session *s) {
	size_t n;
	const char *bytes = check_bytes(L, &n);
	luaL_argcheck(L, n <= INT_MAX, 2, "too long");
	ERR_clear_error();
	if (n > 0 && BIO_write(SSL_get_rbio(s->ssl), bytes, (int)n) != (int)n) {
		luaL_error(L, "out of memory for %I bytes of TLS input", (LUAI_UACINT)n);
	}
}

//------------------------------------------------------------------ failures

// What was wrong with the peer's certificate, if that was it.
static const char *
certificate_problem(const struct ltls_session *s) {
	long r = SSL_get_verify_result(s->ssl);
	unsigned long e = ERR_peek_error();
	bool is_it =
	    ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED;
	return is_it && r != X509_V_OK ? X509_verify_cert_error_string(r) : NULL;
}

static const char *
hint(const struct ltls_session *s) {
	int reason = ERR_GET_REASON(ERR_peek_error());
	bool lacks =
	    reason == SSL_R_NO_SHARED_CIPHER || reason == SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM;
	if (!s->is_client && lacks && !ltls_config(SSL_get_SSL_CTX(s->ssl))->has_certificate) {
		return "; the context has no certificate, see set_cert";
	}
	return certificate_problem(s) == NULL ? "" : ltls_crl_hint(SSL_get_verify_result(s->ssl));
}

// The session is of no more use.
static void
note_failure(struct ltls_session *s, const char *what, int error, int r) {
	char text[160];
	const char *problem = certificate_problem(s);
	const char *tail = hint(s);
	ltls_error_text(text, sizeof(text));
	s->has_failed = true;
	if (r <= 0) {
		snprintf(s->reason, sizeof(s->reason), "%s error:%d ret:%d (%s%s%s%s)", what, error, r,
		         text, problem == NULL ? "" : ": ", problem == NULL ? "" : problem, tail);
	} else {
		snprintf(s->reason, sizeof(s->reason), "%s error:%d (%s)", what, error, text);
	}
}

static int
fail(lua_State *L, struct ltls_session *s, const char *what, int error, int r) {
	note_failure(s, what, error, r);
	return luaL_error(L, "%s", s->reason);
}

static struct ltls_session *
check_working(lua_State *L) {
	struct ltls_session *s = ltls_check_session(L);
	if (s->has_failed) {
		luaL_error(L, "%s", s->reason);
	}
	return s;
}

//----------------------------------------------------------------- beginning

static bool
is_address(const char *host) {
	unsigned char a[sizeof(struct in6_addr)];
	return inet_pton(AF_INET, host, a) == 1 || inet_pton(AF_INET6, host, a) == 1;
}

// Names the peer: what its certificate must be for, and unless it is an address
// (RFC 6066, 3) what SNI asks for.
static void
set_host(lua_State *L, struct ltls_session *s, int index) {
	size_t n;
	const char *host = luaL_checklstring(L, index, &n);
	luaL_argcheck(L, n > 0 && n <= LTLS_HOST_MAX && strlen(host) == n, index, "not a host name");
	snprintf(s->host, sizeof(s->host), "%s", host);
	if (n > 1 && s->host[n - 1] == '.') {
		s->host[n - 1] = '\0';
	}
	X509_VERIFY_PARAM *p = SSL_get0_param(s->ssl);
	ERR_clear_error();
	bool ok;
	if (is_address(s->host)) {
		ok = X509_VERIFY_PARAM_set1_ip_asc(p, s->host) == 1;
	} else {
		X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		ok = SSL_set1_host(s->ssl, s->host) == 1 && SSL_set_tlsext_host_name(s->ssl, s->host) == 1;
	}
	if (!ok) {
		ltls_raise(L, "SSL_set_tlsext_host_name");
	}
	s->verifies = ltls_config(SSL_get_SSL_CTX(s->ssl))->verify != LTLS_VERIFY_NONE;
	if (s->verifies) {
		SSL_set_verify(s->ssl, SSL_VERIFY_PEER, NULL);
	}
}

static void
begin_client(lua_State *L, struct ltls_session *s, SSL_CTX *ctx) {
	s->is_client = true;
	s->verifies = ltls_config(ctx)->verify == LTLS_VERIFY_ALWAYS;
	SSL_set_connect_state(s->ssl);
	// A session may be resumed in another context of a client: see ltls_resume.c.
	SSL_set_session_id_context(s->ssl, CLIENT_ID, sizeof(CLIENT_ID));
	SSL_set_verify(s->ssl, s->verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (!lua_isnoneornil(L, 3)) {
		set_host(L, s, 3);
	}
}

static void
on_message(int is_output, int version, int type, const void *bytes, size_t n, SSL *ssl, void *ud) {
	struct ltls_session *s = ud;
	(void)version;
	(void)bytes;
	(void)n;
	(void)ssl;
	if (!is_output && type == SSL3_RT_HANDSHAKE && s->is_finished) {
		s->chatter++;
	}
}

static SSL *
new_ssl(SSL_CTX *ctx) {
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem());
	BIO *out = BIO_new(BIO_s_mem());
	if (ssl == NULL || in == NULL || out == NULL) {
		SSL_free(ssl);
		BIO_free(in);
		BIO_free(out);
		return NULL;
	}
	SSL_set_bio(ssl, in, out);
	return ssl;
}

// newtls(method, context [, hostname]) -> session; method "client" or "server". The
// host name is that of a client's peer.
int
ltls_new_session(lua_State *L) {
	const char *method = luaL_checkstring(L, 1);
	SSL_CTX *ctx = ltls_check_context(L, 2);
	bool is_client = strcmp(method, "client") == 0;
	if (!is_client && strcmp(method, "server") != 0) {
		return luaL_error(L, "invalid method:%s e.g[server, client]", method);
	}
	lua_settop(L, 3);
	struct ltls_session *s = lua_newuserdatauv(L, sizeof(*s), 0);
	memset(s, 0, sizeof(*s));
	luaL_setmetatable(L, LTLS_SESSION);
	ERR_clear_error();
	if (is_client && ltls_config(ctx)->verify != LTLS_VERIFY_NONE) {
		ltls_trust_system(ctx);
	}
	s->ssl = new_ssl(ctx);
	if (s->ssl == NULL) {
		return ltls_raise(L, "SSL_new");
	}
	SSL_set_app_data(s->ssl, s);
	SSL_set_msg_callback(s->ssl, on_message);
	SSL_set_msg_callback_arg(s->ssl, s);
	s->base = ltls_config(ctx);
	if (is_client) {
		begin_client(L, s, ctx);
	} else {
		SSL_set_accept_state(s->ssl);
		SSL_set_verify(s->ssl, ltls_config(ctx)->client_auth, NULL);
	}
	return 1;
}

// set_ext_host_name(name) -> 1: as the host name of newtls
static int
lset_host(lua_State *L) {
	struct ltls_session *s = ltls_check_session(L);
	if (!s->is_client || !SSL_in_before(s->ssl)) {
		return luaL_error(L, "a host name is set at the client, before the handshake");
	}
	set_host(L, s, 2);
	lua_pushinteger(L, 1);
	return 1;
}

static int
lclose(lua_State *L) {
	struct ltls_session *s = check_object(L);
	SSL_free(s->ssl);
	SSL_SESSION_free(s->ticket);
	skynet_free(s->plain);
	s->ssl = NULL;
	s->ticket = NULL;
	s->plain = NULL;
	return 0;
}

//----------------------------------------------------------------- handshake

// A resumed session has no certificate to look at; what its first handshake found is
// still known.
static void
check_result(lua_State *L, struct ltls_session *s) {
	long r = SSL_get_verify_result(s->ssl);
	if (s->verifies && r != X509_V_OK) {
		s->has_failed = true;
		snprintf(s->reason, sizeof(s->reason), "the resumed session is not to be trusted: %s",
		         X509_verify_cert_error_string(r));
		luaL_error(L, "%s", s->reason);
	}
}

// handshake([bytes] | block, size) -> bytes to send, or nothing
static int
lhandshake(lua_State *L) {
	struct ltls_session *s = check_working(L);
	if (s->is_finished) {
		return luaL_error(L, "handshake is finished");
	}
	if (s->is_client && s->verifies && s->host[0] == '\0') {
		return luaL_error(L, "no host name to verify the certificate against: give one to "
		                     "newtls, or turn verification off (verify = false)");
	}
	feed(L, s);
	int r = SSL_do_handshake(s->ssl);
	if (r == 1) {
		check_result(L, s);
		s->is_finished = true;
		trim_input(s);
	} else {
		int error = SSL_get_error(s->ssl, r);
		if (error != SSL_ERROR_WANT_READ) {
			return fail(L, s, "SSL_do_handshake", error, r);
		}
	}
	if (pending_output(s) == 0) {
		return 0;
	}
	push_output(L, s);
	return 1;
}

static int
lfinished(lua_State *L) {
	lua_pushboolean(L, ltls_check_session(L)->is_finished);
	return 1;
}

//------------------------------------------------------------------- records

static struct ltls_session *
check_finished(lua_State *L) {
	struct ltls_session *s = check_working(L);
	if (!s->is_finished) {
		luaL_error(L, "the TLS handshake is not finished");
	}
	return s;
}

// Adds all the plaintext that is there to what the session has; returns what stopped it,
// an SSL_ERROR.
static int
take_plaintext(struct ltls_session *s) {
	char room[RECORD_MAX];
	size_t cap = s->plain_size;
	size_t n;
	int r;
	while ((r = SSL_read_ex(s->ssl, room, sizeof(room), &n)) == 1) {
		if (s->plain_size + n > cap) {
			// The first record, which is mostly the only one, gets what it needs.
			cap = cap == 0 ? n : (s->plain_size + n) * 2;
			s->plain = skynet_realloc(s->plain, cap);
		}
		memcpy(s->plain + s->plain_size, room, n);
		s->plain_size += n;
		s->chatter = 0;
	}
	return SSL_get_error(s->ssl, r);
}

// Takes in the bytes of arguments 2 and 3. The session has the plaintext then, until it is
// given. An error behind good records is kept for the next call.
static void
receive(lua_State *L, struct ltls_session *s) {
	if (s->has_failed) {
		return;
	}
	feed(L, s);
	int error = take_plaintext(s);
	if (error == SSL_ERROR_ZERO_RETURN) {
		s->is_ended = true;
	} else if (error != SSL_ERROR_WANT_READ) {
		note_failure(s, "SSL_read", error, 1);
	} else if (s->chatter > LTLS_CHATTER_MAX) {
		s->has_failed = true;
		snprintf(s->reason, sizeof(s->reason), "too many handshake messages behind the handshake");
	}
	if (s->has_failed && s->plain == NULL) {
		luaL_error(L, "%s", s->reason);
	}
	trim_input(s);
}

static struct ltls_session *
check_readable(lua_State *L) {
	struct ltls_session *s = ltls_check_session(L);
	return s->plain != NULL ? s : check_finished(L);
}

// The plaintext is the caller's.
static void
give_plaintext(struct ltls_session *s) {
	s->plain = NULL;
	s->plain_size = 0;
}

static int
push_state(lua_State *L, struct ltls_session *s) {
	lua_pushboolean(L, s->is_ended);
	lua_pushboolean(L, pending_output(s) > 0);
	lua_pushstring(L, s->has_failed ? s->reason : NULL);
	return 3;
}

// What cannot be given for want of Lua's memory is given by the next call, which may have no
// bytes.

// read([bytes] | block, size) -> plaintext ("" if none), ended, has_output, failure.
// `ended`: the peer has said that nothing follows. `has_output`: write() has something
// to fetch. `failure`: the error behind good records, which the next call raises.
static int
lread(lua_State *L) {
	struct ltls_session *s = check_readable(L);
	receive(L, s);
	lua_pushlstring(L, s->plain != NULL ? s->plain : "", s->plain_size);
	int results = 1 + push_state(L, s);
	skynet_free(s->plain);
	give_plaintext(s);
	return results;
}

// pull([bytes] | block, size) -> block, size, ended, has_output, failure. As read, but
// gives a block of the allocator, or nil.
static int
lpull(lua_State *L) {
	struct ltls_session *s = check_readable(L);
	receive(L, s);
	if (s->plain == NULL) {
		lua_pushnil(L);
	} else {
		lua_pushlightuserdata(L, s->plain);
	}
	lua_pushinteger(L, (lua_Integer)s->plain_size);
	int results = 2 + push_state(L, s);
	give_plaintext(s);
	return results;
}

// write([plaintext] | block, size) -> all bytes to send ("" if none). Without
// plaintext it works in every state.
static int
lwrite(lua_State *L) {
	size_t n;
	const char *bytes = check_bytes(L, &n);
	if (n > 0) {
		struct ltls_session *s = check_finished(L);
		size_t written;
		s->chatter = 0;
		ERR_clear_error();
		int r = SSL_write_ex(s->ssl, bytes, n, &written);
		if (r != 1) {
			return fail(L, s, "SSL_write", SSL_get_error(s->ssl, r), 1);
		}
	}
	push_output(L, ltls_check_session(L));
	return 1;
}

// shutdown() -> bytes to send: tells the peer that nothing follows
static int
lshutdown(lua_State *L) {
	struct ltls_session *s = ltls_check_session(L);
	if (s->is_finished && !s->has_failed) {
		ERR_clear_error();
		SSL_shutdown(s->ssl);
		ERR_clear_error();
	}
	push_output(L, s);
	return 1;
}

//--------------------------------------------------------------------- facts

// alpn() -> protocol, or nil
static int
lalpn(lua_State *L) {
	const unsigned char *name = NULL;
	unsigned n = 0;
	SSL_get0_alpn_selected(ltls_check_session(L)->ssl, &name, &n);
	if (n == 0) {
		lua_pushnil(L);
	} else {
		lua_pushlstring(L, (const char *)name, n);
	}
	return 1;
}

// version() -> "TLSv1.3"
static int
lversion(lua_State *L) {
	lua_pushstring(L, SSL_get_version(ltls_check_session(L)->ssl));
	return 1;
}

// cipher() -> OpenSSL's name, or nil
static int
lcipher(lua_State *L) {
	lua_pushstring(L, SSL_get_cipher_name(ltls_check_session(L)->ssl));
	return 1;
}

// server_name() -> the name that SNI asks for, or nil
static int
lserver_name(lua_State *L) {
	lua_pushstring(L, SSL_get_servername(ltls_check_session(L)->ssl, TLSEXT_NAMETYPE_host_name));
	return 1;
}

// peer_certificate() -> table, or nil
static int
lpeer_certificate(lua_State *L) {
	X509 *cert = SSL_get0_peer_certificate(ltls_check_session(L)->ssl);
	if (cert == NULL) {
		lua_pushnil(L);
	} else {
		ltls_push_certificate(L, cert);
	}
	return 1;
}

void
ltls_session_register(lua_State *L) {
	static const luaL_Reg methods[] = {
	    {"set_ext_host_name", lset_host},
	    {"handshake", lhandshake},
	    {"finished", lfinished},
	    {"read", lread},
	    {"pull", lpull},
	    {"write", lwrite},
	    {"shutdown", lshutdown},
	    {"close", lclose},
	    {"alpn", lalpn},
	    {"version", lversion},
	    {"cipher", lcipher},
	    {"server_name", lserver_name},
	    {"peer_certificate", lpeer_certificate},
	    {"session", ltls_session_get},
	    {"set_session", ltls_session_set},
	    {"resumed", ltls_session_resumed},
	    {"__gc", lclose},
	    {NULL, NULL},
	};
	if (luaL_newmetatable(L, LTLS_SESSION)) {
		luaL_setfuncs(L, methods, 0);
		lua_pushvalue(L, -1);
		lua_setfield(L, -2, "__index");
	}
	lua_pop(L, 1);
}
