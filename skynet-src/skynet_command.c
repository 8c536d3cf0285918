/*
 * The text commands. Owns the address of the node's exit monitor; everything
 * else belongs to the caller's context or to other parts of the kernel.
 *
 * A result lives in the context until its next command. Commands run in the
 * caller's own callback.
 */
#include "skynet_command.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mailbox.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_env.h"
#include "skynet_handle.h"
#include "skynet_imp.h"
#include "skynet_log.h"
#include "skynet_server.h"
#include "skynet_start.h"
#include "skynet_timer.h"

#define BLANKS " \t\r\n"

/* Set by MONITOR, read by whoever exits. Relaxed: it is only a number. */
static _Atomic(uint32_t) exit_monitor;

/*------------------------------------------------------------------- results */

/* For texts of bounded length: they fit CONTEXT_RESULT_SIZE, which is checked. */
__attribute__((format(printf, 2, 3))) static const char *
result(struct skynet_context *ctx, const char *format, ...) {
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(ctx->result, sizeof(ctx->result), format, ap);
	va_end(ap);
	return n >= 0 && (size_t)n < sizeof(ctx->result) ? ctx->result : NULL;
}

/* A copy of a text of any length. */
static const char *
result_copy(struct skynet_context *ctx, const char *text) {
	size_t size = strlen(text) + 1;
	if (size <= sizeof(ctx->result)) {
		return memcpy(ctx->result, text, size);
	}
	skynet_free(ctx->long_result);
	ctx->long_result = skynet_malloc(size);
	return memcpy(ctx->long_result, text, size);
}

/*---------------------------------------------------------------- parameters */

/* The number behind a colon; 0 unless it is all hexadecimal and fits. */
static uint32_t
parse_hex(const char *text, size_t length) {
	uint64_t n = 0;
	for (size_t i = 0; i < length; i++) {
		const char *digits = "0123456789abcdef0123456789ABCDEF";
		const char *digit = strchr(digits, text[i]);
		n = n << 4 | (uint64_t)((digit == NULL ? 0 : digit - digits) & 15);
		if (digit == NULL || n > UINT32_MAX) {
			return 0;
		}
	}
	return (uint32_t)n;
}

static uint32_t
find_name(const char *name, size_t length) {
	char *copy = skynet_strndup(name, length);
	uint32_t handle = skynet_handle_findname(copy);
	skynet_free(copy);
	return handle;
}

/* The service that the first word of `param` names, or 0; bad words are logged. */
static uint32_t
parse_address(struct skynet_context *ctx, const char *param) {
	size_t length = strcspn(param, BLANKS);
	uint32_t handle = 0;
	if (param[0] == '.') {
		return find_name(param + 1, length - 1);
	}
	if (param[0] == ':') {
		handle = parse_hex(param + 1, length - 1);
	}
	if (handle == 0) {
		skynet_error(ctx, "error: Can't convert %s to handle", param);
	}
	return handle;
}

/* What follows the first word and the blanks behind it. */
static const char *
second_word(const char *param) {
	param += strcspn(param, BLANKS);
	return param + strspn(param, BLANKS);
}

/* Leading integer of a text, clamped. */
static int
parse_int(const char *text, int base) {
	long n = strtol(text, NULL, base);
	return n > INT_MAX ? INT_MAX : n < INT_MIN ? INT_MIN : (int)n;
}

/*------------------------------------------------------------ time and names */

static const char *
cmd_timeout(struct skynet_context *ctx, const char *param) {
	int session = skynet_context_newsession(ctx);
	skynet_timeout(ctx->mailbox.owner, parse_int(param, 10), session);
	return result(ctx, "%d", session);
}

static const char *
cmd_starttime(struct skynet_context *ctx, const char *param) {
	(void)param;
	return result(ctx, "%" PRIu32, skynet_starttime());
}

/* Give `handle` the name `.name`; the name without the dot, or NULL. */
static const char *
set_name(struct skynet_context *ctx, uint32_t handle, const char *name, size_t length) {
	char *copy = skynet_strndup(name + 1, length - 1);
	const char *text = NULL;
	if (skynet_handle_namehandle(handle, copy) != NULL) {
		text = result_copy(ctx, copy);
	}
	skynet_free(copy);
	return text;
}

