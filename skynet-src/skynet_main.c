/* The program: reads the configuration file named by its argument, runs the node. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <lua.h>
#include <lauxlib.h>
#include <lualib.h>

#include "skynet.h"
#include "skynet_config.h"
#include "skynet_imp.h"
#include "skynet_malloc.h"
#include "skynet_server.h"
#include "skynet_start.h"

/* A peer that closes its end must not end the node; writes report it. */
static void
ignore_broken_pipes(void) {
	struct sigaction action = {.sa_handler = SIG_IGN};
	sigemptyset(&action.sa_mask);
	sigaction(SIGPIPE, &action, NULL);
}

/* What was closed would be the number of some socket soon, and get what is printed. */
static void
open_standard_descriptors(void) {
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		/* The lowest number that is free: this one. */
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) {
			exit(EXIT_FAILURE); /* nobody could be told */
		}
	}
}

int
main(int argc, char *argv[]) {
	open_standard_descriptors();
	if (argc < 2) {
		fprintf(stderr, "Need a config file; README.md and doc/ describe its keys.\n"
		                "usage: skynet configfilename\n");
		return EXIT_FAILURE;
	}
	ignore_broken_pipes();
	skynet_globalinit();
#ifdef LUA_CACHELIB
	/* What Lua states share must exist before the first of them. It is charged to
	 * no service; lua_sharestats tells how much it is. */
	lua_setsharealloc(skynet_lalloc);
	luaL_initcodecache();
#endif
	struct skynet_config config;
	char *error = skynet_config_load(argv[1], &config);
	if (error != NULL) {
		fprintf(stderr, "%s\n", error);
		skynet_free(error);
		return EXIT_FAILURE;
	}
	skynet_start(&config);
	skynet_globalexit();
	return skynet_start_status();
}
