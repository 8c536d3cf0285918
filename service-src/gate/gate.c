/*
 * The gate in C: accepts connections, cuts their bytes into packages and hands
 * these to a broker, an agent per connection, or a watchdog.
 *
 * Launched with `HEADER WATCHDOG BINDING TAG MAX [LIMIT [AGENT_LIMIT]]`: S or L for lengths
 * of two or four bytes, a service name or `!`, [host:]port, the message type of forwarded
 * packages (0 = client), how many connections fit, the longest package in bytes, and the
 * bytes that may wait for a service that packages go to (0 = any number).
 *
 * It owns the listener and the connections, which it closes when it ends. A
 * connection is in the table from its ACCEPT event until its end was reported. It is not
 * read while the service that gets its packages lags far behind.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gate_stream.h"
#include "skynet.h"
#include "skynet_imp.h"
#include "skynet_notice.h"
#include "skynet_server.h"
#include "skynet_socket.h"

#define BACKLOG 128
#define MIN_BUCKETS 16
#define BLANKS " \t\r\n"
/* Bytes that may wait for a service that packages go to, see skynet_context_waiting, unless
 * the launch says otherwise. */
#define AGENT_LIMIT ((size_t)16 * 1024 * 1024)
#define MAX_AGENT_LIMIT (1LL << 40)
/* How often services that lag behind are looked at, and told of, 1/100 s. */
#define LOOK_PERIOD "2"
#define REPORT_PERIOD 100

struct connection {
	struct connection *next; /* in its bucket */
	int id;
	uint32_t agent;
	uint32_t client;
	bool is_broken; /* its stream is of no more use; it is being closed */
	bool is_kicked;
	bool is_resting; /* not read: who gets its packages lags behind */
	struct gate_stream stream;
	char address[]; /* ip:port, for the log */
};

/* What peers can make the gate say. */
enum notice_kind {
	NOTICE_OPEN,
	NOTICE_HUGE,
	NOTICE_LOSS,
	NOTICE_STRAY,   /* data of a connection that is gone */
	NOTICE_BACKLOG, /* it reads too slowly */
	NOTICE_CLIENT,  /* an agent writes to one that is gone */
	NOTICE_KINDS,
};

struct gate {
	struct skynet_context *ctx;
	struct skynet_notice notice[NOTICE_KINDS];
	int listener; /* -1 = none */
	uint32_t watchdog;
	uint32_t broker;
	int client_tag;
	struct gate_format format;
	size_t agent_limit; /* 0 = none */
	int max;
	int n;
	int resting;        /* connections */
	bool is_looking;    /* a timeout is under way */
	uint64_t report_at; /* when to tell of a rest again */
	struct connection **bucket;
	unsigned mask; /* number of buckets - 1 */
};

struct gate *gate_create(void);
void gate_release(struct gate *g);
int gate_init(struct gate *g, struct skynet_context *ctx, const char *param);

struct gate *
gate_create(void) {
	struct gate *g = skynet_calloc(1, sizeof(*g));
	g->listener = -1;
	return g;
}

/*--------------------------------------------------------------- connections */

static struct connection **
find_slot(struct gate *g, int id) {
	struct connection **slot = &g->bucket[(unsigned)id & g->mask];
	while (*slot != NULL && (*slot)->id != id) {
		slot = &(*slot)->next;
	}
	return slot;
}

static struct connection *
find(struct gate *g, int id) {
	return *find_slot(g, id);
}

static void
add_connection(struct gate *g, int id, const char *address, size_t n) {
	struct connection **slot = find_slot(g, id);
	struct connection *c = skynet_calloc(1, sizeof(*c) + n + 1);
	memcpy(c->address, address, n);
	c->id = id;
	c->next = *slot;
	*slot = c;
	g->n++;
}

static void
remove_connection(struct gate *g, int id) {
	struct connection **slot = find_slot(g, id);
	struct connection *c = *slot;
	*slot = c->next;
	g->resting -= c->is_resting;
	gate_stream_clear(&c->stream);
	skynet_free(c);
	g->n--;
}

