// Name resolution on threads of its own, so that neither the loop nor a worker ever
// sits in the system's resolver.
//
// Owns the job queue and up to MAX_THREADS detached threads, which are made when
// there is a job and end when there is none: at rest there are none. A thread
// may be stuck in the system for long; it then outlives the server, holds a
// reference to the queue, and its result goes nowhere.
#include "socket_impl.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <time.h>

#include "platform.h"
#include "skynet_malloc.h"

// Slow answers block a thread each; this many names may be slow at a time.
#define MAX_THREADS 8
// This many names may wait for a thread.
#define MAX_JOBS 4096

struct resolve_job {
	struct resolve_job *next;
	// Who wants it: a connecting id, or a waiting thread.
	struct socket_loop *loop;
	int id;
	int port;
	bool abandoned; // the waiting thread gave up: free the job when done
	bool done;
	int error; // of getaddrinfo
	int cause; // errno, if that says more
	int socktype;
	struct addrinfo *result;
	char host[];
};

struct resolver {
	pthread_mutex_t lock;
	pthread_cond_t finished; // some waited-for job is done
	struct resolve_job *head;
	struct resolve_job *tail;
	int jobs; // in the queue
	int threads;
	int refs; // the server and each thread
	bool closed;
};

static struct resolve_job *
job_new(const char *host, int socktype) {
	size_t n = strlen(host) + 1;
	struct resolve_job *job = skynet_calloc(1, sizeof(*job) + n);
	job->socktype = socktype;
	memcpy(job->host, host, n);
	return job;
}

static void
job_free(struct resolve_job *job) {
	if (job->result != NULL) {
		freeaddrinfo(job->result);
	}
	skynet_free(job);
}

struct resolver *
resolver_create(void) {
	struct resolver *r = skynet_calloc(1, sizeof(*r));
	pthread_condattr_t attr;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
#ifndef __APPLE__
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
	pthread_cond_init(&r->finished, &attr);
	pthread_condattr_destroy(&attr);
	r->refs = 1;
	return r;
}

// Unlocks.
static void
release_locked(struct resolver *r) {
	bool last = --r->refs == 0;
	pthread_mutex_unlock(&r->lock);
	if (last) {
		pthread_cond_destroy(&r->finished);
		pthread_mutex_destroy(&r->lock);
		skynet_free(r);
	}
}

void
resolver_release(struct resolver *r) {
	pthread_mutex_lock(&r->lock);
	r->closed = true;
	while (r->head != NULL) {
		struct resolve_job *job = r->head;
		r->head = job->next;
		job_free(job);
	}
	r->tail = NULL;
	release_locked(r);
}

static void
lookup(struct resolve_job *job) {
	struct addrinfo hints;
	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = job->socktype;
	hints.ai_family = AF_UNSPEC;
	job->error = getaddrinfo(job->host, NULL, &hints, &job->result);
	if (job->error != 0) {
		job->cause = job->error == EAI_SYSTEM ? errno : platform_lack_of_descriptors();
		job->result = NULL;
	}
}

// "System error" helps nobody.
static const char *
failure_text(const struct resolve_job *job) {
	switch (job->cause) {
	case EMFILE:
	case ENFILE:
		return "Too many open files";
	case ENOMEM:
		return "Cannot allocate memory";
	default:
		return job->error == EAI_SYSTEM ? strerror(job->cause) : gai_strerror(job->error);
	}
}

static void
post_result(struct resolve_job *job) {
	struct socket_command c = {.op = COMMAND_RESOLVED, .id = job->id};
	if (job->error == 0) {
		c.list = address_list_from(job->result, job->port);
		job->result = NULL;
	}
	if (c.list == NULL) {
		c.text = job->error != 0 ? failure_text(job) : gai_strerror(EAI_NONAME);
	}
	command_post(job->loop, &c);
}

// With the lock.
static void
finish(struct resolver *r, struct resolve_job *job) {
	if (job->loop == NULL && !job->abandoned) {
		job->done = true;
		pthread_cond_broadcast(&r->finished);
		return;
	}
	if (job->loop != NULL && !r->closed) {
		post_result(job);
	}
	job_free(job);
}

static void *
resolver_thread(void *ud) {
	struct resolver *r = ud;
	platform_thread_name("resolver");
	pthread_mutex_lock(&r->lock);
	while (r->head != NULL) {
		struct resolve_job *job = r->head;
		r->head = job->next;
		r->jobs--;
		if (job->abandoned) {
			job_free(job);
			continue;
		}
		pthread_mutex_unlock(&r->lock);
		lookup(job);
		pthread_mutex_lock(&r->lock);
		finish(r, job);
	}
	r->threads--;
	release_locked(r);
	return NULL;
}

static bool
start_thread(struct resolver *r) {
	pthread_attr_t attr;
	pthread_t pid;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	bool ok = pthread_create(&pid, &attr, resolver_thread, r) == 0;
	pthread_attr_destroy(&attr);
	if (ok) {
		r->threads++;
		r->refs++;
	}
	return ok;
}

// With the lock. Takes the job. False: too many jobs, or no thread could be made; the
// job is freed.
static bool
submit(struct resolver *r, struct resolve_job *job) {
	bool can_start = r->threads < MAX_THREADS;
	if (r->jobs >= MAX_JOBS || (can_start && !start_thread(r) && r->threads == 0)) {
		job_free(job);
		return false;
	}
	if (r->head == NULL) {
		r->head = job;
	} else {
		r->tail->next = job;
	}
	r->tail = job;
	r->jobs++;
	return true;
}

void
resolver_request(struct resolver *r, struct socket_loop *loop, int id, const char *host, int port) {
	struct resolve_job *job = job_new(host, SOCK_STREAM);
	job->loop = loop;
	job->id = id;
	job->port = port;
	pthread_mutex_lock(&r->lock);
	bool ok = submit(r, job);
	pthread_mutex_unlock(&r->lock);
	if (!ok) {
		struct socket_command c = {.op = COMMAND_RESOLVED, .id = id};
		c.text = gai_strerror(EAI_AGAIN);
		command_post(loop, &c);
	}
}

static struct timespec
deadline_after(int timeout_ms) {
	struct timespec ts;
#ifdef __APPLE__
	clock_gettime(CLOCK_REALTIME, &ts);
#else
	clock_gettime(CLOCK_MONOTONIC, &ts);
#endif
	ts.tv_sec += timeout_ms / 1000;
	ts.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return ts;
}

const char *
resolver_lookup(struct resolver *r, const char *host, int socktype, int timeout_ms,
                struct addrinfo **out) {
	struct timespec limit = deadline_after(timeout_ms);
	struct resolve_job *job = job_new(host, socktype);
	pthread_mutex_lock(&r->lock);
	if (!submit(r, job)) {
		pthread_mutex_unlock(&r->lock);
		return gai_strerror(EAI_AGAIN);
	}
	while (!job->done) {
		if (pthread_cond_timedwait(&r->finished, &r->lock, &limit) == ETIMEDOUT && !job->done) {
			job->abandoned = true;
			pthread_mutex_unlock(&r->lock);
			return "Name resolution timed out";
		}
	}
	pthread_mutex_unlock(&r->lock);
	const char *failure = job->error == 0 ? NULL : failure_text(job);
	*out = job->result;
	job->result = NULL;
	job_free(job);
	return failure;
}
