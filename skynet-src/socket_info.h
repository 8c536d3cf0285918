// Snapshot records of the socket table (net.md 1.21). A snapshot is a linked
// list of private copies: nothing in it is shared with the socket server.
#ifndef socket_info_h
#define socket_info_h

#include <stdint.h>

#define SOCKET_INFO_UNKNOWN 0
#define SOCKET_INFO_LISTEN 1
#define SOCKET_INFO_TCP 2
#define SOCKET_INFO_UDP 3
#define SOCKET_INFO_BIND 4
#define SOCKET_INFO_CLOSING 5

struct socket_info {
	int id;
	int type;        // SOCKET_INFO_*
	uint64_t opaque; // owner handle
	uint64_t read;   // bytes; of a listener: accepted connections
	uint64_t write;  // bytes
	uint64_t rtime;  // cs of the last read or accept, 0 = never
	uint64_t wtime;  // cs of the last write, 0 = never
	int64_t wbuffer; // bytes accepted and not yet written
	uint8_t reading; // 1 if polled for reading
	uint8_t writing; // 1 if polled for writing
	char name[128];  // `ip:port`, see net.md 1.21; empty if unknown
	char local[128]; // UDP: the bound `ip:port`, else empty
	struct socket_info *next;
};

// A zeroed node linked before `last` (which may be NULL). Gives the node:
// free the list with socket_info_release. Any thread.
struct socket_info *socket_info_create(struct socket_info *last);
// Takes a whole list. NULL is allowed. Any thread.
void socket_info_release(struct socket_info *list);

#endif
