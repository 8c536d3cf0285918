// OpenSSL's queue of errors, one per thread, as texts. See ltls.h.
#include "ltls.h"

#include <openssl/err.h>

#include <stdio.h>
#include <string.h>

static void
describe(unsigned long e, const char *data, int flags, char *out, size_t size) {
	const char *reason =
	    ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e)) : ERR_reason_error_string(e);
	if (reason == NULL) {
		ERR_error_string_n(e, out, size);
	} else if ((flags & ERR_TXT_STRING) != 0 && data != NULL && data[0] != '\0') {
		snprintf(out, size, "%s, %s", reason, data);
	} else {
		snprintf(out, size, "%s", reason);
	}
}

void
ltls_error_text(char *out, size_t size) {
	const char *data = NULL;
	int flags = 0;
	unsigned long e = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
	if (e == 0) {
		snprintf(out, size, "no reason given");
	} else {
		describe(e, data, flags, out, size);
	}
	ERR_clear_error();
}

int
ltls_raise(lua_State *L, const char *what) {
	char text[256];
	unsigned long e = ERR_peek_error();
	ltls_error_text(text, sizeof(text));
	return luaL_error(L, "%s error:%I (%s)", what, (LUAI_UACINT)e, text);
}
