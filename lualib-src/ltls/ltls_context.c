// TLS contexts: what the sessions of one listener, or of one kind of client, have in
// common. See ltls.h.
//
// DESIGN. The certificates that the system trusts are read once per process: a
// bundle costs 50 ms and a megabyte, which each service would pay again.
#include "ltls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "skynet_malloc.h"

// Size of the keys that OpenSSL protects tickets with.
#define TICKET_KEYS 80

static int config_index = -1;
static pthread_once_t config_once = PTHREAD_ONCE_INIT;
static X509_STORE *system_trust;
static pthread_once_t trust_once = PTHREAD_ONCE_INIT;

//------------------------------------------------------------------ settings

void
ltls_config_free(struct ltls_config *c) {
	for (size_t i = 0; i < c->host_n; i++) {
		skynet_free(c->host[i].name);
		SSL_CTX_free(c->host[i].ctx);
	}
	skynet_free(c->host);
	sk_X509_CRL_pop_free(c->crls, X509_CRL_free);
	skynet_free(c->alpn);
	skynet_free(c);
}

static void
on_context_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp) {
	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	if (ptr != NULL) {
		ltls_config_free(ptr);
	}
}

static void
make_index(void) {
	config_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, on_context_free);
}

struct ltls_config *
ltls_config(const SSL_CTX *ctx) {
	return SSL_CTX_get_ex_data(ctx, config_index);
}

// Without one OpenSSL would ask the terminal, and the worker would wait for it.
int
ltls_password(char *buf, int size, int rwflag, void *ud) {
	const char *password = ud;
	size_t n = password == NULL ? 0 : strlen(password);
	(void)rwflag;
	if (password == NULL || n > (size_t)size) {
		return -1;
	}
	memcpy(buf, password, n);
	return (int)n;
}

// Sessions resume in the context they were made in, and in those with the same
// ticket keys: the authority that a client was checked against is part of it.
static bool
set_session_id_context(SSL_CTX *ctx) {
	unsigned char id[SSL_MAX_SID_CTX_LENGTH];
	return RAND_bytes(id, sizeof(id)) == 1 &&
	       SSL_CTX_set_session_id_context(ctx, id, sizeof(id)) == 1;
}

static bool
configure(SSL_CTX *ctx) {
	struct ltls_config *c = skynet_calloc(1, sizeof(*c));
	c->verify = LTLS_VERIFY_NAMED;
	if (SSL_CTX_set_ex_data(ctx, config_index, c) != 1) {
		skynet_free(c);
		return false;
	}
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	                             SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	// An idle connection gives its record buffers back.
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_default_passwd_cb(ctx, ltls_password);
	ltls_name_install(ctx);
	ltls_resume_install(ctx);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 && set_session_id_context(ctx);
}

// newctx() -> context
int
ltls_new_context(lua_State *L) {
	pthread_once(&config_once, make_index);
	ERR_clear_error();
	SSL_CTX **p = lua_newuserdatauv(L, sizeof(*p), 0);
	*p = NULL;
	luaL_setmetatable(L, LTLS_CONTEXT);
	*p = SSL_CTX_new(TLS_method());
	if (*p == NULL || !configure(*p)) {
		return ltls_raise(L, "SSL_CTX_new");
	}
	return 1;
}

SSL_CTX *
ltls_check_context(lua_State *L, int index) {
	SSL_CTX **p = luaL_checkudata(L, index, LTLS_CONTEXT);
	if (*p == NULL) {
		luaL_error(L, "the TLS context is closed");
	}
	return *p;
}

static int
lclose(lua_State *L) {
	SSL_CTX **p = luaL_checkudata(L, 1, LTLS_CONTEXT);
	SSL_CTX_free(*p);
	*p = NULL;
	return 0;
}

//-------------------------------------------------------------- certificates

static int
check_pair(lua_State *L, SSL_CTX *ctx) {
	if (SSL_CTX_check_private_key(ctx) != 1) {
		return ltls_raise(L, "SSL_CTX_check_private_key");
	}
	ltls_config(ctx)->has_certificate = true;
	return 0;
}

