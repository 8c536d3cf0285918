/*
 * `stdout` and `stderr` become streams whose writes come here. The descriptor of each is
 * a second opening of what it was, so that it can be made not to block without that for
 * the processes that have it as well. What can't be opened again (a socket, a pipe of
 * another user) is asked before each write.
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

/* What the reader may take its time for when the process exits: so many looks that find no
   progress. One long look would be over when the machine stops meanwhile, reader and all. */
#define EXIT_LOOKS 20
#define EXIT_MS 50
/* What the thread sleeps when the system can't let it wait. */
#define PAUSE_NS 10000000
#define FIRST_ROOM 65536u
#define NOTICE "[:00000000] error: nobody read the standard %s, dropped %llu lines\n"

#if defined(__GLIBC__)

struct outlet {
	const char *name;
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
};

static struct outlet output = {
    .name = "output", .lock = PTHREAD_MUTEX_INITIALIZER, .waits = PTHREAD_COND_INITIALIZER};
static struct outlet errors = {
    .name = "error", .lock = PTHREAD_MUTEX_INITIALIZER, .waits = PTHREAD_COND_INITIALIZER};

static bool
is_writable(const struct outlet *o, int timeout_ms) {
	struct pollfd p = {.fd = o->fd, .events = POLLOUT};
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
try_write(const struct outlet *o, const char *text, size_t size) {
	ssize_t n;

	if (o->is_blocking && !o->is_socket) {
		if (!is_writable(o, 0)) {
			return 0;
		}
		/* As much as a pipe takes that takes anything. */
		size = size < PIPE_BUF ? size : PIPE_BUF;
	}
	do {
		n = o->is_socket ? send(o->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL)
		                 : write(o->fd, text, size);
	} while (n < 0 && errno == EINTR);
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : n;
}

/* Nobody's memory: it waits for all. */
static void
make_room(struct outlet *o, size_t size) {
	if (o->from > 0 && o->from + o->size + size > o->room) {
		memmove(o->data, o->data + o->from, o->size);
		o->from = 0;
	}
	if (o->from + o->size + size > o->room) {
		uint32_t owner = malloc_owner();
		size_t room = o->room == 0 ? FIRST_ROOM : o->room;
		while (room < o->size + size) {
			room *= 2;
		}
		malloc_set_owner(0);
		o->data = skynet_realloc(o->data, room);
		malloc_set_owner(owner);
		o->room = room;
	}
}

static void
append(struct outlet *o, const char *text, size_t size) {
	make_room(o, size);
	memcpy(o->data + o->from + o->size, text, size);
	o->size += size;
}

static void
append_notice(struct outlet *o) {
	char text[sizeof(NOTICE) + 32];
	int n = snprintf(text, sizeof(text), NOTICE, o->name, o->dropped);

	append(o, text, (size_t)n);
	o->dropped = 0;
}

/* Writes what waits, as much as is taken. */
static void
write_waiting(struct outlet *o) {
	while (o->size > 0) {
		ssize_t n = try_write(o, o->data + o->from, o->size);
		if (n <= 0) {
			/* Who writes next learns of an error. */
			o->size = n < 0 ? 0 : o->size;
			break;
		}
		o->from += (size_t)n;
		o->size -= (size_t)n;
		if (o->size <= STDOUT_WAITING / 2 && o->dropped > 0 && !o->is_in_line) {
			append_notice(o);
		}
	}
	if (o->size == 0) {
		skynet_free(o->data);
		o->data = NULL;
		o->from = 0;
		o->room = 0;
	}
}

static void *
thread_main(void *ud) {
	struct outlet *o = ud;

	platform_thread_name(o == &output ? "stdout" : "stderr");
	platform_thread_signals();
	pthread_mutex_lock(&o->lock);
	for (;;) {
		while (o->size == 0) {
			pthread_cond_wait(&o->waits, &o->lock);
		}
		pthread_mutex_unlock(&o->lock);
		is_writable(o, -1);
		pthread_mutex_lock(&o->lock);
		write_waiting(o);
	}
	return NULL;
}

static void
wake_thread(struct outlet *o) {
	pthread_t id;

	if (o->has_thread) {
		pthread_cond_signal(&o->waits);
	} else if (pthread_create(&id, NULL, thread_main, o) == 0) {
		pthread_detach(id);
		o->has_thread = true;
	}
}

/* Lines are kept or dropped as a whole; one without an end must not grow for ever. */
static void
keep(struct outlet *o, const char *text, size_t size) {
	const char *end = text + size;

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((newline ? newline + 1 : end) - text);
		if (!o->is_in_line) {
			o->is_dropping = o->size + n > (o->is_dropping ? STDOUT_WAITING / 2 : STDOUT_WAITING);
			if (!o->is_dropping && o->dropped > 0) {
				append_notice(o);
			}
		}
		if (o->is_dropping || o->size > 2 * STDOUT_WAITING) {
			o->dropped += newline != NULL;
		} else {
			append(o, text, n);
		}
		o->is_in_line = newline == NULL;
		text += n;
	}
}

static ssize_t
stream_write(void *cookie, const char *text, size_t size) {
	struct outlet *o = cookie;
	size_t done = 0;
	ssize_t n = 0;

	pthread_mutex_lock(&o->lock);
	if (o->size > 0 && !o->has_thread) {
		write_waiting(o);
	}
	while (o->size == 0 && !o->is_dropping && done < size &&
	       (n = try_write(o, text + done, size - done)) > 0) {
		done += (size_t)n;
		o->is_in_line = text[done - 1] != '\n';
	}
	if (n >= 0) {
		keep(o, text + done, size - done);
	}
	if (o->size > 0) {
		wake_thread(o);
	}
	pthread_mutex_unlock(&o->lock);
	return n < 0 ? 0 : (ssize_t)size;
}

static void
finish(struct outlet *o) {
	size_t before = SIZE_MAX;
	int looks = 0;

	pthread_mutex_lock(&o->lock);
	/* As long as there is less and less, whoever wrote it. */
	while (o->size > 0 && looks < EXIT_LOOKS) {
		looks = o->size < before ? 0 : looks + 1;
		before = o->size;
		pthread_mutex_unlock(&o->lock);
		is_writable(o, EXIT_MS);
		pthread_mutex_lock(&o->lock);
		write_waiting(o);
	}
	pthread_mutex_unlock(&o->lock);
}

void
skynet_stdout_finish(void) {
	fflush(stdout);
	finish(&output);
	finish(&errors);
}

/* A stream in place of `stream`, or that. */
static FILE *
replace(struct outlet *o, FILE *stream, const char *path, int mode) {
	struct stat st;

	o->fd = fileno(stream);
	bool is_terminal = isatty(o->fd);
	/* Files, and devices that are no terminals, take everything. */
	if (fstat(o->fd, &st) != 0 || S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && !is_terminal)) {
		return stream;
	}
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	o->is_blocking = fd < 0;
	o->is_socket = S_ISSOCK(st.st_mode);
	if (!o->is_blocking) {
		o->fd = fd;
	}
	FILE *new = fopencookie(o, "w", (cookie_io_functions_t){.write = stream_write});
	if (new == NULL) {
		if (fd >= 0) {
			close(fd);
		}
		return stream;
	}
	fflush(stream);
	setvbuf(new, NULL, mode == _IOFBF && is_terminal ? _IOLBF : mode, BUFSIZ);
	return new;
}

void
skynet_stdout_open(void) {
	stdout = replace(&output, stdout, "/proc/self/fd/1", _IOFBF);
	stderr = replace(&errors, stderr, "/proc/self/fd/2", _IONBF);
	atexit(skynet_stdout_finish);
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
