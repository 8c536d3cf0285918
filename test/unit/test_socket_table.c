// Attached descriptors, snapshots, ids, owners, requests, time limits.
#include "socket_world.h"

static atomic_int wakes;

//--------------------------------------------------------- attached, snapshot

static void
attached_pipe_reads_and_detaches(void **state) {
	struct world *w = *state;
	int fd[2];
	assert_int_equal(pipe(fd), 0);
	int id = socket_server_bind(w->ss, ME, fd[0]);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "binding");
	assert_int_equal(write(fd[1], "line\n", 5), 5);
	assert_int_equal(await(w, id, SOCKET_DATA)->ud, 5);
	struct socket_info si;
	assert_non_null(info_of(w, id, &si));
	assert_int_equal(si.type, SOCKET_INFO_BIND);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	assert_int_equal(fcntl(fd[0], F_GETFL) & O_NONBLOCK, 0);
	close(fd[0]);
	close(fd[1]);
}

static void
attached_pipe_writes_through_the_queue(void **state) {
	struct world *w = *state;
	int fd[2];
	char got[8];
	assert_int_equal(pipe(fd), 0);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	// A write end that is also readable would be a socket; the poller takes it.
	int id = socket_server_bind(w->ss, ME, fd[1]);
	assert_int_equal(send_text(w, id, "out"), 0);
	await(w, id, SOCKET_OPEN);
	settle(w);
	assert_int_equal(read(fd[0], got, sizeof(got)), 3);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	close(fd[0]);
	close(fd[1]);
}

static void
end_of_an_attached_pipe_is_close(void **state) {
	struct world *w = *state;
	int fd[2];
	assert_int_equal(pipe(fd), 0);
	int id = socket_server_bind(w->ss, ME, fd[0]);
	await(w, id, SOCKET_OPEN);
	assert_int_equal(write(fd[1], "last", 4), 4);
	close(fd[1]);
	await(w, id, SOCKET_CLOSE);
	assert_int_equal(count_events(w, id, SOCKET_DATA), 1);
	socket_server_close(w->ss, ME, id);
	settle(w);
	assert_false(is_alive(w, id));
	close(fd[0]);
}

static void
a_regular_file_cannot_be_attached(void **state) {
	struct world *w = *state;
	char name[] = "/tmp/skynet-socket-XXXXXX";
	int fd = mkstemp(name);
	unlink(name);
	int id = socket_server_bind(w->ss, ME, fd);
	assert_memory_equal(await(w, id, SOCKET_ERR)->data, "bind fd ", 8);
	assert_false(is_alive(w, id));
	close(fd);
}

static void
snapshot_lists_newest_first_with_counters(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	assert_int_equal(write(client, "12345", 5), 5);
	await(w, id, SOCKET_DATA);
	send_text(w, id, "abc");
	struct socket_info *list = socket_server_info(w->ss);
	assert_int_equal(list->id, id);
	assert_int_equal(list->type, SOCKET_INFO_TCP);
	assert_int_equal(list->read, 5);
	assert_int_equal(list->write, 3);
	assert_int_equal(list->rtime, 4711);
	assert_int_equal(list->wtime, 4711);
	assert_int_equal(list->opaque, ME);
	assert_int_equal(list->reading, 1);
	assert_memory_equal(list->name, "127.0.0.1:", 10);
	assert_int_equal(list->next->type, SOCKET_INFO_LISTEN);
	assert_null(list->next->next);
	socket_info_release(list);
	close(client);
}

static void
snapshot_leaves_out_what_has_not_begun(void **state) {
	struct world *w = *state;
	struct socket_info si;
	int client;
	int waiting = socket_server_listen(w->ss, ME, "127.0.0.1", 0, 32);
	int port = await(w, waiting, SOCKET_OPEN)->ud;
	assert_null(info_of(w, waiting, &si));
	int connecting = socket_server_connect(w->ss, ME, "127.0.0.1", port);
	assert_null(info_of(w, connecting, &si));
	await(w, connecting, SOCKET_OPEN);
	assert_non_null(info_of(w, connecting, &si));
	socket_server_start(w->ss, ME, waiting);
	await(w, waiting, SOCKET_ACCEPT);
	int id = accept_plain(w, waiting, port, &client);
	assert_null(info_of(w, id, &si));
	assert_non_null(info_of(w, waiting, &si));
	socket_server_start(w->ss, ME, id);
	await(w, id, SOCKET_OPEN);
	assert_non_null(info_of(w, id, &si));
	close(client);
}

