// Options and limits: what one peer can cost, and who may come in (net.md 14.1, C15 to
// C17, C23).
#include "socket_world.h"

#define SET(w, id, name, value)                                                                    \
	socket_server_option((w)->ss, 0, id, &(struct socket_option){SOCKET_OPTION_##name, value}, 1)

static int
listen_with(struct world *w, const char *host, int port, const struct socket_option *o, int n) {
	int id = socket_server_listen_with(w->ss, ME, host, port, o, n);
	if (id > 0) {
		await(w, id, SOCKET_OPEN);
		socket_server_start(w->ss, ME, id);
		await(w, id, SOCKET_OPEN);
	}
	return id;
}

static int
port_of(struct world *w, int id) {
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);
	assert_int_equal(getsockname(fd_of(w, id), (struct sockaddr *)&a, &len), 0);
	return ntohs(a.sin6_port);
}

// From 127.0.0.`last`.
static int
connect_from(int last, int port) {
	struct sockaddr_in a = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	a.sin_addr.s_addr = htonl(0x7f000000u | (unsigned)last);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a.sin_port = htons((uint16_t)port);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static int
option_of(int fd, int level, int name) {
	int v = -1;
	socklen_t len = sizeof(v);
	assert_int_equal(getsockopt(fd, level, name, &v, &len), 0);
	return v;
}

//------------------------------------------------------------------- options

static void
options_are_checked(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	assert_int_equal(SET(w, id, NODELAY, 2), -1);
	assert_int_equal(SET(w, id, SEND_LIMIT, -1), -1);
	assert_int_equal(SET(w, id, SEND_LIMIT, (int64_t)1 << 32), -1);
	assert_int_equal(SET(w, id, COUNT, 0), -1);
	assert_int_equal(SET(w, 4711, NODELAY, 1), -1);
	assert_int_equal(SET(w, id, SEND_LIMIT, 0), 0);
	struct socket_option bad = {SOCKET_OPTION_V6ONLY, 7};
	assert_int_equal(socket_server_listen_with(w->ss, ME, "127.0.0.1", 0, &bad, 1), -1);
	assert_int_equal(socket_server_connect_with(w->ss, ME, "127.0.0.1", 1, &bad, 1), -1);
	close(client);
}

static void
texts_of_the_configuration_are_parsed(void **state) {
	(void)state;
	int64_t v;
	assert_true(socket_option_parse(SOCKET_OPTION_LINGER, "1.5", &v));
	assert_int_equal(v, 1500);
	assert_true(socket_option_parse(SOCKET_OPTION_SEND_LIMIT, "1000", &v));
	assert_int_equal(v, 1000);
	assert_true(socket_option_parse(SOCKET_OPTION_NODELAY, "false", &v));
	assert_int_equal(v, 0);
	assert_true(socket_option_parse(SOCKET_OPTION_SEND_POLICY, "drop", &v));
	assert_int_equal(v, SOCKET_SEND_DROP);
	static const char *const bad[] = {"", "x", "-1", "1x", "1.5", "99999999999", "nan"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(socket_option_parse(SOCKET_OPTION_SEND_LIMIT, bad[i], &v));
	}
	assert_false(socket_option_parse(SOCKET_OPTION_NODELAY, "1", &v));
	assert_false(socket_option_parse(SOCKET_OPTION_SEND_POLICY, "fail", &v));
	assert_int_equal(socket_option_find("max_per_peer"), SOCKET_OPTION_MAX_PER_PEER);
	assert_int_equal(socket_option_find("max_per"), -1);
	assert_null(socket_option_info(-1));
	assert_null(socket_option_info(SOCKET_OPTION_COUNT));
}

// Numbers that doc/reference/socket.md and the README give, in bytes and milliseconds.
static void
presets_are_those_of_the_reference(void **state) {
	struct world *w = *state;
	static const struct {
		const char *key;
		int64_t preset;
	} want[] = {
	    {"send_limit", 67108864},
	    {"send_policy", SOCKET_SEND_CLOSE},
	    {"receive_limit", 1048576},
	    {"idle", 0},
	    {"linger", 60000},
	    {"connect_timeout", 60000},
	    {"nodelay", 1},
	    {"keepalive", 120000},
	    {"keepalive_interval", 0},
	    {"keepalive_count", 4},
	    {"exclusive", 0},
	    {"max_connections", 65536},
	    {"max_per_peer", 16384},
	    {"peer_rate", 2000},
	    {"peer_burst", 16384},
	    {"backlog", 32},
	    {"reuseport", 0},
	    {"v6only", -1},
	};
	assert_int_equal(sizeof(want) / sizeof(want[0]), SOCKET_OPTION_COUNT);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		int name = socket_option_find(want[i].key);
		assert_true(name >= 0);
		assert_int_equal(socket_option_info(name)->preset, want[i].preset);
		struct socket_option preset = {name, want[i].preset};
		assert_true(want[i].preset < 0 || socket_server_default(w->ss, &preset, true));
	}
	int client;
	int fd = fd_of(w, accept_started(w, &client));
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 120);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL), 30);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
	close(client);
}

