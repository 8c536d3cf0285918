// Splits byte streams of many connections into packages: each has a two-byte length,
// most significant byte first, that does not count itself (net.md 6.1).
//
// Owns what it has of unfinished packages, a block for each connection that stopped
// in the middle of one; whole packages are handed out. Memory of an unfinished
// package grows with the bytes that came, not with the length that was announced.
// Pure: no input can make it fail. One thread at a time.
#ifndef netpack_frame_h
#define netpack_frame_h

#include <stdbool.h>
#include <stddef.h>

#define FRAME_HEADER 2
#define FRAME_MAX 0xffff

struct frame_table;

// Receives one package: `data` is a skynet_malloc block, given.
typedef void (*frame_sink)(void *ud, int id, char *data, size_t size);

// A table without connections; the second frees it with what has come of packages.
struct frame_table *frame_table_new(void);
void frame_table_free(struct frame_table *t);
// Packages longer than `max` bytes are refused from now on.
void frame_limit(struct frame_table *t, size_t max);
// Takes in the next n bytes of connection `id`; every package that they complete
// goes to the sink, in order. Returns 0, or once the length of a package that is
// refused: nothing more of the connection is taken in until it is dropped.
size_t frame_feed(struct frame_table *t, int id, const char *bytes, size_t n, frame_sink sink,
                  void *ud);
// Forgets what is unfinished of connection `id`. True if that was the beginning of a
// package that was not refused.
bool frame_drop(struct frame_table *t, int id);
// Forgets everything.
void frame_clear(struct frame_table *t);
// Number of connections with an unfinished package, and the bytes held for them.
size_t frame_unfinished(const struct frame_table *t, size_t *bytes);

#endif
