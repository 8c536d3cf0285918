// The requests of socket_server.h as their callers see them: checks, reservation of
// ids, and what is handed to the loop. Any thread.
#include "socket_impl.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

#include "skynet.h"
#include "skynet_malloc.h"

// A host text longer than this is refused: no name is that long.
#define MAX_HOST 231

static void
post_to(struct socket_loop *loop, int op, int id, uintptr_t opaque) {
	struct socket_command c = {.op = op, .id = id, .opaque = opaque};
	command_post(loop, &c);
}

// Whether `opaque` may do so; 0 is the node itself. With the lock.
static bool
is_allowed(const struct socket_slot *s, uintptr_t opaque) {
	return !s->settings.exclusive || opaque == 0 || opaque == s->owner;
}

static void
log_stranger(const char *verb, int id, uintptr_t opaque) {
	skynet_error(NULL, "socket-server error: :%08x may not %s %d, which is exclusive.",
	             (unsigned)opaque, verb, id);
}

// Finds the slot and locks it, if it exists and `opaque` may do so.
static struct socket_slot *
lock_for(struct socket_server *ss, const char *verb, int id, uintptr_t opaque) {
	struct socket_slot *s = slot_lock(ss, id);
	if (s != NULL && !is_allowed(s, opaque)) {
		slot_unlock(s);
		log_stranger(verb, id, opaque);
		return NULL;
	}
	return s;
}

// Whether the loop writes what is queued, together with the end of the stream. Not if it
// has to be woken first: the peer would wait for that.
static bool
can_leave_to_loop(const struct socket_slot *s, int op) {
	return op == COMMAND_CLOSE && write_waits_for_end(s) && !atomic_load(&s->loop->waiting);
}

// From this moment on sends are refused, whatever the loop is doing. What was queued to
// be sent soon is written before: shutdown only loses what the peer does not take.
static void
post_end(struct socket_server *ss, int op, const char *verb, int id, uintptr_t opaque) {
	struct socket_slot *s = lock_for(ss, verb, id, opaque);
	if (s != NULL) {
		struct socket_loop *loop = s->loop;
		s->closing = true;
		if (can_leave_to_loop(s, op)) {
			s->left_to_loop = true;
			slot_unlock(s);
		} else {
			write_flush_here(ss, s);
		}
		post_to(loop, op, id, 0);
	}
}

void
socket_server_exit(struct socket_server *ss) {
	for (int i = 0; i < ss->loops_n; i++) {
		post_to(&ss->loops[i], COMMAND_EXIT, 0, 0);
	}
}

void
socket_server_close(struct socket_server *ss, uintptr_t opaque, int id) {
	post_end(ss, COMMAND_CLOSE, "close", id, opaque);
}

void
socket_server_shutdown(struct socket_server *ss, uintptr_t opaque, int id) {
	post_end(ss, COMMAND_SHUTDOWN, "shut down", id, opaque);
}

static void
start(struct socket_server *ss, uintptr_t opaque, int id, bool starts_accepted) {
	struct socket_command c = {.op = COMMAND_START, .id = id, .opaque = opaque};
	struct socket_slot *s = lock_for(ss, "start", id, opaque);
	c.value = starts_accepted;
	if (s == NULL) {
		post_to(&ss->loops[0], COMMAND_STRANGER, id, opaque);
		return;
	}
	struct socket_loop *loop = s->loop;
	slot_unlock(s);
	command_post(loop, &c);
}

void
socket_server_start(struct socket_server *ss, uintptr_t opaque, int id) {
	start(ss, opaque, id, false);
}

void
socket_server_accept(struct socket_server *ss, uintptr_t opaque, int id) {
	start(ss, opaque, id, true);
}

void
socket_server_pause(struct socket_server *ss, uintptr_t opaque, int id) {
	struct socket_slot *s = lock_for(ss, "pause", id, opaque);
	if (s != NULL) {
		struct socket_loop *loop = s->loop;
		slot_unlock(s);
		post_to(loop, COMMAND_PAUSE, id, 0);
	}
}

void
socket_server_nodelay(struct socket_server *ss, int id) {
	struct socket_option on = {SOCKET_OPTION_NODELAY, 1};
	socket_server_option(ss, 0, id, &on, 1);
}

