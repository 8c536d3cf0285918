/*
 * Module records hang in a fixed array of hash chains that only grow at their
 * heads, so a lookup of a loaded module takes no lock. Loading is serialised by
 * one mutex, under which the chain is looked at again. The table owns the
 * records, which lie in a grow-only pool, and the dynamic loader's handles;
 * neither is ever given back.
 */
#include "skynet_module.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "pool_global.h"
#include "skynet.h"

#define BUCKETS 64
/* A page holds the records of some 30 modules; a node has about five. */
#define RECORD_PAGE 4096

struct record {
	struct skynet_module module; /* first: the public face of the record */
	struct record *next;         /* constant once published */
	char name[];
};

static struct {
	pthread_mutex_t lock; /* loading */
	struct pool *pool;    /* under lock; holds the records */
	char *path;           /* usable templates; constant after skynet_module_init */
	_Atomic(struct record *) bucket[BUCKETS];
} M = {.lock = PTHREAD_MUTEX_INITIALIZER};

/*--------------------------------------------------------------------- path */

/* The next non-empty template at or behind `path`: its start and length, or NULL. */
static const char *
next_template(const char *path, size_t *length) {
	path += strspn(path, ";");
	*length = strcspn(path, ";");
	return *length > 0 ? path : NULL;
}

int
skynet_module_path_count(const char *path) {
	int count = 0;
	size_t length;
	while ((path = next_template(path, &length)) != NULL) {
		count += memchr(path, '?', length) != NULL;
		path += length;
	}
	return count;
}

void
skynet_module_init(const char *path) {
	char *usable = skynet_malloc(strlen(path) + 2);
	size_t used = 0;
	size_t length;
	while ((path = next_template(path, &length)) != NULL) {
		if (memchr(path, '?', length) == NULL) {
			fprintf(stderr, "Invalid C service path, no ? in %.*s\n", (int)length, path);
		} else {
			memcpy(usable + used, path, length);
			used += length;
			usable[used++] = ';';
		}
		path += length;
	}
	usable[used] = '\0';
	skynet_free(M.path);
	M.path = usable;
}

/*------------------------------------------------------------------ loading */

/*
 * A launch that comes to nothing leaves its reason in both places: stderr, as
 * operators know it from before there is a log, and the log.
 */
__attribute__((format(printf, 1, 2))) static void
report(const char *format, ...) {
	va_list ap;
	va_start(ap, format);
	char *text = NULL;
	int length = vasprintf(&text, format, ap);
	va_end(ap);
	if (length < 0) {
		return;
	}
	fprintf(stderr, "%s\n", text);
	skynet_error(NULL, "error: %s", text);
	skynet_free(text);
}

/* The template with its first `?` replaced by the name; free with skynet_free. */
static char *
expand(const char *template, size_t length, const char *name) {
	size_t head = (size_t)((const char *)memchr(template, '?', length) - template);
	size_t name_length = strlen(name);
	char *file = skynet_malloc(length + name_length);
	memcpy(file, template, head);
	memcpy(file + head, name, name_length);
	memcpy(file + head + name_length, template + head + 1, length - head - 1);
	file[length - 1 + name_length] = '\0';
	return file;
}

/* `list` with one more message; takes `list`, gives the longer one. */
static char *
append_message(char *list, const char *message) {
	size_t old = list == NULL ? 0 : strlen(list);
	size_t add = strlen(message);
	list = skynet_realloc(list, old + add + 3);
	if (old > 0) {
		memcpy(list + old, "; ", 2);
		old += 2;
	}
	memcpy(list + old, message, add + 1);
	return list;
}

/* Open the first file that the loader accepts; NULL with all its complaints reported. */
static void *
open_library(const char *name) {
	char *messages = NULL;
	void *library = NULL;
	size_t length;
	const char *template = M.path == NULL ? "" : M.path;
	while (library == NULL && (template = next_template(template, &length)) != NULL) {
		char *file = expand(template, length, name);
		library = dlopen(file, RTLD_NOW | RTLD_GLOBAL);
		if (library == NULL) {
			messages = append_message(messages, dlerror());
		}
		skynet_free(file);
		template += length;
	}
	if (library == NULL) {
		report("try open %s failed : %s (see cpath in the configuration)", name,
		       messages == NULL ? "empty path" : messages);
	}
	skynet_free(messages);
	return library;
}

/* Function NAME_suffix of the library; the prefix is what follows the name's last dot. */
static void *
symbol(const char *name, void *library, const char *suffix) {
	const char *dot = strrchr(name, '.');
	const char *prefix = dot == NULL ? name : dot + 1;
	size_t length = strlen(prefix);
	char *full = skynet_malloc(length + strlen(suffix) + 1);
	memcpy(full, prefix, length);
	strcpy(full + length, suffix);
	void *address = dlsym(library, full);
	skynet_free(full);
	return address;
}

