/* protobuf.core: schema objects and their functions, see lua-protobuf.h. */
#include "lua-protobuf.h"

#include "../lua-nomem.h"
#include "../lua-options.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define META "protobuf.schema"
/* User values of a schema object. */
#define NAMES 1
#define TYPES 2
#define USER_VALUES 2
/* A buffer that grew beyond this is not kept for the next message. */
#define KEEP_BUFFER ((size_t)64 << 10)
#define MAX_PATH 512

struct box {
	struct pb_schema *schema; /* one reference */
	struct pb_buffer buffer;
};

//-------------------------------------------------------------------- errors

static void
append_path(char *path, size_t *size, const char *text) {
	int n = snprintf(path + *size, MAX_PATH - *size, "%s", text);
	*size = n < 0 || (size_t)n >= MAX_PATH - *size ? MAX_PATH - 1 : *size + (size_t)n;
}

static void
append_place(char *path, size_t *size, const struct pb_place *place) {
	if (place->outer != NULL) {
		append_place(path, size, place->outer);
	} else {
		append_path(path, size, place->message->name.s);
	}
	if (place->field != NULL) {
		append_path(path, size, ".");
		append_path(path, size, place->field->name.s);
	}
	if (place->index != 0) {
		char index[32];
		snprintf(index, sizeof(index), "[%lld]", (long long)place->index);
		append_path(path, size, index);
	}
}

int
pb_raise(lua_State *L, const struct pb_place *place, const char *format, ...) {
	char path[MAX_PATH];
	size_t size = 0;
	append_place(path, &size, place);
	va_list args;
	va_start(args, format);
	const char *text = lua_pushvfstring(L, format, args);
	va_end(args);
	luaL_error(L, "protobuf: %s: %s", path, text);
	abort(); // luaL_error does not return
}

//------------------------------------------------------------------- schemas

static struct box *
check_box(lua_State *L) {
	return luaL_checkudata(L, 1, META);
}

static int
lgc(lua_State *L) {
	struct box *b = check_box(L);
	pb_buffer_free(L, &b->buffer);
	if (b->schema != NULL) {
		pb_schema_unref(b->schema);
		b->schema = NULL;
	}
	return 0;
}

/* Push an object for the schema that the box on top will get. */
static struct box *
new_box(lua_State *L) {
	struct box *b = lua_newuserdatauv(L, sizeof(*b), USER_VALUES);
	*b = (struct box){.schema = NULL};
	luaL_setmetatable(L, META);
	return b;
}

/* Fills the user values of the object on top. */
static void
fill_box(lua_State *L, const struct pb_schema *s) {
	lua_createtable(L, s->name_count < INT32_MAX ? (int)s->name_count : 0, 0);
	for (size_t i = 0; i < s->name_count; i++) {
		lua_pushlstring(L, s->name[i].s, s->name[i].size);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setiuservalue(L, -2, NAMES);
	lua_createtable(L, 0, 0);
	lua_setiuservalue(L, -2, TYPES);
}

/* load(descriptor set) -> schema */
static int
lload(lua_State *L) {
	size_t size;
	const char *set = luaL_checklstring(L, 1, &size);
	struct box *b = new_box(L);
	struct pb_error error;
	b->schema = pb_schema_new(set, size, &error);
	if (b->schema == NULL) {
		return luaL_error(L, "protobuf: %s", error.text);
	}
	fill_box(L, b->schema);
	return 1;
}

//-------------------------------------------------------------------- shared

/* Schemas that the services of a process share, by name; each holds a reference. */
struct shared {
	struct shared *next;
	struct pb_schema *schema;
	char name[];
};

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared *shared_list; /* under shared_lock, as what it leads to */

static struct shared *
find_shared(const char *name) {
	struct shared *s = shared_list;
	while (s != NULL && strcmp(s->name, name) != 0) {
		s = s->next;
	}
	return s;
}

/* schema:share(name): replaces what had the name; objects that exist keep theirs. */
static int
lshare(lua_State *L) {
	const struct box *b = check_box(L);
	size_t size;
	const char *name = luaL_checklstring(L, 2, &size);
	luaL_argcheck(L, strlen(name) == size, 2, "name with a zero byte");
	struct shared *fresh = malloc(sizeof(*fresh) + size + 1);
	if (fresh == NULL) {
		return lua_nomem(L);
	}
	memcpy(fresh->name, name, size + 1);
	fresh->schema = b->schema;
	pb_schema_ref(b->schema);
	pthread_mutex_lock(&shared_lock);
	struct shared *s = find_shared(name);
	struct pb_schema *old = NULL;
	if (s != NULL) {
		old = s->schema;
		s->schema = fresh->schema;
	} else {
		fresh->next = shared_list;
		shared_list = fresh;
	}
	pthread_mutex_unlock(&shared_lock);
	if (old != NULL) {
		pb_schema_unref(old);
		free(fresh);
	}
	return 0;
}

/* shared(name) -> schema, or nil */
static int
lshared(lua_State *L) {
	const char *name = luaL_checkstring(L, 1);
	struct box *b = new_box(L);
	pthread_mutex_lock(&shared_lock);
	const struct shared *s = find_shared(name);
	if (s != NULL) {
		pb_schema_ref(s->schema);
		b->schema = s->schema;
	}
	pthread_mutex_unlock(&shared_lock);
	if (b->schema == NULL) {
		return 0;
	}
	fill_box(L, b->schema);
	return 1;
}

//--------------------------------------------------------------------- types

/* The message type that argument 2 names. Pushes the names and leaves their index. */
static const struct pb_message *
check_message(lua_State *L, const struct box *b, int *names) {
	size_t size;
	luaL_checktype(L, 2, LUA_TSTRING);
	const char *name = lua_tolstring(L, 2, &size);
	lua_getiuservalue(L, 1, NAMES);
	*names = lua_gettop(L);
	lua_getiuservalue(L, 1, TYPES);
	lua_pushvalue(L, 2);
	if (lua_rawget(L, -2) == LUA_TNIL) {
		const struct pb_message *m = pb_schema_message(b->schema, name, size);
		if (m == NULL) {
			luaL_error(L, "protobuf: there is no message type '%s'", name);
		}
		lua_pop(L, 1);
		lua_pushvalue(L, 2);
		lua_pushlightuserdata(L, (void *)(uintptr_t)m);
		lua_rawset(L, -3);
		lua_pop(L, 1);
		return m;
	}
	const struct pb_message *m = lua_touserdata(L, -1);
	lua_pop(L, 2);
	return m;
}

static const struct pb_enum *
check_enum(lua_State *L, const struct box *b) {
	size_t size;
	const char *name = luaL_checklstring(L, 2, &size);
	const struct pb_enum *e = pb_schema_enum(b->schema, name, size);
	if (e == NULL) {
		luaL_error(L, "protobuf: there is no enum '%s'", name);
	}
	return e;
}

/* schema:encode(type, table) -> bytes */
static int
lencode(lua_State *L) {
	struct box *b = check_box(L);
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 3);
	int names;
	const struct pb_message *m = check_message(L, b, &names);
	b->buffer.size = 0;
	pb_encode(L, names, m, 3, &b->buffer);
	lua_pushlstring(L, (const char *)b->buffer.bytes, b->buffer.size);
	if (b->buffer.capacity > KEEP_BUFFER) {
		pb_buffer_free(L, &b->buffer);
	}
	return 1;
}

