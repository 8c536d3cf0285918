/* Reading what needs no schema, see pb_wire.h. */
#include "pb_wire.h"

static bool
skip_group(struct pb_reader *r, uint32_t group, int depth) {
	uint32_t number;
	enum pb_wire wire;
	while (pb_read_tag(r, &number, &wire)) {
		if (wire == PB_END_GROUP) {
			return number == group;
		} else if (!pb_skip(r, number, wire, depth)) {
			return false;
		}
	}
	return false;
}

bool
pb_skip(struct pb_reader *r, uint32_t number, enum pb_wire wire, int depth) {
	uint64_t u64;
	uint32_t u32;
	struct pb_reader part;
	switch (wire) {
	case PB_VARINT:
		return pb_read_varint(r, &u64);
	case PB_FIXED64:
		return pb_read_fixed64(r, &u64);
	case PB_BYTES:
		return pb_read_part(r, &part);
	case PB_START_GROUP:
		return depth > 0 && skip_group(r, number, depth - 1);
	case PB_FIXED32:
		return pb_read_fixed32(r, &u32);
	case PB_END_GROUP:
		break;
	}
	return false;
}

/* The size of the character at s of at most `size` bytes; 0 when it is none. */
static size_t
utf8_size(const uint8_t *s, size_t size) {
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = s[0] < 0x80   ? 1
	           : s[0] < 0xc0 ? 0
	           : s[0] < 0xe0 ? 2
	           : s[0] < 0xf0 ? 3
	           : s[0] < 0xf8 ? 4
	                         : 0;
	if (n <= 1 || n > size) {
		return n > size ? 0 : n;
	}
	uint32_t c = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return 0;
		}
		c = c << 6 | (s[i] & 0x3f);
	}
	bool is_wrong = c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000);
	return is_wrong ? 0 : n;
}

bool
pb_is_utf8(const uint8_t *s, size_t size) {
	size_t i = 0;
	while (i < size) {
		size_t n = utf8_size(s + i, size - i);
		if (n == 0) {
			return false;
		}
		i += n;
	}
	return true;
}