//------------------------------------------------------ ids, owners, requests

static void
ids_count_up_and_survive_growth_and_wrap(void **state) {
	struct world *w = *state;
	enum { N = 5000 };
	struct socket_slot *held = slot_reserve(w->ss, ME, KIND_STREAM, SLOT_RESERVED);
	int first = slot_publish(held);
	assert_int_equal(first, 1);
	for (int i = 2; i <= N; i++) {
		assert_int_equal(slot_publish(slot_reserve(w->ss, ME, KIND_STREAM, SLOT_RESERVED)), i);
	}
	for (int i = 2; i <= N; i++) {
		slot_free(w->ss, slot_of_loop(&w->ss->loops[0], i));
		assert_false(is_alive(w, i));
	}
	assert_ptr_equal(slot_of_loop(&w->ss->loops[0], 1), held);
	w->ss->slots.last_id = INT_MAX - 1;
	assert_int_equal(slot_publish(slot_reserve(w->ss, ME, KIND_STREAM, SLOT_RESERVED)), INT_MAX);
	// 1 is still in use.
	assert_int_equal(slot_publish(slot_reserve(w->ss, ME, KIND_STREAM, SLOT_RESERVED)), 2);
}

static void
owner_exit_closes_what_it_owns_silently(void **state) {
	struct world *w = *state;
	int port, client;
	int listener = start_listener(w, &port);
	int id = accept_plain(w, listener, port, &client);
	socket_server_start(w->ss, OTHER, id);
	await(w, id, SOCKET_OPEN);
	assert_int_equal(send_text(w, id, "bye"), 0);
	socket_server_owner_exit(w->ss, OTHER);
	socket_server_owner_exit(w->ss, 0x99);
	char got[4];
	assert_int_equal(drain_plain(w, client, got, 4), 3);
	assert_int_equal(count_events(w, id, SOCKET_CLOSE), 0);
	assert_false(is_alive(w, id));
	assert_true(is_alive(w, listener));
	socket_server_owner_exit(w->ss, ME);
	settle(w);
	assert_false(is_alive(w, listener));
	close(client);
}

static const struct poller_ops *real_ops;

static void
counting_wake(struct poller *p) {
	atomic_fetch_add(&wakes, 1);
	real_ops->wake(p);
}

static void *
post_many(void *ud) {
	struct world *w = ud;
	while (!atomic_load(&w->ss->loops[0].waiting)) {
		sched_yield();
	}
	for (int i = 0; i < 1000; i++) {
		socket_server_start(w->ss, ME, 1000000 + i);
	}
	return NULL;
}

static void
many_requests_need_few_wakes(void **state) {
	(void)state;
	struct poller_ops counting = *ops;
	real_ops = ops;
	counting.wake = counting_wake;
	atomic_store(&wakes, 0);
	struct world w = {0};
	pthread_t pid;
	w.ss = socket_server_create_with(&counting, 1, clock_of_test, sink, &w);
	// Nobody waits: no wake at all.
	socket_server_start(w.ss, ME, 1);
	assert_int_equal(atomic_load(&wakes), 0);
	await(&w, 1, SOCKET_ERR);
	pthread_create(&pid, NULL, post_many, &w);
	for (int i = 0; i < 1000; i++) {
		await(&w, 1000000 + i, SOCKET_ERR);
	}
	pthread_join(pid, NULL);
	assert_in_range(atomic_load(&wakes), 1, 1000);
	socket_server_release(w.ss);
	for (int i = 0; i < w.n; i++) {
		free(w.ev[i].data);
	}
	free(w.ev);
}

static void
exit_ends_polling_and_busy_loops_are_told(void **state) {
	struct world *w = *state;
	pthread_mutex_lock(&w->ss->loops[0].turn);
	assert_int_equal(socket_server_poll(w->ss, 0, 0, true), SOCKET_POLL_BUSY);
	pthread_mutex_unlock(&w->ss->loops[0].turn);
	socket_server_wake(w->ss, 0);
	assert_int_equal(socket_server_poll(w->ss, 0, -1, true), 0);
	socket_server_exit(w->ss);
	assert_int_equal(socket_server_poll(w->ss, 0, -1, false), SOCKET_POLL_EXIT);
	assert_int_equal(socket_server_poll(w->ss, 0, -1, false), SOCKET_POLL_EXIT);
}

