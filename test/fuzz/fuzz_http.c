/*
 * Fuzzer of the HTTP parser. The first byte says what the rest is (a request, a
 * response, a chunked body) and how it is cut; what comes out must not depend on the
 * cuts, must lie within the input, and must hold no byte that ends a line.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/http_chunk.h"
#include "http/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(claim)                                                                             \
	do {                                                                                           \
		if (!(claim)) {                                                                            \
			abort();                                                                               \
		}                                                                                          \
	} while (0)

static const struct http_limits limits = {512, 2048, 20};

static void
check_text(const struct http_text *t, const char *p, size_t n) {
	REQUIRE(t->p >= p && t->p + t->n <= p + n);
	REQUIRE(memchr(t->p, '\r', t->n) == NULL && memchr(t->p, '\n', t->n) == NULL);
	REQUIRE(memchr(t->p, '\0', t->n) == NULL);
}

static void
check_head(const struct http_head *h, const char *p, size_t n) {
	REQUIRE(h->fields >= 0 && h->fields <= HTTP_MAX_FIELDS);
	REQUIRE(h->length >= -1);
	REQUIRE(!((h->flags & (HTTP_CHUNKED | HTTP_CODED)) && h->length >= 0));
	for (int i = 0; i < h->fields; i++) {
		check_text(&h->field[i].name, p, n);
		check_text(&h->field[i].value, p, n);
		REQUIRE(http_is_token(h->field[i].name.p, h->field[i].name.n));
	}
}

/* The end as found when the bytes come `step` at a time. */
static ptrdiff_t
end_in_steps(const char *p, size_t n, size_t step, struct http_fault *fault) {
	struct http_scan scan;
	memset(&scan, 0, sizeof(scan));
	ptrdiff_t end = 0;
	for (size_t have = step; end == 0; have += step) {
		have = have < n ? have : n;
		end = http_head_end(p, have, &limits, &scan, fault);
		if (have == n) {
			break;
		}
	}
	return end;
}

static void
fuzz_head(const char *p, size_t n, size_t step, int is_request) {
	struct http_fault fault = {0, NULL};
	struct http_head h;
	ptrdiff_t end = end_in_steps(p, n, n == 0 ? 1 : n, &fault);
	REQUIRE(end < 0 || end == end_in_steps(p, n, step, &fault));
	REQUIRE(end >= 0 || fault.status != 0);
	/* A lone blank line is for the caller. */
	if (end <= 2) {
		return;
	}
	REQUIRE((size_t)end <= n && (size_t)end <= limits.total);
	if (is_request ? http_request_parse(p, (size_t)end, &h, &fault)
	               : http_response_parse(p, (size_t)end, &h, &fault)) {
		check_head(&h, p, (size_t)end);
		if (is_request) {
			check_text(&h.method, p, (size_t)end);
			check_text(&h.target, p, (size_t)end);
			REQUIRE(h.target.n > 0 && h.method.n > 0);
		} else {
			REQUIRE(h.status >= 100 && h.status <= 999);
		}
	} else {
		REQUIRE(fault.status >= 400 && fault.why != NULL);
	}
	if (http_trailer_parse(p, (size_t)end, &h, &fault)) {
		check_head(&h, p, (size_t)end);
	}
}

/* Decodes into `out`, at most n bytes; the last result. */
static enum http_chunk_result
decode(const char *p, size_t n, size_t step, char *out, size_t *out_size) {
	struct http_chunk c;
	memset(&c, 0, sizeof(c));
	*out_size = 0;
	for (size_t at = 0; at < n;) {
		size_t have = n - at < step ? n - at : step;
		struct http_chunk_part part = {0, NULL, 0};
		enum http_chunk_result r = http_chunk_next(&c, p + at, have, &part);
		if (r == HTTP_CHUNK_BAD || r == HTTP_CHUNK_LAST) {
			return r;
		}
		REQUIRE(part.used > 0 && part.used <= have);
		if (r == HTTP_CHUNK_DATA) {
			REQUIRE(part.size > 0 && *out_size + part.size <= n);
			memcpy(out + *out_size, part.data, part.size);
			*out_size += part.size;
		}
		at += part.used;
	}
	return HTTP_CHUNK_MORE;
}

static void
fuzz_chunks(const char *p, size_t n, size_t step) {
	size_t whole_size, cut_size;
	char *whole = malloc(n + 1);
	char *cut = malloc(n + 1);
	enum http_chunk_result a = decode(p, n, n + 1, whole, &whole_size);
	enum http_chunk_result b = decode(p, n, step, cut, &cut_size);
	REQUIRE(a == b && whole_size == cut_size && memcmp(whole, cut, cut_size) == 0);
	free(whole);
	free(cut);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size == 0) {
		return 0;
	}
	size_t step = (size_t)(data[0] >> 2) + 1;
	const char *p = (const char *)data + 1;
	switch (data[0] & 3) {
	case 0:
		fuzz_head(p, size - 1, step, 1);
		break;
	case 1:
		fuzz_head(p, size - 1, step, 0);
		break;
	default:
		fuzz_chunks(p, size - 1, step);
		break;
	}
	return 0;
}
