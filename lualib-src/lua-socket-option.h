// Socket options from Lua tables.
#ifndef lua_socket_option_h
#define lua_socket_option_h

#include <lua.h>

#include "socket_option.h"

// Reads the table at `index` into `out`, which holds SOCKET_OPTION_COUNT. Times are
// in 1/100 s. Returns how many there are. Raises for an unknown key, a wrong type, a
// value out of range, and, unless `is_new_listener`, for what only makes sense then.
int socket_option_check(lua_State *L, int index, bool is_new_listener, struct socket_option *out);

#endif
