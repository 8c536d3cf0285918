/* Claims about the C API: logging, addresses, memory, sending. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "claims.h"
#include "malloc_hook.h"
#include "skynet_context.h"
#include "t_probe.h"

int t_capi_init(void *inst, struct skynet_context *ctx, const char *param);

static uint32_t probe_handle;

static void *
foreign_thread(void *ctx) {
	skynet_error(ctx, "from a foreign thread");
	return NULL;
}

static bool
logging(struct skynet_context *ctx) {
	skynet_error(ctx, "%*s", 3, "abcdef");
	skynet_error(ctx, "x%*sx", 6, "abc");
	skynet_error(ctx, "%*s", 5, "nu\0ll");
	skynet_error(ctx, "%s", "100%d %s");
	skynet_error(NULL, "from the kernel");
	char *big = malloc(100001);
	memset(big, 'b', 100000);
	big[100000] = '\0';
	skynet_error(ctx, "big %s", big);
	free(big);
	pthread_t thread;
	if (CLAIM(ctx, pthread_create(&thread, NULL, foreign_thread, ctx) == 0)) {
		pthread_join(thread, NULL);
	}
	return true;
}

static bool
addresses(struct skynet_context *ctx) {
	int harbor = -1;
	CLAIM(ctx, !skynet_isremote(ctx, 1, &harbor) && harbor == 0);
	CLAIM(ctx, skynet_isremote(ctx, 0x02000001, &harbor) && harbor == 2);
	CLAIM(ctx, !skynet_isremote(ctx, skynet_context_handle(ctx), NULL));
	CLAIM(ctx, skynet_queryname(ctx, ":ff") == 255);
	CLAIM(ctx, skynet_queryname(ctx, ".logger") == 1);
	CLAIM(ctx, skynet_queryname(ctx, ".nobody") == 0);
	CLAIM(ctx, skynet_queryname(ctx, "everybody") == 0);
	CLAIM(ctx, skynet_current_handle() == skynet_context_handle(ctx));
	return true;
}

static bool
memory(struct skynet_context *ctx) {
	size_t before = malloc_current_memory();
	skynet_free(strdup("made by the C library"));
	char *p = skynet_malloc(16);
	memset(p, 1, 16);
#undef free
	free(p);
	unsigned char *zero = skynet_calloc(3, 7);
	unsigned sum = 0;
	for (int i = 0; i < 21; i++) {
		sum += zero[i];
	}
	skynet_free(zero);
	void *aligned = skynet_aligned_alloc(4096, 8192);
	bool is_aligned = (uintptr_t)aligned % 4096 == 0;
	skynet_free(aligned);
	size_t after = malloc_current_memory();
	CLAIM(ctx, sum == 0);
	CLAIM(ctx, is_aligned);
	/* Less, if the log service has freed lines of ours meanwhile. */
	CLAIM(ctx, after <= before);
	return true;
}

static char *kept_block;

static bool
memory_is_told_on_stderr(struct skynet_context *ctx) {
	size_t before = malloc_current_memory();
	kept_block = skynet_malloc(1 << 20);
	CLAIM(ctx, kept_block != NULL);
	fprintf(stderr, "before %zu\n", before);
	skynet_debug_memory("with a block");
	skynet_free(kept_block);
	return true;
}

static bool
refused_sends(struct skynet_context *ctx) {
	uint32_t self = skynet_context_handle(ctx);
	size_t limit = (size_t)1 << 56;
	char byte = 0;
	CLAIM(ctx, skynet_send(ctx, 0, self, PTYPE_CLIENT, 0, &byte, limit) == -2);
	CLAIM(ctx, skynet_sendname(ctx, 0, ".logger", PTYPE_CLIENT, 0, &byte, limit) == -2);
	CLAIM(ctx, skynet_send(ctx, 0, 0xffff, PTYPE_CLIENT, 5, DATA("x"), 1) == -1);
	CLAIM(ctx, skynet_sendname(ctx, 0, ".nobody", PTYPE_CLIENT, 5, DATA("x"), 1) == -1);
	CLAIM(ctx, skynet_send(ctx, 0, self, 0x103, 0, DATA("x"), 1) == -1);
	CLAIM(ctx, skynet_send(ctx, 0, self, PTYPE_CLIENT, -1, DATA("x"), 1) == -1);
	CLAIM(ctx, skynet_send(ctx, 0, 0, PTYPE_CLIENT, 5, DATA("x"), 1) == -1);
	CLAIM(ctx, skynet_send(ctx, 0, 0, PTYPE_CLIENT, 5, NULL, 0) == 5);
	CLAIM(ctx, skynet_sendname(ctx, 0, ":0", PTYPE_CLIENT, 5, DATA("x"), 1) == -1);
	int type = PTYPE_CLIENT | PTYPE_TAG_ALLOCSESSION;
	CLAIM(ctx, skynet_send(ctx, 0, self, type, 7, DATA("x"), 1) == -1);
	/* Nobody speaks for other nodes here. */
	CLAIM(ctx, skynet_send(ctx, 0, 0x05000001, PTYPE_CLIENT, 5, DATA("x"), 1) == -1);
	CLAIM(ctx, skynet_sendname(ctx, 0, "GLOBAL", PTYPE_CLIENT, 5, DATA("x"), 1) == -1);
	return true;
}