// set_cert(certfile, keyfile [, password]): PEM files, the certificate first in its
// chain
static int
lset_cert(lua_State *L) {
	SSL_CTX *ctx = ltls_check_context(L, 1);
	const char *cert = lua_tostring(L, 2);
	const char *key = lua_tostring(L, 3);
	const char *password = luaL_optstring(L, 4, NULL);
	if (cert == NULL) {
		return luaL_error(L, "need certfile");
	}
	if (key == NULL) {
		return luaL_error(L, "need private key");
	}
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
		return ltls_raise(L, "SSL_CTX_use_certificate_chain_file");
	}
	SSL_CTX_set_default_passwd_cb_userdata(ctx, (void *)(uintptr_t)password);
	int ok = SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	if (ok != 1) {
		return ltls_raise(L, "SSL_CTX_use_PrivateKey_file");
	}
	return check_pair(L, ctx);
}

// A text as a BIO, lent.
BIO *
ltls_text_bio(lua_State *L, int index) {
	size_t n;
	const char *text = luaL_checklstring(L, index, &n);
	luaL_argcheck(L, n <= INT_MAX, index, "text too long");
	BIO *bio = BIO_new_mem_buf(text, (int)n);
	if (bio == NULL) {
		ltls_raise(L, "BIO_new_mem_buf");
	}
	return bio;
}

// The end of a list of PEM objects, as opposed to one that cannot be read.
bool
ltls_is_end_of_pem(void) {
	unsigned long e = ERR_peek_last_error();
	bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
	if (end) {
		ERR_clear_error();
	}
	return end;
}

static bool
use_chain(SSL_CTX *ctx, BIO *bio) {
	X509 *cert = PEM_read_bio_X509_AUX(bio, NULL, ltls_password, NULL);
	if (cert == NULL) {
		return false;
	}
	bool ok = SSL_CTX_use_certificate(ctx, cert) == 1 && SSL_CTX_clear_chain_certs(ctx) == 1;
	X509_free(cert);
	while (ok && (cert = PEM_read_bio_X509(bio, NULL, ltls_password, NULL)) != NULL) {
		ok = SSL_CTX_add0_chain_cert(ctx, cert) == 1;
		if (!ok) {
			X509_free(cert);
		}
	}
	return ok && ltls_is_end_of_pem();
}

// set_cert_pem(certs, key [, password]): the same from texts
static int
lset_cert_pem(lua_State *L) {
	SSL_CTX *ctx = ltls_check_context(L, 1);
	luaL_checkstring(L, 2);
	luaL_checkstring(L, 3);
	const char *password = luaL_optstring(L, 4, NULL);
	ERR_clear_error();
	BIO *bio = ltls_text_bio(L, 2);
	bool ok = use_chain(ctx, bio);
	BIO_free(bio);
	if (!ok) {
		return ltls_raise(L, "SSL_CTX_use_certificate");
	}
	bio = ltls_text_bio(L, 3);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, ltls_password, (void *)(uintptr_t)password);
	BIO_free(bio);
	ok = key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1;
	EVP_PKEY_free(key);
	if (!ok) {
		return ltls_raise(L, "SSL_CTX_use_PrivateKey");
	}
	return check_pair(L, ctx);
}

//--------------------------------------------------------------------- trust

static void
load_system_trust(void) {
	system_trust = X509_STORE_new();
	if (system_trust != NULL) {
		X509_STORE_set_default_paths(system_trust);
	}
	ERR_clear_error();
}

void
ltls_trust_system(SSL_CTX *ctx) {
	struct ltls_config *c = ltls_config(ctx);
	if (c->has_trust || c->crls != NULL) {
		return;
	}
	pthread_once(&trust_once, load_system_trust);
	if (system_trust != NULL) {
		SSL_CTX_set1_cert_store(ctx, system_trust);
	}
}

