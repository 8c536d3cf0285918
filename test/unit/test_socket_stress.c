// Several threads at one server.
#include "socket_world.h"

//-------------------------------------------------------------------- stress

struct storm {
	struct world *w;
	int id[4];
	atomic_bool stop;
	unsigned seed;
	size_t sent;
};

static void *
storm_sender(void *ud) {
	struct storm *st = ud;
	unsigned r = st->seed;
	char block[2000];
	memset(block, 's', sizeof(block));
	while (!atomic_load(&st->stop)) {
		r = r * 1103515245 + 12345;
		struct socket_sendbuffer b = {st->id[(r >> 16) % 4], SOCKET_BUFFER_RAWPOINTER, block,
		                              (r >> 8) % sizeof(block)};
		int ok = (r >> 28) % 3 == 0 ? socket_server_send_lowpriority(st->w->ss, &b)
		                            : socket_server_send(st->w->ss, &b);
		st->sent += ok == 0 ? b.sz : 0;
		if ((r >> 20) % 64 == 0) {
			socket_info_release(socket_server_info(st->w->ss));
		}
		if ((r >> 20) % 16 == 1) {
			sched_yield();
		}
	}
	return NULL;
}

// Senders on three threads against one loop that reads, while the peers drain: every
// byte that was accepted arrives.
static void
concurrent_senders_lose_nothing(void **state) {
	struct world *w = *state;
	struct storm st[3];
	int port, client[4];
	int listener = start_listener(w, &port);
	size_t received = 0, sent = 0;
	for (int i = 0; i < 4; i++) {
		st[0].id[i] = accept_plain(w, listener, port, &client[i]);
		socket_server_start(w->ss, ME, st[0].id[i]);
		await(w, st[0].id[i], SOCKET_OPEN);
		shrink_buffers(w, st[0].id[i], client[i]);
		fcntl(client[i], F_SETFL, O_NONBLOCK);
	}
	pthread_t pid[3];
	for (int i = 0; i < 3; i++) {
		memcpy(st[i].id, st[0].id, sizeof(st[0].id));
		st[i].w = w;
		st[i].seed = 1000u + (unsigned)i;
		st[i].sent = 0;
		atomic_init(&st[i].stop, false);
		pthread_create(&pid[i], NULL, storm_sender, &st[i]);
	}
	static char buf[65536];
	for (int round = 0; round < 2000; round++) {
		socket_server_poll(w->ss, 0, 0, false);
		for (int i = 0; i < 4; i++) {
			ssize_t n = read(client[i], buf, sizeof(buf));
			received += n > 0 ? (size_t)n : 0;
		}
	}
	for (int i = 0; i < 3; i++) {
		atomic_store(&st[i].stop, true);
		pthread_join(pid[i], NULL);
		sent += st[i].sent;
	}
	for (int i = 0; i < 4; i++) {
		socket_server_close(w->ss, ME, st[0].id[i]);
	}
	for (int i = 0; i < 4; i++) {
		received += drain_plain(w, client[i], NULL, SIZE_MAX);
		close(client[i]);
	}
	assert_int_equal(received, sent);
}

static void *
storm_closer(void *ud) {
	struct storm *st = ud;
	for (int i = 0; i < 4; i++) {
		sched_yield();
		socket_server_shutdown(st->w->ss, ME, st->id[i]);
	}
	return NULL;
}

static void
shutdown_during_sends_is_clean(void **state) {
	struct world *w = *state;
	int port;
	int listener = start_listener(w, &port);
	for (int round = 0; round < 50; round++) {
		struct storm st = {.w = w, .seed = (unsigned)round};
		int client[4];
		pthread_t sender, closer;
		for (int i = 0; i < 4; i++) {
			st.id[i] = accept_plain(w, listener, port, &client[i]);
			socket_server_start(w->ss, ME, st.id[i]);
			await(w, st.id[i], SOCKET_OPEN);
		}
		atomic_init(&st.stop, false);
		pthread_create(&sender, NULL, storm_sender, &st);
		pthread_create(&closer, NULL, storm_closer, &st);
		for (int i = 0; i < 4; i++) {
			await(w, st.id[i], SOCKET_CLOSE);
		}
		atomic_store(&st.stop, true);
		pthread_join(sender, NULL);
		pthread_join(closer, NULL);
		settle(w);
		for (int i = 0; i < 4; i++) {
			assert_false(is_alive(w, st.id[i]));
			close(client[i]);
		}
	}
}

