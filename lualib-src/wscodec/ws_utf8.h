// Checks UTF-8 piece by piece (RFC 3629): no overlong form, no surrogate, nothing
// beyond U+10FFFF. A character may be cut anywhere between two pieces.
//
// Pure; owns nothing. One thread at a time per state.
#ifndef ws_utf8_h
#define ws_utf8_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Bytes that the current character still needs, and the range of the next one.
struct ws_utf8 {
	uint8_t need;
	uint8_t low;
	uint8_t high;
};

// All zero is the state between two characters.
void ws_utf8_reset(struct ws_utf8 *u);
// Takes in n bytes; false as soon as no continuation can make them valid.
bool ws_utf8_feed(struct ws_utf8 *u, const char *bytes, size_t n);
// Whether the text may end here.
bool ws_utf8_at_end(const struct ws_utf8 *u);

#endif
