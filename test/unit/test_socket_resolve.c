// Names and the race of their addresses (net.md 14.1, C1, C2, C11, C12), with a resolver
// of the test's own in place of the system's.
#include "socket_world.h"

#include <dlfcn.h>
#include <netdb.h>

//------------------------------------------------------------------ resolver

static pthread_mutex_t slow_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t slow_cond = PTHREAD_COND_INITIALIZER;
static bool slow_is_open;

// What "list.test" resolves to, up to NULL. A thread that looks up for a world that has ended may
// still read it.
static pthread_mutex_t addresses_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *addresses[8];

static void
open_slow(bool is_open) {
	pthread_mutex_lock(&slow_lock);
	slow_is_open = is_open;
	pthread_cond_broadcast(&slow_cond);
	pthread_mutex_unlock(&slow_lock);
}

typedef int (*lookup_fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int
look_up_numeric(const char *host, const struct addrinfo *hints, struct addrinfo **out) {
	lookup_fn real;
	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	return real(host, NULL, hints, out);
}

static int
look_up_list(const struct addrinfo *hints, struct addrinfo **out) {
	const char *list[8];
	pthread_mutex_lock(&addresses_lock);
	memcpy(list, addresses, sizeof(list));
	pthread_mutex_unlock(&addresses_lock);
	*out = NULL;
	for (int i = 0; list[i] != NULL; i++) {
		assert_int_equal(look_up_numeric(list[i], hints, out), 0);
		out = &(*out)->ai_next;
	}
	return 0;
}

// Takes the place of libc's in this program.
int
getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
            struct addrinfo **out) {
	assert_null(service);
	if (hints->ai_flags & AI_NUMERICHOST) {
		return look_up_numeric(host, hints, out);
	}
	if (strcmp(host, "list.test") == 0) {
		return look_up_list(hints, out);
	}
	if (strcmp(host, "slow.test") == 0) {
		pthread_mutex_lock(&slow_lock);
		while (!slow_is_open) {
			pthread_cond_wait(&slow_cond, &slow_lock);
		}
		pthread_mutex_unlock(&slow_lock);
	}
	return EAI_NONAME;
}

static void
set_list(const char *const *list, size_t size) {
	pthread_mutex_lock(&addresses_lock);
	memcpy(addresses, list, size);
	pthread_mutex_unlock(&addresses_lock);
}

#define SET_ADDRESSES(...)                                                                         \
	set_list((const char *const[]){__VA_ARGS__, NULL},                                             \
	         sizeof((const char *const[]){__VA_ARGS__, NULL}))

//------------------------------------------------------------------- helpers

enum { HELD = 4, SILENT = 4 };

// Of listeners that are deaf.
static const char *const silent[SILENT] = {"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"};

// A listener that answers no more connections: its queue is full.
struct deaf {
	int fd;
	int held[HELD];
};

// False when the port is another's.
static bool
deaf_open(struct deaf *d, const char *ip, int port) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	d->fd = hold_port(ip, port);
	if (d->fd < 0) {
		return false;
	}
	inet_pton(AF_INET, ip, &a.sin_addr);
	assert_int_equal(listen(d->fd, 0), 0);
	for (int i = 0; i < HELD; i++) {
		d->held[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(d->held[i], (struct sockaddr *)&a, sizeof(a));
	}
	return true;
}

static void
deaf_close(struct deaf *d) {
	for (int i = 0; i < HELD; i++) {
		close(d->held[i]);
	}
	close(d->fd);
}

// A listener, and deaf ones at n addresses that begin with 127.0.0.2, all at one port.
static int
start_beside_deaf(struct world *w, struct deaf *d, int n, int *port) {
	for (;;) {
		int listener = start_listener(w, port);
		int i = 0;
		while (i < n && deaf_open(&d[i], silent[i], *port)) {
			i++;
		}
		if (i == n) {
			return listener;
		}
		while (i > 0) {
			deaf_close(&d[--i]);
		}
		close_listener(w, listener);
	}
}

