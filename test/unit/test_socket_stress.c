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
		struct socket_sendbuffer b = { st->id[(r >> 16) % 4], SOCKET_BUFFER_RAWPOINTER, block,
			(r >> 8) % sizeof(block) };
		int ok = (r >> 28) % 3 == 0
			? socket_server_send_lowpriority(st->w->ss, &b)
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
		socket_server_poll(w->ss, 0, false);
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
		struct storm st = { .w = w, .seed = (unsigned)round };
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

static const struct CMUnitTest claims[] = {
	CLAIM(concurrent_senders_lose_nothing),
	CLAIM(shutdown_during_sends_is_clean),
};

int
main(void) {
	return RUN_CLAIMS(claims);
}
