// Who may connect: the limits of one listener (connections in total, per peer, new ones
// per second and peer). A peer is an IPv4 address, or the /64 network of an IPv6 one.
//
// Owns a table of the peers that have connections, or had some a moment ago. The
// listener and every connection that it accepted hold a reference: a connection
// may outlive its listener, and end on another thread than the one that accepts.
#include "socket_impl.h"

#include <arpa/inet.h>
#include <string.h>

#include "skynet_malloc.h"

#define FIRST_BUCKETS 16
// Tokens are counted in thousandths: one per millisecond and unit of rate.
#define TOKEN 1000

struct peer {
	struct peer *next;
	uint64_t key;
	uint64_t filled_ms; // when `tokens` was right
	uint32_t tokens;
	uint32_t n; // connections
};

struct admission {
	pthread_mutex_t lock;
	atomic_int refs;
	struct listen_limits limits; // [lock]
	uint32_t n;                  // [lock] connections
	uint32_t peers;              // [lock]
	uint32_t mask;               // [lock]
	struct peer **bucket;        // [lock]
};

struct admission *
admission_new(const struct listen_limits *limits) {
	struct admission *a = skynet_calloc(1, sizeof(*a));
	pthread_mutex_init(&a->lock, NULL);
	atomic_init(&a->refs, 1);
	a->limits = *limits;
	return a;
}

void
admission_set(struct admission *a, const struct listen_limits *limits) {
	pthread_mutex_lock(&a->lock);
	a->limits = *limits;
	pthread_mutex_unlock(&a->lock);
}

struct listen_limits
admission_limits(struct admission *a) {
	pthread_mutex_lock(&a->lock);
	struct listen_limits limits = a->limits;
	pthread_mutex_unlock(&a->lock);
	return limits;
}

void
admission_release(struct admission *a) {
	if (a == NULL || atomic_fetch_sub(&a->refs, 1) != 1) {
		return;
	}
	for (uint32_t i = 0; a->bucket != NULL && i <= a->mask; i++) {
		while (a->bucket[i] != NULL) {
			struct peer *p = a->bucket[i];
			a->bucket[i] = p->next;
			skynet_free(p);
		}
	}
	skynet_free(a->bucket);
	pthread_mutex_destroy(&a->lock);
	skynet_free(a);
}

//--------------------------------------------------------------------- peers

// IPv4 lives in 0:ffff::/32 of the keys, where no IPv6 network is.
static uint64_t
key_of(const struct socket_udp_address *addr) {
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const uint8_t *ip = addr->byte + 3;
	uint64_t key = 0;
	bool is_v4 = addr->byte[0] == ADDRESS_V4;
	if (!is_v4 && memcmp(ip, mapped, sizeof(mapped)) == 0) {
		is_v4 = true;
		ip += sizeof(mapped);
	}
	for (int i = 0; i < (is_v4 ? 4 : 8); i++) {
		key = key << 8 | ip[i];
	}
	return is_v4 ? key | (uint64_t)0xffff << 32 : key;
}

static bool
is_loopback(const struct socket_udp_address *addr) {
	static const uint8_t one[16] = {[15] = 1};
	uint64_t key = key_of(addr);
	return key >> 24 == ((uint64_t)0xffff << 8 | 127) ||
	       (addr->byte[0] == ADDRESS_V6 && memcmp(addr->byte + 3, one, sizeof(one)) == 0);
}

// Peers choose their addresses to some degree, but not this process's place in
// memory.
static struct peer **
bucket_of(const struct admission *a, uint64_t key) {
	uint64_t h = (key ^ (uint64_t)(uintptr_t)a) * UINT64_C(0x9e3779b97f4a7c15);
	return &a->bucket[(uint32_t)(h >> 32) & a->mask];
}

static uint32_t
capacity(const struct listen_limits *l) {
	uint32_t burst = l->peer_burst > 0 ? l->peer_burst : l->peer_rate;
	return burst * TOKEN;
}

static void
refill(const struct listen_limits *l, struct peer *p, uint64_t now_ms) {
	uint64_t tokens = p->tokens;
	uint32_t most = capacity(l);
	// A loop's clock stands still during a round: it may be behind that of a connection
	// which ended on another one.
	if (now_ms > p->filled_ms) {
		tokens += (now_ms - p->filled_ms) * l->peer_rate;
		p->filled_ms = now_ms;
	}
	p->tokens = tokens > most ? most : (uint32_t)tokens;
}

