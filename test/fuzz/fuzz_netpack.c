/*
 * Fuzzer of the splitter of packages and of the limits beside it: however a stream is cut
 * into reads, the same packages come out as when it is looked at as a whole, and none
 * is longer than the limit. The input is a list of reads: connection, length, bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "netpack_frame.h"
#include "netpack_guard.h"
#include "skynet_malloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONNECTIONS 4
#define LIMIT 200

/* All that a connection has sent, and how much of it came out as packages. */
struct stream {
	uint8_t bytes[1 << 16];
	size_t n;
	size_t at;
	int is_refused;
};

static struct stream streams[CONNECTIONS];
static uint64_t now;

static uint64_t
clock_of_test(void) {
	return now++;
}

static size_t
size_at(const struct stream *s) {
	return (size_t)s->bytes[s->at] << 8 | s->bytes[s->at + 1];
}

static void
sink(void *ud, int id, char *package, size_t size) {
	struct stream *s = &streams[id];
	size_t *packages = ud;
	if (s->is_refused || s->at + FRAME_HEADER + size > s->n || size_at(s) != size || size > LIMIT ||
	    memcmp(s->bytes + s->at + FRAME_HEADER, package, size) != 0) {
		abort();
	}
	s->at += FRAME_HEADER + size;
	skynet_free(package);
	(*packages)++;
}

/* Nothing that is complete may have been left. */
static void
check_rest(const struct stream *s, size_t refused) {
	size_t rest = s->n - s->at;
	if (refused > 0 && (rest < FRAME_HEADER || size_at(s) != refused || refused <= LIMIT)) {
		abort();
	}
	if (!s->is_refused && rest >= FRAME_HEADER &&
	    (size_at(s) > LIMIT || rest - FRAME_HEADER >= size_at(s))) {
		abort();
	}
}

static void
read_bytes(struct frame_table *t, struct guard *g, int id, const uint8_t *bytes, size_t n) {
	struct stream *s = &streams[id];
	enum guard_reason why;
	size_t packages = 0;
	if (s->n + n > sizeof(s->bytes)) {
		return;
	}
	if (n > 0) {
		memcpy(s->bytes + s->n, bytes, n);
	}
	s->n += n;
	size_t refused = frame_feed(t, id, (const char *)bytes, n, sink, &packages);
	s->is_refused |= refused > 0;
	check_rest(s, refused);
	if (guard_count(g, id, packages, n, &why) < 0) {
		abort();
	}
}

static void
end(struct frame_table *t, struct guard *g, int id, const uint8_t *address, size_t n) {
	frame_drop(t, id);
	guard_leave(g, id);
	memset(&streams[id], 0, sizeof(streams[id]));
	guard_enter(g, id, (const char *)address, n);
}

static bool
on_expired(void *ud, int id, bool has_spoken) {
	(void)ud;
	(void)has_spoken;
	if (id < 0 || id >= CONNECTIONS) {
		abort();
	}
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static const struct guard_limits limits = {{5, 10, 100, 200}, {7, 20, 300, 100}};
	struct frame_table *t = frame_table_new();
	struct guard *g = guard_new(clock_of_test);
	guard_set(g, &limits, &limits, 10, 20);
	frame_limit(t, LIMIT);
	memset(streams, 0, sizeof(streams));
	while (size >= 2) {
		int id = data[0] % CONNECTIONS;
		size_t n = data[1] > size - 2 ? size - 2 : data[1];
		if ((data[0] & 0x80) != 0) {
			end(t, g, id, data + 2, n);
		} else {
			read_bytes(t, g, id, data + 2, n);
		}
		guard_sweep(g, on_expired, NULL);
		data += 2 + n;
		size -= 2 + n;
	}
	frame_table_free(t);
	guard_free(g);
	return 0;
}
