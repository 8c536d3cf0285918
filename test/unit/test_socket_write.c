// Sending and closing: order, backlog, ends (net.md 1.13 to 1.15, 2.6).
#include "socket_world.h"

//----------------------------------------------------------- close and write

static void
peer_close_leaves_the_id_writable(void **state) {
	struct world *w = *state;
	shutdown(w->client, SHUT_WR);
	await(w, w->id, SOCKET_CLOSE);
	assert_int_equal(send_text(w, w->id, "late"), 0);
	char got[4];
	assert_int_equal(drain_plain(w, w->client, got, 4), 4);
	socket_server_close(w->ss, ME, w->id);
	assert_true(plain_has_ended(w, w->client));
	assert_int_equal(count_events(w, w->id, SOCKET_CLOSE), 1);
	assert_false(is_alive(w, w->id));
	assert_int_equal(send_text(w, w->id, "x"), -1);
}

static void
graceful_close_delivers_what_was_sent(void **state) {
	struct world *w = *state;
	enum { N = 3 * MiB };
	char *got = malloc(N);
	assert_int_equal(send_fill(w, w->id, 'z', N, false), 0);
	socket_server_close(w->ss, ME, w->id);
	assert_int_equal(send_text(w, w->id, "refused"), -1);
	await(w, w->id, SOCKET_CLOSE);
	struct socket_info si;
	assert_non_null(info_of(w, w->id, &si));
	assert_int_equal(si.type, SOCKET_INFO_CLOSING);
	assert_true(si.wbuffer > 0);
	assert_int_equal(drain_plain(w, w->client, got, N), N);
	assert_int_equal(got[N - 1], 'z');
	assert_true(plain_has_ended(w, w->client));
	settle(w);
	assert_false(is_alive(w, w->id));
	assert_int_equal(count_events(w, w->id, SOCKET_CLOSE), 1);
	free(got);
}

static void
graceful_close_survives_unread_input(void **state) {
	struct world *w = *state;
	socket_server_pause(w->ss, ME, w->id);
	settle(w);
	assert_int_equal(write(w->client, "never read", 10), 10);
	await_arrival(w, w->id);
	assert_int_equal(send_text(w, w->id, "answer"), 0);
	socket_server_close(w->ss, ME, w->id);
	await(w, w->id, SOCKET_CLOSE);
	settle(w);
	char got[8];
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 6);
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 0);
}

static void
abortive_close_drops_what_was_sent(void **state) {
	struct world *w = *state;
	enum { N = 8 * MiB };
	assert_int_equal(send_fill(w, w->id, 'z', N, false), 0);
	socket_server_shutdown(w->ss, ME, w->id);
	await(w, w->id, SOCKET_CLOSE);
	assert_false(is_alive(w, w->id));
	assert_true(drain_plain(w, w->client, NULL, N) < N);
}

static void
a_peer_that_never_reads_is_given_up(void **state) {
	struct world *w = *state;
	struct socket_option linger = {SOCKET_OPTION_LINGER, 20};
	assert_int_equal(socket_server_option(w->ss, 0, w->id, &linger, 1), 0);
	assert_int_equal(send_fill(w, w->id, 'z', 2 * MiB, false), 0);
	socket_server_close(w->ss, ME, w->id);
	await(w, w->id, SOCKET_CLOSE);
	while (is_alive(w, w->id)) {
		socket_server_poll(w->ss, 0, -1, false);
	}
}

static void
close_before_start_delivers_queued_bytes(void **state) {
	struct world *w = *state;
	int port, client;
	int listener = start_listener(w, &port);
	int id = accept_plain(w, listener, port, &client);
	assert_int_equal(send_text(w, id, "full"), 0);
	socket_server_close(w->ss, ME, id);
	char got[8];
	assert_int_equal(drain_plain(w, client, got, sizeof(got)), 4);
	assert_int_equal(count_events(w, id, SOCKET_CLOSE), 1);
	close(client);
}

static void
bytes_sent_before_start_go_out_at_start(void **state) {
	struct world *w = *state;
	int port, client;
	int listener = start_listener(w, &port);
	int id = accept_plain(w, listener, port, &client);
	assert_int_equal(send_text(w, id, "early "), 0);
	assert_int_equal(send_fill(w, id, 'b', 4, true), 0);
	socket_server_start(w->ss, ME, id);
	char got[10];
	assert_int_equal(drain_plain(w, client, got, 10), 10);
	assert_memory_equal(got, "early bbbb", 10);
	close(client);
}

