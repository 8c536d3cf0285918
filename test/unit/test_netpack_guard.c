// Limits of a gate's connections (netpack_guard.h).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "netpack_guard.h"

static uint64_t now;
static int clock_calls;
static struct guard *g;

static uint64_t
clock_of_test(void) {
	clock_calls++;
	return now;
}

static int
setup(void **state) {
	(void)state;
	now = 1000000;
	g = guard_new(clock_of_test);
	return 0;
}

static int
teardown(void **state) {
	(void)state;
	guard_free(g);
	return 0;
}

static const struct guard_limits none;

static void
set(struct guard_limits l) {
	guard_set(g, &l, &l, 0, 0);
}

static void
enter(int id, const char *address) {
	guard_enter(g, id, address, strlen(address));
}

static int64_t
count(int id, size_t packages, size_t bytes) {
	enum guard_reason why;
	return guard_count(g, id, packages, bytes, &why);
}

static enum guard_reason
reason(int id) {
	enum guard_reason why;
	guard_count(g, id, 0, 0, &why);
	return why;
}

static void
without_limits_everything_passes(void **state) {
	(void)state;
	enter(1, "1.2.3.4:5");
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(count(1, 1 << 20, (size_t)1 << 30), 0);
	}
	assert_int_equal(count(77, 1000, 1000), 0);
}

static void
a_burst_passes_and_then_the_rate_holds(void **state) {
	(void)state;
	set((struct guard_limits){.connection = {.packages = 100, .package_burst = 50}});
	enter(1, "1.2.3.4:5");
	assert_int_equal(count(1, 50, 0), 0);
	// One too many: 100 a second give one each 1/100 s.
	assert_int_equal(count(1, 1, 0), 1);
	assert_int_equal(reason(1), GUARD_PACKAGES);
	now += 1;
	assert_int_equal(count(1, 0, 0), 0);
	assert_int_equal(count(1, 10, 0), 10);
	now += 5;
	assert_int_equal(count(1, 0, 0), 5);
	now += 5;
	assert_int_equal(count(1, 0, 0), 0);
	// It never holds more than the burst.
	now += 1000000;
	assert_int_equal(count(1, 100, 0), 50);
}

static void
the_rate_is_reached_in_the_long_run(void **state) {
	(void)state;
	set((struct guard_limits){.connection = {.bytes = 10000, .byte_burst = 1000}});
	enter(1, "1.2.3.4:5");
	uint64_t start = now;
	int64_t sent = 0;
	while (now < start + 10000) {
		int64_t wait = count(1, 1, 700);
		sent += 700;
		now += (uint64_t)wait;
	}
	assert_in_range(sent, 1000000, 1000000 + 3000);
}

static void
bytes_and_packages_are_told_apart(void **state) {
	(void)state;
	set((struct guard_limits){.connection = {100, 100, 1000, 1000}});
	enter(1, "1.2.3.4:5");
	assert_int_equal(count(1, 1, 2000), 100);
	assert_int_equal(reason(1), GUARD_BYTES);
	now += 100;
	assert_int_equal(count(1, 300, 0), 200);
	assert_int_equal(reason(1), GUARD_PACKAGES);
}

static void
connections_of_one_address_share(void **state) {
	(void)state;
	set((struct guard_limits){.address = {.packages = 100, .package_burst = 10}});
	enter(1, "1.2.3.4:5");
	enter(2, "1.2.3.4:6");
	enter(3, "1.2.3.5:7");
	enter(4, "[::ffff:1.2.3.4]:8");
	assert_int_equal(guard_addresses(g), 2);
	assert_int_equal(count(1, 10, 0), 0);
	assert_int_equal(count(2, 1, 0), 1);
	assert_int_equal(reason(2), GUARD_ADDRESS_PACKAGES);
	assert_int_equal(count(4, 1, 0), 2);
	assert_int_equal(count(3, 10, 0), 0);
}

static void
a_v6_network_is_one_address(void **state) {
	(void)state;
	enter(1, "[2001:db8:1:2::1]:5");
	enter(2, "2001:db8:1:2:ffff::2:6");
	enter(3, "[2001:db8:1:3::1]:5");
	assert_int_equal(guard_addresses(g), 2);
	// What cannot be read is an address, too.
	enter(4, "");
	enter(5, "nonsense");
	enter(6, "0123456789012345678901234567890123456789012345678901234567890123456789:1");
	assert_int_equal(guard_addresses(g), 3);
	assert_int_equal(guard_connections(g), 6);
}

static void
local_peers_have_their_own_limits(void **state) {
	(void)state;
	struct guard_limits l = {.connection = {.packages = 1, .package_burst = 1}};
	guard_set(g, &l, &none, 0, 0);
	enter(1, "127.0.0.1:5");
	enter(2, "[::1]:5");
	enter(3, "10.0.0.1:5");
	assert_int_equal(count(1, 1000, 1000), 0);
	assert_int_equal(count(2, 1000, 1000), 0);
	assert_int_equal(count(3, 2, 1000), 100);
}