//--------------------------------------------------------------- several loops

enum { LOOPS = 3, PAIRS = 12, ROUNDS = 200 };

// The test's own sink is for one thread.
struct spread {
	struct socket_server *ss;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int port;
	bool starts_accepted; // the listener does
	int accepted;
	int opened;
	int closed;
	size_t received;
	uint32_t last[4096]; // by id: the number that came last
	bool is_out_of_order;
	atomic_int polls[LOOPS];
};

static void
check_order(struct spread *sp, struct socket_message *m) {
	// The stream of an id is the numbers from 1 on, in reads of any size.
	const uint8_t *p = (const uint8_t *)m->data;
	for (int i = 0; i < m->ud; i++) {
		sp->is_out_of_order |= p[i] != (uint8_t)++sp->last[m->id];
	}
}

static void
spread_sink(void *ud, int type, struct socket_message *m) {
	struct spread *sp = ud;
	pthread_mutex_lock(&sp->lock);
	switch (type) {
	case SOCKET_OPEN:
		sp->port = m->ud > 0 ? m->ud : sp->port;
		sp->opened++;
		break;
	case SOCKET_ACCEPT:
		sp->accepted++;
		// Moved to another owner on the way.
		if (!sp->starts_accepted) {
			socket_server_start(sp->ss, ME, m->ud);
		}
		socket_server_start(sp->ss, OTHER, m->ud);
		break;
	case SOCKET_DATA:
		sp->is_out_of_order |= sp->accepted == 0;
		check_order(sp, m);
		sp->received += (size_t)m->ud;
		free(m->data);
		break;
	case SOCKET_CLOSE:
		sp->closed++;
		socket_server_close(sp->ss, ME, m->id);
		break;
	}
	pthread_cond_broadcast(&sp->changed);
	pthread_mutex_unlock(&sp->lock);
}

struct spread_poller {
	struct spread *sp;
	int at;
	pthread_t pid;
};

static void *
poll_loop(void *ud) {
	struct spread_poller *p = ud;
	int n;
	while ((n = socket_server_poll(p->sp->ss, p->at, -1, false)) != SOCKET_POLL_EXIT) {
		atomic_fetch_add(&p->sp->polls[p->at], n);
	}
	return NULL;
}

#define AWAIT(sp, condition)                                                                       \
	do {                                                                                           \
		pthread_mutex_lock(&(sp)->lock);                                                           \
		while (!(condition)) {                                                                     \
			pthread_cond_wait(&(sp)->changed, &(sp)->lock);                                        \
		}                                                                                          \
		pthread_mutex_unlock(&(sp)->lock);                                                         \
	} while (0)

