#include "skynet_notice.h"

#include <stdarg.h>
#include <stdio.h>

#include "skynet.h"

#define PERIOD 100 /* 1/100 s */
#define MAX_LINES 100
#define MAX_TEXT 512

bool
skynet_notice_begin(struct skynet_notice *n, unsigned *hidden) {
	uint64_t now = skynet_now();
	if (now - n->since >= PERIOD) {
		n->since = now;
		n->lines = 0;
	}
	if (n->lines >= MAX_LINES) {
		n->hidden++;
		return false;
	}
	n->lines++;
	*hidden = n->hidden;
	n->hidden = 0;
	return true;
}

void
skynet_notice(struct skynet_context *ctx, struct skynet_notice *n, const char *format, ...) {
	unsigned hidden;
	if (!skynet_notice_begin(n, &hidden)) {
		return;
	}
	char text[MAX_TEXT];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (hidden > 0) {
		skynet_error(ctx, "%s (and %u more of that kind before)", text, hidden);
	} else {
		skynet_error(ctx, "%s", text);
	}
}
