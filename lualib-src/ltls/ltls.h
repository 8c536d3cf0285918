// TLS for Lua on OpenSSL 3: the parts of ltls.so, shared by its files and by nobody
// else.
//   ltls.c           the Lua modules ltls.c and ltls.init.c
//   ltls_context.c   contexts: certificates, trust, protocol settings
//   ltls_crl.c       their certificate revocation lists
//   ltls_name.c      what a server context decides by name: SNI and ALPN
//   ltls_session.c   sessions: handshake, records, end of stream
//   ltls_resume.c    session tickets as strings
//   ltls_cert.c      certificates as Lua tables
//   ltls_error.c     OpenSSL's error queue as texts
//
// Nothing here does I/O or waits: bytes of the peer go in, bytes for the peer come
// out. An object belongs to the VM that made it; it is used by one thread at a time,
// and different VMs share nothing but the trusted certificates of the system. No
// callback of OpenSSL calls Lua.
#ifndef ltls_h
#define ltls_h

#include <lauxlib.h>
#include <lua.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LTLS_CONTEXT "skynet.tls.context"
#define LTLS_SESSION "skynet.tls.session"
// Handshake messages behind the handshake that a peer may send without any data either
// way: tickets and key updates are few, each costs a computation.
#define LTLS_CHATTER_MAX 64
// Longest host name, RFC 1035; what SNI can carry.
#define LTLS_HOST_MAX 255

// What a client does with the certificate of its peer.
enum ltls_verify {
	LTLS_VERIFY_NONE,
	LTLS_VERIFY_NAMED,  // verify it if the session has a host name
	LTLS_VERIFY_ALWAYS, // a session without a host name does not begin
};

struct ltls_host {
	char *name;   // "a.b", or "*.b" for one more label
	SSL_CTX *ctx; // owns a reference
};

// Our settings of an SSL_CTX. They live and die with it.
struct ltls_config {
	enum ltls_verify verify;
	int client_auth; // SSL_VERIFY_ flags of a server session
	bool has_trust;  // the user named certificates to trust
	bool has_certificate;
	bool has_ticket_keys;
	unsigned char ticket_id[SHA256_DIGEST_LENGTH]; // of those keys
	STACK_OF(X509_CRL) * crls;                     // NULL = revocation is not looked at
	unsigned char crl_digest[SHA256_DIGEST_LENGTH];
	bool refuse_unknown_host;
	unsigned char *alpn; // wire form of RFC 7301
	size_t alpn_n;
	struct ltls_host *host;
	size_t host_n;
};

struct ltls_session {
	SSL *ssl; // NULL = closed
	bool is_client;
	bool is_finished; // the handshake
	bool is_ended;    // the peer's close_notify came
	bool has_failed;  // fatal; `reason` tells
	int chatter;      // handshake messages of the peer since the last data
	bool verifies;    // this client wants a valid certificate
	char host[LTLS_HOST_MAX + 1];
	char reason[256];
	const struct ltls_config *base; // of the context it was made with, which ssl keeps
	SSL_SESSION *ticket;            // the latest one, or NULL
	char *plain;                    // plaintext that could not be given yet, or NULL
	size_t plain_size;
};

//-------------------------------------------------------------------- errors

// The oldest error of this thread's queue, which is emptied, as a text. Writes at
// most `size` bytes.
void ltls_error_text(char *out, size_t size);
// Raises `what error:<number> (text)` for the error queue.
int ltls_raise(lua_State *L, const char *what);

//------------------------------------------------------------------ contexts

// Raises unless `index` is an open context.
SSL_CTX *ltls_check_context(lua_State *L, int index);
struct ltls_config *ltls_config(const SSL_CTX *ctx);
// Makes the certificates that the system trusts known to a client context whose
// user named none.
void ltls_trust_system(SSL_CTX *ctx);
void ltls_config_free(struct ltls_config *c);
int ltls_new_context(lua_State *L);
void ltls_context_register(lua_State *L);
// For functions that read PEM: a text as a BIO, given; refuses to ask for a password;
// whether the last error is the end of a list of objects, and not one of them.
BIO *ltls_text_bio(lua_State *L, int index);
int ltls_password(char *buf, int size, int rwflag, void *ud);
bool ltls_is_end_of_pem(void);
// Sessions made with shared ticket keys resume where the same certificates are revoked.
void ltls_name_sessions(SSL_CTX *ctx);

//---------------------------------------------------------------- revocation

// Methods of contexts: set_crl(file [, all]), set_crl_pem(text [, all]). The certificate of
// the peer, with `all` those of its authorities, too, must be on the list of who issued it,
// and there must be one. Behind set_ca.
int ltls_context_set_crl(lua_State *L);
int ltls_context_set_crl_pem(lua_State *L);
// Whether a certificate is on one of the lists of the context; NULL is not.
bool ltls_is_revoked(const struct ltls_config *c, X509 *cert);
// What to do about a result of verification (X509_V_ERR_), as a text to append, or "".
const char *ltls_crl_hint(long problem);

//--------------------------------------------------------------------- names

// Methods of contexts, see ltls_name.c.
int ltls_context_add_host(lua_State *L);
int ltls_context_set_alpn(lua_State *L);
// The callbacks that answer SNI and ALPN.
void ltls_name_install(SSL_CTX *ctx);

//------------------------------------------------------------------ sessions

// Raises unless argument 1 is an open session.
struct ltls_session *ltls_check_session(lua_State *L);
int ltls_new_session(lua_State *L);
void ltls_session_register(lua_State *L);

// Methods of sessions, see ltls_resume.c.
int ltls_session_get(lua_State *L);
int ltls_session_set(lua_State *L);
int ltls_session_resumed(lua_State *L);
// Keeps the tickets that clients get.
void ltls_resume_install(SSL_CTX *ctx);

//-------------------------------------------------------------- certificates

// Pushes a table that describes it.
void ltls_push_certificate(lua_State *L, X509 *cert);

#endif
