// See netpack_guard.h.
#include "netpack_guard.h"

#include <arpa/inet.h>
#include <string.h>

#include "skynet_malloc.h"

#define FIRST_BUCKETS 16
// Tokens are kept in hundredths: a rate per second fills in that many each 1/100 s.
#define SCALE 100
#define ADDRESS_MAX 64

// Who is behind an address, as the limits of addresses see it. Text that is none is one of
// its own.
struct peer {
	uint8_t network[8]; // the IPv4 address and zeros, or the /64 network of an IPv6 one
	bool is_v6;
	bool is_local; // on the loopback interface
};

struct bucket {
	int64_t packages;
	int64_t bytes;
	uint64_t filled; // when
};

struct address {
	struct address *next;
	struct peer peer;
	int n; // connections; kept for a while without any
	struct bucket bucket;
};

// What each read looks at comes first: with many connections it is in no cache.
struct connection {
	struct connection *next;
	int id;
	bool is_marked; // has sent a package since the last look
	bool has_spoken;
	uint64_t note;
	struct address *address;
	struct bucket bucket;
	uint64_t since; // silent, as far as is known
};

struct guard {
	uint64_t (*clock)(void);
	struct guard_limits limits[2]; // of strangers, of peers on this machine
	uint32_t first;
	uint32_t idle;
	struct connection **connection;
	size_t n;
	size_t mask;
	struct address **address;
	size_t address_n;
	size_t address_mask;
};

//------------------------------------------------------------------- buckets

static void
bucket_init(struct bucket *b, const struct guard_rate *r, uint64_t now) {
	b->packages = r->package_burst * SCALE;
	b->bytes = r->byte_burst * SCALE;
	b->filled = now;
}

static int64_t
fill_up(int64_t tokens, int64_t rate, int64_t burst, uint64_t elapsed) {
	int64_t full = burst * SCALE;
	int64_t lack = full - tokens;
	if (rate == 0 || lack <= 0 || elapsed >= (uint64_t)(lack / rate) + 1) {
		return full;
	}
	return tokens + (int64_t)elapsed * rate;
}

static void
bucket_fill(struct bucket *b, const struct guard_rate *r, uint64_t now) {
	uint64_t elapsed = now - b->filled;
	b->filled = now;
	b->packages = fill_up(b->packages, r->packages, r->package_burst, elapsed);
	b->bytes = fill_up(b->bytes, r->bytes, r->byte_burst, elapsed);
}

static bool
is_dry(const struct bucket *b) {
	return b->packages < 0 || b->bytes < 0;
}

// Time until `tokens`, which are below 0, are 0.
static int64_t
time_to_fill(int64_t tokens, int64_t rate) {
	return (-tokens + rate - 1) / rate;
}

// What one read has brought.
struct load {
	int64_t packages;
	int64_t bytes;
};

static bool
take(struct bucket *b, const struct guard_rate *r, struct load l) {
	if (r->packages > 0) {
		b->packages -= l.packages * SCALE;
	}
	if (r->bytes > 0) {
		b->bytes -= l.bytes * SCALE;
	}
	return !is_dry(b);
}

// A bucket that the load made dry: how long it takes until it is not. Sets `why` to
// `reason`, or the one after it for bytes.
static int64_t
wait_for(struct bucket *b, const struct guard_rate *r, struct load l, uint64_t now,
         enum guard_reason reason, enum guard_reason *why) {
	int64_t wait = 0;
	// Filled up first: it overflows before, not after, something is taken.
	take(b, r, (struct load){-l.packages, -l.bytes});
	bucket_fill(b, r, now);
	take(b, r, l);
	if (b->packages < 0) {
		wait = time_to_fill(b->packages, r->packages);
		*why = reason;
	}
	if (b->bytes < 0 && time_to_fill(b->bytes, r->bytes) > wait) {
		wait = time_to_fill(b->bytes, r->bytes);
		*why = reason + 1;
	}
	return wait;
}

