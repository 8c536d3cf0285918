// Streams: how they are listened for, accepted and read.
// Everything here but socket_open_bound and the small helpers runs on the loop.
#include "socket_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "skynet.h"
#include "skynet_malloc.h"

// Most connections taken per readiness of a listener, before the others get a turn.
#define ACCEPT_SHARE 64
// When descriptors run out: how long a listener rests, and how often it says so.
#define ACCEPT_PAUSE_MS 100
#define ACCEPT_REPORT_MS 1000
// So many connections in a row that vanish before they are accepted are none.
#define ACCEPT_FAILURES 64
// Reads of what had come before a write failed.
#define REST_READS 4
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
	if (fd >= 0 &&
	    (!prepare_bound(fd, a->any.sa_family, limits) || bind(fd, &a->any, address_len(a)) != 0)) {
		int err = errno;
		close(fd);
		errno = err;
		fd = -1;
	}
	skynet_free(list);
	return fd;
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

// Without that the poller would report the listener again at once.
static void
rest(struct socket_loop *loop, struct socket_slot *s) {
	loop_watch(loop, s, false, false);
	deadline_set(loop, s, ACCEPT_PAUSE_MS);
}

// Lets those who wait see an orderly end instead of nothing, with the help of
// the spare descriptor, then rests.
static void
out_of_descriptors(struct socket_loop *loop, struct socket_slot *s, int err) {
	char peer[ADDRESS_TEXT_SIZE] = "";
	for (int i = 0; i < ACCEPT_SHARE && loop->spare_fd >= 0; i++) {
		union socket_addr addr;
		close(loop->spare_fd);
		int fd = accept_new(s->fd, &addr);
		if (fd >= 0) {
			struct socket_udp_address a;
			address_from_sockaddr(&a, &addr.any);
			address_text(&a, peer);
			close(fd);
		}
		bool is_over = fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
		loop->spare_fd = socket_spare();
		if (is_over && peer[0] == '\0') {
			// The system asks for a descriptor before it looks who waits: nobody.
			return;
		}
		if (fd < 0) {
			break;
		}
	}
	report_accept_error(loop, s, strerror(err));
	notice_log(loop->ss, NOTICE_DESCRIPTORS,
	           "listener %d rests, refusing %s: %s; raise the limit of descriptors (ulimit -n), "
	           "or lower max_connections",
	           atomic_load_explicit(&s->id, memory_order_relaxed),
	           peer[0] == '\0' ? "whoever comes" : peer, strerror(err));
	rest(loop, s);
}

// What accept(2) says of a connection that is gone, and not of the listener.
static bool
is_lost_connection(int err) {
	switch (err) {
	case ECONNABORTED:
	case EINTR:
	case EPROTO:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ETIMEDOUT:
#ifdef ENONET
	case ENONET:
#endif
		return true;
	default:
		return false;
	}
}

// The system, a firewall say, may leave the connection where it is, and report it again
// and again. True: the listener rests.
static bool
accept_failed(struct socket_loop *loop, struct socket_slot *s, int err) {
	if (is_lost_connection(err) && ++s->accept_failures < ACCEPT_FAILURES) {
		return false;
	}
	s->accept_failures = 0;
	report_accept_error(loop, s, strerror(err));
	notice_log(loop->ss, NOTICE_ACCEPT, "listener %d rests, it can't accept: %s",
	           atomic_load_explicit(&s->id, memory_order_relaxed), strerror(err));
	rest(loop, s);
	return true;
}