// What this node opens may lag behind 16 times as much.
static void
an_opened_connection_may_lag_further_behind(void **state) {
	struct world *w = *state;
	struct socket_option limit = {SOCKET_OPTION_SEND_LIMIT, 1000};
	assert_true(socket_server_default(w->ss, &limit, false));
	int port;
	start_listener(w, &port);
	int id = socket_server_connect(w->ss, ME, "127.0.0.1", port);
	// Nothing goes out before it is connected.
	assert_int_equal(send_fill(w, id, 'x', 16000, false), 0);
	assert_int_equal(send_text(w, id, "x"), -1);
	await(w, id, SOCKET_CLOSE);
}

static void
keepalive_and_delay_are_tuned_per_socket(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	int fd = fd_of(w, id);
	assert_int_equal(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(SET(w, id, NODELAY, 0), 0);
	assert_int_equal(SET(w, id, KEEPALIVE, 40500), 0);
	settle(w);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 0);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 41);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL), 11);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
	socket_server_nodelay(w->ss, id);
	assert_int_equal(SET(w, id, KEEPALIVE, 0), 0);
	settle(w);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
	close(client);
}

static void
connections_get_the_options_of_their_listener(void **state) {
	struct world *w = *state;
	struct socket_option o[] = {
	    {SOCKET_OPTION_KEEPALIVE, 33000},   {SOCKET_OPTION_KEEPALIVE_INTERVAL, 5000},
	    {SOCKET_OPTION_KEEPALIVE_COUNT, 3}, {SOCKET_OPTION_NODELAY, 0},
	    {SOCKET_OPTION_SEND_LIMIT, 10},
	};
	int listener = listen_with(w, "127.0.0.1", 0, o, 5);
	int client[2];
	int id = accept_plain(w, listener, port_of(w, listener), &client[0]);
	int fd = fd_of(w, id);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), 33);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL), 5);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
	assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 0);
	assert_int_equal(send_text(w, id, "eleven byte"), -1);
	// Changed later, for those who come later.
	assert_int_equal(SET(w, listener, SEND_LIMIT, 11), 0);
	assert_int_equal(SET(w, listener, KEEPALIVE, 44000), 0);
	settle(w);
	id = accept_plain(w, listener, port_of(w, listener), &client[1]);
	assert_int_equal(send_text(w, id, "eleven byte"), 0);
	assert_int_equal(option_of(fd_of(w, id), IPPROTO_TCP, TCP_KEEPIDLE), 44);
	close(client[0]);
	close(client[1]);
}

static void
reuseport_shares_a_port(void **state) {
	struct world *w = *state;
	struct socket_option o = {SOCKET_OPTION_REUSEPORT, 1};
	int first = listen_with(w, "127.0.0.1", 0, &o, 1);
	int port = port_of(w, first);
	assert_int_equal(socket_server_listen(w->ss, ME, "127.0.0.1", port, 32), -1);
	assert_true(listen_with(w, "127.0.0.1", port, &o, 1) > 0);
}

static int
listen_v6only(struct world *w, bool only) {
	struct socket_option o = {SOCKET_OPTION_V6ONLY, only};
	int listener = listen_with(w, "::", 0, &o, 1);
	if (listener < 0) {
		skip();
	}
	return listener;
}

static void
v6only_decides_about_ipv4(void **state) {
	struct world *w = *state;
	int listener = listen_v6only(w, false);
	int id = socket_server_connect(w->ss, ME, "127.0.0.1", port_of(w, listener));
	await(w, id, SOCKET_OPEN);
	assert_memory_equal(await(w, listener, SOCKET_ACCEPT)->data, "::ffff:127.0.0.1:", 17);
	int holder;
	listener = listen_v6only(w, true);
	while ((holder = hold_port("127.0.0.1", port_of(w, listener))) < 0) {
		close_listener(w, listener);
		listener = listen_v6only(w, true);
	}
	id = socket_server_connect(w->ss, ME, "127.0.0.1", port_of(w, listener));
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "Connection refused");
	close(holder);
}