//----------------------------------------------------------------- addresses

static void
take_v4(struct peer *p, const void *bytes) {
	memcpy(p->network, bytes, sizeof(struct in_addr));
	p->is_local = p->network[0] == 127;
}

static void
parse_ip(struct peer *p, const char *text) {
	struct in_addr v4;
	struct in6_addr v6;
	if (inet_pton(AF_INET, text, &v4) == 1) {
		take_v4(p, &v4);
	} else if (inet_pton(AF_INET6, text, &v6) != 1) {
		return;
	} else if (IN6_IS_ADDR_V4MAPPED(&v6)) {
		take_v4(p, &v6.s6_addr[12]);
	} else {
		p->is_v6 = true;
		p->is_local = IN6_IS_ADDR_LOOPBACK(&v6);
		memcpy(p->network, &v6, sizeof(p->network));
	}
}

// Of "ip:port" or "[ip]:port".
static struct peer
peer_of(const char *text, size_t n) {
	struct peer p = {.is_v6 = false};
	char ip[ADDRESS_MAX];
	while (n > 0 && text[n - 1] != ':') {
		n--;
	}
	n = n > 0 ? n - 1 : 0;
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (n < sizeof(ip)) {
		memcpy(ip, text, n);
		ip[n] = '\0';
		parse_ip(&p, ip);
	}
	return p;
}

static size_t
hash_network(const uint8_t *network) {
	uint64_t h;
	memcpy(&h, network, sizeof(h));
	h *= 0x9e3779b97f4a7c15ull;
	return (size_t)(h >> 32);
}

// Nobody is connected from there, and its buckets are full again: a new record
// would say the same.
static bool
is_forgettable(const struct guard *g, const struct address *a, uint64_t now) {
	const struct guard_rate *r = &g->limits[a->peer.is_local].address;
	struct bucket b = a->bucket;
	if (a->n > 0) {
		return false;
	}
	bucket_fill(&b, r, now);
	return b.packages >= r->package_burst * SCALE && b.bytes >= r->byte_burst * SCALE;
}

static void
prune(struct guard *g, struct address **link, uint64_t now) {
	while (*link != NULL) {
		struct address *a = *link;
		if (is_forgettable(g, a, now)) {
			*link = a->next;
			g->address_n--;
			skynet_free(a);
		} else {
			link = &a->next;
		}
	}
}

static void
grow_addresses(struct guard *g) {
	size_t mask = g->address_mask * 2 + 1;
	struct address **table = skynet_calloc(mask + 1, sizeof(table[0]));
	for (size_t i = 0; i <= g->address_mask; i++) {
		struct address *a = g->address[i];
		while (a != NULL) {
			struct address *next = a->next;
			struct address **b = &table[hash_network(a->peer.network) & mask];
			a->next = *b;
			*b = a;
			a = next;
		}
	}
	skynet_free(g->address);
	g->address = table;
	g->address_mask = mask;
}

static void
make_room(struct guard *g, uint64_t now) {
	if (g->address_n <= g->address_mask) {
		return;
	}
	for (size_t i = 0; i <= g->address_mask; i++) {
		prune(g, &g->address[i], now);
	}
	if (g->address_n > g->address_mask / 2) {
		grow_addresses(g);
	}
}

static struct address *
find_address(struct guard *g, const struct peer *key) {
	struct address *a = g->address[hash_network(key->network) & g->address_mask];
	while (a != NULL && (a->peer.is_v6 != key->is_v6 || a->peer.is_local != key->is_local ||
	                     memcmp(a->peer.network, key->network, sizeof(key->network)) != 0)) {
		a = a->next;
	}
	return a;
}

