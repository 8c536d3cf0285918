// Certificate revocation lists of a context (RFC 5280 section 5): what an authority has taken
// back is refused. See ltls.h.
//
// The lists are those that were given; nothing is fetched, and a list that is replaced takes
// a new context. They lie in the context's own store of certificates, never in that of the
// system, which all contexts share.
#include "ltls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include <string.h>

// Room for an authority's name, and for a time, in an error.
#define NAME_ROOM 128
#define TIME_ROOM 64

// A store of its own, with what the system trusts unless the user named authorities.
static bool
own_store(SSL_CTX *ctx) {
	struct ltls_config *c = ltls_config(ctx);
	if (c->has_trust || c->crls != NULL) {
		return true;
	}
	X509_STORE *store = X509_STORE_new();
	if (store == NULL || X509_STORE_set_default_paths(store) != 1) {
		X509_STORE_free(store);
		return false;
	}
	SSL_CTX_set_cert_store(ctx, store);
	return true;
}

static void
write_time(const ASN1_TIME *t, char *out) {
	BIO *bio = BIO_new(BIO_s_mem());
	int n = 0;
	if (bio != NULL && ASN1_TIME_print(bio, t) == 1) {
		n = BIO_read(bio, out, TIME_ROOM - 1);
	}
	out[n > 0 ? n : 0] = '\0';
	BIO_free(bio);
}

// Raises when the list does not hold today. `bio` is freed then.
static void
check_time(lua_State *L, X509_CRL *crl, BIO *bio) {
	const ASN1_TIME *from = X509_CRL_get0_lastUpdate(crl);
	const ASN1_TIME *until = X509_CRL_get0_nextUpdate(crl);
	bool is_early = X509_cmp_current_time(from) > 0;
	bool is_late = until != NULL && X509_cmp_current_time(until) < 0;
	if (!is_early && !is_late) {
		return;
	}
	char name[NAME_ROOM], time[TIME_ROOM];
	X509_NAME_oneline(X509_CRL_get_issuer(crl), name, sizeof(name));
	write_time(is_late ? until : from, time);
	X509_CRL_free(crl);
	BIO_free(bio);
	luaL_error(L,
	           is_late ? "the revocation list of %s has expired on %s: get a new one"
	                   : "the revocation list of %s holds from %s on",
	           name, time);
}

// Takes the list.
static bool
add(SSL_CTX *ctx, X509_CRL *crl) {
	struct ltls_config *c = ltls_config(ctx);
	unsigned char both[2 * SHA256_DIGEST_LENGTH];
	unsigned n = SHA256_DIGEST_LENGTH;
	memcpy(both, c->crl_digest, SHA256_DIGEST_LENGTH);
	bool ok = X509_CRL_digest(crl, EVP_sha256(), both + SHA256_DIGEST_LENGTH, &n) == 1 &&
	          X509_STORE_add_crl(SSL_CTX_get_cert_store(ctx), crl) == 1 &&
	          sk_X509_CRL_push(c->crls, crl) > 0;
	if (!ok) {
		X509_CRL_free(crl);
		return false;
	}
	SHA256(both, sizeof(both), c->crl_digest);
	return true;
}

// Adds the lists that `bio` has, which is freed.
static int
add_all(lua_State *L, SSL_CTX *ctx, BIO *bio) {
	struct ltls_config *c = ltls_config(ctx);
	X509_CRL *crl;
	int n = 0;
	bool ok = bio != NULL && own_store(ctx);
	if (ok && c->crls == NULL) {
		c->crls = sk_X509_CRL_new_null();
		ok = c->crls != NULL;
	}
	if (ok) {
		// Of the store, so that they hold for whatever session comes to use it.
		unsigned long all = lua_toboolean(L, 3) ? X509_V_FLAG_CRL_CHECK_ALL : 0;
		X509_STORE_set_flags(SSL_CTX_get_cert_store(ctx), X509_V_FLAG_CRL_CHECK | all);
	}
	while (ok && (crl = PEM_read_bio_X509_CRL(bio, NULL, ltls_password, NULL)) != NULL) {
		check_time(L, crl, bio);
		ok = add(ctx, crl);
		n++;
	}
	if (!ok || !ltls_is_end_of_pem()) {
		BIO_free(bio);
		return ltls_raise(L, "can't load the revocation lists,");
	}
	BIO_free(bio);
	if (n == 0) {
		return luaL_error(L, "no revocation list, which begins with -----BEGIN X509 CRL-----");
	}
	ltls_name_sessions(ctx);
	return 0;
}

int
ltls_context_set_crl(lua_State *L) {
	SSL_CTX *ctx = ltls_check_context(L, 1);
	const char *file = luaL_checkstring(L, 2);
	ERR_clear_error();
	return add_all(L, ctx, BIO_new_file(file, "r"));
}

int
ltls_context_set_crl_pem(lua_State *L) {
	SSL_CTX *ctx = ltls_check_context(L, 1);
	ERR_clear_error();
	return add_all(L, ctx, ltls_text_bio(L, 2));
}

bool
ltls_is_revoked(const struct ltls_config *c, X509 *cert) {
	for (int i = 0; c->crls != NULL && cert != NULL && i < sk_X509_CRL_num(c->crls); i++) {
		X509_CRL *crl = sk_X509_CRL_value(c->crls, i);
		X509_REVOKED *entry;
		if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_issuer_name(cert)) == 0 &&
		    X509_CRL_get0_by_cert(crl, &entry, cert) == 1) {
			return true;
		}
	}
	return false;
}

const char *
ltls_crl_hint(long problem) {
	switch (problem) {
	case X509_V_ERR_UNABLE_TO_GET_CRL:
	case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
		return "; crl has no list of its authority";
	case X509_V_ERR_CRL_HAS_EXPIRED:
	case X509_V_ERR_CRL_NOT_YET_VALID:
		return "; make a context with a new list";
	default:
		return "";
	}
}