/* Room that is there for as long as the process. */
static void *
permanent(size_t size) {
	if (M.pool == NULL) {
		M.pool = pool_global_create(&(struct pool_options){.name = "modules"}, RECORD_PAGE);
	}
	return M.pool ? pool_global_alloc(M.pool, size) : NULL;
}

/* A record not yet in the table; NULL when the library has no NAME_init. Nothing
 * is taken from the pool for such a one, however often it is asked for. */
static struct record *
record_new(const char *name, void *library) {
	skynet_dl_init init = (skynet_dl_init)symbol(name, library, "_init");
	if (init == NULL) {
		report("module %s has no init function", name);
		return NULL;
	}
	struct record *r = permanent(sizeof(*r) + strlen(name) + 1);
	if (r == NULL) {
		report("no memory for module %s", name);
		return NULL;
	}
	strcpy(r->name, name);
	r->module.name = r->name;
	r->module.module = library;
	r->module.create = (skynet_dl_create)symbol(name, library, "_create");
	r->module.init = init;
	r->module.release = (skynet_dl_release)symbol(name, library, "_release");
	r->module.signal = (skynet_dl_signal)symbol(name, library, "_signal");
	r->module.stuck = (skynet_dl_stuck)symbol(name, library, "_stuck");
	r->module.quiet = (skynet_dl_quiet)symbol(name, library, "_quiet");
	r->module.memory = (skynet_dl_memory)symbol(name, library, "_memory");
	return r;
}

/*-------------------------------------------------------------------- query */

static _Atomic(struct record *) *
bucket_of(const char *name) {
	uint32_t hash = 2166136261u;
	for (const char *p = name; *p != '\0'; p++) {
		hash = (hash ^ (unsigned char)*p) * 16777619u;
	}
	return &M.bucket[hash % BUCKETS];
}

static struct record *
chain_find(_Atomic(struct record *) *bucket, const char *name) {
	/* Acquire pairs with the release in load_module: the record is complete. */
	struct record *r = atomic_load_explicit(bucket, memory_order_acquire);
	while (r != NULL && strcmp(r->name, name) != 0) {
		r = r->next;
	}
	return r;
}

/* Under the lock, after a second look: load and publish. */
static struct record *
load_module(_Atomic(struct record *) *bucket, const char *name) {
	void *library = open_library(name);
	if (library == NULL) {
		return NULL;
	}
	struct record *r = record_new(name, library);
	if (r == NULL) {
		dlclose(library);
		return NULL;
	}
	/* Relaxed: only loaders change the head, and they hold the lock. */
	r->next = atomic_load_explicit(bucket, memory_order_relaxed);
	/* Release pairs with the acquire in chain_find. */
	atomic_store_explicit(bucket, r, memory_order_release);
	return r;
}

struct skynet_module *
skynet_module_query(const char *name) {
	if (name[0] == '\0') {
		report("try open a module without a name");
		return NULL;
	}
	_Atomic(struct record *) *bucket = bucket_of(name);
	struct record *r = chain_find(bucket, name);
	if (r == NULL) {
		pthread_mutex_lock(&M.lock);
		r = chain_find(bucket, name);
		if (r == NULL) {
			r = load_module(bucket, name);
		}
		pthread_mutex_unlock(&M.lock);
	}
	return r == NULL ? NULL : &r->module;
}

/*---------------------------------------------------------------- instances */

void *
skynet_module_instance_create(struct skynet_module *m) {
	if (m->create == NULL) {
		return (void *)(intptr_t)~0;
	}
	void *inst = m->create();
	if (inst == NULL) {
		report("module %s failed to create an instance", m->name);
	}
	return inst;
}

int
skynet_module_instance_init(struct skynet_module *m, void *inst, struct skynet_context *ctx,
                            const char *param) {
	return m->init(inst, ctx, param);
}

void
skynet_module_instance_release(struct skynet_module *m, void *inst) {
	if (m->release != NULL) {
		m->release(inst);
	}
}

void
skynet_module_instance_signal(struct skynet_module *m, void *inst, int signal) {
	if (m->signal != NULL) {
		m->signal(inst, signal);
	}
}

void
skynet_module_instance_stuck(struct skynet_module *m, void *inst) {
	if (m->stuck != NULL) {
		m->stuck(inst);
	}
}

void
skynet_module_instance_memory(struct skynet_module *m, void *inst,
                              struct skynet_module_memory *out) {
	*out = (struct skynet_module_memory){0};
	if (m->memory != NULL) {
		m->memory(inst, out);
	}
}

enum skynet_quiet
skynet_module_instance_quiet(struct skynet_module *m, void *inst, size_t *freed) {
	return m->quiet != NULL ? m->quiet(inst, freed) : QUIET_DONE;
}
