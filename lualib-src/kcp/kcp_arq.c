/*
 * A conversation: making it, giving it messages, taking messages from it.
 */
#include "kcp_arq.h"

#include "kcp_segment.h"
#include "skynet_malloc.h"

#include <string.h>

#define DEFAULT_MTU 1400
#define DEFAULT_WINDOW 128
#define DEFAULT_INTERVAL 10
#define DEFAULT_DEAD_LINK 20
#define DEFAULT_SEND_LIMIT (1 << 20)
/* The number of a fragment is a byte. */
#define MAX_FRAGMENTS 255
#define MIN_RTO 100
#define MIN_RTO_NODELAY 30

void
kcp_queue_push(struct queue *q, struct segment *s) {
	s->next = NULL;
	if (q->last) {
		q->last->next = s;
	} else {
		q->first = s;
	}
	q->last = s;
	q->count++;
}

struct segment *
kcp_queue_pop(struct queue *q) {
	struct segment *s = q->first;

	if (s) {
		q->first = s->next;
		if (q->first == NULL) {
			q->last = NULL;
		}
		q->count--;
	}
	return s;
}

uint32_t
kcp_free_window(const struct kcp *k) {
	uint32_t window = k->config.receive_window;

	return k->ready.count < window ? window - k->ready.count : 0;
}

/*------------------------------------------------------------------ making one */

static void
fill_in(uint32_t *number, uint32_t value) {
	if (*number == 0) {
		*number = value;
	}
}

static bool
is_between(uint32_t n, uint32_t low, uint32_t high) {
	return n >= low && n <= high;
}

/* Fills in defaults; false when a number is out of range. */
static bool
check_config(struct kcp_config *c) {
	fill_in(&c->mtu, DEFAULT_MTU);
	fill_in(&c->send_window, DEFAULT_WINDOW);
	fill_in(&c->receive_window, DEFAULT_WINDOW);
	fill_in(&c->interval, DEFAULT_INTERVAL);
	fill_in(&c->dead_link, DEFAULT_DEAD_LINK);
	if (c->send_limit == 0) {
		c->send_limit = DEFAULT_SEND_LIMIT;
	}
	return is_between(c->mtu, KCP_MTU_MIN, KCP_MTU_MAX) &&
	       is_between(c->send_window, 1, KCP_WINDOW_MAX) &&
	       is_between(c->receive_window, 1, KCP_WINDOW_MAX) &&
	       is_between(c->interval, KCP_INTERVAL_MIN, KCP_INTERVAL_MAX) && c->nodelay >= 0 &&
	       c->nodelay <= 2;
}

/* Slots for `window` numbers in a row: their mask. */
static uint32_t
mask_for(uint32_t window) {
	uint32_t n = 1;

	while (n < window) {
		n *= 2;
	}
	return n - 1;
}

struct kcp *
kcp_new(const struct kcp_config *config, kcp_output output, void *ud) {
	struct kcp_config c = *config;

	if (!check_config(&c)) {
		return NULL;
	}
	struct kcp *k = skynet_calloc(1, sizeof(*k));
	k->config = c;
	k->output = output;
	k->ud = ud;
	k->mss = c.mtu - KCP_HEADER;
	k->min_rto = c.nodelay ? MIN_RTO_NODELAY : MIN_RTO;
	k->flight_mask = mask_for(c.send_window);
	k->flight = skynet_calloc(k->flight_mask + 1, sizeof(k->flight[0]));
	k->arrived_mask = mask_for(c.receive_window);
	k->arrived = skynet_calloc(k->arrived_mask + 1, sizeof(k->arrived[0]));
	k->datagram = skynet_malloc(c.mtu);
	k->remote_window = DEFAULT_WINDOW;
	k->rto = KCP_RTO_START;
	k->ssthresh = KCP_SSTHRESH_START;
	k->cwnd = 1;
	k->cwnd_bytes = k->mss;
	return k;
}

static void
queue_free(struct queue *q) {
	struct segment *s;

	while ((s = kcp_queue_pop(q)) != NULL) {
		skynet_free(s);
	}
}

static void
slots_free(struct segment **slot, uint32_t mask) {
	for (uint32_t i = 0; i <= mask; i++) {
		skynet_free(slot[i]);
	}
	skynet_free(slot);
}

