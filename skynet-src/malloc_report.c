/*
 * Reports of the memory subsystem. Nothing here may allocate on the way to the
 * first line: the process may have no memory, or a damaged heap.
 */
#include "malloc_report.h"

#include "malloc_hook.h"

#include <execinfo.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define MAX_FRAMES 64

/* Written at start, read by whoever reports. */
static _Atomic(malloc_namer) namer;

void
malloc_set_namer(malloc_namer f) {
	/* Release: pairs with the acquire below; what f uses is ready by then. */
	atomic_store_explicit(&namer, f, memory_order_release);
}

const char *
malloc_report_name(uint32_t handle) {
	malloc_namer f = atomic_load_explicit(&namer, memory_order_acquire);
	const char *name = f == NULL ? NULL : f(handle);
	return name == NULL ? "" : name;
}

void
malloc_report(const char *format, ...) {
	char line[512];
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(line, sizeof(line) - 1, format, ap);
	va_end(ap);
	if (n < 0) {
		return;
	}
	if (n > (int)sizeof(line) - 2) {
		n = (int)sizeof(line) - 2;
	}
	line[n++] = '\n';
	/* A pipe that nobody reads must not hold up who reports. */
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
	if (poll(&p, 1, 0) > 0) {
		ssize_t written = write(STDERR_FILENO, line, (size_t)n);
		(void)written; /* there is nobody left to tell */
	}
}

void
malloc_report_backtrace(void) {
	void *frame[MAX_FRAMES];
	int n = backtrace(frame, MAX_FRAMES);
	backtrace_symbols_fd(frame, n, STDERR_FILENO);
}
