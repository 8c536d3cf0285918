// What the tests of the socket server share: a server driven by the test itself,
// without services, its events, and plain blocking sockets as peers. Each test runs
// once over each poller.
#ifndef socket_world_h
#define socket_world_h

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
	char *data; // text, or bytes of DATA, UDP and SEND
	bool is_taken;
};

struct world {
	struct socket_server *ss;
	struct event *ev;
	int n;
	int cap;
	int id;     // of CONNECTED_CLAIM: a started connection,
	int client; // and its peer, -1 when that is closed
};

// No host's name begins with a hyphen, so nobody is asked for it: the answer is the same
// where no name server can be reached.
#define NO_HOST "-no.such.host.invalid"

static const struct poller_ops *ops;

static inline uint64_t
clock_of_test(void) {
	return 4711;
}

static inline void
sink(void *ud, int type, struct socket_message *m) {
	struct world *w = ud;
	if (w->n == w->cap) {
		w->cap = w->cap == 0 ? 64 : w->cap * 2;
		w->ev = realloc(w->ev, (size_t)w->cap * sizeof(w->ev[0]));
	}
	bool is_bytes = type == SOCKET_DATA || type == SOCKET_UDP || type == SOCKET_SEND;
	bool is_text = !is_bytes && m->data != NULL;
	w->ev[w->n++] = (struct event){
	    .type = type,
	    .id = m->id,
	    .ud = m->ud,
	    .opaque = m->opaque,
	    .data = is_text ? strdup(m->data) : m->data,
	};
}

static inline int
setup(void **state) {
	struct world *w = calloc(1, sizeof(*w));
	w->ss = socket_server_create_with(ops, 1, clock_of_test, sink, w);
	assert_non_null(w->ss);
	w->client = -1;
	*state = w;
	return 0;
}

static inline void
close_client(struct world *w) {
	if (w->client >= 0) {
		close(w->client);
		w->client = -1;
	}
}

static inline int
teardown(void **state) {
	struct world *w = *state;
	close_client(w);
	socket_server_release(w->ss);
	for (int i = 0; i < w->n; i++) {
		free(w->ev[i].data);
	}
	free(w->ev);
	free(w);
	return 0;
}

//------------------------------------------------------------------- helpers

static inline struct event *
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
static inline struct event *
await(struct world *w, int id, int type) {
	struct event *e;
	while ((e = find_event(w, id, type)) == NULL) {
		assert_true(socket_server_poll(w->ss, 0, -1, false) >= 0);
	}
	return e;
}

// Serves all requests so far and everything that is ready.
static inline void
settle(struct world *w) {
	while (socket_server_poll(w->ss, 0, 0, false) > 0) {
	}
	socket_server_poll(w->ss, 0, 0, false);
}

static inline int
count_events(struct world *w, int id, int type) {
	int n = 0;
	for (int i = 0; i < w->n; i++) {
		n += w->ev[i].id == id && w->ev[i].type == type;
	}
	return n;
}

static inline int
send_text(struct world *w, int id, const char *text) {
	struct socket_sendbuffer b = {id, SOCKET_BUFFER_RAWPOINTER, text, strlen(text)};
	return socket_server_send(w->ss, &b);
}

static inline int
send_fill(struct world *w, int id, char c, size_t sz, bool is_low) {
	char *p = malloc(sz);
	memset(p, c, sz);
	struct socket_sendbuffer b = {id, SOCKET_BUFFER_MEMORY, p, sz};
	return is_low ? socket_server_send_lowpriority(w->ss, &b) : socket_server_send(w->ss, &b);
}

static inline int
start_listener(struct world *w, int *port) {
	int id = socket_server_listen(w->ss, ME, "127.0.0.1", 0, 32);
	assert_true(id > 0);
	*port = await(w, id, SOCKET_OPEN)->ud;
	socket_server_start(w->ss, ME, id);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "start");
	return id;
}

static inline int
plain_connect(int port) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

