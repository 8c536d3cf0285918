// One conformance test for every poller back end: the platform's own and, where
// that is epoll, kqueue's code over a shim.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "poller.h"

#ifdef __linux__
#include <sys/event.h>
#endif

struct fixture {
	const struct poller_ops *ops;
	struct poller *p;
	int fd[2]; // a connected pair; fd[0] is the watched end
};

#define TAG ((uintptr_t)0x12345)

static const struct poller_ops *ops;

static int
setup_fixture(void **state) {
	struct fixture *f = calloc(1, sizeof(*f));
	f->ops = ops;
	f->p = ops->create();
	assert_non_null(f->p);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, f->fd), 0);
	*state = f;
	return 0;
}

static void
close_end(struct fixture *f, int i) {
	if (f->fd[i] >= 0) {
		close(f->fd[i]);
		f->fd[i] = -1;
	}
}

static int
teardown(void **state) {
	struct fixture *f = *state;
	close_end(f, 0);
	close_end(f, 1);
	f->ops->release(f->p);
	free(f);
	return 0;
}

// The readiness of TAG, merged over the separate events a back end may use.
static struct poller_event
poll_once(struct fixture *f, int timeout_ms) {
	struct poller_event ev[8];
	struct poller_event all = {0};
	int n = f->ops->wait(f->p, ev, 8, timeout_ms);
	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		assert_int_equal(ev[i].tag, TAG);
		all.tag = ev[i].tag;
		all.read |= ev[i].read;
		all.write |= ev[i].write;
		all.error |= ev[i].error;
		all.eof |= ev[i].eof;
	}
	return all;
}

static void
nothing_is_reported_without_watched_descriptors(void **state) {
	struct fixture *f = *state;
	assert_int_equal(poll_once(f, 0).tag, 0);
}

static void
data_is_reported_until_it_is_read(void **state) {
	struct fixture *f = *state;
	assert_int_equal(f->ops->add(f->p, f->fd[0], TAG, true, false), 0);
	assert_int_equal(poll_once(f, 0).tag, 0);
	assert_int_equal(write(f->fd[1], "ab", 2), 2);
	assert_true(poll_once(f, -1).read);
	struct poller_event again = poll_once(f, -1);
	assert_true(again.read);
	assert_false(again.write);
	char buf[8];
	assert_int_equal(read(f->fd[0], buf, sizeof(buf)), 2);
	assert_int_equal(poll_once(f, 0).tag, 0);
}

static void
interest_follows_set(void **state) {
	struct fixture *f = *state;
	assert_int_equal(f->ops->add(f->p, f->fd[0], TAG, false, false), 0);
	assert_int_equal(write(f->fd[1], "a", 1), 1);
	assert_int_equal(poll_once(f, 0).tag, 0);
	assert_int_equal(f->ops->set(f->p, f->fd[0], TAG, true, true), 0);
	struct poller_event both = poll_once(f, -1);
	assert_true(both.read && both.write);
	assert_int_equal(f->ops->set(f->p, f->fd[0], TAG, false, true), 0);
	struct poller_event one = poll_once(f, -1);
	assert_true(one.write && !one.read);
	assert_int_equal(f->ops->set(f->p, f->fd[0], TAG, false, false), 0);
	assert_int_equal(poll_once(f, 0).tag, 0);
}

static void
add_with_write_interest_reports_room(void **state) {
	struct fixture *f = *state;
	assert_int_equal(f->ops->add(f->p, f->fd[0], TAG, false, true), 0);
	assert_true(poll_once(f, -1).write);
}

static void
a_deleted_descriptor_is_silent_and_can_be_added_again(void **state) {
	struct fixture *f = *state;
	assert_int_equal(f->ops->add(f->p, f->fd[0], TAG, true, false), 0);
	assert_int_equal(write(f->fd[1], "a", 1), 1);
	assert_int_equal(f->ops->del(f->p, f->fd[0]), 0);
	assert_int_equal(poll_once(f, 0).tag, 0);
	assert_int_equal(f->ops->add(f->p, f->fd[0], TAG, true, false), 0);
	assert_true(poll_once(f, -1).read);
}

static void
a_closed_descriptor_is_silent_and_its_number_can_be_added_again(void **state) {
	struct fixture *f = *state;
	int fd = f->fd[0];
	assert_int_equal(f->ops->add(f->p, fd, TAG, true, false), 0);
	assert_int_equal(write(f->fd[1], "a", 1), 1);
	f->ops->close(f->p, fd);
	close_end(f, 1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(poll_once(f, 0).tag, 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, f->fd), 0);
	assert_int_equal(f->fd[0], fd);
	assert_int_equal(f->ops->add(f->p, fd, TAG, true, false), 0);
	assert_int_equal(write(f->fd[1], "a", 1), 1);
	assert_true(poll_once(f, -1).read);
}

// The child keeps what it inherited until the pipe closes.
static pid_t
fork_child(int until[2]) {
	assert_int_equal(pipe(until), 0);
	pid_t child = fork();
	if (child == 0) {
		char c;
		close(until[1]);
		_exit((int)read(until[0], &c, 1));
	}
	assert_true(child > 0);
	return child;
}

