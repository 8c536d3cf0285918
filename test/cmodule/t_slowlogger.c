/* Writes `TIME TEXT` per line into the file named by its parameter. */
#include "t_slowlogger.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "skynet.h"
#include "skynet_server.h"

struct slowlogger_notes slowlogger;

int t_slowlogger_init(void *inst, struct skynet_context *ctx, const char *param);

static int
slowlogger_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
              const void *msg, size_t sz) {
	(void)session, (void)source;
	FILE *f = ud;
	if (type != PTYPE_TEXT) {
		return 0;
	}
	if (sz == 5 && memcmp(msg, "block", 5) == 0) {
		atomic_store(&slowlogger.waiting, true);
		while (!atomic_load(&slowlogger.gate)) {
			usleep(1000);
		}
	}
	fprintf(f, "%llu ", (unsigned long long)skynet_context_message_time(ctx));
	fwrite(msg, 1, sz, f);
	fputc('\n', f);
	fflush(f);
	atomic_fetch_add(&slowlogger.seen, 1);
	return 0;
}

int
t_slowlogger_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst;
	FILE *f = fopen(param, "w");
	skynet_callback(ctx, f, slowlogger_cb);
	return f == NULL;
}
