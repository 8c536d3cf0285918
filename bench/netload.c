// Load for the network benchmarks (bench/net.py): one thread, one epoll, frames of two
// length bytes and 64 bytes of payload. Its price is the same for every server, so it
// does as little as it can.
//
//   netload echo PORT CONNECTIONS DEPTH SECONDS   requests=N seconds=S
//   netload wsecho PORT CONNECTIONS DEPTH SECONDS the same with WebSocket messages
//   netload accept PORT PARALLEL SECONDS          connections=N seconds=S
//   netload idle PORT CONNECTIONS                 opens them, says "open", waits for the
//                                                 end of standard input
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <netinet/tcp.h>

#define PAYLOAD 64
// Also the answer to a WebSocket message.
#define FRAME (2 + PAYLOAD)
// The message: with a mask.
#define MASKED (6 + PAYLOAD)
#define MAX_DEPTH 64
#define EVENTS 256

static int port;
static int epfd;
static unsigned char frames[MASKED * MAX_DEPTH];
static size_t request_size = FRAME;

static void
fail(const char *what) {
	fprintf(stderr, "netload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double
now(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int
open_connection(void) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0) {
		fail("socket");
	}
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
		fail("connect");
	}
	return fd;
}

static void
watch(int fd, unsigned events, unsigned index) {
	struct epoll_event ev = {.events = events, .data.u32 = index};
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) != 0) {
		fail("epoll_ctl");
	}
}

//---------------------------------------------------------------------- echo

struct connection {
	int fd;
	int pending; // bytes of an answer that has come in part
	bool has_begun;
};

static void
send_frames(int fd, int n) {
	// The kernel's buffer holds far more than is ever under way.
	size_t bytes = (size_t)n * request_size;
	if (write(fd, frames, bytes) != (ssize_t)bytes) {
		fail("write");
	}
}

// Asks for the upgrade of a connection and waits for it.
static void
upgrade(int fd) {
	static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
	                              "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
	                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
	char answer[1024];
	size_t size = 0;
	if (write(fd, request, sizeof(request) - 1) != (ssize_t)sizeof(request) - 1) {
		fail("write");
	}
	do {
		ssize_t n = read(fd, answer + size, sizeof(answer) - 1 - size);
		if (n <= 0) {
			fail("upgrade");
		}
		size += (size_t)n;
		answer[size] = '\0';
	} while (strstr(answer, "\r\n\r\n") == NULL);
}

static void
make_messages(void) {
	static const unsigned char head[] = {0x82, 0x80 | PAYLOAD, 1, 2, 3, 4};
	request_size = MASKED;
	for (int i = 0; i < MAX_DEPTH; i++) {
		unsigned char *f = frames + i * MASKED;
		memcpy(f, head, sizeof(head));
		for (int k = 0; k < PAYLOAD; k++) {
			f[6 + k] = 'x' ^ f[2 + k % 4];
		}
	}
}

// Reads all that has come, and asks again as often as answers are complete.
static int
turn_round(struct connection *c) {
	// More than can be under way: one read leaves nothing, as EPOLLET asks.
	static char buf[FRAME * MAX_DEPTH * 2];
	ssize_t n = read(c->fd, buf, sizeof(buf));
	if (n <= 0) {
		fail("read");
	}
	int bytes = c->pending + (int)n;
	int done = bytes / FRAME;
	c->pending = bytes % FRAME;
	if (done > 0) {
		send_frames(c->fd, done);
	}
	return done;
}

// Waits for answers and goes on with those connections; how many came. Takes connections
// that had none before off `unanswered`, unless that is NULL.
static int
answers(struct connection *c, int *unanswered) {
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(epfd, ev, EVENTS, 1000);
	int done = 0;
	if (n == 0) {
		fprintf(stderr, "netload: no answer for a second\n");
		exit(1);
	}
	for (int i = 0; i < n; i++) {
		struct connection *one = &c[ev[i].data.u32];
		int complete = turn_round(one);
		done += complete;
		if (unanswered != NULL && complete > 0 && !one->has_begun) {
			one->has_begun = true;
			*unanswered -= 1;
		}
	}
	return done;
}

