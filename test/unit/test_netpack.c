// The splitter of length-prefixed packages (net.md 6.3, 6.4).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "netpack_frame.h"

struct got {
	int n;
	int id[4096];
	size_t size[4096];
	char *data[4096];
};

static struct got *got;
static struct frame_table *t;

static void
sink(void *ud, int id, char *data, size_t size) {
	struct got *g = ud;
	g->id[g->n] = id;
	g->size[g->n] = size;
	g->data[g->n++] = data;
}

static int
setup(void **state) {
	(void)state;
	t = frame_table_new();
	got = calloc(1, sizeof(*got));
	return 0;
}

static void
forget_packages(void) {
	for (int i = 0; i < got->n; i++) {
		free(got->data[i]);
	}
	got->n = 0;
}

static int
teardown(void **state) {
	(void)state;
	forget_packages();
	free(got);
	frame_table_free(t);
	return 0;
}

static size_t refused;

static void
feed(int id, const char *bytes, size_t n) {
	refused = frame_feed(t, id, bytes, n, sink, got);
}

static void
expect(int i, int id, const char *text) {
	assert_in_range(i, 0, got->n - 1);
	assert_int_equal(got->id[i], id);
	assert_int_equal(got->size[i], strlen(text));
	assert_memory_equal(got->data[i], text, strlen(text));
}

static size_t
unfinished(void) {
	size_t bytes;
	return frame_unfinished(t, &bytes);
}

static void
one_package_in_any_split(void **state) {
	(void)state;
	const char *wire = "\0\3abc";
	for (size_t i = 0; i <= 5; i++) {
		for (size_t j = i; j <= 5; j++) {
			feed(7, wire, i);
			feed(7, wire + i, j - i);
			feed(7, wire + j, 5 - j);
			assert_int_equal(got->n, 1);
			expect(0, 7, "abc");
			assert_int_equal(unfinished(), 0);
			forget_packages();
		}
	}
}

static void
several_packages_in_one_read(void **state) {
	(void)state;
	feed(1, "\0\1a\0\0\0\1b", 8);
	assert_int_equal(got->n, 3);
	expect(0, 1, "a");
	expect(1, 1, "");
	expect(2, 1, "b");
}

static void
a_split_length_is_put_together(void **state) {
	(void)state;
	feed(1, "\0", 1);
	feed(1, "\2a", 2);
	feed(1, "b", 1);
	assert_int_equal(got->n, 1);
	expect(0, 1, "ab");
}

static void
empty_package_with_a_split_length(void **state) {
	(void)state;
	feed(1, "\0", 1);
	assert_int_equal(unfinished(), 1);
	feed(1, "\0\0\1x", 4);
	assert_int_equal(got->n, 2);
	expect(0, 1, "");
	expect(1, 1, "x");
}

static void
completed_package_comes_before_later_ones(void **state) {
	(void)state;
	feed(1, "\0\4ab", 4);
	feed(2, "\0\1z", 3);
	feed(1, "cd\0\1e\0", 6);
	assert_int_equal(got->n, 3);
	expect(0, 2, "z");
	expect(1, 1, "abcd");
	expect(2, 1, "e");
	assert_int_equal(unfinished(), 1);
}

static void
dropped_connections_leave_no_residue(void **state) {
	(void)state;
	feed(5, "\0\5ab", 4);
	frame_drop(t, 5);
	frame_drop(t, 6);
	assert_int_equal(unfinished(), 0);
	feed(5, "\0\1x", 3);
	assert_int_equal(got->n, 1);
	expect(0, 5, "x");
}

static void
announced_length_costs_nothing(void **state) {
	(void)state;
	size_t bytes;
	for (int id = 0; id < 1000; id++) {
		feed(id, "\xff\xff!", 3);
	}
	assert_int_equal(frame_unfinished(t, &bytes), 1000);
	assert_true(bytes <= 1000 * 256);
	frame_clear(t);
	assert_int_equal(unfinished(), 0);
}

