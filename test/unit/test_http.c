// The HTTP parser (RFC 9112): ends of heads, fields, framing, chunks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "http/http_chunk.h"
#include "http/http_head.h"

static const struct http_limits limits = {64, 256, 4};
static struct http_head head;
static struct http_fault fault;

static ptrdiff_t
end_of(const char *text) {
	struct http_scan scan = {0, 0, 0};
	fault.status = 0;
	return http_head_end(text, strlen(text), &limits, &scan, &fault);
}

static void
end_is_found_with_its_blank_line(void **state) {
	(void)state;
	assert_int_equal(end_of("GET / HTTP/1.1\r\n\r\nrest"), 18);
	assert_int_equal(end_of("\r\nrest"), 2);
	assert_int_equal(end_of("GET / HTTP/1.1\r\nA: b\r\n"), 0);
	assert_int_equal(end_of(""), 0);
}

static void
search_goes_on_where_it_stopped(void **state) {
	(void)state;
	const char *text = "GET / HTTP/1.1\r\nA: b\r\n\r\n";
	struct http_scan scan = {0, 0, 0};
	size_t n = strlen(text);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(http_head_end(text, i, &limits, &scan, &fault), 0);
		assert_int_equal(scan.seen, i);
	}
	assert_int_equal(http_head_end(text, n, &limits, &scan, &fault), n);
}

static void
limits_fire_before_the_end_is_there(void **state) {
	(void)state;
	char text[400];
	memset(text, 'x', sizeof(text));
	text[65] = '\0';
	assert_int_equal(end_of(text), -1);
	assert_int_equal(fault.status, 414);
	assert_int_equal(end_of("GET / HTTP/1.1\r\nA: "
	                        "xxxx0123456789012345678901234567890123456789012345678901234567890"),
	                 -1);
	assert_int_equal(fault.status, 431);
	assert_int_equal(end_of("a\r\nb\r\nb\r\nb\r\nb\r\n"), 0);
	assert_int_equal(end_of("a\r\nb\r\nb\r\nb\r\nb\r\nb\r\nb"), -1);
	assert_string_equal(fault.why, "too many header lines");
	struct http_limits total = {64, 20, 4};
	struct http_scan scan = {0, 0, 0};
	assert_int_equal(http_head_end("0123456789\r\n0123456789", 22, &total, &scan, &fault), -1);
	assert_string_equal(fault.why, "header too long");
}

static void
line_feeds_alone_are_refused(void **state) {
	(void)state;
	assert_int_equal(end_of("GET / HTTP/1.1\n"), -1);
	assert_int_equal(end_of("\n"), -1);
	assert_int_equal(fault.status, 400);
}

static bool
request(const char *text) {
	return http_request_parse(text, strlen(text), &head, &fault);
}

static bool
text_is(const struct http_text *t, const char *want) {
	return t->n == strlen(want) && memcmp(t->p, want, t->n) == 0;
}

static void
request_is_taken_apart(void **state) {
	(void)state;
	assert_true(
	    request("POST /a?b HTTP/1.1\r\nHost: h\r\nContent-length: 12\r\nX:\t y \t\r\n\r\n"));
	assert_true(text_is(&head.method, "POST"));
	assert_true(text_is(&head.target, "/a?b"));
	assert_int_equal(head.minor, 1);
	assert_int_equal(head.length, 12);
	assert_int_equal(head.flags, 0);
	assert_int_equal(head.fields, 3);
	assert_true(text_is(&head.field[2].name, "X"));
	assert_true(text_is(&head.field[2].value, "y"));
	assert_true(request("GET / HTTP/1.1\r\n\r\n"));
	assert_int_equal(head.flags, HTTP_NO_HOST);
	assert_int_equal(head.length, -1);
}

static void
flags_follow_the_fields(void **state) {
	(void)state;
	assert_true(request("GET / HTTP/1.0\r\nConnection: upgrade , Keep-Alive,close\r\nExpect: "
	                    "100-Continue\r\n\r\n"));
	assert_int_equal(head.flags, HTTP_UPGRADE | HTTP_KEEP_ALIVE | HTTP_CLOSE | HTTP_EXPECT);
	assert_true(
	    request("GET / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: Chunked\r\nExpect: tea\r\n\r\n"));
	assert_int_equal(head.flags, HTTP_CHUNKED | HTTP_EXPECT_OTHER);
	assert_true(request("GET / HTTP/1.0\r\nConnection: closed, x-close\r\n\r\n"));
	assert_int_equal(head.flags, 0);
}

