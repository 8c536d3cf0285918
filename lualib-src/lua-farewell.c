/*
 * skynet.farewell: a last message, sent when the VM of a service is closed,
 * however the service ended. For services that keep something for others and
 * have to hear that nobody needs it any more; a finalizer could not tell them,
 * as it must not send.
 *
 * Owns the message until then. It is sent by the thread that closes the VM.
 */
#include <lauxlib.h>
#include <lua.h>

#include "lua-container.h"
#include "lua-skynet.h"
#include "skynet.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

struct farewell {
	struct lua_container_ending ending;
	uint32_t source, destination;
	void *msg;
	size_t sz;
};

/* The VM is closed. */
static void
say(struct lua_container_ending *e) {
	struct farewell *f = (struct farewell *)e;
	/* The receiver may be gone, too; then the message is freed. */
	skynet_send(NULL, f->source, f->destination, PTYPE_RESERVED_LUA | PTYPE_TAG_DONTCOPY, 0, f->msg,
	            f->sz);
	skynet_free(f);
}

/*
 * farewell(handle, ptr, size): send a packed message of the class `lua` to a
 * service when this one is gone. Takes the memory unless it raises. Cannot be
 * taken back, so say it once.
 */
static int
farewell(lua_State *L) {
	uint32_t destination = (uint32_t)luaL_checkinteger(L, 1);
	luaL_checktype(L, 2, LUA_TLIGHTUSERDATA);
	lua_Integer size = luaL_checkinteger(L, 3);
	luaL_argcheck(L, size >= 0, 3, "a size expected");
	struct lua_container *c = lua_container(L);
	if (c == NULL) {
		return luaL_error(L, "a farewell is for the VMs of services");
	}
	uint32_t source = skynet_context_handle(lua_skynet_context(L));
	struct farewell *f = skynet_malloc(sizeof(*f));
	f->source = source;
	f->destination = destination;
	f->msg = lua_touserdata(L, 2);
	f->sz = (size_t)size;
	f->ending.run = say;
	f->ending.next = c->endings;
	c->endings = &f->ending;
	return 0;
}

int luaopen_skynet_farewell(lua_State *L);

int
luaopen_skynet_farewell(lua_State *L) {
	luaL_checkversion(L);
	lua_pushcfunction(L, farewell);
	return 1;
}