static void
largest_package_byte_by_byte(void **state) {
	(void)state;
	feed(1, "\xff\xff", 2);
	for (int i = 0; i < FRAME_MAX; i++) {
		char c = (char)i;
		feed(1, &c, 1);
	}
	assert_int_equal(got->n, 1);
	assert_int_equal(got->size[0], FRAME_MAX);
	for (int i = 0; i < FRAME_MAX; i++) {
		assert_int_equal(got->data[0][i], (char)i);
	}
}

// Random packages of several connections, cut at random: each connection's come out
// whole and in order.
static void
random_cuts_lose_nothing(void **state) {
	(void)state;
	enum { IDS = 40, PACKAGES = 50 };
	unsigned seed = 20261121, r = seed;
	static char wire[IDS][PACKAGES * 700];
	size_t len[IDS] = {0}, at[IDS] = {0};
	int next[IDS] = {0};
	for (int id = 0; id < IDS; id++) {
		for (int k = 0; k < PACKAGES; k++) {
			r = r * 1103515245 + 12345;
			size_t size = (r >> 10) % 5 == 0 ? 0 : (r >> 8) % 600;
			wire[id][len[id]++] = (char)(size >> 8);
			wire[id][len[id]++] = (char)(size & 0xff);
			memset(wire[id] + len[id], k, size);
			len[id] += size;
		}
	}
	for (int left = IDS; left > 0;) {
		r = r * 1103515245 + 12345;
		int id = (int)((r >> 16) % IDS);
		size_t rest = len[id] - at[id];
		if (rest == 0) {
			continue;
		}
		size_t n = (r >> 8) % 900 + 1;
		n = n > rest ? rest : n;
		feed(id, wire[id] + at[id], n);
		at[id] += n;
		left -= at[id] == len[id];
	}
	assert_int_equal(got->n, IDS * PACKAGES);
	for (int i = 0; i < got->n; i++) {
		int k = next[got->id[i]]++;
		for (size_t j = 0; j < got->size[i]; j++) {
			assert_int_equal(got->data[i][j], (char)k);
		}
	}
	assert_int_equal(unfinished(), 0);
}

#define CLAIM(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void
too_long_a_package_is_refused_by_its_length(void **state) {
	(void)state;
	frame_limit(t, 3);
	feed(1, "\0\3abc\0\4", 7);
	assert_int_equal(got->n, 1);
	assert_int_equal(refused, 4);
	// Told once; nothing more is taken in.
	feed(1, "defg\0\1x", 7);
	assert_int_equal(refused, 0);
	assert_int_equal(got->n, 1);
	size_t bytes;
	assert_int_equal(frame_unfinished(t, &bytes), 1);
	assert_int_equal(bytes, 0);
	// Others are not affected, also when the length comes in two parts.
	feed(2, "\0\1x\0", 4);
	feed(2, "\5", 1);
	assert_int_equal(refused, 5);
	assert_int_equal(got->n, 2);
	// A new life of the id begins clean.
	frame_drop(t, 1);
	feed(1, "\0\1y", 3);
	assert_int_equal(got->n, 3);
	frame_limit(t, FRAME_MAX);
	feed(3, "\xff\xff", 2);
	assert_int_equal(refused, 0);
}

int
main(void) {
	const struct CMUnitTest claims[] = {
	    CLAIM(one_package_in_any_split),
	    CLAIM(several_packages_in_one_read),
	    CLAIM(a_split_length_is_put_together),
	    CLAIM(empty_package_with_a_split_length),
	    CLAIM(completed_package_comes_before_later_ones),
	    CLAIM(dropped_connections_leave_no_residue),
	    CLAIM(announced_length_costs_nothing),
	    CLAIM(largest_package_byte_by_byte),
	    CLAIM(random_cuts_lose_nothing),
	    CLAIM(too_long_a_package_is_refused_by_its_length),
	};
	return cmocka_run_group_tests(claims, NULL, NULL);
}