int
socket_server_option(struct socket_server *ss, uintptr_t opaque, int id,
                     const struct socket_option *options, int n) {
	struct socket_slot *s = lock_for(ss, "change", id, opaque);
	if (s == NULL) {
		return -1;
	}
	struct socket_settings settings = s->settings;
	bool is_listener = s->kind == KIND_LISTENER;
	struct listen_limits limits = is_listener ? admission_limits(s->admission) : ss->limits;
	bool ok = settings_set_all(&settings, &limits, options, n);
	if (ok) {
		slot_configure(s, &settings);
		if (is_listener) {
			admission_set(s->admission, &limits);
		}
	}
	struct socket_loop *loop = s->loop;
	slot_unlock(s);
	if (ok) {
		post_to(loop, COMMAND_TUNE, id, 0);
	}
	return ok ? 0 : -1;
}

void
socket_server_owner_exit(struct socket_server *ss, uintptr_t opaque) {
	if (slot_owner_has_any(ss, opaque)) {
		for (int i = 0; i < ss->loops_n; i++) {
			post_to(&ss->loops[i], COMMAND_OWNER_EXIT, 0, opaque);
		}
	}
}

//------------------------------------------------------------------- sending

static bool
refuses_sends(const struct socket_slot *s) {
	return s->closing || s->state == SLOT_HALFCLOSE_WRITE;
}

static int
send_to_slot(struct socket_server *ss, struct socket_slot *s, struct socket_sendbuffer *b,
             enum send_mode mode) {
	struct socket_udp_address to;
	if (refuses_sends(s)) {
		slot_unlock(s);
		write_refuse(ss, b);
		return -1;
	}
	switch (s->kind) {
	case KIND_LISTENER:
		slot_unlock(s);
		write_refuse(ss, b);
		skynet_error(NULL, "socket-server error: write to listen fd %d.", b->id);
		return 0;
	case KIND_UDP4:
	case KIND_UDP6:
		to = s->peer;
		if (address_size(&to) != 0) {
			return write_submit(ss, s, b, mode, &to);
		}
		slot_unlock(s);
		write_refuse(ss, b);
		skynet_error(NULL, "socket-server : set udp (%d) error: address first.", b->id);
		return -1;
	default:
		return s->relays ? write_relay(ss, s, b) : write_submit(ss, s, b, mode, NULL);
	}
}

static int
send_buffer(struct socket_server *ss, struct socket_sendbuffer *b, enum send_mode mode) {
	struct socket_slot *s = slot_lock(ss, b->id);
	if (s == NULL) {
		write_refuse(ss, b);
		return -1;
	}
	return send_to_slot(ss, s, b, mode);
}

int
socket_server_send(struct socket_server *ss, struct socket_sendbuffer *b) {
	return send_buffer(ss, b, SEND_HIGH);
}

int
socket_server_send_lowpriority(struct socket_server *ss, struct socket_sendbuffer *b) {
	return send_buffer(ss, b, SEND_LOW);
}

int
socket_server_send_later(struct socket_server *ss, struct socket_sendbuffer *b) {
	return send_buffer(ss, b, SEND_LATER);
}

int
socket_server_relay(struct socket_server *ss, int id, bool on) {
	struct socket_slot *s = slot_lock(ss, id);
	if (s == NULL) {
		return -1;
	}
	s->relays = on;
	slot_unlock(s);
	return 0;
}

int
socket_server_send_raw(struct socket_server *ss, struct socket_sendbuffer *b) {
	struct socket_slot *s = slot_lock(ss, b->id);
	if (s != NULL && s->kind == KIND_STREAM && !refuses_sends(s)) {
		return write_submit(ss, s, b, SEND_HIGH, NULL);
	}
	if (s != NULL) {
		slot_unlock(s);
	}
	write_refuse(ss, b);
	return -1;
}

void
socket_server_flush(struct socket_server *ss, int id) {
	struct socket_slot *s = slot_lock(ss, id);
	if (s != NULL) {
		write_flush_here(ss, s);
	}
}

//-------------------------------------------------------------------- making

static bool
is_port(int port) {
	return port >= 0 && port <= UINT16_MAX;
}

static bool
is_host(const char *host) {
	if (strlen(host) > MAX_HOST) {
		skynet_error(NULL, "socket-server error: Invalid addr %s.", host);
		return false;
	}
	return true;
}

static struct socket_slot *
reserve(struct socket_server *ss, uintptr_t opaque, int kind) {
	struct socket_slot *s = slot_reserve(ss, opaque, kind, SLOT_RESERVED);
	if (s == NULL) {
		notice_log(ss, NOTICE_SLOTS, "error: reach skynet socket number limit.");
	}
	return s;
}

int
socket_server_connect(struct socket_server *ss, uintptr_t opaque, const char *addr, int port) {
	return socket_server_connect_with(ss, opaque, addr, port, NULL, 0);
}

