// A kqueue for systems without one: just enough of the interface, over epoll, to
// compile and test skynet-src/poller_kqueue.c (net.md 1.6).
#ifndef test_shim_kqueue_event_h
#define test_shim_kqueue_event_h

#include <stdint.h>
#include <time.h>

#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EVFILT_USER (-10)

#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_ENABLE 0x0004
#define EV_DISABLE 0x0008
#define EV_CLEAR 0x0020
#define EV_ERROR 0x4000
#define EV_EOF 0x8000

#define NOTE_TRIGGER 0x01000000

struct kevent {
	uintptr_t ident;
	short filter;
	unsigned short flags;
	unsigned int fflags;
	intptr_t data;
	void *udata;
};

#define EV_SET(kev, id, filt, fl, ff, d, ud)                                                       \
	do {                                                                                           \
		struct kevent *ev_set_ = (kev);                                                            \
		ev_set_->ident = (id);                                                                     \
		ev_set_->filter = (filt);                                                                  \
		ev_set_->flags = (unsigned short)(fl);                                                     \
		ev_set_->fflags = (ff);                                                                    \
		ev_set_->data = (d);                                                                       \
		ev_set_->udata = (ud);                                                                     \
	} while (0)

int kqueue(void);
int kevent(int kq, const struct kevent *changes, int nchanges, struct kevent *events, int nevents,
           const struct timespec *timeout);

// skynet-src/poller_kqueue.c is compiled with poller_native renamed to this.
struct poller_ops;
const struct poller_ops *poller_kqueue_shim(void);

#endif