void
gate_release(struct gate *g) {
	if (g->listener >= 0) {
		skynet_socket_close(g->ctx, g->listener);
	}
	for (unsigned i = 0; g->bucket != NULL && i <= g->mask; i++) {
		while (g->bucket[i] != NULL) {
			skynet_socket_close(g->ctx, g->bucket[i]->id);
			remove_connection(g, g->bucket[i]->id);
		}
	}
	skynet_free(g->bucket);
	skynet_free(g);
}

/*------------------------------------------------------------------ packages */

static void
report(struct gate *g, const char *text) {
	if (g->watchdog != 0) {
		skynet_send(g->ctx, 0, g->watchdog, PTYPE_TEXT, 0, (void *)(uintptr_t)text, strlen(text));
	}
}

/* The package with the words before it that a watchdog expects. Takes package. */
static void
give_watchdog(struct gate *g, int id, char *package, size_t size) {
	char head[32];
	size_t n = (size_t)snprintf(head, sizeof(head), "%d data ", id);
	char *text = skynet_malloc(n + size);
	memcpy(text, head, n);
	memcpy(text + n, package, size);
	skynet_free(package);
	skynet_send(g->ctx, 0, g->watchdog, PTYPE_TEXT | PTYPE_TAG_DONTCOPY, id, text, n + size);
}

struct delivery {
	struct gate *gate;
	struct connection *connection;
};

static void
deliver(void *ud, char *package, size_t size) {
	struct delivery *d = ud;
	struct gate *g = d->gate;
	struct connection *c = d->connection;
	int tag = g->client_tag | PTYPE_TAG_DONTCOPY;
	if (g->broker != 0) {
		skynet_send(g->ctx, 0, g->broker, tag, c->id, package, size);
	} else if (c->agent != 0) {
		skynet_send(g->ctx, c->client, c->agent, tag, c->id, package, size);
	} else if (g->watchdog != 0) {
		give_watchdog(g, c->id, package, size);
	} else {
		skynet_free(package);
	}
}

/*--------------------------------------------------------------------- rests */

static uint32_t
receiver(const struct gate *g, const struct connection *c) {
	return g->broker != 0 ? g->broker : c->agent != 0 ? c->agent : g->watchdog;
}

static void
look_later(struct gate *g) {
	if (!g->is_looking) {
		g->is_looking = true;
		skynet_command(g->ctx, "TIMEOUT", LOOK_PERIOD);
	}
}

/* Nothing else would stop a peer from filling the mailbox of a service that is slow. */
static void
rest_if_behind(struct gate *g, struct connection *c) {
	uint32_t service = receiver(g, c);
	if (c->is_resting || g->agent_limit == 0 || skynet_context_waiting(service) <= g->agent_limit) {
		return;
	}
	c->is_resting = true;
	g->resting++;
	skynet_socket_pause(g->ctx, c->id);
	look_later(g);
	if (skynet_now() >= g->report_at) {
		g->report_at = skynet_now() + REPORT_PERIOD;
		skynet_error(g->ctx, "stop reading %d of %s while more than %zu bytes wait for :%08x",
		             c->id, c->address, g->agent_limit, service);
	}
}

static void
start(struct gate *g, struct connection *c) {
	g->resting -= c->is_resting;
	c->is_resting = false;
	skynet_socket_start(g->ctx, c->id);
}

/* The timeout of look_later is over. */
static void
look(struct gate *g) {
	g->is_looking = false;
	for (unsigned i = 0; g->resting > 0 && i <= g->mask; i++) {
		for (struct connection *c = g->bucket[i]; c != NULL; c = c->next) {
			if (c->is_resting && skynet_context_waiting(receiver(g, c)) <= g->agent_limit / 2) {
				start(g, c);
			}
		}
	}
	if (g->resting > 0) {
		look_later(g);
	}
}

