#include "ws_input.h"

#include <string.h>

#include "skynet_malloc.h"

static void
drop_bytes(struct ws_input *in) {
	skynet_free(in->block);
	in->block = NULL;
	in->at = NULL;
	in->left = in->capacity = 0;
}

void
ws_input_append(struct ws_input *in, const char *bytes, size_t n) {
	size_t left = in->left;
	size_t used = left == 0 ? 0 : (size_t)(in->at - in->block) + left;
	if (in->capacity - used < n) {
		size_t capacity = left < n ? left + n : 2 * left;
		char *block = skynet_malloc(capacity);
		if (left > 0) {
			memcpy(block, in->at, left);
		}
		drop_bytes(in);
		in->block = block;
		in->capacity = capacity;
		in->at = block;
		used = left;
	}
	memcpy(in->block + used, bytes, n);
	in->left = left + n;
}

void
ws_input_feed(struct ws_input *in, char *block, size_t n) {
	if (in->left > 0) {
		ws_input_append(in, block, n);
		skynet_free(block);
		return;
	}
	drop_bytes(in);
	in->block = block;
	in->at = block;
	in->left = in->capacity = n;
}

void
ws_input_drop(struct ws_input *in) {
	drop_bytes(in);
	in->aside = WS_MORE;
}

int
ws_input_next(struct ws_input *in, struct ws_event *ev) {
	if (in->aside != WS_MORE) {
		int kind = in->aside;
		*ev = in->aside_event;
		in->aside = WS_MORE;
		return kind;
	}
	if (in->left == 0 && !in->decoder.is_failed) {
		return WS_MORE;
	}
	int kind = ws_decode(&in->decoder, &in->at, &in->left, ev);
	if (kind == WS_FAILED || in->left == 0) {
		drop_bytes(in);
	}
	return kind;
}

int
ws_input_message(struct ws_input *in, char **block, size_t *size) {
	struct ws_event ev;
	int kind = ws_input_next(in, &ev);
	if (kind == WS_TEXT || kind == WS_BINARY) {
		*block = ws_buffer_take(&in->decoder.message, size);
		return kind;
	}
	if (kind == WS_MORE) {
		return WS_MORE;
	}
	// Its texts stay in the decoder until that goes on.
	in->aside = kind;
	in->aside_event = ev;
	return WS_FAILED;
}
