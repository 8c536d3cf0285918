// The socket layer as services see it: requests carry the calling service as
// owner, events come back as messages of type PTYPE_SOCKET, source 0, session
// 0, whose payload is a struct skynet_socket_message (net.md 1.7).
//
// Owns the one socket server of the process. Every function below the life
// cycle part may be called from any thread between skynet_socket_init and
// skynet_socket_free; outside of that time requests fail and do nothing.
// Nothing here waits for the network; the functions that resolve names say so.
#ifndef skynet_socket_h
#define skynet_socket_h

#include <stdbool.h>
#include <stdint.h>

#include "socket_buffer.h"
#include "socket_info.h"
#include "socket_option.h"

struct skynet_context;

// Upper bound of the key `socket_thread`.
#define SKYNET_SOCKET_LOOPS_MAX 64

#define SKYNET_SOCKET_TYPE_DATA 1
#define SKYNET_SOCKET_TYPE_CONNECT 2
#define SKYNET_SOCKET_TYPE_CLOSE 3
#define SKYNET_SOCKET_TYPE_ACCEPT 4
#define SKYNET_SOCKET_TYPE_ERROR 5
#define SKYNET_SOCKET_TYPE_UDP 6
#define SKYNET_SOCKET_TYPE_WARNING 7
// Only for owners that asked for it with skynet_socket_relay.
#define SKYNET_SOCKET_TYPE_SEND 8

// DATA, UDP and SEND: `buffer` is a skynet_malloc block that belongs to the receiver,
// who frees it. CONNECT, ACCEPT and ERROR: `buffer` is NULL and text follows the
// struct without a terminator; its length is message size minus struct size.
struct skynet_socket_message {
	int type;
	int id;
	int ud;
	char *buffer;
};

//---------------------------------------------------------------- life cycle

// Creates the server. Exits the process with a clear line when the system
// refuses. Once, before any service exists.
void skynet_socket_init(void);
// Asks the poll loop to end: skynet_socket_poll returns 0 from then on. Any
// thread.
void skynet_socket_exit(void);
// Destroys the server: closes every descriptor, frees every buffer, delivers
// nothing. After the polling threads ended.
void skynet_socket_free(void);
// Event loops: the key socket_thread, 1 if there is none. Sockets are spread over them.
// Known before init.
int skynet_socket_loops(void);
// Waits for the network and forwards one round of events of a loop (from 0) to their
// owners. Returns 0 = exit was requested, -1 = nothing was forwarded or more work is
// at hand: call again, 1 = events were forwarded after a wait. Any one thread
// at a time does the work of a loop; a second caller waits for its turn.
int skynet_socket_poll_loop(int loop);
// The same with loop 0, all there is by default.
int skynet_socket_poll(void);
// The same for a thread that has something else to do: handles what is ready
// and waits for it `timeout_ms` at most (0 = not at all, -1 = no limit).
// Returns the number of forwarded events, or -1 if another thread polls now or
// exit was requested.
int skynet_socket_trypoll(int loop, int timeout_ms);
// The same in steps, see skynet_poll.c: take the duty of polling (false: another
// thread has it), wait without limit, hand out what is ready (the number of
// events, or -1 when exit was requested), give the duty back.
bool skynet_socket_hold(int loop);
void skynet_socket_wait(int loop);
int skynet_socket_serve(int loop);
void skynet_socket_unhold(int loop);
// Makes the thread that waits return early. Any thread.
void skynet_socket_wakeup(int loop);
// Sends of callbacks are gathered and written a little later, see skynet_outbox.h: write
// now what this thread has gathered; and what threads hold that are busy for long.
void skynet_socket_flush(void);
void skynet_socket_rescue(void);
// Time stamps are read from the clock when they are needed; kept because
// kernels with a ticking clock call it.
void skynet_socket_updatetime(void);
// The service is gone: closes every socket it owns, gracefully. Costs next to
// nothing for a service without sockets. Called when a handle is retired.
void skynet_socket_owner_exit(uint32_t handle);
// Frees what the payload of a PTYPE_SOCKET message refers to, not the payload
// itself. For messages that no service will ever receive.
void skynet_socket_dispose(void *msg, size_t sz);

// Bytes that such a payload refers to: received, not yet delivered.
size_t skynet_socket_inside(const void *msg, size_t sz);

//------------------------------------------------------------------- streams

// Binds and listens. NULL or "" is 0.0.0.0; port 0 lets the kernel choose. CONNECT
// then tells the real port and address; accepting begins with start. A host
// name is resolved off the calling thread, which waits for it a bounded time.
// Returns the id, or -1 with errno.
int skynet_socket_listen(struct skynet_context *ctx, const char *host, int port, int backlog);
// Begins to connect; CONNECT or ERROR follows. Names are resolved elsewhere.
// Returns the id, or -1 (host text too long, port out of range, no free id).
int skynet_socket_connect(struct skynet_context *ctx, const char *host, int port);
// The same with options of socket_option.h in place of the node's defaults: what it
// says of the backlog, who may connect, and the options of accepted connections; or
// those of the new connection. A bad option is logged, and the call returns -1.
int skynet_socket_listen_with(struct skynet_context *ctx, const char *host, int port,
                              const struct socket_option *options, int n);
