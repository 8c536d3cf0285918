/*
 * skynet_error: every log line of the node starts here and becomes a text
 * message to the service that is registered as `logger`.
 *
 * The queue of that service is bounded: beyond the limits lines are dropped,
 * and the first line that gets through again is preceded by their number. A
 * line that finds no log service, or that one dies before it got the line,
 * goes to stderr; before there has ever been one, lines are discarded.
 *
 * The block of a line is its text, a NUL, and the source's address, which only
 * line_lost reads.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mailbox.h"
#include "scheduler.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_env.h"
#include "skynet_handle.h"
#include "skynet_mq.h"
#include "skynet_server.h"

/* Most lines fit, and are then formatted once. */
#define LINE_SIZE 512
/*
 * What may wait for the log service; the key `logqueue` sets the lines. A slow
 * disk then costs lines, not memory without limit. Once full, the queue takes
 * new lines again below a half.
 */
#define QUEUE_LINES 1000000
#define QUEUE_BYTES (64u << 20)

static struct {
	/* Relaxed throughout: the handle is checked at each use, and the others
	   only decide which of two racing lines is dropped or counted. */
	_Atomic(uint32_t) logger; /* found under its name; 0 = there never was one */
	atomic_bool is_full;
	_Atomic(uint64_t) dropped;
	_Atomic(size_t) limit; /* lines that may wait; 0 = not read yet */
} L;

static char *
line_alloc(size_t size) {
	return skynet_malloc(size + 1 + sizeof(uint32_t));
}

/* The log service with a reference, looked up again if it died. NULL = none. */
static struct skynet_context *
grab_logger(void) {
	uint32_t handle = atomic_load_explicit(&L.logger, memory_order_relaxed);
	struct skynet_context *logger = handle == 0 ? NULL : skynet_handle_grab(handle);
	if (logger == NULL) {
		uint32_t found = skynet_handle_findname("logger");
		if (found != 0) {
			atomic_store_explicit(&L.logger, found, memory_order_relaxed);
			logger = skynet_handle_grab(found);
		}
	}
	return logger;
}

/* Last resort: the line as the log service would print it. */
static void
print_line(uint32_t source, const char *text, size_t size) {
	if (atomic_load_explicit(&L.logger, memory_order_relaxed) == 0) {
		return;
	}
	flockfile(stderr);
	fprintf(stderr, "[:%08x] ", source);
	fwrite(text, 1, size, stderr);
	putc('\n', stderr);
	funlockfile(stderr);
}

/* The log service will never see this line; its block is freed by the caller. */
static void
line_lost(void *text, size_t size) {
	uint32_t source;
	memcpy(&source, (char *)text + size + 1, sizeof(source));
	print_line(source, text, size);
}

/* Queue a line: takes text if the result is 0; -1 when the service is dead. */
static int
push_line(struct skynet_context *logger, uint32_t source, char *text, size_t size) {
	struct mailbox_node *node = mailbox_node_new();
	memcpy(text + size + 1, &source, sizeof(source));
	node->dispose = line_lost;
	node->msg.source = source;
	node->msg.session = 0;
	node->msg.data = text;
	node->msg.sz = size | (size_t)PTYPE_TEXT << MESSAGE_TYPE_SHIFT;
	node->stamp = skynet_now() + 1;
	switch (mailbox_push(&logger->mailbox, node)) {
	case MAILBOX_SCHEDULE:
		scheduler_push(&logger->mailbox.run);
		return 0;
	case MAILBOX_QUEUED:
		return 0;
	default:
		mailbox_node_free(node);
		return -1;
	}
}

static size_t
queue_limit(void) {
	size_t limit = atomic_load_explicit(&L.limit, memory_order_relaxed);
	if (limit == 0) {
		const char *text = skynet_getenv("logqueue");
		limit = text == NULL ? 0 : strtoul(text, NULL, 10);
		limit = limit == 0 ? QUEUE_LINES : limit;
		atomic_store_explicit(&L.limit, limit, memory_order_relaxed);
	}
	return limit;
}

/* Whether the next line must be dropped. */
static bool
is_full(struct skynet_context *logger) {
	bool was_full = atomic_load_explicit(&L.is_full, memory_order_relaxed);
	unsigned share = was_full ? 2 : 1;
	bool now_full = mailbox_length(&logger->mailbox) >= queue_limit() / share ||
	                mailbox_bytes(&logger->mailbox) >= QUEUE_BYTES / share;
	if (now_full != was_full) {
		atomic_store_explicit(&L.is_full, now_full, memory_order_relaxed);
	}
	return now_full;
}

static void
report_dropped(struct skynet_context *logger) {
	if (atomic_load_explicit(&L.dropped, memory_order_relaxed) == 0) {
		return;
	}
	unsigned long long n = atomic_exchange_explicit(&L.dropped, 0, memory_order_relaxed);
	if (n > 0) {
		char *text = line_alloc(LINE_SIZE);
		int size =
		    snprintf(text, LINE_SIZE, "error: The log service is too slow, dropped %llu lines", n);
		if (push_line(logger, 0, text, (size_t)size) != 0) {
			skynet_free(text);
		}
	}
}

/* Takes text. */
static void
log_line(uint32_t source, char *text, size_t size) {
	struct skynet_context *logger = grab_logger();
	if (logger != NULL && is_full(logger)) {
		atomic_fetch_add_explicit(&L.dropped, 1, memory_order_relaxed);
		skynet_free(text);
	} else {
		if (logger != NULL) {
			report_dropped(logger);
		}
		if (logger == NULL || push_line(logger, source, text, size) != 0) {
			print_line(source, text, size);
			skynet_free(text);
		}
	}
	if (logger != NULL) {
		skynet_context_release(logger);
	}
}

/* The formatted text in a block of its own and its size; NULL when that fails. */
static char *
format(const char *fmt, va_list ap, size_t *size) {
	char line[LINE_SIZE];
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	char *text = NULL;
	if (n >= 0) {
		*size = (size_t)n;
		text = line_alloc(*size);
		if (*size < sizeof(line)) {
			memcpy(text, line, *size + 1);
		} else {
			vsnprintf(text, *size + 1, fmt, again);
		}
	}
	va_end(again);
	return text;
}

void
skynet_error(struct skynet_context *ctx, const char *fmt, ...) {
	int saved_errno = errno;
	char *text;
	size_t size;
	va_list ap;
	va_start(ap, fmt);
	if (strcmp(fmt, "%*s") == 0) {
		int length = va_arg(ap, int);
		const char *bytes = va_arg(ap, const char *);
		size = length > 0 ? (size_t)length : 0;
		text = line_alloc(size);
		memcpy(text, size > 0 ? bytes : "", size);
		text[size] = '\0';
	} else {
		text = format(fmt, ap, &size);
	}
	va_end(ap);
	if (text == NULL) {
		perror("vsnprintf error");
	} else {
		log_line(ctx == NULL ? 0 : skynet_context_handle(ctx), text, size);
	}
	errno = saved_errno;
}
