// Receive buffers of the socket driver (net.md 3.1).
#ifndef lua_socket_buffer_h
#define lua_socket_buffer_h

#include <lua.h>

// Adds the buffer functions to the table on top of the stack.
void socket_buffer_register(lua_State *L);

#endif
