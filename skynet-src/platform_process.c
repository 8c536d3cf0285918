/* POSIX and Linux behind platform_process.h. */
#include "platform_process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/syscall.h>
#endif

_Atomic(pid_t) platform_process_id;

static pthread_once_t init_once = PTHREAD_ONCE_INIT;
static bool has_fork_handler;

static void
note_id(void) {
	/* Relaxed, as with all readers: it orders nothing. */
	atomic_store_explicit(&platform_process_id, getpid(), memory_order_relaxed);
}

static void
init(void) {
	has_fork_handler = pthread_atfork(NULL, NULL, note_id) == 0;
	note_id();
}

bool
platform_process_init(void) {
	pthread_once(&init_once, init);
	return has_fork_handler;
}

#if defined(SYS_pidfd_open)

/* A descriptor tells a dead process that nobody collected from a live one. */
bool
platform_process_is_dead(pid_t pid) {
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0) {
		return errno == ESRCH || (kill(pid, 0) != 0 && errno == ESRCH);
	}
	struct pollfd p = {.fd = fd, .events = POLLIN};
	bool is_dead = poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0;
	close(fd);
	return is_dead;
}

#else

bool
platform_process_is_dead(pid_t pid) {
	return kill(pid, 0) != 0 && errno == ESRCH;
}

#endif

static bool
set_robust(pthread_mutexattr_t *attr) {
#if defined(__APPLE__)
	(void)attr;
	return true;
#else
	return pthread_mutexattr_setrobust(attr, PTHREAD_MUTEX_ROBUST) == 0;
#endif
}

bool
platform_shared_mutex_init(pthread_mutex_t *m) {
	pthread_mutexattr_t attr;

	if (pthread_mutexattr_init(&attr) != 0) {
		return false;
	}
	bool is_made = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0 &&
	               set_robust(&attr) && pthread_mutex_init(m, &attr) == 0;
	pthread_mutexattr_destroy(&attr);
	return is_made;
}

int
platform_shared_mutex_lock(pthread_mutex_t *m) {
	return pthread_mutex_lock(m);
}

void
platform_shared_mutex_mended(pthread_mutex_t *m) {
#if defined(__APPLE__)
	(void)m;
#else
	pthread_mutex_consistent(m);
#endif
}
