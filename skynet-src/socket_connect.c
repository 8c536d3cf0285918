// Connecting: the addresses of a host are tried in the order of RFC 8305 (families in
// turn), each a moment after the one before it; the first that answers wins and the
// others are dropped. Loop.
//
// Owns the descriptors of the attempts until one of them becomes the socket's.
// They are polled under a tag of their own, so that a late event of a loser is not
// taken for one of the winner.
#include "socket_impl.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "skynet.h"
#include "skynet_malloc.h"

// The Connection Attempt Delay of RFC 8305, section 5.
#define ATTEMPT_DELAY_MS 250
// Attempts under way at a time. With more addresses than that, the next one begins
// when one of them has failed.
#define RACE_MAX 4

struct connect_attempt {
	struct address_list *list;
	int next;        // index of the address to try
	int err;         // why the last one failed
	uint64_t end_ms; // 0 = no time limit
	int n;
	struct {
		int fd;
		int address;
	} race[RACE_MAX];
};

//--------------------------------------------------------------------- order

// The first of the list from `i` on that is not of this family, or of it; n if none.
static int
find_family(const struct address_list *list, const bool *taken, bool is_v6) {
	int i = 0;
	while (i < list->n && (taken[i] || (list->addr[i].any.sa_family == AF_INET6) != is_v6)) {
		i++;
	}
	return i;
}

// RFC 8305, section 4: families in turn, each in the order of the resolver.
static struct address_list *
interleave(struct address_list *list) {
	size_t size = sizeof(*list) + (size_t)list->n * sizeof(list->addr[0]);
	struct address_list *out = skynet_malloc(size);
	bool *taken = skynet_calloc((size_t)list->n, sizeof(*taken));
	bool is_v6 = list->addr[0].any.sa_family == AF_INET6;
	out->n = list->n;
	for (int n = 0; n < list->n; n++) {
		int i = find_family(list, taken, is_v6);
		if (i == list->n) {
			i = find_family(list, taken, !is_v6);
		}
		out->addr[n] = list->addr[i];
		taken[i] = true;
		is_v6 = list->addr[i].any.sa_family != AF_INET6;
	}
	skynet_free(taken);
	skynet_free(list);
	return out;
}

//------------------------------------------------------------------ attempts

static void
unwatch(struct socket_loop *loop, int fd) {
	loop->ops->del(loop->poller, fd);
	atomic_fetch_sub_explicit(&loop->interests, 1, memory_order_relaxed);
}

// Takes attempt i out of the race. Gives its descriptor, not polled any more.
static int
leave_race(struct socket_loop *loop, struct connect_attempt *t, int i) {
	int fd = t->race[i].fd;
	unwatch(loop, fd);
	t->race[i] = t->race[--t->n];
	return fd;
}

void
connect_attempt_free(struct socket_loop *loop, struct socket_slot *s) {
	struct connect_attempt *t = s->attempt;
	if (t == NULL) {
		return;
	}
	while (t->n > 0) {
		close(leave_race(loop, t, 0));
	}
	skynet_free(t->list);
	skynet_free(t);
	s->attempt = NULL;
}

static void
connect_failed(struct socket_loop *loop, struct socket_slot *s, int err) {
	loop_emit_error(loop, s, strerror(err));
	loop_destroy(loop, s);
}

// Takes the descriptor, which is connected and not polled.
static void
connect_done(struct socket_loop *loop, struct socket_slot *s, int fd, int address) {
	char text[ADDRESS_TEXT_SIZE];
	struct socket_udp_address a;
	address_from_sockaddr(&a, &s->attempt->list->addr[address].any);
	address_ip_text(&a, text);
	connect_attempt_free(loop, s);
	deadline_clear(loop, s);
	pthread_mutex_lock(&s->lock);
	bool told = s->draining;
	s->state = SLOT_CONNECTED;
	s->fd = fd;
	s->peer = a;
	slot_unlock(s);
	if (told) {
		// Closed meanwhile, with bytes left to send.
		loop_watch(loop, s, false, false);
		loop_limit_linger(loop, s);
	} else if (loop_watch(loop, s, true, false) != 0) {
		connect_failed(loop, s, errno);
		return;
	} else {
		loop_emit(loop, s, SOCKET_OPEN, 0, text);
		loop_limit_idle(loop, s);
	}
	write_flush(loop, s);
}

enum attempt_result { ATTEMPT_DONE, ATTEMPT_PENDING, ATTEMPT_FAILED };

