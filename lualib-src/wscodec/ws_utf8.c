#include "ws_utf8.h"

#include <string.h>

#define TAIL_LOW 0x80
#define TAIL_HIGH 0xbf
#define HIGH_BITS UINT64_C(0x8080808080808080)

void
ws_utf8_reset(struct ws_utf8 *u) {
	u->need = 0;
	u->low = TAIL_LOW;
	u->high = TAIL_HIGH;
}

bool
ws_utf8_at_end(const struct ws_utf8 *u) {
	return u->need == 0;
}

// The first byte of a character of several bytes: how many follow, and which may
// be the next (the second byte alone tells overlong forms and surrogates).
static bool
lead(struct ws_utf8 *u, uint8_t c) {
	u->low = TAIL_LOW;
	u->high = TAIL_HIGH;
	if (c < 0xc2 || c > 0xf4) {
		return false;
	}
	u->need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
	switch (c) {
	case 0xe0:
		u->low = 0xa0;
		break;
	case 0xed:
		u->high = 0x9f;
		break;
	case 0xf0:
		u->low = 0x90;
		break;
	case 0xf4:
		u->high = 0x8f;
		break;
	default:
		break;
	}
	return true;
}

// Number of leading bytes, a multiple of eight, that are all ASCII.
static size_t
ascii_run(const char *bytes, size_t n) {
	size_t i = 0;
	while (n - i >= 8) {
		uint64_t word;
		memcpy(&word, bytes + i, 8);
		if (word & HIGH_BITS) {
			break;
		}
		i += 8;
	}
	return i;
}

bool
ws_utf8_feed(struct ws_utf8 *u, const char *bytes, size_t n) {
	size_t i = 0;
	while (i < n) {
		uint8_t c = (uint8_t)bytes[i];
		if (u->need > 0) {
			if (c < u->low || c > u->high) {
				return false;
			}
			u->need--;
			u->low = TAIL_LOW;
			u->high = TAIL_HIGH;
			i++;
		} else if (c >= 0x80) {
			if (!lead(u, c)) {
				return false;
			}
			i++;
		} else {
			size_t run = ascii_run(bytes + i, n - i);
			i += run > 0 ? run : 1;
		}
	}
	return true;
}
