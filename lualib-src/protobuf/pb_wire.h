/*
 * The wire format of Protocol Buffers: reading with every length checked. A reader lends the bytes;
 * what fails leaves it where it was found wrong. Any thread.
 */
#ifndef PB_WIRE_H
#define PB_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum pb_wire {
	PB_VARINT = 0,
	PB_FIXED64 = 1,
	PB_BYTES = 2,
	PB_START_GROUP = 3,
	PB_END_GROUP = 4,
	PB_FIXED32 = 5,
};

/* Messages and groups inside each other, the outermost counted. The usual limit of other readers.
 */
#define PB_MAX_DEPTH 100
#define PB_MAX_NUMBER ((1u << 29) - 1)
/* Bytes of the longest varint. */
#define PB_VARINT_MAX 10

struct pb_reader {
	const uint8_t *at;
	const uint8_t *end;
};

static inline bool
pb_at_end(const struct pb_reader *r) {
	return r->at == r->end;
}

static inline bool
pb_read_varint(struct pb_reader *r, uint64_t *v) {
	uint64_t value = 0;
	const uint8_t *p = r->at;
	for (int shift = 0; shift < 7 * PB_VARINT_MAX && p < r->end; shift += 7) {
		uint8_t byte = *p++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			// Ten bytes hold 70 bits: the topmost ones must be absent.
			if (shift == 63 && byte > 1) {
				return false;
			}
			r->at = p;
			*v = value;
			return true;
		}
	}
	return false;
}

static inline bool
pb_read_fixed32(struct pb_reader *r, uint32_t *v) {
	if (r->end - r->at < 4) {
		return false;
	}
	const uint8_t *p = r->at;
	*v = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	r->at += 4;
	return true;
}

static inline bool
pb_read_fixed64(struct pb_reader *r, uint64_t *v) {
	uint32_t low, high;
	if (r->end - r->at < 8 || !pb_read_fixed32(r, &low) || !pb_read_fixed32(r, &high)) {
		return false;
	}
	*v = (uint64_t)high << 32 | low;
	return true;
}

/* Reads a length and makes `part` a reader of as many bytes. */
static inline bool
pb_read_part(struct pb_reader *r, struct pb_reader *part) {
	uint64_t size;
	if (!pb_read_varint(r, &size) || size > (uint64_t)(r->end - r->at)) {
		return false;
	}
	*part = (struct pb_reader){r->at, r->at + size};
	r->at += size;
	return true;
}

/* Reads a field's number (never 0) and its wire type. */
static inline bool
pb_read_tag(struct pb_reader *r, uint32_t *number, enum pb_wire *wire) {
	uint64_t tag;
	if (!pb_read_varint(r, &tag) || tag > UINT32_MAX || tag >> 3 == 0 || (tag & 7) > PB_FIXED32) {
		return false;
	}
	*number = (uint32_t)(tag >> 3);
	*wire = (enum pb_wire)(tag & 7);
	return true;
}

/* Writes at most PB_VARINT_MAX bytes; returns their end. */
static inline uint8_t *
pb_write_varint(uint8_t *p, uint64_t v) {
	for (; v >= 0x80; v >>= 7) {
		*p++ = (uint8_t)(v | 0x80);
	}
	*p++ = (uint8_t)v;
	return p;
}

/*
 * Skips the value of a field whose tag was read, groups with all that is in them. `depth` levels
 * may still be entered.
 */
bool pb_skip(struct pb_reader *r, uint32_t number, enum pb_wire wire, int depth);

/* Whether the bytes are UTF-8: shortest forms, no surrogates, nothing above U+10FFFF. */
bool pb_is_utf8(const uint8_t *s, size_t size);

#endif
