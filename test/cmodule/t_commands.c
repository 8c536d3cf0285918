/* Claims about the text commands. Runs as the bootstrap service, handle 2. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "claims.h"
#include "skynet_timer.h"
#include "t_probe.h"

#define LONG_NAME "a_name_that_does_not_fit_the_thirty_two_bytes_of_the_result"

int t_commands_init(void *inst, struct skynet_context *ctx, const char *param);

static uint32_t victim; /* a probe with a callback */

static const char *
run(struct skynet_context *ctx, const char *cmd, const char *param) {
	return skynet_command(ctx, cmd, param);
}

static int
stat_number(struct skynet_context *ctx, const char *item) {
	return atoi(run(ctx, "STAT", item));
}

static bool
names(struct skynet_context *ctx) {
	CLAIM_TEXT(ctx, run(ctx, "REG", NULL), ":2");
	CLAIM_TEXT(ctx, run(ctx, "REG", ""), ":2");
	CLAIM_TEXT(ctx, run(ctx, "reg", NULL), NULL);
	CLAIM_TEXT(ctx, run(ctx, "REG", ".abc"), "abc");
	CLAIM_TEXT(ctx, run(ctx, "REG", ".abc"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "QUERY", ".abc"), ":2");
	CLAIM_TEXT(ctx, run(ctx, "QUERY", ".logger"), ":1");
	CLAIM_TEXT(ctx, run(ctx, "QUERY", ".unknown"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "QUERY", "abc"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "QUERY", ":1"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "QUERY", NULL), NULL);
	CLAIM_TEXT(ctx, run(ctx, "REG", "global"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "REG", "."), NULL);
	CLAIM_TEXT(ctx, run(ctx, "REG", "." LONG_NAME), LONG_NAME);
	CLAIM_TEXT(ctx, run(ctx, "QUERY", "." LONG_NAME), ":2");
	return true;
}

static bool
naming_others(struct skynet_context *ctx) {
	CLAIM_TEXT(ctx, run(ctx, "NAME", ".n2 :2"), "n2");
	CLAIM_TEXT(ctx, run(ctx, "NAME", ".n2 :2"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "QUERY", ".n2"), ":2");
	CLAIM_TEXT(ctx, run(ctx, "NAME", ".n3"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "NAME", ".n3 "), NULL);
	CLAIM_TEXT(ctx, run(ctx, "NAME", ".n3 2"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "NAME", ".n3 :0"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "NAME", ".n3 :xyz"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "NAME", "galaxy :2"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "NAME", NULL), NULL);
	/* A name must not outlive its service, nor precede it. */
	CLAIM_TEXT(ctx, run(ctx, "NAME", ".dead :ffff"), NULL);
	return true;
}

static bool
timers(struct skynet_context *ctx) {
	int before = stat_number(ctx, "mqlen");
	int session = atoi(run(ctx, "TIMEOUT", "0"));
	CLAIM(ctx, session > 0);
	CLAIM(ctx, stat_number(ctx, "mqlen") == before + 1);
	CLAIM(ctx, atoi(run(ctx, "TIMEOUT", "-5")) == session + 1);
	CLAIM(ctx, stat_number(ctx, "mqlen") == before + 2);
	CLAIM(ctx, atoi(run(ctx, "TIMEOUT", "abc")) == session + 2);
	CLAIM(ctx, stat_number(ctx, "mqlen") == before + 3);
	CLAIM(ctx, atoi(run(ctx, "TIMEOUT", "1000000")) == session + 3);
	CLAIM(ctx, stat_number(ctx, "mqlen") == before + 3);
	/* Beyond 32 bits: as late as can be, however long the clock went unheeded. */
	for (uint64_t start = skynet_now(); skynet_now() < start + 3;) {
	}
	CLAIM(ctx, atoi(run(ctx, "TIMEOUT", "4294967297")) == session + 4);
	CLAIM(ctx, stat_number(ctx, "mqlen") == before + 3);
	CLAIM_TEXT(ctx, run(ctx, "TIMEOUT", NULL), NULL);
	claims.event_count = 0;
	return true;
}

