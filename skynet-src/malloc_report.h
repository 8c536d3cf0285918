/*
 * How the memory subsystem speaks when something is badly wrong: whole lines
 * on stderr, without allocating. Private to the memory subsystem; users set the
 * namer through malloc_hook.h.
 */
#ifndef MALLOC_REPORT_H
#define MALLOC_REPORT_H

#include <stdint.h>

/* Writes one line (cut to 512 bytes); the newline is added. Any thread. */
void malloc_report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The service's name, or "" when unknown. Calls the registered namer. */
const char *malloc_report_name(uint32_t handle);

/* Writes the calling thread's C stack. */
void malloc_report_backtrace(void);

#endif
