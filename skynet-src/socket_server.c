// The heart of the socket server: the poll loop and the requests it serves. See socket_server.h for
// the design and socket_impl.h for the map.
#include "socket_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "malloc_hook.h"
#include "skynet.h"
#include "skynet_malloc.h"

// A name that is not resolved by then is reported as an error.
#define CONNECT_RESOLVE_LIMIT_MS 30000
// What the loop sleeps when it can't wait for the network.
#define WAIT_PAUSE_NS 10000000

//-------------------------------------------------------------------- events

char *
loop_alloc_for(struct socket_slot *s, size_t sz) {
	uint32_t before = malloc_owner();
	malloc_set_owner((uint32_t)s->owner);
	char *p = skynet_malloc(sz);
	malloc_set_owner(before);
	return p;
}

void
loop_emit(struct socket_loop *loop, struct socket_slot *s, int type, int ud, char *data) {
	struct socket_message m;
	m.id = atomic_load_explicit(&s->id, memory_order_relaxed);
	m.opaque = s->owner;
	m.ud = ud;
	m.data = data;
	loop->events++;
	loop->ss->sink(loop->ss->sink_ud, type, &m);
}

void
loop_emit_error(struct socket_loop *loop, struct socket_slot *s, const char *text) {
	if (!s->close_told) {
		loop_emit(loop, s, SOCKET_ERR, 0, (char *)(uintptr_t)text);
	}
}

void
loop_emit_close(struct socket_loop *loop, struct socket_slot *s) {
	if (!s->close_told) {
		s->close_told = true;
		loop_emit(loop, s, SOCKET_CLOSE, 0, NULL);
	}
}

// An answer to somebody who does not own the id, or whose id does not exist.
static void
emit_to(struct socket_loop *loop, int type, int id, uintptr_t opaque, const char *text) {
	struct socket_message m = {.id = id, .opaque = opaque};
	m.data = (char *)(uintptr_t)text;
	loop->events++;
	loop->ss->sink(loop->ss->sink_ud, type, &m);
}

//------------------------------------------------------------------ interest

// What the poller may refuse to change it may still take anew. If not, who asked need not
// know how to end the socket at this point: the loop does so.
static int
watch_anew(struct socket_loop *loop, struct socket_slot *s, bool reading) {
	int id = atomic_load_explicit(&s->id, memory_order_relaxed);
	loop_unwatch(loop, s);
	if (loop->ops->add(loop->poller, s->fd, (uintptr_t)id, reading, s->write_polled) == 0) {
		atomic_fetch_add_explicit(&loop->interests, 1, memory_order_relaxed);
		return 0;
	}
	struct socket_command c = {.op = COMMAND_UNWATCHED, .id = id};
	int err = errno;
	c.text = strerror(err);
	command_post(loop, &c);
	errno = err;
	return -1;
}

int
loop_apply_interest(struct socket_loop *loop, struct socket_slot *s) {
	uint8_t want = POLLED_KNOWN;
	bool reading = s->reading && !atomic_load(&s->throttled);
	want |= reading ? POLLED_READ : 0;
	want |= s->write_polled ? POLLED_WRITE : 0;
	if (want == s->polled) {
		return 0;
	}
	uintptr_t tag = (uintptr_t)atomic_load_explicit(&s->id, memory_order_relaxed);
	if (s->polled == 0) {
		if (loop->ops->add(loop->poller, s->fd, tag, reading, s->write_polled) != 0) {
			return -1;
		}
		atomic_fetch_add_explicit(&loop->interests, 1, memory_order_relaxed);
	} else if (loop->ops->set(loop->poller, s->fd, tag, reading, s->write_polled) != 0 &&
	           watch_anew(loop, s, reading) != 0) {
		return -1;
	}
	s->polled = want;
	return 0;
}

void
loop_forget_interest(struct socket_loop *loop, struct socket_slot *s) {
	atomic_fetch_sub_explicit(&loop->interests, 1, memory_order_relaxed);
	s->polled = 0;
}

void
loop_unwatch(struct socket_loop *loop, struct socket_slot *s) {
	if (s->polled != 0) {
		loop->ops->del(loop->poller, s->fd);
		loop_forget_interest(loop, s);
	}
}