// The first certificate that the user names replaces those of the system.
static void
own_trust(lua_State *L, SSL_CTX *ctx) {
	struct ltls_config *c = ltls_config(ctx);
	if (!c->has_trust) {
		if (c->crls != NULL) {
			luaL_error(L, "name the authorities (set_ca) before their revocation lists (set_crl)");
		}
		X509_STORE *store = X509_STORE_new();
		if (store != NULL) {
			SSL_CTX_set_cert_store(ctx, store);
		}
		c->has_trust = true;
	}
}

static bool
trust_all(SSL_CTX *ctx, BIO *bio) {
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	X509 *cert;
	int n = 0;
	while ((cert = PEM_read_bio_X509_AUX(bio, NULL, ltls_password, NULL)) != NULL) {
		bool ok = X509_STORE_add_cert(store, cert) == 1 && SSL_CTX_add_client_CA(ctx, cert) == 1;
		X509_free(cert);
		if (!ok) {
			return false;
		}
		n++;
	}
	return n > 0 && ltls_is_end_of_pem();
}

// set_ca(file [, path]): trust the certificates of a PEM file, or of a folder made
// by `openssl rehash`; either may be nil
static int
lset_ca(lua_State *L) {
	SSL_CTX *ctx = ltls_check_context(L, 1);
	const char *file = luaL_optstring(L, 2, NULL);
	const char *path = luaL_optstring(L, 3, NULL);
	luaL_argcheck(L, file != NULL || path != NULL, 2, "need a file or a folder");
	ERR_clear_error();
	own_trust(L, ctx);
	if (file != NULL) {
		BIO *bio = BIO_new_file(file, "r");
		bool ok = bio != NULL && trust_all(ctx, bio);
		BIO_free(bio);
		if (!ok) {
			return ltls_raise(L, "can't load the trusted certificates,");
		}
	}
	if (path != NULL && SSL_CTX_load_verify_dir(ctx, path) != 1) {
		return ltls_raise(L, "SSL_CTX_load_verify_dir");
	}
	return 0;
}

// set_ca_pem(certs)
static int
lset_ca_pem(lua_State *L) {
	SSL_CTX *ctx = ltls_check_context(L, 1);
	luaL_checkstring(L, 2);
	own_trust(L, ctx);
	ERR_clear_error();
	BIO *bio = ltls_text_bio(L, 2);
	bool ok = trust_all(ctx, bio);
	BIO_free(bio);
	if (!ok) {
		return ltls_raise(L, "can't load the trusted certificates,");
	}
	return 0;
}

// set_verify(mode): what clients do, "none", "named" or "always"
static int
lset_verify(lua_State *L) {
	static const char *const mode[] = {"none", "named", "always", NULL};
	ltls_config(ltls_check_context(L, 1))->verify =
	    (enum ltls_verify)luaL_checkoption(L, 2, NULL, mode);
	return 0;
}

// set_client_auth(mode): what servers ask of clients
static int
lset_client_auth(lua_State *L) {
	static const char *const mode[] = {"none", "optional", "required", NULL};
	static const int flags[] = {SSL_VERIFY_NONE, SSL_VERIFY_PEER,
	                            SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT};
	struct ltls_config *c = ltls_config(ltls_check_context(L, 1));
	int i = luaL_checkoption(L, 2, NULL, mode);
	if (flags[i] != SSL_VERIFY_NONE && !c->has_trust) {
		return luaL_error(L, "name the authority of the clients' certificates first (set_ca)");
	}
	c->client_auth = flags[i];
	return 0;
}

//------------------------------------------------------------------ protocol

// Cuts the names that begin with TLS_, which are those of TLS 1.3, out of a list.
static void
split_ciphers(const char *list, char *old, char *new) {
	size_t n;
	old[0] = new[0] = '\0';
	for (; *list != '\0'; list += list[n] == '\0' ? n : n + 1) {
		n = strcspn(list, ":, ");
		char *out = strncmp(list, "TLS_", 4) == 0 ? new : old;
		if (n > 0) {
			if (out[0] != '\0') {
				strcat(out, ":");
			}
			strncat(out, list, n);
		}
	}
}

