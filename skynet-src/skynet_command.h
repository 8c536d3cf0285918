/*
 * The text commands of skynet_command (declared in skynet.h): TIMEOUT, REG,
 * QUERY, NAME, EXIT, KILL, LAUNCH, GETENV, SETENV, STARTTIME, STAT, SIGNAL,
 * ABORT, MONITOR, LOGON, LOGOFF. Call from the service's own thread of control.
 */
#ifndef SKYNET_COMMAND_H
#define SKYNET_COMMAND_H

#include <stdint.h>

struct skynet_context;

/*
 * Retire service `handle` as KILL does: the node's exit monitor, if one is
 * set, gets its notice first. handle 0 is the caller.
 */
void skynet_command_exit(struct skynet_context *ctx, uint32_t handle);

#endif