void
kcp_free(struct kcp *k) {
	if (k == NULL) {
		return;
	}
	queue_free(&k->waiting);
	queue_free(&k->ready);
	slots_free(k->flight, k->flight_mask);
	slots_free(k->arrived, k->arrived_mask);
	skynet_free(k->acks);
	skynet_free(k->datagram);
	skynet_free(k);
}

/*--------------------------------------------------------------------- sending */

static struct segment *
segment_new(const char *data, uint32_t size, uint32_t room) {
	struct segment *s = skynet_malloc(sizeof(*s) + room);

	memset(s, 0, sizeof(*s));
	s->size = size;
	memcpy(s->data, data, size);
	return s;
}

/* With `stream`: fills the last waiting segment up. Bytes taken. */
static size_t
top_up(struct kcp *k, const char *data, size_t size) {
	struct segment *last = k->waiting.last;

	if (!k->config.stream || last == NULL || last->size >= k->mss) {
		return 0;
	}
	size_t n = k->mss - last->size;
	n = n < size ? n : size;
	memcpy(last->data + last->size, data, n);
	last->size += (uint32_t)n;
	return n;
}

enum kcp_result
kcp_send(struct kcp *k, const char *data, size_t size) {
	size_t window = k->config.receive_window < k->config.send_window ? k->config.receive_window
	                                                                 : k->config.send_window;
	size_t most = window < MAX_FRAGMENTS ? window : MAX_FRAGMENTS;

	/* The peer needs all of a message in its window, which is taken to be like
	 * ours. */
	if (!k->config.stream && size > most * k->mss) {
		return KCP_TOO_LARGE;
	}
	if (size > k->config.send_limit || k->send_bytes > k->config.send_limit - size) {
		return KCP_FULL;
	}
	k->send_bytes += size;
	size_t done = top_up(k, data, size);
	while (done < size) {
		size_t n = size - done < k->mss ? size - done : k->mss;
		struct segment *s =
		    segment_new(data + done, (uint32_t)n, k->config.stream ? k->mss : (uint32_t)n);
		done += n;
		s->frg = k->config.stream ? 0 : (uint8_t)((size - done + k->mss - 1) / k->mss);
		kcp_queue_push(&k->waiting, s);
	}
	return KCP_OK;
}

/*------------------------------------------------------------------- receiving */

ptrdiff_t
kcp_peek(const struct kcp *k) {
	const struct segment *s = k->ready.first;
	size_t size = 0;

	if (s == NULL || k->ready.count <= s->frg) {
		return -1;
	}
	for (;; s = s->next) {
		size += s->size;
		if (s->frg == 0) {
			return (ptrdiff_t)size;
		}
		if (s->next == NULL) {
			return -1;
		}
	}
}

ptrdiff_t
kcp_copy(const struct kcp *k, char *out) {
	ptrdiff_t size = kcp_peek(k);
	const struct segment *s = k->ready.first;

	for (ptrdiff_t left = size; left > 0; s = s->next) {
		memcpy(out, s->data, s->size);
		out += s->size;
		left -= (ptrdiff_t)s->size;
	}
	return size;
}

void
kcp_drop(struct kcp *k) {
	bool was_full = kcp_free_window(k) == 0;
	bool is_last = kcp_peek(k) < 0;

	while (!is_last) {
		struct segment *s = kcp_queue_pop(&k->ready);
		is_last = s->frg == 0;
		skynet_free(s);
	}
	kcp_make_ready(k);
	if (was_full && kcp_free_window(k) > 0) {
		k->must_tell = true;
	}
}

ptrdiff_t
kcp_receive(struct kcp *k, char *out) {
	ptrdiff_t size = kcp_copy(k, out);

	kcp_drop(k);
	return size;
}

/*--------------------------------------------------------------------- queries */

void
kcp_probe(struct kcp *k) {
	k->must_ask = true;
}

bool
kcp_is_dead(const struct kcp *k) {
	return k->is_dead;
}

void
kcp_stats(const struct kcp *k, struct kcp_stats *out) {
	*out = (struct kcp_stats){
	    .send_bytes = k->send_bytes,
	    .send_segments = k->waiting.count + (k->next - k->una),
	    .ready_segments = k->ready.count,
	    .srtt = k->srtt,
	    .rto = k->rto,
	    .transmissions = k->transmissions,
	    .retransmissions = k->retransmissions,
	};
}
