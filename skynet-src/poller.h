// Readiness notification, the one door between the socket server and the
// network: epoll and kqueue live behind it, and a simulated network can.
//
// A poller watches descriptors, level-triggered, and reports each under the tag
// that it was added with. It owns its own descriptors, not the watched ones.
// One thread at a time calls add, del, set, close and wait; wake may be called by any
// thread. All int results: 0, or -1 with errno set, unless said otherwise.
#ifndef poller_h
#define poller_h

#include <stdbool.h>
#include <stdint.h>

struct poller;

struct poller_event {
	uintptr_t tag;
	bool read;  // data, end of stream, or a connection to accept
	bool write; // room to write, or a connect that ended
	bool error; // the descriptor has a pending error
	bool eof;   // hung up: both directions are over
};

struct poller_ops {
	const char *name;
	// NULL with errno set when the system refuses.
	struct poller *(*create)(void);
	void (*release)(struct poller *);
	// Watches fd with the given interest. Error and hang-up are reported whatever
	// the interest, as far as the system can.
	int (*add)(struct poller *, int fd, uintptr_t tag, bool want_read, bool want_write);
	int (*set)(struct poller *, int fd, uintptr_t tag, bool want_read, bool want_write);
	int (*del)(struct poller *, int fd);
	// Stops watching fd and closes it.
	void (*close)(struct poller *, int fd);
	// Waits until something is ready, wake was called, or the time is up
	// (-1 = no limit). Returns the number of events stored, which is 0 after a
	// wake or the time limit; -1 is a real error. A signal may end a limited wait
	// early, an unlimited one never.
	int (*wait)(struct poller *, struct poller_event *events, int max, int timeout_ms);
	// Ends the current or else the next wait. Any thread, any number of times.
	void (*wake)(struct poller *);
};

// The back end of this platform.
const struct poller_ops *poller_native(void);

#endif