static void
coming_back_does_not_fill_an_address(void **state) {
	(void)state;
	set((struct guard_limits){.address = {.packages = 100, .package_burst = 1000}});
	enter(1, "1.2.3.4:5");
	assert_int_equal(count(1, 1000, 0), 0);
	guard_leave(g, 1);
	guard_leave(g, 1);
	// Many strangers do not push it out while it is in debt.
	for (int i = 0; i < 1000; i++) {
		char text[32];
		snprintf(text, sizeof(text), "10.0.%d.%d:1", i / 256, i % 256);
		enter(100 + i, text);
		guard_leave(g, 100 + i);
	}
	enter(2, "1.2.3.4:6");
	assert_int_equal(count(2, 1, 0), 1);
	assert_int_equal(guard_connections(g), 1);
	// Those who owe nothing are forgotten.
	assert_true(guard_addresses(g) < 100);
}

static void
well_behaved_ones_cost_no_clock(void **state) {
	(void)state;
	set((struct guard_limits){.connection = {1000000, 1000000, 1000000, 1000000},
	                          .address = {1000000, 1000000, 1000000, 1000000}});
	enter(1, "1.2.3.4:5");
	int before = clock_calls;
	for (int i = 0; i < 1000; i++) {
		count(1, 1, 100);
	}
	assert_int_equal(clock_calls, before);
}

static int64_t
take(int id, size_t bytes, enum guard_reason *why) {
	return guard_take(g, id, bytes, why);
}

static void
packages_one_by_one_have_their_burst_once(void **state) {
	(void)state;
	enum guard_reason why;
	set((struct guard_limits){.connection = {.packages = 10, .package_burst = 20}});
	enter(1, "1.2.3.4:5");
	// Slowly, which would leave the bucket of guard_count to be filled at once later.
	for (int i = 0; i < 15; i++) {
		now += 10;
		assert_int_equal(take(1, 0, &why), 0);
	}
	for (int i = 0; i < 19; i++) {
		assert_int_equal(take(1, 0, &why), 0);
	}
	assert_int_equal(take(1, 0, &why), 10);
	assert_int_equal(take(1, 0, &why), 20);
	assert_int_equal(why, GUARD_PACKAGES);
	now += 20;
	assert_int_equal(take(1, 0, &why), 10);
	assert_int_equal(take(77, 1000, &why), 0);
}

static void
the_longest_wait_of_one_package_is_told(void **state) {
	(void)state;
	enum guard_reason why;
	set((struct guard_limits){.connection = {.packages = 100, .package_burst = 1},
	                          .address = {.bytes = 1000, .byte_burst = 500}});
	enter(1, "1.2.3.4:5");
	enter(2, "1.2.3.4:6");
	assert_int_equal(take(1, 400, &why), 0);
	assert_int_equal(take(1, 0, &why), 1);
	assert_int_equal(why, GUARD_PACKAGES);
	assert_int_equal(take(2, 200, &why), 10);
	assert_int_equal(why, GUARD_ADDRESS_BYTES);
}

// Whether two texts are the same address.
static bool
share(int id, const char *a, const char *b) {
	enum guard_reason why;
	enter(id, a);
	enter(id + 1, b);
	assert_int_equal(take(id, 0, &why), 0);
	assert_int_equal(take(id, 0, &why), 0);
	return take(id + 1, 0, &why) > 0;
}

static void
an_address_is_a_host_or_a_network(void **state) {
	(void)state;
	struct guard_limits far = {.address = {.packages = 1, .package_burst = 2}};
	guard_set(g, &far, &none, 0, 0);
	assert_true(share(1, "192.0.2.1:1", "192.0.2.1:2"));
	assert_true(share(3, "192.0.2.2:1", "::ffff:192.0.2.2:1"));
	assert_false(share(5, "192.0.2.3:1", "192.0.2.4:1"));
	assert_true(share(7, "2001:db8:1:1::1:80", "2001:db8:1:1:ffff::2:80"));
	assert_false(share(9, "2001:db8:1:2::1:80", "2001:db8:1:3::1:80"));
	assert_false(share(11, "127.0.0.1:1", "127.0.0.1:2"));
	assert_false(share(13, "::1:1", "::1:2"));
}

static struct {
	size_t n;
	size_t room;
	int id[100];
	bool has_spoken[100];
} gone;

static bool
on_expired(void *ud, int id, bool has_spoken) {
	(void)ud;
	if (gone.n == gone.room) {
		return false;
	}
	gone.id[gone.n] = id;
	gone.has_spoken[gone.n++] = has_spoken;
	return true;
}

