// See faults.h: the calls, each as libc has it but for what the rules say.
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_SIZE 256
// The kernel's limit for one vector.
#define PARTS_MAX 1024

// As code of libc expects it: -1 and errno.
#define RESULT(v) ((v).error != 0 ? (errno = (v).error, -1L) : (v).result)

static struct faults_verdict
judge_fd(const char *call, int fd) {
	char text[TEXT_SIZE];
	if (!faults_are_armed(call)) {
		return (struct faults_verdict){.limit = -1, .is_made = true};
	}
	faults_text(fd, text, sizeof(text));
	return faults_judge(call, text);
}

static struct faults_verdict
judge(const char *call, const char *text) {
	if (!faults_are_armed(call)) {
		return (struct faults_verdict){.limit = -1, .is_made = true};
	}
	return faults_judge(call, text == NULL ? "" : text);
}

static size_t
shortened(const struct faults_verdict *v, size_t size) {
	return v->limit >= 0 && (size_t)v->limit < size ? (size_t)v->limit : size;
}

// The call itself unless a rule has its result.
#define MADE(v, ...) ((v).is_made ? syscall(__VA_ARGS__) : RESULT(v))

//------------------------------------------------------------------ transfers

ssize_t
read(int fd, void *buf, size_t size) {
	struct faults_verdict v = judge_fd("read", fd);
	return MADE(v, SYS_read, fd, buf, shortened(&v, size));
}

ssize_t
write(int fd, const void *buf, size_t size) {
	struct faults_verdict v = judge_fd("write", fd);
	return MADE(v, SYS_write, fd, buf, shortened(&v, size));
}

ssize_t
pread(int fd, void *buf, size_t size, off_t at) {
	struct faults_verdict v = judge_fd("pread", fd);
	return MADE(v, SYS_pread64, fd, buf, shortened(&v, size), at);
}

ssize_t
pread64(int fd, void *buf, size_t size, off64_t at) {
	return pread(fd, buf, size, at);
}

ssize_t
pwrite(int fd, const void *buf, size_t size, off_t at) {
	struct faults_verdict v = judge_fd("pwrite", fd);
	return MADE(v, SYS_pwrite64, fd, buf, shortened(&v, size), at);
}

// Copies the parts that hold the first `limit` bytes. Gives how many there are.
static size_t
first_parts(struct iovec *out, const struct iovec *in, size_t n, size_t limit) {
	size_t i = 0;
	for (; i < n && i < PARTS_MAX && limit > 0; i++) {
		out[i] = in[i];
		if (out[i].iov_len > limit) {
			out[i].iov_len = limit;
		}
		limit -= out[i].iov_len;
	}
	return i;
}

ssize_t
writev(int fd, const struct iovec *parts, int n) {
	struct iovec first[PARTS_MAX];
	struct faults_verdict v = judge_fd("writev", fd);
	if (v.limit >= 0) {
		n = (int)first_parts(first, parts, (size_t)n, (size_t)v.limit);
		parts = first;
	}
	return MADE(v, SYS_writev, fd, parts, n);
}

ssize_t
readv(int fd, const struct iovec *parts, int n) {
	struct iovec first[PARTS_MAX];
	struct faults_verdict v = judge_fd("readv", fd);
	if (v.limit >= 0) {
		n = (int)first_parts(first, parts, (size_t)n, (size_t)v.limit);
		parts = first;
	}
	return MADE(v, SYS_readv, fd, parts, n);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags) {
	struct iovec first[PARTS_MAX];
	struct msghdr m = *message;
	struct faults_verdict v = judge_fd("sendmsg", fd);
	if (v.limit >= 0) {
		m.msg_iovlen = first_parts(first, m.msg_iov, m.msg_iovlen, (size_t)v.limit);
		m.msg_iov = first;
	}
	return MADE(v, SYS_sendmsg, fd, &m, flags);
}

ssize_t
sendto(int fd, const void *buf, size_t size, int flags, const struct sockaddr *to, socklen_t len) {
	struct faults_verdict v = judge_fd("sendto", fd);
	return MADE(v, SYS_sendto, fd, buf, shortened(&v, size), flags, to, len);
}

ssize_t
send(int fd, const void *buf, size_t size, int flags) {
	struct faults_verdict v = judge_fd("send", fd);
	return MADE(v, SYS_sendto, fd, buf, shortened(&v, size), flags, NULL, 0);
}

ssize_t
recv(int fd, void *buf, size_t size, int flags) {
	struct faults_verdict v = judge_fd("recv", fd);
	return MADE(v, SYS_recvfrom, fd, buf, shortened(&v, size), flags, NULL, NULL);
}

ssize_t
recvfrom(int fd, void *buf, size_t size, int flags, struct sockaddr *from, socklen_t *len) {
	struct faults_verdict v = judge_fd("recvfrom", fd);
	return MADE(v, SYS_recvfrom, fd, buf, shortened(&v, size), flags, from, len);
}

//-------------------------------------------------------------------- sockets