static void
sends_to_dead_ids_fail_and_free(void **state) {
	struct world *w = *state;
	assert_int_equal(send_fill(w, 77, 'x', 100, false), -1);
	assert_int_equal(send_fill(w, 77, 'x', 100, true), -1);
	assert_int_equal(send_text(w, 0, "x"), -1);
	assert_int_equal(send_text(w, -5, "x"), -1);
}

static void
sending_to_a_listener_is_accepted_and_dropped(void **state) {
	struct world *w = *state;
	int port;
	int listener = start_listener(w, &port);
	assert_int_equal(send_fill(w, listener, 'x', 100, false), 0);
}

static void
low_priority_waits_for_high(void **state) {
	struct world *w = *state;
	enum { H1 = 4 * MiB, REST = 10000 };
	char *got = malloc(H1 + 5 * REST);
	send_fill(w, w->id, '1', H1, false);
	send_fill(w, w->id, 'a', REST, true);
	send_fill(w, w->id, 'b', REST, true);
	send_fill(w, w->id, '2', REST, false);
	send_fill(w, w->id, 'c', REST, true);
	send_fill(w, w->id, '3', REST, false);
	assert_int_equal(drain_plain(w, w->client, got, H1 + 5 * REST), H1 + 5 * REST);
	const char *order = "23abc";
	for (int i = 0; i < 5; i++) {
		assert_int_equal(got[H1 + i * REST], order[i]);
		assert_int_equal(got[H1 + i * REST + REST - 1], order[i]);
	}
	free(got);
}

static void
backlog_warns_at_doubling_levels_and_when_drained(void **state) {
	struct world *w = *state;
	enum { PIECE = 128 * 1024, PIECES = 80 };
	for (int i = 0; i < PIECES; i++) {
		assert_int_equal(send_fill(w, w->id, 'w', PIECE, false), 0);
	}
	int last = 512;
	for (int level = 1024; level <= 8192; level *= 2) {
		struct event *e = await(w, w->id, SOCKET_WARNING);
		assert_in_range(e->ud, level, level + 128);
		assert_true(e->ud > last);
		last = e->ud;
	}
	struct socket_info si;
	assert_non_null(info_of(w, w->id, &si));
	assert_true(si.writing && si.wbuffer > 8 * MiB);
	assert_int_equal(drain_plain(w, w->client, NULL, (size_t)PIECE * PIECES),
	                 (size_t)PIECE * PIECES);
	assert_int_equal(await(w, w->id, SOCKET_WARNING)->ud, 0);
	assert_null(find_event(w, w->id, SOCKET_WARNING));
}

static void
one_huge_send_warns_too(void **state) {
	struct world *w = *state;
	send_fill(w, w->id, 'w', 16 * MiB, false);
	assert_in_range(await(w, w->id, SOCKET_WARNING)->ud, 8 * 1024, 16 * 1024);
	send_fill(w, w->id, 'w', 10, false);
	settle(w);
	assert_null(find_event(w, w->id, SOCKET_WARNING));
}

static void
broken_write_is_an_error_and_then_refused(void **state) {
	struct world *w = *state;
	socket_server_pause(w->ss, ME, w->id);
	shrink_buffers(w, w->id, w->client);
	send_fill(w, w->id, 'w', 4 * MiB, false);
	settle(w);
	reset_on_close(w->client);
	close_client(w);
	await(w, w->id, SOCKET_ERR);
	settle(w);
	assert_int_equal(send_text(w, w->id, "x"), -1);
	socket_server_shutdown(w->ss, ME, w->id);
	settle(w);
	assert_false(is_alive(w, w->id));
	assert_int_equal(count_events(w, w->id, SOCKET_CLOSE), 1);
}

static void
what_came_before_a_broken_write_is_told_before_the_error(void **state) {
	struct world *w = *state;
	assert_int_equal(write(w->client, "last words", 10), 10);
	close_client(w);
	// The first is answered with a reset, the second fails.
	assert_int_equal(send_text(w, w->id, "unheard"), 0);
	struct pollfd p = {.fd = fd_of(w, w->id)};
	while ((p.revents & POLLHUP) == 0) {
		assert_int_equal(poll(&p, 1, -1), 1);
	}
	assert_int_equal(send_text(w, w->id, "unheard"), 0);
	struct event *data = await(w, w->id, SOCKET_DATA);
	struct event *error = await(w, w->id, SOCKET_ERR);
	assert_int_equal(data->ud, 10);
	assert_true(data < error);
}

