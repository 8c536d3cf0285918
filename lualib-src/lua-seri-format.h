/*
 * The byte format of packed values, for the two halves of lua-seri.
 *
 * A value starts with a tag byte: the low 3 bits are the type, the high 5 bits
 * the cookie, a small length or a form code. Multi-byte fields are little
 * endian and unaligned.
 */
#ifndef LUA_SERI_FORMAT_H
#define LUA_SERI_FORMAT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	TYPE_NIL = 0,
	TYPE_BOOLEAN = 1,
	TYPE_NUMBER = 2,
	TYPE_POINTER = 3,
	TYPE_SHORT_STRING = 4,
	TYPE_LONG_STRING = 5,
	TYPE_TABLE = 6,
};

/* Cookies of TYPE_NUMBER; those of TYPE_LONG_STRING are NUMBER_WORD and NUMBER_DWORD. */
enum {
	NUMBER_ZERO = 0,
	NUMBER_BYTE = 1,
	NUMBER_WORD = 2,
	NUMBER_DWORD = 4,
	NUMBER_QWORD = 6,
	NUMBER_REAL = 8,
};

#define TYPE_BITS 3
#define TYPE_MASK 7
/* The longest string whose length fits the cookie. */
#define SHORT_STRING_MAX 31
/* This cookie of a table says that the array length follows as a number. */
#define ARRAY_LENGTH_FOLLOWS 31

#define TAG(type, cookie) ((uint8_t)((type) | (cookie) << TYPE_BITS))

/* Store the n low bytes of a value. */
static inline void
store_le(uint8_t *p, uint64_t v, size_t n) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
	memcpy(p, (const uint8_t *)&v + sizeof v - n, n);
#else
	memcpy(p, &v, n);
#endif
}

/* The value in the n bytes at p. */
static inline uint64_t
load_le(const uint8_t *p, size_t n) {
	uint64_t v = 0;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	memcpy((uint8_t *)&v + sizeof v - n, p, n);
	v = __builtin_bswap64(v);
#else
	memcpy(&v, p, n);
#endif
	return v;
}

#endif