static void
spread_connections(bool starts_accepted) {
	struct spread *sp = calloc(1, sizeof(*sp));
	struct spread_poller poller[LOOPS];
	sp->starts_accepted = starts_accepted;
	pthread_mutex_init(&sp->lock, NULL);
	pthread_cond_init(&sp->changed, NULL);
	sp->ss = socket_server_create_with(ops, LOOPS, clock_of_test, spread_sink, sp);
	for (int i = 0; i < LOOPS; i++) {
		poller[i] = (struct spread_poller){.sp = sp, .at = i};
		pthread_create(&poller[i].pid, NULL, poll_loop, &poller[i]);
	}
	int listener = socket_server_listen(sp->ss, ME, "127.0.0.1", 0, 128);
	AWAIT(sp, sp->port > 0);
	pthread_mutex_lock(&sp->lock);
	int port = sp->port;
	pthread_mutex_unlock(&sp->lock);
	if (starts_accepted) {
		socket_server_accept(sp->ss, ME, listener);
	} else {
		socket_server_start(sp->ss, ME, listener);
	}
	int id[PAIRS];
	for (int i = 0; i < PAIRS; i++) {
		id[i] = socket_server_connect(sp->ss, ME, "127.0.0.1", port);
	}
	uint8_t number[PAIRS] = {0};
	size_t sent = 0;
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < PAIRS; i++) {
			uint8_t block[97];
			for (size_t k = 0; k < sizeof(block); k++) {
				block[k] = ++number[i];
			}
			struct socket_sendbuffer b = {id[i], SOCKET_BUFFER_RAWPOINTER, block, sizeof(block)};
			assert_int_equal(socket_server_send(sp->ss, &b), 0);
			sent += sizeof(block);
		}
		if (round % 50 == 0) {
			socket_info_release(socket_server_info(sp->ss));
		}
	}
	for (int i = 0; i < PAIRS; i++) {
		socket_server_close(sp->ss, ME, id[i]);
	}
	AWAIT(sp, sp->closed >= 2 * PAIRS);
	pthread_mutex_lock(&sp->lock);
	assert_int_equal(sp->received, sent);
	assert_int_equal(sp->accepted, PAIRS);
	assert_false(sp->is_out_of_order);
	pthread_mutex_unlock(&sp->lock);
	for (int i = 0; i < LOOPS; i++) {
		assert_true(atomic_load(&sp->polls[i]) > 0);
	}
	socket_server_owner_exit(sp->ss, ME);
	socket_server_owner_exit(sp->ss, OTHER);
	socket_server_start(sp->ss, ME, 4711);
	socket_server_exit(sp->ss);
	for (int i = 0; i < LOOPS; i++) {
		pthread_join(poller[i].pid, NULL);
	}
	socket_server_release(sp->ss);
	pthread_cond_destroy(&sp->changed);
	pthread_mutex_destroy(&sp->lock);
	free(sp);
}

static void
loops_share_connections_and_keep_their_order(void **state) {
	(void)state;
	spread_connections(false);
}

static void
loops_share_connections_that_are_started_as_they_come(void **state) {
	(void)state;
	spread_connections(true);
}

// Pauses what it accepts, at once.
struct pausing {
	struct socket_server *ss;
	int port;
	int id;
	int received;
};

static void
pausing_sink(void *ud, int type, struct socket_message *m) {
	struct pausing *p = ud;
	if (type == SOCKET_OPEN && m->ud > 0) {
		p->port = m->ud;
	} else if (type == SOCKET_ACCEPT) {
		p->id = m->ud;
		socket_server_pause(p->ss, ME, m->ud);
	} else if (type == SOCKET_DATA) {
		p->received += m->ud;
		free(m->data);
	}
}

static void
a_connection_may_be_paused_before_its_loop_has_heard_of_it(void **state) {
	(void)state;
	struct pausing p = {0};
	p.ss = socket_server_create_with(ops, 2, clock_of_test, pausing_sink, &p);
	int listener = socket_server_listen(p.ss, ME, "127.0.0.1", 0, 8);
	while (p.port == 0) {
		socket_server_poll(p.ss, 0, 10, false);
	}
	socket_server_accept(p.ss, ME, listener);
	int client = plain_connect(p.port);
	assert_int_equal(write(client, "said", 4), 4);
	while (p.id == 0) {
		socket_server_poll(p.ss, 0, 10, false);
	}
	for (int i = 0; i < 5; i++) {
		socket_server_poll(p.ss, 1, 10, false);
	}
	assert_int_equal(p.received, 0);
	socket_server_start(p.ss, ME, p.id);
	while (p.received < 4) {
		socket_server_poll(p.ss, 1, 10, false);
	}
	close(client);
	socket_server_release(p.ss);
}

static const struct CMUnitTest claims[] = {
    CLAIM(concurrent_senders_lose_nothing),
    CLAIM(shutdown_during_sends_is_clean),
    cmocka_unit_test(loops_share_connections_and_keep_their_order),
    cmocka_unit_test(loops_share_connections_that_are_started_as_they_come),
    cmocka_unit_test(a_connection_may_be_paused_before_its_loop_has_heard_of_it),
};

int
main(void) {
	return RUN_CLAIMS(claims);
}
