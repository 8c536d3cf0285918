// Streams through the inner API of the socket server: how they come into being, are
// started, paused and read (net.md 1.22).
#include "socket_world.h"

//-------------------------------------------------------- listen and connect

static void
listen_tells_address_and_start_begins(void **state) {
	struct world *w = *state;
	int id = socket_server_listen(w->ss, ME, "127.0.0.1", 0, 32);
	assert_int_equal(id, 1);
	struct event *e = await(w, id, SOCKET_OPEN);
	assert_true(e->ud > 0);
	assert_string_equal(e->data, "127.0.0.1");
	socket_server_start(w->ss, OTHER, id);
	e = await(w, id, SOCKET_OPEN);
	assert_int_equal(e->ud, 0);
	assert_string_equal(e->data, "start");
	assert_int_equal(e->opaque, OTHER);
}

static void
listen_without_host_is_any_ipv4(void **state) {
	struct world *w = *state;
	int id = socket_server_listen(w->ss, ME, "", 0, 32);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "0.0.0.0");
	id = socket_server_listen(w->ss, ME, NULL, 0, 32);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "0.0.0.0");
}

static void
listen_fails_synchronously(void **state) {
	struct world *w = *state;
	assert_int_equal(socket_server_listen(w->ss, ME, "1.2.3.4", 9999, 32), -1);
	assert_int_equal(socket_server_listen(w->ss, ME, "127.0.0.1", 65536, 32), -1);
	assert_int_equal(socket_server_listen(w->ss, ME, "127.0.0.1", -1, 32), -1);
	assert_int_equal(socket_server_listen(w->ss, ME, NO_HOST, 80, 32), -1);
}

static void
connect_and_accept_tell_addresses(void **state) {
	struct world *w = *state;
	int port;
	int listener = start_listener(w, &port);
	int id = socket_server_connect(w->ss, OTHER, "127.0.0.1", port);
	struct event *e = await(w, id, SOCKET_OPEN);
	assert_string_equal(e->data, "127.0.0.1");
	assert_int_equal(e->ud, 0);
	assert_int_equal(e->opaque, OTHER);
	e = await(w, listener, SOCKET_ACCEPT);
	assert_int_not_equal(e->ud, listener);
	assert_memory_equal(e->data, "127.0.0.1:", 10);
	assert_int_equal(e->opaque, ME);
	settle(w);
	assert_int_equal(count_events(w, id, SOCKET_OPEN), 1);
	assert_int_equal(count_events(w, listener, SOCKET_ACCEPT), 1);
}

static int
index_of(struct world *w, int id, int type) {
	int i = 0;
	while (i < w->n && (w->ev[i].id != id || w->ev[i].type != type)) {
		i++;
	}
	return i;
}

static void
accept_starts_what_is_accepted(void **state) {
	struct world *w = *state;
	int listener = socket_server_listen(w->ss, ME, "127.0.0.1", 0, 32);
	int port = await(w, listener, SOCKET_OPEN)->ud;
	socket_server_accept(w->ss, ME, listener);
	assert_string_equal(await(w, listener, SOCKET_OPEN)->data, "start");
	int client = plain_connect(port);
	assert_int_equal(write(client, "hi", 2), 2);
	int id = await(w, listener, SOCKET_ACCEPT)->ud;
	struct event *e = await(w, id, SOCKET_DATA);
	assert_memory_equal(e->data, "hi", 2);
	assert_int_equal(e->opaque, ME);
	assert_true(index_of(w, listener, SOCKET_ACCEPT) < index_of(w, id, SOCKET_DATA));
	assert_int_equal(count_events(w, id, SOCKET_OPEN), 0);
	assert_int_equal(send_text(w, id, "ho"), 0);
	assert_int_equal(drain_plain(w, client, NULL, 2), 2);
	socket_server_start(w->ss, OTHER, id);
	e = await(w, id, SOCKET_OPEN);
	assert_true(strcmp(e->data, "transfer") == 0 && e->opaque == OTHER);
	close(client);
	// Silence counts from then on, too.
	struct socket_option idle = {SOCKET_OPTION_IDLE, 30};
	assert_int_equal(socket_server_option(w->ss, ME, listener, &idle, 1), 0);
	client = plain_connect(port);
	await(w, await(w, listener, SOCKET_ACCEPT)->ud, SOCKET_CLOSE);
	close(client);
}

