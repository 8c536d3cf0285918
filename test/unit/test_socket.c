// The socket server through its inner API, without services, against plain blocking
// sockets; once over each poller. Claims of net.md 1.22 and 2.6, and what
// section 14.1 asks for.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "socket_impl.h"

#ifdef __linux__
#include <sys/event.h>
#endif

#define ME ((uintptr_t)0x11)
#define OTHER ((uintptr_t)0x22)
#define MiB (1024 * 1024)

struct event {
	int type;
	int id;
	int ud;
	uintptr_t opaque;
	char *data;	// text, or bytes of DATA and UDP
	bool is_taken;
};

struct world {
	struct socket_server *ss;
	struct event *ev;
	int n;
	int cap;
};

static const struct poller_ops *ops;
static atomic_int wakes;

static uint64_t
clock_of_test(void) {
	return 4711;
}

static void
sink(void *ud, int type, struct socket_message *m) {
	struct world *w = ud;
	if (w->n == w->cap) {
		w->cap = w->cap == 0 ? 64 : w->cap * 2;
		w->ev = realloc(w->ev, (size_t)w->cap * sizeof(w->ev[0]));
	}
	bool is_text = type != SOCKET_DATA && type != SOCKET_UDP && m->data != NULL;
	w->ev[w->n++] = (struct event){
		.type = type, .id = m->id, .ud = m->ud, .opaque = m->opaque,
		.data = is_text ? strdup(m->data) : m->data,
	};
}

static int
setup(void **state) {
	struct world *w = calloc(1, sizeof(*w));
	w->ss = socket_server_create_with(ops, clock_of_test, sink, w);
	assert_non_null(w->ss);
	*state = w;
	return 0;
}

static int
teardown(void **state) {
	struct world *w = *state;
	socket_server_release(w->ss);
	for (int i = 0; i < w->n; i++) {
		free(w->ev[i].data);
	}
	free(w->ev);
	free(w);
	return 0;
}

//------------------------------------------------------------------- helpers

static struct event *
find_event(struct world *w, int id, int type) {
	for (int i = 0; i < w->n; i++) {
		struct event *e = &w->ev[i];
		if (!e->is_taken && e->id == id && e->type == type) {
			e->is_taken = true;
			return e;
		}
	}
	return NULL;
}

// Polls until an event of that id and type is there. Polling is what a test waits
// with; alarm() in main is the limit.
static struct event *
await(struct world *w, int id, int type) {
	struct event *e;
	while ((e = find_event(w, id, type)) == NULL) {
		assert_true(socket_server_poll(w->ss, -1, false) >= 0);
	}
	return e;
}

// Serves all requests so far and everything that is ready.
static void
settle(struct world *w) {
	while (socket_server_poll(w->ss, 0, false) > 0) {
	}
	socket_server_poll(w->ss, 0, false);
}

static int
count_events(struct world *w, int id, int type) {
	int n = 0;
	for (int i = 0; i < w->n; i++) {
		n += w->ev[i].id == id && w->ev[i].type == type;
	}
	return n;
}

static int
send_text(struct world *w, int id, const char *text) {
	struct socket_sendbuffer b = { id, SOCKET_BUFFER_RAWPOINTER, text, strlen(text) };
	return socket_server_send(w->ss, &b);
}

static int
send_fill(struct world *w, int id, char c, size_t sz, bool is_low) {
	char *p = malloc(sz);
	memset(p, c, sz);
	struct socket_sendbuffer b = { id, SOCKET_BUFFER_MEMORY, p, sz };
	return is_low ? socket_server_send_lowpriority(w->ss, &b) : socket_server_send(w->ss, &b);
}

static int
start_listener(struct world *w, int *port) {
	int id = socket_server_listen(w->ss, ME, "127.0.0.1", 0, 32);
	assert_true(id > 0);
	*port = await(w, id, SOCKET_OPEN)->ud;
	socket_server_start(w->ss, ME, id);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "start");
	return id;
}

