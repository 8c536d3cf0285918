/*
 * Segments and what kcp_arq.c, kcp_input.c and kcp_flush.c share. Private to them.
 */
#ifndef KCP_SEGMENT_H
#define KCP_SEGMENT_H

#include "kcp_arq.h"

enum kcp_command { KCP_DATA = 81, KCP_ACK = 82, KCP_ASK = 83, KCP_TELL = 84 };

#define KCP_RTO_START 200
#define KCP_RTO_MAX 60000
#define KCP_SSTHRESH_START 2
#define KCP_SSTHRESH_MIN 2
/* Datagrams of a peer with a larger mtu than ours are taken up to this. */
#define KCP_COMMON_MTU 1500

struct segment {
	struct segment *next; /* in a queue */
	uint32_t sn;
	uint32_t ts;
	uint32_t resend_at;
	uint32_t rto;
	uint32_t passed; /* later segments that were acknowledged */
	uint32_t transmissions;
	uint32_t size;
	uint8_t frg;
	char data[];
};

struct queue {
	struct segment *first;
	struct segment *last;
	uint32_t count;
};

struct ack {
	uint32_t sn;
	uint32_t ts;
};

struct kcp {
	struct kcp_config config; /* defaults filled in */
	kcp_output output;
	void *ud;
	uint32_t mss; /* data bytes of a segment */
	uint32_t min_rto;
	size_t send_bytes; /* in waiting and flight */

	/* Sending: waiting, then in flight from `una` up to `next`. */
	struct queue waiting;
	struct segment **flight; /* number sn at sn & flight_mask; NULL: acknowledged */
	uint32_t flight_mask;
	uint32_t una;
	uint32_t next;
	uint32_t remote_window;

	/* Receiving: arrived out of order from `expected` on, then ready. */
	struct segment **arrived;
	uint32_t arrived_mask;
	uint32_t expected;
	struct queue ready;

	struct ack *acks;
	uint32_t ack_count;
	uint32_t ack_room;

	/* Congestion control as in RFC 5681, counted in segments. */
	uint32_t cwnd;
	uint32_t ssthresh;
	uint32_t cwnd_bytes;

	/* Round trip as in RFC 6298. */
	uint32_t srtt;
	uint32_t rttvar;
	uint32_t rto;

	bool must_ask;
	bool must_tell;
	uint32_t probe_wait;
	uint32_t probe_at;
	bool is_dead;
	uint32_t transmissions;
	uint32_t retransmissions;
	char *datagram; /* being put together; mtu bytes */
};

/* Time and number comparisons that survive the wrap: a - b, signed. */
static inline int32_t
kcp_diff(uint32_t a, uint32_t b) {
	return (int32_t)(a - b);
}

/* Takes the segment, behind the others; gives the first one, or NULL. */
void kcp_queue_push(struct queue *q, struct segment *s);
struct segment *kcp_queue_pop(struct queue *q);

/* Moves what has arrived in order to `ready`, as far as the window allows. */
void kcp_make_ready(struct kcp *k);

/* Segments that can still be taken in. */
uint32_t kcp_free_window(const struct kcp *k);

#endif
