// The options of a socket as it keeps them, how they reach the descriptor, and the log
// lines about limits. Any thread unless said otherwise.
#include "socket_impl.h"

#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>

#include "skynet.h"

// A kind of notice is logged this often at most.
#define NOTICE_PERIOD_MS 1000
#define NOTICE_SIZE 256
// How much more a connection may lag behind that this node has opened itself:
// its peer is a server that somebody chose, and may be sent large things.
#define OPENED_FACTOR 16

//------------------------------------------------------------------ settings

static uint16_t
seconds_up(int64_t ms) {
	return (uint16_t)((ms + 999) / 1000);
}

static void
set_limit(struct listen_limits *l, uint32_t *field, int64_t value, bool is_preset) {
	*field = (uint32_t)value;
	if (field == &l->max_per_peer) {
		l->per_peer_is_preset = is_preset;
	} else if (field == &l->peer_rate) {
		l->rate_is_preset = is_preset;
	}
}

bool
settings_set(struct socket_settings *s, struct listen_limits *l, int name, int64_t value,
             bool is_preset) {
	const struct socket_option_info *info = socket_option_info(name);
	if (info == NULL || value < 0 || value > info->max) {
		return false;
	}
	switch (name) {
	case SOCKET_OPTION_SEND_LIMIT:
		s->send_limit = (uint32_t)value;
		break;
	case SOCKET_OPTION_SEND_POLICY:
		s->send_drops = value == SOCKET_SEND_DROP;
		break;
	case SOCKET_OPTION_RECEIVE_LIMIT:
		s->receive_limit = (uint32_t)value;
		break;
	case SOCKET_OPTION_IDLE:
		s->idle_ms = (uint32_t)value;
		break;
	case SOCKET_OPTION_LINGER:
		s->linger_ms = (uint32_t)value;
		break;
	case SOCKET_OPTION_CONNECT_TIMEOUT:
		s->connect_ms = (uint32_t)value;
		break;
	case SOCKET_OPTION_NODELAY:
		s->nodelay = value != 0;
		break;
	case SOCKET_OPTION_KEEPALIVE:
		s->keepalive_s = seconds_up(value);
		break;
	case SOCKET_OPTION_KEEPALIVE_INTERVAL:
		s->keepalive_interval_s = seconds_up(value);
		break;
	case SOCKET_OPTION_KEEPALIVE_COUNT:
		s->keepalive_count = (uint8_t)value;
		break;
	case SOCKET_OPTION_EXCLUSIVE:
		s->exclusive = value != 0;
		break;
	case SOCKET_OPTION_MAX_CONNECTIONS:
		set_limit(l, &l->max_connections, value, is_preset);
		break;
	case SOCKET_OPTION_MAX_PER_PEER:
		set_limit(l, &l->max_per_peer, value, is_preset);
		break;
	case SOCKET_OPTION_PEER_RATE:
		set_limit(l, &l->peer_rate, value, is_preset);
		break;
	case SOCKET_OPTION_PEER_BURST:
		set_limit(l, &l->peer_burst, value, is_preset);
		break;
	case SOCKET_OPTION_BACKLOG:
		l->backlog = (int)value;
		break;
	case SOCKET_OPTION_REUSEPORT:
		l->reuseport = value != 0;
		break;
	case SOCKET_OPTION_V6ONLY:
		l->v6only = (int8_t)value;
		break;
	default:
		return false;
	}
	return true;
}

bool
settings_set_all(struct socket_settings *s, struct listen_limits *l,
                 const struct socket_option *options, int n) {
	for (int i = 0; i < n; i++) {
		if (!settings_set(s, l, options[i].name, options[i].value, false)) {
			const struct socket_option_info *info = socket_option_info(options[i].name);
			skynet_error(NULL, "socket-server error: option %s (%d) cannot be %lld.",
			             info == NULL ? "?" : info->key, options[i].name,
			             (long long)options[i].value);
			return false;
		}
	}
	return true;
}

void
settings_init(struct socket_settings *s, struct listen_limits *l) {
	*s = (struct socket_settings){.linger_ms = 60000, .nodelay = true, .keepalive_count = 4};
	*l = (struct listen_limits){.backlog = 32, .v6only = -1};
	s->keepalive_s = KEEPALIVE_OF_SYSTEM;
}

struct socket_settings
settings_of_opened(const struct socket_server *ss) {
	struct socket_settings s = ss->settings;
	uint64_t limit = (uint64_t)s.send_limit * OPENED_FACTOR;
	s.send_limit = limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit;
	return s;
}

static void
tune_keepalive(int fd, const struct socket_settings *s) {
	int on = s->keepalive_s > 0;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (!on || s->keepalive_s == KEEPALIVE_OF_SYSTEM) {
		return;
	}
	int idle = s->keepalive_s;
	int interval = s->keepalive_interval_s > 0 ? s->keepalive_interval_s : (idle + 3) / 4;
	int count = s->keepalive_count > 0 ? s->keepalive_count : 1;
#ifdef TCP_KEEPIDLE
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
#elif defined(TCP_KEEPALIVE)
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPALIVE, &idle, sizeof(idle));
#endif
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

void
settings_tune(int fd, const struct socket_settings *s) {
	int nodelay = s->nodelay;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay));
	tune_keepalive(fd, s);
}

//------------------------------------------------------------------- notices

void
notice_log(struct socket_server *ss, enum notice_kind kind, const char *format, ...) {
	struct notice *n = &ss->notice[kind];
	uint64_t now = deadline_now_ms();
	// Relaxed: the exchange makes one thread the one that logs; nothing else hangs
	// on it.
	uint64_t next = atomic_load_explicit(&n->next_ms, memory_order_relaxed);
	if (now < next || !atomic_compare_exchange_strong(&n->next_ms, &next, now + NOTICE_PERIOD_MS)) {
		atomic_fetch_add_explicit(&n->hidden, 1, memory_order_relaxed);
		return;
	}
	char text[NOTICE_SIZE];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	unsigned hidden = atomic_exchange_explicit(&n->hidden, 0, memory_order_relaxed);
	if (hidden > 0) {
		skynet_error(NULL, "socket-server : %s (and %u times more since the last such line)", text,
		             hidden);
	} else {
		skynet_error(NULL, "socket-server : %s", text);
	}
}
