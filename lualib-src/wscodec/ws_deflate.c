#include "ws_deflate.h"

#include <limits.h>
#include <stdint.h>
#include <zlib.h>

#include "skynet_malloc.h"

// Output is made in steps of this size at least.
#define STEP 512
// zlib counts input in unsigned int.
#define INPUT_MAX_BYTES (1u << 30)

// What RFC 7692 7.2.1 removes from the end of each message.
static const char message_tail[] = {0x00, 0x00, (char)0xff, (char)0xff};

static void *
z_alloc(void *ud, unsigned int items, unsigned int size) {
	(void)ud;
	// Calloc: deflate reads some of its tables before it writes them.
	return skynet_calloc(items, size);
}

static void
z_free(void *ud, void *p) {
	(void)ud;
	skynet_free(p);
}

static z_stream *
new_stream(void) {
	z_stream *z = skynet_calloc(1, sizeof(*z));
	z->zalloc = z_alloc;
	z->zfree = z_free;
	return z;
}

static void
drop_stream(struct ws_flate *f, int (*end)(z_stream *)) {
	if (f->z != NULL) {
		end(f->z);
		skynet_free(f->z);
		f->z = NULL;
	}
}

void
ws_inflate_free(struct ws_flate *f) {
	drop_stream(f, inflateEnd);
}

void
ws_deflate_free(struct ws_flate *f) {
	drop_stream(f, deflateEnd);
}

//------------------------------------------------------------------- inflate

static bool
open_inflate(struct ws_flate *f) {
	if (f->z == NULL) {
		f->z = new_stream();
		f->is_ended = false;
		if (inflateInit2(f->z, -f->window_bits) != Z_OK) {
			skynet_free(f->z);
			f->z = NULL;
			return false;
		}
	}
	return true;
}

// One call of zlib into the free room of `out`; the result of zlib.
static int
inflate_step(z_stream *z, struct ws_buffer *out, size_t limit) {
	// One byte beyond the limit shows that the message is too big.
	size_t room = limit + 1 - out->size;
	size_t step = out->size < STEP ? STEP : out->size;
	if (step > room) {
		step = room;
	}
	char *to = ws_buffer_reserve(out, step, limit + 1);
	z->next_out = (Bytef *)to;
	z->avail_out = (uInt)(step > INPUT_MAX_BYTES ? INPUT_MAX_BYTES : step);
	uInt before = z->avail_out;
	int r = inflate(z, Z_SYNC_FLUSH);
	out->size += before - z->avail_out;
	return r;
}

enum ws_inflate_result
ws_inflate(struct ws_flate *f, const char *bytes, size_t n, struct ws_buffer *out, size_t limit) {
	if (!open_inflate(f)) {
		return WS_INFLATE_BAD;
	}
	z_stream *z = f->z;
	// zlib does not write to it.
	z->next_in = (Bytef *)(uintptr_t)bytes;
	z->avail_in = (uInt)n;
	for (;;) {
		if (f->is_ended && z->avail_in > 0) {
			// A final block is followed by another one: the window stays.
			inflateResetKeep(z);
			f->is_ended = false;
		}
		int r = inflate_step(z, out, limit);
		if (out->size > limit) {
			return WS_INFLATE_TOO_BIG;
		}
		if (r == Z_STREAM_END) {
			f->is_ended = true;
			if (z->avail_in == 0) {
				return WS_INFLATE_OK;
			}
		} else if (r == Z_BUF_ERROR || (r == Z_OK && z->avail_in == 0 && z->avail_out > 0)) {
			return WS_INFLATE_OK;
		} else if (r != Z_OK) {
			return WS_INFLATE_BAD;
		}
	}
}

enum ws_inflate_result
ws_inflate_end(struct ws_flate *f, struct ws_buffer *out, size_t limit) {
	enum ws_inflate_result r = WS_INFLATE_OK;
	if (!f->is_ended) {
		r = ws_inflate(f, message_tail, sizeof(message_tail), out, limit);
	}
	if (!f->keeps_context) {
		ws_inflate_free(f);
	}
	return r;
}

//------------------------------------------------------------------- deflate

static bool
open_deflate(struct ws_flate *f) {
	if (f->z == NULL) {
		f->z = new_stream();
		int r = deflateInit2(f->z, f->level, Z_DEFLATED, -f->window_bits, f->mem_level,
		                     Z_DEFAULT_STRATEGY);
		if (r != Z_OK) {
			skynet_free(f->z);
			f->z = NULL;
			return false;
		}
	}
	return true;
}

// Deflates what is set as input, all of it.
static bool
deflate_all(z_stream *z, int flush, struct ws_buffer *out) {
	do {
		size_t step = (size_t)z->avail_in / 2 + STEP;
		z->next_out = (Bytef *)ws_buffer_reserve(out, step, 0);
		z->avail_out = (uInt)step;
		int r = deflate(z, flush);
		out->size += step - z->avail_out;
		if (r != Z_OK && r != Z_BUF_ERROR) {
			return false;
		}
	} while (z->avail_out == 0);
	return true;
}

bool
ws_deflate(struct ws_flate *f, const char *bytes, size_t n, struct ws_buffer *out) {
	if (f->is_lost) {
		ws_deflate_free(f);
		f->is_lost = false;
	}
	if (!open_deflate(f)) {
		return false;
	}
	size_t before = out->size;
	do {
		size_t piece = n > INPUT_MAX_BYTES ? INPUT_MAX_BYTES : n;
		f->z->next_in = (Bytef *)(uintptr_t)bytes;
		f->z->avail_in = (uInt)piece;
		bytes += piece;
		n -= piece;
		if (!deflate_all(f->z, n > 0 ? Z_NO_FLUSH : Z_SYNC_FLUSH, out)) {
			f->is_lost = true;
			return false;
		}
	} while (n > 0);
	if (out->size - before >= sizeof(message_tail)) {
		out->size -= sizeof(message_tail);
	}
	if (!f->keeps_context) {
		ws_deflate_free(f);
	}
	return true;
}
