/* A certificate and its key, made when they are needed. */
#ifndef tls_cert_h
#define tls_cert_h

#include <lauxlib.h>
#include <lua.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static inline void
push_pem(lua_State *L, X509 *cert, EVP_PKEY *key) {
	char *text;
	BIO *bio = BIO_new(BIO_s_mem());
	if (cert != NULL) {
		PEM_write_bio_X509(bio, cert);
	} else {
		PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	}
	long n = BIO_get_mem_data(bio, &text);
	lua_pushlstring(L, text, (size_t)n);
	BIO_free(bio);
}

/* Pushes a certificate for fuzz.test that signs itself, and its key. */
static inline void
push_certificate(lua_State *L) {
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 30 * 24 * 3600L);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"fuzz.test", -1, -1,
	                           0);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	push_pem(L, cert, NULL);
	push_pem(L, NULL, key);
	X509_free(cert);
	EVP_PKEY_free(key);
}

#endif