// Begins with the next address. DONE gives *fd.
static enum attempt_result
try_next(struct socket_loop *loop, struct socket_slot *s, int *fd) {
	struct connect_attempt *t = s->attempt;
	const union socket_addr *a = &t->list->addr[t->next];
	*fd = socket_new(a->any.sa_family, SOCK_STREAM);
	if (*fd < 0) {
		t->err = errno;
		return ATTEMPT_FAILED;
	}
	pthread_mutex_lock(&s->lock);
	struct socket_settings settings = s->settings;
	slot_unlock(s);
	settings_tune(*fd, &settings);
	if (connect(*fd, &a->any, address_len(a)) == 0) {
		return ATTEMPT_DONE;
	}
	uintptr_t id = (uintptr_t)atomic_load_explicit(&s->id, memory_order_relaxed);
	// A signal does not end it either.
	if ((errno == EINPROGRESS || errno == EINTR) &&
	    loop->ops->add(loop->poller, *fd, id | CONNECT_TAG, false, true) == 0) {
		atomic_fetch_add_explicit(&loop->interests, 1, memory_order_relaxed);
		t->race[t->n].fd = *fd;
		t->race[t->n++].address = t->next;
		return ATTEMPT_PENDING;
	}
	t->err = errno;
	close(*fd);
	return ATTEMPT_FAILED;
}

static void
set_timer(struct socket_loop *loop, struct socket_slot *s) {
	struct connect_attempt *t = s->attempt;
	uint64_t left = UINT64_MAX;
	if (t->end_ms > 0) {
		left = t->end_ms > loop->now_ms ? t->end_ms - loop->now_ms : 0;
	}
	if (t->next < t->list->n && t->n < RACE_MAX && left > ATTEMPT_DELAY_MS) {
		left = ATTEMPT_DELAY_MS;
	}
	if (left == UINT64_MAX) {
		deadline_clear(loop, s);
	} else {
		deadline_set(loop, s, left);
	}
}

// Begins one more attempt, if it is time for it; or ends it all, if there is nothing
// left to hope for.
static void
go_on(struct socket_loop *loop, struct socket_slot *s) {
	struct connect_attempt *t = s->attempt;
	enum attempt_result r = ATTEMPT_FAILED;
	while (r == ATTEMPT_FAILED && t->next < t->list->n && t->n < RACE_MAX) {
		int fd;
		r = try_next(loop, s, &fd);
		t->next++;
		if (r == ATTEMPT_DONE) {
			connect_done(loop, s, fd, t->next - 1);
			return;
		}
	}
	if (t->n == 0) {
		connect_failed(loop, s, t->err);
		return;
	}
	set_timer(loop, s);
}

void
connect_begin(struct socket_loop *loop, struct socket_slot *s, struct address_list *list) {
	struct connect_attempt *t = skynet_calloc(1, sizeof(*t));
	t->list = interleave(list);
	s->attempt = t;
	pthread_mutex_lock(&s->lock);
	uint32_t limit = s->settings.connect_ms;
	s->state = SLOT_CONNECTING;
	slot_unlock(s);
	t->end_ms = limit > 0 ? loop->now_ms + limit : 0;
	deadline_clear(loop, s);
	go_on(loop, s);
}

//-------------------------------------------------------------------- events

static int
error_of(int fd) {
	int err = 0;
	socklen_t len = sizeof(err);
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? err : errno;
}

void
connect_ready(struct socket_loop *loop, struct socket_slot *s) {
	struct connect_attempt *t = s->attempt;
	struct pollfd ready[RACE_MAX];
	bool has_failed = false;
	for (int i = 0; i < t->n; i++) {
		ready[i] = (struct pollfd){.fd = t->race[i].fd, .events = POLLOUT};
	}
	int n = poll(ready, (nfds_t)t->n, 0);
	if (n < 0 && errno != EINTR) {
		// Nobody can tell which of them it is.
		connect_failed(loop, s, errno);
		return;
	}
	if (n <= 0) {
		return;
	}
	// From the last one on: leaving the race moves the last one.
	for (int i = t->n - 1; i >= 0; i--) {
		if (ready[i].revents == 0) {
			continue;
		}
		int address = t->race[i].address;
		int fd = leave_race(loop, t, i);
		int err = error_of(fd);
		if (err == 0) {
			connect_done(loop, s, fd, address);
			return;
		}
		close(fd);
		t->err = err;
		has_failed = true;
	}
	if (has_failed) {
		go_on(loop, s);
	}
}

void
connect_timer(struct socket_loop *loop, struct socket_slot *s) {
	struct connect_attempt *t = s->attempt;
	if (t->end_ms > 0 && loop->now_ms >= t->end_ms) {
		connect_failed(loop, s, ETIMEDOUT);
	} else {
		go_on(loop, s);
	}
}
