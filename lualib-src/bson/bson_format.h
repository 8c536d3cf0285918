/* The BSON format: types, limits, numbers in little endian. */
#ifndef BSON_FORMAT_H
#define BSON_FORMAT_H

#include <stdint.h>

enum bson_type {
	BSON_DOUBLE = 1,
	BSON_STRING,
	BSON_DOCUMENT,
	BSON_ARRAY,
	BSON_BINARY,
	BSON_UNDEFINED,
	BSON_OBJECTID,
	BSON_BOOLEAN,
	BSON_DATE,
	BSON_NULL,
	BSON_REGEX,
	BSON_DBPOINTER,
	BSON_CODE,
	BSON_SYMBOL,
	BSON_CODE_SCOPE,
	BSON_INT32,
	BSON_TIMESTAMP,
	BSON_INT64,
	BSON_MAXKEY = 127,
	BSON_MINKEY = 255,
};

#define BSON_OBJECTID_SIZE 12
/* An empty document: its length and its end. */
#define BSON_MIN_DOCUMENT 5
/* Documents inside the root, one in the other. */
#define BSON_MAX_DEPTH 128

static inline uint32_t
bson_get_u32(const uint8_t *p) {
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t
bson_get_u64(const uint8_t *p) {
	return bson_get_u32(p) | (uint64_t)bson_get_u32(p + 4) << 32;
}

static inline void
bson_put_u32(uint8_t *p, uint32_t v) {
	for (int i = 0; i < 4; i++) {
		p[i] = (uint8_t)(v >> (8 * i));
	}
}

static inline void
bson_put_u64(uint8_t *p, uint64_t v) {
	bson_put_u32(p, (uint32_t)v);
	bson_put_u32(p + 4, (uint32_t)(v >> 32));
}

#endif