//-------------------------------------------------------------- unsent bytes

static void
a_slow_reader_is_closed_at_the_limit(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	assert_int_equal(SET(w, id, SEND_LIMIT, 300000), 0);
	int sent = 0;
	while (send_fill(w, id, 'x', 10000, sent % 3 == 0) == 0) {
		sent++;
		assert_true(sent < 1000);
		struct socket_info si;
		assert_true(info_of(w, id, &si)->wbuffer <= 300000);
	}
	assert_true(sent >= 30);
	assert_int_equal(send_text(w, id, "more"), -1);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "send limit exceeded");
	await(w, id, SOCKET_CLOSE);
	assert_false(is_alive(w, id));
	drain_plain(w, client, NULL, SIZE_MAX);
	assert_true(plain_has_ended(w, client));
	close(client);
}

static void
one_send_beyond_the_limit_is_refused_whole(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	assert_int_equal(SET(w, id, SEND_LIMIT, 1000), 0);
	assert_int_equal(SET(w, id, SEND_POLICY, SOCKET_SEND_DROP), 0);
	assert_int_equal(send_fill(w, id, 'x', 1001, false), -1);
	assert_int_equal(send_fill(w, id, 'y', 1000, false), 0);
	char got[1000];
	assert_int_equal(drain_plain(w, client, got, 1000), 1000);
	assert_int_equal(got[0], 'y');
	close(client);
}

static void
policy_drop_keeps_the_connection(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	assert_int_equal(SET(w, id, SEND_LIMIT, 300000), 0);
	assert_int_equal(SET(w, id, SEND_POLICY, SOCKET_SEND_DROP), 0);
	size_t sent = 0;
	int refused = 0;
	for (int i = 0; i < 500; i++) {
		if (send_fill(w, id, 'x', 10000, false) == 0) {
			sent += 10000;
		} else {
			refused++;
		}
	}
	assert_true(refused > 0);
	assert_int_equal(drain_plain(w, client, NULL, sent), sent);
	settle(w);
	assert_int_equal(send_text(w, id, "again"), 0);
	assert_int_equal(drain_plain(w, client, NULL, 5), 5);
	assert_int_equal(count_events(w, id, SOCKET_ERR), 0);
	assert_int_equal(count_events(w, id, SOCKET_CLOSE), 0);
	close(client);
}

static void
what_waits_for_start_is_limited_too(void **state) {
	struct world *w = *state;
	int port, client;
	int listener = start_listener(w, &port);
	assert_int_equal(SET(w, listener, SEND_LIMIT, 1000), 0);
	int id = accept_plain(w, listener, port, &client);
	assert_int_equal(send_fill(w, id, 'x', 1000, false), 0);
	assert_int_equal(send_text(w, id, "x"), -1);
	await(w, id, SOCKET_CLOSE);
	assert_true(plain_has_ended(w, client));
	close(client);
	id = socket_server_connect(w->ss, ME, "127.0.0.1", port);
	assert_int_equal(SET(w, id, SEND_LIMIT, 10), 0);
	assert_int_equal(send_text(w, id, "0123456789"), 0);
	assert_int_equal(send_text(w, id, "x"), -1);
	await(w, id, SOCKET_CLOSE);
	assert_false(is_alive(w, id));
}

//--------------------------------------------------------- undelivered bytes

// Sends as much as goes, with polling in between, up to `want`.
static size_t
flood(struct world *w, int fd, size_t want) {
	static char block[65536];
	size_t total = 0;
	int idle = 0;
	while (total < want && idle < 20) {
		ssize_t n = send(fd, block, sizeof(block), MSG_DONTWAIT);
		idle = n > 0 ? 0 : idle + 1;
		total += n > 0 ? (size_t)n : 0;
		socket_server_poll(w->ss, 0, idle > 0 ? 1 : 0, false);
	}
	return total;
}

static size_t
received(struct world *w, int id) {
	size_t n = 0;
	for (int i = 0; i < w->n; i++) {
		n += w->ev[i].id == id && w->ev[i].type == SOCKET_DATA ? (size_t)w->ev[i].ud : 0;
	}
	return n;
}

