/* KCP over a link in this process that delays, loses, repeats and reorders, on a
 * clock of the test's own: what arrives is what was sent, in order, or the link is
 * reported dead. */
#include "kcp/kcp_arq.h"

#include "skynet_malloc.h"
#include "unit_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

/*------------------------------------------------------------------ the link */

enum { IN_FLIGHT = 4096, MESSAGE_MAX = 20000 };

struct datagram {
	uint32_t at; /* when it arrives */
	unsigned to;
	size_t size;
	char *data;
};

struct link {
	struct unit_random random;
	uint32_t now;
	unsigned loss; /* percent */
	unsigned repeats;
	uint32_t delay; /* up to so many ms on top of 10 */
	struct datagram flight[IN_FLIGHT];
	int n;
	struct end {
		struct link *link;
		unsigned index;
		struct kcp *kcp;
		size_t largest; /* datagram sent */
	} end[2];
};

static void
put_in_flight(struct link *l, unsigned to, const char *data, size_t size) {
	if (l->n == IN_FLIGHT || unit_random_below(&l->random, 100) < l->loss) {
		return;
	}
	char *copy = malloc(size);
	memcpy(copy, data, size);
	uint32_t at = l->now + 10 + unit_random_below(&l->random, l->delay + 1);
	l->flight[l->n++] = (struct datagram){at, to, size, copy};
}

static void
output(void *ud, const char *data, size_t size) {
	struct end *e = ud;

	e->largest = size > e->largest ? size : e->largest;
	put_in_flight(e->link, !e->index, data, size);
	if (unit_random_below(&e->link->random, 100) < e->link->repeats) {
		put_in_flight(e->link, !e->index, data, size);
	}
}

static struct link *
link_new(uint64_t seed, const struct kcp_config *a, const struct kcp_config *b) {
	struct link *l = calloc(1, sizeof(*l));
	const struct kcp_config *config[2] = {a, b};

	l->random.state = seed;
	l->now = (uint32_t)-5000; /* the clock wraps on the way */
	for (unsigned i = 0; i < 2; i++) {
		l->end[i] = (struct end){.link = l, .index = i};
		l->end[i].kcp = kcp_new(config[i], output, &l->end[i]);
		assert_non_null(l->end[i].kcp);
	}
	return l;
}

static void
link_free(struct link *l) {
	for (int i = 0; i < l->n; i++) {
		free(l->flight[i].data);
	}
	kcp_free(l->end[0].kcp);
	kcp_free(l->end[1].kcp);
	free(l);
}

/* Ten milliseconds pass. */
static void
step(struct link *l) {
	l->now += 10;
	for (int i = 0; i < l->n;) {
		struct datagram d = l->flight[i];
		if ((int32_t)(l->now - d.at) < 0) {
			i++;
			continue;
		}
		l->flight[i] = l->flight[--l->n];
		assert_int_equal(kcp_input(l->end[d.to].kcp, l->now, d.data, d.size), KCP_OK);
		free(d.data);
	}
	for (int i = 0; i < 2; i++) {
		if (kcp_wait(l->end[i].kcp, l->now) == 0) {
			kcp_flush(l->end[i].kcp, l->now);
		}
	}
}

/*--------------------------------------------------------------------- traffic */

/* One direction: messages whose sizes and bytes follow from their number. */
struct flow {
	struct end *from, *to;
	uint32_t sent, received, messages, size_limit;
	size_t offset; /* of a stream: bytes received */
};

static size_t
size_of(const struct flow *f, uint32_t number) {
	struct unit_random random = {number + 77};
	return 1 + unit_random_below(&random, f->size_limit);
}

static void
fill(char *data, size_t size, uint32_t number) {
	for (size_t i = 0; i < size; i++) {
		data[i] = (char)(number * 31 + i * 7);
	}
}

static void
pump(struct flow *f) {
	static char data[MESSAGE_MAX];
	static char expected[MESSAGE_MAX];

	while (f->sent < f->messages) {
		size_t size = size_of(f, f->sent);
		fill(data, size, f->sent);
		if (kcp_send(f->from->kcp, data, size) != KCP_OK) {
			break;
		}
		f->sent++;
	}
	ptrdiff_t n;
	while ((n = kcp_peek(f->to->kcp)) >= 0) {
		assert_true(n <= MESSAGE_MAX);
		assert_int_equal(kcp_receive(f->to->kcp, data), n);
		fill(expected, size_of(f, f->received), f->received);
		assert_int_equal(n, size_of(f, f->received));
		assert_memory_equal(data, expected, n);
		f->received++;
	}
}