// A listener at a port that refuses connections at 127.0.0.9 and ::1.
static void
start_beside_refusing(struct world *w, int held[2], int *port) {
	for (;;) {
		int listener = start_listener(w, port);
		held[0] = hold_port("127.0.0.9", *port);
		held[1] = hold_port("::1", *port);
		// Without IPv6 its addresses can't be reached anyway.
		if (held[0] >= 0 && (held[1] >= 0 || errno != EADDRINUSE)) {
			return;
		}
		close(held[0]);
		close(held[1]);
		close_listener(w, listener);
	}
}

static int
v6_listener(struct world *w, int port) {
	int id = socket_server_listen(w->ss, ME, "::1", port, 32);
	if (id > 0) {
		await(w, id, SOCKET_OPEN);
		socket_server_start(w->ss, ME, id);
		await(w, id, SOCKET_OPEN);
	}
	return id;
}

//--------------------------------------------------------------------- names

static void
a_stuck_resolver_holds_nobody(void **state) {
	struct world *w = *state;
	enum { N = 30 };
	int stuck[N];
	int client;
	open_slow(false);
	for (int i = 0; i < N; i++) {
		stuck[i] = i % 2 ? socket_server_connect(w->ss, ME, "slow.test", 80)
		                 : socket_server_lookup(w->ss, ME, "slow.test");
		assert_true(stuck[i] > 0);
	}
	int id = accept_started(w, &client);
	assert_int_equal(write(client, "x", 1), 1);
	await(w, id, SOCKET_DATA);
	socket_server_close(w->ss, ME, stuck[1]);
	await(w, stuck[1], SOCKET_CLOSE);
	assert_false(is_alive(w, stuck[1]));
	assert_int_equal(send_text(w, stuck[1], "x"), -1);
	open_slow(true);
	for (int i = 0; i < N; i++) {
		if (i != 1) {
			assert_string_equal(await(w, stuck[i], SOCKET_ERR)->data, "Name or service not known");
			assert_false(is_alive(w, stuck[i]));
		}
	}
	assert_int_equal(count_events(w, stuck[1], SOCKET_ERR), 0);
	close(client);
}

static void
too_many_names_are_refused(void **state) {
	struct world *w = *state;
	enum { N = 5000 };
	int first = 0;
	int refused = 0;
	open_slow(false);
	for (int i = 0; i < N; i++) {
		int id = socket_server_lookup(w->ss, ME, "slow.test");
		first = first == 0 ? id : first;
	}
	settle(w);
	for (int i = 0; i < w->n; i++) {
		refused += w->ev[i].type == SOCKET_ERR;
		assert_string_equal(w->ev[i].data, "Temporary failure in name resolution");
	}
	assert_in_range(refused, 1, N - 1000);
	open_slow(true);
	for (int i = 0; i < N; i++) {
		while (w->n < N) {
			assert_true(socket_server_poll(w->ss, 0, -1, false) >= 0);
		}
	}
	assert_false(is_alive(w, first));
}

static void
a_stuck_resolver_does_not_hold_the_end(void **state) {
	struct world *w = *state;
	open_slow(false);
	socket_server_connect(w->ss, ME, "slow.test", 80);
	socket_server_lookup(w->ss, ME, "slow.test");
	settle(w);
	// teardown does not wait; the thread frees what is left when it comes back.
}

static void
lookup_tells_each_address_once(void **state) {
	struct world *w = *state;
	open_slow(true);
	SET_ADDRESSES("192.0.2.1", "2001:db8::1", "192.0.2.1");
	int id = socket_server_lookup(w->ss, OTHER, "list.test");
	struct event *e = await(w, id, SOCKET_OPEN);
	assert_string_equal(e->data, "192.0.2.1 2001:db8::1 ");
	assert_int_equal(e->opaque, OTHER);
	assert_false(is_alive(w, id));
	settle(w);
	assert_int_equal(w->n, 1);
	assert_true(socket_server_is_numeric("127.0.0.1"));
	assert_true(socket_server_is_numeric("::1"));
	assert_false(socket_server_is_numeric("list.test"));
	char host[233];
	memset(host, 'a', 232);
	host[232] = '\0';
	assert_int_equal(socket_server_lookup(w->ss, ME, host), -1);
}

