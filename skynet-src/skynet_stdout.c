/*
 * `stdout` becomes a stream whose writes come here. The descriptor is a second
 * opening of what standard output is, so that it can be made not to block without
 * that for the processes that have it as well. What can't be opened again (a socket)
 * is asked before each write.
 */
#include "skynet_stdout.h"

#include "malloc_hook.h"
#include "platform.h"
#include "skynet_malloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What the reader may take its time for when the process exits. */
#define EXIT_MS 1000
/* What the thread sleeps when the system can't let it wait. */
#define PAUSE_NS 10000000
#define FIRST_ROOM 65536u
#define NOTICE "[:00000000] error: nobody read the standard output, dropped %llu lines\n"

#if defined(__GLIBC__)

static struct {
	pthread_mutex_t lock; /* everything below but fd and the two behind it */
	pthread_cond_t waits; /* for the thread: something does */
	int fd;
	bool is_blocking; /* fd is shared with other processes */
	bool is_socket;
	bool has_thread;
	char *data; /* what waits: size bytes after the first `from` */
	size_t from;
	size_t size;
	size_t room;
	bool is_in_line; /* the last byte that came did not end one */
	bool is_dropping;
	unsigned long long dropped; /* lines not told of */
} O = {.lock = PTHREAD_MUTEX_INITIALIZER, .waits = PTHREAD_COND_INITIALIZER};

static bool
is_writable(int timeout_ms) {
	struct pollfd p = {.fd = O.fd, .events = POLLOUT};
	int n = poll(&p, 1, timeout_ms);

	if (n < 0 && errno != EINTR && timeout_ms != 0) {
		/* Whoever meant to wait must not spin. */
		struct timespec pause = {.tv_nsec = PAUSE_NS};
		nanosleep(&pause, NULL);
	}
	return n > 0;
}

/* How much is taken now, 0 for nothing; -1 and errno when it never will be. */
static ssize_t
try_write(const char *text, size_t size) {
	ssize_t n;

	if (O.is_blocking && !O.is_socket) {
		if (!is_writable(0)) {
			return 0;
		}
		/* As much as a pipe takes that takes anything. */
		size = size < PIPE_BUF ? size : PIPE_BUF;
	}
	do {
		n = O.is_socket ? send(O.fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL)
		                : write(O.fd, text, size);
	} while (n < 0 && errno == EINTR);
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : n;
}

/* Nobody's memory: it waits for all. */
static void
make_room(size_t size) {
	if (O.from > 0 && O.from + O.size + size > O.room) {
		memmove(O.data, O.data + O.from, O.size);
		O.from = 0;
	}
	if (O.from + O.size + size > O.room) {
		uint32_t owner = malloc_owner();
		size_t room = O.room == 0 ? FIRST_ROOM : O.room;
		while (room < O.size + size) {
			room *= 2;
		}
		malloc_set_owner(0);
		O.data = skynet_realloc(O.data, room);
		malloc_set_owner(owner);
		O.room = room;
	}
}

static void
append(const char *text, size_t size) {
	make_room(size);
	memcpy(O.data + O.from + O.size, text, size);
	O.size += size;
}

static void
append_notice(void) {
	char text[sizeof(NOTICE) + 24];
	int n = snprintf(text, sizeof(text), NOTICE, O.dropped);

	append(text, (size_t)n);
	O.dropped = 0;
}

/* Writes what waits, as much as is taken. */
static void
write_waiting(void) {
	while (O.size > 0) {
		ssize_t n = try_write(O.data + O.from, O.size);
		if (n <= 0) {
			/* Who writes next learns of an error. */
			O.size = n < 0 ? 0 : O.size;
			break;
		}
		O.from += (size_t)n;
		O.size -= (size_t)n;
		if (O.size <= STDOUT_WAITING / 2 && O.dropped > 0 && !O.is_in_line) {
			append_notice();
		}
	}
	if (O.size == 0) {
		skynet_free(O.data);
		O.data = NULL;
		O.from = 0;
		O.room = 0;
	}
}

static void *
thread_main(void *unused) {
	(void)unused;
	platform_thread_name("stdout");
	platform_thread_signals();
	pthread_mutex_lock(&O.lock);
	for (;;) {
		while (O.size == 0) {
			pthread_cond_wait(&O.waits, &O.lock);
		}
		pthread_mutex_unlock(&O.lock);
		is_writable(-1);
		pthread_mutex_lock(&O.lock);
		write_waiting();
	}
	return NULL;
}

static void
wake_thread(void) {
	pthread_t id;

	if (O.has_thread) {
		pthread_cond_signal(&O.waits);
	} else if (pthread_create(&id, NULL, thread_main, NULL) == 0) {
		pthread_detach(id);
		O.has_thread = true;
	}
}

/* Lines are kept or dropped as a whole; one without an end must not grow for ever. */
static void
keep(const char *text, size_t size) {
	const char *end = text + size;

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((newline ? newline + 1 : end) - text);
		if (!O.is_in_line) {
			O.is_dropping = O.size + n > (O.is_dropping ? STDOUT_WAITING / 2 : STDOUT_WAITING);
			if (!O.is_dropping && O.dropped > 0) {
				append_notice();
			}
		}
		if (O.is_dropping || O.size > 2 * STDOUT_WAITING) {
			O.dropped += newline != NULL;
		} else {
			append(text, n);
		}
		O.is_in_line = newline == NULL;
		text += n;
	}
}

static ssize_t
stream_write(void *cookie, const char *text, size_t size) {
	size_t done = 0;
	ssize_t n = 0;

	(void)cookie;
	pthread_mutex_lock(&O.lock);
	if (O.size > 0 && !O.has_thread) {
		write_waiting();
	}
	while (O.size == 0 && !O.is_dropping && done < size &&
	       (n = try_write(text + done, size - done)) > 0) {
		done += (size_t)n;
		O.is_in_line = text[done - 1] != '\n';
	}
	if (n >= 0) {
		keep(text + done, size - done);
	}
	if (O.size > 0) {
		wake_thread();
	}
	pthread_mutex_unlock(&O.lock);
	return n < 0 ? 0 : (ssize_t)size;
}

void
skynet_stdout_finish(void) {
	size_t before = SIZE_MAX;

	fflush(stdout);
	pthread_mutex_lock(&O.lock);
	/* As long as there is less each time, whoever wrote it. */
	while (O.size > 0 && O.size < before) {
		before = O.size;
		pthread_mutex_unlock(&O.lock);
		is_writable(EXIT_MS);
		pthread_mutex_lock(&O.lock);
		write_waiting();
	}
	pthread_mutex_unlock(&O.lock);
}

void
skynet_stdout_open(void) {
	struct stat st;
	int mode = isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF;

	/* Files, and devices that are no terminals, take everything. */
	if (fstat(STDOUT_FILENO, &st) != 0 || S_ISREG(st.st_mode) ||
	    (S_ISCHR(st.st_mode) && mode == _IOFBF)) {
		return;
	}
	O.fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	O.is_blocking = O.fd < 0;
	O.is_socket = S_ISSOCK(st.st_mode);
	if (O.is_blocking) {
		O.fd = STDOUT_FILENO;
	}
	FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = stream_write});
	if (stream) {
		fflush(stdout);
		setvbuf(stream, NULL, mode, BUFSIZ);
		stdout = stream;
		atexit(skynet_stdout_finish);
	}
}

#else

void
skynet_stdout_finish(void) {
	fflush(stdout);
}

void
skynet_stdout_open(void) {
}

#endif
