// The epoll back end of poller.h. Owns an epoll descriptor and an eventfd that
// interrupts a wait.
#ifdef __linux__

#include "poller.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "skynet_malloc.h"

// One call of epoll_wait takes at most this many events; more stay in the
// kernel, which hands them out round robin.
#define BATCH 64
// Tag of the eventfd. Callers' tags are ids and addresses, never all ones.
#define WAKE_TAG UINT64_MAX

struct poller {
	int epfd;
	int wakefd;
};

// Some child of this process may hold copies of its descriptors. Relaxed: the fork itself
// orders what matters, and a close at the same time may come too late for the child anyway.
static atomic_bool has_forked;

static void
on_fork(void) {
	atomic_store_explicit(&has_forked, true, memory_order_relaxed);
}

static void
watch_forks(void) {
	// Should it fail, for want of memory, the truth is taken for granted.
	if (pthread_atfork(on_fork, NULL, NULL) != 0) {
		on_fork();
	}
}

static uint32_t
interest(bool want_read, bool want_write) {
	return (want_read ? EPOLLIN : 0u) | (want_write ? EPOLLOUT : 0u);
}

static int
control(struct poller *p, int op, int fd, uint64_t tag, uint32_t events) {
	struct epoll_event ev;
	ev.events = events;
	ev.data.u64 = tag;
	return epoll_ctl(p->epfd, op, fd, &ev);
}

static int
epoll_add(struct poller *p, int fd, uintptr_t tag, bool want_read, bool want_write) {
	return control(p, EPOLL_CTL_ADD, fd, tag, interest(want_read, want_write));
}

static int
epoll_set(struct poller *p, int fd, uintptr_t tag, bool want_read, bool want_write) {
	return control(p, EPOLL_CTL_MOD, fd, tag, interest(want_read, want_write));
}

static int
epoll_del(struct poller *p, int fd) {
	return control(p, EPOLL_CTL_DEL, fd, 0, 0);
}

// The last close of what a descriptor stands for ends the watching as well. Where a child
// has a copy, this is not the last one: the poller would report it for ever, under a
// number that can't be deleted any more.
static void
epoll_close(struct poller *p, int fd) {
	if (atomic_load_explicit(&has_forked, memory_order_relaxed)) {
		epoll_del(p, fd);
	}
	close(fd);
}

static void
epoll_release(struct poller *p) {
	if (p->wakefd >= 0) {
		close(p->wakefd);
	}
	if (p->epfd >= 0) {
		close(p->epfd);
	}
	skynet_free(p);
}

static struct poller *
epoll_new(void) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, watch_forks);
	struct poller *p = skynet_malloc(sizeof(*p));
	p->epfd = epoll_create1(EPOLL_CLOEXEC);
	p->wakefd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (p->epfd < 0 || p->wakefd < 0 ||
	    control(p, EPOLL_CTL_ADD, p->wakefd, WAKE_TAG, EPOLLIN) != 0) {
		int err = errno;
		epoll_release(p);
		errno = err;
		return NULL;
	}
	return p;
}

static void
epoll_wake(struct poller *p) {
	uint64_t one = 1;
	ssize_t n;
	do {
		n = write(p->wakefd, &one, sizeof(one));
		// The only other failure is a counter at its maximum, which wakes as well.
	} while (n < 0 && errno == EINTR);
}

// False: it is still there, and would end each wait at once.
static bool
drain_wake(struct poller *p) {
	uint64_t count;
	return read(p->wakefd, &count, sizeof(count)) >= 0 || errno == EAGAIN || errno == EINTR;
}

static int
epoll_poll(struct poller *p, struct poller_event *events, int max, int timeout_ms) {
	struct epoll_event ev[BATCH];
	int n;
	do {
		n = epoll_wait(p->epfd, ev, max < BATCH ? max : BATCH, timeout_ms);
	} while (n < 0 && errno == EINTR && timeout_ms < 0);
	if (n < 0) {
		return errno == EINTR ? 0 : -1;
	}
	int stored = 0;
	int failure = 0;
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u64 == WAKE_TAG) {
			failure = drain_wake(p) ? 0 : errno;
			continue;
		}
		struct poller_event *e = &events[stored++];
		e->tag = (uintptr_t)ev[i].data.u64;
		e->read = (ev[i].events & EPOLLIN) != 0;
		e->write = (ev[i].events & EPOLLOUT) != 0;
		e->error = (ev[i].events & EPOLLERR) != 0;
		e->eof = (ev[i].events & EPOLLHUP) != 0;
	}
	if (stored == 0 && failure != 0) {
		errno = failure;
		return -1;
	}
	return stored;
}

static const struct poller_ops poller_epoll = {
    .name = "epoll",
    .create = epoll_new,
    .release = epoll_release,
    .add = epoll_add,
    .set = epoll_set,
    .del = epoll_del,
    .close = epoll_close,
    .wait = epoll_poll,
    .wake = epoll_wake,
};

const struct poller_ops *
poller_native(void) {
	return &poller_epoll;
}

#else

// An ISO C file must not be empty.
extern int poller_epoll_unused;

#endif
