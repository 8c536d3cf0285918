#include "http_chunk.h"

#include <stdbool.h>

enum {
	SIZE,  // digits of the size
	BLANK, // blanks before an extension
	EXTENSION,
	SIZE_LF, // the line feed behind the size
	DATA,
	DATA_CR, // the line end behind the data
	DATA_LF,
	LAST,
	BAD,
};

// More would not fit a signed 64-bit integer.
#define MAX_DIGITS 15

static int
hex_value(char c) {
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// A byte of the size line; the next state.
static int
size_byte(struct http_chunk *c, char byte) {
	int value = c->state == SIZE ? hex_value(byte) : -1;
	if (value >= 0) {
		c->left = c->left * 16 + (unsigned)value;
		return ++c->digits <= MAX_DIGITS ? SIZE : BAD;
	}
	if (c->digits == 0) {
		return BAD;
	}
	if (byte == '\r' && c->state != BLANK) {
		return SIZE_LF;
	}
	if (c->state == EXTENSION) {
		bool control = (unsigned char)byte < ' ' && byte != '\t';
		return control || byte == 127 ? BAD : EXTENSION;
	}
	if (byte == ';') {
		return EXTENSION;
	}
	return byte == ' ' || byte == '\t' ? BLANK : BAD;
}

static int
framing_byte(struct http_chunk *c, char byte) {
	switch (c->state) {
	case SIZE_LF:
		return byte != '\n' ? BAD : c->left > 0 ? DATA : LAST;
	case DATA_CR:
		return byte == '\r' ? DATA_LF : BAD;
	case DATA_LF:
		c->line = 0;
		c->digits = 0;
		c->left = 0;
		return byte == '\n' ? SIZE : BAD;
	default:
		return ++c->line > HTTP_CHUNK_LINE ? BAD : size_byte(c, byte);
	}
}

enum http_chunk_result
http_chunk_next(struct http_chunk *c, const char *p, size_t n, struct http_chunk_part *part) {
	size_t i = 0;
	while (i < n && c->state != DATA && c->state != LAST && c->state != BAD) {
		c->state = framing_byte(c, p[i++]);
	}
	part->used = i;
	if (c->state == BAD) {
		return HTTP_CHUNK_BAD;
	}
	if (c->state == LAST) {
		return HTTP_CHUNK_LAST;
	}
	if (c->state != DATA || i == n) {
		return HTTP_CHUNK_MORE;
	}
	part->data = p + i;
	part->size = n - i < c->left ? n - i : (size_t)c->left;
	part->used += part->size;
	c->left -= part->size;
	if (c->left == 0) {
		c->state = DATA_CR;
	}
	return HTTP_CHUNK_DATA;
}

uint64_t
http_chunk_left(const struct http_chunk *c) {
	return c->state == DATA ? c->left : 0;
}
