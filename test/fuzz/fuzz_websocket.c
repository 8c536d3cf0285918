/*
 * Fuzzer of the WebSocket decoder and the compression behind it. The first two bytes
 * choose the settings; the rest is the stream. Fed whole, byte by byte, and as a gate
 * takes it in, in blocks whose sizes it chooses itself, it must give the same messages,
 * within the limit, and what comes out is sent to another decoder, which must get the same.
 * Only who refers to what is behind the window that was agreed on may be refused or not,
 * depending on the pieces.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wscodec/ws_decode.h"
#include "skynet_malloc.h"
#include "wscodec/ws_encode.h"
#include "wscodec/ws_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SERVER 1
#define UNMASKED 2
#define ANY_TEXT 4
#define DEFLATE 8
#define NO_CONTEXT 16

struct trace {
	uint64_t hash;
	size_t events;
	int last;
	bool is_refused; /* for compressed data that is invalid, which may be beyond the window */
};

static void
mix(struct trace *t, const char *bytes, size_t n) {
	for (size_t i = 0; i < n; i++) {
		t->hash = (t->hash ^ (uint8_t)bytes[i]) * UINT64_C(1099511628211);
	}
}

static void
init(struct ws_decoder *d, uint8_t flags, size_t max) {
	ws_decoder_init(d, (flags & SERVER) != 0, max);
	d->accepts_unmasked = (flags & UNMASKED) != 0;
	d->checks_utf8 = !(flags & ANY_TEXT);
	d->has_deflate = (flags & DEFLATE) != 0;
	d->inflate.window_bits = WS_MIN_WINDOW_BITS + (flags >> 5);
	if (d->inflate.window_bits > WS_MAX_WINDOW_BITS) {
		d->inflate.window_bits = WS_MAX_WINDOW_BITS;
	}
	d->inflate.keeps_context = !(flags & NO_CONTEXT);
}

/* A message as a compressed frame, and back. */
static void
round_trip(uint8_t flags, int kind, const struct ws_buffer *message) {
	struct ws_flate f = {
	    .window_bits = 12, .level = 6, .mem_level = 5, .keeps_context = !(flags & NO_CONTEXT)};
	struct ws_buffer packed = {NULL, 0, 0};
	struct ws_decoder d;
	struct ws_event ev;
	if (message->size == 0) {
		return;
	}
	if (!ws_deflate(&f, message->data, message->size, &packed)) {
		abort();
	}
	uint8_t key[4] = {1, 2, 3, 4};
	size_t n = ws_header_size(packed.size, true) + packed.size;
	char *frame = malloc(n);
	ws_write_frame(frame, (uint8_t)(WS_FIN | WS_COMPRESSED | kind), key, packed.data, packed.size);
	init(&d, (uint8_t)(SERVER | DEFLATE | ANY_TEXT | 0xe0), message->size);
	const char *at = frame;
	if (ws_decode(&d, &at, &n, &ev) != kind || n != 0 || d.message.size != message->size ||
	    memcmp(d.message.data, message->data, message->size) != 0) {
		abort();
	}
	ws_decoder_free(&d);
	ws_deflate_free(&f);
	ws_buffer_free(&packed);
	free(frame);
}

static bool
is_of_inflate(const struct ws_event *ev) {
	return strstr(ev->error, "compressed") != NULL;
}

/* Decodes until the stream ends or fails; false when it failed. */
static int
drain(struct ws_decoder *d, uint8_t flags, const char *at, size_t n, struct trace *t, int trips) {
	struct ws_event ev;
	int kind;
	while ((kind = ws_decode(d, &at, &n, &ev)) != WS_MORE) {
		t->events++;
		t->last = kind;
		if (kind == WS_FAILED) {
			/* Which rule is found to be broken first depends on the pieces. */
			if (ev.code == 0 || ev.error == NULL) {
				abort();
			}
			t->is_refused = is_of_inflate(&ev);
			return 0;
		}
		mix(t, (const char *)&kind, sizeof(kind));
		if (kind == WS_TEXT || kind == WS_BINARY) {
			if (d->message.size > d->max_message) {
				abort();
			}
			mix(t, d->message.data, d->message.size);
			if (trips) {
				round_trip(flags, kind, &d->message);
			}
		} else if (ev.size > WS_CONTROL_MAX) {
			abort();
		} else {
			mix(t, ev.data, ev.size);
		}
	}
	return 1;
}

/* What is there, as a gate takes it: messages as blocks, else what was put back. 0: failed. */
static int
take_all(struct ws_input *in, struct trace *t) {
	char *block;
	size_t n;
	int kind;
	while ((kind = ws_input_message(in, &block, &n)) != WS_MORE) {
		const struct ws_event *ev;
		t->events++;
		if (kind > 0) {
			if (n > in->decoder.max_message) {
				abort();
			}
			mix(t, (const char *)&kind, sizeof(kind));
			mix(t, block, n);
			skynet_free(block);
		} else {
			/* To ask again changes nothing. */
			if (ws_input_message(in, &block, &n) != WS_FAILED) {
				abort();
			}
			kind = ws_input_look(in, &ev);
			if (kind == WS_FAILED) {
				t->last = kind;
				t->is_refused = is_of_inflate(ev);
				return 0;
			}
			if (kind < WS_CLOSE || ev->size > WS_CONTROL_MAX) {
				abort();
			}
			mix(t, (const char *)&kind, sizeof(kind));
			mix(t, ev->data, ev->size);
			ws_input_take(in);
		}
		t->last = kind;
	}
	return 1;
}

/* The stream in blocks; after some of them nothing is taken, so that bytes gather. */
static void
as_a_gate(uint8_t flags, size_t max, const char *stream, size_t size, struct trace *t) {
	struct ws_input in;
	memset(&in, 0, sizeof(in));
	init(&in.decoder, flags, max);
	while (size > 0) {
		size_t n = (uint8_t)*stream % 97u + 1;
		n = n < size ? n : size;
		if (n % 5 == 0) {
			ws_input_append(&in, stream, n);
		} else {
			char *block = skynet_malloc(n);
			memcpy(block, stream, n);
			ws_input_feed(&in, block, n);
		}
		stream += n;
		size -= n;
		if ((n % 3 != 0 || size == 0) && !take_all(&in, t)) {
			break;
		}
	}
	ws_input_drop(&in);
	ws_decoder_free(&in.decoder);
}

static bool
differ(const struct trace *a, const struct trace *b, uint8_t flags) {
	bool has_small_window = (flags >> 5) < WS_MAX_WINDOW_BITS - WS_MIN_WINDOW_BITS;
	if (has_small_window && (a->is_refused || b->is_refused)) {
		return false;
	}
	return a->hash != b->hash || a->events != b->events || a->last != b->last;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct trace whole = {0}, pieces = {0}, blocks = {0};
	struct ws_decoder d;
	if (size < 2) {
		return 0;
	}
	uint8_t flags = data[0];
	size_t max = (size_t)data[1] * data[1] + 1;
	const char *stream = (const char *)data + 2;
	size -= 2;
	init(&d, flags, max);
	drain(&d, flags, stream, size, &whole, 1);
	ws_decoder_free(&d);
	init(&d, flags, max);
	for (size_t i = 0; i < size; i++) {
		if (!drain(&d, flags, stream + i, 1, &pieces, 0)) {
			break;
		}
	}
	ws_decoder_free(&d);
	as_a_gate(flags, max, stream, size, &blocks);
	if (differ(&whole, &blocks, flags) || differ(&whole, &pieces, flags)) {
		abort();
	}
	return 0;
}
