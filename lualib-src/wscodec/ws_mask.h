// Masking of payloads (RFC 6455 5.3). Pure.
#ifndef ws_mask_h
#define ws_mask_h

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Copies n bytes and flips them with the key, beginning with its byte `phase` (0 to
// 3). `to` and `from` may be the same, but not overlap otherwise.
static inline void
ws_mask(char *to, const char *from, size_t n, const uint8_t key[4], unsigned phase) {
	uint8_t turned[8];
	size_t i = 0;
	for (unsigned k = 0; k < 8; k++) {
		turned[k] = key[(phase + k) & 3];
	}
	uint64_t wide;
	memcpy(&wide, turned, 8);
	for (; n - i >= 8; i += 8) {
		uint64_t word;
		memcpy(&word, from + i, 8);
		word ^= wide;
		memcpy(to + i, &word, 8);
	}
	for (; i < n; i++) {
		to[i] = (char)((uint8_t)from[i] ^ turned[i & 7]);
	}
}

#endif
