/*
 * Fuzzer of the C gate's splitter: however a stream is cut, the same packages come out,
 * none empty or beyond the limit, and memory follows what came. The first byte of the
 * input chooses the header and the size of the pieces.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../service-src/gate/gate_stream.h"
#include "skynet_malloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 1000
/* A package gets so much before its bytes came. */
#define FIRST_CAPACITY 4096

struct view {
	const uint8_t *bytes;
	size_t n;
	size_t at;
	size_t header_size;
};

static size_t
size_at(const struct view *v) {
	size_t size = 0;
	for (size_t i = 0; i < v->header_size; i++) {
		size = size << 8 | v->bytes[v->at + i];
	}
	return size;
}

static void
sink(void *ud, char *package, size_t size) {
	struct view *v = ud;
	while (v->at + v->header_size <= v->n && size_at(v) == 0) {
		v->at += v->header_size;
	}
	if (size == 0 || size >= LIMIT || v->at + v->header_size + size > v->n || size_at(v) != size ||
	    memcmp(v->bytes + v->at + v->header_size, package, size) != 0) {
		abort();
	}
	v->at += v->header_size + size;
	skynet_free(package);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size == 0) {
		return 0;
	}
	struct gate_format f = {(data[0] & 1) != 0 ? 4 : 2, LIMIT};
	size_t step = (size_t)(data[0] >> 1) + 1;
	struct view v = {data + 1, size - 1, 0, f.header_size};
	struct gate_stream s;
	memset(&s, 0, sizeof(s));
	for (size_t i = 0; i < v.n; i += step) {
		size_t n = step < v.n - i ? step : v.n - i;
		if (gate_stream_feed(&s, &f, (const char *)v.bytes + i, n, sink, &v) != 0) {
			break;
		}
		if (s.capacity > FIRST_CAPACITY || s.filled > s.size) {
			abort();
		}
	}
	gate_stream_clear(&s);
	return 0;
}
