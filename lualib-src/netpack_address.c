// See netpack_address.h. Bits 16 to 47 are the address, the lower ones the port.
#include "netpack_address.h"

#include <stdbool.h>
#include <stdio.h>

// The numbers of an address, in front of each dot, the colon and the end.
#define NUMBERS 5

struct reader {
	const char *p;
	const char *end;
};

// A decimal number without leading zeros, at most `max`, below 2^16.
static bool
read_number(struct reader *r, unsigned max, unsigned *n) {
	const char *first = r->p;
	*n = 0;
	while (r->p < r->end && *r->p >= '0' && *r->p <= '9' && *n <= max) {
		*n = *n * 10 + (unsigned)(*r->p++ - '0');
	}
	size_t digits = (size_t)(r->p - first);
	return digits > 0 && *n <= max && (digits == 1 || *first != '0');
}

static bool
read_mark(struct reader *r, char mark) {
	if (mark == '\0') {
		return r->p == r->end;
	}
	return r->p < r->end && *r->p++ == mark;
}

int64_t
address_to_brief(const char *text, size_t n) {
	static const char mark[NUMBERS] = {'.', '.', '.', ':', '\0'};
	struct reader r = {text, text + n};
	int64_t brief = 0;
	for (int i = 0; i < NUMBERS; i++) {
		bool is_port = i == NUMBERS - 1;
		unsigned number;
		if (!read_number(&r, is_port ? UINT16_MAX : UINT8_MAX, &number) ||
		    !read_mark(&r, mark[i])) {
			return -1;
		}
		brief = brief << (is_port ? 16 : 8) | number;
	}
	return brief;
}

size_t
address_from_brief(int64_t brief, char text[BRIEF_TEXT_SIZE]) {
	uint64_t b = (uint64_t)brief;
	return (size_t)snprintf(text, BRIEF_TEXT_SIZE, "%u.%u.%u.%u:%u", (unsigned)(b >> 40 & 0xff),
	                        (unsigned)(b >> 32 & 0xff), (unsigned)(b >> 24 & 0xff),
	                        (unsigned)(b >> 16 & 0xff), (unsigned)(b & 0xffff));
}
