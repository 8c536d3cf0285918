// Certificates as Lua tables. See ltls.h.
#include "ltls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <time.h>

#include "../lua-owned.h"

static int
push_written(lua_State *L) {
	BIO *bio = lua_touserdata(L, 1);
	char *data = NULL;
	long n = bio == NULL ? 0 : BIO_get_mem_data(bio, &data);
	lua_pushlstring(L, n > 0 ? data : "", n > 0 ? (size_t)n : 0);
	return 1;
}

static void
free_bio(void *bio) {
	BIO_free(bio);
}

// Pushes what was written to the BIO, which is freed.
static void
push_bio(lua_State *L, BIO *bio) {
	lua_owned_call(L, push_written, bio, 1, free_bio);
}

static void
set_name(lua_State *L, const char *key, const X509_NAME *name) {
	BIO *bio = BIO_new(BIO_s_mem());
	if (bio != NULL) {
		X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
	}
	push_bio(L, bio);
	lua_setfield(L, -2, key);
}

static void
set_time(lua_State *L, const char *key, const ASN1_TIME *t) {
	struct tm tm;
	if (ASN1_TIME_to_tm(t, &tm) == 1) {
		lua_pushinteger(L, (lua_Integer)timegm(&tm));
		lua_setfield(L, -2, key);
	}
}

static void
set_serial(lua_State *L, X509 *cert) {
	BIO *bio = BIO_new(BIO_s_mem());
	if (bio != NULL) {
		i2a_ASN1_INTEGER(bio, X509_get0_serialNumber(cert));
	}
	push_bio(L, bio);
	lua_setfield(L, -2, "serial");
}

static void
set_fingerprint(lua_State *L, X509 *cert) {
	unsigned char md[EVP_MAX_MD_SIZE];
	char hex[EVP_MAX_MD_SIZE * 2 + 1] = "";
	unsigned n = 0;
	if (X509_digest(cert, EVP_sha256(), md, &n) == 1) {
		for (unsigned i = 0; i < n; i++) {
			snprintf(hex + i * 2, 3, "%02x", md[i]);
		}
	}
	lua_pushstring(L, hex);
	lua_setfield(L, -2, "sha256");
}

// A name as text; false if it is of a kind that has none.
static bool
push_general_name(lua_State *L, const GENERAL_NAME *g) {
	char text[INET6_ADDRSTRLEN];
	if (g->type == GEN_DNS) {
		lua_pushlstring(L, (const char *)ASN1_STRING_get0_data(g->d.dNSName),
		                (size_t)ASN1_STRING_length(g->d.dNSName));
		return true;
	}
	if (g->type != GEN_IPADD) {
		return false;
	}
	int family = ASN1_STRING_length(g->d.iPAddress) == 4 ? AF_INET : AF_INET6;
	if (family == AF_INET6 && ASN1_STRING_length(g->d.iPAddress) != 16) {
		return false;
	}
	inet_ntop(family, ASN1_STRING_get0_data(g->d.iPAddress), text, sizeof(text));
	lua_pushstring(L, text);
	return true;
}

static int
push_names(lua_State *L) {
	const GENERAL_NAMES *names = lua_touserdata(L, 1);
	lua_Integer n = 0;
	lua_newtable(L);
	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		if (push_general_name(L, sk_GENERAL_NAME_value(names, i))) {
			lua_seti(L, -2, ++n);
		}
	}
	return 1;
}

static void
free_names(void *names) {
	GENERAL_NAMES_free(names);
}

static void
set_names(lua_State *L, X509 *cert) {
	void *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	lua_owned_call(L, push_names, names, 1, free_names);
	lua_setfield(L, -2, "names");
}

void
ltls_push_certificate(lua_State *L, X509 *cert) {
	lua_newtable(L);
	set_name(L, "subject", X509_get_subject_name(cert));
	set_name(L, "issuer", X509_get_issuer_name(cert));
	set_serial(L, cert);
	set_time(L, "not_before", X509_get0_notBefore(cert));
	set_time(L, "not_after", X509_get0_notAfter(cert));
	set_fingerprint(L, cert);
	set_names(L, cert);
	BIO *bio = BIO_new(BIO_s_mem());
	if (bio != NULL) {
		PEM_write_bio_X509(bio, cert);
	}
	push_bio(L, bio);
	lua_setfield(L, -2, "pem");
	ERR_clear_error();
}
