/*
 * lua-sink: what takes the bytes of a connection in place of its buffer, see socket.feed.
 *
 * A userdata is one when its metatable has a field STREAM_SINK_FIELD, a light userdata
 * that points to a struct stream_sink that lives as long as the library. Its functions run
 * on the thread of the service; held, feed and message between two messages: they must not use Lua.
 */
#ifndef LUA_SINK_H
#define LUA_SINK_H

#include <stddef.h>

#include <lua.h>

#define STREAM_SINK_FIELD "__sink"

struct stream_sink {
	/* Bytes that were fed and are held yet. */
	size_t (*held)(const void *ud);
	/* Takes a block of skynet_malloc. */
	void (*feed)(void *ud, char *block, size_t size);
	/*
	 * Pushes the next item of what was fed, of one value or more, and returns their number;
	 * 0 = more has to come. The only one that a task calls, and that may raise.
	 */
	int (*next)(lua_State *L, void *ud);
	/*
	 * For gates, NULL if there is no such thing: the next item, if that is a message, as a
	 * block of skynet_malloc, which is given. Returns its kind, more than 0; 0 = more has to
	 * come; less than 0 = the next item is none, and is left to be taken another way.
	 */
	int (*message)(void *ud, char **block, size_t *size);
};

#endif
