// The end of sockets: at once, or when all that was accepted is sent (net.md 1.15). Loop.
#include "socket_impl.h"

#include <fcntl.h>
#include <unistd.h>

#include "skynet.h"

// Unread bytes thrown away before a graceful close, in reads; see discard_unread.
#define DISCARD_READS 4

// Closing a stream with unread bytes makes the kernel send a reset, which may
// destroy what the peer has not read yet. So throw them away, as far as a few
// reads go.
static void
discard_unread(struct socket_loop *loop, struct socket_slot *s) {
	char *buf = loop_read_buffer(loop);
	for (int i = 0; i < DISCARD_READS; i++) {
		if (recv(s->fd, buf, READ_SIZE, MSG_DONTWAIT) < READ_SIZE) {
			return;
		}
	}
}

static void
detach(struct socket_slot *s) {
	if (s->restore_blocking) {
		int fl = fcntl(s->fd, F_GETFL);
		if (fl >= 0) {
			fcntl(s->fd, F_SETFL, fl & ~O_NONBLOCK);
		}
	}
}

void
loop_close_descriptor(struct socket_loop *loop, struct socket_slot *s) {
	if (s->fd < 0) {
		return;
	}
	if (s->kind == KIND_FOREIGN) {
		loop_unwatch(loop, s);
		detach(s);
	} else if (s->polled != 0) {
		loop->ops->close(loop->poller, s->fd);
		loop_forget_interest(loop, s);
	} else {
		close(s->fd);
	}
}

void
loop_destroy(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	s->reap = s->writer_active;
	bool busy = s->writer_active;
	if (!busy) {
		write_discard(loop->ss, s);
	}
	slot_unlock(s);
	s->close_told = true;
	if (busy) {
		loop_watch(loop, s, false, false);
		return;
	}
	deadline_clear(loop, s);
	connect_attempt_free(loop, s);
	loop_close_descriptor(loop, s);
	if (s->admission != NULL && s->kind == KIND_STREAM) {
		admission_leave(s->admission, &s->peer);
	} else {
		admission_release(s->admission);
	}
	slot_free(loop->ss, s);
}

void
loop_abort(struct socket_loop *loop, struct socket_slot *s, const char *text) {
	loop_emit_error(loop, s, text);
	loop_emit_close(loop, s);
	loop_destroy(loop, s);
}

void
loop_finish(struct socket_loop *loop, struct socket_slot *s) {
	if (s->kind == KIND_STREAM && s->fd >= 0 && s->state == SLOT_CONNECTED) {
		discard_unread(loop, s);
	}
	loop_destroy(loop, s);
}

void
loop_limit_linger(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	uint32_t ms = s->settings.linger_ms;
	s->linger_mark = s->write_count;
	slot_unlock(s);
	if (ms > 0) {
		deadline_set(loop, s, ms);
	} else {
		deadline_clear(loop, s);
	}
}

void
loop_linger_over(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	bool moved = s->write_count != s->linger_mark;
	size_t left = s->backlog;
	slot_unlock(s);
	if (moved) {
		loop_limit_linger(loop, s);
		return;
	}
	char peer[ADDRESS_TEXT_SIZE];
	address_text(&s->peer, peer);
	notice_log(loop->ss, NOTICE_LINGER,
	           "close of %d gave up, %zu bytes unsent: its peer %s reads nothing; "
	           "raise socket_linger if it needs longer",
	           atomic_load_explicit(&s->id, memory_order_relaxed), left, peer);
	loop_destroy(loop, s);
}

void
loop_limit_idle(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	uint32_t ms = s->settings.idle_ms;
	slot_unlock(s);
	s->active_ms = loop->now_ms;
	if (ms > 0) {
		deadline_set(loop, s, ms);
	} else {
		deadline_clear(loop, s);
	}
}

void
loop_idle_over(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	uint32_t ms = s->settings.idle_ms;
	slot_unlock(s);
	if (s->close_told || ms == 0) {
		return;
	}
	if (!s->reading || atomic_load(&s->throttled)) {
		// Its silence is our doing.
		s->active_ms = loop->now_ms;
	}
	uint64_t end = s->active_ms + ms;
	if (end > loop->now_ms) {
		deadline_set(loop, s, end - loop->now_ms);
		return;
	}
	char peer[ADDRESS_TEXT_SIZE];
	address_text(&s->peer, peer);
	notice_log(loop->ss, NOTICE_IDLE,
	           "close %d of :%08x: its peer %s sent nothing for %u ms; raise its idle limit "
	           "if that is meant",
	           atomic_load_explicit(&s->id, memory_order_relaxed), (unsigned)s->owner, peer, ms);
	loop_emit_close(loop, s);
	loop_destroy(loop, s);
}

void
loop_close(struct socket_loop *loop, struct socket_slot *s) {
	pthread_mutex_lock(&s->lock);
	s->closing = s->draining = true;
	s->left_to_loop = false;
	bool is_left = write_waits_for_end(s);
	if (is_left) {
		write_end(loop->ss, s);
	}
	bool pending = s->writer_active || s->high.head != NULL || s->low.head != NULL;
	bool can_drain = s->state != SLOT_HALFCLOSE_WRITE;
	bool was_unstarted = s->state == SLOT_PACCEPT;
	if (was_unstarted) {
		s->state = SLOT_CONNECTED;
	}
	slot_unlock(s);
	loop_emit_close(loop, s);
	if (!pending || !can_drain) {
		if (is_left) {
			// Sends what was written, in one packet with the end. A close would do so as well,
			// but throws it away if the peer has sent something unread meanwhile.
			shutdown(s->fd, SHUT_WR);
		}
		loop_finish(loop, s);
		return;
	}
	if (s->polled != 0 && s->state != SLOT_CONNECTING) {
		loop_watch(loop, s, false, s->write_polled);
	}
	if (s->state != SLOT_CONNECTING && s->state != SLOT_RESERVED) {
		loop_limit_linger(loop, s);
	}
	if (was_unstarted || is_left) {
		write_flush(loop, s);
	}
}
