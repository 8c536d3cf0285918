// The kqueue back end of poller.h. Owns a kqueue descriptor.
//
// A descriptor has a filter for each direction, both registered from the start
// and enabled as wanted, so that a change of interest never fails half-way.
// kqueue reports the directions as separate events.
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) ||   \
    defined(__DragonFly__) || defined(POLLER_KQUEUE_SHIM)

#include "poller.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/event.h>
#include <sys/time.h>
#include <unistd.h>

#include "skynet_malloc.h"

#define BATCH 64
// Identity of the user event that interrupts a wait.
#define WAKE_IDENT 1

struct poller {
	int kq;
};

static unsigned short
enable_flag(bool want) {
	return want ? EV_ENABLE : EV_DISABLE;
}

static int
apply(struct poller *p, int fd, uintptr_t tag, int action, bool want_read, bool want_write) {
	struct kevent ke[2];
	EV_SET(&ke[0], (uintptr_t)fd, EVFILT_READ, action | enable_flag(want_read), 0, 0, (void *)tag);
	EV_SET(&ke[1], (uintptr_t)fd, EVFILT_WRITE, action | enable_flag(want_write), 0, 0,
	       (void *)tag);
	return kevent(p->kq, ke, 2, NULL, 0, NULL) < 0 ? -1 : 0;
}

static int
kq_del(struct poller *p, int fd) {
	struct kevent ke;
	int result = 0;
	// One by one: a list stops at its first failing change.
	EV_SET(&ke, (uintptr_t)fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
	if (kevent(p->kq, &ke, 1, NULL, 0, NULL) < 0) {
		result = -1;
	}
	EV_SET(&ke, (uintptr_t)fd, EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
	if (kevent(p->kq, &ke, 1, NULL, 0, NULL) < 0) {
		result = -1;
	}
	return result;
}

static int
kq_add(struct poller *p, int fd, uintptr_t tag, bool want_read, bool want_write) {
	if (apply(p, fd, tag, EV_ADD, want_read, want_write) == 0) {
		return 0;
	}
	int err = errno;
	kq_del(p, fd);
	errno = err;
	return -1;
}

static int
kq_set(struct poller *p, int fd, uintptr_t tag, bool want_read, bool want_write) {
	// EV_ADD on a filter that exists modifies it.
	return apply(p, fd, tag, EV_ADD, want_read, want_write);
}

static void
kq_close(struct poller *p, int fd) {
	kq_del(p, fd);
	close(fd);
}

static void
kq_release(struct poller *p) {
	close(p->kq);
	skynet_free(p);
}

static struct poller *
kq_new(void) {
	int kq = kqueue();
	if (kq < 0) {
		return NULL;
	}
	struct kevent ke;
	EV_SET(&ke, WAKE_IDENT, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
	if (kevent(kq, &ke, 1, NULL, 0, NULL) < 0) {
		int err = errno;
		close(kq);
		errno = err;
		return NULL;
	}
	struct poller *p = skynet_malloc(sizeof(*p));
	p->kq = kq;
	return p;
}

static void
kq_wake(struct poller *p) {
	struct kevent ke;
	EV_SET(&ke, WAKE_IDENT, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	kevent(p->kq, &ke, 1, NULL, 0, NULL);
}

static int
kq_poll(struct poller *p, struct poller_event *events, int max, int timeout_ms) {
	struct kevent ev[BATCH];
	struct timespec limit = {
	    .tv_sec = timeout_ms / 1000,
	    .tv_nsec = (long)(timeout_ms % 1000) * 1000000,
	};
	int n;
	do {
		n = kevent(p->kq, NULL, 0, ev, max < BATCH ? max : BATCH, timeout_ms < 0 ? NULL : &limit);
	} while (n < 0 && errno == EINTR && timeout_ms < 0);
	if (n < 0) {
		return errno == EINTR ? 0 : -1;
	}
	int stored = 0;
	for (int i = 0; i < n; i++) {
		if (ev[i].filter == EVFILT_USER) {
			continue;
		}
		struct poller_event *e = &events[stored++];
		bool eof = (ev[i].flags & EV_EOF) != 0;
		e->tag = (uintptr_t)ev[i].udata;
		e->read = ev[i].filter == EVFILT_READ;
		// The end of the reading side alone is seen by reading. The write filter
		// reports EOF when nothing can be sent, or a connect failed.
		e->write = ev[i].filter == EVFILT_WRITE;
		e->error = (ev[i].flags & EV_ERROR) != 0;
		e->eof = ev[i].filter == EVFILT_WRITE && eof;
	}
	return stored;
}

static const struct poller_ops poller_kqueue = {
    .name = "kqueue",
    .create = kq_new,
    .release = kq_release,
    .add = kq_add,
    .set = kq_set,
    .del = kq_del,
    .close = kq_close,
    .wait = kq_poll,
    .wake = kq_wake,
};

const struct poller_ops *
poller_native(void) {
	return &poller_kqueue;
}

#else

// An ISO C file must not be empty.
extern int poller_kqueue_unused;

#endif