// set_ciphers(list): names of OpenSSL, for TLS 1.2 and 1.3
static int
lset_ciphers(lua_State *L) {
	SSL_CTX *ctx = ltls_check_context(L, 1);
	size_t n;
	const char *list = luaL_checklstring(L, 2, &n);
	char *old = lua_newuserdatauv(L, n + 2, 0);
	char *new = lua_newuserdatauv(L, n + 2, 0);
	split_ciphers(list, old, new);
	ERR_clear_error();
	if ((old[0] != '\0' || new[0] == '\0') && SSL_CTX_set_cipher_list(ctx, old) != 1) {
		return ltls_raise(L, "SSL_CTX_set_cipher_list");
	}
	if (new[0] != '\0' && SSL_CTX_set_ciphersuites(ctx, new) != 1) {
		return ltls_raise(L, "SSL_CTX_set_ciphersuites");
	}
	return 0;
}

// set_versions(min [, max]): "1.2" or "1.3"
static int
lset_versions(lua_State *L) {
	static const char *const name[] = {"1.2", "1.3", NULL};
	static const int version[] = {TLS1_2_VERSION, TLS1_3_VERSION};
	SSL_CTX *ctx = ltls_check_context(L, 1);
	int min = luaL_checkoption(L, 2, NULL, name);
	int max = luaL_checkoption(L, 3, "1.3", name);
	luaL_argcheck(L, min <= max, 3, "is below the minimum");
	SSL_CTX_set_min_proto_version(ctx, version[min]);
	SSL_CTX_set_max_proto_version(ctx, version[max]);
	return 0;
}

void
ltls_name_sessions(SSL_CTX *ctx) {
	const struct ltls_config *c = ltls_config(ctx);
	unsigned char both[2 * SHA256_DIGEST_LENGTH];
	unsigned char id[SHA256_DIGEST_LENGTH];
	if (!c->has_ticket_keys) {
		return; // the context's own, which is random
	}
	memcpy(both, c->ticket_id, SHA256_DIGEST_LENGTH);
	memcpy(both + SHA256_DIGEST_LENGTH, c->crl_digest, SHA256_DIGEST_LENGTH);
	SHA256(both, sizeof(both), id);
	SSL_CTX_set_session_id_context(ctx, id, sizeof(id));
}

// set_ticket_keys(bytes): 80 secret bytes; services that share them resume each
// other's sessions
static int
lset_ticket_keys(lua_State *L) {
	SSL_CTX *ctx = ltls_check_context(L, 1);
	size_t n;
	struct ltls_config *c = ltls_config(ctx);
	const char *keys = luaL_checklstring(L, 2, &n);
	luaL_argcheck(L, n == TICKET_KEYS, 2, "need 80 bytes");
	ERR_clear_error();
	if (SSL_CTX_set_tlsext_ticket_keys(ctx, (void *)(uintptr_t)keys, TICKET_KEYS) != 1) {
		return ltls_raise(L, "SSL_CTX_set_tlsext_ticket_keys");
	}
	SHA256((const unsigned char *)keys, n, c->ticket_id);
	c->has_ticket_keys = true;
	ltls_name_sessions(ctx);
	return 0;
}

void
ltls_context_register(lua_State *L) {
	static const luaL_Reg methods[] = {
	    {"set_cert", lset_cert},
	    {"set_cert_pem", lset_cert_pem},
	    {"set_ca", lset_ca},
	    {"set_ca_pem", lset_ca_pem},
	    {"set_crl", ltls_context_set_crl},
	    {"set_crl_pem", ltls_context_set_crl_pem},
	    {"set_verify", lset_verify},
	    {"set_client_auth", lset_client_auth},
	    {"set_ciphers", lset_ciphers},
	    {"set_versions", lset_versions},
	    {"set_ticket_keys", lset_ticket_keys},
	    {"set_alpn", ltls_context_set_alpn},
	    {"add_host", ltls_context_add_host},
	    {"__gc", lclose},
	    {NULL, NULL},
	};
	if (luaL_newmetatable(L, LTLS_CONTEXT)) {
		luaL_setfuncs(L, methods, 0);
		lua_pushvalue(L, -1);
		lua_setfield(L, -2, "__index");
	}
	lua_pop(L, 1);
}
