/*
 * Sending what is due. Segments are put together into datagrams of up to mtu
 * bytes; each goes out when the next segment does not fit.
 */
#include "kcp_arq.h"
#include "kcp_segment.h"

#include <string.h>

/* A peer without room is asked again after so long, then ever less often. */
#define PROBE_FIRST 7000
#define PROBE_MAX 120000
/* Times that one segment is resent for having been overtaken. */
#define OVERTAKEN_LIMIT 5

struct writer {
	struct kcp *k;
	size_t used;
	uint16_t window;
};

static void
write32(char *p, uint32_t n) {
	for (int i = 0; i < 4; i++) {
		p[i] = (char)(n >> 8 * i);
	}
}

static void
send_datagram(struct writer *w) {
	if (w->used > 0) {
		w->k->output(w->k->ud, w->k->datagram, w->used);
		w->used = 0;
	}
}

static void
write_segment(struct writer *w, enum kcp_command cmd, const struct segment *s, uint32_t size) {
	struct kcp *k = w->k;

	if (w->used + KCP_HEADER + size > k->config.mtu) {
		send_datagram(w);
	}
	char *p = k->datagram + w->used;
	write32(p, k->config.conv);
	p[4] = (char)cmd;
	p[5] = (char)s->frg;
	p[6] = (char)w->window;
	p[7] = (char)(w->window >> 8);
	write32(p + 8, s->ts);
	write32(p + 12, s->sn);
	write32(p + 16, k->expected);
	write32(p + 20, size);
	if (size > 0) {
		memcpy(p + KCP_HEADER, s->data, size);
	}
	w->used += KCP_HEADER + size;
}

static void
write_acks(struct writer *w) {
	struct kcp *k = w->k;

	for (uint32_t i = 0; i < k->ack_count; i++) {
		struct segment s = {.sn = k->acks[i].sn, .ts = k->acks[i].ts};
		write_segment(w, KCP_ACK, &s, 0);
	}
	k->ack_count = 0;
}

/*---------------------------------------------------------------------- probes */

static void
plan_probe(struct kcp *k, uint32_t now) {
	if (k->remote_window > 0) {
		k->probe_wait = 0;
	} else if (k->probe_wait == 0) {
		k->probe_wait = PROBE_FIRST;
		k->probe_at = now + k->probe_wait;
	} else if (kcp_diff(now, k->probe_at) >= 0) {
		k->probe_wait += k->probe_wait / 2;
		k->probe_wait = k->probe_wait > PROBE_MAX ? PROBE_MAX : k->probe_wait;
		k->probe_at = now + k->probe_wait;
		k->must_ask = true;
	}
}

static void
write_probes(struct writer *w) {
	static const struct segment empty = {0};
	struct kcp *k = w->k;

	if (k->must_ask) {
		write_segment(w, KCP_ASK, &empty, 0);
	}
	if (k->must_tell) {
		write_segment(w, KCP_TELL, &empty, 0);
	}
	k->must_ask = false;
	k->must_tell = false;
}

/*------------------------------------------------------------------------ data */

static uint32_t
send_window(const struct kcp *k) {
	uint32_t n = k->config.send_window;

	n = k->remote_window < n ? k->remote_window : n;
	if (!k->config.no_congestion && k->cwnd < n) {
		n = k->cwnd;
	}
	return n;
}

/* Gives waiting segments their numbers, as many as the windows allow. */
static void
launch(struct kcp *k) {
	uint32_t window = send_window(k);

	while (k->waiting.first && k->next - k->una < window) {
		struct segment *s = kcp_queue_pop(&k->waiting);
		s->sn = k->next++;
		k->flight[s->sn & k->flight_mask] = s;
	}
}

enum reason { NOT_DUE, FIRST, OVERDUE, OVERTAKEN };

static enum reason
why_send(const struct kcp *k, const struct segment *s, uint32_t now) {
	if (s->transmissions == 0) {
		return FIRST;
	}
	if (kcp_diff(now, s->resend_at) >= 0) {
		return OVERDUE;
	}
	if (k->config.resend > 0 && s->passed >= k->config.resend &&
	    s->transmissions <= OVERTAKEN_LIMIT) {
		return OVERTAKEN;
	}
	return NOT_DUE;
}