//---------------------------------------------------------------------- race

static void
a_refused_address_is_followed_by_the_next(void **state) {
	struct world *w = *state;
	int port, held[2];
	start_beside_refusing(w, held, &port);
	SET_ADDRESSES("::1", "127.0.0.1");
	int id = socket_server_connect(w->ss, ME, "list.test", port);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "127.0.0.1");
	SET_ADDRESSES("127.0.0.9", "::1");
	id = socket_server_connect(w->ss, ME, "list.test", port);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "Connection refused");
	settle(w);
	assert_false(is_alive(w, id));
	close(held[0]);
	close(held[1]);
}

static void
a_silent_address_is_overtaken(void **state) {
	struct world *w = *state;
	int port;
	struct deaf d;
	int listener = start_beside_deaf(w, &d, 1, &port);
	SET_ADDRESSES("127.0.0.2", "127.0.0.1");
	int id = socket_server_connect(w->ss, ME, "list.test", port);
	assert_int_equal(send_text(w, id, "hello"), 0);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "127.0.0.1");
	int peer = await(w, listener, SOCKET_ACCEPT)->ud;
	socket_server_start(w->ss, ME, peer);
	assert_memory_equal(await(w, peer, SOCKET_DATA)->data, "hello", 5);
	// The loser is gone, and disturbs nothing.
	deaf_close(&d);
	settle(w);
	assert_int_equal(count_events(w, id, SOCKET_ERR) + count_events(w, id, SOCKET_CLOSE), 0);
	assert_int_equal(atomic_load(&w->ss->loops[0].interests), 3);
}

static void
families_take_turns(void **state) {
	struct world *w = *state;
	struct deaf d[SILENT];
	int port;
	start_beside_deaf(w, d, SILENT, &port);
	if (v6_listener(w, port) < 0) {
		skip();
	}
	// All places in the race would be taken before the last address has its turn.
	SET_ADDRESSES(silent[0], silent[1], silent[2], silent[3], "::1");
	int id = socket_server_connect(w->ss, ME, "list.test", port);
	assert_string_equal(await(w, id, SOCKET_OPEN)->data, "::1");
	for (int i = 0; i < SILENT; i++) {
		deaf_close(&d[i]);
	}
}

static void
connecting_has_a_time_limit(void **state) {
	struct world *w = *state;
	int port;
	struct deaf d;
	start_beside_deaf(w, &d, 1, &port);
	SET_ADDRESSES("127.0.0.2");
	struct socket_option o = {SOCKET_OPTION_CONNECT_TIMEOUT, 30};
	int id = socket_server_connect_with(w->ss, ME, "127.0.0.2", port, &o, 1);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "Connection timed out");
	assert_false(is_alive(w, id));
	id = socket_server_connect_with(w->ss, ME, "list.test", port, &o, 1);
	assert_string_equal(await(w, id, SOCKET_ERR)->data, "Connection timed out");
	// Closed while the race is on.
	id = socket_server_connect(w->ss, ME, "list.test", port);
	settle(w);
	socket_server_close(w->ss, ME, id);
	await(w, id, SOCKET_CLOSE);
	assert_false(is_alive(w, id));
	assert_int_equal(atomic_load(&w->ss->loops[0].interests), 1);
	// And one that is left to the end of the server.
	socket_server_connect(w->ss, ME, "list.test", port);
	settle(w);
	deaf_close(&d);
}

static const struct CMUnitTest claims[] = {
    CLAIM(a_stuck_resolver_holds_nobody),
    CLAIM(too_many_names_are_refused),
    CLAIM(a_stuck_resolver_does_not_hold_the_end),
    CLAIM(lookup_tells_each_address_once),
    CLAIM(a_refused_address_is_followed_by_the_next),
    CLAIM(a_silent_address_is_overtaken),
    CLAIM(families_take_turns),
    CLAIM(connecting_has_a_time_limit),
};

int
main(void) {
	return RUN_CLAIMS(claims);
}
