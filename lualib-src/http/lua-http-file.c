// http.file: files below one folder, for http.static. A path is walked one name at a
// time from the open folder, following no symbolic link, so that nothing outside of it
// can be reached whatever happens on the disk meanwhile.
//
// A root and a file own one descriptor each, until close or collection. Calls may hold
// up the worker while the disk works; nothing yields.
#include <lauxlib.h>
#include <lua.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROOT_META "http.root"
#define FILE_META "http.file"
// Longest name of the path that is opened, and most bytes of one read.
#define NAME_MAX_BYTES 255
#define READ_MAX (1024 * 1024)

int luaopen_http_file(lua_State *L);

static int *
new_descriptor(lua_State *L, const char *meta) {
	int *fd = lua_newuserdatauv(L, sizeof(*fd), 0);
	*fd = -1;
	luaL_setmetatable(L, meta);
	return fd;
}

static void
close_descriptor(int *fd) {
	if (*fd >= 0) {
		close(*fd);
		*fd = -1;
	}
}

static int
lclose(lua_State *L) {
	close_descriptor(lua_touserdata(L, 1));
	return 0;
}

static int
failure(lua_State *L, const char *why) {
	lua_pushnil(L);
	lua_pushstring(L, why);
	return 2;
}

// root(folder) -> root; nil and the reason
static int
lroot(lua_State *L) {
	const char *folder = luaL_checkstring(L, 1);
	int *fd = new_descriptor(L, ROOT_META);
	*fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0) {
		int e = errno;
		lua_pushnil(L);
		lua_pushfstring(L, "cannot open folder %s: %s", folder, strerror(e));
		return 2;
	}
	return 1;
}

