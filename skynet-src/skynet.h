/*
 * The public C API of the framework, for authors of C services and of C
 * libraries for Lua. Functions only: struct skynet_context is opaque.
 *
 * A service is an actor: one instance of a C module with one mailbox and one
 * 32-bit address (handle). Its callback handles one message at a time.
 *
 * Thread rule of each function: "any" is callable from every thread, foreign
 * ones included; "own callback" only while the kernel runs this very service
 * (in its init or its callback).
 */
#ifndef SKYNET_H
#define SKYNET_H

#include "skynet_malloc.h"

#include <stddef.h>
#include <stdint.h>

/* Message types, 0..255. The kernel attaches no meaning to other numbers. */
#define PTYPE_TEXT 0
#define PTYPE_RESPONSE 1 /* answer to a request; expiry of a timer */
#define PTYPE_MULTICAST 2
#define PTYPE_CLIENT 3
#define PTYPE_SYSTEM 4 /* kernel notices; envelopes to the harbor service */
#define PTYPE_HARBOR 5
#define PTYPE_SOCKET 6
#define PTYPE_ERROR 7 /* the request failed, or its receiver died */
#define PTYPE_RESERVED_QUEUE 8
#define PTYPE_RESERVED_DEBUG 9
#define PTYPE_RESERVED_LUA 10
#define PTYPE_RESERVED_SNAX 11

/* Or-ed into the type argument of a send. */
#define PTYPE_TAG_DONTCOPY 0x10000     /* the data becomes the kernel's */
#define PTYPE_TAG_ALLOCSESSION 0x20000 /* allocate a session; argument must be 0 */

struct skynet_context;

/*
 * Log a line: formatted like printf and sent to the log service as the text of
 * service ctx (NULL: the kernel, address 0). The format that is exactly "%*s"
 * takes an int length and a pointer, and logs these bytes verbatim. Any thread.
 */
void skynet_error(struct skynet_context *ctx, const char *fmt, ...);

/*
 * Run a text command, e.g. skynet_command(ctx, "TIMEOUT", "100"). The result
 * is a string that lives until the next command of the same service, or NULL.
 * Own callback.
 */
const char *skynet_command(struct skynet_context *ctx, const char *cmd, const char *param);

/* Address of ":hex" (not checked) or ".name"; 0 when unknown. Any thread. */
uint32_t skynet_queryname(struct skynet_context *ctx, const char *name);

/*
 * Send a message. source 0 stands for ctx's own address; ctx may be NULL only
 * when source is given. Without PTYPE_TAG_DONTCOPY the sz bytes at msg are
 * copied and stay the caller's. With it msg must come from skynet_malloc and
 * is the kernel's from here on, whatever the result.
 * Returns the session used (>= 0), -1 when undeliverable or invalid (unknown
 * type bits, negative session, NULL data with a size), -2 when sz is too large.
 * Any thread; own callback with PTYPE_TAG_ALLOCSESSION.
 */
int skynet_send(struct skynet_context *ctx, uint32_t source, uint32_t destination, int type,
                int session, void *msg, size_t sz);

/* The same to ":hex", ".name" or a global name of at most 16 bytes. */
int skynet_sendname(struct skynet_context *ctx, uint32_t source, const char *destination, int type,
                    int session, void *msg, size_t sz);

/*
 * Nonzero when the handle belongs to another node. *harbor, unless harbor is
 * NULL, becomes its node id. Any thread.
 */
int skynet_isremote(struct skynet_context *ctx, uint32_t handle, int *harbor);

/*
 * A service's message function. msg may be NULL. Return 0: the kernel frees
 * msg afterwards. Nonzero: the callback has taken msg.
 */
typedef int (*skynet_cb)(struct skynet_context *ctx, void *ud, int type, int session,
                         uint32_t source, const void *msg, size_t sz);

/*
 * Set the callback, from the next message on. Without one (NULL), requests are
 * answered with PTYPE_ERROR and everything else is discarded. Own callback.
 */
void skynet_callback(struct skynet_context *ctx, void *ud, skynet_cb cb);

/* Address of the service that this thread works for. Any thread. */
uint32_t skynet_current_handle(void);

/* Centiseconds, on the monotonic clock; see skynet_timer.h. Any thread. */
uint64_t skynet_now(void);

/* Print the C memory of the current service on stderr. Any thread. */
void skynet_debug_memory(const char *info);

#endif
