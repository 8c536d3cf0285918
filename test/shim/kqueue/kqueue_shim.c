// kqueue over epoll, for tests. One process-wide queue at a time per descriptor
// number; filters are kept per watched descriptor. Calls follow poller.h's thread
// rule: only NOTE_TRIGGER may come from another thread, and touches nothing but
// the eventfd.
#include <sys/event.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/types.h>
#include <unistd.h>

#define MAX_FD 1024

struct filter {
	bool added;
	bool enabled;
	void *udata;
};

struct watched {
	bool in_epoll;
	struct filter read;
	struct filter write;
};

struct queue {
	int wakefd;
	struct watched fd[MAX_FD];
};

static struct queue *queue_of[MAX_FD];

int
kqueue(void) {
	int epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epfd < 0 || epfd >= MAX_FD) {
		return -1;
	}
	// The queue is not told when its descriptor is closed; its number comes back.
	if (queue_of[epfd] != NULL) {
		close(queue_of[epfd]->wakefd);
		free(queue_of[epfd]);
	}
	struct queue *q = calloc(1, sizeof(*q));
	q->wakefd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = q->wakefd};
	epoll_ctl(epfd, EPOLL_CTL_ADD, q->wakefd, &ev);
	queue_of[epfd] = q;
	return epfd;
}

static void
apply(int kq, struct queue *q, int fd) {
	struct watched *w = &q->fd[fd];
	struct epoll_event ev = {.data.fd = fd};
	if (w->read.added && w->read.enabled) {
		ev.events |= EPOLLIN;
	}
	if (w->write.added && w->write.enabled) {
		ev.events |= EPOLLOUT;
	}
	// A kqueue reports nothing, not even a hang-up, for disabled filters.
	bool wanted = ev.events != 0;
	if (!wanted && w->in_epoll) {
		epoll_ctl(kq, EPOLL_CTL_DEL, fd, &ev);
	} else if (wanted) {
		epoll_ctl(kq, w->in_epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
	}
	w->in_epoll = wanted;
}

static bool
can_poll(int fd) {
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = 0};
	bool ok = epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0;
	int err = errno;
	close(ep);
	errno = err;
	return ok;
}

static int
change(int kq, struct queue *q, const struct kevent *ke) {
	if (ke->filter == EVFILT_USER) {
		if (ke->fflags & NOTE_TRIGGER) {
			uint64_t one = 1;
			return write(q->wakefd, &one, sizeof(one)) < 0 ? -1 : 0;
		}
		return 0;
	}
	if (ke->ident >= MAX_FD) {
		errno = EBADF;
		return -1;
	}
	int fd = (int)ke->ident;
	struct watched *w = &q->fd[fd];
	struct filter *f = ke->filter == EVFILT_READ ? &w->read : &w->write;
	if (ke->flags & EV_DELETE) {
		if (!f->added) {
			errno = ENOENT;
			return -1;
		}
		*f = (struct filter){0};
	} else {
		if (!f->added && !can_poll(fd)) {
			return -1;
		}
		f->added = true;
		f->enabled = (ke->flags & EV_DISABLE) == 0;
		f->udata = ke->udata;
	}
	apply(kq, q, fd);
	return 0;
}

static int
report(struct queue *q, const struct epoll_event *ev, struct kevent *out) {
	int fd = ev->data.fd;
	if (fd == q->wakefd) {
		uint64_t count;
		ssize_t n = read(fd, &count, sizeof(count));
		(void)n;
		EV_SET(out, 1, EVFILT_USER, 0, 0, 0, NULL);
		return 1;
	}
	struct watched *w = &q->fd[fd];
	bool hup = (ev->events & (EPOLLHUP | EPOLLERR)) != 0;
	int n = 0;
	if (w->read.enabled && (ev->events & EPOLLIN || hup)) {
		EV_SET(&out[n], (uintptr_t)fd, EVFILT_READ, hup ? EV_EOF : 0, 0, 0, w->read.udata);
		n++;
	}
	if (w->write.enabled && (ev->events & EPOLLOUT || hup)) {
		EV_SET(&out[n], (uintptr_t)fd, EVFILT_WRITE, hup ? EV_EOF : 0, 0, 0, w->write.udata);
		n++;
	}
	return n;
}

int
kevent(int kq, const struct kevent *changes, int nchanges, struct kevent *events, int nevents,
       const struct timespec *timeout) {
	struct queue *q = queue_of[kq];
	for (int i = 0; i < nchanges; i++) {
		if (change(kq, q, &changes[i]) != 0) {
			return -1;
		}
	}
	if (nevents == 0) {
		return 0;
	}
	struct epoll_event ev[64];
	int max = nevents / 2 < 64 ? nevents / 2 : 64;
	int ms = timeout == NULL ? -1 : (int)(timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000);
	int n = epoll_wait(kq, ev, max, ms);
	int stored = 0;
	for (int i = 0; i < n; i++) {
		stored += report(q, &ev[i], &events[stored]);
	}
	return n < 0 ? n : stored;
}