static void
reading_rests_while_the_owner_lags_behind(void **state) {
	struct world *w = *state;
	enum { LIMIT = 200000 };
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	assert_int_equal(SET(w, id, RECEIVE_LIMIT, LIMIT), 0);
	size_t sent = flood(w, client, 64 * MiB);
	assert_true(sent < 64 * MiB);
	size_t got = received(w, id);
	assert_in_range(got, 1, LIMIT + READ_SIZE);
	struct socket_info si;
	assert_int_equal(info_of(w, id, &si)->reading, 0);
	// Deliveries of another id, or of an earlier one, change nothing.
	socket_server_delivered(w->ss, id + 1, MiB);
	int done = 0;
	while (received(w, id) < sent) {
		for (; done < w->n; done++) {
			if (w->ev[done].type == SOCKET_DATA) {
				socket_server_delivered(w->ss, w->ev[done].id, (size_t)w->ev[done].ud);
			}
		}
		assert_true(socket_server_poll(w->ss, 0, -1, false) >= 0);
	}
	assert_int_equal(received(w, id), sent);
	close(client);
	await(w, id, SOCKET_CLOSE);
}

static void
a_raised_limit_lets_reading_go_on(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	assert_int_equal(SET(w, id, RECEIVE_LIMIT, 1), 0);
	size_t sent = flood(w, client, 64 * MiB);
	assert_true(received(w, id) < sent);
	assert_int_equal(SET(w, id, RECEIVE_LIMIT, 0), 0);
	while (received(w, id) < sent) {
		assert_true(socket_server_poll(w->ss, 0, -1, false) >= 0);
	}
	close(client);
}

static void
pause_and_start_do_not_lift_the_limit(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	assert_int_equal(SET(w, id, RECEIVE_LIMIT, 1), 0);
	flood(w, client, 64 * MiB);
	size_t got = received(w, id);
	socket_server_pause(w->ss, ME, id);
	socket_server_start(w->ss, ME, id);
	settle(w);
	flood(w, client, MiB);
	assert_int_equal(received(w, id), got);
	close(client);
}

//---------------------------------------------------------------- time limits

static void
a_silent_connection_is_closed(void **state) {
	struct world *w = *state;
	int client[2];
	int silent = accept_started(w, &client[0]);
	int paused = accept_started(w, &client[1]);
	// Silence that we asked for does not count.
	socket_server_pause(w->ss, ME, paused);
	assert_int_equal(SET(w, paused, IDLE, 20), 0);
	assert_int_equal(SET(w, silent, IDLE, 50), 0);
	await(w, silent, SOCKET_CLOSE);
	assert_false(is_alive(w, silent));
	assert_true(plain_has_ended(w, client[0]));
	assert_int_equal(count_events(w, paused, SOCKET_CLOSE), 0);
	socket_server_start(w->ss, ME, paused);
	await(w, paused, SOCKET_CLOSE);
	close(client[0]);
	close(client[1]);
}