int
socket(int family, int type, int protocol) {
	bool is_unix = family != AF_INET && family != AF_INET6;
	const char *text = is_unix ? "unix;" : (type & SOCK_DGRAM) != 0 ? "udp;" : "tcp;";
	struct faults_verdict v = judge("socket", text);
	return (int)MADE(v, SYS_socket, family, type, protocol);
}

int
bind(int fd, const struct sockaddr *at, socklen_t len) {
	struct faults_verdict v = judge_fd("bind", fd);
	return (int)MADE(v, SYS_bind, fd, at, len);
}

int
listen(int fd, int backlog) {
	struct faults_verdict v = judge_fd("listen", fd);
	return (int)MADE(v, SYS_listen, fd, backlog);
}

int
accept4(int fd, struct sockaddr *from, socklen_t *len, int flags) {
	struct faults_verdict v = judge_fd("accept4", fd);
	return (int)MADE(v, SYS_accept4, fd, from, len, flags);
}

// Not the descriptor, which is like others, but where to: "tcp:0>PORT;". A signal that ends the
// call does not end the connecting.
int
connect(int fd, const struct sockaddr *to, socklen_t len) {
	char text[TEXT_SIZE];
	struct faults_verdict v = {.is_made = true};
	if (faults_are_armed("connect")) {
		int port = to->sa_family == AF_INET ? ntohs(((const struct sockaddr_in *)to)->sin_port) : 0;
		snprintf(text, sizeof(text), "tcp:0>%d;", port);
		v = faults_judge("connect", text);
	}
	if (v.error == EINTR) {
		syscall(SYS_connect, fd, to, len);
	}
	return (int)MADE(v, SYS_connect, fd, to, len);
}

int
getsockopt(int fd, int level, int option, void *value, socklen_t *len) {
	struct faults_verdict v = judge_fd("getsockopt", fd);
	return (int)MADE(v, SYS_getsockopt, fd, level, option, value, len);
}

int
setsockopt(int fd, int level, int option, const void *value, socklen_t len) {
	struct faults_verdict v = judge_fd("setsockopt", fd);
	return (int)MADE(v, SYS_setsockopt, fd, level, option, value, len);
}

int
getsockname(int fd, struct sockaddr *at, socklen_t *len) {
	struct faults_verdict v = judge_fd("getsockname", fd);
	return (int)MADE(v, SYS_getsockname, fd, at, len);
}

int
getpeername(int fd, struct sockaddr *to, socklen_t *len) {
	struct faults_verdict v = judge_fd("getpeername", fd);
	return (int)MADE(v, SYS_getpeername, fd, to, len);
}

int
shutdown(int fd, int how) {
	struct faults_verdict v = judge_fd("shutdown", fd);
	return (int)MADE(v, SYS_shutdown, fd, how);
}

//-------------------------------------------------------------------- waiting

int
epoll_create1(int flags) {
	struct faults_verdict v = judge("epoll_create1", NULL);
	return (int)MADE(v, SYS_epoll_create1, flags);
}

// The text is that of the watched one, after what is to be done: "add tcp:1>2;".
int
epoll_ctl(int epfd, int op, int fd, struct epoll_event *event) {
	static const char *const verbs[] = {"", "add ", "del ", "mod "};
	char text[TEXT_SIZE];
	struct faults_verdict v = {.is_made = true};
	if (faults_are_armed("epoll_ctl")) {
		size_t n = (size_t)snprintf(text, sizeof(text), "%s", verbs[op & 3]);
		faults_text(fd, text + n, sizeof(text) - n);
		v = faults_judge("epoll_ctl", text);
	}
	return (int)MADE(v, SYS_epoll_ctl, epfd, op, fd, event);
}

int
epoll_wait(int epfd, struct epoll_event *events, int max, int timeout) {
	struct faults_verdict v = judge("epoll_wait", NULL);
	return (int)MADE(v, SYS_epoll_pwait, epfd, events, max, timeout, NULL, 0);
}

int
eventfd(unsigned count, int flags) {
	struct faults_verdict v = judge("eventfd", NULL);
	return (int)MADE(v, SYS_eventfd2, count, flags);
}

int
poll(struct pollfd *fds, nfds_t n, int timeout) {
	struct timespec ts = {timeout / 1000, (long)(timeout % 1000) * 1000000};
	struct faults_verdict v = judge("poll", NULL);
	return (int)MADE(v, SYS_ppoll, fds, n, timeout < 0 ? NULL : &ts, NULL, 0);
}

//---------------------------------------------------------------- descriptors

// The kernel gives the descriptor back whatever it answers.
int
close(int fd) {
	struct faults_verdict v = judge_fd("close", fd);
	int r = (int)syscall(SYS_close, fd);
	if (r != 0 && errno == EBADF) {
		faults_count_bad_close();
	}
	return v.is_made ? r : (int)RESULT(v);
}

static int
control(int fd, int cmd, long arg) {
	struct faults_verdict v = judge_fd("fcntl", fd);
	return (int)MADE(v, SYS_fcntl, fd, cmd, arg);
}

