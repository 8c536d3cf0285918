// client.socket: plain TCP and standard input for the sample clients (net.md section 9).
// Loads in any Lua interpreter; knows nothing of the framework.
//
// Owns, from the first readstdin on, one thread that reads standard input into a bounded
// queue of lines. Everything else runs on the caller's thread.
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "../lua-owned.h"

#define RECV_SIZE 4096
#define MAX_LINES 1024
#define STDIN_READ 4096
// A line longer than this is delivered in pieces.
#define MAX_LINE (1024 * 1024)

int luaopen_client_socket(lua_State *L);

//------------------------------------------------------------------- sockets

static void
wait_for(int fd, short event) {
	struct pollfd p = {.fd = fd, .events = event};
	poll(&p, 1, -1);
}

// A signal ends the call, but not the connecting.
static bool
connect_fully(int fd, const struct sockaddr *to, socklen_t len) {
	if (connect(fd, to, len) == 0) {
		return true;
	}
	if (errno != EINTR) {
		return false;
	}
	int err = 0;
	socklen_t size = sizeof(err);
	wait_for(fd, POLLOUT);
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) == 0 && err == 0;
}

static bool
set_flags(int fd) {
	int fl = fcntl(fd, F_GETFL);
	return fl >= 0 && fcntl(fd, F_SETFL, fl | O_NONBLOCK) == 0 &&
	       fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

static int
connect_to(const char *host, const char *port) {
	struct addrinfo hints;
	struct addrinfo *list;
	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = SOCK_STREAM;
	if (getaddrinfo(host, port, &hints, &list) != 0) {
		return -1;
	}
	int fd = -1;
	for (struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
		fd = socket(ai->ai_family, ai->ai_socktype, ai->ai_protocol);
		if (fd >= 0 && !(connect_fully(fd, ai->ai_addr, ai->ai_addrlen) && set_flags(fd))) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd;
}

// connect(host, port) -> fd
static int
lconnect(lua_State *L) {
	const char *host = luaL_checkstring(L, 1);
	lua_Integer port = luaL_checkinteger(L, 2);
	luaL_argcheck(L, port >= 0 && port <= 65535, 2, "port out of range");
	char text[8];
	snprintf(text, sizeof(text), "%d", (int)port);
	int fd = connect_to(host, text);
	if (fd < 0) {
		return luaL_error(L, "Connect %s %d failed", host, (int)port);
	}
	lua_pushinteger(L, fd);
	return 1;
}

static int
check_fd(lua_State *L) {
	return (int)luaL_checkinteger(L, 1);
}

static int
socket_error(lua_State *L) {
	return luaL_error(L, "socket error: %s", strerror(errno));
}

static bool
would_block(void) {
	return errno == EAGAIN || errno == EWOULDBLOCK;
}

// recv(fd) -> bytes; "" when the peer has closed; nothing when there is nothing yet
static int
lrecv(lua_State *L) {
	char buf[RECV_SIZE];
	int fd = check_fd(L);
	ssize_t n;
	do {
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return would_block() ? 0 : socket_error(L);
	}
	lua_pushlstring(L, buf, (size_t)n);
	// Not before there is the string: without memory for it nothing is lost.
	if (n > 0) {
		recv(fd, buf, (size_t)n, MSG_DONTWAIT);
	}
	return 1;
}

// send(fd, bytes): returns when all of them are sent
static int
lsend(lua_State *L) {
	int fd = check_fd(L);
	size_t left;
	const char *p = luaL_checklstring(L, 2, &left);
	while (left > 0) {
#ifdef MSG_NOSIGNAL
		ssize_t n = send(fd, p, left, MSG_NOSIGNAL);
#else
		ssize_t n = send(fd, p, left, 0);
#endif
		if (n >= 0) {
			p += n;
			left -= (size_t)n;
		} else if (would_block()) {
			wait_for(fd, POLLOUT);
		} else if (errno != EINTR) {
			return socket_error(L);
		}
	}
	return 0;
}

// shutdown(fd, mode): mode holds "r", "w" or both
static int
lshutdown(lua_State *L) {
	int fd = check_fd(L);
	bool reading = false;
	bool writing = false;
	for (const char *p = luaL_checkstring(L, 2); *p != '\0'; p++) {
		switch (*p) {
		case 'r':
			reading = true;
			break;
		case 'w':
			writing = true;
			break;
		default:
			return luaL_error(L, "Invalid mode %c", *p);
		}
	}
	if (!reading && !writing) {
		return luaL_error(L, "mode should be r or/and w");
	}
	shutdown(fd, reading && writing ? SHUT_RDWR : reading ? SHUT_RD : SHUT_WR);
	return 0;
}

static int
lclose(lua_State *L) {
	close(check_fd(L));
	return 0;
}

static int
lusleep(lua_State *L) {
	lua_Integer us = luaL_checkinteger(L, 1);
	luaL_argcheck(L, us >= 0, 1, "time out of range");
	struct timespec left = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
	while (nanosleep(&left, &left) != 0 && errno == EINTR) {
	}
	return 0;
}

//------------------------------------------------------------ standard input

struct line {
	size_t n;
	char *text;
};

// Lines wait in a ring. Everything is protected by the lock.
static struct {
	pthread_mutex_t lock;
	pthread_cond_t has_room;
	bool is_started;
	bool has_ended;
	int head;
	int n;
	struct line line[MAX_LINES];
} input = {.lock = PTHREAD_MUTEX_INITIALIZER, .has_room = PTHREAD_COND_INITIALIZER};

// Takes the text. Waits while the queue is full.
static void
push_line(char *text, size_t n) {
	pthread_mutex_lock(&input.lock);
	while (input.n == MAX_LINES) {
		pthread_cond_wait(&input.has_room, &input.lock);
	}
	input.line[(input.head + input.n++) % MAX_LINES] = (struct line){n, text};
	pthread_mutex_unlock(&input.lock);
}

static void
end_input(void) {
	pthread_mutex_lock(&input.lock);
	input.has_ended = true;
	pthread_mutex_unlock(&input.lock);
}

struct assembly {
	char *text;
	size_t n;
	size_t cap;
};

static void
finish_line(struct assembly *a) {
	char *text = a->text != NULL ? a->text : malloc(1);
	push_line(text, a->n);
	*a = (struct assembly){NULL, 0, 0};
}

static void
add_byte(struct assembly *a, char c) {
	if (a->n == a->cap) {
		size_t cap = a->cap == 0 ? 64 : a->cap * 2;
		char *text = realloc(a->text, cap);
		if (text == NULL) {
			return;
		}
		a->text = text;
		a->cap = cap;
	}
	a->text[a->n++] = c;
}

// Others who have it, too, may have made it not to block.
static ssize_t
read_some(char *buf, size_t size) {
	ssize_t n;
	while ((n = read(STDIN_FILENO, buf, size)) < 0 && (errno == EINTR || would_block())) {
		wait_for(STDIN_FILENO, POLLIN);
	}
	return n;
}

static void *
read_input(void *ud) {
	(void)ud;
	struct assembly a = {NULL, 0, 0};
	char buf[STDIN_READ];
	ssize_t n;
	while ((n = read_some(buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] != '\n') {
				add_byte(&a, buf[i]);
			}
			if (buf[i] == '\n' || a.n == MAX_LINE) {
				finish_line(&a);
			}
		}
	}
	if (a.n > 0) {
		finish_line(&a);
	}
	end_input();
	return NULL;
}

// With the lock.
static void
start_reader(lua_State *L) {
	pthread_t pid;
	if (pthread_create(&pid, NULL, read_input, NULL) != 0) {
		pthread_mutex_unlock(&input.lock);
		luaL_error(L, "Create stdin thread failed");
	}
	pthread_detach(pid);
	input.is_started = true;
}

// readstdin() -> the next line without its end, or nothing
static int
lreadstdin(lua_State *L) {
	struct line line = {0, NULL};
	pthread_mutex_lock(&input.lock);
	if (!input.is_started) {
		start_reader(L);
	}
	if (input.n > 0) {
		line = input.line[input.head];
		input.head = (input.head + 1) % MAX_LINES;
		input.n--;
		pthread_cond_signal(&input.has_room);
	}
	pthread_mutex_unlock(&input.lock);
	if (line.text == NULL) {
		return 0;
	}
	lua_owned_string(L, line.text, line.n);
	return 1;
}

// stdin_ended() -> true when every line was read and no more will come
static int
lstdin_ended(lua_State *L) {
	pthread_mutex_lock(&input.lock);
	bool ended = input.has_ended && input.n == 0;
	pthread_mutex_unlock(&input.lock);
	lua_pushboolean(L, ended);
	return 1;
}

int
luaopen_client_socket(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"connect", lconnect},
	    {"recv", lrecv},
	    {"send", lsend},
	    {"shutdown", lshutdown},
	    {"close", lclose},
	    {"usleep", lusleep},
	    {"readstdin", lreadstdin},
	    {"stdin_ended", lstdin_ended},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlib(L, functions);
	return 1;
}
