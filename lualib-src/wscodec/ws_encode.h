// Writes WebSocket frames (RFC 6455 5.2): always the shortest length form, always one
// frame a message. Pure, apart from the random masking key; any thread.
#ifndef ws_encode_h
#define ws_encode_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ws_decode.h"

#define WS_FIN 0x80
#define WS_COMPRESSED 0x40

// Bytes of the header of a frame with n bytes of payload.
size_t ws_header_size(size_t n, bool is_masked);
// Writes the frame to `to`, which has room for ws_header_size(...) + n bytes: `start` is
// the first byte (WS_FIN | opcode and bits), `key` the masking key, NULL = unmasked.
void ws_write_frame(char *to, uint8_t start, const uint8_t *key, const char *payload, size_t n);
// A masking key that nobody can predict (RFC 6455 10.3).
void ws_random_key(uint8_t key[4]);

#endif