static int64_t
sweep_some(size_t room) {
	gone.n = 0;
	gone.room = room;
	return guard_sweep(g, on_expired, NULL);
}

static int64_t
sweep(void) {
	return sweep_some(100);
}

static void
who_could_not_be_told_is_told_later(void **state) {
	(void)state;
	guard_set(g, &none, &none, 100, 1000);
	enter(1, "1.2.3.4:5");
	enter(2, "1.2.3.4:6");
	assert_int_equal(guard_silent(g), 0);
	now += 100;
	assert_int_equal(guard_silent(g), 2);
	assert_int_equal(sweep_some(1), 0);
	assert_int_equal(guard_silent(g), 1);
	assert_int_equal(sweep(), 100);
	assert_int_equal(gone.n, 1);
}

static void
silence_is_noticed(void **state) {
	(void)state;
	guard_set(g, &none, &none, 100, 1000);
	assert_int_equal(sweep(), -1);
	enter(1, "1.2.3.4:5");
	now += 60;
	enter(2, "1.2.3.4:6");
	assert_int_equal(sweep(), 40);
	assert_int_equal(gone.n, 0);
	// Bytes without a package are nothing.
	count(1, 0, 10);
	count(2, 1, 10);
	now += 40;
	assert_int_equal(sweep(), 100);
	assert_int_equal(gone.n, 1);
	assert_int_equal(gone.id[0], 1);
	assert_false(gone.has_spoken[0]);
	guard_leave(g, 1);
	assert_int_equal(sweep(), 1000);
	now += 999;
	assert_int_equal(sweep(), 1);
	count(2, 1, 10);
	now += 1;
	assert_int_equal(sweep(), 1000);
	assert_int_equal(gone.n, 0);
	now += 1000;
	sweep();
	assert_int_equal(gone.n, 1);
	assert_true(gone.has_spoken[0]);
}

static void
silence_may_be_allowed(void **state) {
	(void)state;
	guard_set(g, &none, &none, 100, 0);
	enter(1, "1.2.3.4:5");
	count(1, 1, 1);
	assert_int_equal(sweep(), -1);
	now += 1000000;
	assert_int_equal(sweep(), -1);
	assert_int_equal(gone.n, 0);
}

static void
many_connections_are_found_again(void **state) {
	(void)state;
	set((struct guard_limits){.connection = {.packages = 1, .package_burst = 1}});
	for (int i = 1; i <= 5000; i++) {
		char text[32];
		snprintf(text, sizeof(text), "10.1.%d.%d:1", i / 256, i % 256);
		enter(i * 7, text);
		enter(i * 7, "9.9.9.9:1");
	}
	assert_int_equal(guard_connections(g), 5000);
	for (int i = 1; i <= 5000; i++) {
		assert_int_equal(count(i * 7, 2, 0), 100);
		guard_leave(g, i * 7);
	}
	assert_int_equal(guard_connections(g), 0);
}

static void
a_connection_has_a_note(void **state) {
	(void)state;
	for (int i = 1; i <= 100; i++) {
		enter(i, "10.0.0.1:1");
		assert_int_equal(guard_note(g, i), 0);
		guard_set_note(g, i, ((uint64_t)i << 32) + 7);
	}
	for (int i = 1; i <= 100; i++) {
		assert_true(guard_note(g, i) == ((uint64_t)i << 32) + 7);
	}
	guard_set_note(g, 5, 0);
	assert_int_equal(guard_note(g, 5), 0);
	guard_leave(g, 6);
	guard_set_note(g, 6, 1);
	assert_int_equal(guard_note(g, 6), 0);
	enter(6, "10.0.0.1:1");
	assert_int_equal(guard_note(g, 6), 0);
}

int
main(void) {
#define CLAIM(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	static const struct CMUnitTest claims[] = {
	    CLAIM(without_limits_everything_passes),
	    CLAIM(a_burst_passes_and_then_the_rate_holds),
	    CLAIM(the_rate_is_reached_in_the_long_run),
	    CLAIM(bytes_and_packages_are_told_apart),
	    CLAIM(connections_of_one_address_share),
	    CLAIM(a_v6_network_is_one_address),
	    CLAIM(local_peers_have_their_own_limits),
	    CLAIM(coming_back_does_not_fill_an_address),
	    CLAIM(well_behaved_ones_cost_no_clock),
	    CLAIM(packages_one_by_one_have_their_burst_once),
	    CLAIM(the_longest_wait_of_one_package_is_told),
	    CLAIM(an_address_is_a_host_or_a_network),
	    CLAIM(silence_is_noticed),
	    CLAIM(who_could_not_be_told_is_told_later),
	    CLAIM(silence_may_be_allowed),
	    CLAIM(many_connections_are_found_again),
	    CLAIM(a_connection_has_a_note),
	};
	return cmocka_run_group_tests(claims, NULL, NULL);
}