// Nothing is known of it that a new entry would not say.
static bool
is_forgettable(const struct listen_limits *l, struct peer *p, uint64_t now_ms) {
	if (p->n > 0) {
		return false;
	}
	refill(l, p, now_ms);
	return p->tokens == capacity(l);
}

static void
sweep_bucket(struct admission *a, struct peer **at, uint64_t now_ms) {
	while (*at != NULL) {
		struct peer *p = *at;
		if (is_forgettable(&a->limits, p, now_ms)) {
			*at = p->next;
			a->peers--;
			skynet_free(p);
		} else {
			at = &p->next;
		}
	}
}

static void
sweep(struct admission *a, uint64_t now_ms) {
	for (uint32_t i = 0; a->bucket != NULL && i <= a->mask; i++) {
		sweep_bucket(a, &a->bucket[i], now_ms);
	}
}

static void
grow(struct admission *a) {
	struct peer **old = a->bucket;
	uint32_t n = old == NULL ? 0 : a->mask + 1;
	uint32_t size = n == 0 ? FIRST_BUCKETS : n * 2;
	a->bucket = skynet_calloc(size, sizeof(a->bucket[0]));
	a->mask = size - 1;
	for (uint32_t i = 0; i < n; i++) {
		while (old[i] != NULL) {
			struct peer *p = old[i];
			old[i] = p->next;
			struct peer **b = bucket_of(a, p->key);
			p->next = *b;
			*b = p;
		}
	}
	skynet_free(old);
}

static struct peer *
find(struct admission *a, uint64_t key) {
	struct peer *p = a->bucket == NULL ? NULL : *bucket_of(a, key);
	while (p != NULL && p->key != key) {
		p = p->next;
	}
	return p;
}

static struct peer *
find_or_add(struct admission *a, uint64_t key, uint64_t now_ms) {
	struct peer *p = find(a, key);
	if (p != NULL) {
		refill(&a->limits, p, now_ms);
		return p;
	}
	if (a->bucket == NULL || a->peers > a->mask) {
		sweep(a, now_ms);
		if (a->bucket == NULL || a->peers > a->mask / 2) {
			grow(a);
		}
	}
	struct peer **b = bucket_of(a, key);
	p = skynet_malloc(sizeof(*p));
	*p = (struct peer){.next = *b, .key = key, .filled_ms = now_ms};
	p->tokens = capacity(&a->limits);
	*b = p;
	a->peers++;
	return p;
}

//----------------------------------------------------------------- admission

static enum admission_result
judge(const struct listen_limits *l, struct peer *p, bool is_local) {
	if (l->max_per_peer > 0 && p->n >= l->max_per_peer && !(is_local && l->per_peer_is_preset)) {
		return ADMISSION_PEER_FULL;
	}
	if (l->peer_rate > 0 && !(is_local && l->rate_is_preset)) {
		if (p->tokens < TOKEN) {
			return ADMISSION_TOO_FAST;
		}
		p->tokens -= TOKEN;
	}
	return ADMISSION_GRANTED;
}

enum admission_result
admission_enter(struct admission *a, const struct socket_udp_address *addr, uint64_t now_ms) {
	enum admission_result r = ADMISSION_FULL;
	pthread_mutex_lock(&a->lock);
	if (a->limits.max_connections == 0 || a->n < a->limits.max_connections) {
		struct peer *p = find_or_add(a, key_of(addr), now_ms);
		r = judge(&a->limits, p, is_loopback(addr));
		if (r == ADMISSION_GRANTED) {
			p->n++;
			a->n++;
			atomic_fetch_add(&a->refs, 1);
		}
	}
	pthread_mutex_unlock(&a->lock);
	return r;
}

void
admission_leave(struct admission *a, const struct socket_udp_address *addr) {
	pthread_mutex_lock(&a->lock);
	uint64_t key = key_of(addr);
	struct peer *p = find(a, key);
	a->n--;
	if (--p->n == 0) {
		sweep_bucket(a, bucket_of(a, key), deadline_now_ms());
	}
	pthread_mutex_unlock(&a->lock);
	admission_release(a);
}