static void
pause_of_a_listener_keeps_what_accept_asked_for(void **state) {
	struct world *w = *state;
	int port, client;
	int listener = start_listener(w, &port);
	int id = accept_plain(w, listener, port, &client);
	socket_server_pause(w->ss, ME, listener);
	socket_server_accept(w->ss, ME, listener);
	int second, third;
	int started = accept_plain(w, listener, port, &second);
	socket_server_pause(w->ss, ME, listener);
	socket_server_start(w->ss, ME, listener);
	int last = accept_plain(w, listener, port, &third);
	assert_int_equal(write(client, "x", 1) + write(second, "x", 1) + write(third, "x", 1), 3);
	await(w, started, SOCKET_DATA);
	await(w, last, SOCKET_DATA);
	settle(w);
	assert_int_equal(count_events(w, id, SOCKET_DATA), 0);
	close(client);
	close(second);
	close(third);
}

static void
connect_over_ipv6(void **state) {
	struct world *w = *state;
	int listener = socket_server_listen(w->ss, ME, "::1", 0, 32);
	if (listener < 0) {
		skip();
	}
	struct event *e = await(w, listener, SOCKET_OPEN);
	assert_string_equal(e->data, "::1");
	int port = e->ud;
	socket_server_start(w->ss, ME, listener);
	int id = socket_server_connect(w->ss, ME, "::1", port);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "::1");
	assert_memory_equal(await(w, listener, SOCKET_ACCEPT)->data, "::1:", 4);
}

static void
connect_by_name_uses_all_addresses(void **state) {
	struct world *w = *state;
	int port;
	start_listener(w, &port);
	// "localhost" may be ::1 first, where nobody listens.
	int id = socket_server_connect(w->ss, ME, "localhost", port);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "127.0.0.1");
	assert_int_equal(count_events(w, id, SOCKET_ERR), 0);
}

static void
refused_connect_is_an_error(void **state) {
	struct world *w = *state;
	int id = socket_server_connect(w->ss, ME, "127.0.0.1", 1);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "Connection refused");
	settle(w);
	assert_false(is_alive(w, id));
	assert_int_equal(count_events(w, id, SOCKET_CLOSE), 0);
}

static void
unknown_name_is_an_error(void **state) {
	struct world *w = *state;
	int id = socket_server_connect(w->ss, ME, NO_HOST, 80);
	assert_true(id > 0);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "Name or service not known");
	assert_false(is_alive(w, id));
}

static void
bad_connect_arguments_are_refused_at_once(void **state) {
	struct world *w = *state;
	char host[233];
	memset(host, 'a', 232);
	host[232] = '\0';
	assert_int_equal(socket_server_connect(w->ss, ME, host, 80), -1);
	assert_int_equal(socket_server_connect(w->ss, ME, "127.0.0.1", 65536), -1);
	settle(w);
	assert_int_equal(w->n, 0);
}

static void
data_sent_while_connecting_follows_connect(void **state) {
	struct world *w = *state;
	int port;
	int listener = start_listener(w, &port);
	int id = socket_server_connect(w->ss, ME, "127.0.0.1", port);
	assert_int_equal(send_text(w, id, "hello "), 0);
	assert_int_equal(send_text(w, id, "world"), 0);
	socket_server_close(w->ss, ME, id);
	int peer = await(w, listener, SOCKET_ACCEPT)->ud;
	socket_server_start(w->ss, ME, peer);
	await(w, peer, SOCKET_CLOSE);
	char got[32];
	assert_int_equal(data_of(w, peer, got), 11);
	assert_memory_equal(got, "hello world", 11);
}

