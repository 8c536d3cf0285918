// See netpack_address.h. Bits 16 to 47 are the address, the lower ones the port.
#include "netpack_address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t
address_to_brief(const char *text, size_t n) {
	char host[BRIEF_TEXT_SIZE], again[BRIEF_TEXT_SIZE];
	struct in_addr a;
	if (n >= sizeof(host)) {
		return -1;
	}
	memcpy(host, text, n);
	host[n] = '\0';
	char *colon = strchr(host, ':');
	if (colon == NULL) {
		return -1;
	}
	*colon = '\0';
	if (inet_pton(AF_INET, host, &a) != 1) {
		return -1;
	}
	int64_t brief = (int64_t)ntohl(a.s_addr) << 16 | (uint16_t)strtoul(colon + 1, NULL, 10);
	// Whatever else strtoul takes for a number does not come back as it was.
	return address_from_brief(brief, again) == n && memcmp(again, text, n) == 0 ? brief : -1;
}

size_t
address_from_brief(int64_t brief, char text[BRIEF_TEXT_SIZE]) {
	uint64_t b = (uint64_t)brief;
	return (size_t)snprintf(text, BRIEF_TEXT_SIZE, "%u.%u.%u.%u:%u", (unsigned)(b >> 40 & 0xff),
	                        (unsigned)(b >> 32 & 0xff), (unsigned)(b >> 24 & 0xff),
	                        (unsigned)(b >> 16 & 0xff), (unsigned)(b & 0xffff));
}
