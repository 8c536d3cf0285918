// Streams: how they come into being (connect, listen, accept) and how they are read.
// Everything here but socket_open_bound and the small helpers runs on the loop.
#include "socket_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "skynet.h"
#include "skynet_malloc.h"

// Connections taken per readiness of a listener, before the others get a turn.
#define ACCEPT_SHARE 64
// When descriptors run out: how long a listener rests, and how often it says so.
#define ACCEPT_PAUSE_MS 100
#define ACCEPT_REPORT_MS 1000
// With further addresses to try, one attempt may take this long.
#define CONNECT_ATTEMPT_MS 5000
// A name in listen, udp and the like keeps its caller waiting this long at most.
#define LOCAL_RESOLVE_LIMIT_MS 5000

//------------------------------------------------------------------- helpers

bool
socket_set_flags(int fd) {
	int fl = fcntl(fd, F_GETFL);
	return fl >= 0 && fcntl(fd, F_SETFL, fl | O_NONBLOCK) == 0 &&
		fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

int
socket_new(int family, int type) {
#ifdef SOCK_CLOEXEC
	return socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
	int fd = socket(family, type, 0);
	if (fd >= 0 && !socket_set_flags(fd)) {
		close(fd);
		return -1;
	}
	return fd;
#endif
}

int
socket_spare(void) {
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int
accept_new(int fd, union socket_addr *addr) {
	socklen_t len = sizeof(*addr);
#ifdef SOCK_CLOEXEC
	// The options that settings_tune sets are inherited from the listener.
	return accept4(fd, &addr->any, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
#else
	int client = accept(fd, &addr->any, &len);
	if (client >= 0 && !socket_set_flags(client)) {
		close(client);
		errno = ECONNABORTED;
		return -1;
	}
	return client;
#endif
}

struct address_list *
socket_resolve_local(struct socket_server *ss, const char *host, int port, int type) {
	const char *name = host == NULL || host[0] == '\0' ? "0.0.0.0" : host;
	struct address_list *list = address_list_numeric(name, port, type);
	struct addrinfo *ai = NULL;
	if (list == NULL &&
	    resolver_lookup(ss->resolver, name, type, LOCAL_RESOLVE_LIMIT_MS, &ai) == NULL) {
		list = address_list_from(ai, port);
	}
	return list;
}

static bool
set_flag(int fd, int level, int option, int value) {
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

static bool
prepare_bound(int fd, int family, const struct listen_limits *l) {
	return set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
		(!l->reuseport || set_flag(fd, SOL_SOCKET, SO_REUSEPORT, 1)) &&
		(l->v6only < 0 || family != AF_INET6 ||
		set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, l->v6only));
}

int
socket_open_bound(struct socket_server *ss, const char *host, int port, int type,
	const struct listen_limits *limits) {
	struct address_list *list = socket_resolve_local(ss, host, port, type);
	if (list == NULL) {
		errno = EADDRNOTAVAIL;
		return -1;
	}
	const union socket_addr *a = &list->addr[0];
	int fd = socket_new(a->any.sa_family, type);
	if (fd >= 0 && (!prepare_bound(fd, a->any.sa_family, limits) ||
	    bind(fd, &a->any, address_len(a)) != 0)) {
		int err = errno;
		close(fd);
		errno = err;
		fd = -1;
	}
	skynet_free(list);
	return fd;
}

//------------------------------------------------------------------- connect

void
stream_attempt_free(struct socket_slot *s) {
	if (s->attempt != NULL) {
		skynet_free(s->attempt->list);
		skynet_free(s->attempt);
		s->attempt = NULL;
	}
}

static void
connect_done(struct socket_loop *loop, struct socket_slot *s, const union socket_addr *peer) {
	char text[ADDRESS_TEXT_SIZE];
	struct socket_udp_address a;
	stream_attempt_free(s);
	deadline_clear(loop, s);
	address_from_sockaddr(&a, &peer->any);
	address_ip_text(&a, text);
	pthread_mutex_lock(&s->lock);
	bool told = s->draining;
	s->state = SLOT_CONNECTED;
	s->peer = a;
	slot_unlock(s);
	if (told) {
		// Closed meanwhile, with bytes left to send.
		loop_watch(loop, s, false, false);
		loop_limit_linger(loop, s);
	} else if (loop_watch(loop, s, true, false) != 0) {
		loop_emit_error(loop, s, strerror(errno));
		loop_destroy(loop, s);
		return;
	} else {
		loop_emit(loop, s, SOCKET_OPEN, 0, text);
		loop_limit_idle(loop, s);
	}
	write_flush(loop, s);
}

static void
drop_descriptor(struct socket_loop *loop, struct socket_slot *s) {
	loop_unwatch(loop, s);
	close(s->fd);
	pthread_mutex_lock(&s->lock);
	s->fd = -1;
	slot_unlock(s);
}

static void
set_connecting(struct socket_slot *s, int fd) {
	pthread_mutex_lock(&s->lock);
	s->state = SLOT_CONNECTING;
	s->fd = fd;
	slot_unlock(s);
}

enum attempt_result { ATTEMPT_DONE, ATTEMPT_PENDING, ATTEMPT_FAILED };

static enum attempt_result
try_address(struct socket_loop *loop, struct socket_slot *s, const union socket_addr *a) {
	int fd = socket_new(a->any.sa_family, SOCK_STREAM);
	if (fd < 0) {
		s->attempt->err = errno;
		return ATTEMPT_FAILED;
	}
	pthread_mutex_lock(&s->lock);
	struct socket_settings settings = s->settings;
	slot_unlock(s);
	settings_tune(fd, &settings);
	set_connecting(s, fd);
	if (connect(fd, &a->any, address_len(a)) == 0) {
		return ATTEMPT_DONE;
	}
	s->attempt->err = errno;
	if (errno == EINPROGRESS) {
		if (loop_watch(loop, s, false, true) == 0) {
			return ATTEMPT_PENDING;
		}
		s->attempt->err = errno;
	}
	drop_descriptor(loop, s);
	return ATTEMPT_FAILED;
}

static void
limit_attempt(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	uint32_t ms = s->settings.connect_ms;
	slot_unlock(s);
	if (s->attempt->next < s->attempt->list->n && (ms == 0 || ms > CONNECT_ATTEMPT_MS)) {
		ms = CONNECT_ATTEMPT_MS;
	}
	if (ms > 0) {
		deadline_set(loop, s, ms);
	}
}

// Tries the addresses from the next one on until one is under way.
static void
connect_next(struct socket_loop *loop, struct socket_slot *s) {
	struct connect_attempt *t = s->attempt;
	while (t->next < t->list->n) {
		union socket_addr *a = &t->list->addr[t->next++];
		switch (try_address(loop, s, a)) {
		case ATTEMPT_DONE: {
			union socket_addr peer = *a;
			connect_done(loop, s, &peer);
			return;
		}
		case ATTEMPT_PENDING:
			limit_attempt(loop, s);
			return;
		case ATTEMPT_FAILED:
			break;
		}
	}
	loop_emit_error(loop, s, strerror(t->err));
	loop_destroy(loop, s);
}

void
stream_connect(struct socket_loop *loop, struct socket_slot *s, struct address_list *list) {
	s->attempt = skynet_calloc(1, sizeof(*s->attempt));
	s->attempt->list = list;
	deadline_clear(loop, s);
	connect_next(loop, s);
}

static void
attempt_failed(struct socket_loop *loop, struct socket_slot *s, int err) {
	s->attempt->err = err;
	deadline_clear(loop, s);
	drop_descriptor(loop, s);
	connect_next(loop, s);
}

void
stream_connect_ready(struct socket_loop *loop, struct socket_slot *s) {
	int err = 0;
	socklen_t len = sizeof(err);
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0) {
		err = errno;
	}
	if (err != 0) {
		attempt_failed(loop, s, err);
		return;
	}
	union socket_addr peer = s->attempt->list->addr[s->attempt->next - 1];
	connect_done(loop, s, &peer);
}

void
stream_connect_timeout(struct socket_loop *loop, struct socket_slot *s) {
	attempt_failed(loop, s, ETIMEDOUT);
}

//-------------------------------------------------------------------- accept

static void
report_accept_error(struct socket_loop *loop, struct socket_slot *s, const char *text) {
	uint64_t now = deadline_now_ms();
	if (s->report_ms == 0 || now - s->report_ms >= ACCEPT_REPORT_MS) {
		s->report_ms = now;
		loop_emit_error(loop, s, text);
	}
}

// Lets those who wait see an orderly end instead of nothing, with the help of
// the spare descriptor, then rests: without that the poller would report the
// listener again at once.
static void
out_of_descriptors(struct socket_loop *loop, struct socket_slot *s, int err) {
	for (int i = 0; i < ACCEPT_SHARE && loop->spare_fd >= 0; i++) {
		union socket_addr addr;
		close(loop->spare_fd);
		int fd = accept_new(s->fd, &addr);
		if (fd >= 0) {
			close(fd);
		}
		loop->spare_fd = socket_spare();
		if (fd < 0) {
			break;
		}
	}
	report_accept_error(loop, s, strerror(err));
	notice_log(loop->ss, NOTICE_DESCRIPTORS,
		"listener %d rests, connections are closed unheard: %s; raise the limit of "
		"descriptors (ulimit -n), or lower max_connections",
		atomic_load_explicit(&s->id, memory_order_relaxed), strerror(err));
	loop_watch(loop, s, false, false);
	deadline_set(loop, s, ACCEPT_PAUSE_MS);
}

static void
refuse(struct socket_loop *loop, struct socket_slot *listener, enum admission_result why,
	const struct socket_udp_address *peer) {
	struct listen_limits l = admission_limits(listener->admission);
	const char *key = why == ADMISSION_FULL ? "max_connections"
		: why == ADMISSION_PEER_FULL ? "max_per_peer" : "peer_rate";
	uint32_t value = why == ADMISSION_FULL ? l.max_connections
		: why == ADMISSION_PEER_FULL ? l.max_per_peer : l.peer_rate;
	char from[ADDRESS_TEXT_SIZE];
	char at[ADDRESS_TEXT_SIZE];
	address_text(peer, from);
	address_text(&listener->peer, at);
	notice_log(loop->ss, NOTICE_ADMISSION,
		"listener %d (%s) refuses %s: its %s is %u; raise it if that is meant",
		atomic_load_explicit(&listener->id, memory_order_relaxed), at, from, key, value);
}

// A slot for the new connection, locked. NULL: the descriptor is still open.
static struct socket_slot *
admit(struct socket_loop *loop, struct socket_slot *listener, const struct socket_udp_address *peer) {
	struct admission *a = listener->admission;
	enum admission_result r = admission_enter(a, peer, loop->now_ms);
	if (r != ADMISSION_GRANTED) {
		refuse(loop, listener, r, peer);
		return NULL;
	}
	pthread_mutex_lock(&listener->lock);
	struct socket_settings settings = listener->settings;
	slot_unlock(listener);
	struct socket_slot *s = slot_reserve(loop->ss, listener->owner, KIND_STREAM, SLOT_PACCEPT);
	if (s == NULL) {
		admission_leave(a, peer);
		report_accept_error(loop, listener, "reach skynet socket number limit");
		return NULL;
	}
	slot_configure(s, &settings);
	s->admission = a;
	s->peer = *peer;
	return s;
}

// False: enough for now.
static bool
welcome(struct socket_loop *loop, struct socket_slot *listener, int fd,
	const union socket_addr *addr) {
	struct socket_udp_address peer;
	address_from_sockaddr(&peer, &addr->any);
	struct socket_slot *s = admit(loop, listener, &peer);
	if (s == NULL) {
		close(fd);
		return true;
	}
	s->fd = fd;
	int id = slot_publish(s);
#ifndef SOCK_CLOEXEC
	settings_tune(fd, &s->settings);
#endif
	if (loop_watch(loop, s, false, false) != 0) {
		int err = errno;
		loop_destroy(loop, s);
		report_accept_error(loop, listener, strerror(err));
		return false;
	}
	char text[ADDRESS_TEXT_SIZE];
	address_text(&peer, text);
	atomic_fetch_add_explicit(&listener->read_count, 1, memory_order_relaxed);
	atomic_store_explicit(&listener->read_time, loop->ss->clock(), memory_order_relaxed);
	loop_emit(loop, listener, SOCKET_ACCEPT, id, text);
	return true;
}

void
stream_accept(struct socket_loop *loop, struct socket_slot *s) {
	for (int i = 0; i < ACCEPT_SHARE; i++) {
		union socket_addr addr;
		int fd = accept_new(s->fd, &addr);
		if (fd >= 0) {
			if (!welcome(loop, s, fd, &addr)) {
				return;
			}
			continue;
		}
		if (errno == EMFILE || errno == ENFILE) {
			out_of_descriptors(loop, s, errno);
			return;
		}
		if (errno == EAGAIN || errno == EWOULDBLOCK) {
			return;
		}
		// The connection vanished, or some such: the next one may be fine.
	}
}

//---------------------------------------------------------------------- read

static void
read_ended(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	bool over = s->state == SLOT_HALFCLOSE_WRITE;
	if (!over) {
		s->state = SLOT_HALFCLOSE_READ;
	}
	bool writing = s->write_polled;
	slot_unlock(s);
	deadline_clear(loop, s);
	loop_emit_close(loop, s);
	if (over) {
		loop_destroy(loop, s);
	} else {
		loop_watch(loop, s, false, writing);
	}
}

bool
stream_read(struct socket_loop *loop, struct socket_slot *s) {
	char *buf = loop_read_buffer(loop);
	ssize_t n = read(s->fd, buf, READ_SIZE);
	if (n > 0) {
		char *data = loop_alloc_for(s, (size_t)n);
		memcpy(data, buf, (size_t)n);
		atomic_fetch_add_explicit(&s->read_count, (uint64_t)n, memory_order_relaxed);
		atomic_store_explicit(&s->read_time, loop->ss->clock(), memory_order_relaxed);
		s->active_ms = loop->now_ms;
		throttle_count(loop, s, (size_t)n);
		loop_emit(loop, s, SOCKET_DATA, (int)n, data);
		return true;
	}
	if (n == 0) {
		read_ended(loop, s);
		return false;
	}
	if (errno == EINTR) {
		return true;
	}
	if (errno != EAGAIN && errno != EWOULDBLOCK) {
		int err = errno;
		loop_watch(loop, s, false, s->write_polled);
		loop_emit_error(loop, s, strerror(err));
	}
	return false;
}
