// Datagrams: creation, default destinations, sending and receiving (net.md 1.18).
#include "socket_impl.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "skynet.h"
#include "skynet_malloc.h"

// Datagrams taken from one socket before the others get their turn.
#define READ_SHARE 16
// How long a socket rests when the system has no memory for what was received.
#define RECEIVE_PAUSE_MS 100

static int
kind_of_family(int family) {
	return family == AF_INET6 ? KIND_UDP6 : KIND_UDP4;
}

bool
udp_is(const struct socket_slot *s) {
	return s->kind == KIND_UDP4 || s->kind == KIND_UDP6;
}

static bool
fits(const struct socket_slot *s, const struct socket_udp_address *a) {
	return a->byte[0] == (s->kind == KIND_UDP6 ? ADDRESS_V6 : ADDRESS_V4);
}

//------------------------------------------------------------------ creation

static int
register_udp(struct socket_server *ss, uintptr_t opaque, int fd, int family,
             const struct socket_udp_address *peer) {
	struct socket_slot *s = slot_reserve(ss, opaque, kind_of_family(family), SLOT_CONNECTED);
	if (s == NULL) {
		close(fd);
		errno = EMFILE;
		return -1;
	}
	struct socket_loop *loop = s->loop;
	s->fd = fd;
	if (peer != NULL) {
		s->peer = *peer;
	}
	int id = slot_publish(s);
	struct socket_command c = {.op = COMMAND_UDP, .id = id};
	command_post(loop, &c);
	return id;
}

