// Datagrams (net.md 1.18).
#include "socket_world.h"

//----------------------------------------------------------------------- UDP

static void
datagrams_carry_their_sender(void **state) {
	struct world *w = *state;
	int server = socket_server_udp(w->ss, ME, "127.0.0.1", 0);
	assert_true(server > 0);
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	getsockname(fd_of(w, server), (struct sockaddr *)&a, &len);
	int client = socket_server_udp_dial(w->ss, OTHER, "127.0.0.1", ntohs(a.sin_port));
	assert_int_equal(send_text(w, client, "ping"), 0);
	struct event *e = await(w, server, SOCKET_UDP);
	assert_int_equal(e->ud, 4);
	assert_memory_equal(e->data, "ping", 4);
	struct socket_message m = {.id = server, .ud = e->ud, .data = e->data};
	int size = 0;
	const struct socket_udp_address *from = socket_server_udp_address(w->ss, &m, &size);
	assert_int_equal(size, 7);
	assert_int_equal(from->byte[0], 1);
	struct socket_sendbuffer b = {server, SOCKET_BUFFER_RAWPOINTER, "", 0};
	assert_int_equal(socket_server_udp_send(w->ss, from, &b), 0);
	assert_int_equal(await(w, client, SOCKET_UDP)->ud, 0);
	assert_int_equal(count_events(w, client, SOCKET_OPEN), 0);
	struct socket_info si;
	assert_non_null(info_of(w, client, &si));
	assert_int_equal(si.type, SOCKET_INFO_UDP);
	assert_memory_equal(si.name, "127.0.0.1:", 10);
	assert_non_null(info_of(w, server, &si));
	assert_string_equal(si.name, "");
}

static void
udp_over_ipv6_has_long_addresses(void **state) {
	struct world *w = *state;
	int server = socket_server_udp(w->ss, ME, "::1", 0);
	if (server < 0) {
		skip();
	}
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);
	getsockname(fd_of(w, server), (struct sockaddr *)&a, &len);
	int client = socket_server_udp_dial(w->ss, ME, "::1", ntohs(a.sin6_port));
	assert_int_equal(send_text(w, client, "six"), 0);
	struct event *e = await(w, server, SOCKET_UDP);
	struct socket_message m = {.id = server, .ud = e->ud, .data = e->data};
	int size = 0;
	assert_non_null(socket_server_udp_address(w->ss, &m, &size));
	assert_int_equal(size, 19);
}

static void
udp_without_destination_fails(void **state) {
	struct world *w = *state;
	int id = socket_server_udp(w->ss, ME, NULL, 0);
	assert_int_equal(send_text(w, id, "x"), -1);
	assert_int_equal(send_fill(w, id, 'x', 10, true), -1);
	struct socket_udp_address bad = {{3}};
	struct socket_udp_address six = {{ADDRESS_V6}};
	struct socket_sendbuffer b = {id, SOCKET_BUFFER_RAWPOINTER, "x", 1};
	assert_int_equal(socket_server_udp_send(w->ss, &bad, &b), -1);
	assert_int_equal(socket_server_udp_send(w->ss, &six, &b), -1);
}

static void
udp_connect_checks_the_family(void **state) {
	struct world *w = *state;
	int id = socket_server_udp(w->ss, ME, "127.0.0.1", 0);
	assert_int_equal(socket_server_udp_connect(w->ss, id, "::1", 9), 0);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "protocol mismatch");
	assert_int_equal(socket_server_udp_connect(w->ss, 999, "127.0.0.1", 9), -1);
	assert_int_equal(socket_server_udp_connect(w->ss, id, "127.0.0.1", 99999), -1);
	assert_int_equal(socket_server_udp_connect(w->ss, id, "127.0.0.1", 9), 0);
	assert_int_equal(send_text(w, id, "to nobody"), 0);
	settle(w);
	assert_true(is_alive(w, id));
	assert_int_equal(socket_server_udp_listen(w->ss, ME, "127.0.0.1", 0), -1);
}

static void
oversized_datagrams_fail(void **state) {
	struct world *w = *state;
	int id = socket_server_udp_dial(w->ss, ME, "127.0.0.1", 9);
	assert_int_equal(send_fill(w, id, 'x', 70000, false), -1);
	assert_int_equal(send_text(w, id, "fits"), 0);
	settle(w);
	assert_true(is_alive(w, id));
}

// A plain socket at a port of its own.
static int
plain_udp(int *port) {
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static void
dialled_ids_send_from_the_calling_thread(void **state) {
	struct world *w = *state;
	int port;
	char got[8];
	int peer = plain_udp(&port);
	int id = socket_server_udp_dial(w->ss, ME, "127.0.0.1", port);
	// Nobody polls: it can only have been sent here. Also after a udp_connect that
	// failed.
	for (int i = 0; i < 3; i++) {
		assert_int_equal(send_text(w, id, "now"), 0);
		assert_int_equal(recv(peer, got, sizeof(got), 0), 3);
		assert_int_equal(socket_server_udp_connect(w->ss, id, "::1", port), 0);
	}
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "protocol mismatch");
	assert_int_equal(send_text(w, id, "now"), 0);
	assert_int_equal(recv(peer, got, sizeof(got), 0), 3);
	close(peer);
}

static void
a_flood_of_empty_datagrams_is_limited(void **state) {
	struct world *w = *state;
	int port;
	int peer = plain_udp(&port);
	int id = socket_server_udp(w->ss, ME, "127.0.0.1", 0);
	struct socket_option limit = {SOCKET_OPTION_RECEIVE_LIMIT, 1000};
	assert_int_equal(socket_server_option(w->ss, 0, id, &limit, 1), 0);
	settle(w);
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	assert_int_equal(getsockname(fd_of(w, id), (struct sockaddr *)&a, &len), 0);
	for (int i = 0; i < 100; i++) {
		sendto(peer, "", 0, 0, (struct sockaddr *)&a, len);
	}
	await_arrival(w, id);
	settle(w);
	assert_in_range(count_events(w, id, SOCKET_UDP), 1, 20);
	while (count_events(w, id, SOCKET_UDP) < 100) {
		for (int i = 0; i < w->n; i++) {
			if (!w->ev[i].is_taken) {
				w->ev[i].is_taken = true;
				socket_server_delivered(w->ss, id, 0);
			}
		}
		assert_true(socket_server_poll(w->ss, 0, -1, false) >= 0);
	}
	close(peer);
}

static void
unknown_peers_have_no_name(void **state) {
	struct world *w = *state;
	struct socket_info si;
	int id = socket_server_udp(w->ss, ME, NULL, 0);
	assert_non_null(info_of(w, id, &si));
	assert_string_equal(si.name, "");
}

static const struct CMUnitTest claims[] = {
    CLAIM(dialled_ids_send_from_the_calling_thread),
    CLAIM(a_flood_of_empty_datagrams_is_limited),
    CLAIM(unknown_peers_have_no_name),
    CLAIM(datagrams_carry_their_sender),
    CLAIM(udp_over_ipv6_has_long_addresses),
    CLAIM(udp_without_destination_fails),
    CLAIM(udp_connect_checks_the_family),
    CLAIM(oversized_datagrams_fail),
};

int
main(void) {
	return RUN_CLAIMS(claims);
}