int
socket_server_connect_with(struct socket_server *ss, uintptr_t opaque, const char *addr, int port,
                           const struct socket_option *options, int n) {
	struct socket_settings settings = settings_of_opened(ss);
	struct listen_limits ignored = ss->limits;
	if (!settings_set_all(&settings, &ignored, options, n)) {
		return -1;
	}
	if (!is_host(addr)) {
		return -1;
	}
	if (!is_port(port)) {
		skynet_error(NULL, "socket-server error: Invalid port %d.", port);
		return -1;
	}
	struct socket_slot *s = reserve(ss, opaque, KIND_STREAM);
	if (s == NULL) {
		return -1;
	}
	struct socket_loop *loop = s->loop;
	slot_configure(s, &settings);
	struct socket_command c = {.id = slot_publish(s)};
	c.list = address_list_numeric(addr, port, SOCK_STREAM);
	c.op = c.list != NULL ? COMMAND_CONNECT : COMMAND_RESOLVING;
	command_post(loop, &c);
	if (c.op == COMMAND_RESOLVING) {
		resolver_request(ss->resolver, loop, c.id, addr, port);
	}
	return c.id;
}

int
socket_server_listen(struct socket_server *ss, uintptr_t opaque, const char *addr, int port,
                     int backlog) {
	struct socket_option o = {SOCKET_OPTION_BACKLOG, backlog < 0 ? 0 : backlog};
	return socket_server_listen_with(ss, opaque, addr, port, &o, 1);
}

int
socket_server_listen_with(struct socket_server *ss, uintptr_t opaque, const char *addr, int port,
                          const struct socket_option *options, int n) {
	struct socket_settings settings = ss->settings;
	struct listen_limits limits = ss->limits;
	if (!is_port(port) || !settings_set_all(&settings, &limits, options, n)) {
		errno = EINVAL;
		return -1;
	}
	int fd = socket_open_bound(ss, addr, port, SOCK_STREAM, &limits);
	if (fd < 0) {
		return -1;
	}
	struct socket_slot *s = NULL;
	struct socket_udp_address local;
	int err = EMFILE;
	if (listen(fd, limits.backlog) == 0 && address_of_socket(fd, &local)) {
		s = slot_reserve(ss, opaque, KIND_LISTENER, SLOT_PLISTEN);
	} else {
		err = errno;
	}
	if (s == NULL) {
		close(fd);
		errno = err;
		return -1;
	}
	struct socket_loop *loop = s->loop;
	settings_tune(fd, &settings);
	slot_configure(s, &settings);
	s->admission = admission_new(&limits);
	s->fd = fd;
	s->peer = local;
	int id = slot_publish(s);
	post_to(loop, COMMAND_LISTEN, id, 0);
	return id;
}

int
socket_server_bind(struct socket_server *ss, uintptr_t opaque, int fd) {
	struct socket_slot *s = slot_reserve(ss, opaque, KIND_FOREIGN, SLOT_CONNECTED);
	if (s == NULL) {
		return -1;
	}
	struct socket_loop *loop = s->loop;
	s->fd = fd;
	// Writes wait for COMMAND_BIND: only then can the descriptor be polled.
	s->write_polled = true;
	int id = slot_publish(s);
	post_to(loop, COMMAND_BIND, id, 0);
	return id;
}

//---------------------------------------------------------------- resolution

int
socket_server_lookup(struct socket_server *ss, uintptr_t opaque, const char *host) {
	if (!is_host(host)) {
		return -1;
	}
	struct socket_slot *s = reserve(ss, opaque, KIND_NAME);
	if (s == NULL) {
		return -1;
	}
	struct socket_loop *loop = s->loop;
	int id = slot_publish(s);
	post_to(loop, COMMAND_RESOLVING, id, 0);
	resolver_request(ss->resolver, loop, id, host, 0);
	return id;
}

bool
socket_server_is_numeric(const char *host) {
	struct address_list *list = address_list_numeric(host, 0, SOCK_STREAM);
	skynet_free(list);
	return list != NULL;
}

// Limits what a name in socket_server_resolve may cost its caller.
#define RESOLVE_LIMIT_MS 5000

char *
socket_server_resolve(struct socket_server *ss, const char *host, const char **error) {
	struct address_list *list = address_list_numeric(host, 0, SOCK_STREAM);
	if (list == NULL) {
		struct addrinfo *ai = NULL;
		*error = resolver_lookup(ss->resolver, host, SOCK_STREAM, RESOLVE_LIMIT_MS, &ai);
		if (*error != NULL) {
			return NULL;
		}
		list = address_list_from(ai, 0);
	}
	if (list == NULL) {
		*error = gai_strerror(EAI_NONAME);
		return NULL;
	}
	char *texts = address_list_texts(list, '\0');
	skynet_free(list);
	return texts;
}