int
loop_watch(struct socket_loop *loop, struct socket_slot *s, bool reading, bool writing) {
	pthread_mutex_lock(&s->lock);
	s->reading = reading;
	s->write_polled = writing;
	slot_unlock(s);
	return loop_apply_interest(loop, s);
}

char *
loop_read_buffer(struct socket_loop *loop) {
	if (loop->read_buffer == NULL) {
		loop->read_buffer = skynet_malloc(READ_SIZE);
	}
	return loop->read_buffer;
}

//------------------------------------------------------------------ requests

static void
on_listen(struct socket_loop *loop, struct socket_slot *s) {
	char text[ADDRESS_TEXT_SIZE];
	if (loop_watch(loop, s, false, false) != 0) {
		loop_emit_error(loop, s, strerror(errno));
		loop_destroy(loop, s);
		return;
	}
	address_ip_text(&s->peer, text);
	loop_emit(loop, s, SOCKET_OPEN, address_port(&s->peer), text);
}

static void
on_bind(struct socket_loop *loop, struct socket_slot *s) {
	int fl = fcntl(s->fd, F_GETFL);
	bool ok = fl >= 0 && loop_watch(loop, s, true, false) == 0;
	if (ok && (fl & O_NONBLOCK) == 0) {
		s->restore_blocking = true;
		ok = fcntl(s->fd, F_SETFL, fl | O_NONBLOCK) == 0;
	}
	if (!ok) {
		char text[80];
		snprintf(text, sizeof(text), "bind fd %d: %s", s->fd, strerror(errno));
		loop_emit_error(loop, s, text);
		loop_destroy(loop, s);
		return;
	}
	loop_emit(loop, s, SOCKET_OPEN, 0, (char *)(uintptr_t) "binding");
	write_flush(loop, s);
}

static void
on_udp(struct socket_loop *loop, struct socket_slot *s) {
	if (loop_watch(loop, s, true, false) != 0) {
		// Its owner has it already, and hears of its end.
		loop_abort(loop, s, strerror(errno));
		return;
	}
	write_flush(loop, s);
}

static void
take_over(struct socket_loop *loop, struct socket_slot *s, uintptr_t opaque) {
	uintptr_t before = s->owner;
	if (before != opaque) {
		slot_set_owner(loop->ss, s, opaque);
	}
	int id = atomic_load_explicit(&s->id, memory_order_relaxed);
	loop_emit(loop, s, SOCKET_OPEN, 0, (char *)(uintptr_t) "transfer");
	if (before != opaque) {
		// The old owner hears that no more events will come to it.
		emit_to(loop, SOCKET_OPEN, id, before, "transferred");
	}
}

// A deadline of such a socket is the end of a rest, which the system has made necessary.
static bool
may_rest(const struct socket_slot *s) {
	return s->state == SLOT_LISTEN || (udp_is(s) && !s->draining);
}

static void
on_start(struct socket_loop *loop, struct socket_slot *s, const struct socket_command *c) {
	int id = c->id;
	uintptr_t opaque = c->opaque;
	// A slot outlives its CLOSE while some thread is inside a write call.
	if (s->draining || s->close_told || s->state == SLOT_HALFCLOSE_READ) {
		emit_to(loop, SOCKET_ERR, id, opaque, "socket closed");
		return;
	}
	if (s->state == SLOT_RESERVED || s->state == SLOT_CONNECTING) {
		return;
	}
	if (may_rest(s)) {
		deadline_clear(loop, s);
	}
	if (loop_watch(loop, s, true, s->write_polled) != 0) {
		emit_to(loop, SOCKET_ERR, id, opaque, "enable read failed");
		return;
	}
	s->starts_accepted |= c->value != 0;
	if (s->state == SLOT_PACCEPT || s->state == SLOT_PLISTEN) {
		if (s->owner != opaque) {
			slot_set_owner(loop->ss, s, opaque);
		}
		pthread_mutex_lock(&s->lock);
		s->state = s->kind == KIND_LISTENER ? SLOT_LISTEN : SLOT_CONNECTED;
		slot_unlock(s);
		loop_emit(loop, s, SOCKET_OPEN, 0, (char *)(uintptr_t) "start");
		if (s->kind == KIND_STREAM) {
			loop_limit_idle(loop, s);
		}
		write_flush(loop, s);
	} else if (s->kind != KIND_FOREIGN &&
	           (s->state == SLOT_CONNECTED ||
	            (s->state == SLOT_HALFCLOSE_WRITE && s->owner != opaque))) {
		take_over(loop, s, opaque);
	}
}