static const char *
cmd_reg(struct skynet_context *ctx, const char *param) {
	if (param[0] == '\0') {
		return result(ctx, ":%" PRIx32, ctx->mailbox.owner);
	}
	if (param[0] != '.') {
		skynet_error(ctx, "error: Can't register global name %s in C", param);
		return NULL;
	}
	return set_name(ctx, ctx->mailbox.owner, param, strlen(param));
}

static const char *
cmd_query(struct skynet_context *ctx, const char *param) {
	uint32_t handle = param[0] == '.' ? skynet_handle_findname(param + 1) : 0;
	return handle == 0 ? NULL : result(ctx, ":%" PRIx32, handle);
}

static const char *
cmd_name(struct skynet_context *ctx, const char *param) {
	size_t length = strcspn(param, BLANKS);
	const char *address = second_word(param);
	if (address[0] != ':') {
		return NULL;
	}
	uint32_t handle = parse_hex(address + 1, strcspn(address + 1, BLANKS));
	if (handle == 0) {
		return NULL;
	}
	if (param[0] != '.') {
		skynet_error(ctx, "error: Can't set global name %.*s in C", (int)length, param);
		return NULL;
	}
	return set_name(ctx, handle, param, length);
}

/*------------------------------------------------------------ birth and death */

void
skynet_command_exit(struct skynet_context *ctx, uint32_t handle) {
	if (handle == 0) {
		handle = ctx->mailbox.owner;
		skynet_error(ctx, "KILL self");
	} else {
		skynet_error(ctx, "KILL :%0" PRIx32, handle);
	}
	uint32_t monitor = atomic_load_explicit(&exit_monitor, memory_order_relaxed);
	if (monitor != 0) {
		skynet_send(ctx, handle, monitor, PTYPE_CLIENT, 0, NULL, 0);
	}
	skynet_handle_retire(handle);
}

static const char *
cmd_exit(struct skynet_context *ctx, const char *param) {
	(void)param;
	skynet_command_exit(ctx, 0);
	return NULL;
}

static const char *
cmd_kill(struct skynet_context *ctx, const char *param) {
	uint32_t handle = parse_address(ctx, param);
	if (handle != 0) {
		skynet_command_exit(ctx, handle);
	}
	return NULL;
}

static const char *
cmd_launch(struct skynet_context *ctx, const char *param) {
	char *text = skynet_strdup(param);
	char *argument = text;
	/* One separator only: further blanks belong to the argument. */
	const char *module = strsep(&argument, BLANKS);
	if (argument != NULL) {
		argument[strcspn(argument, "\r\n")] = '\0';
	}
	uint32_t handle = skynet_context_new(module, argument);
	skynet_free(text);
	return handle == 0 ? NULL : result(ctx, ":%08" PRIX32, handle);
}

/* The parameter, beyond the contract, is the exit status of the process. */
static const char *
cmd_abort(struct skynet_context *ctx, const char *param) {
	(void)ctx;
	skynet_start_abort(parse_int(param, 10) & 0xff);
	return NULL;
}

static const char *
cmd_monitor(struct skynet_context *ctx, const char *param) {
	if (param[0] != '\0') {
		uint32_t monitor = parse_address(ctx, param);
		atomic_store_explicit(&exit_monitor, monitor, memory_order_relaxed);
		return NULL;
	}
	uint32_t monitor = atomic_load_explicit(&exit_monitor, memory_order_relaxed);
	return monitor == 0 ? NULL : result(ctx, ":%" PRIx32, monitor);
}

/*-------------------------------------------------------------- environment */

static const char *
cmd_getenv(struct skynet_context *ctx, const char *param) {
	(void)ctx;
	return skynet_getenv(param);
}

/* NULL when the entry was added, also when there is no value; `exist` when it was there. */
static const char *
cmd_setenv(struct skynet_context *ctx, const char *param) {
	const char *blank = strchr(param, ' ');
	if (blank == NULL) {
		return NULL;
	}
	char *key = skynet_strndup(param, (size_t)(blank - param));
	const char *text = NULL;
	if (skynet_env_add(key, blank + 1) != 0) {
		skynet_error(ctx, "error: Can't setenv exist key : %s", key);
		text = result(ctx, "exist");
	}
	skynet_free(key);
	return text;
}