static int
plain_connect(int port) {
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

// A plain client and the id of its connection, started unless told otherwise.
static int
accept_plain(struct world *w, int listener, int port, int *client) {
	*client = plain_connect(port);
	return await(w, listener, SOCKET_ACCEPT)->ud;
}

static int
accept_started(struct world *w, int *client) {
	int port;
	int listener = start_listener(w, &port);
	int id = accept_plain(w, listener, port, client);
	socket_server_start(w->ss, ME, id);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "start");
	return id;
}

static void
reset_on_close(int fd) {
	struct linger l = { 1, 0 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

// Reads with polling in between until `want` bytes or the end of the stream came.
static size_t
drain_plain(struct world *w, int fd, char *out, size_t want) {
	static char buf[256 * 1024];
	size_t total = 0;
	while (total < want) {
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0) {
			if (out != NULL) {
				memcpy(out + total, buf, (size_t)n);
			}
			total += (size_t)n;
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			break;
		} else {
			socket_server_poll(w->ss, 1, false);
		}
	}
	return total;
}

static bool
plain_has_ended(struct world *w, int fd) {
	char c;
	ssize_t n;
	while ((n = recv(fd, &c, 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN) {
		socket_server_poll(w->ss, 1, false);
	}
	return n <= 0;
}

static size_t
data_of(struct world *w, int id, char *out) {
	size_t n = 0;
	for (int i = 0; i < w->n; i++) {
		struct event *e = &w->ev[i];
		if (e->id == id && e->type == SOCKET_DATA) {
			memcpy(out + n, e->data, (size_t)e->ud);
			n += (size_t)e->ud;
		}
	}
	return n;
}

static struct socket_info *
info_of(struct world *w, int id, struct socket_info *copy) {
	struct socket_info *list = socket_server_info(w->ss);
	struct socket_info *found = NULL;
	for (struct socket_info *si = list; si != NULL; si = si->next) {
		if (si->id == id) {
			*copy = *si;
			found = copy;
		}
	}
	socket_info_release(list);
	return found;
}

static int
fd_of(struct world *w, int id) {
	struct socket_slot *s = slot_lock(w->ss, id);
	assert_non_null(s);
	int fd = s->fd;
	slot_unlock(s);
	return fd;
}

static bool
is_alive(struct world *w, int id) {
	struct socket_slot *s = slot_lock(w->ss, id);
	if (s != NULL) {
		slot_unlock(s);
	}
	return s != NULL;
}

// A small kernel buffer on our side, and none to speak of on the peer's, so that
// queues fill soon.
static void
shrink_buffers(struct world *w, int id, int client) {
	int sz = 32 * 1024;
	setsockopt(fd_of(w, id), SOL_SOCKET, SO_SNDBUF, &sz, sizeof(sz));
	setsockopt(client, SOL_SOCKET, SO_RCVBUF, &sz, sizeof(sz));
}

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
	assert_int_equal(socket_server_listen(w->ss, ME, "no.such.host.invalid", 80, 32), -1);
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
	int port;
	int listener = start_listener(w, &port);
	socket_server_close(w->ss, ME, listener);
	await(w, listener, SOCKET_CLOSE);
	int id = socket_server_connect(w->ss, ME, "127.0.0.1", port);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "Connection refused");
	settle(w);
	assert_false(is_alive(w, id));
	assert_int_equal(count_events(w, id, SOCKET_CLOSE), 0);
}

static void
unknown_name_is_an_error(void **state) {
	struct world *w = *state;
	int id = socket_server_connect(w->ss, ME, "no.such.host.invalid", 80);
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
closing_a_connect_under_way_tells_close_only(void **state) {
	struct world *w = *state;
	int id = socket_server_connect(w->ss, ME, "no.such.host.invalid", 80);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	assert_false(is_alive(w, id));
	assert_int_equal(send_text(w, id, "x"), -1);
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
	settle(w);
	assert_int_equal(count_events(w, id, SOCKET_DATA), 0);
	socket_server_start(w->ss, ME, id);
	for (int done = 8138; done < N;) {
		ssize_t n = send(client, sent + done, (size_t)(N - done), MSG_DONTWAIT);
		done += n > 0 ? (int)n : 0;
		socket_server_poll(w->ss, 0, false);
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

//----------------------------------------------------------- close and write

static void
peer_close_leaves_the_id_writable(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	shutdown(client, SHUT_WR);
	await(w, id, SOCKET_CLOSE);
	assert_int_equal(send_text(w, id, "late"), 0);
	char got[4];
	assert_int_equal(drain_plain(w, client, got, 4), 4);
	socket_server_close(w->ss, ME, id);
	assert_true(plain_has_ended(w, client));
	assert_int_equal(count_events(w, id, SOCKET_CLOSE), 1);
	assert_false(is_alive(w, id));
	assert_int_equal(send_text(w, id, "x"), -1);
	close(client);
}

static void
graceful_close_delivers_what_was_sent(void **state) {
	struct world *w = *state;
	enum { N = 3 * MiB };
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	char *got = malloc(N);
	assert_int_equal(send_fill(w, id, 'z', N, false), 0);
	socket_server_close(w->ss, ME, id);
	assert_int_equal(send_text(w, id, "refused"), -1);
	await(w, id, SOCKET_CLOSE);
	struct socket_info si;
	assert_non_null(info_of(w, id, &si));
	assert_int_equal(si.type, SOCKET_INFO_CLOSING);
	assert_true(si.wbuffer > 0);
	assert_int_equal(drain_plain(w, client, got, N), N);
	assert_int_equal(got[N - 1], 'z');
	assert_true(plain_has_ended(w, client));
	settle(w);
	assert_false(is_alive(w, id));
	assert_int_equal(count_events(w, id, SOCKET_CLOSE), 1);
	free(got);
	close(client);
}

static void
graceful_close_survives_unread_input(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	socket_server_pause(w->ss, ME, id);
	settle(w);
	assert_int_equal(write(client, "never read", 10), 10);
	assert_int_equal(send_text(w, id, "answer"), 0);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	settle(w);
	char got[8];
	assert_int_equal(recv(client, got, sizeof(got), 0), 6);
	assert_int_equal(recv(client, got, sizeof(got), 0), 0);
	close(client);
}

static void
abortive_close_drops_what_was_sent(void **state) {
	struct world *w = *state;
	enum { N = 8 * MiB };
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	assert_int_equal(send_fill(w, id, 'z', N, false), 0);
	socket_server_shutdown(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	assert_false(is_alive(w, id));
	assert_true(drain_plain(w, client, NULL, N) < N);
	close(client);
}

static void
a_peer_that_never_reads_is_given_up(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	socket_server_set_linger(w->ss, 20);
	assert_int_equal(send_fill(w, id, 'z', 2 * MiB, false), 0);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	while (is_alive(w, id)) {
		socket_server_poll(w->ss, -1, false);
	}
	close(client);
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
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	char *got = malloc(H1 + 5 * REST);
	send_fill(w, id, '1', H1, false);
	send_fill(w, id, 'a', REST, true);
	send_fill(w, id, 'b', REST, true);
	send_fill(w, id, '2', REST, false);
	send_fill(w, id, 'c', REST, true);
	send_fill(w, id, '3', REST, false);
	assert_int_equal(drain_plain(w, client, got, H1 + 5 * REST), H1 + 5 * REST);
	const char *order = "23abc";
	for (int i = 0; i < 5; i++) {
		assert_int_equal(got[H1 + i * REST], order[i]);
		assert_int_equal(got[H1 + i * REST + REST - 1], order[i]);
	}
	free(got);
	close(client);
}

static void
backlog_warns_at_doubling_levels_and_when_drained(void **state) {
	struct world *w = *state;
	enum { PIECE = 128 * 1024, PIECES = 80 };
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	for (int i = 0; i < PIECES; i++) {
		assert_int_equal(send_fill(w, id, 'w', PIECE, false), 0);
	}
	int last = 512;
	for (int level = 1024; level <= 8192; level *= 2) {
		struct event *e = await(w, id, SOCKET_WARNING);
		assert_in_range(e->ud, level, level + 128);
		assert_true(e->ud > last);
		last = e->ud;
	}
	struct socket_info si;
	assert_non_null(info_of(w, id, &si));
	assert_true(si.writing && si.wbuffer > 8 * MiB);
	assert_int_equal(drain_plain(w, client, NULL, (size_t)PIECE * PIECES),
		(size_t)PIECE * PIECES);
	assert_int_equal(await(w, id, SOCKET_WARNING)->ud, 0);
	assert_null(find_event(w, id, SOCKET_WARNING));
	close(client);
}

static void
one_huge_send_warns_too(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	shrink_buffers(w, id, client);
	send_fill(w, id, 'w', 16 * MiB, false);
	assert_in_range(await(w, id, SOCKET_WARNING)->ud, 8 * 1024, 16 * 1024);
	send_fill(w, id, 'w', 10, false);
	settle(w);
	assert_null(find_event(w, id, SOCKET_WARNING));
	close(client);
}

static void
broken_write_is_an_error_and_then_refused(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	socket_server_pause(w->ss, ME, id);
	shrink_buffers(w, id, client);
	send_fill(w, id, 'w', 4 * MiB, false);
	settle(w);
	reset_on_close(client);
	close(client);
	await(w, id, SOCKET_ERR);
	settle(w);
	assert_int_equal(send_text(w, id, "x"), -1);
	socket_server_shutdown(w->ss, ME, id);
	settle(w);
	assert_false(is_alive(w, id));
	assert_int_equal(count_events(w, id, SOCKET_CLOSE), 1);
}

static int
send_later(struct world *w, int id, const char *text) {
	struct socket_sendbuffer b = { id, SOCKET_BUFFER_RAWPOINTER, text, strlen(text) };
	return socket_server_send_later(w->ss, &b);
}

static void
bytes_sent_later_go_out_with_flush(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	assert_int_equal(send_later(w, id, "one "), 0);
	assert_int_equal(send_later(w, id, "two "), 0);
	settle(w);
	char got[16];
	assert_int_equal(recv(client, got, sizeof(got), MSG_DONTWAIT), -1);
	socket_server_flush(w->ss, id);
	assert_int_equal(recv(client, got, sizeof(got), 0), 8);
	assert_memory_equal(got, "one two ", 8);
	socket_server_flush(w->ss, id);
	socket_server_flush(w->ss, 999);
	assert_int_equal(send_later(w, 999, "x"), -1);
	close(client);
}

static void
bytes_sent_later_survive_close(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	assert_int_equal(send_later(w, id, "last words"), 0);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	settle(w);
	socket_server_flush(w->ss, id);
	char got[16];
	assert_int_equal(drain_plain(w, client, got, sizeof(got)), 10);
	assert_false(is_alive(w, id));
	close(client);
}

static void
other_sends_take_later_ones_along_in_order(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	assert_int_equal(send_later(w, id, "first "), 0);
	assert_int_equal(send_text(w, id, "second"), 0);
	char got[12];
	assert_int_equal(drain_plain(w, client, got, 12), 12);
	assert_memory_equal(got, "first second", 12);
	close(client);
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
	struct socket_object_interface adapter = { object_buffer, object_size, object_free };
	int client;
	int id = accept_started(w, &client);
	struct socket_sendbuffer b = { id, SOCKET_BUFFER_OBJECT, "static", 0 };
	assert_int_equal(socket_server_send(w->ss, &b), -1);
	socket_server_userobject(w->ss, &adapter);
	objects_freed = 0;
	b.buffer = strdup("object");
	assert_int_equal(socket_server_send(w->ss, &b), 0);
	b.buffer = strdup("queued");
	assert_int_equal(socket_server_send_lowpriority(w->ss, &b), 0);
	char got[12];
	assert_int_equal(drain_plain(w, client, got, 12), 12);
	assert_memory_equal(got, "objectqueued", 12);
	b.id = 999;
	b.buffer = strdup("refused");
	assert_int_equal(socket_server_send(w->ss, &b), -1);
	assert_int_equal(objects_freed, 3);
	close(client);
}

static void
empty_sends_succeed_and_do_nothing(void **state) {
	struct world *w = *state;
	int client;
	int id = accept_started(w, &client);
	assert_int_equal(send_text(w, id, ""), 0);
	assert_int_equal(send_fill(w, id, 'x', 0, true), 0);
	assert_int_equal(send_text(w, id, "a"), 0);
	char got[2];
	assert_int_equal(drain_plain(w, client, got, 1), 1);
	close(client);
}

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
	struct socket_message m = { .id = server, .ud = e->ud, .data = e->data };
	int size = 0;
	const struct socket_udp_address *from = socket_server_udp_address(w->ss, &m, &size);
	assert_int_equal(size, 7);
	assert_int_equal(from->byte[0], 1);
	struct socket_sendbuffer b = { server, SOCKET_BUFFER_RAWPOINTER, "", 0 };
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
	struct socket_message m = { .id = server, .ud = e->ud, .data = e->data };
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
	struct socket_udp_address bad = { { 3 } };
	struct socket_udp_address six = { { ADDRESS_V6 } };
	struct socket_sendbuffer b = { id, SOCKET_BUFFER_RAWPOINTER, "x", 1 };
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
		slot_free(w->ss, slot_of_loop(&w->ss->loop, i));
		assert_false(is_alive(w, i));
	}
	assert_ptr_equal(slot_of_loop(&w->ss->loop, 1), held);
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
	while (!atomic_load(&w->ss->loop.waiting)) {
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
	struct world w = { 0 };
	pthread_t pid;
	w.ss = socket_server_create_with(&counting, clock_of_test, sink, &w);
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
	pthread_mutex_lock(&w->ss->loop.turn);
	assert_int_equal(socket_server_poll(w->ss, 0, true), SOCKET_POLL_BUSY);
	pthread_mutex_unlock(&w->ss->loop.turn);
	socket_server_wake(w->ss);
	assert_int_equal(socket_server_poll(w->ss, -1, true), 0);
	socket_server_exit(w->ss);
	assert_int_equal(socket_server_poll(w->ss, -1, false), SOCKET_POLL_EXIT);
	assert_int_equal(socket_server_poll(w->ss, -1, false), SOCKET_POLL_EXIT);
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
	assert_null(socket_server_resolve(w->ss, "no.such.host.invalid", &error));
	assert_string_equal(error, "Name or service not known");
}

static void
deadlines_come_out_in_order(void **state) {
	struct world *w = *state;
	enum { N = 200 };
	struct socket_slot *s[N];
	struct socket_loop *loop = &w->ss->loop;
	unsigned r = 12345;
	assert_int_equal(deadline_timeout(loop, -1), -1);
	for (int i = 0; i < N; i++) {
		s[i] = slot_reserve(w->ss, ME, KIND_STREAM, SLOT_RESERVED);
		slot_publish(s[i]);
		r = r * 1103515245 + 12345;
		deadline_set(loop, s[i], (r >> 8) % 100000 + 1000);
	}
	for (int i = 0; i < N; i += 3) {
		deadline_clear(loop, s[i]);
	}
	assert_in_range(deadline_timeout(loop, -1), 1, 101001);
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

//-------------------------------------------------------------------- stress

struct storm {
	struct world *w;
	int id[4];
	atomic_bool stop;
	unsigned seed;
	size_t sent;
};

static void *
storm_sender(void *ud) {
	struct storm *st = ud;
	unsigned r = st->seed;
	char block[2000];
	memset(block, 's', sizeof(block));
	while (!atomic_load(&st->stop)) {
		r = r * 1103515245 + 12345;
		struct socket_sendbuffer b = { st->id[(r >> 16) % 4], SOCKET_BUFFER_RAWPOINTER, block,
			(r >> 8) % sizeof(block) };
		int ok = (r >> 28) % 3 == 0
			? socket_server_send_lowpriority(st->w->ss, &b)
			: socket_server_send(st->w->ss, &b);
		st->sent += ok == 0 ? b.sz : 0;
		if ((r >> 20) % 64 == 0) {
			socket_info_release(socket_server_info(st->w->ss));
		}
		if ((r >> 20) % 16 == 1) {
			sched_yield();
		}
	}
	return NULL;
}

// Senders on three threads against one loop that reads, while the peers drain: every
// byte that was accepted arrives.
static void
concurrent_senders_lose_nothing(void **state) {
	struct world *w = *state;
	struct storm st[3];
	int port, client[4];
	int listener = start_listener(w, &port);
	size_t received = 0, sent = 0;
	for (int i = 0; i < 4; i++) {
		st[0].id[i] = accept_plain(w, listener, port, &client[i]);
		socket_server_start(w->ss, ME, st[0].id[i]);
		await(w, st[0].id[i], SOCKET_OPEN);
		shrink_buffers(w, st[0].id[i], client[i]);
		fcntl(client[i], F_SETFL, O_NONBLOCK);
	}
	pthread_t pid[3];
	for (int i = 0; i < 3; i++) {
		memcpy(st[i].id, st[0].id, sizeof(st[0].id));
		st[i].w = w;
		st[i].seed = 1000u + (unsigned)i;
		st[i].sent = 0;
		atomic_init(&st[i].stop, false);
		pthread_create(&pid[i], NULL, storm_sender, &st[i]);
	}
	static char buf[65536];
	for (int round = 0; round < 2000; round++) {
		socket_server_poll(w->ss, 0, false);
		for (int i = 0; i < 4; i++) {
			ssize_t n = read(client[i], buf, sizeof(buf));
			received += n > 0 ? (size_t)n : 0;
		}
	}
	for (int i = 0; i < 3; i++) {
		atomic_store(&st[i].stop, true);
		pthread_join(pid[i], NULL);
		sent += st[i].sent;
	}
	for (int i = 0; i < 4; i++) {
		socket_server_close(w->ss, ME, st[0].id[i]);
	}
	for (int i = 0; i < 4; i++) {
		received += drain_plain(w, client[i], NULL, SIZE_MAX);
		close(client[i]);
	}
	assert_int_equal(received, sent);
}

static void *
storm_closer(void *ud) {
	struct storm *st = ud;
	for (int i = 0; i < 4; i++) {
		sched_yield();
		socket_server_shutdown(st->w->ss, ME, st->id[i]);
	}
	return NULL;
}

static void
shutdown_during_sends_is_clean(void **state) {
	struct world *w = *state;
	int port;
	int listener = start_listener(w, &port);
	for (int round = 0; round < 50; round++) {
		struct storm st = { .w = w, .seed = (unsigned)round };
		int client[4];
		pthread_t sender, closer;
		for (int i = 0; i < 4; i++) {
			st.id[i] = accept_plain(w, listener, port, &client[i]);
			socket_server_start(w->ss, ME, st.id[i]);
			await(w, st.id[i], SOCKET_OPEN);
		}
		atomic_init(&st.stop, false);
		pthread_create(&sender, NULL, storm_sender, &st);
		pthread_create(&closer, NULL, storm_closer, &st);
		for (int i = 0; i < 4; i++) {
			await(w, st.id[i], SOCKET_CLOSE);
		}
		atomic_store(&st.stop, true);
		pthread_join(sender, NULL);
		pthread_join(closer, NULL);
		settle(w);
		for (int i = 0; i < 4; i++) {
			assert_false(is_alive(w, st.id[i]));
			close(client[i]);
		}
	}
}

#define CLAIM(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static const struct CMUnitTest claims[] = {
	CLAIM(listen_tells_address_and_start_begins),
	CLAIM(listen_without_host_is_any_ipv4),
	CLAIM(listen_fails_synchronously),
	CLAIM(connect_and_accept_tell_addresses),
	CLAIM(connect_over_ipv6),
	CLAIM(connect_by_name_uses_all_addresses),
	CLAIM(refused_connect_is_an_error),
	CLAIM(unknown_name_is_an_error),
	CLAIM(bad_connect_arguments_are_refused_at_once),
	CLAIM(closing_a_connect_under_way_tells_close_only),
	CLAIM(data_sent_while_connecting_follows_connect),
	CLAIM(new_descriptors_close_on_exec_without_delay),
	CLAIM(many_waiting_connections_are_all_accepted),
	CLAIM(a_paused_listener_does_not_accept),
	CLAIM(out_of_descriptors_is_reported_once_and_survived),
	CLAIM(full_table_refuses_with_a_clear_error),
	CLAIM(start_of_unknown_id_is_an_error_to_the_caller),
	CLAIM(second_start_transfers_and_tells_both),
	CLAIM(start_after_the_peer_closed_is_an_error),
	CLAIM(pause_holds_data_back_until_start),
	CLAIM(data_sent_before_start_arrives_whole_before_close),
	CLAIM(a_flooding_socket_does_not_starve_others),
	CLAIM(reset_is_an_error_then_close_then_gone),
	CLAIM(reset_before_start_is_noticed_at_once),
	CLAIM(peer_close_leaves_the_id_writable),
	CLAIM(graceful_close_delivers_what_was_sent),
	CLAIM(graceful_close_survives_unread_input),
	CLAIM(abortive_close_drops_what_was_sent),
	CLAIM(a_peer_that_never_reads_is_given_up),
	CLAIM(close_before_start_delivers_queued_bytes),
	CLAIM(bytes_sent_before_start_go_out_at_start),
	CLAIM(sends_to_dead_ids_fail_and_free),
	CLAIM(sending_to_a_listener_is_accepted_and_dropped),
	CLAIM(low_priority_waits_for_high),
	CLAIM(backlog_warns_at_doubling_levels_and_when_drained),
	CLAIM(one_huge_send_warns_too),
	CLAIM(broken_write_is_an_error_and_then_refused),
	CLAIM(bytes_sent_later_go_out_with_flush),
	CLAIM(bytes_sent_later_survive_close),
	CLAIM(other_sends_take_later_ones_along_in_order),
	CLAIM(user_objects_go_through_their_adapter),
	CLAIM(empty_sends_succeed_and_do_nothing),
	CLAIM(datagrams_carry_their_sender),
	CLAIM(udp_over_ipv6_has_long_addresses),
	CLAIM(udp_without_destination_fails),
	CLAIM(udp_connect_checks_the_family),
	CLAIM(oversized_datagrams_fail),
	CLAIM(attached_pipe_reads_and_detaches),
	CLAIM(attached_pipe_writes_through_the_queue),
	CLAIM(end_of_an_attached_pipe_is_close),
	CLAIM(a_regular_file_cannot_be_attached),
	CLAIM(snapshot_lists_newest_first_with_counters),
	CLAIM(ids_count_up_and_survive_growth_and_wrap),
	CLAIM(owner_exit_closes_what_it_owns_silently),
	cmocka_unit_test(many_requests_need_few_wakes),
	CLAIM(exit_ends_polling_and_busy_loops_are_told),
	CLAIM(release_frees_everything_silently),
	CLAIM(resolve_gives_each_address_once),
	CLAIM(deadlines_come_out_in_order),
	CLAIM(concurrent_senders_lose_nothing),
	CLAIM(shutdown_during_sends_is_clean),
};

int
main(void) {
	signal(SIGPIPE, SIG_IGN);
	// Every wait above is for an event; if one never comes, this ends the run.
	alarm(120);
	ops = poller_native();
	int failed = cmocka_run_group_tests_name("socket over native poller", claims, NULL, NULL);
#ifdef __linux__
	ops = poller_kqueue_shim();
	failed += cmocka_run_group_tests_name("socket over kqueue shim", claims, NULL, NULL);
#endif
	return failed;
}