static void
back_off(const struct kcp *k, struct segment *s) {
	switch (k->config.nodelay) {
	case 0:
		s->rto += s->rto > k->rto ? s->rto : k->rto;
		break;
	case 1:
		s->rto += s->rto / 2;
		break;
	default:
		s->rto += k->rto / 2;
		break;
	}
	s->rto = s->rto > KCP_RTO_MAX ? KCP_RTO_MAX : s->rto;
}

static void
transmit(struct writer *w, struct segment *s, enum reason reason, uint32_t now) {
	struct kcp *k = w->k;

	if (reason == FIRST) {
		/* Without nodelay a first try is given some more time. */
		s->rto = k->rto;
		s->resend_at = now + s->rto + (k->config.nodelay ? 0 : k->rto / 8);
	} else {
		k->retransmissions++;
		if (reason == OVERDUE) {
			back_off(k, s);
		}
		s->resend_at = now + s->rto;
	}
	s->passed = 0;
	s->ts = now;
	s->transmissions++;
	k->transmissions++;
	write_segment(w, KCP_DATA, s, s->size);
	if (s->transmissions >= k->config.dead_link) {
		k->is_dead = true;
	}
}

static void
shrink_window(struct kcp *k, bool was_lost) {
	uint32_t half = (was_lost ? k->cwnd : k->next - k->una) / 2;

	k->ssthresh = half < KCP_SSTHRESH_MIN ? KCP_SSTHRESH_MIN : half;
	k->cwnd = was_lost ? 1 : k->ssthresh + k->config.resend;
	k->cwnd_bytes = k->cwnd * k->mss;
}

static void
write_data(struct writer *w, uint32_t now) {
	struct kcp *k = w->k;
	bool is_lost = false;
	bool is_overtaken = false;

	for (uint32_t sn = k->una; sn != k->next; sn++) {
		struct segment *s = k->flight[sn & k->flight_mask];
		enum reason reason = s ? why_send(k, s, now) : NOT_DUE;
		if (reason != NOT_DUE) {
			transmit(w, s, reason, now);
			is_lost |= reason == OVERDUE;
			is_overtaken |= reason == OVERTAKEN;
		}
	}
	if (is_overtaken) {
		shrink_window(k, false);
	}
	if (is_lost) {
		shrink_window(k, true);
	}
}

void
kcp_flush(struct kcp *k, uint32_t now) {
	uint32_t window = kcp_free_window(k);
	struct writer w = {.k = k, .window = (uint16_t)(window > UINT16_MAX ? UINT16_MAX : window)};

	write_acks(&w);
	plan_probe(k, now);
	write_probes(&w);
	launch(k);
	write_data(&w, now);
	send_datagram(&w);
}

/*---------------------------------------------------------------------- waiting */

static bool
is_due(const struct kcp *k) {
	return k->ack_count > 0 || k->must_ask || k->must_tell ||
	       (k->waiting.first && k->next - k->una < send_window(k));
}

uint32_t
kcp_wait(const struct kcp *k, uint32_t now) {
	uint32_t wait = UINT32_MAX;

	if (is_due(k)) {
		return 0;
	}
	for (uint32_t sn = k->una; sn != k->next; sn++) {
		const struct segment *s = k->flight[sn & k->flight_mask];
		if (s == NULL) {
			continue;
		}
		if (why_send(k, s, now) != NOT_DUE) {
			return 0;
		}
		uint32_t left = s->resend_at - now;
		wait = left < wait ? left : wait;
	}
	if (k->remote_window == 0 && k->waiting.first) {
		uint32_t left = kcp_diff(k->probe_at, now) > 0 ? k->probe_at - now : 0;
		left = k->probe_wait == 0 ? 0 : left;
		wait = left < wait ? left : wait;
	}
	return wait;
}
