/*
 * Start and end of the node. The main thread starts the others and then waits
 * on a semaphore, which signal handlers and the end of services post.
 *
 * The end, however it begins: services are told (signals only), all but the log
 * service are retired, the log service writes what it has and is retired, the
 * threads are joined, what is left is released. Each wait is bounded; a service
 * that holds a worker beyond it is named, and the process ends with a failure.
 */
#include "skynet_start.h"

#include "malloc_arena.h"
#include "platform.h"
#include "scheduler.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_daemon.h"
#include "skynet_env.h"
#include "skynet_handle.h"
#include "skynet_harbor.h"
#include "skynet_imp.h"
#include "skynet_memory.h"
#include "skynet_module.h"
#include "skynet_monitor.h"
#include "skynet_poll.h"
#include "skynet_quiet.h"
#include "skynet_server.h"
#include "skynet_socket.h"
#include "skynet_stdout.h"
#include "skynet_timer.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND UINT64_C(1000000000)
/* Shutting down is the one time when main looks again and again. */
#define POLL_NS 1000000
/* Looks of the monitor thread in one period of the endless-loop check, at least. */
#define MONITOR_LOOKS 5
/* A service that was told to end and neither ends nor gives a sign of work for
   this part of the whole time is left for later. */
#define PATIENCE_PARTS 10

static struct {
	sem_t events;
	atomic_bool is_hangup;  /* SIGHUP arrived */
	atomic_bool is_told;    /* SIGTERM or SIGINT arrived */
	atomic_bool is_closing; /* services were retired */
	atomic_int status;

	/* Monitor thread: 1 while the node is awake; 2 to end the thread. */
	_Atomic(uint32_t) watch;
	uint64_t check_ns;    /* period of the endless-loop check */
	uint64_t quiet_ns;    /* of looks for services that went quiet; 0: none */
	uint64_t shutdown_ns; /* patience with services that end */

	pthread_t *threads;
	int thread_count;
} P;

#define MONITOR_RESTS 0u
#define MONITOR_WATCHES 1u
#define MONITOR_ENDS 2u

/*------------------------------------------------------------------ settings */

/* A positive number of seconds from the environment, in nanoseconds. */
static uint64_t
env_seconds(const char *key, double fallback) {
	const char *text = skynet_getenv(key);
	double seconds = text ? strtod(text, NULL) : fallback;

	/* Below a millisecond nothing sensible could be meant; a day is for ever. */
	if (!(seconds >= 0.001 && seconds <= 86400)) {
		seconds = fallback;
	}
	return (uint64_t)(seconds * (double)NS_PER_SECOND);
}

/* The period of looks for quiet services; a plain 0 switches them off. */
static uint64_t
env_quiet(void) {
	const char *text = skynet_getenv("idle_gc");

	return text && strtod(text, NULL) == 0 ? 0 : env_seconds("idle_gc", 1);
}

/*------------------------------------------------------------------- signals */

static void
on_signal(int sig) {
	int saved_errno = errno;

	if (sig == SIGHUP) {
		atomic_store(&P.is_hangup, true);
	} else if (atomic_exchange(&P.is_told, true)) {
		/* The second one: at once. */
		signal(sig, SIG_DFL);
		raise(sig);
	}
	sem_post(&P.events);
	errno = saved_errno;
}

static void
catch_signals(void) {
	static const int signals[] = {SIGHUP, SIGTERM, SIGINT};
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	size_t i;

	sigemptyset(&action.sa_mask);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		sigaction(signals[i], &action, NULL);
	}
}

/* The log service reopens its file on this message. */
static void
send_hangup(void) {
	uint32_t logger = skynet_handle_findname("logger");
	struct skynet_message msg = {
	    .sz = (size_t)PTYPE_SYSTEM << MESSAGE_TYPE_SHIFT,
	};

	if (logger != 0) {
		skynet_context_push(logger, &msg);
	}
}

/*------------------------------------------------------------------- threads */

static void
monitor_rouse(void) {
	uint32_t rests = MONITOR_RESTS;

	if (atomic_compare_exchange_strong(&P.watch, &rests, MONITOR_WATCHES)) {
		platform_wake_one(&P.watch);
	}
}