static int
send_later(struct world *w, int id, const char *text) {
	struct socket_sendbuffer b = {id, SOCKET_BUFFER_RAWPOINTER, text, strlen(text)};
	return socket_server_send_later(w->ss, &b);
}

static void
bytes_sent_later_go_out_with_flush(void **state) {
	struct world *w = *state;
	assert_int_equal(send_later(w, w->id, "one "), 0);
	assert_int_equal(send_later(w, w->id, "two "), 0);
	settle(w);
	char got[16];
	assert_int_equal(recv(w->client, got, sizeof(got), MSG_DONTWAIT), -1);
	socket_server_flush(w->ss, w->id);
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 8);
	assert_memory_equal(got, "one two ", 8);
	socket_server_flush(w->ss, w->id);
	socket_server_flush(w->ss, 999);
	assert_int_equal(send_later(w, 999, "x"), -1);
}

static void
bytes_sent_later_survive_close(void **state) {
	struct world *w = *state;
	assert_int_equal(send_later(w, w->id, "last words"), 0);
	socket_server_close(w->ss, ME, w->id);
	await(w, w->id, SOCKET_CLOSE);
	settle(w);
	socket_server_flush(w->ss, w->id);
	char got[16];
	assert_int_equal(drain_plain(w, w->client, got, sizeof(got)), 10);
	assert_false(is_alive(w, w->id));
}

static void
bytes_sent_later_go_out_together_with_the_end(void **state) {
	struct world *w = *state;
	assert_int_equal(send_later(w, w->id, "last "), 0);
	assert_int_equal(send_later(w, w->id, "words"), 0);
	socket_server_close(w->ss, ME, w->id);
	char got[16];
	socket_server_flush(w->ss, w->id);
	assert_int_equal(recv(w->client, got, sizeof(got), MSG_DONTWAIT), -1);
	settle(w);
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 10);
	assert_memory_equal(got, "last words", 10);
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 0);
	assert_false(is_alive(w, w->id));
}

static void
bytes_sent_later_do_not_wait_for_a_loop_that_sleeps(void **state) {
	struct world *w = *state;
	assert_int_equal(send_later(w, w->id, "last words"), 0);
	atomic_store(&w->ss->loops[0].waiting, true);
	socket_server_close(w->ss, ME, w->id);
	char got[16];
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 10);
	settle(w);
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 0);
}

static void
bytes_sent_later_survive_close_with_unread_input(void **state) {
	struct world *w = *state;
	socket_server_pause(w->ss, ME, w->id);
	settle(w);
	assert_int_equal(write(w->client, "never read", 10), 10);
	await_arrival(w, w->id);
	assert_int_equal(send_later(w, w->id, "answer"), 0);
	socket_server_close(w->ss, ME, w->id);
	settle(w);
	assert_false(is_alive(w, w->id));
	char got[8];
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 6);
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 0);
}

// More than the socket takes at once.
static void
many_bytes_sent_later_survive_close(void **state) {
	struct world *w = *state;
	enum { BLOCKS = 100, BLOCK = 4096 };
	char *got = malloc(BLOCKS * BLOCK);
	for (int i = 0; i < BLOCKS; i++) {
		char *p = malloc(BLOCK);
		memset(p, 'a' + i % 26, BLOCK);
		struct socket_sendbuffer b = {w->id, SOCKET_BUFFER_MEMORY, p, BLOCK};
		assert_int_equal(socket_server_send_later(w->ss, &b), 0);
	}
	socket_server_close(w->ss, ME, w->id);
	await(w, w->id, SOCKET_CLOSE);
	assert_int_equal(drain_plain(w, w->client, got, BLOCKS * BLOCK), BLOCKS * BLOCK);
	for (int i = 0; i < BLOCKS; i++) {
		assert_int_equal(got[i * BLOCK], 'a' + i % 26);
		assert_int_equal(got[i * BLOCK + BLOCK - 1], 'a' + i % 26);
	}
	assert_true(plain_has_ended(w, w->client));
	settle(w);
	assert_false(is_alive(w, w->id));
	free(got);
}