static void
run_both_ways(struct link *l, uint32_t messages, uint32_t size_limit) {
	struct flow f[2] = {
	    {.from = &l->end[0], .to = &l->end[1], .messages = messages, .size_limit = size_limit},
	    {.from = &l->end[1], .to = &l->end[0], .messages = messages, .size_limit = size_limit},
	};
	for (int i = 0; f[0].received < messages || f[1].received < messages; i++) {
		assert_true(i < 1000000);
		pump(&f[0]);
		pump(&f[1]);
		step(l);
	}
	/* The last acknowledgements go home, and then nobody has anything to do. */
	struct kcp_stats a, b;
	for (int i = 0;; i++) {
		assert_true(i < 100000);
		kcp_stats(l->end[0].kcp, &a);
		kcp_stats(l->end[1].kcp, &b);
		if (a.send_bytes == 0 && b.send_bytes == 0 && l->n == 0) {
			break;
		}
		step(l);
	}
	assert_int_equal(kcp_wait(l->end[0].kcp, l->now), UINT32_MAX);
	assert_int_equal(a.send_segments, 0);
	assert_false(kcp_is_dead(l->end[0].kcp) || kcp_is_dead(l->end[1].kcp));
}

/*----------------------------------------------------------------------- tests */

static const struct kcp_config PLAIN = {.conv = 7, .dead_link = 1000};
static const struct kcp_config FAST = {
    .conv = 7, .nodelay = 1, .resend = 2, .no_congestion = true, .dead_link = 1000};

static void
a_perfect_link_repeats_nothing(void **state) {
	(void)state;
	struct link *l = link_new(1, &FAST, &FAST);
	struct kcp_stats stats;
	run_both_ways(l, 500, 3000);
	kcp_stats(l->end[0].kcp, &stats);
	assert_int_equal(stats.retransmissions, 0);
	assert_in_range(stats.srtt, 10, 60);
	assert_true(l->end[0].largest <= 1400);
	link_free(l);
}

static void
loss_delay_and_repetition_change_nothing(void **state) {
	(void)state;
	const struct kcp_config *config[] = {&PLAIN, &FAST};
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct link *l = link_new(seed, config[seed % 2], config[seed / 2 % 2]);
		l->loss = 10 * (unsigned)(seed % 4);
		l->repeats = 10;
		l->delay = 100;
		run_both_ways(l, 200, 8000);
		link_free(l);
	}
}

static void
small_windows_and_datagrams_will_do(void **state) {
	(void)state;
	struct kcp_config tiny = {.conv = 1,
	                          .mtu = 100,
	                          .send_window = 4,
	                          .receive_window = 4,
	                          .nodelay = 2,
	                          .dead_link = 1000};
	struct link *l = link_new(3, &tiny, &tiny);
	l->loss = 5;
	run_both_ways(l, 300, 4 * 76);
	assert_true(l->end[0].largest <= 100);
	link_free(l);
}

static void
a_stream_joins_small_writes(void **state) {
	(void)state;
	struct kcp_config config = FAST;
	config.stream = true;
	struct link *l = link_new(4, &config, &config);
	l->loss = 10;
	char out[3000];
	char in[2000];
	size_t got = 0;
	for (int i = 0; i < 3000; i++) {
		out[i] = (char)(i * 13);
		assert_int_equal(kcp_send(l->end[0].kcp, out + i, 1), KCP_OK);
	}
	struct kcp_stats stats;
	kcp_stats(l->end[0].kcp, &stats);
	assert_int_equal(stats.send_segments, 3); /* of 1376 bytes */
	for (int i = 0; got < sizeof(out); i++) {
		assert_true(i < 10000);
		step(l);
		ptrdiff_t n;
		while ((n = kcp_receive(l->end[1].kcp, in)) >= 0) {
			assert_memory_equal(in, out + got, n);
			got += (size_t)n;
		}
	}
	link_free(l);
}

static void
a_peer_that_takes_nothing_stops_the_sender(void **state) {
	(void)state;
	struct kcp_config config = FAST;
	config.send_limit = 400000;
	struct link *l = link_new(5, &config, &config);
	char data[1000] = {1};
	int sent = 0;
	while (kcp_send(l->end[0].kcp, data, sizeof(data)) == KCP_OK) {
		sent++;
	}
	assert_int_equal(sent, 400);
	assert_int_equal(kcp_send(l->end[0].kcp, data, sizeof(data)), KCP_FULL);
	for (int i = 0; i < 1000; i++) {
		step(l);
	}
	struct kcp_stats stats;
	kcp_stats(l->end[1].kcp, &stats);
	assert_int_equal(stats.ready_segments, 128); /* its window, and no more */
	int received = 0;
	for (int i = 0; received < sent; i++) {
		assert_true(i < 100000);
		step(l);
		while (kcp_receive(l->end[1].kcp, data) >= 0) {
			received++;
		}
	}
	link_free(l);
}

static void
a_dead_link_is_reported(void **state) {
	(void)state;
	struct kcp_config config = FAST;
	config.dead_link = 5;
	struct link *l = link_new(6, &config, &config);
	l->loss = 100;
	assert_int_equal(kcp_send(l->end[0].kcp, "x", 1), KCP_OK);
	for (int i = 0; !kcp_is_dead(l->end[0].kcp); i++) {
		assert_true(i < 100000);
		step(l);
	}
	link_free(l);
}