/* Nothing runs: rest, unless somebody has just woken up. */
static void
monitor_try_rest(void) {
	uint32_t watches = MONITOR_WATCHES;

	if (!skynet_quiet_is_pending() && scheduler_is_asleep() &&
	    atomic_compare_exchange_strong(&P.watch, &watches, MONITOR_RESTS) &&
	    (!scheduler_is_asleep() || skynet_quiet_is_pending())) {
		monitor_rouse();
	}
}

/* Nanoseconds between two looks. */
static uint64_t
look_period(void) {
	uint64_t ns = P.check_ns / MONITOR_LOOKS;

	return P.quiet_ns > 0 && P.quiet_ns < ns ? P.quiet_ns : ns;
}

static void
check_endless(void) {
	int i;

	for (i = 0; i < scheduler_count(); i++) {
		skynet_monitor_check(scheduler_monitor_at(i));
	}
}

static void *
thread_monitor(void *unused) {
	uint64_t period = look_period();
	uint64_t checked = 0, looked = 0; /* when; 0: to be set */
	uint32_t watch;

	(void)unused;
	skynet_initthread(THREAD_MONITOR);
	platform_thread_name("monitor");
	while ((watch = atomic_load(&P.watch)) != MONITOR_ENDS) {
		uint64_t now = platform_monotonic_ns();
		if (watch == MONITOR_RESTS) {
			checked = looked = 0;
			platform_wait(&P.watch, MONITOR_RESTS, PLATFORM_FOREVER);
			continue;
		}
		checked = checked ? checked : now;
		looked = looked ? looked : now;
		while (atomic_load(&P.watch) == MONITOR_WATCHES &&
		       platform_wait(&P.watch, MONITOR_WATCHES, now + period)) {
		}
		now = platform_monotonic_ns();
		if (P.quiet_ns > 0 && now - looked >= P.quiet_ns) {
			looked = now;
			skynet_quiet_look();
		}
		monitor_try_rest();
		if (now - checked + period / 2 >= P.check_ns) {
			checked = now;
			check_endless();
		}
	}
	return NULL;
}

static void *
thread_timer(void *unused) {
	(void)unused;
	skynet_initthread(THREAD_TIMER);
	platform_thread_name("timer");
	skynet_timer_loop();
	return NULL;
}

static void *
thread_socket(void *loop) {
	malloc_arena_enter((int)(intptr_t)loop);
	skynet_initthread(THREAD_SOCKET);
	platform_thread_name("socket");
	skynet_poll_thread((int)(intptr_t)loop);
	return NULL;
}

static void *
thread_worker(void *index) {
	malloc_arena_enter(skynet_socket_loops() + (int)(intptr_t)index);
	skynet_initthread(THREAD_WORKER);
	scheduler_work((int)(intptr_t)index);
	skynet_socket_flush();
	return NULL;
}

/* Ends the process with other threads in it as they are: nothing is released under them. */
static _Noreturn void
end_at_once(const struct skynet_config *config) {
	if (config->daemon) {
		daemon_exit(config->daemon);
	}
	skynet_stdout_finish();
	fflush(NULL);
	_exit(EXIT_FAILURE);
}

static void
create_thread(const struct skynet_config *config, void *(*body)(void *), void *arg) {
	int err = pthread_create(&P.threads[P.thread_count], NULL, body, arg);

	if (err != 0) {
		fprintf(stderr, "Can't create thread %d: %s\n", P.thread_count, strerror(err));
		end_at_once(config);
	}
	P.thread_count++;
}

static void
create_threads(const struct skynet_config *config) {
	const int workers = config->thread;
	/* Monitor, timer. */
	const int others = 2;
	const int loops = skynet_socket_loops();
	int i;

	P.threads = skynet_malloc((size_t)(workers + others + loops) * sizeof(pthread_t));
	create_thread(config, thread_monitor, NULL);
	create_thread(config, thread_timer, NULL);
	for (i = 0; i < loops; i++) {
		create_thread(config, thread_socket, (void *)(intptr_t)i);
	}
	for (i = 0; i < workers; i++) {
		create_thread(config, thread_worker, (void *)(intptr_t)i);
	}
}

static void
join_threads(void) {
	int i;

	scheduler_stop();
	skynet_timer_stop();
	skynet_socket_exit();
	skynet_poll_exit();
	atomic_store(&P.watch, MONITOR_ENDS);
	platform_wake_all(&P.watch);
	for (i = 0; i < P.thread_count; i++) {
		pthread_join(P.threads[i], NULL);
	}
	skynet_free(P.threads);
}

/*------------------------------------------------------------------- waiting */

