/*
 * skynet.wallclock: the time of day as the system has it, steps included (skynet.time goes on
 * evenly), and the time zone. Loads in any Lua; keeps no state, nothing yields.
 */
#include <lauxlib.h>
#include <lua.h>

#include <time.h>

int luaopen_skynet_wallclock(lua_State *L);

/* now() -> seconds since 1970, with a fraction */
static int
lnow(lua_State *L) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	lua_pushnumber(L, (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec / 1e9);
	return 1;
}

/* utc_offset(time) -> seconds that local time is ahead of UTC then */
static int
lutc_offset(lua_State *L) {
	time_t t = (time_t)luaL_checkinteger(L, 1);
	struct tm tm;
	if (localtime_r(&t, &tm) == NULL) {
		return luaL_argerror(L, 1, "time out of range");
	}
	lua_pushinteger(L, tm.tm_gmtoff);
	return 1;
}

int
luaopen_skynet_wallclock(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"now", lnow},
	    {"utc_offset", lutc_offset},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	tzset();
	luaL_newlib(L, functions);
	return 1;
}