/*--------------------------------------------------------------- inspection */

static const char *
result_seconds(struct skynet_context *ctx, uint64_t ns) {
	uint64_t us = ns / 1000;
	return result(ctx, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
}

static const char *
cmd_stat(struct skynet_context *ctx, const char *param) {
	if (strcmp(param, "mqlen") == 0) {
		return result(ctx, "%zu", context_queue_length(ctx));
	}
	if (strcmp(param, "endless") == 0) {
		return result(ctx, "%d", context_take_endless(ctx));
	}
	if (strcmp(param, "cpu") == 0) {
		return result_seconds(ctx, context_cpu_ns(ctx));
	}
	if (strcmp(param, "time") == 0) {
		return context_profiling() ? result_seconds(ctx, context_message_cpu_ns(ctx))
		                           : result(ctx, "0");
	}
	if (strcmp(param, "message") == 0) {
		/* Relaxed: a counter of our own, read by the one who counts. */
		return result(ctx, "%" PRIu64, atomic_load_explicit(&ctx->messages, memory_order_relaxed));
	}
	if (strcmp(param, "mqbytes") == 0) {
		return result(ctx, "%zu", mailbox_bytes(&ctx->mailbox));
	}
	if (strcmp(param, "mqmax") == 0) {
		return result(ctx, "%zu", mailbox_peak_length(&ctx->mailbox));
	}
	if (strcmp(param, "mqmaxbytes") == 0) {
		return result(ctx, "%zu", mailbox_peak_bytes(&ctx->mailbox));
	}
	return result(ctx, "%s", "");
}

/* The live service that `param` names, with a reference, or NULL. */
static struct skynet_context *
grab_address(struct skynet_context *ctx, const char *param) {
	uint32_t handle = parse_address(ctx, param);
	return handle == 0 ? NULL : skynet_handle_grab(handle);
}

static const char *
cmd_signal(struct skynet_context *ctx, const char *param) {
	struct skynet_context *target = grab_address(ctx, param);
	if (target != NULL) {
		context_signal(target, parse_int(second_word(param), 0));
		skynet_context_release(target);
	}
	return NULL;
}

static const char *
cmd_logon(struct skynet_context *ctx, const char *param) {
	struct skynet_context *target = grab_address(ctx, param);
	if (target != NULL) {
		skynet_log_on(&target->log, ctx, target->mailbox.owner);
		skynet_context_release(target);
	}
	return NULL;
}

static const char *
cmd_logoff(struct skynet_context *ctx, const char *param) {
	struct skynet_context *target = grab_address(ctx, param);
	if (target != NULL) {
		skynet_log_off(&target->log, ctx, target->mailbox.owner);
		skynet_context_release(target);
	}
	return NULL;
}

/*------------------------------------------------------------------ dispatch */

static const struct command {
	const char *name;
	const char *(*run)(struct skynet_context *ctx, const char *param);
	bool needs_param; /* without one the result is NULL */
} commands[] = {
    {"TIMEOUT", cmd_timeout, true},
    {"STAT", cmd_stat, true},
    {"REG", cmd_reg, false},
    {"QUERY", cmd_query, true},
    {"NAME", cmd_name, true},
    {"EXIT", cmd_exit, false},
    {"KILL", cmd_kill, true},
    {"LAUNCH", cmd_launch, true},
    {"GETENV", cmd_getenv, true},
    {"SETENV", cmd_setenv, true},
    {"STARTTIME", cmd_starttime, false},
    {"SIGNAL", cmd_signal, true},
    {"ABORT", cmd_abort, false},
    {"MONITOR", cmd_monitor, false},
    {"LOGON", cmd_logon, true},
    {"LOGOFF", cmd_logoff, true},
};

const char *
skynet_command(struct skynet_context *ctx, const char *cmd, const char *param) {
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *c = &commands[i];
		if (strcmp(c->name, cmd) == 0) {
			if (param == NULL && c->needs_param) {
				return NULL;
			}
			return c->run(ctx, param == NULL ? "" : param);
		}
	}
	return NULL;
}
