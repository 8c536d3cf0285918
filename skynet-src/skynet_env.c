/*
 * The environment is a fixed array of hash chains that only ever grow at their
 * heads. It owns its entries, which live in a grow-only pool: nothing is freed
 * before the process ends, so readers need no lock.
 *
 * Writers (start-up, and SETENV now and then) are serialised by one mutex.
 */
#include "skynet_env.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "pool_global.h"
#include "skynet.h"

/* Some configs have hundreds of keys; nobody has hundreds of thousands. */
#define BUCKETS 512

struct entry {
	struct entry *next; /* written before publication, constant afterwards */
	const char *value;  /* behind the key in the same allocation */
	char key[];
};

static struct {
	pthread_mutex_t lock;                    /* writers */
	struct pool *pool;                       /* under lock; holds every entry */
	_Atomic(struct entry *) bucket[BUCKETS]; /* written under lock, read by anybody */
} E = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Atomic(struct entry *) *
bucket_of(const char *key) {
	uint32_t hash = 2166136261u; /* FNV-1a: keys are short words from a file we trust */
	for (const char *p = key; *p != '\0'; p++) {
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	}
	return &E.bucket[hash % BUCKETS];
}

/* Under lock. */
static void *
arena_alloc(size_t size) {
	if (E.pool == NULL) {
		E.pool =
		    pool_global_create(&(struct pool_options){.name = "environment"}, POOL_GLOBAL_MIN_PAGE);
	}
	return pool_global_alloc(E.pool, size);
}

static struct entry *
entry_new(const char *key, const char *value) {
	size_t key_size = strlen(key) + 1;
	size_t value_size = strlen(value) + 1;
	struct entry *e = arena_alloc(sizeof(*e) + key_size + value_size);
	memcpy(e->key, key, key_size);
	memcpy(e->key + key_size, value, value_size);
	e->value = e->key + key_size;
	return e;
}

static const char *
chain_find(_Atomic(struct entry *) *bucket, const char *key) {
	/* Acquire pairs with the release in skynet_env_add: the entry is complete. */
	struct entry *e = atomic_load_explicit(bucket, memory_order_acquire);
	for (; e != NULL; e = e->next) {
		if (strcmp(e->key, key) == 0) {
			return e->value;
		}
	}
	return NULL;
}

const char *
skynet_getenv(const char *key) {
	return chain_find(bucket_of(key), key);
}

int
skynet_env_add(const char *key, const char *value) {
	_Atomic(struct entry *) *bucket = bucket_of(key);
	int result = -1;
	pthread_mutex_lock(&E.lock);
	if (chain_find(bucket, key) == NULL) {
		struct entry *e = entry_new(key, value);
		/* Relaxed: only writers change the head, and we hold their lock. */
		e->next = atomic_load_explicit(bucket, memory_order_relaxed);
		/* Release pairs with the acquire in chain_find. */
		atomic_store_explicit(bucket, e, memory_order_release);
		result = 0;
	}
	pthread_mutex_unlock(&E.lock);
	return result;
}

void
skynet_setenv(const char *key, const char *value) {
	if (skynet_env_add(key, value) != 0) {
		skynet_error(NULL, "error: Can't setenv exist key : %s", key);
	}
}