/* The timer thread has looked at its wheels in between. */
static bool
tick_passes(struct skynet_context *ctx) {
	(void)ctx;
	return claims.waited > 0;
}

static bool
timers_arrive_in_order(struct skynet_context *ctx) {
	CLAIM(ctx, claims.event_count == 3);
	CLAIM(ctx, claims.event[0].type == PTYPE_RESPONSE && claims.event[0].source == 0);
	CLAIM(ctx, claims.event[0].msg == NULL && claims.event[0].sz == 0);
	CLAIM(ctx, claims.event[1].session == claims.event[0].session + 1);
	CLAIM(ctx, claims.event[2].session == claims.event[0].session + 2);
	return true;
}

static bool
environment(struct skynet_context *ctx) {
	CLAIM_TEXT(ctx, run(ctx, "SETENV", "k v w"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "GETENV", "k"), "v w");
	CLAIM_TEXT(ctx, run(ctx, "SETENV", "k other"), "exist");
	CLAIM_TEXT(ctx, run(ctx, "GETENV", "k"), "v w");
	CLAIM_TEXT(ctx, run(ctx, "SETENV", "k2 "), NULL);
	CLAIM_TEXT(ctx, run(ctx, "GETENV", "k2"), "");
	CLAIM_TEXT(ctx, run(ctx, "SETENV", "k3"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "GETENV", "k3"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "SETENV", NULL), NULL);
	CLAIM_TEXT(ctx, run(ctx, "GETENV", NULL), NULL);
	/* Defaults of absent keys are visible, those of snlua are not. */
	CLAIM_TEXT(ctx, run(ctx, "GETENV", "logservice"), "logger");
	CLAIM_TEXT(ctx, run(ctx, "GETENV", "profile"), "true");
	CLAIM_TEXT(ctx, run(ctx, "GETENV", "daemon"), NULL);
	char seconds[16];
	snprintf(seconds, sizeof(seconds), "%u", skynet_starttime());
	CLAIM_TEXT(ctx, run(ctx, "STARTTIME", NULL), seconds);
	return true;
}

static bool
launching(struct skynet_context *ctx) {
	const char *address = run(ctx, "LAUNCH", "t_probe");
	CLAIM(ctx, address != NULL && strlen(address) == 9 && address[0] == ':');
	struct probe_notes *probe = probe_notes();
	CLAIM(ctx, probe->param_is_null);
	CLAIM(ctx, claims_launch(ctx, "t_probe ") != 0 && !probe->param_is_null);
	CLAIM_TEXT(ctx, probe->param, "");
	CLAIM(ctx, claims_launch(ctx, "t_probe  a b") != 0);
	CLAIM_TEXT(ctx, probe->param, " a b");
	CLAIM(ctx, claims_launch(ctx, "t_probe\tx y\nz") != 0);
	CLAIM_TEXT(ctx, probe->param, "x y");
	victim = claims_launch(ctx, "t_probe victim");
	CLAIM(ctx, probe->initialising == victim);
	CLAIM_TEXT(ctx, run(ctx, "LAUNCH", " t_probe"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "LAUNCH", ""), NULL);
	CLAIM_TEXT(ctx, run(ctx, "LAUNCH", "nosuchmodule x"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "LAUNCH", "t_noinit"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "LAUNCH", "t_nullcreate"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "LAUNCH", NULL), NULL);
	CLAIM(ctx, claims_launch(ctx, "t_nocreate") != 0);
	return true;
}

static int messages_before;

static bool
statistics(struct skynet_context *ctx) {
	CLAIM_TEXT(ctx, run(ctx, "STAT", "foo"), "");
	CLAIM_TEXT(ctx, run(ctx, "STAT", NULL), NULL);
	CLAIM_TEXT(ctx, run(ctx, "STAT", "endless"), "0");
	messages_before = stat_number(ctx, "message");
	uint64_t start = skynet_thread_time();
	while (skynet_thread_time() - start < 200000) {
	}
	double now = atof(run(ctx, "STAT", "time"));
	CLAIM(ctx, now >= 0.19 && now < 2);
	CLAIM(ctx, atof(run(ctx, "STAT", "cpu")) < 0.2);
	/* Something waits, and more than ever waited before was noted. */
	skynet_send(ctx, 0, skynet_context_handle(ctx), PTYPE_CLIENT, 0, DATA("abcde"), 5);
	CLAIM(ctx, stat_number(ctx, "mqlen") >= 1);
	CLAIM(ctx, stat_number(ctx, "mqbytes") >= 5);
	return true;
}

