// The compression of WebSocket messages, permessage-deflate (RFC 7692), with zlib.
//
// A stream owns its zlib state, which is made when the first compressed message
// needs it: about 7 KB plus the window to inflate, window * 4 plus 2^(mem_level + 9)
// to deflate. Without context takeover it is freed after each message, so that a
// connection at rest costs nothing. Memory is charged to the calling service.
// One thread at a time per stream.
#ifndef ws_deflate_h
#define ws_deflate_h

#include <stdbool.h>
#include <stddef.h>

#include "ws_buffer.h"

// The wire allows a window of 2^8; zlib deflates with 2^9 at least.
#define WS_MIN_WINDOW_BITS 9
#define WS_MAX_WINDOW_BITS 15

struct z_stream_s;

struct ws_flate {
	struct z_stream_s *z;
	int window_bits;
	int level;
	int mem_level;
	bool keeps_context;
	// Inflating: the last block of the stream was the end of the input, so far.
	bool is_ended;
	// Deflating, set by the caller: what came out last may not get to the peer, so the next
	// message must not refer to it.
	bool is_lost;
};

enum ws_inflate_result { WS_INFLATE_OK, WS_INFLATE_BAD, WS_INFLATE_TOO_BIG };

// Appends what n bytes of a message inflate to, never letting `out` grow past `limit`. A
// peer that refers to more than the window is refused unless zlib still has what it means.
enum ws_inflate_result ws_inflate(struct ws_flate *f, const char *bytes, size_t n,
                                  struct ws_buffer *out, size_t limit);
// The message is complete: appends the rest, prepares for the next one.
enum ws_inflate_result ws_inflate_end(struct ws_flate *f, struct ws_buffer *out, size_t limit);
// Appends the whole message of n bytes, compressed. False if memory is out; the
// next message starts anew then.
bool ws_deflate(struct ws_flate *f, const char *bytes, size_t n, struct ws_buffer *out);
void ws_inflate_free(struct ws_flate *f);
void ws_deflate_free(struct ws_flate *f);

#endif
