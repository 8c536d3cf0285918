#include "gate_stream.h"

#include <string.h>

#include "skynet_malloc.h"

/* A package is given at most so much memory before its first byte came. */
#define FIRST_CAPACITY 4096

void
gate_stream_clear(struct gate_stream *s) {
	skynet_free(s->package);
	memset(s, 0, sizeof(*s));
}

static size_t
min_size(size_t a, size_t b) {
	return a < b ? a : b;
}

/* Take header bytes; the number taken. */
static size_t
feed_header(struct gate_stream *s, size_t header_size, const char *bytes, size_t n) {
	size_t take = min_size(n, header_size - s->header_n);
	memcpy(s->header + s->header_n, bytes, take);
	s->header_n += take;
	if (s->header_n == header_size) {
		s->size = 0;
		for (size_t i = 0; i < header_size; i++) {
			s->size = s->size << 8 | s->header[i];
		}
	}
	return take;
}

/* Take payload bytes; the number taken. */
static size_t
feed_package(struct gate_stream *s, const char *bytes, size_t n) {
	size_t take = min_size(n, s->size - s->filled);
	size_t need = s->filled + take;
	if (need > s->capacity || s->package == NULL) {
		size_t capacity = s->capacity == 0 ? FIRST_CAPACITY : s->capacity * 2;
		capacity = capacity < need ? need : capacity;
		s->capacity = min_size(capacity, s->size);
		s->package = skynet_realloc(s->package, s->capacity);
	}
	memcpy(s->package + s->filled, bytes, take);
	s->filled += take;
	return take;
}

static void
finish_package(struct gate_stream *s, gate_sink sink, void *ud) {
	char *package = s->package;
	size_t size = s->size;
	s->package = NULL;
	gate_stream_clear(s);
	if (size > 0) {
		sink(ud, package, size);
	}
}

int
gate_stream_feed(struct gate_stream *s, const struct gate_format *f, const char *bytes, size_t n,
                 gate_sink sink, void *ud) {
	size_t pos = 0;
	while (pos < n) {
		if (s->header_n < f->header_size) {
			pos += feed_header(s, f->header_size, bytes + pos, n - pos);
			if (s->header_n < f->header_size) {
				break;
			}
			if (s->size >= f->limit) {
				return -1;
			}
		}
		if (s->size > 0) {
			pos += feed_package(s, bytes + pos, n - pos);
		}
		if (s->filled == s->size) {
			finish_package(s, sink, ud);
		}
	}
	return 0;
}