static bool
check_option(lua_State *L, int arg, const char *name) {
	lua_getfield(L, arg, name);
	bool value = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return value;
}

/* schema:decode(type, bytes [, options]) -> table; or (type, pointer, size [, options]) */
static int
ldecode(lua_State *L) {
	const struct box *b = check_box(L);
	size_t size;
	const uint8_t *data;
	int next = 4;
	if (lua_islightuserdata(L, 3)) {
		lua_Integer n = luaL_checkinteger(L, 4);
		luaL_argcheck(L, n >= 0, 4, "negative size");
		data = lua_touserdata(L, 3);
		size = (size_t)n;
		next = 5;
	} else {
		luaL_checktype(L, 3, LUA_TSTRING);
		data = (const uint8_t *)lua_tolstring(L, 3, &size);
	}
	luaL_argcheck(L, data != NULL, 3, "null pointer");
	struct pb_decode_options options = {false, false};
	if (!lua_isnoneornil(L, next)) {
		static const char *const known[] = {"defaults", "unknown", NULL};
		lua_checkoptions(L, next, "protobuf", known);
		options.defaults = check_option(L, next, "defaults");
		options.unknown = check_option(L, next, "unknown");
	}
	lua_settop(L, next);
	int names;
	const struct pb_message *m = check_message(L, b, &names);
	pb_decode(L, names, m, (struct pb_reader){data, data + size}, &options);
	return 1;
}

/* schema:default(type) -> table with the defaults of all fields but messages and oneofs */
static int
ldefault(lua_State *L) {
	const struct box *b = check_box(L);
	lua_settop(L, 2);
	int names;
	const struct pb_message *m = check_message(L, b, &names);
	lua_createtable(L, 0, 0);
	for (size_t i = 0; i < m->count; i++) {
		if (m->field[i].oneof < 0) {
			lua_rawgeti(L, names, (lua_Integer)m->field[i].id + 1);
			pb_push_default(L, names, &m->field[i]);
			lua_rawset(L, -3);
		}
	}
	return 1;
}

/* schema:enum(type, name) -> number or nil; schema:enum(type, number) -> name or nil */
static int
lenum(lua_State *L) {
	const struct box *b = check_box(L);
	const struct pb_enum *e = check_enum(L, b);
	const struct pb_enum_value *v = NULL;
	if (lua_type(L, 3) == LUA_TSTRING) {
		size_t size;
		const char *name = lua_tolstring(L, 3, &size);
		v = pb_enum_by_name(e, name, size);
		if (v != NULL) {
			lua_pushinteger(L, v->number);
		}
	} else {
		lua_Integer n = luaL_checkinteger(L, 3);
		v = n >= INT32_MIN && n <= INT32_MAX ? pb_enum_by_number(e, (int32_t)n) : NULL;
		if (v != NULL) {
			lua_pushlstring(L, v->name.s, v->name.size);
		}
	}
	return v != NULL;
}

/* schema:messages() -> array of full names, sorted */
static int
lmessages(lua_State *L) {
	const struct pb_schema *s = check_box(L)->schema;
	lua_createtable(L, 0, 0);
	lua_Integer n = 0;
	for (size_t i = 0; i < s->message_count; i++) {
		if (!s->message[i]->is_map_entry) {
			lua_pushlstring(L, s->message[i]->name.s, s->message[i]->name.size);
			lua_rawseti(L, -2, ++n);
		}
	}
	return 1;
}

int
luaopen_protobuf_core(lua_State *L) {
	static const luaL_Reg methods[] = {
	    {"encode", lencode},     {"decode", ldecode}, {"default", ldefault}, {"enum", lenum},
	    {"messages", lmessages}, {"share", lshare},   {NULL, NULL},
	};
	static const luaL_Reg functions[] = {
	    {"load", lload},
	    {"shared", lshared},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	if (luaL_newmetatable(L, META)) {
		lua_pushcfunction(L, lgc);
		lua_setfield(L, -2, "__gc");
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	luaL_newlib(L, functions);
	return 1;
}
