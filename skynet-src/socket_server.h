// The socket server: TCP, UDP and attached descriptors of the whole process
// behind integer ids (net.md section 1). It knows nothing of services: an owner
// is an opaque number, and events go to one sink function. Ids are spread over one
// or more event loops; an id stays with its loop.
//
// Owns the table of sockets, their descriptors and queued output, the pollers
// and the resolver threads. Requests may come from any thread; they never wait
// for the network or for a polling thread. One thread at a time polls a loop.
//
// DESIGN. Everything that changes what a socket *is* (accept, read, connect, close,
// poller registration) is done by the thread that polls, on requests that
// arrive through an in-memory queue with one wake-up. Only writing is shared: a
// sender whose socket has nothing queued writes from its own thread; otherwise
// it appends to the socket's queue under the socket's lock. No system call is
// made with that lock held: a flag (`writer_active`) makes one thread at a time
// the writer, and pins the descriptor until it is done.
#ifndef socket_server_h
#define socket_server_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "socket_buffer.h"
#include "socket_info.h"
#include "socket_option.h"

// Events.
#define SOCKET_DATA 0
#define SOCKET_CLOSE 1
#define SOCKET_OPEN 2
#define SOCKET_ACCEPT 3
#define SOCKET_ERR 4
#define SOCKET_UDP 6
#define SOCKET_WARNING 7
#define SOCKET_SEND 8

// Results of socket_server_poll that are not a number of events.
#define SOCKET_POLL_BUSY -1 // another thread polls
#define SOCKET_POLL_EXIT -2 // exit was requested

// Longest form of an address blob, with its type byte (net.md 1.18).
#define UDP_ADDRESS_SIZE 19

struct socket_server;

struct socket_message {
	int id;
	uintptr_t opaque; // owner
	int ud;           // see net.md 1.7
	// DATA, UDP, SEND: a skynet_malloc block, given to the sink. OPEN, ACCEPT, ERR: a
	// NUL-terminated text, lent during the call. Else NULL.
	char *data;
};

// Receives the events, on a thread that polls (SEND: any thread): those of one id one
// after the other, those of ids of different loops possibly at once. Allocations there
// are charged to nobody, and what the owner receives to the owner. It may call any
// request function below, but not poll.
typedef void (*socket_sink)(void *ud, int type, struct socket_message *msg);

// Adapter for SOCKET_BUFFER_OBJECT.
struct socket_object_interface {
	const void *(*buffer)(const void *object);
	size_t (*size)(const void *object);
	void (*free)(void *object);
};

// `clock` returns centiseconds, may be called by any thread, and stamps rtime and
// wtime. `loops` is at least 1. Returns NULL when the system refuses (errno tells).
struct socket_server *socket_server_create(int loops, uint64_t (*clock)(void), socket_sink sink,
                                           void *ud);
// The same over a given poller; poller_native is the usual one.
struct poller_ops;
struct socket_server *socket_server_create_with(const struct poller_ops *ops, int loops,
                                                uint64_t (*clock)(void), socket_sink sink,
                                                void *ud);
// No other thread uses the server any more. Delivers nothing.
void socket_server_release(struct socket_server *);

// Polling loop `at` (from 0) in steps, for a thread that has to do something in between.
// hold takes the turn: false = another thread has it (waits for it unless `try_only`). wait
// returns when something is ready or was requested, the time is up (-1 = no
// limit), or wake was called. serve handles what is there and hands the events to
// the sink; it returns their number, or SOCKET_POLL_EXIT.
bool socket_server_hold(struct socket_server *, int at, bool try_only);
void socket_server_wait(struct socket_server *, int at, int timeout_ms);
int socket_server_serve(struct socket_server *, int at);
void socket_server_unhold(struct socket_server *, int at);
// False: there is no socket to watch, no time limit and no request, so that a
// look without waiting is not worth its price. Any thread; may be outdated.
bool socket_server_is_busy(struct socket_server *, int at);

// One round, all of that: waits timeout_ms at most (-1 = no limit) for something to do, then
// handles what is there and hands the events to the sink. If another thread is
// polling it waits for its turn, or returns SOCKET_POLL_BUSY if `try_only`.
// Returns the number of events, which may be 0.
int socket_server_poll(struct socket_server *, int at, int timeout_ms, bool try_only);
// Makes the thread that waits in poll return.
void socket_server_wake(struct socket_server *, int at);
// Makes poll return SOCKET_POLL_EXIT from now on.
void socket_server_exit(struct socket_server *);

