/*
 * KCP: reliable messages in order over datagrams, faster than TCP to repair a
 * loss. One `struct kcp` is one end of a conversation.
 *
 * Owns what waits to be sent, what is not acknowledged and what was received.
 * Bounded: the windows limit what the peer can make us keep, `send_limit` what
 * our side can pile up. Pure: knows no socket and no clock; one thread at a time.
 * Times are milliseconds of any 32-bit clock that wraps. Memory comes from
 * skynet_malloc, which does not fail.
 *
 * Wire format, as the protocol's public description has it; all numbers little
 * endian, one or more segments a datagram:
 *
 *      0      conv  4 | the conversation, the same at both ends
 *      4      cmd   1 | 81 data, 82 acknowledge, 83 ask for window, 84 tell window
 *      5      frg   1 | fragments of the message that follow this one
 *      6      wnd   2 | segments that the sender can still take in
 *      8      ts    4 | the sender's time; an acknowledgement returns it
 *     12      sn    4 | number of the segment
 *     16      una   4 | all segments before this one have arrived
 *     20      len   4 | bytes that follow
 *
 * Written here since no distribution packages the original library, whose one
 * copy within reach is several years old, inside a binding for another runtime.
 */
#ifndef KCP_ARQ_H
#define KCP_ARQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KCP_HEADER 24
#define KCP_MTU_MIN 64
#define KCP_MTU_MAX 65507 /* the largest UDP payload */
#define KCP_WINDOW_MAX 32768
#define KCP_INTERVAL_MIN 10
#define KCP_INTERVAL_MAX 5000

/* Zeros select the defaults in brackets. */
struct kcp_config {
	uint32_t conv;
	uint32_t mtu;            /* [1400] bytes of a datagram, header included */
	uint32_t send_window;    /* [128] segments in flight */
	uint32_t receive_window; /* [128] segments received and not yet taken */
	uint32_t interval;       /* [10] ms between two looks at the queues */
	uint32_t resend;         /* [0 = off] resend when so many later ones arrived */
	uint32_t dead_link;      /* [20] transmissions of one segment until giving up */
	size_t send_limit;       /* [1 MiB] bytes queued and unacknowledged */
	int nodelay;             /* 0 to 2: how fast waiting times grow (2.0, 1.5, 1.5) */
	bool no_congestion;      /* send as fast as the peer's window allows */
	bool stream;             /* bytes instead of messages: small ones are joined */
};

enum kcp_result {
	KCP_OK = 0,
	KCP_TOO_LARGE = -1, /* the message needs more segments than a window has */
	KCP_FULL = -2,      /* send_limit: the peer does not keep up */
	KCP_FOREIGN = -3,   /* a datagram of another conversation */
	KCP_MALFORMED = -4, /* lengths or numbers that make no sense */
};

struct kcp;

/* Sends one datagram; lent for the call. Must not call into the same kcp. */
typedef void (*kcp_output)(void *ud, const char *data, size_t size);

/* NULL when a number of the config is out of range. */
struct kcp *kcp_new(const struct kcp_config *config, kcp_output output, void *ud);
void kcp_free(struct kcp *k);

/* Queues a message (copied); it leaves with the next flush. Not empty. */
enum kcp_result kcp_send(struct kcp *k, const char *data, size_t size);
/* Takes in a datagram; what was sound before a malformed segment counts. */
enum kcp_result kcp_input(struct kcp *k, uint32_t now, const char *data, size_t size);

/* Size of the next complete message, or -1. A segment's worth with `stream`. */
ptrdiff_t kcp_peek(const struct kcp *k);
/* Copies the next message, for which there must be room; its size, or -1. */
ptrdiff_t kcp_copy(const struct kcp *k, char *out);
/* Drops the next message, if there is one. */
void kcp_drop(struct kcp *k);
/* Both. */
ptrdiff_t kcp_receive(struct kcp *k, char *out);

/* Sends what is due: acknowledgements, probes, new and lost segments. */
void kcp_flush(struct kcp *k, uint32_t now);
/* ms from now until kcp_flush has something to do; 0 = now, UINT32_MAX = not
 * before the next kcp_send or kcp_input. */
uint32_t kcp_wait(const struct kcp *k, uint32_t now);

/* Asks the peer for a sign of life with the next flush. */
void kcp_probe(struct kcp *k);
/* Whether some segment was transmitted dead_link times in vain. */
bool kcp_is_dead(const struct kcp *k);

struct kcp_stats {
	size_t send_bytes;       /* queued and unacknowledged */
	uint32_t send_segments;  /* the same */
	uint32_t ready_segments; /* received, not taken */
	uint32_t srtt;           /* smoothed round trip, ms; 0 = not measured yet */
	uint32_t rto;            /* ms */
	uint32_t transmissions;  /* of all segments */
	uint32_t retransmissions;
};

/* Writes them to `out`. */
void kcp_stats(const struct kcp *k, struct kcp_stats *out);

#endif