/* Data towards a client: payload, then its id. 1 when the block was taken. */
static int
write_client(struct gate *g, uint32_t source, void *msg, size_t sz) {
	if (sz <= 4) {
		skynet_notice(g->ctx, &g->notice[NOTICE_CLIENT], "Invalid client message from %x", source);
		return 0;
	}
	const uint8_t *tail = (const uint8_t *)msg + sz - 4;
	uint32_t id =
	    tail[0] | (uint32_t)tail[1] << 8 | (uint32_t)tail[2] << 16 | (uint32_t)tail[3] << 24;
	if (id > INT32_MAX || find(g, (int)id) == NULL) {
		skynet_notice(g->ctx, &g->notice[NOTICE_CLIENT], "Invalid client id %d from %x", (int)id,
		              source);
		return 0;
	}
	skynet_socket_send(g->ctx, (int)id, msg, (int)(sz - 4));
	return 1;
}

/*------------------------------------------------------------------- sockets */

static void
report_huge(struct gate *g, const struct connection *c) {
	if (g->format.limit == GATE_PACKAGE_LIMIT) {
		skynet_notice(g->ctx, &g->notice[NOTICE_HUGE], "Recv socket message > 16M from %d (%s)",
		              c->id, c->address);
	} else {
		skynet_notice(g->ctx, &g->notice[NOTICE_HUGE],
		              "Recv socket message > %zu from %d (%s): raise the sixth word of the launch",
		              g->format.limit - 1, c->id, c->address);
	}
}

/* Say when a connection did not end in order. */
static void
report_loss(struct gate *g, const struct connection *c, const struct skynet_socket_message *m,
            size_t text_size) {
	if (m->type == SKYNET_SOCKET_TYPE_ERROR) {
		skynet_notice(g->ctx, &g->notice[NOTICE_LOSS], "fd (%d) of %s: %.*s", c->id, c->address,
		              (int)text_size, (const char *)(m + 1));
	} else if (c->stream.header_n > 0 && !c->is_broken && !c->is_kicked) {
		skynet_notice(g->ctx, &g->notice[NOTICE_LOSS], "fd (%d) of %s ended within a package",
		              c->id, c->address);
	}
}

static void
on_data(struct gate *g, const struct skynet_socket_message *m) {
	struct connection *c = find(g, m->id);
	struct delivery d = {g, c};
	if (c == NULL) {
		skynet_notice(g->ctx, &g->notice[NOTICE_STRAY], "Drop unknown connection %d message",
		              m->id);
		skynet_socket_close(g->ctx, m->id);
	} else if (!c->is_broken && gate_stream_feed(&c->stream, &g->format, m->buffer, (size_t)m->ud,
	                                             deliver, &d) != 0) {
		report_huge(g, c);
		c->is_broken = true;
		skynet_socket_close(g->ctx, m->id);
	} else {
		rest_if_behind(g, c);
	}
	skynet_free(m->buffer);
}

static void
on_accept(struct gate *g, const struct skynet_socket_message *m, size_t text_size) {
	if (g->n >= g->max) {
		skynet_socket_close(g->ctx, m->ud);
		return;
	}
	const char *address = (const char *)(m + 1);
	add_connection(g, m->ud, address, text_size);
	char text[256];
	snprintf(text, sizeof(text), "%d open %d %.*s:0", m->ud, m->ud, (int)text_size, address);
	report(g, text);
	skynet_notice(g->ctx, &g->notice[NOTICE_OPEN], "socket open: %x", m->ud);
}

static void
on_end(struct gate *g, const struct skynet_socket_message *m, size_t text_size) {
	if (m->id == g->listener) {
		return;
	}
	const struct connection *c = find(g, m->id);
	if (c != NULL) {
		report_loss(g, c, m, text_size);
	}
	skynet_socket_close(g->ctx, m->id);
	if (c != NULL) {
		remove_connection(g, m->id);
		char text[32];
		snprintf(text, sizeof(text), "%d close", m->id);
		report(g, text);
	}
}

static void
on_warning(struct gate *g, const struct skynet_socket_message *m) {
	const struct connection *c = find(g, m->id);
	skynet_notice(g->ctx, &g->notice[NOTICE_BACKLOG], "fd (%d) send buffer (%d)K to %s", m->id,
	              m->ud, c == NULL ? "a closed one" : c->address);
}