static void
on_pause(struct socket_loop *loop, struct socket_slot *s) {
	if (may_rest(s)) {
		// And must not go on by itself then.
		deadline_clear(loop, s);
	}
	// What was accepted as open may be paused before its loop has heard of it.
	if (!s->reading) {
		return;
	}
	if (loop_watch(loop, s, false, s->write_polled) != 0) {
		loop_emit_error(loop, s, "disable read failed");
	}
}

static void
on_resolved(struct socket_loop *loop, struct socket_slot *s, struct socket_command *c) {
	if (s->state != SLOT_RESERVED) {
		return;
	}
	if (c->list == NULL) {
		loop_emit_error(loop, s, c->text);
		loop_destroy(loop, s);
		return;
	}
	if (s->kind == KIND_NAME) {
		char *texts = address_list_texts(c->list, ' ');
		loop_emit(loop, s, SOCKET_OPEN, 0, texts);
		skynet_free(texts);
		loop_destroy(loop, s);
		return;
	}
	struct address_list *list = c->list;
	c->list = NULL;
	connect_begin(loop, s, list);
}

static void
on_owner_exit(struct socket_loop *loop, uintptr_t opaque) {
	int n;
	int *ids = slot_owner_ids(loop, opaque, &n);
	for (int i = 0; i < n; i++) {
		struct socket_slot *s = slot_of_loop(loop, ids[i]);
		if (s != NULL) {
			s->close_told = true;
			loop_close(loop, s);
		}
	}
	skynet_free(ids);
}

// The settings have changed.
static void
on_tune(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	struct socket_settings settings = s->settings;
	slot_unlock(s);
	if (s->fd >= 0 && (s->kind == KIND_STREAM || s->kind == KIND_LISTENER)) {
		settings_tune(s->fd, &settings);
	}
	throttle_review(loop, s);
	if (s->kind == KIND_STREAM && s->state == SLOT_CONNECTED && !s->draining) {
		loop_limit_idle(loop, s);
	}
}

static void
on_overflow(struct socket_loop *loop, struct socket_slot *s) {
	char peer[ADDRESS_TEXT_SIZE];
	pthread_mutex_lock(&s->lock);
	uint32_t limit = s->settings.send_limit;
	slot_unlock(s);
	address_text(&s->peer, peer);
	notice_log(loop->ss, NOTICE_SEND_CLOSE,
	           "close %d of :%08x: its peer %s reads too slowly, more than %u bytes unsent; "
	           "raise its send_limit if that is meant",
	           atomic_load_explicit(&s->id, memory_order_relaxed), (unsigned)s->owner, peer, limit);
	loop_abort(loop, s, "send limit exceeded");
}

static void
on_shutdown(struct socket_loop *loop, struct socket_slot *s) {
	loop_emit_close(loop, s);
	loop_destroy(loop, s);
}

static void
serve_slot(struct socket_loop *loop, struct socket_slot *s, struct socket_command *c) {
	switch (c->op) {
	case COMMAND_CONNECT:
	case COMMAND_RESOLVED:
		on_resolved(loop, s, c);
		break;
	case COMMAND_RESOLVING:
		deadline_set(loop, s, CONNECT_RESOLVE_LIMIT_MS);
		break;
	case COMMAND_ACCEPTED:
		stream_accepted(loop, s);
		break;
	case COMMAND_LISTEN:
		on_listen(loop, s);
		break;
	case COMMAND_BIND:
		on_bind(loop, s);
		break;
	case COMMAND_UDP:
		on_udp(loop, s);
		break;
	case COMMAND_PAUSE:
		on_pause(loop, s);
		break;
	case COMMAND_CLOSE:
		loop_close(loop, s);
		break;
	case COMMAND_SHUTDOWN:
		on_shutdown(loop, s);
		break;
	case COMMAND_TUNE:
		on_tune(loop, s);
		break;
	case COMMAND_UNTHROTTLE:
		throttle_review(loop, s);
		break;
	case COMMAND_OVERFLOW:
		on_overflow(loop, s);
		break;
	case COMMAND_FLUSH:
		write_flush(loop, s);
		break;
	case COMMAND_WARNING:
		if (!s->close_told) {
			loop_emit(loop, s, SOCKET_WARNING, c->value, NULL);
		}
		break;
	case COMMAND_ERROR:
		loop_emit_error(loop, s, c->text);
		break;
	case COMMAND_UNWATCHED:
		if (s->polled == 0) {
			loop_abort(loop, s, c->text);
		}
		break;
	}
}

