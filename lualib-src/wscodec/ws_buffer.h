// A block of bytes that grows with what is put in. Owns `data` (skynet_malloc) until
// ws_buffer_take gives it away. Pure; one thread at a time.
#ifndef ws_buffer_h
#define ws_buffer_h

#include <stddef.h>

struct ws_buffer {
	char *data;
	size_t size;
	size_t cap;
};

// Room for n more bytes after the present ones; `cap_hint` is a size that the whole
// is not expected to pass, 0 = unknown.
char *ws_buffer_reserve(struct ws_buffer *b, size_t n, size_t cap_hint);
// Empties it; a big block is freed, a small one kept for the next content.
void ws_buffer_clear(struct ws_buffer *b);
void ws_buffer_free(struct ws_buffer *b);
// Gives the block, which the caller frees with skynet_free; the buffer is empty then.
// Never NULL.
char *ws_buffer_take(struct ws_buffer *b, size_t *size);

#endif