static void
run_echo(int connections, int depth, double seconds) {
	struct connection *c = calloc((size_t)connections, sizeof(*c));
	for (int i = 0; i < connections; i++) {
		int on = 1;
		c[i].fd = open_connection();
		setsockopt(c[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (request_size == MASKED) {
			upgrade(c[i].fd);
		}
		// Else the system looks at each connection twice for every answer.
		watch(c[i].fd, EPOLLIN | EPOLLET, (unsigned)i);
	}
	for (int i = 0; i < connections; i++) {
		send_frames(c[i].fd, depth);
	}
	// The server may make an agent for each connection: that is not what is measured.
	for (int unanswered = connections; unanswered > 0;) {
		answers(c, &unanswered);
	}
	long requests = 0;
	double start = now();
	double t = start;
	while (t - start < seconds) {
		requests += answers(c, NULL);
		t = now();
	}
	printf("requests=%ld seconds=%.6f\n", requests, t - start);
}

//-------------------------------------------------------------------- accept

// A connection counts when the server has answered one frame on it. It ends with a
// reset, so that no port stays behind in TIME_WAIT. On loopback connect does not wait
// as long as the server's backlog has room.
static void
begin(void) {
	struct linger reset = {1, 0};
	int fd = open_connection();
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	send_frames(fd, 1);
	watch(fd, EPOLLIN, (unsigned)fd);
}

static void
run_accept(int parallel, double seconds) {
	struct epoll_event ev[EVENTS];
	for (int i = 0; i < parallel; i++) {
		begin();
	}
	long connections = 0;
	double start = now();
	double t = start;
	while (t - start < seconds) {
		int n = epoll_wait(epfd, ev, EVENTS, 1000);
		for (int i = 0; i < n; i++) {
			if (ev[i].events & (EPOLLERR | EPOLLHUP)) {
				fail("connection");
			}
			connections++;
			close((int)ev[i].data.u32);
			begin();
		}
		t = now();
	}
	printf("connections=%ld seconds=%.6f\n", connections, t - start);
}

//---------------------------------------------------------------------- idle

static void
run_idle(int connections) {
	for (int i = 0; i < connections; i++) {
		open_connection();
	}
	printf("open\n");
	fflush(stdout);
	while (getchar() != EOF) {
	}
}

static int
number(const char *text, int max) {
	int n = atoi(text);
	if (n < 1 || n > max) {
		fprintf(stderr, "netload: bad number %s\n", text);
		exit(1);
	}
	return n;
}

int
main(int argc, char **argv) {
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	epfd = epoll_create1(0);
	memset(frames, 'x', sizeof(frames));
	for (int i = 0; i < MAX_DEPTH; i++) {
		frames[i * FRAME] = 0;
		frames[i * FRAME + 1] = PAYLOAD;
	}
	port = argc > 2 ? number(argv[2], 65535) : 0;
	if (argc == 6 && strcmp(argv[1], "wsecho") == 0) {
		make_messages();
		run_echo(number(argv[3], 60000), number(argv[4], MAX_DEPTH), number(argv[5], 3600));
	} else if (argc == 6 && strcmp(argv[1], "echo") == 0) {
		run_echo(number(argv[3], 60000), number(argv[4], MAX_DEPTH), number(argv[5], 3600));
	} else if (argc == 5 && strcmp(argv[1], "accept") == 0) {
		run_accept(number(argv[3], 10000), number(argv[4], 3600));
	} else if (argc == 4 && strcmp(argv[1], "idle") == 0) {
		run_idle(number(argv[3], 60000));
	} else {
		fprintf(stderr, "usage: netload echo|wsecho|accept|idle PORT ..., see bench/netload.c\n");
		return 1;
	}
	return 0;
}
