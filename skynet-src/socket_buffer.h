// What a send request carries (net.md 2.4).
#ifndef socket_buffer_h
#define socket_buffer_h

#include <stddef.h>

// A block of the skynet_malloc family. Every send call takes it, also when the
// call fails.
#define SOCKET_BUFFER_MEMORY 0
// An opaque object described by the adapter that was registered with
// socket_server_userobject. Taken in every outcome.
#define SOCKET_BUFFER_OBJECT 1
// Lent memory: whatever cannot be written at once is copied before the call
// returns.
#define SOCKET_BUFFER_RAWPOINTER 2

struct socket_sendbuffer {
	int id;
	int type;
	const void *buffer;
	size_t sz; // ignored for SOCKET_BUFFER_OBJECT
};

#endif
