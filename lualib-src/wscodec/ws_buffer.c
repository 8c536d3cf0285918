#include "ws_buffer.h"

#include "skynet_malloc.h"

#define FIRST_SIZE 128
// A connection at rest keeps no more than this.
#define KEEP_SIZE 1024

char *
ws_buffer_reserve(struct ws_buffer *b, size_t n, size_t cap_hint) {
	size_t need = b->size + n;
	if (need > b->cap) {
		size_t cap = b->cap < FIRST_SIZE ? FIRST_SIZE : b->cap * 2;
		if (cap_hint > 0 && cap > cap_hint) {
			cap = cap_hint;
		}
		if (cap < need) {
			cap = need;
		}
		b->data = skynet_realloc(b->data, cap);
		b->cap = cap;
	}
	return b->data + b->size;
}

void
ws_buffer_free(struct ws_buffer *b) {
	skynet_free(b->data);
	*b = (struct ws_buffer){NULL, 0, 0};
}

void
ws_buffer_clear(struct ws_buffer *b) {
	if (b->cap > KEEP_SIZE) {
		ws_buffer_free(b);
	}
	b->size = 0;
}

char *
ws_buffer_take(struct ws_buffer *b, size_t *size) {
	char *data = b->data == NULL ? skynet_malloc(1) : b->data;
	*size = b->size;
	*b = (struct ws_buffer){NULL, 0, 0};
	return data;
}
