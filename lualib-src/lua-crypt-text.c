/* skynet.crypt: base64 and hexadecimal text. */
#include "lua-crypt.h"

#include <stdbool.h>
#include <string.h>

//-------------------------------------------------------------------- base64

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *
crypt_base64_write(const uint8_t *data, size_t size, char *out) {
	size_t whole = size / 3 * 3;
	for (size_t i = 0; i < whole; i += 3) {
		uint32_t v = (uint32_t)data[i] << 16 | (uint32_t)data[i + 1] << 8 | data[i + 2];
		*out++ = alphabet[v >> 18];
		*out++ = alphabet[v >> 12 & 63];
		*out++ = alphabet[v >> 6 & 63];
		*out++ = alphabet[v & 63];
	}
	if (size - whole > 0) {
		uint32_t v = (uint32_t)data[whole] << 16;
		if (size - whole == 2) {
			v |= (uint32_t)data[whole + 1] << 8;
		}
		*out++ = alphabet[v >> 18];
		*out++ = alphabet[v >> 12 & 63];
		*out++ = size - whole == 2 ? alphabet[v >> 6 & 63] : '=';
		*out++ = '=';
	}
	return out;
}

/* A group of four being read. */
struct group {
	uint32_t bits;
	int symbols;
	int pads;
	bool foreign; /* a strange byte, no blank, was skipped since the last whole group */
};

/* The 6 bits of a symbol, or -1. */
static int
symbol_value(uint8_t c) {
	if (c >= 'A' && c <= 'Z') {
		return c - 'A';
	}
	if (c >= 'a' && c <= 'z') {
		return c - 'a' + 26;
	}
	if (c >= '0' && c <= '9') {
		return c - '0' + 52;
	}
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Give the bytes of a group, whole or cut off, and begin the next. Returns their end, or NULL. */
static uint8_t *
finish_group(struct group *g, uint8_t *out) {
	int n = g->symbols - 1;
	uint32_t v = g->bits << (6 * (4 - g->symbols));
	uint32_t unused = n == 1 ? v & 0xffff : n == 2 ? v & 0xff : 0;
	if (n < 1 || unused != 0) {
		return NULL;
	}
	for (int i = 0; i < n; i++) {
		*out++ = (uint8_t)(v >> (16 - 8 * i));
	}
	*g = (struct group){0};
	return out;
}

static bool
is_blank(uint8_t c) {
	return c == ' ' || (c >= '\t' && c <= '\r');
}

ptrdiff_t
crypt_base64_read(const char *text, size_t size, uint8_t *out) {
	uint8_t *begin = out;
	struct group g = {0};
	for (size_t i = 0; i < size && out != NULL; i++) {
		uint8_t c = (uint8_t)text[i];
		int v = symbol_value(c);
		if (v >= 0) {
			if (g.pads > 0) {
				return -1;
			}
			g.bits = g.bits << 6 | (uint32_t)v;
			g.symbols++;
		} else if (c == '=') {
			if (g.symbols < 2) {
				return -1;
			}
			g.pads++;
		} else {
			g.foreign = g.foreign || !is_blank(c);
			continue;
		}
		if (g.symbols + g.pads == 4) {
			out = finish_group(&g, out);
		}
	}
	if (out != NULL && g.symbols > 0) {
		out = finish_group(&g, out);
	}
	return out == NULL || g.foreign ? -1 : out - begin;
}

/* base64encode(s) -> text */
static int
lbase64encode(lua_State *L) {
	struct crypt_bytes s = crypt_check_bytes(L, 1);
	luaL_Buffer b;
	size_t size = (s.size / 3 + (s.size % 3 != 0)) * 4;
	crypt_base64_write(s.data, s.size, luaL_buffinitsize(L, &b, size));
	luaL_pushresultsize(&b, size);
	return 1;
}

/* base64decode(text) -> bytes */
static int
lbase64decode(lua_State *L) {
	struct crypt_bytes s = crypt_check_bytes(L, 1);
	luaL_Buffer b;
	uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, s.size / 4 * 3 + 3);
	ptrdiff_t size = crypt_base64_read((const char *)s.data, s.size, out);
	if (size < 0) {
		return luaL_error(L, "Invalid base64 text");
	}
	luaL_pushresultsize(&b, (size_t)size);
	return 1;
}

//----------------------------------------------------------------------- hex

/* hexencode(s) -> text, lower case */
static int
lhexencode(lua_State *L) {
	static const char digits[] = "0123456789abcdef";
	struct crypt_bytes s = crypt_check_bytes(L, 1);
	luaL_Buffer b;
	char *out = luaL_buffinitsize(L, &b, s.size * 2);
	for (size_t i = 0; i < s.size; i++) {
		*out++ = digits[s.data[i] >> 4];
		*out++ = digits[s.data[i] & 15];
	}
	luaL_pushresultsize(&b, s.size * 2);
	return 1;
}

static int
hex_value(uint8_t c) {
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* hexdecode(text) -> bytes; both cases */
static int
lhexdecode(lua_State *L) {
	struct crypt_bytes s = crypt_check_bytes(L, 1);
	if (s.size % 2 != 0) {
		return luaL_error(L, "Invalid hex text size %I", (lua_Integer)s.size);
	}
	luaL_Buffer b;
	char *out = luaL_buffinitsize(L, &b, s.size / 2);
	for (size_t i = 0; i < s.size; i += 2) {
		int high = hex_value(s.data[i]);
		int low = hex_value(s.data[i + 1]);
		if (high < 0 || low < 0) {
			return luaL_error(L, "Invalid hex text");
		}
		*out++ = (char)(high << 4 | low);
	}
	luaL_pushresultsize(&b, s.size / 2);
	return 1;
}

const luaL_Reg crypt_text_functions[] = {
    {"base64encode", lbase64encode},
    {"base64decode", lbase64decode},
    {"hexencode", lhexencode},
    {"hexdecode", lhexdecode},
    {NULL, NULL},
};
