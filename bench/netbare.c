// The least that a server can do: accept, read, write the same back; one thread, one
// epoll. What netload gets from it is what this machine's network calls allow, and so
// what figures of gates are to be held against on another machine or another day.
//
//   netbare     prints `bench port N`, serves until it is killed
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define BACKLOG 1024

static int epfd;

static void
watch(int fd) {
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) != 0) {
		perror("netbare: epoll_ctl");
		exit(1);
	}
}

static int
open_listener(void) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, BACKLOG) != 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) != 0) {
		perror("netbare: listen");
		exit(1);
	}
	printf("bench port %d\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

static void
accept_all(int listener) {
	int on = 1;
	int fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		watch(fd);
	}
}

static void
echo(int fd) {
	static char buffer[65536];
	ssize_t n = read(fd, buffer, sizeof(buffer));
	// The load reads all it gets, so a short write is the end as well.
	if (n <= 0 || write(fd, buffer, (size_t)n) != n) {
		close(fd);
	}
}

int
main(void) {
	struct epoll_event ev[EVENTS];
	epfd = epoll_create1(0);
	int listener = open_listener();
	watch(listener);
	for (;;) {
		int n = epoll_wait(epfd, ev, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			if (ev[i].data.fd == listener) {
				accept_all(listener);
			} else {
				echo(ev[i].data.fd);
			}
		}
	}
}