static void
zero_bytes_do_not_end_a_line(void **state) {
	(void)state;
	static const char text[] = "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n";
	assert_false(http_request_parse(text, sizeof(text) - 1, &head, &fault));
	assert_int_equal(fault.status, 400);
}

static bool
response(const char *text) {
	return http_response_parse(text, strlen(text), &head, &fault);
}

static void
response_is_taken_apart(void **state) {
	(void)state;
	assert_true(response("HTTP/1.1 404 Not  Found\r\nTransfer-Encoding: gzip\r\n\r\n"));
	assert_int_equal(head.status, 404);
	assert_true(text_is(&head.reason, "Not  Found"));
	assert_int_equal(head.flags, HTTP_CODED);
	assert_true(response("HTTP/1.0 200\r\n\r\n"));
	assert_true(text_is(&head.reason, ""));
	assert_true(response("HTTP/1.0 200 \r\n\r\n"));
	assert_false(response("HTTP/1.1 2000 OK\r\n\r\n"));
	assert_false(response("HTTP/1.1 099 OK\r\n\r\n"));
	assert_false(response("HTTP/1.1  200 OK\r\n\r\n"));
	assert_false(response("HTTP/1.1\r\n\r\n"));
}

static void
trailers_cannot_frame(void **state) {
	(void)state;
	const char *text = "A: b\r\nContent-Length: 3\r\nHOST: h\r\nC: d\r\n\r\n";
	assert_true(http_trailer_parse(text, strlen(text), &head, &fault));
	assert_int_equal(head.fields, 2);
	assert_true(text_is(&head.field[1].name, "C"));
}

// The body that these chunks are, cut into steps; "!" when they are malformed.
static const char *
body_of(const char *text, size_t step) {
	static char body[256];
	struct http_chunk c;
	struct http_chunk_part part;
	size_t size = 0;
	memset(&c, 0, sizeof(c));
	for (size_t at = 0, n = strlen(text); at < n; at += part.used) {
		size_t have = n - at < step ? n - at : step;
		enum http_chunk_result r = http_chunk_next(&c, text + at, have, &part);
		if (r == HTTP_CHUNK_BAD) {
			return "!";
		}
		if (r == HTTP_CHUNK_LAST) {
			break;
		}
		if (r == HTTP_CHUNK_DATA) {
			memcpy(body + size, part.data, part.size);
			size += part.size;
		}
	}
	body[size] = '\0';
	return body;
}

static void
chunks_are_joined_however_they_are_cut(void **state) {
	(void)state;
	const char *text = "5;a=b\r\nhello\r\n00A \t;x\r\n0123456789\r\n0\r\n";
	for (size_t step = 1; step < 50; step++) {
		assert_string_equal(body_of(text, step), "hello0123456789");
	}
}

static void
malformed_chunks_are_refused(void **state) {
	(void)state;
	static const char *const bad[] = {
	    "g\r\n",  "\r\n",   ";x\r\n",  " 5\r\n",     "5 \r\n",
	    "5\n",    "5\rx",   "1\r\nab", "1\r\na\rb",  "1\r\na\r\n\r\n",
	    "-1\r\n", "+1\r\n", "0x1\r\n", "1;\x01\r\n", "1000000000000000\r\n"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_string_equal(body_of(bad[i], 100), "!");
		assert_string_equal(body_of(bad[i], 1), "!");
	}
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(end_is_found_with_its_blank_line),
	    cmocka_unit_test(search_goes_on_where_it_stopped),
	    cmocka_unit_test(limits_fire_before_the_end_is_there),
	    cmocka_unit_test(line_feeds_alone_are_refused),
	    cmocka_unit_test(request_is_taken_apart),
	    cmocka_unit_test(flags_follow_the_fields),
	    cmocka_unit_test(zero_bytes_do_not_end_a_line),
	    cmocka_unit_test(response_is_taken_apart),
	    cmocka_unit_test(trailers_cannot_frame),
	    cmocka_unit_test(chunks_are_joined_however_they_are_cut),
	    cmocka_unit_test(malformed_chunks_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