static void
new_descriptors_close_on_exec_without_delay(void **state) {
	struct world *w = *state;
	int client, on = 0;
	socklen_t len = sizeof(on);
	int port;
	int listener = fd_of(w, start_listener(w, &port));
	// Or a connection that vanishes before accept holds the thread.
	assert_int_equal(fcntl(listener, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(listener, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	int id = accept_started(w, &client);
	int fd = fd_of(w, id);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	assert_true(on != 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &len), 0);
	assert_true(on != 0);
	close(client);
}

static void
many_waiting_connections_are_all_accepted(void **state) {
	struct world *w = *state;
	enum { N = 100 };
	int client[N], port;
	int listener = socket_server_listen(w->ss, ME, "127.0.0.1", 0, 128);
	port = await(w, listener, SOCKET_OPEN)->ud;
	for (int i = 0; i < N; i++) {
		client[i] = plain_connect(port);
	}
	socket_server_start(w->ss, ME, listener);
	for (int i = 0; i < N; i++) {
		assert_int_equal(await(w, listener, SOCKET_ACCEPT)->ud, listener + 1 + i);
	}
	struct socket_info si;
	assert_non_null(info_of(w, listener, &si));
	assert_int_equal(si.type, SOCKET_INFO_LISTEN);
	assert_int_equal(si.read, N);
	for (int i = 0; i < N; i++) {
		close(client[i]);
	}
}

static void
a_paused_listener_does_not_accept(void **state) {
	struct world *w = *state;
	int port;
	int listener = start_listener(w, &port);
	socket_server_pause(w->ss, ME, listener);
	settle(w);
	int client = plain_connect(port);
	settle(w);
	assert_int_equal(count_events(w, listener, SOCKET_ACCEPT), 0);
	socket_server_start(w->ss, ME, listener);
	await(w, listener, SOCKET_ACCEPT);
	close(client);
}

static void
out_of_descriptors_is_reported_once_and_survived(void **state) {
	struct world *w = *state;
	struct rlimit old, low;
	int port, client[3], filler[1024], n = 0;
	int listener = start_listener(w, &port);
	getrlimit(RLIMIT_NOFILE, &old);
	for (int i = 0; i < 3; i++) {
		client[i] = plain_connect(port);
	}
	low = old;
	low.rlim_cur = 256;
	setrlimit(RLIMIT_NOFILE, &low);
	while (n < 1024 && (filler[n] = dup(0)) >= 0) {
		n++;
	}
	struct event *e = await(w, listener, SOCKET_ERR);
	assert_string_equal(e->data, "Too many open files");
	for (int i = 0; i < 3; i++) {
		assert_true(plain_has_ended(w, client[i]));
	}
	assert_int_equal(count_events(w, listener, SOCKET_ERR), 1);
	while (n > 0) {
		close(filler[--n]);
	}
	setrlimit(RLIMIT_NOFILE, &old);
	int later = plain_connect(port);
	await(w, listener, SOCKET_ACCEPT);
	close(later);
	for (int i = 0; i < 3; i++) {
		close(client[i]);
	}
}

static void
full_table_refuses_with_a_clear_error(void **state) {
	struct world *w = *state;
	int port;
	int listener = start_listener(w, &port);
	socket_server_set_limit(w->ss, 1);
	assert_int_equal(socket_server_connect(w->ss, ME, "127.0.0.1", port), -1);
	assert_int_equal(socket_server_udp(w->ss, ME, NULL, 0), -1);
	int client = plain_connect(port);
	struct event *e = await(w, listener, SOCKET_ERR);
	assert_string_equal(e->data, "reach skynet socket number limit");
	assert_true(plain_has_ended(w, client));
	close(client);
}

static void
a_full_table_does_not_fill_the_log(void **state) {
	struct world *w = *state;
	int port;
	start_listener(w, &port);
	socket_server_set_limit(w->ss, 1);
	for (int i = 0; i < 10000; i++) {
		assert_int_equal(socket_server_connect(w->ss, ME, "127.0.0.1", port), -1);
	}
	// A line a second, and what it has not said yet.
	unsigned hidden = atomic_load(&w->ss->notice[NOTICE_SLOTS].hidden);
	assert_true(hidden > 0 && hidden < 10000);
}

//----------------------------------------------------------- start and pause

static void
start_of_unknown_id_is_an_error_to_the_caller(void **state) {
	struct world *w = *state;
	socket_server_start(w->ss, OTHER, 12345);
	struct event *e = await(w, 12345, SOCKET_ERR);
	assert_string_equal(e->data, "invalid socket");
	assert_int_equal(e->opaque, OTHER);
	socket_server_start(w->ss, OTHER, 0);
	socket_server_start(w->ss, OTHER, -1);
	await(w, -1, SOCKET_ERR);
}

static void
second_start_transfers_and_tells_both(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	socket_server_start(w->ss, OTHER, id);
	struct event *e = await(w, id, SOCKET_OPEN);
	assert_string_equal(e->data, "transfer");
	assert_int_equal(e->opaque, OTHER);
	e = await(w, id, SOCKET_OPEN);
	assert_string_equal(e->data, "transferred");
	assert_int_equal(e->opaque, ME);
	assert_int_equal(write(client, "x", 1), 1);
	assert_int_equal(await(w, id, SOCKET_DATA)->opaque, OTHER);
	socket_server_start(w->ss, OTHER, id);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "transfer");
	settle(w);
	assert_null(find_event(w, id, SOCKET_OPEN));
	close(client);
}

// net.md 1.11: what has begun reads on, and only a stream or a datagram socket that is
// connected is transferred.
static void
start_of_what_has_begun_tells_transfers_only(void **state) {
	struct world *w = *state;
	int fd[2], port;
	int listener = start_listener(w, &port);
	assert_int_equal(pipe(fd), 0);
	int attached = socket_server_bind(w->ss, ME, fd[0]);
	await(w, attached, SOCKET_OPEN);
	int datagrams = socket_server_udp(w->ss, ME, "127.0.0.1", 0);
	int connecting = socket_server_connect(w->ss, ME, "127.0.0.1", port);
	socket_server_start(w->ss, ME, connecting);
	socket_server_start(w->ss, ME, listener);
	socket_server_start(w->ss, ME, attached);
	socket_server_start(w->ss, ME, datagrams);
	assert_string_equal(await(w, datagrams, SOCKET_OPEN)->data, "transfer");
	assert_string_equal(await(w, connecting, SOCKET_OPEN)->data, "127.0.0.1");
	await(w, listener, SOCKET_ACCEPT);
	assert_int_equal(write(fd[1], "x", 1), 1);
	await(w, attached, SOCKET_DATA);
	settle(w);
	for (int i = 0; i < w->n; i++) {
		assert_true(w->ev[i].is_taken);
	}
	close(fd[0]);
	close(fd[1]);
}

static void
start_after_the_peer_closed_is_an_error(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	close(client);
	await(w, id, SOCKET_CLOSE);
	socket_server_start(w->ss, ME, id);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "socket closed");
}

