/*
 * What main() and the kernel's own files share: the settings of a node, the
 * ids of threads, and string helpers of the accounted allocator.
 */
#ifndef SKYNET_IMP_H
#define SKYNET_IMP_H

#include <stddef.h>

struct skynet_config {
	int thread;         /* workers, 1..SKYNET_MAXTHREAD */
	int harbor;         /* node id, 0..255 */
	int profile;        /* nonzero: CPU accounting per message */
	const char *daemon; /* pidfile, or NULL */
	const char *module_path;
	const char *bootstrap; /* module name, blanks, argument */
	const char *logger;    /* argument of the log service, or NULL */
	const char *logservice;
};

/* Current handle of a thread that has not run a service: minus its kind. */
#define THREAD_WORKER 0
#define THREAD_MAIN 1
#define THREAD_SOCKET 2
#define THREAD_TIMER 3
#define THREAD_MONITOR 4

#ifndef SKYNET_MAXTHREAD
#define SKYNET_MAXTHREAD 1024
#endif

/*
 * Run a node until it ends. Returns after every thread was joined. A node that
 * cannot start prints why and exits the process with status 1.
 */
void skynet_start(struct skynet_config *config);

/* Copies that the caller releases with skynet_free. */
char *skynet_strdup(const char *str);
char *skynet_strndup(const char *str, size_t size);

#endif