static void
serve(struct socket_loop *loop, struct socket_command *c) {
	if (c->op == COMMAND_EXIT) {
		atomic_store_explicit(&loop->exiting, true, memory_order_relaxed);
		return;
	}
	if (c->op == COMMAND_OWNER_EXIT) {
		on_owner_exit(loop, c->opaque);
		return;
	}
	struct socket_slot *s = slot_of_loop(loop, c->id);
	if (c->op == COMMAND_STRANGER || (c->op == COMMAND_START && s == NULL)) {
		emit_to(loop, SOCKET_ERR, c->id, c->opaque, "invalid socket");
	} else if (c->op == COMMAND_START) {
		on_start(loop, s, c);
	} else if (s != NULL) {
		serve_slot(loop, s, c);
	}
}

static void
serve_all(struct socket_loop *loop) {
	struct socket_command *c = command_take(loop);
	while (c != NULL) {
		struct socket_command *next = c->next;
		serve(loop, c);
		command_free(c);
		c = next;
	}
}

//----------------------------------------------------------------- readiness

static const char *
pending_error(struct socket_slot *s) {
	int err = 0;
	socklen_t len = sizeof(err);
	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0) {
		// Of a pipe: nobody reads it any more.
		err = errno == ENOTSOCK ? EPIPE : errno;
	}
	return err == 0 ? NULL : strerror(err);
}

// Whoever wrote to an attached descriptor, such as the standard input, has closed it, and
// what is left in it is lost if it is not read now, though the owner rests.
static bool
is_last_chance(struct socket_slot *s, const struct poller_event *e) {
	return e->eof && s->kind == KIND_FOREIGN && !s->close_told && stream_has_unread(s);
}

static void
stream_event(struct socket_loop *loop, struct socket_slot *s, const struct poller_event *e) {
	int id = atomic_load_explicit(&s->id, memory_order_relaxed);
	bool unread = false;
	if ((e->read && s->reading) || is_last_chance(s, e)) {
		if (s->kind == KIND_UDP4 || s->kind == KIND_UDP6) {
			udp_read(loop, s);
		} else {
			unread = stream_read(loop, s);
		}
	}
	// Each step may have ended the socket.
	if (e->write && slot_of_loop(loop, id) == s) {
		write_flush(loop, s);
	}
	if (unread || slot_of_loop(loop, id) != s) {
		return;
	}
	if (e->error) {
		const char *text = pending_error(s);
		if (text != NULL && s->state != SLOT_HALFCLOSE_READ && !s->close_told) {
			loop_emit_error(loop, s, text);
		}
	}
	// The error of what is no socket stays, and would be reported for ever.
	if (e->eof || (e->error && s->kind == KIND_FOREIGN)) {
		loop_emit_close(loop, s);
		loop_destroy(loop, s);
	}
}

static void
on_event(struct socket_loop *loop, const struct poller_event *e) {
	bool is_attempt = (e->tag & CONNECT_TAG) != 0;
	struct socket_slot *s = slot_of_loop(loop, (int)(e->tag & ~CONNECT_TAG));
	if (s == NULL) {
		return;
	}
	if (is_attempt) {
		if (s->state == SLOT_CONNECTING) {
			connect_ready(loop, s);
		}
		return;
	}
	switch (s->state) {
	case SLOT_LISTEN:
		stream_accept(loop, s);
		break;
	case SLOT_PLISTEN:
		break;
	default:
		stream_event(loop, s, e);
		break;
	}
}

