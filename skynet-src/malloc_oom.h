/*
 * The end of memory: report, last hook, abort. Private to the memory
 * subsystem; its settings are in malloc_hook.h.
 */
#ifndef MALLOC_OOM_H
#define MALLOC_OOM_H

#include <stddef.h>

/*
 * Called when `size` bytes could not be had. The first caller gives back the
 * reserve, reports, runs the hook and aborts the process; it does not return.
 * Another thread that comes meanwhile returns once, to try again with what the
 * reserve freed; it then waits for the end. A failure inside the hook aborts.
 * tries: how often this allocation has failed before.
 */
void malloc_oom(size_t size, int tries);

/* Bytes that are kept aside now. Any thread. */
size_t malloc_reserve(void);

#endif
