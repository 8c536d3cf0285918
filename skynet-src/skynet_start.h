/*
 * Life of the node as a whole: its threads, the order of start and end, and
 * the signals that end it. Owns every kernel thread.
 */
#ifndef SKYNET_START_H
#define SKYNET_START_H

#include <stdint.h>

/*
 * Begin to end the node, from any thread; returns at once. Every service is
 * retired, the log service last, after its mailbox is drained.
 * status is the exit status of the process; the first nonzero one wins.
 */
void skynet_start_abort(int status);

/* The exit status decided so far: 0 after an orderly end. */
int skynet_start_status(void);

#endif