static void
on_socket(struct gate *g, const struct skynet_socket_message *m, size_t sz) {
	switch (m->type) {
	case SKYNET_SOCKET_TYPE_DATA:
		on_data(g, m);
		break;
	case SKYNET_SOCKET_TYPE_ACCEPT:
		on_accept(g, m, sz - sizeof(*m));
		break;
	case SKYNET_SOCKET_TYPE_CLOSE:
	case SKYNET_SOCKET_TYPE_ERROR:
		on_end(g, m, sz - sizeof(*m));
		break;
	case SKYNET_SOCKET_TYPE_WARNING:
		on_warning(g, m);
		break;
	default: /* CONNECT: a start took effect */
		break;
	}
}

/*------------------------------------------------------------------ commands */

/* "Xhex" without its first character. */
static uint32_t
parse_address(const char *word) {
	return (uint32_t)strtoul(word + 1, NULL, 16);
}

static void
command_forward(struct gate *g, char **rest) {
	const char *id = strtok_r(NULL, BLANKS, rest);
	const char *agent = strtok_r(NULL, BLANKS, rest);
	const char *client = strtok_r(NULL, BLANKS, rest);
	struct connection *c = client == NULL ? NULL : find(g, atoi(id));
	if (c != NULL) {
		c->agent = parse_address(agent);
		c->client = parse_address(client);
	}
}

/* The id that a word names if it is a connection's, or -1. */
static int
known_id(struct gate *g, const char *word) {
	int id = word == NULL ? -1 : atoi(word);
	return id >= 0 && find(g, id) != NULL ? id : -1;
}

static void
run_command(struct gate *g, const char *text, char *words) {
	char *rest = NULL;
	const char *name = strtok_r(words, BLANKS, &rest);
	if (name == NULL) {
		name = "";
	}
	if (strcmp(name, "forward") == 0) {
		command_forward(g, &rest);
	} else if (strcmp(name, "start") == 0) {
		int id = known_id(g, strtok_r(NULL, BLANKS, &rest));
		if (id >= 0) {
			start(g, find(g, id));
		}
	} else if (strcmp(name, "kick") == 0) {
		int id = known_id(g, strtok_r(NULL, BLANKS, &rest));
		if (id >= 0) {
			find(g, id)->is_kicked = true;
			skynet_socket_close(g->ctx, id);
		}
	} else if (strcmp(name, "broker") == 0) {
		const char *word = strtok_r(NULL, BLANKS, &rest);
		g->broker = word == NULL ? 0 : skynet_queryname(g->ctx, word);
	} else if (strcmp(name, "close") == 0) {
		if (g->listener >= 0) {
			skynet_socket_close(g->ctx, g->listener);
			g->listener = -1;
		}
	} else {
		skynet_error(g->ctx, "[gate] Unknown command : %s", text);
	}
}

/* Is it the kernel's notice that the node goes down? */
static bool
is_shutdown(uint32_t source, const void *msg, size_t sz) {
	static const char text[] = "shutdown";
	return source == 0 && sz == sizeof(text) - 1 && memcmp(msg, text, sz) == 0;
}

static int
gate_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
        const void *msg, size_t sz) {
	struct gate *g = ud;
	(void)session;
	if (type == PTYPE_SYSTEM && is_shutdown(source, msg, sz)) {
		skynet_command(ctx, "EXIT", NULL);
	} else if (type == PTYPE_TEXT) {
		char *text = skynet_strndup(msg == NULL ? "" : msg, sz);
		char *words = skynet_strdup(text);
		run_command(g, text, words);
		skynet_free(words);
		skynet_free(text);
	} else if (type == PTYPE_RESPONSE) {
		look(g);
	} else if (type == PTYPE_CLIENT) {
		return write_client(g, source, (void *)(uintptr_t)msg, sz);
	} else if (type == PTYPE_SOCKET && sz >= sizeof(struct skynet_socket_message)) {
		on_socket(g, msg, sz);
	}
	return 0;
}

/*--------------------------------------------------------------------- start */

