// What the connections of a gate may do: packages and bytes per second, for each
// connection and for all of one address, and how long one may be silent.
//
// Owns a record per connection and per address. A connection that keeps within its
// limits costs a look-up and two subtractions for each read: no clock is read and
// nothing is allocated. Who exceeds a limit is told how long to wait; nothing is
// dropped here. One thread at a time.
//
// DESIGN. Each limit is a token bucket that is only filled up when it has run dry: the
// time of the last filling is enough to know what it holds. So a burst may be had
// twice when the first one took long; nobody is harmed by that. Silence is noticed by
// looking at all connections once in a while, for which each has a mark that its
// packages set.
#ifndef netpack_guard_h
#define netpack_guard_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// 0 = no limit, everywhere.
struct guard_rate {
	int64_t packages;      // per second
	int64_t package_burst; // at once after a pause
	int64_t bytes;
	int64_t byte_burst;
};

struct guard_limits {
	struct guard_rate connection;
	struct guard_rate address; // an IPv4 address, or an IPv6 /64 network
};

// Largest value of the numbers above.
#define GUARD_MAX ((int64_t)1 << 40)

enum guard_reason {
	GUARD_NONE,
	GUARD_PACKAGES,
	GUARD_BYTES,
	GUARD_ADDRESS_PACKAGES,
	GUARD_ADDRESS_BYTES,
};

struct guard;

// `clock` returns 1/100 s.
struct guard *guard_new(uint64_t (*clock)(void));
void guard_free(struct guard *g);
// From now on; peers on the loopback interface have limits of their own. `first` is how
// long a connection may take for its first package, `idle` how long between two, 1/100 s.
void guard_set(struct guard *g, const struct guard_limits *limits, const struct guard_limits *local,
               uint32_t first, uint32_t idle);
// A new connection. `address` is "ip:port" or "[ip]:port", n bytes.
void guard_enter(struct guard *g, int id, const char *address, size_t n);
// Unknown ids are ignored.
void guard_leave(struct guard *g, int id);
// A number that the caller keeps for a connection: 0 at first, and for unknown ids.
void guard_set_note(struct guard *g, int id, uint64_t note);
uint64_t guard_note(struct guard *g, int id);
// The connection has sent that much. Returns 0, or how long not to read it, 1/100 s, and
// sets why. With zeros: how long still. Unknown ids may do everything.
int64_t guard_count(struct guard *g, int id, size_t packages, size_t bytes, enum guard_reason *why);
// One package of that size, as guard_count, for who counts each by itself: the clock is read
// every time, and a burst is never had twice.
int64_t guard_take(struct guard *g, int id, size_t bytes, enum guard_reason *why);
// How many connections have been silent for too long.
size_t guard_silent(struct guard *g);
// Calls `expired` for each of them, which may not call back; false = it could not be told,
// and will be by the next sweep. Returns when to look again, 1/100 s from now, -1 = when
// there are connections.
int64_t guard_sweep(struct guard *g, bool (*expired)(void *ud, int id, bool has_spoken), void *ud);
// Connections and addresses that are known.
size_t guard_connections(const struct guard *g);
size_t guard_addresses(const struct guard *g);

#endif
