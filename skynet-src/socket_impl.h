// The inside of the socket server, shared by its files (socket_*.c) and by no
// one else. One file per subject:
//   socket_server.c    the poll loop and the requests it serves
//   socket_request.c   requests as their callers see them
//   socket_close.c     the end of sockets
//   socket_connect.c   connect
//   socket_stream.c    listen, accept, read
//   socket_write.c     queues of unsent bytes, direct writes, backlog warnings
//   socket_udp.c       datagrams
//   socket_option.c    the table of options
//   socket_settings.c  options of a socket, log lines about limits
//   socket_admission.c who may connect
//   socket_throttle.c  rests of reading while the owner lags behind
//   socket_slot.c      ids, the table of sockets, who owns which
//   socket_command.c   the queue of requests
//   socket_deadline.c  time limits
//   socket_address.c   addresses and their texts
//   socket_resolve.c   name resolution
//   socket_info.c      snapshots
//
// THREADS. There are one or more loops, and each id belongs to one of them. "Loop" below
// is the thread that holds loop->turn of the id's loop, that is, polls there. A field
// marked
//   [loop]  is read and written by the loop only,
//   [lock]  is read and written under slot->lock by any thread,
//   [both]  is written by the loop under slot->lock: the loop may read it
//           without, everybody else under the lock.
// Lock order: loop->turn, then one of the leaves slot->lock, table.lock,
// admission's lock, resolver's lock. table.lock may be held while taking slot->lock (for a
// snapshot), never the reverse.
#ifndef socket_impl_h
#define socket_impl_h

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "poller.h"
#include "socket_option.h"
#include "socket_server.h"

struct addrinfo;
struct socket_loop;
struct resolver;

//----------------------------------------------------------------- addresses

