/*
 * The stock log service: writes every text message as one record to a file or
 * to standard output, and reopens the file when told to (SIGHUP).
 *
 * It owns its stream (not stdout). Records are flushed together: after the
 * last message of a batch, and after BATCH of them in a long one. So nothing
 * stays unwritten when the service goes idle.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "skynet.h"
#include "skynet_server.h"
#include "skynet_timer.h"

/* Records between two flushes at most: what a crash of the process may lose. */
#define BATCH 64
/* "DD/MM/YY HH:MM:SS.CC [:%08x] " with room to spare. */
#define PREFIX_SIZE 64
/* Centiseconds between attempts to reopen a file that could not be reopened. */
#define RETRY_INTERVAL 100

struct logger {
	struct skynet_context *ctx;
	FILE *file;          /* stdout when there is no filename */
	char *filename;      /* NULL = stdout */
	int unflushed;       /* records written since the last flush */
	int lost;            /* records that the last flushes failed to write */
	int lost_errno;      /* why */
	bool reopen_pending; /* a reopen failed; try again after retry_at */
	uint64_t retry_at;
	time_t second; /* whose text is in `date` */
	char date[24];
};

struct logger *logger_create(void);
void logger_release(struct logger *l);
int logger_init(struct logger *l, struct skynet_context *ctx, const char *param);

struct logger *
logger_create(void) {
	return skynet_calloc(1, sizeof(struct logger));
}

/* What the stream could not write it has thrown away. */
static void
flush(struct logger *l) {
	if (fflush(l->file) == 0 && !ferror(l->file)) {
		l->lost = 0;
	} else {
		l->lost_errno = errno;
		if (l->lost == 0) {
			fprintf(stderr, "logger: can't write %s: %s\n",
			        l->filename == NULL ? "standard output" : l->filename, strerror(errno));
		}
		l->lost += l->unflushed;
	}
	l->unflushed = 0;
	clearerr(l->file);
}

void
logger_release(struct logger *l) {
	if (l->file != NULL) {
		flush(l);
		if (l->filename != NULL) {
			fclose(l->file);
		}
	}
	skynet_free(l->filename);
	skynet_free(l);
}

/* Write the date and time of `now`, centiseconds on the node's clock; its length. */
static int
print_time(struct logger *l, char *text, uint64_t now) {
	time_t second = (time_t)(skynet_starttime() + now / 100);
	if (second != l->second || l->date[0] == '\0') {
		struct tm tm;
		localtime_r(&second, &tm);
		strftime(l->date, sizeof(l->date), "%d/%m/%y %H:%M:%S", &tm);
		l->second = second;
	}
	return snprintf(text, PREFIX_SIZE, "%s.%02u ", l->date, (unsigned)(now % 100));
}

static void
write_record(struct logger *l, uint32_t source, uint64_t now, const void *text, size_t sz) {
	char prefix[PREFIX_SIZE];
	int length = l->filename == NULL ? 0 : print_time(l, prefix, now);
	length += snprintf(prefix + length, sizeof(prefix) - (size_t)length, "[:%08x] ", source);
	/* One piece, also when others print to stdout. */
	flockfile(l->file);
	fwrite(prefix, 1, (size_t)length, l->file);
	if (text != NULL) {
		fwrite(text, 1, sz, l->file);
	}
	putc('\n', l->file);
	funlockfile(l->file);
	l->unflushed++;
}

/* Where records are missing. The last one that is there may lack its end. */
static void
write_gap(struct logger *l, uint64_t now) {
	char text[160];
	int n = snprintf(text, sizeof(text), "error: %d lines are missing here: %s", l->lost,
	                 strerror(l->lost_errno));
	putc('\n', l->file);
	write_record(l, skynet_context_handle(l->ctx), now, text, (size_t)n);
	l->unflushed--;
}

static void
reopen(struct logger *l) {
	if (l->filename == NULL) {
		return;
	}
	FILE *file = fopen(l->filename, "ae");
	if (file != NULL) {
		flush(l);
		fclose(l->file);
		l->file = file;
		l->reopen_pending = false;
		return;
	}
	int reason = errno;
	uint64_t now = skynet_now();
	if (!l->reopen_pending) {
		char text[256];
		int n = snprintf(text, sizeof(text), "error: Can't reopen log file (%s), keep the old one",
		                 strerror(reason));
		write_record(l, skynet_context_handle(l->ctx), now, text, (size_t)n);
	}
	l->reopen_pending = true;
	l->retry_at = now + RETRY_INTERVAL;
}

static int
logger_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
          const void *msg, size_t sz) {
	struct logger *l = ud;
	(void)session;
	if (type == PTYPE_SYSTEM) {
		reopen(l);
	} else if (type == PTYPE_TEXT) {
		uint64_t now = skynet_now();
		if (l->reopen_pending && now >= l->retry_at) {
			reopen(l);
		}
		if (l->lost > 0 && l->unflushed == 0) {
			write_gap(l, now);
		}
		write_record(l, source, skynet_context_message_time(ctx), msg, sz);
	}
	if (l->unflushed > 0 &&
	    (l->unflushed >= BATCH || atoi(skynet_command(ctx, "STAT", "mqlen")) == 0)) {
		flush(l);
	}
	return 0;
}

int
logger_init(struct logger *l, struct skynet_context *ctx, const char *param) {
	l->ctx = ctx;
	l->file = stdout;
	if (param != NULL) {
		l->file = fopen(param, "ae");
		if (l->file == NULL) {
			fprintf(stderr, "logger: can't open %s: %s\n", param, strerror(errno));
			return 1;
		}
		l->filename = strdup(param);
	}
	skynet_callback(ctx, l, logger_cb);
	return 0;
}