static void
on_deadline(struct socket_loop *loop, struct socket_slot *s) {
	switch (s->state) {
	case SLOT_RESERVED:
		if (!s->close_told) {
			loop_emit_error(loop, s, "Name resolution timed out");
		}
		loop_destroy(loop, s);
		break;
	case SLOT_CONNECTING:
		connect_timer(loop, s);
		break;
	case SLOT_LISTEN:
		if (loop->spare_fd < 0) {
			loop->spare_fd = socket_spare();
		}
		loop_watch(loop, s, true, false);
		break;
	default:
		if (s->draining) {
			loop_linger_over(loop, s);
		} else if (udp_is(s)) {
			udp_rest_over(loop, s);
		} else {
			loop_idle_over(loop, s);
		}
		break;
	}
}

//---------------------------------------------------------------------- loop

static void
serve_deadlines(struct socket_loop *loop) {
	if (loop->deadlines.n == 0) {
		return;
	}
	struct socket_slot *s;
	while ((s = deadline_take(loop, loop->now_ms)) != NULL) {
		on_deadline(loop, s);
	}
}

// It is tried again; but whoever meant to sleep must not spin meanwhile.
static void
wait_failed(struct socket_loop *loop, int err, int timeout_ms) {
	struct timespec pause = {.tv_nsec = WAIT_PAUSE_NS};
	notice_log(loop->ss, NOTICE_POLLER, "can't wait for the network: %s", strerror(err));
	if (timeout_ms != 0) {
		nanosleep(&pause, NULL);
	}
}

void
socket_server_wait(struct socket_server *ss, int at, int timeout_ms) {
	struct socket_loop *loop = &ss->loops[at];
	if (timeout_ms != 0 && !command_prepare_wait(loop)) {
		timeout_ms = 0;
	}
	timeout_ms = deadline_timeout(loop, timeout_ms);
	int n = loop->ops->wait(loop->poller, loop->ready, EVENT_BATCH, timeout_ms);
	int err = errno;
	command_end_wait(loop);
	loop->now_ms = deadline_now_ms();
	if (n < 0) {
		wait_failed(loop, err, timeout_ms);
		n = 0;
	}
	loop->ready_n = n;
}

int
socket_server_serve(struct socket_server *ss, int at) {
	struct socket_loop *loop = &ss->loops[at];
	loop->events = 0;
	// Requests first: one that closes a socket takes its event along.
	serve_all(loop);
	for (int i = 0; i < loop->ready_n; i++) {
		on_event(loop, &loop->ready[i]);
	}
	loop->ready_n = 0;
	serve_deadlines(loop);
	if (atomic_load_explicit(&loop->exiting, memory_order_relaxed)) {
		return SOCKET_POLL_EXIT;
	}
	return loop->events;
}

bool
socket_server_hold(struct socket_server *ss, int at, bool try_only) {
	if (try_only) {
		return pthread_mutex_trylock(&ss->loops[at].turn) == 0;
	}
	pthread_mutex_lock(&ss->loops[at].turn);
	return true;
}

void
socket_server_unhold(struct socket_server *ss, int at) {
	pthread_mutex_unlock(&ss->loops[at].turn);
}

int
socket_server_poll(struct socket_server *ss, int at, int timeout_ms, bool try_only) {
	if (!socket_server_hold(ss, at, try_only)) {
		return SOCKET_POLL_BUSY;
	}
	bool exiting = atomic_load_explicit(&ss->loops[at].exiting, memory_order_relaxed);
	socket_server_wait(ss, at, exiting ? 0 : timeout_ms);
	int r = socket_server_serve(ss, at);
	socket_server_unhold(ss, at);
	return r;
}

bool
socket_server_is_busy(struct socket_server *ss, int at) {
	struct socket_loop *loop = &ss->loops[at];
	return atomic_load_explicit(&loop->interests, memory_order_relaxed) > 0 ||
	       atomic_load_explicit(&loop->inbox, memory_order_relaxed) != NULL;
}

void
socket_server_wake(struct socket_server *ss, int at) {
	struct socket_loop *loop = &ss->loops[at];
	loop->ops->wake(loop->poller);
}