int skynet_socket_connect_with(struct skynet_context *ctx, const char *host, int port,
                               const struct socket_option *options, int n);
// Changes options of an id, of any service. Limits hold at once; those of a listener
// and what it hands on, for connections that it accepts from then on. Returns 0, or -1:
// unknown id, or bad option (logged).
int skynet_socket_option(struct skynet_context *ctx, int id, const struct socket_option *options,
                         int n);
// Attaches an OS descriptor. Closing the id detaches it without closing it.
int skynet_socket_bind(struct skynet_context *ctx, int fd);
// Graceful: what was sent before still goes out. Any service, any id.
void skynet_socket_close(struct skynet_context *ctx, int id);
// Abortive: queued output is dropped.
void skynet_socket_shutdown(struct skynet_context *ctx, int id);
// Begins to read or accept, resumes, or takes the socket over (net.md 1.11).
void skynet_socket_start(struct skynet_context *ctx, int id);
// Starts a listener that starts what it accepts: ACCEPT comes with an id that is read
// already, by the listener's owner and without CONNECT. A start of it transfers it.
void skynet_socket_accept(struct skynet_context *ctx, int id);
void skynet_socket_pause(struct skynet_context *ctx, int id);
// TCP_NODELAY is on from the beginning; this is for those who ask for it.
void skynet_socket_nodelay(struct skynet_context *ctx, int id);
// Both return 0 if the bytes were accepted, -1 if not; see socket_buffer.h for
// who owns them afterwards.
int skynet_socket_sendbuffer(struct skynet_context *ctx, struct socket_sendbuffer *buffer);
int skynet_socket_sendbuffer_lowpriority(struct skynet_context *ctx,
                                         struct socket_sendbuffer *buffer);
// For an owner that encrypts (a gate with TLS): what any service sends to `id` from now on
// comes to the owner as SEND messages in place of going out, in the order of each
// sender; only send_raw writes. 0, or -1 for an unknown id.
int skynet_socket_relay(struct skynet_context *ctx, int id, bool on);
int skynet_socket_send_raw(struct skynet_context *ctx, struct socket_sendbuffer *buffer);
// Take `buffer`: a skynet_malloc block, or a user object when sz < 0.
int skynet_socket_send(struct skynet_context *ctx, int id, void *buffer, int sz);
int skynet_socket_send_lowpriority(struct skynet_context *ctx, int id, void *buffer, int sz);

//----------------------------------------------------------------------- UDP

// Host NULL and port 0: an unbound IPv4 socket; otherwise bound. Reading begins
// at once. Host names as in listen. Returns the id, or -1.
int skynet_socket_udp(struct skynet_context *ctx, const char *addr, int port);
// Sets the default destination. Returns 0, or -1 (unknown id, no address).
int skynet_socket_udp_connect(struct skynet_context *ctx, int id, const char *addr, int port);
int skynet_socket_udp_dial(struct skynet_context *ctx, const char *addr, int port);
int skynet_socket_udp_listen(struct skynet_context *ctx, const char *addr, int port);
// `address` is an address blob of 7 or 19 bytes (net.md 1.18), which its first
// byte tells.
int skynet_socket_udp_sendbuffer(struct skynet_context *ctx, const char *address,
                                 struct socket_sendbuffer *buffer);
// Lends `buffer` when sz >= 0.
int skynet_socket_udp_send(struct skynet_context *ctx, int id, const char *address,
                           const void *buffer, int sz);
// The sender's address blob within the buffer of a UDP event, NULL for other
// events. `addrsz` becomes 7 or 19.
const char *skynet_socket_udp_address(struct skynet_socket_message *msg, int *addrsz);

//---------------------------------------------------------------------- misc

// Gives a list: free it with socket_info_release.
struct socket_info *skynet_socket_info(void);

// The `ip:port` of a connection's peer, also after that has closed; of a listener its own,
// of UDP the default destination. False and unchanged or empty text for an unknown id, or
// when there is none. 64 bytes hold any. For log lines.
bool skynet_socket_peer(int id, char *text, size_t size);

// Asks for the addresses of a host name. CONNECT follows, with their texts, each
// followed by a space, or ERROR with the reason; either way the id is gone then. Waits for
// nothing. Returns the id, or -1.
int skynet_socket_lookup(struct skynet_context *ctx, const char *host);
// Whether a host text is an address: then no function here has to resolve it.
bool skynet_socket_is_numeric(const char *host);
// Numeric addresses of a host name, each once, separated by NULs and closed by
// an empty one. Gives a skynet_malloc block, or NULL with `error` (a static
// text). Waits a bounded time for the resolver; numeric hosts never wait.
char *skynet_socket_resolve(const char *host, const char **error);

#endif
