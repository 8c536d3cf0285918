// See faults.h: the rules. The file of rules is mapped at the first call, which may come from
// the allocator of the node before anything of it runs: nothing here allocates.
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic(struct faults_file *) file;

static struct faults_file *
map_file(void) {
	const char *path = getenv("FAULTS_FILE");
	if (path == NULL) {
		return NULL;
	}
	long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		return NULL;
	}
	long at = syscall(SYS_mmap, NULL, sizeof(struct faults_file), PROT_READ | PROT_WRITE,
	                  MAP_SHARED, fd, 0);
	syscall(SYS_close, fd);
	// An error is one of the last few addresses.
	struct faults_file *f = at == -1 ? NULL : (struct faults_file *)at;
	return f != NULL && f->magic == FAULTS_MAGIC ? f : NULL;
}

// Two threads may map it at once, at most; both find the same rules.
static struct faults_file *
rules(void) {
	static atomic_bool is_known;
	if (!atomic_load(&is_known) && environ != NULL) {
		int saved = errno;
		atomic_store(&file, map_file());
		atomic_store(&is_known, true);
		errno = saved;
	}
	return atomic_load(&file);
}

static bool
is_about(struct faults_rule *r, const char *call) {
	return atomic_load_explicit(&r->armed, memory_order_acquire) != 0 && strcmp(r->call, call) == 0;
}

bool
faults_are_armed(const char *call) {
	struct faults_file *f = rules();
	for (int i = 0; f != NULL && i < FAULTS_RULES; i++) {
		if (is_about(&f->rule[i], call)) {
			return true;
		}
	}
	return false;
}

// The n-th call's throw of the dice, the same in each run.
static bool
is_chosen(const struct faults_rule *r, uint32_t n) {
	if (r->chance == 0) {
		return true;
	}
	uint64_t x = ((uint64_t)r->seed << 32 | n) * UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
	return (uint32_t)(x >> 32) < r->chance;
}

static bool
applies(struct faults_rule *r, const char *call, const char *text) {
	if (!is_about(r, call) || strstr(text, r->on) == NULL) {
		return false;
	}
	uint32_t n = atomic_fetch_add(&r->seen, 1) + 1;
	bool is_due = n >= r->first && (r->count == 0 || n - r->first < r->count);
	return is_due && is_chosen(r, n);
}

struct faults_verdict
faults_judge(const char *call, const char *text) {
	struct faults_verdict v = {.limit = -1, .is_made = true};
	struct faults_file *f = rules();
	for (int i = 0; f != NULL && i < FAULTS_RULES && v.is_made; i++) {
		struct faults_rule *r = &f->rule[i];
		if (!applies(r, call, text)) {
			continue;
		}
		v.error = r->error == FAULTS_NONE ? 0 : r->error;
		v.limit = r->limit == FAULTS_NONE ? -1 : r->limit;
		v.result = r->result == FAULTS_NONE ? 0 : r->result;
		v.is_made = r->error == FAULTS_NONE && r->result == FAULTS_NONE;
		atomic_fetch_add(&r->hit, 1);
	}
	return v;
}

void
faults_count_bad_close(void) {
	struct faults_file *f = rules();
	if (f != NULL) {
		atomic_fetch_add(&f->bad_closes, 1);
	}
}

//---------------------------------------------------------------- descriptors

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int
port_of(const union address *a) {
	return a->any.sa_family == AF_INET    ? ntohs(a->v4.sin_port)
	       : a->any.sa_family == AF_INET6 ? ntohs(a->v6.sin6_port)
	                                      : 0;
}

static int
option_of(int fd, int option) {
	int value = 0;
	socklen_t len = sizeof(value);
	return syscall(SYS_getsockopt, fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

static void
socket_text(int fd, int type, char *text, size_t size) {
	union address at;
	union address to;
	memset(&at, 0, sizeof(at));
	memset(&to, 0, sizeof(to));
	socklen_t at_len = sizeof(at);
	socklen_t to_len = sizeof(to);
	syscall(SYS_getsockname, fd, &at, &at_len);
	syscall(SYS_getpeername, fd, &to, &to_len);
	if (at.any.sa_family != AF_INET && at.any.sa_family != AF_INET6) {
		snprintf(text, size, "unix;");
	} else if (option_of(fd, SO_ACCEPTCONN) == 1) {
		snprintf(text, size, "listen:%d;", port_of(&at));
	} else {
		snprintf(text, size, "%s:%d>%d;", type == SOCK_DGRAM ? "udp" : "tcp", port_of(&at),
		         port_of(&to));
	}
}

void
faults_text(int fd, char *text, size_t size) {
	int saved = errno;
	int type = option_of(fd, SO_TYPE);
	if (type >= 0) {
		socket_text(fd, type, text, size);
	} else {
		char link[48];
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		long n = syscall(SYS_readlinkat, AT_FDCWD, link, text, size - 1);
		text[n < 0 ? 0 : n] = '\0';
	}
	errno = saved;
}