//---------------------------------------------------------------- life cycle

struct socket_loop *
loop_for_new(struct socket_server *ss) {
	unsigned n = atomic_fetch_add_explicit(&ss->next_loop, 1, memory_order_relaxed);
	return &ss->loops[n % (unsigned)ss->loops_n];
}

static bool
loop_init(struct socket_loop *loop, struct socket_server *ss, const struct poller_ops *ops) {
	loop->poller = ops->create();
	if (loop->poller == NULL) {
		return false;
	}
	loop->ss = ss;
	loop->ops = ops;
	loop->spare_fd = socket_spare();
	pthread_mutex_init(&loop->turn, NULL);
	atomic_init(&loop->inbox, NULL);
	atomic_init(&loop->waiting, false);
	atomic_init(&loop->exiting, false);
	atomic_init(&loop->interests, 0);
	return true;
}

static void
loop_release(struct socket_loop *loop) {
	loop->ops->release(loop->poller);
	if (loop->spare_fd >= 0) {
		close(loop->spare_fd);
	}
	pthread_mutex_destroy(&loop->turn);
	skynet_free(loop->deadlines.slot);
	skynet_free(loop->read_buffer);
}

struct socket_server *
socket_server_create_with(const struct poller_ops *ops, int loops, uint64_t (*clock)(void),
                          socket_sink sink, void *ud) {
	struct socket_server *ss = skynet_calloc(1, sizeof(*ss));
	ss->loops = skynet_calloc((size_t)loops, sizeof(ss->loops[0]));
	while (ss->loops_n < loops && loop_init(&ss->loops[ss->loops_n], ss, ops)) {
		ss->loops_n++;
	}
	if (ss->loops_n < loops) {
		int err = errno;
		while (ss->loops_n > 0) {
			loop_release(&ss->loops[--ss->loops_n]);
		}
		skynet_free(ss->loops);
		skynet_free(ss);
		errno = err;
		return NULL;
	}
	ss->clock = clock;
	ss->sink = sink;
	ss->sink_ud = ud;
	ss->resolver = resolver_create();
	slot_store_init(&ss->slots);
	settings_init(&ss->settings, &ss->limits);
	return ss;
}

struct socket_server *
socket_server_create(int loops, uint64_t (*clock)(void), socket_sink sink, void *ud) {
	return socket_server_create_with(poller_native(), loops, clock, sink, ud);
}

static void
release_slot(struct socket_slot *s, void *ud) {
	struct socket_server *ss = ud;
	if (s->left_to_loop) {
		write_end(ss, s);
	}
	write_discard(ss, s);
	connect_attempt_free(s->loop, s);
	loop_close_descriptor(s->loop, s);
	if (s->admission != NULL && s->kind == KIND_STREAM) {
		admission_leave(s->admission, &s->peer);
	} else {
		admission_release(s->admission);
	}
}

static void
drop_requests(struct socket_loop *loop) {
	struct socket_command *c = command_take(loop);
	while (c != NULL) {
		struct socket_command *next = c->next;
		command_free(c);
		c = next;
	}
}

void
socket_server_release(struct socket_server *ss) {
	resolver_release(ss->resolver);
	for (int i = 0; i < ss->loops_n; i++) {
		drop_requests(&ss->loops[i]);
	}
	slot_each(ss, release_slot, ss);
	slot_store_free(&ss->slots);
	for (int i = 0; i < ss->loops_n; i++) {
		loop_release(&ss->loops[i]);
	}
	skynet_free(ss->loops);
	skynet_free(ss);
}

bool
socket_server_default(struct socket_server *ss, const struct socket_option *o, bool is_preset) {
	return settings_set(&ss->settings, &ss->limits, o->name, o->value, is_preset);
}

void
socket_server_set_limit(struct socket_server *ss, int max_sockets) {
	pthread_mutex_lock(&ss->slots.lock);
	ss->slots.limit = max_sockets;
	pthread_mutex_unlock(&ss->slots.lock);
}

void
socket_server_userobject(struct socket_server *ss, struct socket_object_interface *object) {
	ss->object = *object;
}