static void
pause_holds_data_back_until_start(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	socket_server_pause(w->ss, ME, id);
	socket_server_pause(w->ss, ME, 999);
	settle(w);
	assert_int_equal(write(client, "abc", 3), 3);
	await_arrival(w, id);
	settle(w);
	assert_int_equal(count_events(w, id, SOCKET_DATA), 0);
	struct socket_info si;
	assert_non_null(info_of(w, id, &si));
	assert_int_equal(si.reading, 0);
	socket_server_start(w->ss, ME, id);
	assert_int_equal(await(w, id, SOCKET_DATA)->ud, 3);
	close(client);
}

//---------------------------------------------------------------------- read

static void
data_sent_before_start_arrives_whole_before_close(void **state) {
	struct world *w = *state;
	enum { N = 200 * 1000 };
	static char sent[N], got[N];
	int port, client;
	int listener = start_listener(w, &port);
	int id = accept_plain(w, listener, port, &client);
	for (int i = 0; i < N; i++) {
		sent[i] = (char)(i * 7);
	}
	assert_int_equal(write(client, sent, 8138), 8138);
	await_arrival(w, id);
	settle(w);
	assert_int_equal(count_events(w, id, SOCKET_DATA), 0);
	socket_server_start(w->ss, ME, id);
	for (int done = 8138; done < N;) {
		ssize_t n = send(client, sent + done, (size_t)(N - done), MSG_DONTWAIT);
		done += n > 0 ? (int)n : 0;
		socket_server_poll(w->ss, 0, 0, false);
	}
	close(client);
	struct event *end = await(w, id, SOCKET_CLOSE);
	assert_ptr_equal(end, &w->ev[w->n - 1]);
	assert_int_equal(data_of(w, id, got), N);
	assert_memory_equal(got, sent, N);
	settle(w);
	assert_int_equal(count_events(w, id, SOCKET_CLOSE), 1);
}

