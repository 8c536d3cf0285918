/*
 * Addresses of services: the table from handle to context and the local names.
 * Owns one counted reference to every registered context.
 *
 * A handle is (node id << 24 | index). Indices are issued in increasing order,
 * so that a stale handle stays dead until 2^24 more have been issued. Look-ups
 * take no lock and may run on any thread; registering, naming and retiring
 * serialise on one mutex that is never held while user code runs.
 */
#ifndef SKYNET_HANDLE_H
#define SKYNET_HANDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HANDLE_MASK 0xffffff
#define HANDLE_REMOTE_SHIFT 24

struct skynet_context;

/* Before anything else here. harbor: node id. thread is not used any more. */
void skynet_handle_init(int harbor, int thread);

/* Nothing to do for a thread any more; kept for modules that call it. */
void skynet_handle_register_thread(void);

/*
 * Reserve a new handle, which resolves to nothing yet. 0 when 2^24 - 1
 * services exist.
 */
uint32_t skynet_handle_reserve(void);

/* Give back a reserved handle that was never published. */
void skynet_handle_unreserve(uint32_t handle);

/*
 * Let a reserved handle resolve to ctx, which must be complete: from here on
 * other threads see it. Takes over one reference of the caller.
 */
void skynet_handle_publish(uint32_t handle, struct skynet_context *ctx);

/* Reserve and publish; 0 when the table is full. */
uint32_t skynet_handle_register(struct skynet_context *ctx);

/* The context with one reference more, or NULL. Pair with skynet_context_release. */
struct skynet_context *skynet_handle_grab(uint32_t handle);

/*
 * The context without a reference, or NULL. Only inside an epoch section, and
 * only valid until it ends.
 */
struct skynet_context *skynet_handle_peek(uint32_t handle);

/*
 * Remove the handle and all its names at once and kill its service. 1 if it
 * was live, 0 otherwise.
 */
int skynet_handle_retire(uint32_t handle);

/*
 * Kill every service but the log service, which the main thread retires when it
 * is the last one and has written what it has. Nothing can be launched after.
 */
void skynet_handle_retireall(void);

/* Handle of a local name (without the dot), or 0. */
uint32_t skynet_handle_findname(const char *name);

/*
 * A name of the handle (without the dot), or NULL. Looks through all names, takes
 * no lock. Only inside an epoch section, and only valid until it ends.
 */
const char *skynet_handle_peekname(uint32_t handle);

/*
 * Give a live local service a name (without the dot, not empty). Returns
 * `name` itself, or NULL when the name is taken or the handle is not live.
 */
const char *skynet_handle_namehandle(uint32_t handle, const char *name);

/*
 * Handles of all live services in the order of their launch. Returns how many;
 * the caller frees *out with skynet_free.
 */
size_t skynet_handle_snapshot(uint32_t **out);

/* Whether skynet_handle_retireall was called: nothing can be launched any more. */
bool skynet_handle_is_closing(void);

/* Test hook: the index that is tried next (24 bits). */
void skynet_handle_set_next(uint32_t index);

#endif
