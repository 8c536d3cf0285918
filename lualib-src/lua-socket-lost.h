/*
 * lua-socket-lost: events of sockets that a service has no memory to handle.
 *
 * An event that is lost leaves its connection half open, or its reader waiting, for ever.
 * So whoever serves protocol `socket` in Lua gives task_set_filter this function. What the
 * handlers of events must do for it: be able to begin again wherever one of them failed, and
 * end the connection on ERROR.
 */
#ifndef LUA_SOCKET_LOST_H
#define LUA_SOCKET_LOST_H

#include <stddef.h>

#include "lua-task.h"

/*
 * Data that is lost makes the rest of its stream worthless: it becomes an ERROR of its
 * connection. A connection that nobody was told of is closed, and its CLOSE is told. Datagrams
 * may be lost. The other events are delivered again. A task_lost, see lua-task.h.
 */
void socket_event_lost(struct sched *S, struct skynet_context *ctx, void *msg, size_t size);

/*
 * To be called before a block goes into the hands of Lua code: the calls up to the function
 * that takes it need no memory then, so that it is not lost on the way. Raises.
 */
void socket_block_room(lua_State *L);

#endif
