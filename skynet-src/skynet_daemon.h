/*
 * Daemon mode: detach from the terminal, with a locked pidfile that keeps a
 * second start out. Main thread only, before any other thread exists.
 *
 * The launching process waits for the detached one: it ends with status 0 once
 * daemon_ready was called there, and with status 1 if that one ended before.
 */
#ifndef SKYNET_DAEMON_H
#define SKYNET_DAEMON_H

/*
 * Detach, lock and write the pidfile. Returns 0 in the detached process; the
 * launching process never returns. 1 on failure, with one line on stderr.
 * Standard descriptors stay open until daemon_ready.
 */
int daemon_init(const char *pidfile);

/*
 * The node is up: redirect descriptors 0, 1 and 2 to the null device and let
 * the launching process report success. Does nothing outside daemon mode.
 */
void daemon_ready(void);

/* Orderly end: remove the pidfile. Returns 0, or 1 when it cannot be removed. */
int daemon_exit(const char *pidfile);

#endif