static void
idle_limit_of_a_listener_holds_from_start_on(void **state) {
	struct world *w = *state;
	struct socket_option o = {SOCKET_OPTION_IDLE, 20};
	int listener = listen_with(w, "127.0.0.1", 0, &o, 1);
	int client;
	int id = accept_plain(w, listener, port_of(w, listener), &client);
	socket_server_start(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	close(client);
	// 0 switches it off.
	id = accept_plain(w, listener, port_of(w, listener), &client);
	assert_int_equal(SET(w, id, IDLE, 0), 0);
	socket_server_start(w->ss, ME, id);
	await(w, id, SOCKET_OPEN);
	assert_int_equal(deadline_timeout(&w->ss->loops[0], -1), -1);
	close(client);
}

//----------------------------------------------------------------- admission

static void
a_listener_takes_no_more_than_its_maximum(void **state) {
	struct world *w = *state;
	struct socket_option o = {SOCKET_OPTION_MAX_CONNECTIONS, 2};
	int listener = listen_with(w, "127.0.0.1", 0, &o, 1);
	int port = port_of(w, listener);
	int client[4];
	int id = accept_plain(w, listener, port, &client[0]);
	accept_plain(w, listener, port, &client[1]);
	client[2] = plain_connect(port);
	assert_true(plain_has_ended(w, client[2]));
	assert_int_equal(count_events(w, listener, SOCKET_ACCEPT), 2);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	accept_plain(w, listener, port, &client[3]);
	for (int i = 0; i < 4; i++) {
		close(client[i]);
	}
}

static void
one_address_gets_no_more_than_its_share(void **state) {
	struct world *w = *state;
	struct socket_option o = {SOCKET_OPTION_MAX_PER_PEER, 1};
	int listener = listen_with(w, "127.0.0.1", 0, &o, 1);
	int port = port_of(w, listener);
	int client[4];
	int id = accept_plain(w, listener, port, &client[0]);
	client[1] = connect_from(1, port);
	assert_true(plain_has_ended(w, client[1]));
	client[2] = connect_from(2, port);
	await(w, listener, SOCKET_ACCEPT);
	socket_server_shutdown(w->ss, ME, id);
	settle(w);
	client[3] = connect_from(1, port);
	await(w, listener, SOCKET_ACCEPT);
	// The listener may go first.
	socket_server_close(w->ss, ME, listener);
	settle(w);
	for (int i = 0; i < 4; i++) {
		close(client[i]);
	}
}

static void
a_flood_of_connections_is_slowed_down(void **state) {
	struct world *w = *state;
	struct socket_option o[] = {
	    {SOCKET_OPTION_PEER_RATE, 1},
	    {SOCKET_OPTION_PEER_BURST, 2},
	};
	int listener = listen_with(w, "127.0.0.1", 0, o, 2);
	int port = port_of(w, listener);
	enum { N = 50 };
	int client[N];
	for (int i = 0; i < N; i++) {
		client[i] = connect_from(1, port);
		settle(w);
	}
	int other = connect_from(2, port);
	for (int n = 0; n < 3; n++) {
		await(w, listener, SOCKET_ACCEPT);
	}
	// Even a machine that is busy for ten seconds refuses most of them.
	assert_in_range(count_events(w, listener, SOCKET_ACCEPT), 3, N / 2);
	for (int i = 0; i < N; i++) {
		close(client[i]);
	}
	close(other);
}

static void
presets_do_not_count_peers_of_this_machine(void **state) {
	struct world *w = *state;
	struct socket_option per_peer = {SOCKET_OPTION_MAX_PER_PEER, 1};
	struct socket_option rate = {SOCKET_OPTION_PEER_RATE, 1};
	assert_true(socket_server_default(w->ss, &per_peer, true));
	assert_true(socket_server_default(w->ss, &rate, true));
	int port, client[5];
	int listener = start_listener(w, &port);
	for (int i = 0; i < 5; i++) {
		accept_plain(w, listener, port, &client[i]);
		close(client[i]);
	}
}

static struct socket_udp_address
address(const char *text) {
	struct socket_udp_address a;
	struct address_list *list = address_list_numeric(text, 1, SOCK_STREAM);
	assert_non_null(list);
	address_from_sockaddr(&a, &list->addr[0].any);
	free(list);
	return a;
}

static void
tokens_come_back_with_time(void **state) {
	(void)state;
	struct listen_limits l = {.peer_rate = 10, .peer_burst = 3};
	struct admission *a = admission_new(&l);
	struct socket_udp_address p = address("192.0.2.1");
	uint64_t now = 1000000;
	int held = 3;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(admission_enter(a, &p, now), ADMISSION_GRANTED);
	}
	assert_int_equal(admission_enter(a, &p, now), ADMISSION_TOO_FAST);
	assert_int_equal(admission_enter(a, &p, now + 99), ADMISSION_TOO_FAST);
	assert_int_equal(admission_enter(a, &p, now + 100), ADMISSION_GRANTED);
	assert_int_equal(admission_enter(a, &p, now + 100), ADMISSION_TOO_FAST);
	held++;
	// Never more than the burst.
	for (int i = 0; i < 3; i++, held++) {
		assert_int_equal(admission_enter(a, &p, now + 1000000), ADMISSION_GRANTED);
	}
	assert_int_equal(admission_enter(a, &p, now + 1000000), ADMISSION_TOO_FAST);
	while (held-- > 0) {
		admission_leave(a, &p);
	}
	admission_release(a);
}

static void
a_clock_that_is_behind_brings_no_tokens(void **state) {
	(void)state;
	struct listen_limits l = {.peer_rate = 1, .peer_burst = 2};
	struct admission *a = admission_new(&l);
	struct socket_udp_address p = address("192.0.2.1");
	uint64_t behind = deadline_now_ms() - 1000;
	assert_int_equal(admission_enter(a, &p, behind), ADMISSION_GRANTED);
	assert_int_equal(admission_enter(a, &p, behind), ADMISSION_GRANTED);
	admission_leave(a, &p);
	// The last one gives a second's worth of tokens, by the real clock: one.
	admission_leave(a, &p);
	bool is_one = deadline_now_ms() - behind < 2000;
	l.peer_rate = 1000000;
	admission_set(a, &l);
	assert_int_equal(admission_enter(a, &p, behind), ADMISSION_GRANTED);
	if (is_one) {
		assert_int_equal(admission_enter(a, &p, behind), ADMISSION_TOO_FAST);
	}
	admission_leave(a, &p);
	admission_release(a);
}