/* The kernel takes the data also when it refuses it. */
static bool
refused_data_is_freed(struct skynet_context *ctx) {
	const int type = PTYPE_CLIENT | PTYPE_TAG_DONTCOPY;
	size_t before = malloc_current_memory();
	for (int i = 0; i < 100000; i++) {
		skynet_send(ctx, 0, 0xffff, type, 0, skynet_malloc(100), 100);
		skynet_sendname(ctx, 0, ".nobody", type, 0, skynet_malloc(100), 100);
	}
	/* Less, if the log service has freed lines of ours meanwhile. */
	size_t after = malloc_current_memory();
	CLAIM(ctx, after <= before);
	skynet_send(ctx, 0, 0xffff, type, 0, skynet_malloc(100), (size_t)1 << 56);
	return true;
}

static bool
sessions(struct skynet_context *ctx) {
	int first = skynet_context_newsession(ctx);
	int type = PTYPE_CLIENT | PTYPE_TAG_ALLOCSESSION;
	CLAIM(ctx, skynet_send(ctx, 0, 0, type, 0, NULL, 0) == first + 1);
	/* Used up although nobody got the message; not so for an unknown name. */
	CLAIM(ctx, skynet_send(ctx, 0, 0xffff, type, 0, DATA("x"), 1) == -1);
	CLAIM(ctx, skynet_sendname(ctx, 0, ".nobody", type, 0, DATA("x"), 1) == -1);
	CLAIM(ctx, skynet_context_newsession(ctx) == first + 3);
	context_set_session(ctx, 0x7fffffff);
	CLAIM(ctx, skynet_context_newsession(ctx) == 1);
	return true;
}

static bool
send_to_probe(struct skynet_context *ctx) {
	probe_handle = claims_launch(ctx, "t_probe x");
	CLAIM(ctx, skynet_send(ctx, 0, probe_handle, PTYPE_CLIENT, 9, DATA(""), 0) == 9);
	return true;
}

static bool
empty_message_has_a_terminator(struct skynet_context *ctx) {
	struct probe_notes *probe = probe_notes();
	if (probe->messages == 0) {
		return false;
	}
	CLAIM(ctx, !probe->is_null && probe->size == 0 && probe->first == 0);
	CLAIM(ctx, probe->type == PTYPE_CLIENT && probe->session == 9);
	CLAIM(ctx, probe->source == skynet_context_handle(ctx));
	claims.event_count = 0;
	skynet_sendname(ctx, 0, ":2", PTYPE_TEXT, 0, DATA("to myself"), 9);
	CLAIM(ctx, skynet_send(ctx, 0, probe_handle, PTYPE_TEXT, 3, DATA("echo"), 4) == 3);
	return true;
}

static bool
answers(struct skynet_context *ctx) {
	if (claims.event_count < 2) {
		return false;
	}
	CLAIM_TEXT(ctx, claims.event[0].text, "to myself");
	CLAIM(ctx, claims.event[1].type == PTYPE_RESPONSE && claims.event[1].session == 3);
	CLAIM(ctx, claims.event[1].source == probe_handle);
	CLAIM_TEXT(ctx, claims.event[1].text, "echo");
	return true;
}

static bool
ask_to_keep(struct skynet_context *ctx) {
	skynet_send(ctx, 0, probe_handle, PTYPE_TEXT, 0, DATA("keep"), 4);
	return true;
}

/* A callback that returns 1 has taken the message. */
static bool
kept_message_is_readable(struct skynet_context *ctx) {
	char *kept = probe_notes()->kept;
	if (kept == NULL) {
		return false;
	}
	CLAIM_TEXT(ctx, kept, "keep");
	skynet_free(kept);
	return true;
}

int
t_capi_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst;
	static const claims_step told[] = {memory_is_told_on_stderr, NULL};
	static const claims_step steps[] = {
	    logging,
	    addresses,
	    memory,
	    refused_sends,
	    refused_data_is_freed,
	    sessions,
	    send_to_probe,
	    empty_message_has_a_terminator,
	    answers,
	    ask_to_keep,
	    kept_message_is_readable,
	    NULL,
	};
	return claims_init(ctx, param != NULL && strcmp(param, "told") == 0 ? told : steps);
}