static void
bytes_sent_later_to_who_has_gone_do_no_harm(void **state) {
	struct world *w = *state;
	socket_server_pause(w->ss, ME, w->id);
	settle(w);
	reset_on_close(w->client);
	close_client(w);
	assert_int_equal(send_later(w, w->id, "anybody?"), 0);
	socket_server_close(w->ss, ME, w->id);
	settle(w);
	assert_false(is_alive(w, w->id));
	assert_int_equal(count_events(w, w->id, SOCKET_CLOSE), 1);
}

static void
bytes_sent_later_survive_the_end_of_the_server(void **state) {
	struct world *w = *state;
	assert_int_equal(send_later(w, w->id, "last words"), 0);
	socket_server_close(w->ss, ME, w->id);
	socket_server_release(w->ss);
	w->ss = socket_server_create_with(ops, 1, clock_of_test, sink, w);
	assert_non_null(w->ss);
	char got[16];
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 10);
	assert_int_equal(recv(w->client, got, sizeof(got), 0), 0);
}

static void
other_sends_take_later_ones_along_in_order(void **state) {
	struct world *w = *state;
	assert_int_equal(send_later(w, w->id, "first "), 0);
	assert_int_equal(send_text(w, w->id, "second"), 0);
	char got[12];
	assert_int_equal(drain_plain(w, w->client, got, 12), 12);
	assert_memory_equal(got, "first second", 12);
}

static int objects_freed;

static const void *
object_buffer(const void *o) {
	return o;
}

static size_t
object_size(const void *o) {
	return strlen(o);
}

static void
object_free(void *o) {
	objects_freed++;
	free(o);
}

static void
user_objects_go_through_their_adapter(void **state) {
	struct world *w = *state;
	struct socket_object_interface adapter = {object_buffer, object_size, object_free};
	struct socket_sendbuffer b = {w->id, SOCKET_BUFFER_OBJECT, "static", 0};
	assert_int_equal(socket_server_send(w->ss, &b), -1);
	socket_server_userobject(w->ss, &adapter);
	objects_freed = 0;
	b.buffer = strdup("object");
	assert_int_equal(socket_server_send(w->ss, &b), 0);
	b.buffer = strdup("queued");
	assert_int_equal(socket_server_send_lowpriority(w->ss, &b), 0);
	char got[12];
	assert_int_equal(drain_plain(w, w->client, got, 12), 12);
	assert_memory_equal(got, "objectqueued", 12);
	b.id = 999;
	b.buffer = strdup("refused");
	assert_int_equal(socket_server_send(w->ss, &b), -1);
	assert_int_equal(objects_freed, 3);
}

static void
empty_sends_succeed_and_do_nothing(void **state) {
	struct world *w = *state;
	assert_int_equal(send_text(w, w->id, ""), 0);
	assert_int_equal(send_fill(w, w->id, 'x', 0, true), 0);
	assert_int_equal(send_text(w, w->id, "a"), 0);
	char got[2];
	assert_int_equal(drain_plain(w, w->client, got, 1), 1);
}

static void
relayed_sends_go_to_the_owner(void **state) {
	struct world *w = *state;
	assert_int_equal(socket_server_relay(w->ss, w->id, true), 0);
	assert_int_equal(send_text(w, w->id, "lent"), 0);
	assert_int_equal(send_text(w, w->id, ""), 0);
	assert_int_equal(send_fill(w, w->id, 'm', 3, false), 0);
	assert_int_equal(send_fill(w, w->id, 'l', 2, true), 0);
	static const char *const want[] = {"lent", "mmm", "ll"};
	for (int i = 0; i < 3; i++) {
		struct event *e = find_event(w, w->id, SOCKET_SEND);
		assert_non_null(e);
		assert_int_equal(e->opaque, ME);
		assert_int_equal(e->ud, strlen(want[i]));
		assert_memory_equal(e->data, want[i], strlen(want[i]));
	}
	assert_null(find_event(w, w->id, SOCKET_SEND));
	struct socket_sendbuffer b = {w->id, SOCKET_BUFFER_RAWPOINTER, "raw", 3};
	assert_int_equal(socket_server_send_raw(w->ss, &b), 0);
	assert_int_equal(socket_server_relay(w->ss, w->id, false), 0);
	assert_int_equal(send_text(w, w->id, "direct"), 0);
	char got[9];
	assert_int_equal(drain_plain(w, w->client, got, 9), 9);
	assert_memory_equal(got, "rawdirect", 9);
}

