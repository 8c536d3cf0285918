/*
 * Daemon mode. Owns the pidfile's descriptor, whose advisory lock says "this
 * node is alive" until the process ends, and the pipe over which the launching
 * process learns the outcome: one byte for success, end of file for failure.
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
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		return 0;
	}
	int pid = read_pid(fd);
	if (pid == 0) {
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
	if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length) {
		fprintf(stderr, "Can't write pid.\n");
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
	return setsid() < 0 ? -1 : 0;
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
	return write_pidfile(pidfile) == 0 ? 0 : 1;
}

void
daemon_ready(void) {
	if (pidfile_fd < 0) {
		return;
	}
	fflush(NULL);
	int null = open("/dev/null", O_RDWR);
	if (null >= 0) {
		for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
			dup2(null, fd);
		}
		if (null > STDERR_FILENO) {
			close(null);
		}
	}
	if (report_fd >= 0) {
		ssize_t n = write(report_fd, "", 1);
		(void)n; /* a launching process that is gone wants no verdict */
		close(report_fd);
		report_fd = -1;
	}
}

int
daemon_exit(const char *pidfile) {
	return unlink(pidfile) == 0 ? 0 : 1;
}