static void
a_closed_descriptor_that_a_child_has_is_silent(void **state) {
	struct fixture *f = *state;
	int until[2];
	assert_int_equal(f->ops->add(f->p, f->fd[0], TAG, true, true), 0);
	pid_t child = fork_child(until);
	f->ops->close(f->p, f->fd[0]);
	f->fd[0] = -1;
	assert_int_equal(write(f->fd[1], "the child has it", 16), 16);
	assert_int_equal(poll_once(f, 0).tag, 0);
	close(until[0]);
	close(until[1]);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void
end_of_stream_is_readable(void **state) {
	struct fixture *f = *state;
	assert_int_equal(f->ops->add(f->p, f->fd[0], TAG, true, false), 0);
	assert_int_equal(shutdown(f->fd[1], SHUT_WR), 0);
	struct poller_event e = poll_once(f, -1);
	assert_true(e.read);
	assert_false(e.eof);
}

static void
hang_up_is_reported_with_write_interest(void **state) {
	struct fixture *f = *state;
	assert_int_equal(f->ops->add(f->p, f->fd[0], TAG, true, true), 0);
	close_end(f, 1);
	struct poller_event e = poll_once(f, -1);
	assert_true(e.read && e.eof);
}

static void
failed_connect_ends_as_writable(void **state) {
	struct fixture *f = *state;
	// A port that was just ours and is closed again refuses connections.
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int holder = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(holder, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(getsockname(holder, (struct sockaddr *)&addr, &len), 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int r = connect(fd, (struct sockaddr *)&addr, len);
	if (r != 0 && errno == EINPROGRESS) {
		assert_int_equal(f->ops->add(f->p, fd, TAG, true, true), 0);
		assert_true(poll_once(f, -1).write);
		f->ops->del(f->p, fd);
	}
	close(fd);
	close(holder);
}

static void
a_regular_file_is_refused(void **state) {
	struct fixture *f = *state;
	char name[] = "/tmp/skynet-poller-XXXXXX";
	int fd = mkstemp(name);
	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(f->ops->add(f->p, fd, TAG, true, false), -1);
	close(fd);
}

static void
wake_ends_the_next_wait_once(void **state) {
	struct fixture *f = *state;
	struct poller_event ev[2];
	f->ops->wake(f->p);
	f->ops->wake(f->p);
	assert_int_equal(f->ops->wait(f->p, ev, 2, -1), 0);
	assert_int_equal(f->ops->wait(f->p, ev, 2, 0), 0);
}

static void *
wake_from_thread(void *ud) {
	struct fixture *f = ud;
	f->ops->wake(f->p);
	return NULL;
}

static void
wake_reaches_a_waiting_thread(void **state) {
	struct fixture *f = *state;
	struct poller_event ev[2];
	pthread_t pid;
	pthread_create(&pid, NULL, wake_from_thread, f);
	assert_int_equal(f->ops->wait(f->p, ev, 2, -1), 0);
	pthread_join(pid, NULL);
}

static void
time_limit_ends_a_wait(void **state) {
	struct fixture *f = *state;
	assert_int_equal(f->ops->add(f->p, f->fd[0], TAG, true, false), 0);
	assert_int_equal(poll_once(f, 5).tag, 0);
}

static void
many_ready_descriptors_are_all_reported_in_rounds(void **state) {
	struct fixture *f = *state;
	enum { N = 100 };
	int pair[N][2];
	bool seen[N] = {false};
	for (int i = 0; i < N; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]), 0);
		assert_int_equal(f->ops->add(f->p, pair[i][0], (uintptr_t)(i + 1), true, false), 0);
		assert_int_equal(write(pair[i][1], "x", 1), 1);
	}
	for (int left = N; left > 0;) {
		struct poller_event ev[16];
		int n = f->ops->wait(f->p, ev, 16, -1);
		assert_in_range(n, 1, 16);
		for (int i = 0; i < n; i++) {
			char c;
			assert_false(seen[ev[i].tag - 1]);
			seen[ev[i].tag - 1] = true;
			assert_int_equal(read(pair[ev[i].tag - 1][0], &c, 1), 1);
			left--;
		}
	}
	for (int i = 0; i < N; i++) {
		f->ops->del(f->p, pair[i][0]);
		close(pair[i][0]);
		close(pair[i][1]);
	}
}

#define CLAIM(f) cmocka_unit_test_setup_teardown(f, setup_fixture, teardown)

static const struct CMUnitTest claims[] = {
    CLAIM(nothing_is_reported_without_watched_descriptors),
    CLAIM(data_is_reported_until_it_is_read),
    CLAIM(interest_follows_set),
    CLAIM(add_with_write_interest_reports_room),
    CLAIM(a_deleted_descriptor_is_silent_and_can_be_added_again),
    CLAIM(a_closed_descriptor_is_silent_and_its_number_can_be_added_again),
    CLAIM(a_closed_descriptor_that_a_child_has_is_silent),
    CLAIM(end_of_stream_is_readable),
    CLAIM(hang_up_is_reported_with_write_interest),
    CLAIM(failed_connect_ends_as_writable),
    CLAIM(a_regular_file_is_refused),
    CLAIM(wake_ends_the_next_wait_once),
    CLAIM(wake_reaches_a_waiting_thread),
    CLAIM(time_limit_ends_a_wait),
    CLAIM(many_ready_descriptors_are_all_reported_in_rounds),
};

int
main(void) {
	ops = poller_native();
	int failed = cmocka_run_group_tests_name(ops->name, claims, NULL, NULL);
#ifdef __linux__
	ops = poller_kqueue_shim();
	failed += cmocka_run_group_tests_name("kqueue over a shim", claims, NULL, NULL);
#endif
	return failed;
}