static void
pause_briefly(void) {
	struct timespec ts = {.tv_sec = 0, .tv_nsec = POLL_NS};

	nanosleep(&ts, NULL);
}

static bool
is_live(uint32_t handle) {
	struct skynet_context *ctx = skynet_handle_grab(handle);

	if (ctx == NULL) {
		return false;
	}
	skynet_context_release(ctx);
	return true;
}

/*
 * Tell one service to end and wait until it has, or the patience with it is
 * over; `end` is the limit for all.
 */
static void
tell(uint32_t handle, uint64_t end) {
	static const char text[] = "shutdown";
	uint64_t until = platform_monotonic_ns() + P.shutdown_ns / PATIENCE_PARTS;
	struct skynet_message msg = {
	    .data = skynet_strdup(text),
	    .sz = (sizeof(text) - 1) | (size_t)PTYPE_SYSTEM << MESSAGE_TYPE_SHIFT,
	};

	if (skynet_context_push(handle, &msg) != 0) {
		skynet_free(msg.data);
		return;
	}
	if (until > end) {
		until = end;
	}
	while (is_live(handle) && platform_monotonic_ns() < until) {
		pause_briefly();
	}
}

static bool
is_reserved(uint32_t handle) {
	struct skynet_context *ctx = skynet_handle_grab(handle);
	bool reserved = false;

	if (ctx) {
		reserved = ctx->is_reserved;
		skynet_context_release(ctx);
	}
	return reserved;
}

/* SIGTERM: tell the services, the youngest first, each after the one before. */
static void
tell_services(void) {
	uint64_t end = platform_monotonic_ns() + P.shutdown_ns;
	uint32_t logger = skynet_handle_findname("logger");
	uint32_t *list;
	size_t n = skynet_handle_snapshot(&list);

	while (n-- > 0 && platform_monotonic_ns() < end) {
		if (list[n] != logger && !is_reserved(list[n])) {
			tell(list[n], end);
		}
	}
	skynet_free(list);
}

/*----------------------------------------------------------------- the end */

/* Name who holds a worker; joining it would never end. */
static void
give_up(int left) {
	int named = 0;
	int i;

	for (i = 0; i < scheduler_count(); i++) {
		struct skynet_monitor *m = scheduler_monitor_at(i);
		uint32_t handle = atomic_load_explicit(&m->destination, memory_order_relaxed);
		if (handle != 0) {
			named++;
			fprintf(stderr,
			        "error: service :%08" PRIx32 " does not return from a message of "
			        ":%08" PRIx32 ", giving up\n",
			        handle, atomic_load_explicit(&m->source, memory_order_relaxed));
		}
	}
	if (named == 0) {
		/* A reference that somebody forgot to release. */
		fprintf(stderr, "error: %d services are held and do not end, giving up\n", left);
	}
}

/* Wait for services to be gone, as long as there is progress; how many are not. */
static int
wait_for_total(int total) {
	int before = skynet_context_total();
	uint64_t since = platform_monotonic_ns();

	while (skynet_context_total() > total) {
		int now = skynet_context_total();
		if (now != before) {
			before = now;
			since = platform_monotonic_ns();
		}
		if (platform_monotonic_ns() - since > P.shutdown_ns) {
			return now - total;
		}
		pause_briefly();
	}
	return 0;
}

/* Let the log service write what it has, then retire it. */
static void
retire_logger(void) {
	uint32_t handle = skynet_handle_findname("logger");
	struct skynet_context *ctx = handle ? skynet_handle_grab(handle) : NULL;
	uint64_t end = platform_monotonic_ns() + P.shutdown_ns;

	if (ctx == NULL) {
		return;
	}
	while (context_queue_length(ctx) > 0 && platform_monotonic_ns() < end) {
		pause_briefly();
	}
	skynet_handle_retire(handle);
	skynet_context_release(ctx);
}

/* Retire everything. Returns how many services do not end. */
static int
close_services(void) {
	int logger = skynet_handle_findname("logger") != 0 ? 1 : 0;
	int left;

	skynet_handle_retireall();
	left = wait_for_total(logger);
	retire_logger();
	return left > 0 ? left : wait_for_total(0);
}

static void
on_gone(int total) {
	/* 1: the log service of a closing node. */
	if (total == 0 || (total == 1 && skynet_handle_is_closing())) {
		sem_post(&P.events);
	}
}

