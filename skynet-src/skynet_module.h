/*
 * Loader of C service modules: shared objects NAME.so found through the
 * templates of the configuration key `cpath`, exporting NAME_create,
 * NAME_init (required), NAME_release, NAME_signal, NAME_stuck, NAME_memory and
 * NAME_quiet.
 *
 * A module is loaded once, at its first use, and stays for ever; its record is
 * shared by all its instances. Any thread may query.
 */
#ifndef SKYNET_MODULE_H
#define SKYNET_MODULE_H

#include <stddef.h>

struct skynet_context;

typedef void *(*skynet_dl_create)(void);
typedef int (*skynet_dl_init)(void *inst, struct skynet_context *ctx, const char *param);
typedef void (*skynet_dl_release)(void *inst);
typedef void (*skynet_dl_signal)(void *inst, int signal);
typedef void (*skynet_dl_stuck)(void *inst);

/* What an instance holds that the accounts of malloc do not show, in bytes. */
struct skynet_module_memory {
	size_t heap;   /* of its own, as the heap of a Lua state */
	size_t shared; /* shared with other instances, as code */
};
typedef void (*skynet_dl_memory)(void *inst, struct skynet_module_memory *out);

/* What NAME_quiet says: nothing left, another step would do good, not now. */
enum skynet_quiet { QUIET_DONE, QUIET_MORE, QUIET_LATER };
typedef enum skynet_quiet (*skynet_dl_quiet)(void *inst, size_t *freed);

struct skynet_module {
	const char *name;
	void *module; /* handle of the dynamic loader */
	skynet_dl_create create;
	skynet_dl_init init;
	skynet_dl_release release;
	skynet_dl_signal signal;
	skynet_dl_stuck stuck;
	skynet_dl_memory memory;
	skynet_dl_quiet quiet;
};

/*
 * Set the search path: templates separated by `;`, each with a `?` that stands
 * for the module's name. The text is copied. Once, before any thread starts.
 * Templates without `?` are named on stderr and skipped.
 */
void skynet_module_init(const char *path);

/* Number of templates in `path` that contain a `?`: 0 means it is useless. */
int skynet_module_path_count(const char *path);

/*
 * The module `name`, loaded now if need be. NULL when it cannot be used; the
 * reason is then on stderr and in the log. The record is never freed.
 */
struct skynet_module *skynet_module_query(const char *name);

/*
 * Call NAME_create. Without one the instance is the all-ones pointer. NULL:
 * the module refused, which has been logged; do not go on.
 */
void *skynet_module_instance_create(struct skynet_module *m);

/* Call NAME_init; 0 means success. `param` may be NULL. */
int skynet_module_instance_init(struct skynet_module *m, void *inst, struct skynet_context *ctx,
                                const char *param);

/* Call NAME_release, if there is one. */
void skynet_module_instance_release(struct skynet_module *m, void *inst);

/* Call NAME_signal, if there is one, on this thread. */
void skynet_module_instance_signal(struct skynet_module *m, void *inst, int signal);

/*
 * Call NAME_stuck, if there is one, on this thread: the callback of the
 * instance has been running for suspiciously long, let it say where it is.
 */
void skynet_module_instance_stuck(struct skynet_module *m, void *inst);

/*
 * Call NAME_memory, if there is one (else all is 0), on this thread, at any time
 * after create; the caller keeps the instance alive.
 */
void skynet_module_instance_memory(struct skynet_module *m, void *inst,
                                   struct skynet_module_memory *out);

/*
 * Call NAME_quiet, if there is one: the service has nothing to do for a while
 * and may clean up, for well under a millisecond. Alone with the instance, as in
 * a callback. *freed: bytes given back by this step.
 */
enum skynet_quiet skynet_module_instance_quiet(struct skynet_module *m, void *inst, size_t *freed);

#endif
