"""A module from outside the tree: built with platform.mk and the public
headers alone, loaded into the node, resolved from the executable."""

import os
import subprocess

from harness import LIMIT, Node, OUT, ROOT, Skip, VARIANT

MAKEFILE = """
include {root}/platform.mk
extmod.so: extmod.c
	$(CC) -Wall -Werror $(SHARED) -I{root}/skynet-src -I{root}/3rd/lua -o $@ $<
"""

MODULE = r"""
#include "atomic.h"
#include "rwlock.h"
#include "skynet.h"
#include "skynet_socket.h"
#include "spinlock.h"
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

struct ext { struct spinlock lock; ATOM_INT seen; lua_State *L; };

static int
on_message(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
           const void *msg, size_t sz)
{
	struct ext *e = ud;
	(void)type; (void)session; (void)source;
	SPIN_LOCK(e)
	ATOM_FINC(&e->seen);
	SPIN_UNLOCK(e)
	lua_pushlstring(e->L, msg, sz);
	skynet_error(ctx, "extmod got %s, message %d", lua_tostring(e->L, -1), ATOM_LOAD(&e->seen));
	skynet_command(ctx, "ABORT", NULL);
	return 0;
}

void *
extmod_create(void)
{
	struct ext *e = malloc(sizeof(*e));
	SPIN_INIT(e)
	ATOM_INIT(&e->seen, 0);
	e->L = luaL_newstate();
	return e;
}

int
extmod_init(void *inst, struct skynet_context *ctx, const char *param)
{
	skynet_callback(ctx, inst, on_message);
	skynet_sendname(ctx, 0, skynet_command(ctx, "REG", NULL), PTYPE_TEXT, 0, (void *)param,
	                strlen(param));
	return 0;
}

void
extmod_release(void *inst)
{
	struct ext *e = inst;
	lua_close(e->L);
	skynet_free(e); /* from malloc: the two families are one */
}
"""


def test_module_built_outside_runs_in_the_node():
    if VARIANT != "release":
        raise Skip("an outside module is not instrumented")
    files = {"Makefile": MAKEFILE.format(root=ROOT), "extmod.c": MODULE,
             "app.cfg": f'harbor = 0\nthread = 2\nbootstrap = "extmod hello"\n'
                        f'cpath = "{OUT}/cservice/?.so;./?.so"\n'}
    # The node is started after the module is built, in the same folder.
    with Node("", files=files, args=["app.cfg.none"]) as n:
        n.wait_exit()
        env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
        p = subprocess.run(["make", "-C", n.dir], capture_output=True, text=True, env=env)
        assert p.returncode == 0, p.stdout + p.stderr
        out = subprocess.run([os.path.join(OUT, "skynet"), "app.cfg"], cwd=n.dir, text=True,
                             capture_output=True, timeout=LIMIT)
        assert out.returncode == 0, out.stdout + out.stderr
        assert "extmod got hello, message 1" in out.stdout, out.stdout
