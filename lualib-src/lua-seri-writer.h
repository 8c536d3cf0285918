/*
 * The buffer under packing, for lua-seri-write.c, which owns its memory, and
 * lua-seri-walk.c. One thread, one pack.
 */
#ifndef LUA_SERI_WRITER_H
#define LUA_SERI_WRITER_H

#include <lauxlib.h>
#include <stdbool.h>

#include "lua-seri-format.h"

struct block {
	uint8_t *data;
	size_t cap;
};

struct writer {
	lua_State *L;
	struct block *block; /* the thread's scratch, or one in a userdata */
	uint8_t *data;       /* = block->data */
	size_t len;
	size_t cap; /* = block->cap */
	int anchor; /* stack slot that keeps that userdata alive */
	int from;   /* stack slots of the first value, and of the one that is packed */
	int index;
};

/* Make room for `need` bytes in all, or raise. */
void seri_writer_grow(struct writer *w, size_t need);

/*
 * Pack the value at stack index `index` reading tables directly. Returns false
 * when that meets a table with a __pairs metafield, whose Lua code could change
 * any table: what was written is void then, and the value is to be packed
 * through the Lua API. Raises as packing does.
 */
bool seri_walk(struct writer *w, int index);

/* Raise what packing says of a value that is too deep, or of a type that it does not
 * know. */
_Noreturn void seri_fail_depth(struct writer *w);
_Noreturn void seri_fail_type(struct writer *w, int type);

/* Room for `n` more bytes; they are counted as written. */
static inline uint8_t *
seri_reserve(struct writer *w, size_t n) {
	if (n > w->cap - w->len) {
		seri_writer_grow(w, w->len + n);
	}
	uint8_t *p = w->data + w->len;
	w->len += n;
	return p;
}

static inline void
seri_put_tag(struct writer *w, uint8_t tag) {
	*seri_reserve(w, 1) = tag;
}

static inline void
seri_put_field(struct writer *w, uint8_t tag, uint64_t v, size_t n) {
	uint8_t *p = seri_reserve(w, 1 + n);
	*p = tag;
	store_le(p + 1, v, n);
}

static inline void
seri_put_integer(struct writer *w, lua_Integer v) {
	if (v == 0) {
		seri_put_tag(w, TAG(TYPE_NUMBER, NUMBER_ZERO));
	} else if (v != (int32_t)v) {
		seri_put_field(w, TAG(TYPE_NUMBER, NUMBER_QWORD), (uint64_t)v, 8);
	} else if (v < 0 || v > UINT16_MAX) {
		seri_put_field(w, TAG(TYPE_NUMBER, NUMBER_DWORD), (uint64_t)v, 4);
	} else if (v > UINT8_MAX) {
		seri_put_field(w, TAG(TYPE_NUMBER, NUMBER_WORD), (uint64_t)v, 2);
	} else {
		seri_put_field(w, TAG(TYPE_NUMBER, NUMBER_BYTE), (uint64_t)v, 1);
	}
}

static inline void
seri_put_real(struct writer *w, lua_Number v) {
	uint64_t bits;
	_Static_assert(sizeof v == sizeof bits, "a float is IEEE-754 binary64");
	memcpy(&bits, &v, sizeof bits);
	seri_put_field(w, TAG(TYPE_NUMBER, NUMBER_REAL), bits, 8);
}

static inline void
seri_put_pointer(struct writer *w, const void *p) {
	seri_put_field(w, TAG(TYPE_POINTER, 0), (uint64_t)(uintptr_t)p, sizeof p);
}

/* A string that has no place in the tag's byte. */
void seri_put_long_string(struct writer *w, const char *s, size_t len);

static inline void
seri_put_string(struct writer *w, const char *s, size_t len) {
	if (len <= SHORT_STRING_MAX) {
		uint8_t *p = seri_reserve(w, 1 + len);
		*p = TAG(TYPE_SHORT_STRING, len);
		memcpy(p + 1, s, len);
	} else {
		seri_put_long_string(w, s, len);
	}
}

/* In front of a table with n array items; seri_put_table_end closes it. */
static inline void
seri_put_table(struct writer *w, size_t n) {
	if (n < ARRAY_LENGTH_FOLLOWS) {
		seri_put_tag(w, TAG(TYPE_TABLE, n));
	} else {
		seri_put_tag(w, TAG(TYPE_TABLE, ARRAY_LENGTH_FOLLOWS));
		seri_put_integer(w, (lua_Integer)n);
	}
}

static inline void
seri_put_table_end(struct writer *w) {
	seri_put_tag(w, TAG(TYPE_NIL, 0));
}

#endif