static struct address *
enter_address(struct guard *g, const char *text, size_t n, uint64_t now) {
	struct peer peer = peer_of(text, n);
	struct address *a = find_address(g, &peer);
	if (a == NULL) {
		make_room(g, now);
		a = skynet_calloc(1, sizeof(*a));
		a->peer = peer;
		bucket_init(&a->bucket, &g->limits[a->peer.is_local].address, now);
		struct address **b = &g->address[hash_network(a->peer.network) & g->address_mask];
		a->next = *b;
		*b = a;
		g->address_n++;
	}
	a->n++;
	return a;
}

//--------------------------------------------------------------- connections

// The link that points to the connection, or to the end of its chain.
static struct connection **
find(struct guard *g, int id) {
	struct connection **link = &g->connection[(unsigned)id & g->mask];
	while (*link != NULL && (*link)->id != id) {
		link = &(*link)->next;
	}
	return link;
}

static void
grow(struct guard *g) {
	size_t mask = g->mask * 2 + 1;
	struct connection **table = skynet_calloc(mask + 1, sizeof(table[0]));
	for (size_t i = 0; i <= g->mask; i++) {
		struct connection *c = g->connection[i];
		while (c != NULL) {
			struct connection *next = c->next;
			struct connection **b = &table[(unsigned)c->id & mask];
			c->next = *b;
			*b = c;
			c = next;
		}
	}
	skynet_free(g->connection);
	g->connection = table;
	g->mask = mask;
}

void
guard_enter(struct guard *g, int id, const char *address, size_t n) {
	if (*find(g, id) != NULL) {
		return;
	}
	if (g->n > g->mask) {
		grow(g);
	}
	uint64_t now = g->clock();
	struct connection *c = skynet_calloc(1, sizeof(*c));
	c->id = id;
	c->since = now;
	c->address = enter_address(g, address, n, now);
	bucket_init(&c->bucket, &g->limits[c->address->peer.is_local].connection, now);
	struct connection **b = &g->connection[(unsigned)id & g->mask];
	c->next = *b;
	*b = c;
	g->n++;
}

void
guard_leave(struct guard *g, int id) {
	struct connection **link = find(g, id);
	struct connection *c = *link;
	if (c != NULL) {
		*link = c->next;
		c->address->n--;
		g->n--;
		skynet_free(c);
	}
}

void
guard_set_note(struct guard *g, int id, uint64_t note) {
	struct connection *c = *find(g, id);
	if (c != NULL) {
		c->note = note;
	}
}

uint64_t
guard_note(struct guard *g, int id) {
	struct connection *c = *find(g, id);
	return c != NULL ? c->note : 0;
}

static int64_t
count(struct guard *g, struct connection *c, struct load load, enum guard_reason *why) {
	const struct guard_limits *l = &g->limits[c->address->peer.is_local];
	c->is_marked |= load.packages > 0;
	bool is_fine = take(&c->bucket, &l->connection, load);
	is_fine &= take(&c->address->bucket, &l->address, load);
	if (is_fine) {
		return 0;
	}
	uint64_t now = g->clock();
	enum guard_reason address_why = GUARD_NONE;
	int64_t wait = wait_for(&c->bucket, &l->connection, load, now, GUARD_PACKAGES, why);
	int64_t address_wait =
	    wait_for(&c->address->bucket, &l->address, load, now, GUARD_ADDRESS_PACKAGES, &address_why);
	if (address_wait > wait) {
		*why = address_why;
		return address_wait;
	}
	return wait;
}

int64_t
guard_count(struct guard *g, int id, size_t packages, size_t bytes, enum guard_reason *why) {
	struct connection *c = *find(g, id);
	*why = GUARD_NONE;
	return c != NULL ? count(g, c, (struct load){(int64_t)packages, (int64_t)bytes}, why) : 0;
}

static bool
has_limit(const struct guard_rate *r) {
	return r->packages > 0 || r->bytes > 0;
}

