/*
 * Taking in datagrams. Nothing of a segment is believed before it was checked:
 * lengths against what came, numbers against the windows.
 */
#include "kcp_arq.h"
#include "kcp_segment.h"
#include "skynet_malloc.h"

#include <string.h>

/* Acknowledgements that wait for a flush. Beyond, the peer sends again. */
#define ACK_LIMIT 4096
#define ACK_START 16

struct header {
	uint32_t conv, ts, sn, una, len;
	uint16_t wnd;
	uint8_t cmd, frg;
};

static uint32_t
read32(const unsigned char *p) {
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static struct header
read_header(const char *data) {
	const unsigned char *p = (const unsigned char *)data;

	return (struct header){
	    .conv = read32(p),
	    .cmd = p[4],
	    .frg = p[5],
	    .wnd = (uint16_t)(p[6] | p[7] << 8),
	    .ts = read32(p + 8),
	    .sn = read32(p + 12),
	    .una = read32(p + 16),
	    .len = read32(p + 20),
	};
}

/*------------------------------------------------------------ acknowledgements */

static void
acknowledged(struct kcp *k, uint32_t sn) {
	struct segment **slot = &k->flight[sn & k->flight_mask];

	if (*slot) {
		k->send_bytes -= (*slot)->size;
		skynet_free(*slot);
		*slot = NULL;
	}
}

/* Numbers before `una` have all arrived. */
static void
acknowledge_before(struct kcp *k, uint32_t una) {
	while (kcp_diff(k->una, una) < 0 && k->una != k->next) {
		acknowledged(k, k->una);
		k->una++;
	}
}

/* Moves `una` over numbers that were acknowledged one by one. */
static void
advance(struct kcp *k) {
	while (k->una != k->next && k->flight[k->una & k->flight_mask] == NULL) {
		k->una++;
	}
}

/* RFC 6298, with KCP's lower bounds. */
static void
measure(struct kcp *k, uint32_t rtt) {
	if (k->srtt == 0) {
		k->srtt = rtt ? rtt : 1;
		k->rttvar = rtt / 2;
	} else {
		uint32_t delta = rtt > k->srtt ? rtt - k->srtt : k->srtt - rtt;
		k->rttvar = (3 * k->rttvar + delta) / 4;
		k->srtt = (7 * k->srtt + rtt) / 8;
		if (k->srtt == 0) {
			k->srtt = 1;
		}
	}
	uint32_t spread = 4 * k->rttvar;
	uint32_t rto = k->srtt + (spread > k->config.interval ? spread : k->config.interval);
	rto = rto < k->min_rto ? k->min_rto : rto;
	k->rto = rto > KCP_RTO_MAX ? KCP_RTO_MAX : rto;
}

/* What the acknowledgements of one datagram say together. */
struct news {
	bool has_ack;
	uint32_t highest;
};

static void
take_ack(struct kcp *k, uint32_t now, const struct header *h, struct news *news) {
	int32_t rtt = kcp_diff(now, h->ts);

	if (kcp_diff(h->sn, k->next) >= 0) {
		return;
	}
	/* The time is that of the very transmission, so repeated ones count too. */
	if (rtt >= 0 && rtt <= KCP_RTO_MAX) {
		measure(k, (uint32_t)rtt);
	}
	if (kcp_diff(h->sn, k->una) < 0) {
		return;
	}
	acknowledged(k, h->sn);
	advance(k);
	if (!news->has_ack || kcp_diff(h->sn, news->highest) > 0) {
		news->has_ack = true;
		news->highest = h->sn;
	}
}

/* Segments that were overtaken count it: enough of that and they are resent. */
static void
count_passed(struct kcp *k, uint32_t highest) {
	for (uint32_t sn = k->una; kcp_diff(sn, highest) < 0 && sn != k->next; sn++) {
		struct segment *s = k->flight[sn & k->flight_mask];
		if (s) {
			s->passed++;
		}
	}
}

/* RFC 5681: slow start, then congestion avoidance. */
static void
grow_window(struct kcp *k) {
	uint32_t mss = k->mss;

	if (k->cwnd >= k->remote_window) {
		return;
	}
	if (k->cwnd < k->ssthresh) {
		k->cwnd++;
		k->cwnd_bytes += mss;
	} else {
		k->cwnd_bytes = k->cwnd_bytes < mss ? mss : k->cwnd_bytes;
		k->cwnd_bytes += (uint32_t)((uint64_t)mss * mss / k->cwnd_bytes) + mss / 16;
		if ((uint64_t)(k->cwnd + 1) * mss <= k->cwnd_bytes) {
			k->cwnd++;
		}
	}
	if (k->cwnd > k->remote_window) {
		k->cwnd = k->remote_window;
		k->cwnd_bytes = k->remote_window * mss;
	}
}

/*------------------------------------------------------------------------ data */

static void
remember_ack(struct kcp *k, uint32_t sn, uint32_t ts) {
	if (k->ack_count == k->ack_room) {
		if (k->ack_room >= ACK_LIMIT) {
			return;
		}
		k->ack_room = k->ack_room ? 2 * k->ack_room : ACK_START;
		k->acks = skynet_realloc(k->acks, k->ack_room * sizeof(k->acks[0]));
	}
	k->acks[k->ack_count++] = (struct ack){sn, ts};
}

void
kcp_make_ready(struct kcp *k) {
	for (;;) {
		struct segment **slot = &k->arrived[k->expected & k->arrived_mask];
		if (*slot == NULL || kcp_free_window(k) == 0) {
			return;
		}
		kcp_queue_push(&k->ready, *slot);
		*slot = NULL;
		k->expected++;
	}
}

static void
take_data(struct kcp *k, const struct header *h, const char *data) {
	uint32_t window = k->config.receive_window;

	if (kcp_diff(h->sn, k->expected + window) >= 0) {
		return; /* beyond the window: not acknowledged, comes again */
	}
	remember_ack(k, h->sn, h->ts);
	struct segment **slot = &k->arrived[h->sn & k->arrived_mask];
	if (kcp_diff(h->sn, k->expected) < 0 || *slot) {
		return; /* had it before */
	}
	struct segment *s = skynet_malloc(sizeof(*s) + h->len);
	memset(s, 0, sizeof(*s));
	s->sn = h->sn;
	s->frg = h->frg;
	s->size = h->len;
	memcpy(s->data, data, h->len);
	*slot = s;
	kcp_make_ready(k);
}

/*---------------------------------------------------------------------- input */

static bool
is_sound(const struct kcp *k, const struct header *h, size_t rest) {
	uint32_t mtu = k->config.mtu > KCP_COMMON_MTU ? k->config.mtu : KCP_COMMON_MTU;

	if (h->len > rest || h->len > mtu - KCP_HEADER) {
		return false;
	}
	if (kcp_diff(h->una, k->next) > 0) {
		return false; /* acknowledges what was never sent */
	}
	if (h->cmd == KCP_DATA) {
		/* A message larger than the window could never be completed. */
		return h->frg < k->config.receive_window && (!k->config.stream || h->frg == 0);
	}
	return h->cmd == KCP_ACK || h->cmd == KCP_ASK || h->cmd == KCP_TELL;
}

static void
take_segment(struct kcp *k, uint32_t now, const struct header *h, const char *data,
             struct news *news) {
	k->remote_window = h->wnd;
	acknowledge_before(k, h->una);
	advance(k);
	switch (h->cmd) {
	case KCP_ACK:
		take_ack(k, now, h, news);
		break;
	case KCP_DATA:
		take_data(k, h, data);
		break;
	case KCP_ASK:
		k->must_tell = true;
		break;
	default: /* KCP_TELL: the window, which every segment carries */
		break;
	}
}

enum kcp_result
kcp_input(struct kcp *k, uint32_t now, const char *data, size_t size) {
	uint32_t una = k->una;
	struct news news = {0};
	enum kcp_result result = size < KCP_HEADER ? KCP_MALFORMED : KCP_OK;

	while (size >= KCP_HEADER) {
		struct header h = read_header(data);
		data += KCP_HEADER;
		size -= KCP_HEADER;
		if (h.conv != k->config.conv) {
			result = KCP_FOREIGN;
			break;
		}
		if (!is_sound(k, &h, size)) {
			result = KCP_MALFORMED;
			break;
		}
		take_segment(k, now, &h, data, &news);
		data += h.len;
		size -= h.len;
	}
	if (kcp_free_window(k) == 0 && kcp_peek(k) < 0) {
		result = KCP_MALFORMED; /* a window full of fragments without an end */
	}
	if (news.has_ack) {
		count_passed(k, news.highest);
	}
	if (kcp_diff(k->una, una) > 0) {
		grow_window(k);
	}
	return result;
}
