/*
 * Datagrams of a peer into a KCP conversation that has data in flight itself. The
 * input is cut into datagrams: two bytes of length, then that much, again and
 * again; what is complete is taken out in between, as a service would.
 */
#include "kcp/kcp_arq.h"

#include "skynet_malloc.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
output(void *ud, const char *data, size_t size) {
	(void)data;
	if (size > *(size_t *)ud) {
		abort(); /* beyond the mtu */
	}
}

static void
take_all(struct kcp *k) {
	ptrdiff_t n;

	while ((n = kcp_peek(k)) >= 0) {
		char *message = malloc((size_t)n + 1);
		if (kcp_receive(k, message) != n) {
			abort();
		}
		free(message);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct kcp_config config = {
	    .conv = 7, .mtu = 300, .send_window = 8, .receive_window = 8, .resend = 2, .nodelay = 1};
	size_t mtu = config.mtu;
	struct kcp *k = kcp_new(&config, output, &mtu);
	static const char text[1000] = "in flight";
	uint32_t now = 0;

	kcp_send(k, text, sizeof(text));
	kcp_flush(k, now);
	while (size >= 2) {
		size_t n = (size_t)data[0] << 8 | data[1];
		data += 2;
		size -= 2;
		n = n < size ? n : size;
		kcp_input(k, now, (const char *)data, n);
		data += n;
		size -= n;
		if (now % 3 != 0) {
			take_all(k);
		}
		now += 97;
		kcp_flush(k, now);
		kcp_wait(k, now);
	}
	kcp_free(k);
	return 0;
}