int
fcntl(int fd, int cmd, ...) {
	va_list ap;
	va_start(ap, cmd);
	long arg = va_arg(ap, long);
	va_end(ap);
	return control(fd, cmd, arg);
}

int
fcntl64(int fd, int cmd, ...) {
	va_list ap;
	va_start(ap, cmd);
	long arg = va_arg(ap, long);
	va_end(ap);
	return control(fd, cmd, arg);
}

int
ioctl(int fd, unsigned long request, ...) {
	va_list ap;
	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	struct faults_verdict v = judge_fd("ioctl", fd);
	return (int)MADE(v, SYS_ioctl, fd, request, arg);
}

int
pipe(int ends[2]) {
	struct faults_verdict v = judge("pipe", NULL);
	return (int)MADE(v, SYS_pipe2, ends, 0);
}

int
dup2(int from, int to) {
	struct faults_verdict v = judge_fd("dup2", from);
	return (int)MADE(v, SYS_dup3, from, to, 0);
}

int
flock(int fd, int how) {
	struct faults_verdict v = judge_fd("flock", fd);
	return (int)MADE(v, SYS_flock, fd, how);
}

int
ftruncate(int fd, off_t size) {
	struct faults_verdict v = judge_fd("ftruncate", fd);
	return (int)MADE(v, SYS_ftruncate, fd, size);
}

int
fstat(int fd, struct stat *st) {
	struct faults_verdict v = judge_fd("fstat", fd);
	return (int)MADE(v, SYS_newfstatat, fd, "", st, AT_EMPTY_PATH);
}

int
fstat64(int fd, struct stat64 *st) {
	return fstat(fd, (struct stat *)st);
}

//---------------------------------------------------------------------- files

static int
open_at(const char *call, int at, const char *path, int flags, va_list ap) {
	unsigned mode = (flags & O_CREAT) != 0 ? va_arg(ap, unsigned) : 0;
	struct faults_verdict v = judge(call, path);
	return (int)MADE(v, SYS_openat, at, path, flags, mode);
}

int
open(const char *path, int flags, ...) {
	va_list ap;
	va_start(ap, flags);
	int fd = open_at("open", AT_FDCWD, path, flags, ap);
	va_end(ap);
	return fd;
}

int
open64(const char *path, int flags, ...) {
	va_list ap;
	va_start(ap, flags);
	int fd = open_at("open", AT_FDCWD, path, flags, ap);
	va_end(ap);
	return fd;
}

int
openat(int at, const char *path, int flags, ...) {
	va_list ap;
	va_start(ap, flags);
	int fd = open_at("openat", at, path, flags, ap);
	va_end(ap);
	return fd;
}

int
stat(const char *path, struct stat *st) {
	struct faults_verdict v = judge("stat", path);
	return (int)MADE(v, SYS_newfstatat, AT_FDCWD, path, st, 0);
}

int
stat64(const char *path, struct stat64 *st) {
	return stat(path, (struct stat *)st);
}

int
access(const char *path, int how) {
	struct faults_verdict v = judge("access", path);
	return (int)MADE(v, SYS_faccessat, AT_FDCWD, path, how);
}

int
unlink(const char *path) {
	struct faults_verdict v = judge("unlink", path);
	return (int)MADE(v, SYS_unlinkat, AT_FDCWD, path, 0);
}

//--------------------------------------------------------------------- memory

void *
mmap(void *at, size_t size, int protection, int flags, int fd, off_t from) {
	struct faults_verdict v = judge("mmap", NULL);
	return (void *)MADE(v, SYS_mmap, at, size, protection, flags, fd, from);
}

void *
mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t from) {
	return mmap(at, size, protection, flags, fd, from);
}

int
mprotect(void *at, size_t size, int protection) {
	struct faults_verdict v = judge("mprotect", NULL);
	return (int)MADE(v, SYS_mprotect, at, size, protection);
}

int
madvise(void *at, size_t size, int advice) {
	struct faults_verdict v = judge("madvise", NULL);
	return (int)MADE(v, SYS_madvise, at, size, advice);
}

int
munmap(void *at, size_t size) {
	struct faults_verdict v = judge("munmap", NULL);
	return (int)MADE(v, SYS_munmap, at, size);
}

//-------------------------------------------------------------------- process

ssize_t
getrandom(void *buf, size_t size, unsigned flags) {
	struct faults_verdict v = judge("getrandom", NULL);
	return MADE(v, SYS_getrandom, buf, shortened(&v, size), flags);
}

int
getentropy(void *buf, size_t size) {
	struct faults_verdict v = judge("getentropy", NULL);
	return MADE(v, SYS_getrandom, buf, size, 0) < 0 ? -1 : 0;
}

pid_t
setsid(void) {
	struct faults_verdict v = judge("setsid", NULL);
	return (pid_t)MADE(v, SYS_setsid);
}

pid_t
waitpid(pid_t pid, int *status, int options) {
	struct faults_verdict v = judge("waitpid", NULL);
	return (pid_t)MADE(v, SYS_wait4, pid, status, options, NULL);
}
