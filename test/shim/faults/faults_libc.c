// See faults.h: functions of libc that are more than a call of the system, and streams of
// files over our own calls.
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *
libc(const char *name) {
	void *f = dlsym(RTLD_NEXT, name);
	if (f == NULL) {
		abort();
	}
	return f;
}

int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *arg) {
	int (*make)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
	    libc("pthread_create");
	struct faults_verdict v = faults_judge("pthread_create", "");
	return v.is_made ? make(thread, attr, body, arg) : v.error;
}

pid_t
fork(void) {
	pid_t (*make)(void) = libc("fork");
	struct faults_verdict v = faults_judge("fork", "");
	if (v.is_made) {
		return make();
	}
	errno = v.error;
	return -1;
}

int
sem_wait(sem_t *s) {
	int (*wait)(sem_t *) = libc("sem_wait");
	struct faults_verdict v = faults_judge("sem_wait", "");
	if (v.is_made) {
		return wait(s);
	}
	errno = v.error;
	return -1;
}

// `error` is EAI_SYSTEM with that errno, `result` another code.
int
getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
            struct addrinfo **out) {
	int (*look)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
	    libc("getaddrinfo");
	struct faults_verdict v = faults_judge("getaddrinfo", host == NULL ? "" : host);
	if (v.is_made) {
		return look(host, port, hints, out);
	}
	errno = v.error;
	return v.error != 0 ? EAI_SYSTEM : (int)v.result;
}

//-------------------------------------------------------------------- streams

static int
fd_of(const void *cookie) {
	return (int)(intptr_t)cookie;
}

static ssize_t
stream_read(void *cookie, char *buf, size_t size) {
	return read(fd_of(cookie), buf, size);
}

static ssize_t
stream_write(void *cookie, const char *buf, size_t size) {
	ssize_t n = write(fd_of(cookie), buf, size);
	// 0 is the sign of an error here.
	return n < 0 ? 0 : n;
}

static int
stream_seek(void *cookie, off64_t *at, int whence) {
	off64_t r = lseek64(fd_of(cookie), *at, whence);
	*at = r;
	return r < 0 ? -1 : 0;
}

static int
stream_close(void *cookie) {
	return close(fd_of(cookie));
}

static int
flags_of(const char *mode) {
	int flags = mode[0] == 'r' ? 0 : mode[0] == 'w' ? O_CREAT | O_TRUNC : O_CREAT | O_APPEND;
	int access = strchr(mode, '+') != NULL ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
	return flags | access | O_CLOEXEC;
}

FILE *
fopen(const char *path, const char *mode) {
	struct faults_verdict v = faults_judge("fopen", path);
	if (!v.is_made) {
		errno = v.error;
		return NULL;
	}
	int fd = open(path, flags_of(mode), 0666);
	if (fd < 0) {
		return NULL;
	}
	cookie_io_functions_t calls = {stream_read, stream_write, stream_seek, stream_close};
	FILE *f = fopencookie((void *)(intptr_t)fd, mode, calls);
	if (f == NULL) {
		close(fd);
	}
	return f;
}

FILE *
fopen64(const char *path, const char *mode) {
	return fopen(path, mode);
}

FILE *
freopen(const char *path, const char *mode, FILE *f) {
	fclose(f);
	return fopen(path, mode);
}

FILE *
freopen64(const char *path, const char *mode, FILE *f) {
	return freopen(path, mode, f);
}