/* Listen on `[host:]port`. Cuts the text. 0, or -1 after a log line. */
static int
listen_on(struct gate *g, char *binding) {
	char *colon = strrchr(binding, ':');
	const char *host = "";
	const char *port_text = binding;
	if (colon != NULL) {
		host = binding;
		port_text = colon + 1;
	}
	int port = atoi(port_text);
	if (port <= 0 || port > UINT16_MAX) {
		skynet_error(g->ctx, "Invalid gate address %s", binding);
		return -1;
	}
	if (colon != NULL) {
		*colon = '\0';
	}
	g->listener = skynet_socket_listen(g->ctx, host, port, BACKLOG);
	if (g->listener < 0) {
		skynet_error(g->ctx, "gate: can't listen on %s:%d: %s", host, port, strerror(errno));
		return -1;
	}
	skynet_socket_start(g->ctx, g->listener);
	return 0;
}

static int
set_watchdog(struct gate *g, const char *name) {
	if (name[0] == '!') {
		return 0;
	}
	g->watchdog = skynet_queryname(g->ctx, name);
	if (g->watchdog == 0) {
		skynet_error(g->ctx, "Invalid watchdog %s", name);
		return -1;
	}
	return 0;
}

static void
make_table(struct gate *g) {
	unsigned buckets = MIN_BUCKETS;
	while (buckets < (unsigned)g->max) {
		buckets *= 2;
	}
	g->bucket = skynet_calloc(buckets, sizeof(struct connection *));
	g->mask = buckets - 1;
}

/* The most connections: as many as there can be socket ids at a time. */
#define MAX_CONNECTION (1 << 20)

#define FIELDS 7

/* The format of a stream by its words; `limit` may be NULL. 0, or -1 after a log line. */
static int
set_format(struct gate *g, const char *header, const char *limit) {
	if (strcmp(header, "S") != 0 && strcmp(header, "L") != 0) {
		skynet_error(g->ctx, "Invalid data header style");
		return -1;
	}
	g->format.header_size = header[0] == 'S' ? 2 : 4;
	g->format.limit = GATE_PACKAGE_LIMIT;
	if (limit != NULL) {
		long n = strtol(limit, NULL, 10);
		if (n <= 0 || n >= (long)GATE_PACKAGE_LIMIT) {
			skynet_error(g->ctx, "Invalid package limit %s: need 1 to %u", limit,
			             GATE_PACKAGE_LIMIT - 1);
			return -1;
		}
		g->format.limit = (size_t)n + 1;
	}
	return 0;
}

/* `word` may be NULL. 0, or -1 after a log line. */
static int
set_agent_limit(struct gate *g, const char *word) {
	g->agent_limit = AGENT_LIMIT;
	if (word != NULL) {
		char *end;
		long long n = strtoll(word, &end, 10);
		if (*end != '\0' || n < 0 || n > MAX_AGENT_LIMIT) {
			skynet_error(g->ctx, "Invalid agent limit %s: need bytes, or 0 for no limit", word);
			return -1;
		}
		g->agent_limit = (size_t)n;
	}
	return 0;
}

static int
configure(struct gate *g, const char *param, char *words) {
	char *rest = NULL;
	char *field[FIELDS] = {NULL};
	int n = 0;
	for (char *w = strtok_r(words, BLANKS, &rest); w != NULL && n < FIELDS;
	     w = strtok_r(NULL, BLANKS, &rest)) {
		field[n++] = w;
	}
	if (n < 4) {
		skynet_error(g->ctx, "Invalid gate parm %s", param);
		return -1;
	}
	g->max = n >= 5 ? atoi(field[4]) : 0;
	if (g->max <= 0 || g->max > MAX_CONNECTION) {
		skynet_error(g->ctx, "Need max connection");
		return -1;
	}
	if (set_format(g, field[0], field[5]) != 0 || set_agent_limit(g, field[6]) != 0) {
		return -1;
	}
	int tag = atoi(field[3]);
	g->client_tag = tag <= 0 || tag > UINT8_MAX ? PTYPE_CLIENT : tag;
	make_table(g);
	return set_watchdog(g, field[1]) != 0 ? -1 : listen_on(g, field[2]);
}

int
gate_init(struct gate *g, struct skynet_context *ctx, const char *param) {
	g->ctx = ctx;
	const char *text = param == NULL ? "" : param;
	char *words = skynet_strdup(text);
	int result = configure(g, text, words);
	skynet_free(words);
	if (result != 0) {
		return 1;
	}
	skynet_callback(ctx, g, gate_cb);
	return 0;
}
