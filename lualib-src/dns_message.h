// Answers of name servers, cut into fields (RFC 1035 section 4).
//
// Parsing is done by the system's resolver library (ns_initparse and friends, part of
// every libc we run on): it checks every length and guards against loops of compressed
// names. What else Debian has serves less well: c-ares 1.18 parses an answer into host
// entries without telling the question it answers, the chain of aliases or the SOA that
// says how long a failure may be kept; ldns is a DNSSEC library that allocates a tree per
// answer. Queries are a few fixed bytes and are made in Lua.
//
// Owns nothing; a message points into the caller's bytes, which must stay. Any thread.
#ifndef dns_message_h
#define dns_message_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Before resolv.h: in some systems it does not stand alone.
#include <sys/types.h>
#include <netinet/in.h>
#include <arpa/nameser.h>
#include <resolv.h>

// Of a section, no more records are looked at. Names of one record may take as many steps
// as the message has bytes, so this bounds the work for a hostile answer.
#define DNS_RECORDS_MAX 256

struct dns_message {
	ns_msg handle;
	int id;
	int opcode;
	int rcode;
	bool is_response;
	bool is_truncated;
	int qtype;
	int qclass;
	// Names are in lower case; unusual bytes are written as \DDD.
	char qname[NS_MAXDNAME];
};

enum dns_type {
	DNS_A = ns_t_a,
	DNS_CNAME = ns_t_cname,
	DNS_AAAA = ns_t_aaaa,
	// Any other: has no data.
	DNS_OTHER = 0,
};

struct dns_record {
	enum dns_type type;
	// Seconds.
	uint32_t ttl;
	char name[NS_MAXDNAME];
	// A: "1.2.3.4"; AAAA: eight groups of hexadecimal digits; CNAME: a name.
	char data[NS_MAXDNAME];
};

// Reads header and question. False: it is no message with one question.
bool dns_message_read(struct dns_message *m, const uint8_t *data, size_t size);
// Number of answers to look at.
int dns_message_answers(const struct dns_message *m);
// Reads answer n. False: it is malformed, or n is out of range.
bool dns_message_answer(struct dns_message *m, int n, struct dns_record *r);
// Seconds that a negative answer may be kept (RFC 2308 section 5), or -1 if it does not say.
int64_t dns_message_negative_ttl(struct dns_message *m);

#endif
