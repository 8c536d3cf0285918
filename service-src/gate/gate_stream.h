/*
 * The bytes of one connection cut into packages: a length of two or four bytes,
 * most significant first, that does not count itself, then the payload.
 *
 * Owns the package that is unfinished. Its memory grows with the bytes that
 * came, not with the length that was announced. Used by one service only.
 */
#ifndef GATE_STREAM_H
#define GATE_STREAM_H

#include <stddef.h>
#include <stdint.h>

/* Lengths are below that, whatever a gate allows. */
#define GATE_PACKAGE_LIMIT 0x1000000u

/* How a gate's streams are cut. */
struct gate_format {
	size_t header_size; /* 2 or 4 */
	size_t limit;       /* a package is refused when its length is read and not below */
};

/* Zeroed is empty. */
struct gate_stream {
	uint8_t header[4];
	size_t header_n;
	char *package; /* skynet_malloc block */
	size_t size;
	size_t filled;
	size_t capacity;
};

/* Receives one package, not empty: `package` is a skynet_malloc block, given. */
typedef void (*gate_sink)(void *ud, char *package, size_t size);

/*
 * Take in n bytes; every package that they complete goes to the sink, in order.
 * Empty packages are skipped. Returns 0, or -1 when a length is not below the
 * limit: the connection is of no more use.
 */
int gate_stream_feed(struct gate_stream *s, const struct gate_format *f, const char *bytes,
                     size_t n, gate_sink sink, void *ud);

/* Forget what is unfinished. */
void gate_stream_clear(struct gate_stream *s);

#endif