void
skynet_start_abort(int status) {
	int zero = 0;

	atomic_compare_exchange_strong(&P.status, &zero, status);
	atomic_store(&P.is_closing, true);
	skynet_handle_retireall();
	sem_post(&P.events);
}

int
skynet_start_status(void) {
	return atomic_load(&P.status);
}

/* Until the node ends. Returns how many services do not. */
static int
wait_for_end(void) {
	while (skynet_context_total() > 0) {
		while (sem_wait(&P.events) != 0) {
		}
		if (atomic_exchange(&P.is_hangup, false)) {
			send_hangup();
		}
		if (atomic_load(&P.is_closing)) {
			return close_services();
		}
		if (atomic_load(&P.is_told)) {
			tell_services();
			return close_services();
		}
	}
	return 0;
}

/*----------------------------------------------------------------- the start */

static void
on_rouse(void) {
	monitor_rouse();
	skynet_poll_rouse();
}

static void
init_parts(struct skynet_config *config) {
	sem_init(&P.events, 0, 0);
	P.check_ns = env_seconds("endless_check", 5);
	P.shutdown_ns = env_seconds("shutdown_timeout", 5);
	P.quiet_ns = env_quiet();
	skynet_memory_init();
	skynet_harbor_init(config->harbor);
	skynet_handle_init(config->harbor, config->thread);
	skynet_module_init(config->module_path);
	skynet_timer_init();
	scheduler_init(config->thread);
	scheduler_on_rouse(on_rouse);
	/* Workers start awake: nobody rouses the monitor for them. */
	atomic_store(&P.watch, MONITOR_WATCHES);
	context_on_gone(on_gone);
	skynet_message_disposer(PTYPE_SOCKET, skynet_socket_dispose);
	skynet_message_measurer(PTYPE_SOCKET, skynet_socket_inside);
	context_on_death(skynet_socket_owner_exit);
	skynet_socket_init();
	skynet_poll_init();
	if (P.quiet_ns > 0) {
		skynet_quiet_init();
	}
	skynet_profile_enable(config->profile);
}

static void
fail_to_start(struct skynet_config *config) {
	if (config->daemon) {
		daemon_exit(config->daemon);
	}
	exit(EXIT_FAILURE);
}

/* While no thread has been made that would need one. */
static void
create_arenas(struct skynet_config *config) {
	int err = malloc_arena_create(skynet_socket_loops() + config->thread);

	if (err != 0) {
		fprintf(stderr, "Can't create the threads' arenas: %s\n", strerror(err));
		fail_to_start(config);
	}
}

static void
launch_logger(struct skynet_config *config) {
	uint32_t logger = skynet_context_new(config->logservice, config->logger);

	if (logger == 0) {
		fprintf(stderr, "Can't launch %s service\n", config->logservice);
		fail_to_start(config);
	}
	skynet_handle_namehandle(logger, "logger");
}

static void
launch_bootstrap(struct skynet_config *config) {
	char *text = skynet_strdup(config->bootstrap);
	char *arg = text + strcspn(text, " \t\r\n");
	uint32_t handle;

	if (*arg != '\0') {
		*arg++ = '\0';
		arg += strspn(arg, " \t\r\n");
	}
	handle = skynet_context_new(text, arg);
	skynet_free(text);
	if (handle == 0) {
		struct skynet_context *logger = skynet_handle_grab(skynet_handle_findname("logger"));
		skynet_error(NULL, "Bootstrap error : %s", config->bootstrap);
		if (logger) {
			skynet_context_dispatchall(logger);
		}
		fail_to_start(config);
	}
}

void
skynet_start(struct skynet_config *config) {
	int left;

	catch_signals();
	if (config->daemon && daemon_init(config->daemon) != 0) {
		exit(EXIT_FAILURE);
	}
	/* A daemon has none for long, and must not keep the one of its start open. */
	if (!config->daemon) {
		skynet_stdout_open();
	}
	init_parts(config);
	create_arenas(config);
	launch_logger(config);
	launch_bootstrap(config);
	create_threads(config);
	daemon_ready();
	left = wait_for_end();
	if (left > 0) {
		give_up(left);
		end_at_once(config);
	}
	join_threads();
	skynet_harbor_exit();
	scheduler_drain();
	skynet_socket_flush();
	scheduler_exit();
	skynet_quiet_exit();
	skynet_timer_exit();
	skynet_socket_free();
	if (config->daemon) {
		daemon_exit(config->daemon);
	}
}