union socket_addr {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

// The address blob of net.md 1.18; all zero = no address.
struct socket_udp_address {
	uint8_t byte[UDP_ADDRESS_SIZE];
};

#define ADDRESS_NONE 0
#define ADDRESS_V4 1
#define ADDRESS_V6 2

// "[ffff:...:255.255.255.255]:65535" fits.
#define ADDRESS_TEXT_SIZE 64

// 7 or 19, or 0 if the type byte is neither.
int address_size(const struct socket_udp_address *a);
void address_from_sockaddr(struct socket_udp_address *a, const struct sockaddr *sa);
// Length of the result, 0 for no address.
socklen_t address_to_sockaddr(const struct socket_udp_address *a, union socket_addr *out);
int address_port(const struct socket_udp_address *a);
// Numeric text into ADDRESS_TEXT_SIZE bytes; empty for no address.
void address_ip_text(const struct socket_udp_address *a, char *text);
void address_text(const struct socket_udp_address *a, char *text);
// The address of the socket itself. False with errno: the system does not say.
bool address_of_socket(int fd, struct socket_udp_address *a);

// Several addresses to try in turn, with the port filled in.
struct address_list {
	int n;
	union socket_addr addr[];
};

// Parses a numeric host without asking the resolver. Gives a list, or NULL if
// the text is no numeric address.
struct address_list *address_list_numeric(const char *host, int port, int socktype);
// Takes and frees `ai`. NULL if it is empty.
struct address_list *address_list_from(struct addrinfo *ai, int port);
socklen_t address_len(const union socket_addr *a);
// The numeric texts, each once, each followed by `separator`. Gives a skynet_malloc
// block with a NUL at its end.
char *address_list_texts(const struct address_list *list, char separator);

//------------------------------------------------------------------- options

#define KEEPALIVE_OF_SYSTEM UINT16_MAX

// See socket_option.h; 0 = no limit.
struct socket_settings {
	// What each send looks at.
	uint32_t send_limit;
	bool send_drops;
	bool exclusive;
	bool nodelay;
	uint8_t keepalive_count;
	uint32_t receive_limit;
	uint32_t idle_ms;
	uint32_t linger_ms;
	uint32_t connect_ms;
	uint16_t keepalive_s;
	uint16_t keepalive_interval_s;
};

struct listen_limits {
	uint32_t max_connections;
	uint32_t max_per_peer;
	uint32_t peer_rate;
	uint32_t peer_burst;
	int backlog;
	bool reuseport;
	int8_t v6only; // -1 = as the system has it
	// Nobody asked for them: peers on this machine are not counted.
	bool per_peer_is_preset;
	bool rate_is_preset;
};

// No limits, and what a stream always had.
void settings_init(struct socket_settings *s, struct listen_limits *l);
// False: no such option, or value out of range.
bool settings_set(struct socket_settings *s, struct listen_limits *l, int name, int64_t value,
                  bool is_preset);
// The same for a list; logs what is wrong.
bool settings_set_all(struct socket_settings *s, struct listen_limits *l,
                      const struct socket_option *options, int n);
// Defaults of connections that this node opens.
struct socket_settings settings_of_opened(const struct socket_server *ss);
// What the descriptor of a stream has to know of it.
void settings_tune(int fd, const struct socket_settings *s);

struct admission;
enum admission_result {
	ADMISSION_GRANTED,
	ADMISSION_FULL,
	ADMISSION_PEER_FULL,
	ADMISSION_TOO_FAST,
};
// With one reference, the listener's.
struct admission *admission_new(const struct listen_limits *limits);
void admission_set(struct admission *a, const struct listen_limits *limits);
struct listen_limits admission_limits(struct admission *a);
// GRANTED takes a reference, which leave gives back.
enum admission_result admission_enter(struct admission *a, const struct socket_udp_address *addr,
                                      uint64_t now_ms);
void admission_leave(struct admission *a, const struct socket_udp_address *addr);
// NULL is allowed.
void admission_release(struct admission *a);

// What peers can make the node say at will is said once a second per kind.
enum notice_kind {
	NOTICE_SEND_CLOSE,
	NOTICE_SEND_DROP,
	NOTICE_IDLE,
	NOTICE_LINGER,
	NOTICE_ADMISSION,
	NOTICE_DESCRIPTORS,
	NOTICE_ACCEPT,
	NOTICE_POLLER,
	NOTICE_SLOTS,    // who connects may be one that asks this node to connect
	NOTICE_DATAGRAM, // a peer may have an address that nothing can be sent to
	NOTICE_KINDS
};

struct notice {
	_Atomic uint64_t next_ms;
	atomic_uint hidden;
};

// Logs the line, or counts it. Any thread.
void notice_log(struct socket_server *ss, enum notice_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

//--------------------------------------------------------------------- slots

enum slot_state {
	SLOT_FREE,
	SLOT_RESERVED, // id handed out, request not yet handled
	SLOT_PLISTEN,  // bound, not started
	SLOT_LISTEN,
	SLOT_CONNECTING,
	SLOT_CONNECTED,       // also every UDP socket and attached descriptor
	SLOT_PACCEPT,         // accepted, not started
	SLOT_HALFCLOSE_READ,  // the peer sent its end; CLOSE was told
	SLOT_HALFCLOSE_WRITE, // a write failed; ERROR was told
};

enum slot_kind {
	KIND_STREAM,
	KIND_LISTENER,
	KIND_FOREIGN, // attached: detached at the end, not closed
	KIND_UDP4,
	KIND_UDP6,
	KIND_NAME, // no socket: a name that is being resolved
};

// A block of unsent bytes.
struct write_node {
	struct write_node *next;
	const char *ptr; // not yet written
	size_t sz;
	void *owned;                  // what to free: NULL = the bytes follow the node
	bool is_object;               // `owned` goes back to its adapter
	struct socket_udp_address to; // datagrams only
};

#define POLLED_KNOWN 1
#define POLLED_READ 2
#define POLLED_WRITE 4

struct write_queue {
	struct write_node *head;
	struct write_node *tail;
};

struct owner_entry;

// By cache lines, since with many sockets none of them is in a cache when it is its turn:
// the first is what both threads need, the second what is received, the third what is
// sent. So a message takes two lines of its socket, and its delivery one.
struct socket_slot {
	_Alignas(64) pthread_mutex_t lock;
	// 0 = free. Written under the lock. The loop reads it without (acquire, partner
	// is the release store of slot_reserve): a live id is freed by the loop itself.
	atomic_int id;
	int fd;             // [both]
	uint8_t state;      // [both]
	uint8_t kind;       // before the id is published
	bool reading;       // [both] to be polled for reading, unless throttled
	bool write_polled;  // [both] polled for writing
	uint8_t polled;     // [loop] what the poller was told, POLLED_ bits
	bool closing;       // [lock] close was asked for: accepts no more sends
	bool draining;      // [both] close was served: ends when all is written
	bool close_told;    // [loop] CLOSE was sent, or nobody wants it
	bool relays;        // [lock] sends go to the owner
	bool writer_active; // [lock] some thread is inside a write call
	bool flush_posted;  // [lock] a FLUSH request is under way
	bool left_to_loop;  // [lock] what is queued is written when CLOSE is served
	bool reap;          // [lock] the writer asks the loop to try again to free it
	uint8_t warnings;   // [lock] the next one is due at WARNING_BASE << warnings; 0 = none yet
	// ---- 64
	struct socket_loop *loop;     // before the id is published
	uintptr_t owner;              // [both]
	_Atomic uint64_t undelivered; // see socket_throttle.c
	_Atomic uint64_t read_count;  // statistics: relaxed, they order nothing
	_Atomic uint64_t read_time;
	uint64_t active_ms;             // [loop] when something was read, or reading began
	int deadline_index;             // [loop] place in the heap, -1 = none
	_Atomic uint32_t receive_limit; // that of the settings; relaxed, it orders nothing
	atomic_bool throttled;          // reading rests, see socket_throttle.c
	bool restore_blocking;          // [loop] an attached descriptor was blocking
	bool starts_accepted;           // [loop] a listener: what it accepts is read at once
	uint8_t accept_share;           // [loop] a listener: how many to take at once
	uint8_t accept_failures;        // [loop] a listener: failures since the last success
	// ---- 128
	struct write_queue high;         // [lock]
	struct write_queue low;          // [lock]
	size_t backlog;                  // [lock] bytes in both, or handed to a writer
	uint64_t write_count;            // [lock]
	uint64_t write_time;             // [lock]
	struct socket_settings settings; // [lock] its first fields are in this line
	// ---- 192
	uint64_t linger_mark; // [loop] write_count when the limit was set
	uint64_t deadline_ms; // [loop]
	uint64_t report_ms;   // [loop] a listener's last ERROR about descriptors
	// A listener's own, or that of the listener which accepted it, or NULL. Before
	// the id is published.
	struct admission *admission;
	struct connect_attempt *attempt; // [loop]
	struct socket_udp_address peer;  // [lock] see socket_info; UDP: default target
	// Under the lock of socket_slot.c's tables:
	struct owner_entry *owner_entry;
	struct socket_slot *owner_next;
	struct socket_slot *owner_prev;
	struct socket_slot *free_next;
};

_Static_assert(offsetof(struct socket_slot, loop) == 64 &&
                   offsetof(struct socket_slot, high) == 128 &&
                   offsetof(struct socket_slot, settings.receive_limit) <= 192,
               "see above");

// Takes an id and a slot in state `state`, owned by `opaque`, and locks it: the
// caller fills it in and calls slot_publish; slot_configure is for in between. NULL
// when the limit is reached.
struct socket_slot *slot_reserve(struct socket_server *ss, uintptr_t opaque, int kind, int state);
// Replaces the settings. With the lock.
void slot_configure(struct socket_slot *s, const struct socket_settings *settings);
// Makes the slot findable and unlocks it. Returns its id.
int slot_publish(struct socket_slot *s);
// Finds the slot that has, or just had, that id, or NULL. Any thread.
struct socket_slot *slot_find(struct socket_server *ss, int id);
// Finds the slot and locks it. NULL if the id is not in use. Any thread.
struct socket_slot *slot_lock(struct socket_server *ss, int id);
void slot_unlock(struct socket_slot *s);
// The loop's way: no lock. For ids that are, or were, this loop's; the slot stays valid
// until the loop frees it.
struct socket_slot *slot_of_loop(struct socket_loop *loop, int id);
// Gives the id and the slot back. Loop, without the lock; fd is gone already.
void slot_free(struct socket_server *ss, struct socket_slot *s);
// Makes `opaque` the owner. Loop.
void slot_set_owner(struct socket_server *ss, struct socket_slot *s, uintptr_t opaque);
bool slot_owner_has_any(struct socket_server *ss, uintptr_t opaque);
// Ids of this loop that `opaque` owns. Gives a skynet_malloc array (NULL if it owns none).
int *slot_owner_ids(struct socket_loop *loop, uintptr_t opaque, int *n);
// Calls fn with every slot in use, locked, in ascending order of slots.
void slot_each(struct socket_server *ss, void (*fn)(struct socket_slot *s, void *ud), void *ud);

struct slot_table;
struct slot_chunk;
struct owner_index;

struct slot_store {
	pthread_mutex_t lock;
	_Atomic(struct slot_table *) table; // grown copies are linked, freed at the end
	struct slot_chunk *chunks;
	struct socket_slot *free_list;
	int last_id;
	int live;
	int limit;
	struct owner_index *owners;
};

// A store without slots; and its end, with the slots that are left.
void slot_store_init(struct slot_store *st);
void slot_store_free(struct slot_store *st);

//------------------------------------------------------------------ requests

enum command_op {
	COMMAND_CONNECT,   // list: addresses to try
	COMMAND_RESOLVING, // the resolver is at work
	COMMAND_RESOLVED,  // list, or NULL and text
	COMMAND_LISTEN,
	COMMAND_BIND,
	COMMAND_UDP,
	COMMAND_START,    // value: a listener starts what it accepts, too
	COMMAND_STRANGER, // the start of an id that does not exist, or is another's
	COMMAND_ACCEPTED, // a connection for this loop
	COMMAND_PAUSE,
	COMMAND_CLOSE,
	COMMAND_SHUTDOWN,
	COMMAND_TUNE,       // the settings have changed
	COMMAND_UNTHROTTLE, // the owner has caught up
	COMMAND_OVERFLOW,   // the limit of unsent bytes was hit
	COMMAND_FLUSH,      // unsent bytes wait
	COMMAND_WARNING,    // value: KiB
	COMMAND_ERROR,      // text
	COMMAND_UNWATCHED,  // text: the poller has lost it
	COMMAND_OWNER_EXIT,
	COMMAND_EXIT,
};

struct socket_command {
	struct socket_command *next;
	int op;
	int id;
	uintptr_t opaque;
	int value;
	struct address_list *list; // owned
	const char *text;          // static
};

// Queues a copy of *c and wakes the loop if it sleeps. Takes c->list. Any thread.
void command_post(struct socket_loop *loop, const struct socket_command *c);
// All queued requests, oldest first. Gives: command_free each. Loop.
struct socket_command *command_take(struct socket_loop *loop);
void command_free(struct socket_command *c);
// Announces that the loop is about to wait. False: do not, there are requests.
bool command_prepare_wait(struct socket_loop *loop);
void command_end_wait(struct socket_loop *loop);

//----------------------------------------------------------------- deadlines

// Slots with a time limit, the earliest first. Loop only.
struct deadline_heap {
	struct socket_slot **slot;
	int n;
	int cap;
};

// The clock of all limits: it goes on evenly. Any thread.
uint64_t deadline_now_ms(void);
// Sets the slot's limit `ms` from now, replacing an earlier one.
void deadline_set(struct socket_loop *loop, struct socket_slot *s, uint64_t ms);
void deadline_clear(struct socket_loop *loop, struct socket_slot *s);
// Milliseconds to the earliest limit, at most `timeout_ms`; both -1 = none.
int deadline_timeout(struct socket_loop *loop, int timeout_ms);
// A slot whose limit has passed, taken off the heap, or NULL.
struct socket_slot *deadline_take(struct socket_loop *loop, uint64_t now_ms);

//---------------------------------------------------------------------- loop

// Readiness events per wait.
#define EVENT_BATCH 64
// One read takes at most this much; what is left waits its turn among the other
// ready sockets. 64 KiB is also the largest datagram.
#define READ_SIZE 65536

struct socket_loop {
	struct socket_server *ss;
	const struct poller_ops *ops;
	struct poller *poller;
	pthread_mutex_t turn; // held while polling
	_Atomic(struct socket_command *) inbox;
	atomic_bool waiting; // see socket_command.c
	atomic_bool exiting;
	// Descriptors that the poller watches, and time limits. Relaxed: a hint.
	atomic_int interests;
	int events;  // [loop] handed to the sink in this round
	int ready_n; // [loop] what the last wait found
	struct poller_event ready[EVENT_BATCH];
	char *read_buffer; // [loop] READ_SIZE bytes, made at the first read
	int spare_fd;      // [loop] given up when descriptors run out
	struct deadline_heap deadlines;
	uint64_t now_ms; // [loop] of the last wait
};

struct socket_server {
	uint64_t (*clock)(void);
	socket_sink sink;
	void *sink_ud;
	struct resolver *resolver;
	struct slot_store slots;
	int loops_n;
	struct socket_loop *loops;
	atomic_uint next_loop; // relaxed: it only spreads
	struct socket_object_interface object;
	// Defaults; constant once there are sockets.
	struct socket_settings settings;
	struct listen_limits limits;
	struct notice notice[NOTICE_KINDS];
};

// The loop that serves a new id: each in turn. An id stays with it.
struct socket_loop *loop_for_new(struct socket_server *ss);

// A block for what the owner receives, charged to it. Loop.
char *loop_alloc_for(struct socket_slot *s, size_t sz);
// Hand an event to the owner. Loop, without locks.
void loop_emit(struct socket_loop *loop, struct socket_slot *s, int type, int ud, char *data);
// Unless CLOSE was told.
void loop_emit_error(struct socket_loop *loop, struct socket_slot *s, const char *text);
// CLOSE, unless it was told already.
void loop_emit_close(struct socket_loop *loop, struct socket_slot *s);

// Sets what the slot wants and tells the poller. 0 or -1 with errno. If a socket that was
// polled can't be any more, it is closed in the next round, unless the caller does so.
int loop_watch(struct socket_loop *loop, struct socket_slot *s, bool reading, bool writing);
// Tells the poller what the slot wants: s->reading and s->write_polled. Likewise.
int loop_apply_interest(struct socket_loop *loop, struct socket_slot *s);
// Closes the descriptor, unless it is attached: then hands it back as it came.
void loop_close_descriptor(struct socket_loop *loop, struct socket_slot *s);
// Closes the descriptor and frees the slot, dropping unsent bytes; silent. If a
// sender is writing this very moment it is finished later. Loop.
void loop_destroy(struct socket_loop *loop, struct socket_slot *s);
// Closes the socket whatever its state, telling the owner the reason.
void loop_abort(struct socket_loop *loop, struct socket_slot *s, const char *text);
// Starts to watch for idleness, if the settings say so.
void loop_limit_idle(struct socket_loop *loop, struct socket_slot *s);
// The time of idleness may have passed.
void loop_idle_over(struct socket_loop *loop, struct socket_slot *s);
// Gives the peer of a closed socket its linger time from now to make progress.
void loop_limit_linger(struct socket_loop *loop, struct socket_slot *s);
// That time has passed.
void loop_linger_over(struct socket_loop *loop, struct socket_slot *s);
// The end of a graceful close, when nothing is left to send. Loop.
void loop_finish(struct socket_loop *loop, struct socket_slot *s);
// close(id): what was accepted still goes out.
void loop_close(struct socket_loop *loop, struct socket_slot *s);
// Takes the descriptor from the poller, which lives on.
void loop_unwatch(struct socket_loop *loop, struct socket_slot *s);
// The poller has forgotten the descriptor.
void loop_forget_interest(struct socket_loop *loop, struct socket_slot *s);
char *loop_read_buffer(struct socket_loop *loop);

//------------------------------------------------------------------- connect

// In the tags of descriptors that are connecting.
#define CONNECT_TAG ((uintptr_t)1 << (sizeof(uintptr_t) * 8 - 1))

struct connect_attempt;

// Takes the list.
void connect_begin(struct socket_loop *loop, struct socket_slot *s, struct address_list *list);
// An attempt has ended, somehow.
void connect_ready(struct socket_loop *loop, struct socket_slot *s);
// Time for another attempt, or to give up.
void connect_timer(struct socket_loop *loop, struct socket_slot *s);
// Ends all attempts. Nothing if there are none.
void connect_attempt_free(struct socket_loop *loop, struct socket_slot *s);

//------------------------------------------------------------------- streams

// What every new descriptor gets: close-on-exec and non-blocking. -1 with errno.
int socket_new(int family, int type);
bool socket_set_flags(int fd);
// A descriptor to give up when they run out, or -1.
int socket_spare(void);
// The addresses of a host (NULL or "": 0.0.0.0), or NULL. Waits for the resolver
// if it is a name, a bounded time.
struct address_list *socket_resolve_local(struct socket_server *ss, const char *host, int port,
                                          int type);
// A bound descriptor, or -1. Resolves likewise.
int socket_open_bound(struct socket_server *ss, const char *host, int port, int type,
                      const struct listen_limits *limits);

// The listener can be accepted from.
void stream_accept(struct socket_loop *loop, struct socket_slot *s);
// A new connection is here; from another loop by COMMAND_ACCEPTED.
void stream_accepted(struct socket_loop *loop, struct socket_slot *s);
// Returns true if more may be there: a hang-up must wait until it is read.
bool stream_read(struct socket_loop *loop, struct socket_slot *s);
// Whether bytes wait to be read, by one look at the descriptor.
bool stream_has_unread(const struct socket_slot *s);
// Reads what has come, as far as a few reads go, but neither the end nor an error.
void stream_read_rest(struct socket_loop *loop, struct socket_slot *s);

//------------------------------------------------------------------ throttle

// Counts an event of n bytes that is about to be handed out, and lets reading rest
// if the owner is too far behind. Loop.
void throttle_count(struct socket_loop *loop, struct socket_slot *s, size_t n);
// Compares the count with the limit, and tells the poller. Loop.
void throttle_review(struct socket_loop *loop, struct socket_slot *s);

//--------------------------------------------------------------------- write

// Sends what is queued until it is empty, the kernel is full, or a fair share is
// done, and sets the interest in writing accordingly. Loop, without the lock.
void write_flush(struct socket_loop *loop, struct socket_slot *s);
// Frees all that is queued. With the lock, no writer active.
void write_discard(struct socket_server *ss, struct socket_slot *s);
// Frees what a refused send carries.
void write_refuse(struct socket_server *ss, struct socket_sendbuffer *b);
// One datagram; see socket_udp.c.
enum datagram_result { DATAGRAM_SENT, DATAGRAM_BLOCKED, DATAGRAM_DROPPED };
enum datagram_result udp_send_now(struct socket_server *ss, int id, int fd,
                                  const struct socket_udp_address *to, const void *buf, size_t sz);
enum send_mode { SEND_HIGH, SEND_LOW, SEND_LATER };
// The send of both protocols: to is NULL for streams. 0 or -1. Unlocks.
int write_submit(struct socket_server *ss, struct socket_slot *s, struct socket_sendbuffer *b,
                 enum send_mode mode, const struct socket_udp_address *to);
// A send to a socket that relays. 0 or -1. Unlocks.
int write_relay(struct socket_server *ss, struct socket_slot *s, struct socket_sendbuffer *b);
// Whether all that is queued can be written by the loop when it closes the stream. With the
// lock.
bool write_waits_for_end(const struct socket_slot *s);
// Writes it; the system may keep the last of it until the stream is shut down. With the
// lock, which is given up meanwhile.
void write_end(struct socket_server *ss, struct socket_slot *s);
// socket_server_flush. Unlocks.
void write_flush_here(struct socket_server *ss, struct socket_slot *s);

//----------------------------------------------------------------------- UDP

// Datagrams have come; whether the slot is one for datagrams.
void udp_read(struct socket_loop *loop, struct socket_slot *s);
bool udp_is(const struct socket_slot *s);
// It rested for want of memory, and goes on.
void udp_rest_over(struct socket_loop *loop, struct socket_slot *s);

//---------------------------------------------------------------- resolution

// One without jobs, or NULL.
struct resolver *resolver_create(void);
// Forgets its jobs; results that come later go nowhere.
void resolver_release(struct resolver *r);
// Posts COMMAND_RESOLVED for id to the loop.
void resolver_request(struct resolver *r, struct socket_loop *loop, int id, const char *host,
                      int port);
// Waits at most `timeout_ms`. Gives *out (freeaddrinfo), or returns a text.
const char *resolver_lookup(struct resolver *r, const char *host, int socktype, int timeout_ms,
                            struct addrinfo **out);

#endif
