/*
 * Message logs. The module owns the open streams; a stream hangs in its
 * service's slot and is used only under one of a few mutexes, picked by the
 * slot's address: services that are logged are few, and each writes a file.
 * Lock order: a log mutex is held while a line is queued to the log service.
 */
#include "skynet_log.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "skynet.h"
#include "skynet_env.h"
#include "skynet_socket.h"
#include "skynet_timer.h"

#define LOCKS 16
/* Bytes converted to hex at a time. */
#define HEX_CHUNK 2048

static pthread_mutex_t locks[LOCKS] = {
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER,
};

static pthread_mutex_t *
lock_of(struct skynet_log_slot *slot) {
	/* Contexts are heap blocks of some hundred bytes: drop the bits that never vary. */
	return &locks[((uintptr_t)slot >> 6) % LOCKS];
}

/*------------------------------------------------------------------ streams */

FILE *
skynet_log_open(struct skynet_context *ctx, uint32_t handle) {
	const char *dir = skynet_getenv("logpath");
	if (dir == NULL) {
		return NULL;
	}
	size_t size = strlen(dir) + sizeof("/00000000.log");
	char *name = skynet_malloc(size);
	snprintf(name, size, "%s/%08x.log", dir, handle);
	FILE *f = fopen(name, "abe");
	if (f == NULL) {
		skynet_error(ctx, "Open log file %s fail", name);
	} else {
		uint64_t now = skynet_now();
		time_t seconds = (time_t)(skynet_starttime() + now / 100);
		char date[64]; /* ctime_r asks for 26 */
		skynet_error(ctx, "Open log file %s", name);
		fprintf(f, "open time: %u %s", (unsigned)now, ctime_r(&seconds, date));
		fflush(f);
	}
	skynet_free(name);
	return f;
}

void
skynet_log_close(struct skynet_context *ctx, FILE *f, uint32_t handle) {
	skynet_error(ctx, "Close log file :%08x", handle);
	fprintf(f, "close time: %u\n", (unsigned)skynet_now());
	fclose(f);
}

static void
write_hex(FILE *f, const void *data, size_t sz) {
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = data;
	char text[HEX_CHUNK * 2];
	while (sz > 0) {
		size_t n = sz < HEX_CHUNK ? sz : HEX_CHUNK;
		for (size_t i = 0; i < n; i++) {
			text[2 * i] = digits[p[i] >> 4];
			text[2 * i + 1] = digits[p[i] & 15];
		}
		fwrite(text, 2, n, f);
		p += n;
		sz -= n;
	}
}

static void
write_socket(FILE *f, const struct skynet_socket_message *message, size_t sz) {
	fprintf(f, "[socket] %d %d %d ", message->type, message->id, message->ud);
	if (message->buffer != NULL) {
		write_hex(f, message->buffer, message->ud > 0 ? (size_t)message->ud : 0);
	} else {
		/* The text that follows the record need not be terminated. */
		const char *text = (const char *)(message + 1);
		size_t length = strnlen(text, sz - sizeof(*message));
		fputc('[', f);
		fwrite(text, 1, length, f);
		fputc(']', f);
	}
}

bool
skynet_log_output(FILE *f, uint32_t source, int type, int session, void *buffer, size_t sz) {
	clearerr(f);
	if (type == PTYPE_SOCKET && buffer != NULL && sz >= sizeof(struct skynet_socket_message)) {
		write_socket(f, buffer, sz);
	} else {
		fprintf(f, ":%08x %d %d %u ", source, type, session, (unsigned)skynet_now());
		if (buffer != NULL) {
			write_hex(f, buffer, sz);
		} else if (sz > 0) {
			fprintf(f, "[no data, size %zu]", sz);
		}
	}
	fputc('\n', f);
	fflush(f);
	return !ferror(f);
}

/*-------------------------------------------------------------------- slots */

int
skynet_log_on(struct skynet_log_slot *slot, struct skynet_context *ctx, uint32_t handle) {
	pthread_mutex_t *lock = lock_of(slot);
	int result = 0;
	pthread_mutex_lock(lock);
	/* Relaxed here and below: the lock orders every change and use of the stream. */
	if (atomic_load_explicit(&slot->file, memory_order_relaxed) == NULL) {
		FILE *f = skynet_log_open(ctx, handle);
		atomic_store_explicit(&slot->file, f, memory_order_relaxed);
		result = f == NULL ? -1 : 1;
	}
	pthread_mutex_unlock(lock);
	return result;
}

/* Take the stream out of the slot; the lock must be held. */
static FILE *
take_stream(struct skynet_log_slot *slot) {
	return atomic_exchange_explicit(&slot->file, NULL, memory_order_relaxed);
}

int
skynet_log_off(struct skynet_log_slot *slot, struct skynet_context *ctx, uint32_t handle) {
	pthread_mutex_t *lock = lock_of(slot);
	pthread_mutex_lock(lock);
	FILE *f = take_stream(slot);
	pthread_mutex_unlock(lock);
	if (f == NULL) {
		return 0;
	}
	skynet_log_close(ctx, f, handle);
	return 1;
}

bool
skynet_log_message(struct skynet_log_slot *slot, uint32_t source, int type, int session,
                   const void *buffer, size_t sz) {
	pthread_mutex_t *lock = lock_of(slot);
	pthread_mutex_lock(lock);
	FILE *f = atomic_load_explicit(&slot->file, memory_order_relaxed);
	/* What the record before has left in the stream. */
	bool was_failing = f != NULL && ferror(f);
	bool is_written =
	    f == NULL || skynet_log_output(f, source, type, session, (void *)(uintptr_t)buffer, sz);
	int err = errno;
	pthread_mutex_unlock(lock);
	errno = err;
	return is_written || was_failing;
}

void
skynet_log_release(struct skynet_log_slot *slot) {
	pthread_mutex_t *lock = lock_of(slot);
	pthread_mutex_lock(lock);
	FILE *f = take_stream(slot);
	pthread_mutex_unlock(lock);
	if (f != NULL) {
		fclose(f);
	}
}
