// Cuts the byte stream of one WebSocket connection into messages and control frames
// (RFC 6455 section 5; compressed messages: RFC 7692).
//
// A decoder owns the message that is being put together and its inflate state. It
// checks everything that the RFC says about frames: reserved bits, opcodes, masking
// by role, shortest length form, control frames whole and at most 125 bytes, order of
// fragments, UTF-8 of text (as it arrives, over all fragments, after decompression)
// and close codes. Memory grows with the bytes that came, not with what a header
// announces, and never past the limits. After WS_FAILED nothing is decoded any more.
//
// Why not libwslay (1.1.1): measured, its context keeps 8.8 KB per connection at rest
// (ours about 300 bytes), it costs 280 ns for a message of 64 bytes and 42 us for one
// of 16 KB, since it unmasks byte by byte and copies twice (ours: about 40 ns and 2 us);
// a message cannot be taken over as a block, and with a compressed one it neither
// inflates nor checks UTF-8.
//
// Pure; one thread at a time per decoder.
#ifndef ws_decode_h
#define ws_decode_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ws_buffer.h"
#include "ws_deflate.h"
#include "ws_utf8.h"

enum ws_opcode {
	WS_CONTINUATION = 0,
	WS_TEXT = 1,
	WS_BINARY = 2,
	WS_CLOSE = 8,
	WS_PING = 9,
	WS_PONG = 10,
};

// What ws_decode found, when it is not one of WS_TEXT to WS_PONG.
#define WS_MORE 0
#define WS_FAILED (-1)

#define WS_CONTROL_MAX 125
// Two bytes, eight of length, four of key.
#define WS_HEADER_MAX 14

#define WS_CODE_PROTOCOL 1002
#define WS_CODE_DATA 1007
#define WS_CODE_TOO_BIG 1009
#define WS_CODE_FAILURE 1011

struct ws_event {
	// Text and binary: NULL, the message is in the decoder. Close: the reason. Ping
	// and pong: the payload. Lent until the next call.
	const char *data;
	size_t size;
	// Close: the code, 0 = none was given. Failed: the code to close with.
	int code;
	// Failed: what is wrong, a static text.
	const char *error;
};

struct ws_decoder {
	// Settings, constant from ws_decoder_init on.
	size_t max_message;
	bool is_server;
	bool accepts_unmasked;
	bool checks_utf8;
	bool has_deflate;

	bool is_failed;
	// Of the current frame.
	uint8_t header[WS_HEADER_MAX];
	uint8_t header_size;
	bool in_payload;
	bool is_final;
	bool is_masked;
	uint8_t opcode;
	uint8_t key[4];
	uint8_t phase;
	uint64_t left;
	uint8_t control_size;
	char control[WS_CONTROL_MAX];

	// Of the current message; kind 0 = none has begun.
	uint8_t kind;
	bool is_compressed;
	uint64_t wire_size;
	struct ws_utf8 utf8;
	struct ws_buffer message;
	struct ws_flate inflate;
};

// A decoder of frames that clients send (is_server) or that servers send, for
// messages of up to max_message bytes. Other settings are false; the caller may set
// them before the first byte.
void ws_decoder_init(struct ws_decoder *d, bool is_server, size_t max_message);
void ws_decoder_free(struct ws_decoder *d);
// Consumes from *bytes up to the end of the next message or control frame and moves
// both arguments on. Returns a ws_opcode, WS_MORE when all is consumed, or WS_FAILED.
int ws_decode(struct ws_decoder *d, const char **bytes, size_t *n, struct ws_event *ev);

// Whether the beginning of a frame or of a message was consumed, and not its end.
bool ws_is_within(const struct ws_decoder *d);

// Whether an endpoint may put this code into a close frame (RFC 6455 7.4).
bool ws_is_close_code(int code);

#endif