static void
peers_are_addresses_or_ipv6_networks(void **state) {
	(void)state;
	static const struct {
		const char *a, *b;
		bool is_same;
	} pair[] = {
	    {"192.0.2.1", "192.0.2.1", true},
	    {"192.0.2.1", "192.0.2.2", false},
	    {"192.0.2.1", "::ffff:192.0.2.1", true},
	    {"2001:db8:1:1::1", "2001:db8:1:1:ffff::2", true},
	    {"2001:db8:1:1::1", "2001:db8:1:2::1", false},
	};
	struct listen_limits l = {.max_per_peer = 1};
	for (size_t i = 0; i < sizeof(pair) / sizeof(pair[0]); i++) {
		struct admission *adm = admission_new(&l);
		struct socket_udp_address a = address(pair[i].a), b = address(pair[i].b);
		assert_int_equal(admission_enter(adm, &a, 1), ADMISSION_GRANTED);
		bool refused = admission_enter(adm, &b, 1) == ADMISSION_PEER_FULL;
		assert_int_equal(refused, pair[i].is_same);
		admission_leave(adm, &a);
		if (!refused) {
			admission_leave(adm, &b);
		}
		admission_release(adm);
	}
}

static void
many_peers_are_counted_and_forgotten(void **state) {
	(void)state;
	enum { N = 5000 };
	struct listen_limits l = {.max_per_peer = 1, .peer_rate = 1000};
	struct admission *a = admission_new(&l);
	char text[32];
	for (int i = 0; i < N; i++) {
		snprintf(text, sizeof(text), "10.0.%d.%d", i / 250, i % 250);
		struct socket_udp_address p = address(text);
		assert_int_equal(admission_enter(a, &p, 1000), ADMISSION_GRANTED);
		assert_int_equal(admission_enter(a, &p, 1000), ADMISSION_PEER_FULL);
	}
	for (int i = 0; i < N; i++) {
		snprintf(text, sizeof(text), "10.0.%d.%d", i / 250, i % 250);
		struct socket_udp_address p = address(text);
		admission_leave(a, &p);
		assert_int_equal(admission_enter(a, &p, 5000), ADMISSION_GRANTED);
		admission_leave(a, &p);
	}
	admission_release(a);
}

static const struct CMUnitTest claims[] = {
    CLAIM(options_are_checked),
    CLAIM(texts_of_the_configuration_are_parsed),
    CLAIM(presets_are_those_of_the_reference),
    CLAIM(an_opened_connection_may_lag_further_behind),
    CLAIM(keepalive_and_delay_are_tuned_per_socket),
    CLAIM(connections_get_the_options_of_their_listener),
    CLAIM(reuseport_shares_a_port),
    CLAIM(v6only_decides_about_ipv4),
    CLAIM(a_slow_reader_is_closed_at_the_limit),
    CLAIM(one_send_beyond_the_limit_is_refused_whole),
    CLAIM(policy_drop_keeps_the_connection),
    CLAIM(what_waits_for_start_is_limited_too),
    CLAIM(reading_rests_while_the_owner_lags_behind),
    CLAIM(a_raised_limit_lets_reading_go_on),
    CLAIM(pause_and_start_do_not_lift_the_limit),
    CLAIM(a_silent_connection_is_closed),
    CLAIM(idle_limit_of_a_listener_holds_from_start_on),
    CLAIM(a_listener_takes_no_more_than_its_maximum),
    CLAIM(one_address_gets_no_more_than_its_share),
    CLAIM(a_flood_of_connections_is_slowed_down),
    CLAIM(presets_do_not_count_peers_of_this_machine),
    CLAIM(tokens_come_back_with_time),
    CLAIM(a_clock_that_is_behind_brings_no_tokens),
    CLAIM(peers_are_addresses_or_ipv6_networks),
    CLAIM(many_peers_are_counted_and_forgotten),
};

int
main(void) {
	return RUN_CLAIMS(claims);
}
