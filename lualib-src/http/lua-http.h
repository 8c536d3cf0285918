// What the parts of http.codec put into its table.
#ifndef lua_http_h
#define lua_http_h

#include <lua.h>

#include <stdbool.h>

// Each adds its functions to the table on top of the stack.
void http_reader_register(lua_State *L);
void http_writer_register(lua_State *L);

#endif