static void
release_frees_everything_silently(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	send_fill(w, id, 'x', 4 * MiB, false);
	send_fill(w, id, 'x', 1000, true);
	socket_server_udp(w->ss, ME, NULL, 0);
	socket_server_connect(w->ss, ME, "127.0.0.1", 1);
	socket_server_connect(w->ss, ME, "localhost", 1);
	// teardown does the rest, under the leak checker
	close(client);
}

static void
resolve_gives_each_address_once(void **state) {
	struct world *w = *state;
	const char *error = NULL;
	char *list = socket_server_resolve(w->ss, "127.0.0.1", &error);
	assert_string_equal(list, "127.0.0.1");
	assert_string_equal(list + strlen(list) + 1, "");
	free(list);
	list = socket_server_resolve(w->ss, "localhost", &error);
	assert_non_null(list);
	int n = 0;
	for (char *p = list; *p != '\0'; p += strlen(p) + 1) {
		n += strcmp(p, "127.0.0.1") == 0;
	}
	assert_int_equal(n, 1);
	free(list);
	assert_null(socket_server_resolve(w->ss, NO_HOST, &error));
	assert_string_equal(error, "Name or service not known");
}

static void
deadlines_come_out_in_order(void **state) {
	struct world *w = *state;
	enum { N = 200 };
	struct socket_slot *s[N];
	struct socket_loop *loop = &w->ss->loops[0];
	unsigned r = 12345;
	assert_int_equal(deadline_timeout(loop, -1), -1);
	for (int i = 0; i < N; i++) {
		s[i] = slot_reserve(w->ss, ME, KIND_STREAM, SLOT_RESERVED);
		slot_publish(s[i]);
		r = r * 1103515245 + 12345;
		deadline_set(loop, s[i], (r >> 8) % 100000 + 600000);
	}
	for (int i = 0; i < N; i += 3) {
		deadline_clear(loop, s[i]);
	}
	assert_in_range(deadline_timeout(loop, -1), 1, 700001);
	assert_int_equal(deadline_timeout(loop, 5), 5);
	assert_null(deadline_take(loop, deadline_now_ms()));
	uint64_t last = 0;
	int n = 0;
	struct socket_slot *next;
	while ((next = deadline_take(loop, UINT64_MAX)) != NULL) {
		assert_true(next->deadline_ms >= last);
		last = next->deadline_ms;
		n++;
	}
	assert_int_equal(n, N - (N + 2) / 3);
}

static void
the_longest_address_is_not_cut(void **state) {
	(void)state;
	char text[ADDRESS_TEXT_SIZE];
	struct socket_udp_address a;
	const char *const longest = "fd12:3456:789a:bcde:f012:3456:789a:bcde";
	struct address_list *list = address_list_numeric(longest, 65535, SOCK_STREAM);
	address_from_sockaddr(&a, &list->addr[0].any);
	free(list);
	address_text(&a, text);
	assert_string_equal(text, "fd12:3456:789a:bcde:f012:3456:789a:bcde:65535");
}

static void
addresses_are_written_as_the_system_does(void **state) {
	(void)state;
	static const char *const host[] = {
	    "0.0.0.0", "255.255.255.255", "127.0.0.1", "10.20.30.4", "100.101.9.99", "::", "::1",
	};
	static const int port[] = {0, 7, 80, 1000, 40960, 65535};
	for (size_t i = 0; i < sizeof(host) / sizeof(host[0]); i++) {
		for (size_t k = 0; k < sizeof(port) / sizeof(port[0]); k++) {
			char text[ADDRESS_TEXT_SIZE];
			char expected[ADDRESS_TEXT_SIZE];
			struct socket_udp_address a;
			struct address_list *list = address_list_numeric(host[i], port[k], SOCK_STREAM);
			address_from_sockaddr(&a, &list->addr[0].any);
			free(list);
			address_ip_text(&a, text);
			assert_string_equal(text, host[i]);
			snprintf(expected, sizeof(expected), "%s:%d", host[i], port[k]);
			address_text(&a, text);
			assert_string_equal(text, expected);
		}
	}
	struct socket_udp_address none = {{0}};
	char text[ADDRESS_TEXT_SIZE] = "x";
	address_text(&none, text);
	assert_string_equal(text, "");
}

