// Options of sockets: numbers by name, for one socket, for what a listener accepts, or
// as defaults of the process. The table of them serves C, Lua and the configuration
// alike. Constant data; any thread.
#ifndef socket_option_h
#define socket_option_h

#include <stdbool.h>
#include <stdint.h>

enum socket_option_name {
	// Of every socket; given to a listener, of the connections that it accepts
	// from then on. 0 means no limit unless said otherwise.
	SOCKET_OPTION_SEND_LIMIT,         // bytes accepted for sending and not yet sent
	SOCKET_OPTION_SEND_POLICY,        // what a send beyond that does, SOCKET_SEND_*
	SOCKET_OPTION_RECEIVE_LIMIT,      // bytes received and not yet delivered: reading rests
	SOCKET_OPTION_IDLE,               // ms without a byte received, then it is closed
	SOCKET_OPTION_LINGER,             // ms that a closed one waits for a peer that reads nothing
	SOCKET_OPTION_CONNECT_TIMEOUT,    // ms that connecting may take
	SOCKET_OPTION_NODELAY,            // flag: small packets go out at once
	SOCKET_OPTION_KEEPALIVE,          // ms of silence, then the peer is probed; 0 = never
	SOCKET_OPTION_KEEPALIVE_INTERVAL, // ms between probes, 0 = a quarter of that
	SOCKET_OPTION_KEEPALIVE_COUNT,    // probes without an answer, then it is closed
	SOCKET_OPTION_EXCLUSIVE,          // flag: only its owner closes, pauses or starts it
	// Of listeners only.
	SOCKET_OPTION_MAX_CONNECTIONS, // accepted and not yet closed
	SOCKET_OPTION_MAX_PER_PEER,    // the same of one IPv4 address or IPv6 /64 network
	SOCKET_OPTION_PEER_RATE,       // new connections per second of one such peer
	SOCKET_OPTION_PEER_BURST,      // as many at once after a pause, 0 = one second's worth
	// Only when a listener is made.
	SOCKET_OPTION_BACKLOG,
	SOCKET_OPTION_REUSEPORT, // flag: several listeners may share the port
	SOCKET_OPTION_V6ONLY,    // flag: an IPv6 listener takes no IPv4
	SOCKET_OPTION_COUNT
};

#define SOCKET_SEND_CLOSE 0 // close the socket at once, with ERROR and CLOSE
#define SOCKET_SEND_DROP 1  // refuse what is too much

struct socket_option {
	int name; // SOCKET_OPTION_*
	int64_t value;
};

enum socket_option_kind {
	SOCKET_OPTION_IS_NUMBER,
	SOCKET_OPTION_IS_TIME, // ms here; other units elsewhere
	SOCKET_OPTION_IS_FLAG,
	SOCKET_OPTION_IS_POLICY,
};

enum socket_option_scope {
	SOCKET_OPTION_OF_SOCKET,
	SOCKET_OPTION_OF_LISTENER,
	SOCKET_OPTION_OF_NEW_LISTENER,
};

struct socket_option_info {
	const char *key; // in Lua; in the configuration behind "socket_"
	enum socket_option_kind kind;
	enum socket_option_scope scope;
	int64_t max;    // the least is 0
	int64_t preset; // default of a node; -1 = the system's
};

// NULL for a name that does not exist.
const struct socket_option_info *socket_option_info(int name);
// The name of a key, or -1.
int socket_option_find(const char *key);
// A text for `text`, as the configuration has it (numbers, seconds, true or false,
// "close" or "drop"), into *value. False: it is none, or out of range.
bool socket_option_parse(int name, const char *text, int64_t *value);

#endif
