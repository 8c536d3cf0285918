// Addresses: the blob that services see, the system's forms, and their texts.
// Pure functions, any thread.
#include "socket_impl.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>

#include "skynet_malloc.h"

#define SIZE_V4 7
#define SIZE_V6 19

int
address_size(const struct socket_udp_address *a) {
	switch (a->byte[0]) {
	case ADDRESS_V4:
		return SIZE_V4;
	case ADDRESS_V6:
		return SIZE_V6;
	default:
		return 0;
	}
}

void
address_from_sockaddr(struct socket_udp_address *a, const struct sockaddr *sa) {
	memset(a, 0, sizeof(*a));
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)sa;
		a->byte[0] = ADDRESS_V4;
		memcpy(a->byte + 1, &v4->sin_port, 2);
		memcpy(a->byte + 3, &v4->sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)sa;
		a->byte[0] = ADDRESS_V6;
		memcpy(a->byte + 1, &v6->sin6_port, 2);
		memcpy(a->byte + 3, &v6->sin6_addr, 16);
	}
}

socklen_t
address_to_sockaddr(const struct socket_udp_address *a, union socket_addr *out) {
	memset(out, 0, sizeof(*out));
	switch (a->byte[0]) {
	case ADDRESS_V4:
		out->v4.sin_family = AF_INET;
		memcpy(&out->v4.sin_port, a->byte + 1, 2);
		memcpy(&out->v4.sin_addr, a->byte + 3, 4);
		return sizeof(out->v4);
	case ADDRESS_V6:
		out->v6.sin6_family = AF_INET6;
		memcpy(&out->v6.sin6_port, a->byte + 1, 2);
		memcpy(&out->v6.sin6_addr, a->byte + 3, 16);
		return sizeof(out->v6);
	default:
		return 0;
	}
}

int
address_port(const struct socket_udp_address *a) {
	return a->byte[1] << 8 | a->byte[2];
}

// Every accepted connection has its address written out, and printf is dear. Gives the
// end of the text.
static char *
put_number(char *p, unsigned n) {
	char digits[16];
	int count = 0;
	do {
		digits[count++] = (char)('0' + n % 10);
		n /= 10;
	} while (n > 0);
	while (count > 0) {
		*p++ = digits[--count];
	}
	*p = '\0';
	return p;
}

void
address_ip_text(const struct socket_udp_address *a, char *text) {
	text[0] = '\0';
	if (a->byte[0] == ADDRESS_V4) {
		for (int i = 0; i < 4; i++) {
			if (i > 0) {
				*text++ = '.';
			}
			text = put_number(text, a->byte[3 + i]);
		}
	} else if (address_size(a) > 0) {
		inet_ntop(AF_INET6, a->byte + 3, text, ADDRESS_TEXT_SIZE);
	}
}

void
address_text(const struct socket_udp_address *a, char *text) {
	address_ip_text(a, text);
	if (text[0] != '\0') {
		text += strlen(text);
		*text++ = ':';
		put_number(text, (unsigned)address_port(a));
	}
}

bool
address_of_socket(int fd, struct socket_udp_address *a) {
	union socket_addr sa;
	socklen_t len = sizeof(sa);
	if (getsockname(fd, &sa.any, &len) != 0) {
		return false;
	}
	address_from_sockaddr(a, &sa.any);
	return true;
}

socklen_t
address_len(const union socket_addr *a) {
	return a->any.sa_family == AF_INET ? sizeof(a->v4) : sizeof(a->v6);
}

static bool
is_internet(const struct addrinfo *ai) {
	return ai->ai_family == AF_INET || ai->ai_family == AF_INET6;
}

struct address_list *
address_list_from(struct addrinfo *ai, int port) {
	int n = 0;
	for (struct addrinfo *p = ai; p != NULL; p = p->ai_next) {
		n += is_internet(p);
	}
	struct address_list *list = NULL;
	if (n > 0) {
		list = skynet_calloc(1, sizeof(*list) + (size_t)n * sizeof(list->addr[0]));
		for (struct addrinfo *p = ai; p != NULL; p = p->ai_next) {
			if (!is_internet(p)) {
				continue;
			}
			union socket_addr *a = &list->addr[list->n++];
			memcpy(a, p->ai_addr, p->ai_addrlen);
			if (a->any.sa_family == AF_INET) {
				a->v4.sin_port = htons((uint16_t)port);
			} else {
				a->v6.sin6_port = htons((uint16_t)port);
			}
		}
	}
	freeaddrinfo(ai);
	return list;
}

static bool
is_listed(const char *texts, const char *end, const char *text, size_t n) {
	for (const char *p = texts; p < end; p += strcspn(p, text + n) + 1) {
		if (strncmp(p, text, n + 1) == 0) {
			return true;
		}
	}
	return false;
}

char *
address_list_texts(const struct address_list *list, char separator) {
	char *texts = skynet_calloc((size_t)list->n + 1, ADDRESS_TEXT_SIZE);
	char *end = texts;
	for (int i = 0; i < list->n; i++) {
		struct socket_udp_address a;
		char text[ADDRESS_TEXT_SIZE];
		address_from_sockaddr(&a, &list->addr[i].any);
		address_ip_text(&a, text);
		size_t n = strlen(text);
		text[n] = separator;
		text[n + 1] = '\0';
		if (!is_listed(texts, end, text, n)) {
			memcpy(end, text, n + 1);
			end += n + 1;
		}
	}
	return texts;
}

struct address_list *
address_list_numeric(const char *host, int port, int socktype) {
	struct addrinfo hints;
	struct addrinfo *ai = NULL;
	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = socktype;
	hints.ai_flags = AI_NUMERICHOST;
	if (getaddrinfo(host, NULL, &hints, &ai) != 0) {
		return NULL;
	}
	return address_list_from(ai, port);
}
