#include "dns_message.h"

#include <stdio.h>
#include <string.h>

// The smallest header and question: 12 bytes, the root, type and class.
#define MESSAGE_MIN 17
#define MESSAGE_MAX 65535

static void
lower(char *s) {
	for (; *s != '\0'; s++) {
		if (*s >= 'A' && *s <= 'Z') {
			*s = (char)(*s - 'A' + 'a');
		}
	}
}

static int
section_size(const struct dns_message *m, ns_sect section) {
	int n = ns_msg_count(m->handle, section);
	return n < DNS_RECORDS_MAX ? n : DNS_RECORDS_MAX;
}

static bool
read_question(struct dns_message *m) {
	ns_rr rr;
	if (ns_msg_count(m->handle, ns_s_qd) != 1 || ns_parserr(&m->handle, ns_s_qd, 0, &rr) != 0) {
		return false;
	}
	m->qtype = ns_rr_type(rr);
	m->qclass = ns_rr_class(rr);
	snprintf(m->qname, sizeof(m->qname), "%s", ns_rr_name(rr));
	lower(m->qname);
	return true;
}

bool
dns_message_read(struct dns_message *m, const uint8_t *data, size_t size) {
	if (size < MESSAGE_MIN || size > MESSAGE_MAX ||
	    ns_initparse(data, (int)size, &m->handle) != 0) {
		return false;
	}
	m->id = ns_msg_id(m->handle);
	m->is_response = ns_msg_getflag(m->handle, ns_f_qr) != 0;
	m->opcode = ns_msg_getflag(m->handle, ns_f_opcode);
	m->is_truncated = ns_msg_getflag(m->handle, ns_f_tc) != 0;
	m->rcode = ns_msg_getflag(m->handle, ns_f_rcode);
	return read_question(m);
}

int
dns_message_answers(const struct dns_message *m) {
	return section_size(m, ns_s_an);
}

static bool
read_ipv4(const uint8_t *p, int size, struct dns_record *r) {
	if (size != NS_INADDRSZ) {
		return false;
	}
	snprintf(r->data, sizeof(r->data), "%d.%d.%d.%d", p[0], p[1], p[2], p[3]);
	return true;
}

static bool
read_ipv6(const uint8_t *p, int size, struct dns_record *r) {
	if (size != NS_IN6ADDRSZ) {
		return false;
	}
	size_t n = 0;
	for (int i = 0; i < size; i += 2) {
		n += (size_t)snprintf(r->data + n, sizeof(r->data) - n, "%s%x", i > 0 ? ":" : "",
		                      p[i] << 8 | p[i + 1]);
	}
	return true;
}

// The name that is the whole of size bytes at p.
static bool
read_name(const struct dns_message *m, const uint8_t *p, int size, char *name) {
	int n = ns_name_uncompress(ns_msg_base(m->handle), ns_msg_end(m->handle), p, name, NS_MAXDNAME);
	lower(name);
	return n >= 0 && n == size;
}

// A time of the wire; with the first bit set it counts as 0 (RFC 2181 section 8).
static uint32_t
ttl_of(uint32_t ttl) {
	return ttl > INT32_MAX ? 0 : ttl;
}

bool
dns_message_answer(struct dns_message *m, int n, struct dns_record *r) {
	ns_rr rr;
	if (n < 0 || n >= dns_message_answers(m) || ns_parserr(&m->handle, ns_s_an, n, &rr) != 0) {
		return false;
	}
	r->type = DNS_OTHER;
	r->ttl = ttl_of(ns_rr_ttl(rr));
	r->data[0] = '\0';
	snprintf(r->name, sizeof(r->name), "%s", ns_rr_name(rr));
	lower(r->name);
	if (ns_rr_class(rr) != ns_c_in) {
		return true;
	}
	const uint8_t *p = ns_rr_rdata(rr);
	int size = ns_rr_rdlen(rr);
	switch ((int)ns_rr_type(rr)) {
	case DNS_A:
		r->type = DNS_A;
		return read_ipv4(p, size, r);
	case DNS_AAAA:
		r->type = DNS_AAAA;
		return read_ipv6(p, size, r);
	case DNS_CNAME:
		r->type = DNS_CNAME;
		return read_name(m, p, size, r->data);
	default:
		return true;
	}
}

int64_t
dns_message_negative_ttl(struct dns_message *m) {
	for (int i = 0; i < section_size(m, ns_s_ns); i++) {
		ns_rr rr;
		if (ns_parserr(&m->handle, ns_s_ns, i, &rr) != 0) {
			return -1;
		}
		// The last four bytes of an SOA are its MINIMUM; the first are two names.
		if (ns_rr_type(rr) == ns_t_soa && ns_rr_rdlen(rr) >= 5 * NS_INT32SZ) {
			uint32_t minimum = ns_get32(ns_rr_rdata(rr) + ns_rr_rdlen(rr) - NS_INT32SZ);
			uint32_t own = ttl_of(ns_rr_ttl(rr));
			return own < ttl_of(minimum) ? own : ttl_of(minimum);
		}
	}
	return -1;
}