// Opens one name in the folder `at`.
static int
open_name(int at, const char *p, size_t n, bool last) {
	char name[NAME_MAX_BYTES + 1];
	if (n == 0 || n > NAME_MAX_BYTES || memchr(p, '\0', n) != NULL || strncmp(p, "..", n) == 0) {
		// That is also ".".
		errno = ENOENT;
		return -1;
	}
	memcpy(name, p, n);
	name[n] = '\0';
	// A pipe without a writer must not block.
	int flags = last ? O_NONBLOCK : O_DIRECTORY;
	int fd;
	do {
		fd = openat(at, name, flags | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	} while (fd < 0 && errno == EINTR);
	return fd;
}

static int
walk(int root, const char *path, size_t n) {
	int at = root;
	const char *end = path + n;
	for (const char *p = path;;) {
		const char *slash = memchr(p, '/', (size_t)(end - p));
		int next = open_name(at, p, (size_t)((slash == NULL ? end : slash) - p), slash == NULL);
		if (at != root) {
			int e = errno;
			close(at);
			errno = e;
		}
		if (next < 0 || slash == NULL) {
			return next;
		}
		at = next;
		p = slash + 1;
	}
}

// Whether an error means that there is no such file, or none to be served.
static bool
is_missing(int err) {
	switch (err) {
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case EACCES:
	case EPERM:
	case ENAMETOOLONG:
	case ENXIO:
	case ENODEV:
		return true;
	default:
		return false;
	}
}

// root:open(path) -> file; nil and "folder" or "missing"; nil, the reason and true if there
// may be one that can't be opened now
static int
lopen(lua_State *L) {
	const int *root = luaL_checkudata(L, 1, ROOT_META);
	size_t n;
	const char *path = luaL_checklstring(L, 2, &n);
	int *fd = new_descriptor(L, FILE_META);
	struct stat st;
	*fd = walk(*root, path, n);
	if (*fd < 0 || fstat(*fd, &st) != 0) {
		int err = errno;
		close_descriptor(fd);
		lua_pushnil(L);
		lua_pushstring(L, is_missing(err) ? "missing" : strerror(err));
		lua_pushboolean(L, !is_missing(err));
		return 3;
	}
	if (!S_ISREG(st.st_mode)) {
		// Not when it is collected: many may be asked for before.
		close_descriptor(fd);
		return failure(L, S_ISDIR(st.st_mode) ? "folder" : "missing");
	}
	return 1;
}

// file:stat() -> bytes, time of the last change in s, the same in ns as a mark
static int
lstat_file(lua_State *L) {
	const int *fd = luaL_checkudata(L, 1, FILE_META);
	struct stat st;
	if (fstat(*fd, &st) != 0) {
		return luaL_error(L, "fstat: %s", strerror(errno));
	}
	lua_pushinteger(L, (lua_Integer)st.st_size);
	lua_pushinteger(L, (lua_Integer)st.st_mtime);
	lua_pushinteger(L, (lua_Integer)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	return 3;
}

// file:read(offset, bytes) -> bytes, fewer at the end
static int
lread(lua_State *L) {
	const int *fd = luaL_checkudata(L, 1, FILE_META);
	lua_Integer offset = luaL_checkinteger(L, 2);
	lua_Integer n = luaL_checkinteger(L, 3);
	luaL_argcheck(L, offset >= 0, 2, "offset out of range");
	luaL_argcheck(L, n >= 0 && n <= READ_MAX, 3, "size out of range");
	luaL_Buffer b;
	char *p = luaL_buffinitsize(L, &b, (size_t)n);
	ssize_t got;
	do {
		got = pread(*fd, p, (size_t)n, (off_t)offset);
	} while (got < 0 && errno == EINTR);
	if (got < 0) {
		return luaL_error(L, "pread: %s", strerror(errno));
	}
	luaL_pushresultsize(&b, (size_t)got);
	return 1;
}

// Two digits at p, or -1.
static int
two_digits(const char *p) {
	if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9') {
		return -1;
	}
	return (p[0] - '0') * 10 + (p[1] - '0');
}

static int
month_of(const char *p) {
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	for (int i = 0; i < 12; i++) {
		if (memcmp(names + 3 * i, p, 3) == 0) {
			return i;
		}
	}
	return -1;
}

// parse_date("Sun, 06 Nov 1994 08:49:37 GMT") -> seconds since 1970; nothing when it is
// another form, which a condition then does not hold for (RFC 9110, 13.1.3)
static int
lparse_date(lua_State *L) {
	size_t n;
	if (lua_type(L, 1) != LUA_TSTRING) {
		return 0;
	}
	const char *p = lua_tolstring(L, 1, &n);
	if (n != 29 || memcmp(p + 25, " GMT", 4) != 0) {
		return 0;
	}
	struct tm tm;
	memset(&tm, 0, sizeof(tm));
	int century = two_digits(p + 12);
	int year = two_digits(p + 14);
	tm.tm_mday = two_digits(p + 5);
	tm.tm_mon = month_of(p + 8);
	tm.tm_hour = two_digits(p + 17);
	tm.tm_min = two_digits(p + 20);
	tm.tm_sec = two_digits(p + 23);
	if (century < 0 || year < 0 || tm.tm_mday < 1 || tm.tm_mon < 0 || tm.tm_hour < 0 ||
	    tm.tm_min < 0 || tm.tm_sec < 0) {
		return 0;
	}
	tm.tm_year = century * 100 + year - 1900;
	lua_pushinteger(L, (lua_Integer)timegm(&tm));
	return 1;
}

static void
new_class(lua_State *L, const char *meta, const luaL_Reg *methods) {
	if (luaL_newmetatable(L, meta)) {
		lua_newtable(L);
		luaL_setfuncs(L, methods, 0);
		lua_setfield(L, -2, "__index");
		lua_pushcfunction(L, lclose);
		lua_setfield(L, -2, "__gc");
	}
	lua_pop(L, 1);
}

static int
lclose_file(lua_State *L) {
	luaL_checkudata(L, 1, FILE_META);
	return lclose(L);
}

int
luaopen_http_file(lua_State *L) {
	static const luaL_Reg root_methods[] = {
	    {"open", lopen},
	    {NULL, NULL},
	};
	static const luaL_Reg file_methods[] = {
	    {"stat", lstat_file},
	    {"read", lread},
	    {"close", lclose_file},
	    {NULL, NULL},
	};
	static const luaL_Reg functions[] = {
	    {"root", lroot},
	    {"parse_date", lparse_date},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	new_class(L, ROOT_META, root_methods);
	new_class(L, FILE_META, file_methods);
	luaL_newlib(L, functions);
	return 1;
}