static bool
statistics_of_the_message_before(struct skynet_context *ctx) {
	CLAIM(ctx, stat_number(ctx, "message") == messages_before + 2);
	const char *cpu = run(ctx, "STAT", "cpu");
	CLAIM(ctx, strchr(cpu, '.') != NULL && strlen(strchr(cpu, '.')) == 7);
	CLAIM(ctx, atof(cpu) >= 0.19);
	CLAIM(ctx, stat_number(ctx, "mqbytes") == 0);
	CLAIM(ctx, stat_number(ctx, "mqmax") >= 1);
	CLAIM(ctx, stat_number(ctx, "mqmaxbytes") >= 5);
	return true;
}

static bool
signals(struct skynet_context *ctx) {
	struct probe_notes *probe = probe_notes();
	char param[64];
	snprintf(param, sizeof(param), ":%x 0x10", victim);
	run(ctx, "SIGNAL", param);
	CLAIM(ctx, probe->signal == 16);
	snprintf(param, sizeof(param), ":%x", victim);
	run(ctx, "SIGNAL", param);
	CLAIM(ctx, probe->signal == 0);
	snprintf(param, sizeof(param), ".victim :%x", victim);
	CLAIM_TEXT(ctx, run(ctx, "NAME", param), "victim");
	run(ctx, "SIGNAL", ".victim 7");
	CLAIM(ctx, probe->signal == 7);
	CLAIM_TEXT(ctx, run(ctx, "SIGNAL", ":ffff 9"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "SIGNAL", NULL), NULL);
	CLAIM(ctx, probe->signal == 7);
	return true;
}

static bool
exit_monitor(struct skynet_context *ctx) {
	CLAIM_TEXT(ctx, run(ctx, "MONITOR", NULL), NULL);
	CLAIM_TEXT(ctx, run(ctx, "MONITOR", ":2"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "MONITOR", ""), ":2");
	claims.event_count = 0;
	CLAIM_TEXT(ctx, run(ctx, "KILL", ":1234"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "KILL", ".victim"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "QUERY", ".victim"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "REG", ".victim"), "victim");
	return true;
}

static bool
exit_monitor_was_told(struct skynet_context *ctx) {
	CLAIM(ctx, claims.event_count == 2);
	for (int i = 0; i < 2; i++) {
		struct event *e = &claims.event[i];
		CLAIM(ctx, e->type == PTYPE_CLIENT && e->session == 0 && e->msg == NULL && e->sz == 0);
	}
	CLAIM(ctx, claims.event[0].source == 0x1234);
	CLAIM(ctx, claims.event[1].source == victim);
	CLAIM_TEXT(ctx, run(ctx, "MONITOR", "foo"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "MONITOR", NULL), NULL);
	CLAIM_TEXT(ctx, run(ctx, "KILL", "nonsense"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "KILL", NULL), NULL);
	CLAIM_TEXT(ctx, run(ctx, "LOGON", NULL), NULL);
	CLAIM_TEXT(ctx, run(ctx, "LOGOFF", ":ffff"), NULL);
	CLAIM_TEXT(ctx, run(ctx, "NOSUCHCOMMAND", "x"), NULL);
	return true;
}

int
t_commands_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {
	    names,
	    naming_others,
	    timers,
	    tick_passes,
	    timers_arrive_in_order,
	    environment,
	    launching,
	    statistics,
	    statistics_of_the_message_before,
	    signals,
	    exit_monitor,
	    exit_monitor_was_told,
	    NULL,
	};
	return claims_init(ctx, steps);
}