static int
refusing_add(struct poller *p, int fd, uintptr_t tag, bool want_read, bool want_write) {
	(void)p, (void)fd, (void)tag, (void)want_read, (void)want_write;
	errno = ENOSPC;
	return -1;
}

// Every way to get a descriptor into the poller, with one that takes none.
static void
a_full_poller_is_told_once_and_leaks_nothing(void **state) {
	(void)state;
	struct poller_ops refusing = *ops;
	struct world w = {0};
	int pair[2];
	refusing.add = refusing_add;
	w.ss = socket_server_create_with(&refusing, 1, clock_of_test, sink, &w);
	assert_int_equal(pipe(pair), 0);
	int id[] = {
	    socket_server_listen(w.ss, ME, "127.0.0.1", 0, 1), socket_server_udp(w.ss, ME, NULL, 0),
	    socket_server_udp_dial(w.ss, ME, "127.0.0.1", 9),  socket_server_bind(w.ss, ME, pair[0]),
	    socket_server_connect(w.ss, ME, "127.0.0.1", 1),
	};
	for (size_t i = 0; i < sizeof(id) / sizeof(id[0]); i++) {
		struct event *e = await(&w, id[i], SOCKET_ERR);
		// A connect may have been refused before it came to the poller.
		assert_true(strstr(e->data, "No space left") != NULL ||
		            strcmp(e->data, "Connection refused") == 0);
		assert_false(is_alive(&w, id[i]));
	}
	// The two for datagrams were open before they came to the poller.
	await(&w, id[1], SOCKET_CLOSE);
	await(&w, id[2], SOCKET_CLOSE);
	settle(&w);
	assert_int_equal(w.n, 7);
	socket_server_release(w.ss);
	for (int i = 0; i < w.n; i++) {
		free(w.ev[i].data);
	}
	free(w.ev);
	close(pair[0]);
	close(pair[1]);
}

static void
an_exclusive_socket_obeys_its_owner_only(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	struct socket_option exclusive = {SOCKET_OPTION_EXCLUSIVE, 1};
	assert_int_equal(socket_server_option(w->ss, 0, id, &exclusive, 1), 0);
	socket_server_close(w->ss, OTHER, id);
	socket_server_shutdown(w->ss, OTHER, id);
	socket_server_pause(w->ss, OTHER, id);
	exclusive.value = 0;
	assert_int_equal(socket_server_option(w->ss, OTHER, id, &exclusive, 1), -1);
	socket_server_start(w->ss, OTHER, id);
	struct event *e = await(w, id, SOCKET_ERR);
	assert_int_equal(e->opaque, OTHER);
	assert_string_equal(e->data, "invalid socket");
	assert_int_equal(send_text(w, id, "still"), 0);
	assert_int_equal(write(client, "x", 1), 1);
	assert_int_equal(await(w, id, SOCKET_DATA)->opaque, ME);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	assert_false(is_alive(w, id));
	close(client);
}

static const struct CMUnitTest claims[] = {
    CLAIM(an_exclusive_socket_obeys_its_owner_only),
    CLAIM(the_longest_address_is_not_cut),
    CLAIM(addresses_are_written_as_the_system_does),
    cmocka_unit_test(a_full_poller_is_told_once_and_leaks_nothing),
    CLAIM(attached_pipe_reads_and_detaches),
    CLAIM(attached_pipe_writes_through_the_queue),
    CLAIM(end_of_an_attached_pipe_is_close),
    CLAIM(a_regular_file_cannot_be_attached),
    CLAIM(snapshot_lists_newest_first_with_counters),
    CLAIM(snapshot_leaves_out_what_has_not_begun),
    CLAIM(ids_count_up_and_survive_growth_and_wrap),
    CLAIM(owner_exit_closes_what_it_owns_silently),
    cmocka_unit_test(many_requests_need_few_wakes),
    CLAIM(exit_ends_polling_and_busy_loops_are_told),
    CLAIM(release_frees_everything_silently),
    CLAIM(resolve_gives_each_address_once),
    CLAIM(deadlines_come_out_in_order),
};

int
main(void) {
	return RUN_CLAIMS(claims);
}
