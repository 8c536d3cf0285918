// The chunked transfer coding, read as it arrives (RFC 9112, 7.1).
//
// A decoder is a few words that the caller owns; it keeps no bytes. Any thread.
#ifndef http_chunk_h
#define http_chunk_h

#include <stddef.h>
#include <stdint.h>

// Longest line with the size of a chunk and its extensions, which are passed over.
#define HTTP_CHUNK_LINE 128

enum http_chunk_result {
	HTTP_CHUNK_MORE, // all bytes are taken, none of them data
	HTTP_CHUNK_DATA, // `data` is the next part of the body
	HTTP_CHUNK_LAST, // the last chunk; a trailer section follows, at least CRLF
	HTTP_CHUNK_BAD,  // malformed
};

// Zero at the beginning of a body.
struct http_chunk {
	int state;
	int line; // bytes of the current line of framing
	int digits;
	uint64_t left; // bytes of the current chunk that are still to come
};

struct http_chunk_part {
	size_t used; // bytes that are done with
	const char *data;
	size_t size;
};

// Decode some of the next `n` bytes.
enum http_chunk_result http_chunk_next(struct http_chunk *c, const char *p, size_t n,
                                       struct http_chunk_part *part);

// Bytes of the current chunk that are still to come.
uint64_t http_chunk_left(const struct http_chunk *c);

#endif
