/* The splitter of the C gate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "../../service-src/gate/gate_stream.h"
#include "skynet_malloc.h"
#include "unit_random.h"

/* Every package that came out, each behind its size. */
static struct {
	char bytes[1 << 16];
	size_t n;
	int packages;
} got;

static struct gate_stream s;

static void
sink(void *ud, char *package, size_t size) {
	assert_ptr_equal(ud, &got);
	memcpy(got.bytes + got.n, package, size);
	got.n += size;
	got.packages++;
	skynet_free(package);
}

static int
feed(size_t header, const char *bytes, size_t n) {
	struct gate_format f = {header, GATE_PACKAGE_LIMIT};
	return gate_stream_feed(&s, &f, bytes, n, sink, &got);
}

static int
setup(void **state) {
	(void)state;
	memset(&got, 0, sizeof(got));
	memset(&s, 0, sizeof(s));
	return 0;
}

static int
teardown(void **state) {
	(void)state;
	gate_stream_clear(&s);
	return 0;
}

static void
several_packages_in_one_feed_come_in_order(void **state) {
	(void)state;
	assert_int_equal(feed(2, "\0\3one\0\3two", 10), 0);
	assert_int_equal(got.packages, 2);
	assert_memory_equal(got.bytes, "onetwo", 6);
}

static void
empty_packages_are_skipped(void **state) {
	(void)state;
	assert_int_equal(feed(2, "\0\0\0\1a\0\0", 7), 0);
	assert_int_equal(feed(4, "\0\0\0\0\0\0\0\1b", 9), 0);
	assert_int_equal(got.packages, 2);
	assert_memory_equal(got.bytes, "ab", 2);
}

static void
nothing_comes_of_nothing(void **state) {
	(void)state;
	assert_int_equal(feed(2, "", 0), 0);
	assert_int_equal(feed(2, "\0", 1), 0);
	assert_int_equal(feed(2, "\2", 1), 0);
	assert_int_equal(got.packages, 0);
}

static void
a_length_at_the_limit_is_refused_before_its_bytes(void **state) {
	(void)state;
	assert_int_equal(feed(4, "\1\0\0\0", 4), -1);
	gate_stream_clear(&s);
	assert_int_equal(feed(4, "\xff\xff\xff\xff", 4), -1);
	gate_stream_clear(&s);
	assert_int_equal(feed(4, "\0\xff\xff\xff", 4), 0);
	assert_int_equal(got.packages, 0);
}

static void
a_limit_of_its_own_holds(void **state) {
	(void)state;
	struct gate_format f = {2, 4};
	assert_int_equal(gate_stream_feed(&s, &f, "\0\3abc\0", 6, sink, &got), 0);
	assert_int_equal(gate_stream_feed(&s, &f, "\4", 1, sink, &got), -1);
	assert_int_equal(got.packages, 1);
}

static void
memory_follows_what_came_not_what_was_announced(void **state) {
	(void)state;
	assert_int_equal(feed(4,
	                      "\0\xff\xff\xff"
	                      "abc",
	                      7),
	                 0);
	assert_true(s.capacity <= 4096);
	assert_int_equal(s.filled, 3);
}

static void
clear_forgets_an_unfinished_package(void **state) {
	(void)state;
	feed(2, "\0\5un", 4);
	gate_stream_clear(&s);
	assert_int_equal(feed(2, "\0\1x", 3), 0);
	assert_int_equal(got.packages, 1);
	assert_memory_equal(got.bytes, "x", 1);
}

/* A stream of random packages; its payloads end up in `payload`. */
static size_t
make_stream(struct unit_random *r, size_t header, char *stream, char *payload, size_t *payload_n) {
	size_t n = 0;
	*payload_n = 0;
	for (int i = 0; i < 40; i++) {
		size_t size = unit_random_below(r, i % 8 == 0 ? 6000 : 20);
		memset(stream + n, 0, header);
		stream[n + header - 2] = (char)(size >> 8);
		stream[n + header - 1] = (char)size;
		n += header;
		for (size_t k = 0; k < size; k++) {
			stream[n++] = payload[(*payload_n)++] = (char)unit_random_next(r);
		}
	}
	return n;
}

static void
any_split_gives_the_same_packages(void **state) {
	static char stream[1 << 16];
	static char payload[1 << 16];
	struct unit_random r = unit_random_seed();
	for (int round = 0; round < 50; round++) {
		setup(state);
		size_t header = round % 2 == 0 ? 2 : 4;
		size_t payload_n;
		size_t n = make_stream(&r, header, stream, payload, &payload_n);
		for (size_t pos = 0; pos < n;) {
			size_t part = 1 + unit_random_below(&r, round % 5 == 0 ? 3 : 3000);
			part = part > n - pos ? n - pos : part;
			assert_int_equal(feed(header, stream + pos, part), 0);
			pos += part;
		}
		assert_int_equal(got.n, payload_n);
		assert_memory_equal(got.bytes, payload, payload_n);
		assert_int_equal(s.header_n, 0);
	}
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(several_packages_in_one_feed_come_in_order, setup,
	                                    teardown),
	    cmocka_unit_test_setup_teardown(empty_packages_are_skipped, setup, teardown),
	    cmocka_unit_test_setup_teardown(nothing_comes_of_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_length_at_the_limit_is_refused_before_its_bytes, setup,
	                                    teardown),
	    cmocka_unit_test_setup_teardown(a_limit_of_its_own_holds, setup, teardown),
	    cmocka_unit_test_setup_teardown(memory_follows_what_came_not_what_was_announced, setup,
	                                    teardown),
	    cmocka_unit_test_setup_teardown(clear_forgets_an_unfinished_package, setup, teardown),
	    cmocka_unit_test_setup_teardown(any_split_gives_the_same_packages, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
