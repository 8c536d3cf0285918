/*
 * A storm of launches and deaths: servers are killed and replaced while clients
 * send them requests. Every request that was accepted is answered exactly once,
 * by the server or by the kernel.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "claims.h"

int t_storm_init(void *inst, struct skynet_context *ctx, const char *param);
void *t_storm_create(void);
void t_storm_release(void *inst);

#define SERVERS 16
#define CLIENTS 4
#define KILLERS 2
/* Requests of each client, of which some are on their way at a time. */
#define REQUESTS 5000
#define WINDOW 8
#define KILLS 500

struct client {
	unsigned seed;
	int sent;
	int open[REQUESTS + 1]; /* answers that a session still expects: 0 or 1 */
	int pending;
	int killed; /* killers only */
};

static _Atomic(uint32_t) servers[SERVERS];
static atomic_int live_instances;
static atomic_int answered, bounced, refused, unexpected;
static atomic_int done; /* clients and killers that are through */

/*------------------------------------------------------------------- servers */

static int
server_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
          const void *msg, size_t sz) {
	struct client *me = ud;
	(void)msg;
	if (type != PTYPE_CLIENT) {
		return 0;
	}
	skynet_send(ctx, 0, source, PTYPE_RESPONSE, session, DATA(msg), sz);
	/* Some noise between the servers, with data that changes hands. */
	uint32_t other = atomic_load(&servers[rand_r(&me->seed) % SERVERS]);
	char *data = skynet_malloc(100);
	memset(data, 0, 100);
	skynet_send(ctx, 0, other, PTYPE_TEXT | PTYPE_TAG_DONTCOPY, 0, data, 100);
	return 0;
}

static uint32_t
replace(struct skynet_context *ctx, int i) {
	return atomic_exchange(&servers[i], claims_launch(ctx, "t_storm server"));
}

/*------------------------------------------------------------------- killers */

static int
killer_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
          const void *msg, size_t sz) {
	struct client *me = ud;
	(void)type, (void)session, (void)source, (void)msg, (void)sz;
	if (me->killed == KILLS) {
		return 0;
	}
	char address[16];
	uint32_t old = replace(ctx, rand_r(&me->seed) % SERVERS);
	snprintf(address, sizeof(address), ":%x", old);
	skynet_command(ctx, "KILL", address);
	if (++me->killed == KILLS) {
		atomic_fetch_add(&done, 1);
	} else {
		skynet_command(ctx, "TIMEOUT", "0");
	}
	return 0;
}

/*------------------------------------------------------------------- clients */

static void
client_send(struct skynet_context *ctx, struct client *me) {
	while (me->pending < WINDOW && me->sent < REQUESTS) {
		uint32_t to = atomic_load(&servers[rand_r(&me->seed) % SERVERS]);
		int session = ++me->sent;
		me->open[session] = 1;
		me->pending++;
		if (skynet_send(ctx, 0, to, PTYPE_CLIENT, session, DATA("request"), 7) != session) {
			me->open[session] = 0;
			me->pending--;
			atomic_fetch_add(&refused, 1);
		}
	}
	if (me->pending == 0 && me->sent == REQUESTS) {
		me->sent++;
		atomic_fetch_add(&done, 1);
	}
}

static int
client_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
          const void *msg, size_t sz) {
	struct client *me = ud;
	(void)source, (void)msg;
	if (source != 0) {
		bool is_answer = type == PTYPE_RESPONSE && sz == 7;
		bool is_error = type == PTYPE_ERROR && sz == 0;
		if ((!is_answer && !is_error) || session <= 0 || session > REQUESTS ||
		    me->open[session]-- != 1) {
			atomic_fetch_add(&unexpected, 1);
			return 0;
		}
		me->pending--;
		atomic_fetch_add(is_answer ? &answered : &bounced, 1);
	}
	client_send(ctx, me);
	return 0;
}

/*-------------------------------------------------------------------- driver */

static bool
storm_begins(struct skynet_context *ctx) {
	for (int i = 0; i < SERVERS; i++) {
		replace(ctx, i);
	}
	for (int i = 0; i < CLIENTS; i++) {
		claims_launch(ctx, "t_storm client");
	}
	for (int i = 0; i < KILLERS; i++) {
		claims_launch(ctx, "t_storm killer");
	}
	return true;
}

static bool
every_request_is_answered_once(struct skynet_context *ctx) {
	if (atomic_load(&done) < CLIENTS + KILLERS) {
		return false;
	}
	CLAIM(ctx, atomic_load(&unexpected) == 0);
	CLAIM(ctx, atomic_load(&answered) > 0);
	CLAIM(ctx, atomic_load(&answered) + atomic_load(&bounced) + atomic_load(&refused) ==
	               CLIENTS * REQUESTS);
	return true;
}

/* The dead are released, each once; the driver has an instance as well. */
static bool
only_the_living_are_left(struct skynet_context *ctx) {
	int expected = SERVERS + CLIENTS + KILLERS + 1;
	if (atomic_load(&live_instances) > expected) {
		return false;
	}
	CLAIM(ctx, atomic_load(&live_instances) == expected);
	/* The log service is the one without an instance of ours. */
	CLAIM(ctx, skynet_context_total() == expected + 1);
	return true;
}

static const claims_step steps[] = {
    storm_begins,
    every_request_is_answered_once,
    only_the_living_are_left,
    NULL,
};

void *
t_storm_create(void) {
	struct client *me = skynet_calloc(1, sizeof(*me));
	me->seed = (unsigned)atomic_fetch_add(&live_instances, 1) * 7919u + 1;
	return me;
}

void
t_storm_release(void *inst) {
	atomic_fetch_sub(&live_instances, 1);
	skynet_free(inst);
}

int
t_storm_init(void *inst, struct skynet_context *ctx, const char *param) {
	if (strcmp(param, "server") == 0) {
		skynet_callback(ctx, inst, server_cb);
		return 0;
	}
	if (strcmp(param, "main") == 0) {
		return claims_init(ctx, steps);
	}
	skynet_callback(ctx, inst, strcmp(param, "client") == 0 ? client_cb : killer_cb);
	skynet_command(ctx, "TIMEOUT", "0");
	return 0;
}
