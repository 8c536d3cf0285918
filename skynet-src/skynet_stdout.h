/*
 * Standard output, and standard error, that hold nobody up. The log, print and io.write of
 * all services go there, what a log service can't say about itself, and io.stderr; when one
 * is a pipe, a terminal or a socket that nobody reads, a plain write would stop one thread
 * after the other, and with them the node.
 *
 * What is not taken at once waits, at most STDOUT_WAITING bytes; a thread made for
 * it writes it as it is taken. Beyond, whole lines are dropped, and a line tells how
 * many once half of that is gone. Files are written as ever. A process that
 * aborts leaves what waits.
 *
 * Owns `stdout` and `stderr`, and of each a descriptor, what waits and that thread. Used
 * through stdio, by any thread.
 */
#ifndef SKYNET_STDOUT_H
#define SKYNET_STDOUT_H

#include <stdio.h>

#define STDOUT_WAITING (16u << 20)

/*
 * Once, before there are threads. On systems without glibc nothing is done.
 */
void skynet_stdout_open(void);

/* Writes what waits, as long as the reader takes some within a second. Called by
 * exit, too. */
void skynet_stdout_finish(void);

#endif
