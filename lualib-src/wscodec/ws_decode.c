#include "ws_decode.h"

#include <string.h>

#include "skynet_malloc.h"
#include "ws_mask.h"

#define FIN 0x80
#define RSV1 0x40
#define RSV23 0x30
#define OPCODE 0x0f
#define MASK 0x80
#define LENGTH 0x7f
#define LENGTH_16 126
#define LENGTH_64 127
#define IS_CONTROL 0x08
// Compressed bytes are unmasked and inflated in pieces of this size.
#define PIECE 2048
// Incompressible data grows a little: no compressed message needs more than its size
// plus this part of it plus a constant.
#define WIRE_PART 64
#define WIRE_CONSTANT 64

void
ws_decoder_init(struct ws_decoder *d, bool is_server, size_t max_message) {
	memset(d, 0, sizeof(*d));
	d->is_server = is_server;
	d->max_message = max_message;
	ws_utf8_reset(&d->utf8);
}

void
ws_decoder_free(struct ws_decoder *d) {
	ws_buffer_free(&d->message);
	ws_inflate_free(&d->inflate);
}

bool
ws_is_close_code(int code) {
	if (code >= 3000) {
		return code <= 4999;
	}
	return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

bool
ws_is_within(const struct ws_decoder *d) {
	return d->header_size > 0 || d->kind != 0;
}

static int
failed(struct ws_event *ev, int code, const char *error) {
	ev->code = code;
	ev->error = error;
	return WS_FAILED;
}

//-------------------------------------------------------------------- header

// The first two bytes decide whether the frame can be read at all.
static int
check_start(struct ws_decoder *d, struct ws_event *ev) {
	uint8_t b0 = d->header[0];
	uint8_t op = b0 & OPCODE;
	uint8_t length = d->header[1] & LENGTH;
	bool is_masked = (d->header[1] & MASK) != 0;
	bool begins = op == WS_TEXT || op == WS_BINARY;
	if ((b0 & RSV23) || ((b0 & RSV1) && !(d->has_deflate && begins))) {
		return failed(ev, WS_CODE_PROTOCOL, "reserved bits must be zero");
	}
	if (op > WS_PONG || (op > WS_BINARY && op < WS_CLOSE)) {
		return failed(ev, WS_CODE_PROTOCOL, "unknown opcode");
	}
	if (op & IS_CONTROL) {
		if (!(b0 & FIN)) {
			return failed(ev, WS_CODE_PROTOCOL, "control frames must not be fragmented");
		}
		if (length > WS_CONTROL_MAX) {
			return failed(ev, WS_CODE_PROTOCOL, "control frame is too long");
		}
	} else if (begins && d->kind != 0) {
		return failed(ev, WS_CODE_PROTOCOL, "a message begins within another one");
	} else if (op == WS_CONTINUATION && d->kind == 0) {
		return failed(ev, WS_CODE_PROTOCOL, "continuation of no message");
	}
	if (is_masked && !d->is_server) {
		return failed(ev, WS_CODE_PROTOCOL, "a server must not mask");
	}
	if (!is_masked && d->is_server && !d->accepts_unmasked) {
		return failed(ev, WS_CODE_PROTOCOL, "a client must mask");
	}
	return WS_MORE;
}

static size_t
header_length(const struct ws_decoder *d) {
	if (d->header_size < 2) {
		return 2;
	}
	uint8_t length = d->header[1] & LENGTH;
	size_t n = length == LENGTH_16 ? 4 : length == LENGTH_64 ? 10 : 2;
	return d->header[1] & MASK ? n + 4 : n;
}

static uint64_t
big_endian(const uint8_t *bytes, int n) {
	uint64_t v = 0;
	for (int i = 0; i < n; i++) {
		v = v << 8 | bytes[i];
	}
	return v;
}

// A data frame of `length` bytes begins.
static int
begin_data(struct ws_decoder *d, uint64_t length, struct ws_event *ev) {
	if (d->opcode != WS_CONTINUATION) {
		d->kind = d->opcode;
		d->is_compressed = (d->header[0] & RSV1) != 0;
		d->wire_size = 0;
		ws_utf8_reset(&d->utf8);
	}
	uint64_t limit = d->max_message;
	if (d->is_compressed) {
		limit += limit / WIRE_PART + WIRE_CONSTANT;
	}
	if (length > limit || d->wire_size > limit - length) {
		return failed(ev, WS_CODE_TOO_BIG, "payload_len is too large");
	}
	d->wire_size += length;
	return WS_MORE;
}

// The header is complete.
static int
begin_frame(struct ws_decoder *d, struct ws_event *ev) {
	uint64_t length = d->header[1] & LENGTH;
	int length_bytes = length == LENGTH_16 ? 2 : length == LENGTH_64 ? 8 : 0;
	if (length_bytes > 0) {
		uint64_t least = length_bytes == 2 ? LENGTH_16 : UINT64_C(0x10000);
		length = big_endian(d->header + 2, length_bytes);
		if (length < least || length >> 63) {
			return failed(ev, WS_CODE_PROTOCOL, "length is not in its shortest form");
		}
	}
	d->is_final = (d->header[0] & FIN) != 0;
	d->opcode = d->header[0] & OPCODE;
	d->is_masked = (d->header[1] & MASK) != 0;
	if (d->is_masked) {
		memcpy(d->key, d->header + 2 + length_bytes, sizeof(d->key));
	}
	d->phase = 0;
	d->left = length;
	d->control_size = 0;
	d->in_payload = true;
	return d->opcode & IS_CONTROL ? WS_MORE : begin_data(d, length, ev);
}

// Takes in header bytes; in_payload tells whether it is complete.
static int
decode_header(struct ws_decoder *d, const char **bytes, size_t *n, struct ws_event *ev) {
	while (*n > 0) {
		bool is_start = d->header_size < 2;
		size_t lacks = header_length(d) - d->header_size;
		size_t k = lacks < *n ? lacks : *n;
		memcpy(d->header + d->header_size, *bytes, k);
		d->header_size = (uint8_t)(d->header_size + k);
		*bytes += k;
		*n -= k;
		if (is_start && d->header_size == 2) {
			int r = check_start(d, ev);
			if (r != WS_MORE) {
				return r;
			}
		}
		if (d->header_size >= 2 && d->header_size == header_length(d)) {
			return begin_frame(d, ev);
		}
	}
	return WS_MORE;
}

//------------------------------------------------------------------- payload

// Copies n bytes of payload, without their mask.
static void
unmask(struct ws_decoder *d, char *to, const char *from, size_t n) {
	if (d->is_masked) {
		ws_mask(to, from, n, d->key, d->phase);
		d->phase = (uint8_t)((d->phase + n) & 3);
	} else {
		memcpy(to, from, n);
	}
}

// What was appended to the message since it had `before` bytes.
static int
check_text(struct ws_decoder *d, size_t before, struct ws_event *ev) {
	if (d->kind != WS_TEXT || !d->checks_utf8) {
		return WS_MORE;
	}
	if (!ws_utf8_feed(&d->utf8, d->message.data + before, d->message.size - before)) {
		return failed(ev, WS_CODE_DATA, "text is not valid UTF-8");
	}
	return WS_MORE;
}

static int
check_inflated(struct ws_decoder *d, enum ws_inflate_result r, size_t before, struct ws_event *ev) {
	switch (r) {
	case WS_INFLATE_TOO_BIG:
		return failed(ev, WS_CODE_TOO_BIG, "payload_len is too large");
	case WS_INFLATE_BAD:
		return failed(ev, WS_CODE_DATA, "compressed data is invalid");
	default:
		return d->message.size > before ? check_text(d, before, ev) : WS_MORE;
	}
}

static int
take_compressed(struct ws_decoder *d, const char *bytes, size_t n, struct ws_event *ev) {
	char piece[PIECE];
	while (n > 0) {
		size_t k = n < PIECE ? n : PIECE;
		size_t before = d->message.size;
		unmask(d, piece, bytes, k);
		int r = check_inflated(d, ws_inflate(&d->inflate, piece, k, &d->message, d->max_message),
		                       before, ev);
		if (r != WS_MORE) {
			return r;
		}
		bytes += k;
		n -= k;
	}
	return WS_MORE;
}

static int
take_plain(struct ws_decoder *d, const char *bytes, size_t n, struct ws_event *ev) {
	size_t before = d->message.size;
	char *to = ws_buffer_reserve(&d->message, n, (size_t)d->wire_size);
	unmask(d, to, bytes, n);
	d->message.size += n;
	return check_text(d, before, ev);
}

static int
take_payload(struct ws_decoder *d, const char *bytes, size_t n, struct ws_event *ev) {
	if (n == 0) {
		return WS_MORE;
	}
	if (d->opcode & IS_CONTROL) {
		unmask(d, d->control + d->control_size, bytes, n);
		d->control_size = (uint8_t)(d->control_size + n);
		return WS_MORE;
	}
	return d->is_compressed ? take_compressed(d, bytes, n, ev) : take_plain(d, bytes, n, ev);
}

//----------------------------------------------------------------------- end

static int
end_close(struct ws_decoder *d, struct ws_event *ev) {
	struct ws_utf8 u;
	if (d->control_size == 0) {
		return WS_CLOSE;
	}
	if (d->control_size == 1) {
		return failed(ev, WS_CODE_PROTOCOL, "close frame of one byte");
	}
	ev->code = (int)big_endian((const uint8_t *)d->control, 2);
	ev->data = d->control + 2;
	ev->size = d->control_size - 2u;
	if (!ws_is_close_code(ev->code)) {
		return failed(ev, WS_CODE_PROTOCOL, "invalid close code");
	}
	ws_utf8_reset(&u);
	if (!ws_utf8_feed(&u, ev->data, ev->size) || !ws_utf8_at_end(&u)) {
		return failed(ev, WS_CODE_DATA, "close reason is not valid UTF-8");
	}
	return WS_CLOSE;
}

static int
end_message(struct ws_decoder *d, struct ws_event *ev) {
	int kind = d->kind;
	d->kind = 0;
	if (d->is_compressed) {
		size_t before = d->message.size;
		d->kind = (uint8_t)kind;
		int r =
		    check_inflated(d, ws_inflate_end(&d->inflate, &d->message, d->max_message), before, ev);
		d->kind = 0;
		if (r != WS_MORE) {
			return r;
		}
	}
	if (kind == WS_TEXT && d->checks_utf8 && !ws_utf8_at_end(&d->utf8)) {
		return failed(ev, WS_CODE_DATA, "text ends within a character");
	}
	return kind;
}

static int
end_frame(struct ws_decoder *d, struct ws_event *ev) {
	d->in_payload = false;
	d->header_size = 0;
	if (!(d->opcode & IS_CONTROL)) {
		return d->is_final ? end_message(d, ev) : WS_MORE;
	}
	if (d->opcode == WS_CLOSE) {
		return end_close(d, ev);
	}
	ev->data = d->control;
	ev->size = d->control_size;
	return d->opcode;
}

static int
decode(struct ws_decoder *d, const char **bytes, size_t *n, struct ws_event *ev) {
	for (;;) {
		int r;
		if (!d->in_payload) {
			r = decode_header(d, bytes, n, ev);
			if (r != WS_MORE || !d->in_payload) {
				return r;
			}
		}
		size_t k = d->left < *n ? (size_t)d->left : *n;
		r = take_payload(d, *bytes, k, ev);
		if (r != WS_MORE) {
			return r;
		}
		*bytes += k;
		*n -= k;
		d->left -= k;
		if (d->left > 0) {
			return WS_MORE;
		}
		r = end_frame(d, ev);
		if (r != WS_MORE) {
			return r;
		}
	}
}

int
ws_decode(struct ws_decoder *d, const char **bytes, size_t *n, struct ws_event *ev) {
	*ev = (struct ws_event){NULL, 0, 0, NULL};
	if (d->is_failed) {
		return failed(ev, WS_CODE_PROTOCOL, "the stream has failed before");
	}
	if (d->kind == 0) {
		// The message that was handed out, if it was not taken.
		ws_buffer_clear(&d->message);
	}
	int r = decode(d, bytes, n, ev);
	d->is_failed = r == WS_FAILED;
	return r;
}
