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
	ws_input_take(in);
}

int
ws_input_look(struct ws_input *in, const struct ws_event **ev) {
	*ev = &in->found_event;
	if (in->found != WS_MORE) {
		return in->found;
	}
	if (in->left == 0 && !in->decoder.is_failed) {
		return WS_MORE;
	}
	in->found = ws_decode(&in->decoder, &in->at, &in->left, &in->found_event);
	if (in->found == WS_FAILED || in->left == 0) {
		drop_bytes(in);
	}
	return in->found;
}

void
ws_input_take(struct ws_input *in) {
	in->found = WS_MORE;
}

int
ws_input_message(struct ws_input *in, char **block, size_t *size) {
	const struct ws_event *ev;
	int kind = ws_input_look(in, &ev);
	if (kind == WS_TEXT || kind == WS_BINARY) {
		*block = ws_buffer_take(&in->decoder.message, size);
		ws_input_take(in);
		return kind;
	}
	return kind == WS_MORE ? WS_MORE : WS_FAILED;
}