static void
relays_of_dead_ids_fail_and_free(void **state) {
	struct world *w = *state;
	socket_server_relay(w->ss, w->id, true);
	socket_server_close(w->ss, ME, w->id);
	assert_int_equal(send_fill(w, w->id, 'x', 100, false), -1);
	struct socket_sendbuffer b = {w->id, SOCKET_BUFFER_MEMORY, malloc(10), 10};
	assert_int_equal(socket_server_send_raw(w->ss, &b), -1);
	settle(w);
	assert_int_equal(socket_server_relay(w->ss, w->id, true), -1);
	assert_null(find_event(w, w->id, SOCKET_SEND));
}

static void
a_hundred_thousand_sends_queue_without_waiting(void **state) {
	struct world *w = *state;
	int port, client;
	int listener = start_listener(w, &port);
	int id = accept_plain(w, listener, port, &client);
	enum { N = 100000 };
	for (int i = 0; i < N; i++) {
		assert_int_equal(send_text(w, id, "0123456789"), 0);
	}
	socket_server_start(w->ss, ME, id);
	assert_int_equal(drain_plain(w, client, NULL, N * 10), N * 10);
	close(client);
}

// The writer is pretended: no thread can be held inside a write call from outside.
static void
a_start_behind_the_end_is_refused_though_a_writer_keeps_the_slot(void **state) {
	struct world *w = *state;
	struct socket_slot *s = slot_lock(w->ss, w->id);
	s->writer_active = true;
	slot_unlock(s);
	loop_abort(s->loop, s, "ended");
	assert_string_equal(await(w, w->id, SOCKET_ERR)->data, "ended");
	socket_server_start(w->ss, OTHER, w->id);
	struct event *refusal = await(w, w->id, SOCKET_ERR);
	assert_string_equal(refusal->data, "socket closed");
	assert_int_equal(refusal->opaque, OTHER);
	s = slot_lock(w->ss, w->id);
	s->writer_active = false;
	slot_unlock(s);
}

static const struct CMUnitTest claims[] = {
    CLAIM(a_hundred_thousand_sends_queue_without_waiting),
    CONNECTED_CLAIM(peer_close_leaves_the_id_writable),
    NARROW_CLAIM(graceful_close_delivers_what_was_sent),
    CONNECTED_CLAIM(graceful_close_survives_unread_input),
    NARROW_CLAIM(abortive_close_drops_what_was_sent),
    NARROW_CLAIM(a_peer_that_never_reads_is_given_up),
    CLAIM(close_before_start_delivers_queued_bytes),
    CLAIM(bytes_sent_before_start_go_out_at_start),
    CLAIM(sends_to_dead_ids_fail_and_free),
    CLAIM(sending_to_a_listener_is_accepted_and_dropped),
    NARROW_CLAIM(low_priority_waits_for_high),
    NARROW_CLAIM(backlog_warns_at_doubling_levels_and_when_drained),
    NARROW_CLAIM(one_huge_send_warns_too),
    CONNECTED_CLAIM(broken_write_is_an_error_and_then_refused),
    CONNECTED_CLAIM(what_came_before_a_broken_write_is_told_before_the_error),
    CONNECTED_CLAIM(bytes_sent_later_go_out_with_flush),
    CONNECTED_CLAIM(bytes_sent_later_survive_close),
    CONNECTED_CLAIM(bytes_sent_later_go_out_together_with_the_end),
    CONNECTED_CLAIM(bytes_sent_later_do_not_wait_for_a_loop_that_sleeps),
    CONNECTED_CLAIM(bytes_sent_later_survive_close_with_unread_input),
    NARROW_CLAIM(many_bytes_sent_later_survive_close),
    CONNECTED_CLAIM(bytes_sent_later_to_who_has_gone_do_no_harm),
    CONNECTED_CLAIM(bytes_sent_later_survive_the_end_of_the_server),
    CONNECTED_CLAIM(other_sends_take_later_ones_along_in_order),
    CONNECTED_CLAIM(user_objects_go_through_their_adapter),
    CONNECTED_CLAIM(empty_sends_succeed_and_do_nothing),
    CONNECTED_CLAIM(relayed_sends_go_to_the_owner),
    CONNECTED_CLAIM(relays_of_dead_ids_fail_and_free),
    CONNECTED_CLAIM(a_start_behind_the_end_is_refused_though_a_writer_keeps_the_slot),
};

int
main(void) {
	return RUN_CLAIMS(claims);
}