int64_t
guard_take(struct guard *g, int id, size_t bytes, enum guard_reason *why) {
	struct connection *c = *find(g, id);
	*why = GUARD_NONE;
	if (c == NULL) {
		return 0;
	}
	const struct guard_limits *l = &g->limits[c->address->peer.is_local];
	if (!has_limit(&l->connection) && !has_limit(&l->address)) {
		c->is_marked = true;
		return 0;
	}
	uint64_t now = g->clock();
	bucket_fill(&c->bucket, &l->connection, now);
	bucket_fill(&c->address->bucket, &l->address, now);
	return count(g, c, (struct load){1, (int64_t)bytes}, why);
}

//--------------------------------------------------------------------- sweep

// How long the connection may still be silent; 0 = no more, -1 = for ever.
static int64_t
patience(const struct guard *g, struct connection *c, uint64_t now) {
	if (c->is_marked) {
		c->is_marked = false;
		c->has_spoken = true;
		c->since = now;
	}
	uint64_t limit = c->has_spoken ? g->idle : g->first;
	uint64_t silent = now - c->since;
	if (limit == 0) {
		return -1;
	}
	return silent >= limit ? 0 : (int64_t)(limit - silent);
}

static int64_t
sooner(int64_t a, int64_t b) {
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

size_t
guard_silent(struct guard *g) {
	uint64_t now = g->clock();
	size_t n = 0;
	for (size_t i = 0; i <= g->mask; i++) {
		for (struct connection *c = g->connection[i]; c != NULL; c = c->next) {
			n += patience(g, c, now) == 0;
		}
	}
	return n;
}

int64_t
guard_sweep(struct guard *g, bool (*expired)(void *ud, int id, bool has_spoken), void *ud) {
	uint64_t now = g->clock();
	int64_t next = -1;
	for (size_t i = 0; i <= g->mask; i++) {
		for (struct connection *c = g->connection[i]; c != NULL; c = c->next) {
			int64_t left = patience(g, c, now);
			if (left == 0 && expired(ud, c->id, c->has_spoken)) {
				// It is told again only if it is still there much later.
				c->since = now;
				left = c->has_spoken ? g->idle : g->first;
			}
			next = sooner(next, left);
		}
	}
	return next;
}

//---------------------------------------------------------------- life cycle

struct guard *
guard_new(uint64_t (*clock)(void)) {
	struct guard *g = skynet_calloc(1, sizeof(*g));
	g->clock = clock;
	g->mask = g->address_mask = FIRST_BUCKETS - 1;
	g->connection = skynet_calloc(FIRST_BUCKETS, sizeof(g->connection[0]));
	g->address = skynet_calloc(FIRST_BUCKETS, sizeof(g->address[0]));
	return g;
}

void
guard_free(struct guard *g) {
	for (size_t i = 0; i <= g->mask; i++) {
		while (g->connection[i] != NULL) {
			guard_leave(g, g->connection[i]->id);
		}
	}
	for (size_t i = 0; i <= g->address_mask; i++) {
		while (g->address[i] != NULL) {
			struct address *a = g->address[i];
			g->address[i] = a->next;
			skynet_free(a);
		}
	}
	skynet_free(g->connection);
	skynet_free(g->address);
	skynet_free(g);
}

// Without a burst of its own, a second's worth.
static struct guard_rate
normal(const struct guard_rate *r) {
	struct guard_rate n = *r;
	n.package_burst = n.package_burst > 0 ? n.package_burst : n.packages;
	n.byte_burst = n.byte_burst > 0 ? n.byte_burst : n.bytes;
	return n;
}

void
guard_set(struct guard *g, const struct guard_limits *limits, const struct guard_limits *local,
          uint32_t first, uint32_t idle) {
	const struct guard_limits *from[2] = {limits, local};
	for (int i = 0; i < 2; i++) {
		g->limits[i].connection = normal(&from[i]->connection);
		g->limits[i].address = normal(&from[i]->address);
	}
	g->first = first;
	g->idle = idle;
}

size_t
guard_connections(const struct guard *g) {
	return g->n;
}

size_t
guard_addresses(const struct guard *g) {
	return g->address_n;
}