static void
refuse(struct socket_loop *loop, struct socket_slot *listener, enum admission_result why,
       const struct socket_udp_address *peer) {
	struct listen_limits l = admission_limits(listener->admission);
	const char *key = why == ADMISSION_FULL        ? "max_connections"
	                  : why == ADMISSION_PEER_FULL ? "max_per_peer"
	                                               : "peer_rate";
	uint32_t value = why == ADMISSION_FULL        ? l.max_connections
	                 : why == ADMISSION_PEER_FULL ? l.max_per_peer
	                                              : l.peer_rate;
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
admit(struct socket_loop *loop, struct socket_slot *listener,
      const struct socket_udp_address *peer) {
	struct admission *a = listener->admission;
	enum admission_result r = admission_enter(a, peer, loop->now_ms);
	if (r != ADMISSION_GRANTED) {
		refuse(loop, listener, r, peer);
		return NULL;
	}
	pthread_mutex_lock(&listener->lock);
	struct socket_settings settings = listener->settings;
	slot_unlock(listener);
	int state = listener->starts_accepted ? SLOT_CONNECTED : SLOT_PACCEPT;
	struct socket_slot *s = slot_reserve(loop->ss, listener->owner, KIND_STREAM, state);
	if (s == NULL) {
		admission_leave(a, peer);
		report_accept_error(loop, listener, "reach skynet socket number limit");
		return NULL;
	}
	slot_configure(s, &settings);
	s->admission = a;
	s->peer = *peer;
	s->reading = listener->starts_accepted;
	return s;
}

void
stream_accepted(struct socket_loop *loop, struct socket_slot *s) {
	// The owner of a started one knows it, and may have sent, paused or closed already.
	bool is_open = s->state != SLOT_PACCEPT && !s->draining;
	if (loop_watch(loop, s, is_open && s->reading, s->write_polled) != 0) {
		loop_abort(loop, s, strerror(errno));
	} else if (is_open) {
		loop_limit_idle(loop, s);
	}
}

static void
welcome(struct socket_loop *loop, struct socket_slot *listener, int fd,
        const union socket_addr *addr) {
	struct socket_udp_address peer;
	address_from_sockaddr(&peer, &addr->any);
	struct socket_slot *s = admit(loop, listener, &peer);
	if (s == NULL) {
		close(fd);
		return;
	}
#ifndef SOCK_CLOEXEC
	settings_tune(fd, &s->settings);
#endif
	s->fd = fd;
	struct socket_loop *home = s->loop;
	struct socket_command c = {.op = COMMAND_ACCEPTED, .id = slot_publish(s)};
	char text[ADDRESS_TEXT_SIZE];
	address_text(&peer, text);
	atomic_fetch_add_explicit(&listener->read_count, 1, memory_order_relaxed);
	atomic_store_explicit(&listener->read_time, loop->ss->clock(), memory_order_relaxed);
	// Before anything else of the id, whichever loop tells it: also that it ends because
	// it can't be polled.
	loop_emit(loop, listener, SOCKET_ACCEPT, c.id, text);
	if (home == loop) {
		stream_accepted(loop, s);
	} else {
		command_post(home, &c);
	}
}

// As many as there were the last time, or twice as many if there were more: the call that
// finds no more costs as much as one that does. What is left is reported again.
void
stream_accept(struct socket_loop *loop, struct socket_slot *s) {
	int share = s->accept_share;
	for (int i = 0; i < share; i++) {
		union socket_addr addr;
		int fd = accept_new(s->fd, &addr);
		if (fd >= 0) {
			s->accept_failures = 0;
			welcome(loop, s, fd, &addr);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			out_of_descriptors(loop, s, errno);
			return;
		}
		if (errno == EAGAIN || errno == EWOULDBLOCK) {
			s->accept_share = (uint8_t)(i > 0 ? i : 1);
			return;
		}
		if (accept_failed(loop, s, errno)) {
			return;
		}
	}
	s->accept_share = (uint8_t)(share * 2 < ACCEPT_SHARE ? share * 2 : ACCEPT_SHARE);
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

bool
stream_has_unread(const struct socket_slot *s) {
	int unread = 0;
	return ioctl(s->fd, FIONREAD, &unread) == 0 && unread > 0;
}

void
stream_read_rest(struct socket_loop *loop, struct socket_slot *s) {
	for (int i = 0; i < REST_READS && s->reading && !atomic_load(&s->throttled); i++) {
		if (!stream_has_unread(s) || !stream_read(loop, s)) {
			return;
		}
	}
}
