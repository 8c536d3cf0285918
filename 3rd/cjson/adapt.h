/*
 * Included before lua_cjson.c, which adapt.sed makes use these: integers of Lua both ways, and a
 * limit for texts.
 */
#ifndef CJSON_ADAPT_H
#define CJSON_ADAPT_H

#include <lua.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Digits of a 64-bit integer, its sign, and a zero. */
#define INTEGER_SIZE 24
/* A buffer doubles until a text fits, and counts in int. */
#define MAX_TEXT (1 << 29)

/* Returns the length. */
static inline int
write_integer(lua_State *L, int index, char *out) {
	return snprintf(out, INTEGER_SIZE, "%lld", (long long)lua_tointeger(L, index));
}

static inline bool
is_digits(const char *begin, const char *end) {
	begin += *begin == '-';
	for (const char *p = begin; p < end; p++) {
		if (*p < '0' || *p > '9') {
			return false;
		}
	}
	return begin < end;
}

/* The number written from `begin` to `end`; its value as a float is known. */
static inline void
push_number(lua_State *L, const char *begin, const char *end, double value) {
	char text[INTEGER_SIZE];
	size_t size = (size_t)(end - begin);
	// The integer 0 has no sign; what does not fit is converted to a float by Lua.
	if (size < sizeof(text) && is_digits(begin, end) && !(value == 0 && signbit(value))) {
		memcpy(text, begin, size);
		text[size] = '\0';
		lua_stringtonumber(L, text);
	} else {
		lua_pushnumber(L, value);
	}
}

#endif