int
socket_server_udp(struct socket_server *ss, uintptr_t opaque, const char *addr, int port) {
	if (port < 0 || port > UINT16_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (addr == NULL && port == 0) {
		int fd = socket_new(AF_INET, SOCK_DGRAM);
		return fd < 0 ? -1 : register_udp(ss, opaque, fd, AF_INET, NULL);
	}
	struct listen_limits limits = ss->limits;
	int fd = socket_open_bound(ss, addr, port, SOCK_DGRAM, &limits);
	if (fd < 0) {
		return -1;
	}
	struct socket_udp_address local;
	if (!address_of_socket(fd, &local)) {
		int err = errno;
		close(fd);
		errno = err;
		return -1;
	}
	int family = local.byte[0] == ADDRESS_V6 ? AF_INET6 : AF_INET;
	return register_udp(ss, opaque, fd, family, NULL);
}

int
socket_server_udp_listen(struct socket_server *ss, uintptr_t opaque, const char *addr, int port) {
	if (port == 0) {
		errno = EINVAL;
		return -1;
	}
	return socket_server_udp(ss, opaque, addr, port);
}

static bool
resolve_peer(struct socket_server *ss, const char *addr, int port,
             struct socket_udp_address *peer) {
	errno = EINVAL;
	if (port < 0 || port > UINT16_MAX || addr == NULL) {
		return false;
	}
	struct address_list *list = socket_resolve_local(ss, addr, port, SOCK_DGRAM);
	if (list == NULL) {
		errno = EADDRNOTAVAIL;
		return false;
	}
	address_from_sockaddr(peer, &list->addr[0].any);
	skynet_free(list);
	return true;
}

int
socket_server_udp_dial(struct socket_server *ss, uintptr_t opaque, const char *addr, int port) {
	struct socket_udp_address peer;
	if (!resolve_peer(ss, addr, port, &peer)) {
		return -1;
	}
	int family = peer.byte[0] == ADDRESS_V6 ? AF_INET6 : AF_INET;
	int fd = socket_new(family, SOCK_DGRAM);
	return fd < 0 ? -1 : register_udp(ss, opaque, fd, family, &peer);
}

int
socket_server_udp_connect(struct socket_server *ss, int id, const char *addr, int port) {
	struct socket_udp_address peer;
	if (!resolve_peer(ss, addr, port, &peer)) {
		return -1;
	}
	struct socket_slot *s = slot_lock(ss, id);
	if (s == NULL) {
		errno = EBADF;
		return -1;
	}
	struct socket_loop *loop = s->loop;
	bool ok = udp_is(s) && fits(s, &peer);
	if (ok) {
		s->peer = peer;
	}
	slot_unlock(s);
	if (!ok) {
		struct socket_command c = {.op = COMMAND_ERROR, .id = id};
		c.text = "protocol mismatch";
		command_post(loop, &c);
	}
	return 0;
}

//------------------------------------------------------------------- sending

enum datagram_result
udp_send_now(struct socket_server *ss, int id, int fd, const struct socket_udp_address *to,
             const void *buf, size_t sz) {
	union socket_addr addr;
	socklen_t len = address_to_sockaddr(to, &addr);
	ssize_t n;
	do {
		n = sendto(fd, buf, sz, 0, &addr.any, len);
	} while (n < 0 && errno == EINTR);
	if (n >= 0) {
		return DATAGRAM_SENT;
	}
	if (errno == EAGAIN || errno == EWOULDBLOCK) {
		return DATAGRAM_BLOCKED;
	}
	notice_log(ss, NOTICE_DATAGRAM, "udp (%d) sendto error %s.", id, strerror(errno));
	return DATAGRAM_DROPPED;
}

int
socket_server_udp_send(struct socket_server *ss, const struct socket_udp_address *addr,
                       struct socket_sendbuffer *b) {
	struct socket_udp_address to;
	int size = address_size(addr);
	struct socket_slot *s = size == 0 ? NULL : slot_lock(ss, b->id);
	if (s == NULL) {
		write_refuse(ss, b);
		return -1;
	}
	if (!udp_is(s) || s->closing || !fits(s, addr)) {
		bool closing = s->closing;
		slot_unlock(s);
		write_refuse(ss, b);
		if (!closing) {
			skynet_error(NULL, "socket-server: udp socket (%d) error: type mismatch.", b->id);
		}
		return -1;
	}
	// The caller's blob may be no longer than its type needs.
	memset(&to, 0, sizeof(to));
	memcpy(&to, addr, (size_t)size);
	return write_submit(ss, s, b, SEND_HIGH, &to);
}

//----------------------------------------------------------------- receiving

const struct socket_udp_address *
socket_server_udp_address(struct socket_server *ss, struct socket_message *msg, int *addrsz) {
	(void)ss;
	const struct socket_udp_address *a = (const void *)(msg->data + msg->ud);
	int size = address_size(a);
	if (size == 0) {
		return NULL;
	}
	*addrsz = size;
	return a;
}

// False: nothing more to read now, or the slot is gone.
static bool
receive_failed(struct socket_loop *loop, struct socket_slot *s, int err) {
	int id = atomic_load_explicit(&s->id, memory_order_relaxed);
	switch (err) {
	case EINTR:
		return true;
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
		// Somebody who was sent something is not there; the others are.
		notice_log(loop->ss, NOTICE_DATAGRAM, "udp (%d) receive error %s.", id, strerror(err));
		return true;
	case ENOBUFS:
	case ENOMEM:
		notice_log(loop->ss, NOTICE_DATAGRAM, "udp (%d) rests, it can't receive: %s", id,
		           strerror(err));
		loop_watch(loop, s, false, s->write_polled);
		deadline_set(loop, s, RECEIVE_PAUSE_MS);
		return false;
	default:
		loop_abort(loop, s, strerror(err));
		return false;
	}
}

void
udp_rest_over(struct socket_loop *loop, struct socket_slot *s) {
	loop_watch(loop, s, true, s->write_polled);
}

// False: nothing more to read now, or the slot is gone.
static bool
read_one(struct socket_loop *loop, struct socket_slot *s) {
	union socket_addr sa;
	struct socket_udp_address from;
	socklen_t len = sizeof(sa);
	char *buf = loop_read_buffer(loop);
	ssize_t n = recvfrom(s->fd, buf, READ_SIZE, 0, &sa.any, &len);
	if (n < 0) {
		return errno != EAGAIN && errno != EWOULDBLOCK && receive_failed(loop, s, errno);
	}
	address_from_sockaddr(&from, &sa.any);
	if (!fits(s, &from)) {
		return true;
	}
	size_t addrsz = (size_t)address_size(&from);
	char *data = loop_alloc_for(s, (size_t)n + addrsz);
	memcpy(data, buf, (size_t)n);
	memcpy(data + n, from.byte, addrsz);
	atomic_fetch_add_explicit(&s->read_count, (uint64_t)n, memory_order_relaxed);
	atomic_store_explicit(&s->read_time, loop->ss->clock(), memory_order_relaxed);
	throttle_count(loop, s, (size_t)n);
	loop_emit(loop, s, SOCKET_UDP, (int)n, data);
	return !atomic_load(&s->throttled);
}

void
udp_read(struct socket_loop *loop, struct socket_slot *s) {
	for (int i = 0; i < READ_SHARE; i++) {
		if (!read_one(loop, s)) {
			return;
		}
	}
}
