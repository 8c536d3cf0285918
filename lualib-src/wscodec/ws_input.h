// What has arrived of one WebSocket connection and is not decoded yet, and its decoder.
//
// Owns the bytes in one block, of which pieces are taken over as they come where that is
// possible, and at most one item that was decoded and looked at. Pure; one thread at a time.
#ifndef ws_input_h
#define ws_input_h

#include "ws_decode.h"

struct ws_input {
	struct ws_decoder decoder; // set up and freed by the caller
	// `left` bytes at `at` in the block, which is NULL without any.
	const char *at;
	size_t left;
	char *block;
	size_t capacity;
	// What was looked at and not taken; kind WS_MORE: nothing.
	int found;
	struct ws_event found_event;
};

// Copies n bytes that arrived. Many small pieces cost no more than a large one.
void ws_input_append(struct ws_input *in, const char *bytes, size_t n);
// Takes a block of n bytes that arrived.
void ws_input_feed(struct ws_input *in, char *block, size_t n);
// Forgets all that was not decoded, and what was looked at.
void ws_input_drop(struct ws_input *in);
// The next message or control frame, as ws_decode tells it; the same one until it is taken.
// The event is the input's.
int ws_input_look(struct ws_input *in, const struct ws_event **ev);
// What was looked at is dealt with. The text of a message stays in the decoder until that goes
// on.
void ws_input_take(struct ws_input *in);
// Takes the next item if it is a message: gives it as a block and returns WS_TEXT or
// WS_BINARY. Else WS_MORE, or WS_FAILED for any other item.
int ws_input_message(struct ws_input *in, char **block, size_t *size);

#endif