// A socket that has a port and does not listen: connections there are refused, and nobody
// else can take them. -1: somebody else has it, or there is no such address.
static inline int
hold_port(const char *ip, int port) {
	struct address_list *list = address_list_numeric(ip, port, SOCK_STREAM);
	int fd = socket(list->addr[0].any.sa_family, SOCK_STREAM, 0);
	if (fd >= 0 && bind(fd, &list->addr[0].any, address_len(&list->addr[0])) != 0) {
		close(fd);
		fd = -1;
	}
	free(list);
	return fd;
}

static inline void
close_listener(struct world *w, int listener) {
	socket_server_close(w->ss, ME, listener);
	await(w, listener, SOCKET_CLOSE);
}

// A plain client and the id of its connection, started unless told otherwise.
static inline int
accept_plain(struct world *w, int listener, int port, int *client) {
	*client = plain_connect(port);
	return await(w, listener, SOCKET_ACCEPT)->ud;
}

static inline int
accept_started(struct world *w, int *client) {
	int port;
	int listener = start_listener(w, &port);
	int id = accept_plain(w, listener, port, client);
	socket_server_start(w->ss, ME, id);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "start");
	return id;
}

static inline void
reset_on_close(int fd) {
	struct linger l = {1, 0};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

// Reads with polling in between until `want` bytes or the end of the stream came.
static inline size_t
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
			socket_server_poll(w->ss, 0, 1, false);
		}
	}
	return total;
}

static inline bool
plain_has_ended(struct world *w, int fd) {
	char c;
	ssize_t n;
	while ((n = recv(fd, &c, 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN) {
		socket_server_poll(w->ss, 0, 1, false);
	}
	return n <= 0;
}

static inline size_t
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

static inline struct socket_info *
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

static inline int
fd_of(struct world *w, int id) {
	struct socket_slot *s = slot_lock(w->ss, id);
	assert_non_null(s);
	int fd = s->fd;
	slot_unlock(s);
	return fd;
}

// Waits until something has arrived that the server may read.
static inline void
await_arrival(struct world *w, int id) {
	struct pollfd p = {.fd = fd_of(w, id), .events = POLLIN};
	assert_int_equal(poll(&p, 1, -1), 1);
}

static inline bool
is_alive(struct world *w, int id) {
	struct socket_slot *s = slot_lock(w->ss, id);
	if (s != NULL) {
		slot_unlock(s);
	}
	return s != NULL;
}

// A small kernel buffer on our side, and none to speak of on the peer's, so that
// queues fill soon.
static inline void
shrink_buffers(struct world *w, int id, int client) {
	int sz = 32 * 1024;
	setsockopt(fd_of(w, id), SOL_SOCKET, SO_SNDBUF, &sz, sizeof(sz));
	setsockopt(client, SOL_SOCKET, SO_RCVBUF, &sz, sizeof(sz));
}

static inline int
setup_connected(void **state) {
	setup(state);
	struct world *w = *state;
	w->id = accept_started(w, &w->client);
	return 0;
}

// With buffers that fill soon.
static inline int
setup_narrow(void **state) {
	setup_connected(state);
	struct world *w = *state;
	shrink_buffers(w, w->id, w->client);
	return 0;
}

#define CLAIM(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define CONNECTED_CLAIM(f) cmocka_unit_test_setup_teardown(f, setup_connected, teardown)
#define NARROW_CLAIM(f) cmocka_unit_test_setup_teardown(f, setup_narrow, teardown)

static inline int
run_claims(const struct CMUnitTest *claims, size_t n) {
	signal(SIGPIPE, SIG_IGN);
	// Every wait above is for an event; if one never comes, this ends the run.
	alarm(400);
	ops = poller_native();
	int failed = _cmocka_run_group_tests("socket over native poller", claims, n, NULL, NULL);
#ifdef __linux__
	ops = poller_kqueue_shim();
	failed += _cmocka_run_group_tests("socket over kqueue shim", claims, n, NULL, NULL);
#endif
	return failed;
}

#define RUN_CLAIMS(claims) run_claims(claims, sizeof(claims) / sizeof((claims)[0]))

#endif
