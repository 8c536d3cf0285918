// client.crypt: skynet.crypt under another name, for plain Lua.
#include "../lua-crypt.h"

int luaopen_client_crypt(lua_State *L);

int
luaopen_client_crypt(lua_State *L) {
	return luaopen_skynet_crypt(L);
}