static void
a_probe_is_answered(void **state) {
	(void)state;
	struct link *l = link_new(7, &FAST, &FAST);
	kcp_probe(l->end[0].kcp);
	kcp_flush(l->end[0].kcp, l->now);
	assert_int_equal(l->n, 1);
	assert_int_equal(l->flight[0].data[4], 83);
	l->now += 20;
	step(l); /* asked, and told */
	assert_int_equal(l->n, 1);
	assert_int_equal(l->flight[0].data[4], 84);
	link_free(l);
}

static void
configs_and_messages_are_checked(void **state) {
	(void)state;
	struct kcp_config bad[] = {
	    {.mtu = 63},     {.mtu = 65508}, {.send_window = 32769}, {.receive_window = 32769},
	    {.interval = 9}, {.nodelay = 3}};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_null(kcp_new(&bad[i], output, NULL));
	}
	struct kcp *k = kcp_new(&PLAIN, output, NULL);
	size_t most = 128 * (1400 - 24);
	char *data = calloc(1, most + 1);
	assert_int_equal(kcp_send(k, data, most + 1), KCP_TOO_LARGE);
	assert_int_equal(kcp_send(k, data, most), KCP_OK);
	assert_int_equal(kcp_peek(k), -1);
	free(data);
	kcp_free(k);
}

/* A header with everything sound but what a case changes. */
static void
header(char *p, uint8_t cmd, uint8_t frg, uint32_t sn, uint32_t una, uint32_t len) {
	memset(p, 0, 24);
	p[0] = 7;
	p[4] = (char)cmd;
	p[5] = (char)frg;
	p[6] = (char)128;
	for (int i = 0; i < 4; i++) {
		p[12 + i] = (char)(sn >> 8 * i);
		p[16 + i] = (char)(una >> 8 * i);
		p[20 + i] = (char)(len >> 8 * i);
	}
}

static void
hostile_datagrams_are_refused(void **state) {
	(void)state;
	struct kcp *k = kcp_new(&PLAIN, output, NULL);
	char p[2000] = {0};
	assert_int_equal(kcp_input(k, 0, p, 23), KCP_MALFORMED);
	assert_int_equal(kcp_input(k, 0, p, 24), KCP_FOREIGN);
	header(p, 81, 0, 0, 0, 1);
	assert_int_equal(kcp_input(k, 0, p, 24), KCP_MALFORMED); /* no such byte */
	header(p, 81, 0, 0, 0, UINT32_MAX);
	assert_int_equal(kcp_input(k, 0, p, sizeof(p)), KCP_MALFORMED);
	header(p, 80, 0, 0, 0, 0);
	assert_int_equal(kcp_input(k, 0, p, 24), KCP_MALFORMED); /* no such command */
	header(p, 81, 128, 0, 0, 0);
	assert_int_equal(kcp_input(k, 0, p, 24), KCP_MALFORMED); /* never complete */
	header(p, 82, 0, 5, 0, 0);
	assert_int_equal(kcp_input(k, 0, p, 24), KCP_OK); /* not sent, not counted */
	header(p, 82, 0, 0, 5, 0);
	assert_int_equal(kcp_input(k, 0, p, 24), KCP_MALFORMED);
	/* Outside the window on either side: nothing is kept. */
	header(p, 81, 0, 128, 0, 10);
	assert_int_equal(kcp_input(k, 0, p, 34), KCP_OK);
	header(p, 81, 0, UINT32_MAX, 0, 10);
	assert_int_equal(kcp_input(k, 0, p, 34), KCP_OK);
	struct kcp_stats stats;
	kcp_stats(k, &stats);
	assert_int_equal(stats.ready_segments, 0);
	kcp_free(k);
}

static void
a_message_that_cannot_end_is_refused(void **state) {
	(void)state;
	struct kcp *k = kcp_new(&PLAIN, output, NULL);
	char p[24];
	for (uint32_t sn = 0; sn < 127; sn++) {
		header(p, 81, 127, sn, 0, 0);
		assert_int_equal(kcp_input(k, 0, p, 24), KCP_OK);
	}
	header(p, 81, 127, 127, 0, 0);
	assert_int_equal(kcp_input(k, 0, p, 24), KCP_MALFORMED);
	kcp_free(k);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_perfect_link_repeats_nothing),
	    cmocka_unit_test(loss_delay_and_repetition_change_nothing),
	    cmocka_unit_test(small_windows_and_datagrams_will_do),
	    cmocka_unit_test(a_stream_joins_small_writes),
	    cmocka_unit_test(a_peer_that_takes_nothing_stops_the_sender),
	    cmocka_unit_test(a_dead_link_is_reported),
	    cmocka_unit_test(a_probe_is_answered),
	    cmocka_unit_test(configs_and_messages_are_checked),
	    cmocka_unit_test(hostile_datagrams_are_refused),
	    cmocka_unit_test(a_message_that_cannot_end_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