// See skynet_socket_close, skynet_socket_shutdown and skynet_socket_start; opaque: who
// asks.
void socket_server_close(struct socket_server *, uintptr_t opaque, int id);
void socket_server_shutdown(struct socket_server *, uintptr_t opaque, int id);
void socket_server_start(struct socket_server *, uintptr_t opaque, int id);
// Starts a listener, and each connection that it accepts: these belong to its owner, send
// no OPEN, and are read at once.
void socket_server_accept(struct socket_server *, uintptr_t opaque, int id);
void socket_server_pause(struct socket_server *, uintptr_t opaque, int id);
void socket_server_nodelay(struct socket_server *, int id);
// Sets options of an id. 0, or -1: unknown id, or bad option (logged). Limits hold at once,
// the rest before any later request of the same thread.
int socket_server_option(struct socket_server *, uintptr_t opaque, int id,
                         const struct socket_option *options, int n);
// The owner has got the event of `n` bytes (ud of DATA and UDP), or never will.
void socket_server_delivered(struct socket_server *, int id, size_t n);
// Closes, gracefully and without events, all that `opaque` owns.
void socket_server_owner_exit(struct socket_server *, uintptr_t opaque);

// 0, or -1 if the bytes were refused.
int socket_server_send(struct socket_server *, struct socket_sendbuffer *buffer);
// Queues without sending: the caller calls flush for the id soon.
int socket_server_send_later(struct socket_server *, struct socket_sendbuffer *buffer);
// Sends what is queued, from the calling thread as far as the kernel takes it.
void socket_server_flush(struct socket_server *, int id);
int socket_server_send_lowpriority(struct socket_server *, struct socket_sendbuffer *buffer);
// For an owner that encrypts: from now on what anybody sends to `id` goes to its owner,
// as a SEND event (ud: the number of bytes) in place of the wire, and only send_raw
// writes. Such an event comes on the sender's thread, in the order of its sends. 0, or
// -1 for an unknown id.
int socket_server_relay(struct socket_server *, int id, bool on);
int socket_server_send_raw(struct socket_server *, struct socket_sendbuffer *buffer);

// Each returns an id, or -1.
int socket_server_listen(struct socket_server *, uintptr_t opaque, const char *addr, int port,
                         int backlog);
int socket_server_connect(struct socket_server *, uintptr_t opaque, const char *addr, int port);
// The same with options, in place of the defaults.
int socket_server_listen_with(struct socket_server *, uintptr_t opaque, const char *addr, int port,
                              const struct socket_option *options, int n);
int socket_server_connect_with(struct socket_server *, uintptr_t opaque, const char *addr, int port,
                               const struct socket_option *options, int n);
int socket_server_bind(struct socket_server *, uintptr_t opaque, int fd);
int socket_server_udp(struct socket_server *, uintptr_t opaque, const char *addr, int port);
int socket_server_udp_dial(struct socket_server *, uintptr_t opaque, const char *addr, int port);
int socket_server_udp_listen(struct socket_server *, uintptr_t opaque, const char *addr, int port);

struct socket_udp_address;

// 0 or -1 with errno.
int socket_server_udp_connect(struct socket_server *, int id, const char *addr, int port);
int socket_server_udp_send(struct socket_server *, const struct socket_udp_address *,
                           struct socket_sendbuffer *buffer);
// The blob behind the payload of a SOCKET_UDP event.
const struct socket_udp_address *socket_server_udp_address(struct socket_server *,
                                                           struct socket_message *msg, int *addrsz);

// How buffers of type OBJECT are read. Before any is sent. Copies.
void socket_server_userobject(struct socket_server *, struct socket_object_interface *);
// A list of all sockets, given: socket_info_release.
struct socket_info *socket_server_info(struct socket_server *);
// See skynet_socket_peer.
bool socket_server_peer(struct socket_server *, int id, char *text, size_t size);
// Asks for the addresses of a name; OPEN with their texts, each followed by a space, or ERR
// comes to the owner, and the id is gone. Returns the id, or -1.
int socket_server_lookup(struct socket_server *, uintptr_t opaque, const char *host);
// Whether a host is an address, so that nothing has to be asked for.
bool socket_server_is_numeric(const char *host);
// See skynet_socket_resolve.
char *socket_server_resolve(struct socket_server *, const char *host, const char **error);

// A default for all sockets made later; without any there are no limits, and keep-alive
// is the system's. A preset is a number that nobody asked for: limits per peer then
// leave out those on this machine. Before other threads use the server. False: bad value.
bool socket_server_default(struct socket_server *, const struct socket_option *o, bool is_preset);
// Highest number of ids in use at a time.
void socket_server_set_limit(struct socket_server *, int max_sockets);

#endif
