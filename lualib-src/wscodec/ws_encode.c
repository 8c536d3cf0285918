#include "ws_encode.h"

#include <string.h>

#include "platform.h"
#include "ws_mask.h"

size_t
ws_header_size(size_t n, bool is_masked) {
	size_t size = n < 126 ? 2 : n <= 0xffff ? 4 : 10;
	return is_masked ? size + 4 : size;
}

void
ws_write_frame(char *to, uint8_t start, const uint8_t *key, const char *payload, size_t n) {
	uint8_t *p = (uint8_t *)to;
	uint8_t mask = key == NULL ? 0 : 0x80;
	*p++ = start;
	if (n < 126) {
		*p++ = (uint8_t)(mask | n);
	} else {
		int bytes = n <= 0xffff ? 2 : 8;
		*p++ = (uint8_t)(mask | (bytes == 2 ? 126 : 127));
		for (int i = bytes - 1; i >= 0; i--) {
			*p++ = (uint8_t)((uint64_t)n >> (8 * i));
		}
	}
	if (key != NULL) {
		memcpy(p, key, 4);
		p += 4;
		ws_mask((char *)p, payload, n, key, 0);
	} else if (n > 0) {
		memcpy(p, payload, n);
	}
}

void
ws_random_key(uint8_t key[4]) {
	uint64_t r = platform_random();
	memcpy(key, &r, 4);
}
