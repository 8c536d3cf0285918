/*
 * Services: launch, delivery, references, death. Kernel API for C modules.
 */
#ifndef SKYNET_SERVER_H
#define SKYNET_SERVER_H

#include <stddef.h>
#include <stdint.h>

struct skynet_context;
struct skynet_message;

/*
 * Launch a service: loads the module, runs create and init on this thread,
 * for the account of the new service. param may be NULL. Returns the handle,
 * or 0 when it failed (which is logged). Any thread.
 */
uint32_t skynet_context_new(const char *module, const char *param);

/*
 * Counted references. The context stays valid while one is held; the service
 * is destroyed, on a worker, after it was retired and the last one is gone.
 */
void skynet_context_grab(struct skynet_context *ctx);
void skynet_context_release(struct skynet_context *ctx);

/* One reference for ever, and "do not count me for the end of the process". */
void skynet_context_reserve(struct skynet_context *ctx);

/* The service's handle, which stays its own. Any thread with a reference. */
uint32_t skynet_context_handle(struct skynet_context *ctx);

/* Queue a message: 0, or -1 when dead (the caller keeps the data). Any thread. */
int skynet_context_push(uint32_t handle, struct skynet_message *message);

/* Queue to a referenced context; takes msg whatever happens. Any thread. */
void skynet_context_send(struct skynet_context *ctx, void *msg, size_t sz, uint32_t source,
                         int type, int session);

/*
 * Time (skynet_now) of the event that the message being delivered reports, for
 * those that note it: log lines. Otherwise the present time. Own callback.
 */
uint64_t skynet_context_message_time(struct skynet_context *ctx);

/* Next session of the service, 1..0x7fffffff. Own callback. */
int skynet_context_newsession(struct skynet_context *ctx);

/* Number of counted services. */
int skynet_context_total(void);

/*
 * Bytes of what waits in the mailbox of a service, and some for each message; 0 when it
 * is dead. For those that hand on what strangers send: who asks can stop reading. Any
 * thread.
 */
size_t skynet_context_waiting(uint32_t handle);

/* Set the endless flag of a service and let its module say where it is stuck. */
void skynet_context_endless(uint32_t handle);

/*
 * Deliver everything queued, on the calling thread. Only while no worker runs:
 * for a start that failed.
 */
void skynet_context_dispatchall(struct skynet_context *ctx);

/* Set up the calling thread as the main one, before anything else here. */
void skynet_globalinit(void);
void skynet_globalexit(void);

/* Tell what kind of thread this is, one of the THREAD_ constants. */
void skynet_initthread(int kind);

/* Whether callbacks are timed. Before any worker starts. */
void skynet_profile_enable(int enable);

#endif