static void
a_flooding_socket_does_not_starve_others(void **state) {
	struct world *w = *state;
	int port, loud, quiet;
	int listener = start_listener(w, &port);
	int loud_id = accept_plain(w, listener, port, &loud);
	int quiet_id = accept_plain(w, listener, port, &quiet);
	static char block[256 * 1024];
	fcntl(loud, F_SETFL, O_NONBLOCK);
	while (write(loud, block, sizeof(block)) > 0) {
	}
	assert_int_equal(write(quiet, "q", 1), 1);
	await_arrival(w, quiet_id);
	socket_server_start(w->ss, ME, loud_id);
	socket_server_start(w->ss, ME, quiet_id);
	await(w, quiet_id, SOCKET_DATA);
	assert_true(count_events(w, loud_id, SOCKET_DATA) <= 2);
	for (int i = 0; i < w->n; i++) {
		assert_true(w->ev[i].type != SOCKET_DATA || w->ev[i].ud <= READ_SIZE);
	}
	close(loud);
	close(quiet);
}

static void
reset_is_an_error_then_close_then_gone(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	reset_on_close(client);
	close(client);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "Connection reset by peer");
	// A poller that reports hang-ups ends the socket; otherwise its owner does.
	settle(w);
	if (is_alive(w, id)) {
		socket_server_shutdown(w->ss, ME, id);
	}
	await(w, id, SOCKET_CLOSE);
	assert_false(is_alive(w, id));
}

static void
what_arrives_after_a_close_of_ours_is_dropped(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	send_fill(w, id, 'x', 2 * MiB, false);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	assert_int_equal(write(client, "too late", 8), 8);
	settle(w);
	assert_int_equal(drain_plain(w, client, NULL, 2 * MiB), 2 * MiB);
	settle(w);
	assert_int_equal(count_events(w, id, SOCKET_DATA), 0);
	close(client);
}

static void
reset_of_a_paused_socket_is_noticed(void **state) {
	struct world *w = *state;
	if (strcmp(ops->name, "epoll") != 0) {
		skip();
	}
	int client;
	int id = accept_started(w, &client);
	socket_server_pause(w->ss, ME, id);
	settle(w);
	reset_on_close(client);
	close(client);
	await(w, id, SOCKET_CLOSE);
	assert_false(is_alive(w, id));
}

static void
reset_before_start_is_noticed_at_once(void **state) {
	struct world *w = *state;
	if (strcmp(ops->name, "epoll") != 0) {
		skip();
	}
	int port, client;
	int listener = start_listener(w, &port);
	int id = accept_plain(w, listener, port, &client);
	reset_on_close(client);
	close(client);
	await(w, id, SOCKET_ERR);
	await(w, id, SOCKET_CLOSE);
	assert_false(is_alive(w, id));
}

static const struct CMUnitTest claims[] = {
    CLAIM(listen_tells_address_and_start_begins),
    CLAIM(listen_without_host_is_any_ipv4),
    CLAIM(listen_fails_synchronously),
    CLAIM(connect_and_accept_tell_addresses),
    CLAIM(accept_starts_what_is_accepted),
    CLAIM(pause_of_a_listener_keeps_what_accept_asked_for),
    CLAIM(connect_over_ipv6),
    CLAIM(connect_by_name_uses_all_addresses),
    CLAIM(refused_connect_is_an_error),
    CLAIM(unknown_name_is_an_error),
    CLAIM(bad_connect_arguments_are_refused_at_once),
    CLAIM(data_sent_while_connecting_follows_connect),
    CLAIM(new_descriptors_close_on_exec_without_delay),
    CLAIM(many_waiting_connections_are_all_accepted),
    CLAIM(a_paused_listener_does_not_accept),
    CLAIM(out_of_descriptors_is_reported_once_and_survived),
    CLAIM(full_table_refuses_with_a_clear_error),
    CLAIM(a_full_table_does_not_fill_the_log),
    CLAIM(start_of_unknown_id_is_an_error_to_the_caller),
    CLAIM(second_start_transfers_and_tells_both),
    CLAIM(start_of_what_has_begun_tells_transfers_only),
    CLAIM(start_after_the_peer_closed_is_an_error),
    CLAIM(pause_holds_data_back_until_start),
    CLAIM(data_sent_before_start_arrives_whole_before_close),
    CLAIM(a_flooding_socket_does_not_starve_others),
    CLAIM(reset_is_an_error_then_close_then_gone),
    CLAIM(what_arrives_after_a_close_of_ours_is_dropped),
    CLAIM(reset_of_a_paused_socket_is_noticed),
    CLAIM(reset_before_start_is_noticed_at_once),
};

int
main(void) {
	return RUN_CLAIMS(claims);
}
