/*
** The code cache: compiled files, one for the process. Reading and compiling
** files is in share_load.c; here is what is known of them.
**
** A file is known by its resolved path and its content. The content is told by
** its digest, and by the state of the file (struct stat) when it was read: as
** long as that is the same, the file need not be read again. Two writes in the
** same tick of the file system's clock leave the state the same, so a state is
** only trusted, *settled*, when the file had been left alone for a while.
**
** Owns a hash table of names under one lock. The names of a file are its path
** and a few of the spellings that were asked for, so that a hit costs one look
** and one stat. A file owns its names and one reference of its chunk.
*/

#define LUA_CORE
#define _GNU_SOURCE /* lprefix.h asks for less: no fractions of seconds in struct stat */

#include "lprefix.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "share.h"

/* More spellings of one file are not remembered; they take the long way. */
enum { MAX_SPELLINGS = 8 };

enum { FIRST_BUCKETS = 64 };

/* Some file systems count in steps of two seconds. */
int share_settlingtime = 3;

struct file {
	struct share_chunk *chunk;
	struct stat st;
	int is_settled;
	uint64_t digest[2];
	struct name *names; /* the first is the path */
	int nspellings;
};

struct name {
	struct name *next; /* in its bucket */
	struct name *next_of_file;
	struct file *file;
	unsigned hash;
	int is_path;
	char text[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct name **buckets;
static size_t nbuckets; /* a power of 2, or zero */
static size_t nnames;
static size_t nfiles;

/*------------------------------------------------------------------- names */

static size_t
name_size(const char *text) {
	return sizeof(struct name) + strlen(text) + 1;
}

static struct file *
find(const char *text, int is_path) {
	unsigned hash = share_hash(text, strlen(text));
	struct name *n = nbuckets == 0 ? NULL : buckets[hash & (nbuckets - 1)];
	while (n != NULL && (n->hash != hash || n->is_path != is_path || strcmp(n->text, text) != 0)) {
		n = n->next;
	}
	return n == NULL ? NULL : n->file;
}

static int
grow(void) {
	size_t n = nbuckets == 0 ? FIRST_BUCKETS : nbuckets * 2;
	struct name **bigger = share_alloc(n * sizeof(*bigger));
	if (bigger == NULL) {
		return 0;
	}
	memset(bigger, 0, n * sizeof(*bigger));
	for (size_t i = 0; i < nbuckets; i++) {
		struct name *next;
		for (struct name *e = buckets[i]; e != NULL; e = next) {
			next = e->next;
			e->next = bigger[e->hash & (n - 1)];
			bigger[e->hash & (n - 1)] = e;
		}
	}
	share_free(buckets, nbuckets * sizeof(*buckets));
	buckets = bigger;
	nbuckets = n;
	return 1;
}

/*
** Returns 0 when memory runs out.
*/
static int
add_name(struct file *f, const char *text, int is_path) {
	struct name *n;
	if (nnames >= nbuckets && !grow()) {
		return 0;
	}
	n = share_alloc(name_size(text));
	if (n == NULL) {
		return 0;
	}
	memcpy(n->text, text, strlen(text) + 1);
	n->hash = share_hash(text, strlen(text));
	n->is_path = is_path;
	n->file = f;
	n->next = buckets[n->hash & (nbuckets - 1)];
	buckets[n->hash & (nbuckets - 1)] = n;
	n->next_of_file = f->names;
	f->names = n;
	nnames++;
	return 1;
}

static void
remove_name(struct name *n) {
	struct name **link = &buckets[n->hash & (nbuckets - 1)];
	while (*link != n) {
		link = &(*link)->next;
	}
	*link = n->next;
	nnames--;
	share_free(n, name_size(n->text));
}

/*
** The file has this spelling from now on. One that belonged to another file
** (a link was changed) moves. When memory runs out, it stays unknown.
*/
static void
add_spelling(struct file *f, const char *text) {
	struct file *other = find(text, 0);
	if (other == f) {
		return;
	}
	if (other != NULL) {
		struct name **link = &other->names;
		while ((*link)->is_path || strcmp((*link)->text, text) != 0) {
			link = &(*link)->next_of_file;
		}
		struct name *n = *link;
		*link = n->next_of_file;
		other->nspellings--;
		remove_name(n);
	}
	if (f->nspellings < MAX_SPELLINGS && add_name(f, text, 0)) {
		f->nspellings++;
	}
}

/*------------------------------------------------------------------- files */

static struct share_chunk *
use(struct share_chunk *chunk) {
	/* The file's own reference keeps it alive under the lock. */
	atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);
	return chunk;
}

/*
** To be called without the lock when chunks have left the cache.
*/
static void
tell_states(void) {
	/* Pairs with the acquire in share_collect: it finds the chunks marked. */
	atomic_fetch_add_explicit(&share_clears, 1, memory_order_release);
}

static void
drop(struct share_chunk *chunk) {
	atomic_store_explicit(&chunk->is_dropped, 1, memory_order_relaxed);
	share_release(chunk);
}

static int
has_content(const struct file *f, const struct share_source *source) {
	return f->digest[0] == source->digest[0] && f->digest[1] == source->digest[1] &&
	       f->st.st_size == source->st.st_size;
}

static void
note_state(struct file *f, const struct share_source *source) {
	f->st = source->st;
	f->is_settled = source->is_settled;
}

static void
remove_file(struct file *f) {
	while (f->names != NULL) {
		struct name *n = f->names;
		f->names = n->next_of_file;
		remove_name(n);
	}
	drop(f->chunk);
	share_free(f, sizeof(*f));
	nfiles--;
}

/*
** Returns NULL when memory runs out.
*/
static struct file *
new_file(const struct share_source *source) {
	struct file *f = share_alloc(sizeof(*f));
	if (f == NULL) {
		return NULL;
	}
	memset(f, 0, sizeof(*f));
	if (!add_name(f, source->path, 1)) {
		share_free(f, sizeof(*f));
		return NULL;
	}
	nfiles++;
	return f;
}

/*
** True when the time has not stood still between the last change and now.
*/
int
share_issettled(const struct stat *st) {
	struct timespec now;
	time_t changed = st->st_mtime > st->st_ctime ? st->st_mtime : st->st_ctime;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec - changed > share_settlingtime;
}

static int
same_time(struct timespec a, struct timespec b) {
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

int
share_samestate(const struct stat *a, const struct stat *b) {
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	       same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim);
}

/*--------------------------------------------------------------------- API */

struct share_chunk *
share_cachefind(const char *spelling, const struct stat *st) {
	struct share_chunk *chunk = NULL;
	pthread_mutex_lock(&lock);
	struct file *f = find(spelling, 0);
	if (f != NULL && (st == NULL || (f->is_settled && share_samestate(&f->st, st)))) {
		chunk = use(f->chunk);
	}
	pthread_mutex_unlock(&lock);
	return chunk;
}

struct share_chunk *
share_cachematch(const char *spelling, const struct share_source *source) {
	struct share_chunk *chunk = NULL;
	pthread_mutex_lock(&lock);
	struct file *f = find(source->path, 1);
	if (f != NULL && has_content(f, source)) {
		chunk = use(f->chunk);
		note_state(f, source);
		add_spelling(f, spelling);
	}
	pthread_mutex_unlock(&lock);
	return chunk;
}

struct share_chunk *
share_cachestore(const char *spelling, const struct share_source *source,
                 struct share_chunk *chunk) {
	struct share_chunk *used = chunk, *old = NULL;
	pthread_mutex_lock(&lock);
	struct file *f = find(source->path, 1);
	if (f != NULL && has_content(f, source)) {
		used = use(f->chunk);
	} else {
		if (f != NULL) {
			old = f->chunk;
		} else {
			f = new_file(source);
		}
		if (f != NULL) {
			f->chunk = use(chunk);
			memcpy(f->digest, source->digest, sizeof(f->digest));
		}
	}
	if (f != NULL) {
		note_state(f, source);
		add_spelling(f, spelling);
	} else {
		/* It works uncached, and is freed by its only user. */
		atomic_store_explicit(&chunk->is_dropped, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&lock);
	if (used != chunk) {
		share_release(chunk);
	}
	if (old != NULL) {
		drop(old);
		tell_states();
	}
	return used;
}

int
share_cacheforget(const char *spelling, const char *path) {
	pthread_mutex_lock(&lock);
	struct file *f = path != NULL ? find(path, 1) : NULL;
	f = f != NULL ? f : find(spelling, 0);
	if (f != NULL) {
		remove_file(f);
	}
	pthread_mutex_unlock(&lock);
	if (f != NULL) {
		tell_states();
	}
	return f != NULL;
}

void
share_cacheclear(void) {
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < nbuckets; i++) {
		while (buckets[i] != NULL) {
			remove_file(buckets[i]->file);
		}
	}
	share_free(buckets, nbuckets * sizeof(*buckets));
	buckets = NULL;
	nbuckets = 0;
	pthread_mutex_unlock(&lock);
	tell_states();
}

int
share_cacheusers(const char *spelling, const char *path) {
	int users = -1;
	pthread_mutex_lock(&lock);
	struct file *f = path != NULL ? find(path, 1) : NULL;
	f = f != NULL ? f : find(spelling, 0);
	if (f != NULL) {
		users = (int)atomic_load_explicit(&f->chunk->refs, memory_order_relaxed) - 1;
	}
	pthread_mutex_unlock(&lock);
	return users;
}

void
share_cachestats(struct lua_ShareStats *stats) {
	pthread_mutex_lock(&lock);
	stats->cache_count = nfiles;
	pthread_mutex_unlock(&lock);
}
