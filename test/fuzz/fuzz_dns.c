/*
 * Fuzzer of dns_message: any bytes are a message or not. The bytes end at a page that
 * cannot be touched, since the parser is in a library without checks of its own.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dns_message.h"

#define AREA (1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *
guarded_area(void) {
	static uint8_t *area;
	if (area == NULL) {
		size_t page = (size_t)sysconf(_SC_PAGESIZE);
		area = mmap(NULL, AREA + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (area == MAP_FAILED || mprotect(area + AREA, page, PROT_NONE) != 0) {
			abort();
		}
	}
	return area;
}

static void
check_text(const char *text) {
	if (memchr(text, '\0', NS_MAXDNAME) == NULL) {
		abort();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size > AREA) {
		return 0;
	}
	uint8_t *p = guarded_area() + AREA - size;
	memcpy(p, data, size);
	struct dns_message m;
	if (!dns_message_read(&m, p, size)) {
		return 0;
	}
	check_text(m.qname);
	struct dns_record r;
	for (int i = 0; i < dns_message_answers(&m) && dns_message_answer(&m, i, &r); i++) {
		check_text(r.name);
		check_text(r.data);
	}
	dns_message_negative_ttl(&m);
	return 0;
}
