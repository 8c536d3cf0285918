/*
 * Daemon mode. Owns the pidfile's descriptor, whose advisory lock says "this
 * node is alive" until the process ends, and, while it starts, the pipe over which the
 * launching process learns the outcome: one byte for success, end of file for failure.
 */
#include "skynet_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* Room for any decimal pid with its newline. */
#define PID_TEXT 32

static int pidfile_fd = -1; /* locked; never closed, so that the lock lasts */
static int report_fd = -1;  /* write end of the pipe to the launching process */
static int null_fd = -1;    /* what the standard streams become */

/* The pid in an open file; 0 when there is none. */
static int
read_pid(int fd) {
	char text[PID_TEXT];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0) {
		return 0;
	}
	text[n] = '\0';
	long pid = strtol(text, NULL, 10);
	return pid > 0 && pid <= INT_MAX ? (int)pid : 0;
}

/* Pid of a live process that the pidfile names, or 0. */
static int
running_pid(const char *pidfile) {
	int fd = open(pidfile, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return 0;
	}
	int pid = read_pid(fd);
	close(fd);
	if (pid == 0 || pid == getpid()) {
		return 0;
	}
	/* Without permission to signal it, it is alive all the same. */
	return kill(pid, 0) == 0 || errno != ESRCH ? pid : 0;
}

static int
lock_pidfile(int fd) {
	int r;
	do {
		r = flock(fd, LOCK_EX | LOCK_NB);
	} while (r != 0 && errno == EINTR);
	if (r == 0) {
		return 0;
	}
	int why = errno;
	int pid = read_pid(fd);
	if (why != EWOULDBLOCK) {
		fprintf(stderr, "Can't lock pidfile: %s.\n", strerror(why));
	} else if (pid == 0) {
		fprintf(stderr, "Can't lock and read pidfile.\n");
	} else {
		fprintf(stderr, "Can't lock pidfile, lock is held by pid %d.\n", pid);
	}
	return -1;
}

static int
write_pidfile(const char *pidfile) {
	int fd = open(pidfile, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0) {
		int why = errno;
		const char *what = access(pidfile, F_OK) == 0 ? "open" : "create";
		fprintf(stderr, "Can't %s pidfile [%s]. (%s, see daemon in the configuration)\n", what,
		        pidfile, strerror(why));
		return -1;
	}
	if (lock_pidfile(fd) != 0) {
		close(fd);
		return -1;
	}
	char text[PID_TEXT];
	int length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	/* Cut only under the lock: before it, the content may be another node's. */
	errno = ENOSPC; /* should only a part of it fit */
	if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length) {
		fprintf(stderr, "Can't write pid to pidfile [%s]: %s.\n", pidfile, strerror(errno));
		unlink(pidfile);
		close(fd);
		return -1;
	}
	pidfile_fd = fd;
	return 0;
}

/* Launching process: wait for the verdict and end with it. */
static void
await_verdict(pid_t child, int fd) {
	char byte;
	ssize_t n;
	do {
		n = read(fd, &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1) {
		_exit(EXIT_SUCCESS);
	}
	if (n < 0) {
		/* The daemon may well run: it must not be waited for. */
		fprintf(stderr, "Can't learn whether the daemon has started: %s.\n", strerror(errno));
		_exit(EXIT_FAILURE);
	}
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
	}
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "The daemon was ended by signal %d.\n", WTERMSIG(status));
	}
	_exit(EXIT_FAILURE);
}

static int
detach(void) {
	int ends[2];
	if (pipe(ends) != 0) {
		fprintf(stderr, "Can't daemonize: %s.\n", strerror(errno));
		return -1;
	}
	fcntl(ends[1], F_SETFD, FD_CLOEXEC);
	fflush(NULL);
	pid_t child = fork();
	if (child < 0) {
		fprintf(stderr, "Can't daemonize: %s.\n", strerror(errno));
		close(ends[0]);
		close(ends[1]);
		return -1;
	}
	if (child > 0) {
		close(ends[1]);
		await_verdict(child, ends[0]);
	}
	close(ends[0]);
	report_fd = ends[1];
	if (setsid() < 0) {
		fprintf(stderr, "Can't daemonize: %s.\n", strerror(errno));
		return -1;
	}
	return 0;
}

/* What the end of the start needs, so that it can't fail any more then. */
static int
open_null(void) {
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0) {
		fprintf(stderr, "Can't daemonize, /dev/null: %s.\n", strerror(errno));
		return -1;
	}
	return 0;
}

int
daemon_init(const char *pidfile) {
	int pid = running_pid(pidfile);
	if (pid != 0) {
		fprintf(stderr, "Skynet is already running, pid = %d.\n", pid);
		return 1;
	}
#ifdef __APPLE__
	fprintf(stderr, "'daemon' is deprecated: first deprecated in OS X 10.5 , "
	                "use launchd instead.\n");
#else
	if (detach() != 0) {
		return 1;
	}
#endif
	return open_null() == 0 && write_pidfile(pidfile) == 0 ? 0 : 1;
}

static void
report_success(void) {
	ssize_t n;
	do {
		n = write(report_fd, "", 1);
		/* A launching process that is gone wants no verdict. */
	} while (n < 0 && errno == EINTR);
	close(report_fd);
	report_fd = -1;
}

void
daemon_ready(void) {
	if (pidfile_fd < 0) {
		return;
	}
	fflush(NULL);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		while (dup2(null_fd, fd) < 0 && (errno == EINTR || errno == EBUSY)) {
		}
	}
	if (null_fd > STDERR_FILENO) {
		close(null_fd);
	}
	if (report_fd >= 0) {
		report_success();
	}
}

int
daemon_exit(const char *pidfile) {
	return unlink(pidfile) == 0 ? 0 : 1;
}
