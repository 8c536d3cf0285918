/*
 * lua-task-coroutine: module `skynet.task.coroutine`, user coroutines whose
 * body may call blocking functions of the framework.
 *
 * DESIGN. While such a coroutine runs, its extra space points to the task at
 * the root of the resume chain, so a blocking function inside finds the task
 * as if it ran in the task itself. When the coroutine yields because the task
 * is to be suspended (t->state has left TASK_RUNNING), every resume below it
 * in the chain yields too, with a continuation that resumes again. The chain
 * is t->nest, outermost first; it is kept while the task is suspended.
 */
#include "lua-task-imp.h"
#include "lua-task.h"

#include "lua-container.h"
#include "skynet_malloc.h"

static int resume_again(lua_State *L, int status, lua_KContext ctx);

static void
nest_push(struct task *t, lua_State *co) {
	if (t->nest_n == t->nest_cap) {
		t->nest_cap = t->nest_cap == 0 ? 4 : t->nest_cap * 2;
		t->nest = skynet_realloc(t->nest, (size_t)t->nest_cap * sizeof(*t->nest));
	}
	t->nest[t->nest_n++] = co;
	t->top = co;
	task_bind(co, t);
}

static void
nest_pop(struct task *t) {
	lua_State *co = t->nest[--t->nest_n];
	t->top = t->nest_n > 0 ? t->nest[t->nest_n - 1] : t->L;
	task_bind(co, &t->S->orphan);
}

/* The task whose chain L is the innermost member of, or NULL. */
static struct task *
task_at(lua_State *L) {
	struct task *t = task_of(L);
	return t != NULL && t->slot != 0 && t->top == L ? t : NULL;
}

static bool
is_ours(const struct sched *S, lua_State *co) {
	struct task *t = task_of(co);
	return t == &S->orphan || (t != NULL && t->slot != 0 && t->L != co);
}

/* Run co, whose nargs arguments are on its stack. Results as coroutine.resume. */
static int
run(lua_State *L, struct task *t, lua_State *co, int nargs) {
	int nres;
	bool rigid = !lua_isyieldable(L);
	t->rigid += rigid;
	int status = lua_container_resume(t->S->container, co, L, nargs, &nres);
	t->rigid -= rigid;
	if (status == LUA_YIELD && t->state != TASK_RUNNING) {
		/* The task is suspended, and L with it. co stays in the chain. */
		return lua_yieldk(L, 0, (lua_KContext)co, resume_again);
	}
	nest_pop(t);
	if (status != LUA_OK && status != LUA_YIELD) {
		lua_pushboolean(L, 0);
		lua_xmove(co, L, 1);
		return 2;
	}
	if (!lua_checkstack(L, nres + 1)) {
		lua_pop(co, nres);
		lua_pushboolean(L, 0);
		lua_pushliteral(L, "too many results to resume");
		return 2;
	}
	lua_pushboolean(L, 1);
	lua_xmove(co, L, nres);
	return nres + 1;
}

/*
 * The task runs again: the chain was unwound from the outside in, so L's own
 * coroutine is the innermost again and its child continues.
 */
static int
resume_again(lua_State *L, int status, lua_KContext ctx) {
	(void)status;
	lua_settop(L, 1);
	return run(L, task_of(L), (lua_State *)ctx, 0);
}

static int
refuse(lua_State *L, const char *why) {
	lua_pushboolean(L, 0);
	lua_pushstring(L, why);
	return 2;
}

/* Lua: resume(co, ...) -> true, values... or false, message. Yields. */
static int
co_resume(lua_State *L) {
	struct sched *S = sched_of(L);
	luaL_checktype(L, 1, LUA_TTHREAD);
	lua_State *co = lua_tothread(L, 1);
	if (!is_ours(S, co)) {
		return refuse(L, "cannot resume none skynet coroutine");
	}
	struct task *owner = task_of(co);
	if (owner != &S->orphan) {
		if (owner == S->running) {
			return refuse(L, "cannot resume non-suspended coroutine");
		}
		return refuse(L, "cannot resume a skynet coroutine suspend by skynet framework");
	}
	int nargs = lua_gettop(L) - 1;
	if (lua_status(co) == LUA_OK && lua_gettop(co) == 0) {
		return refuse(L, "cannot resume dead coroutine");
	}
	if (lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD) {
		return refuse(L, "cannot resume dead coroutine");
	}
	struct task *t = task_at(L);
	if (t == NULL) {
		return luaL_error(L, "skynet.coroutine.resume outside of a task");
	}
	if (!lua_checkstack(co, nargs)) {
		return refuse(L, "too many arguments to resume");
	}
	lua_xmove(L, co, nargs);
	nest_push(t, co);
	return run(L, t, co, nargs);
}

/* Lua: create(f) -> coroutine */
static int
co_create(lua_State *L) {
	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_State *co = lua_newthread(L);
	task_bind(co, &sched_of(L)->orphan);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	return 1;
}

/* Lua: yield(...): to the resumer */
static int co_yield (lua_State *L) {
	struct task *t = task_at(L);
	if (t == NULL || t->L == L) {
		return luaL_error(L, "Call skynet.coroutine.yield out of skynet.coroutine.resume");
	}
	return lua_yield(L, lua_gettop(L));
}

static const char *
rest_status(lua_State *L, lua_State *co) {
	lua_Debug ar;
	if (L == co) {
		return "running";
	}
	switch (lua_status(co)) {
	case LUA_YIELD:
		return "suspended";
	case LUA_OK:
		if (lua_getstack(co, 0, &ar)) {
			return "normal";
		}
		return lua_gettop(co) == 0 ? "dead" : "suspended";
	default:
		return "dead";
	}
}

/* Lua: status(co) -> "running", "suspended", "normal", "dead" or "blocked" */
static int
co_status(lua_State *L) {
	struct sched *S = sched_of(L);
	luaL_checktype(L, 1, LUA_TTHREAD);
	lua_State *co = lua_tothread(L, 1);
	struct task *t = task_of(co);
	if (is_ours(S, co) && t != &S->orphan && t != S->running) {
		lua_pushliteral(L, "blocked");
	} else {
		lua_pushstring(L, rest_status(L, co));
	}
	return 1;
}

/* Lua: thread([co]) -> coroutine of the root task, is co itself that task? */
static int
co_thread(lua_State *L) {
	struct sched *S = sched_of(L);
	lua_State *co = lua_isnoneornil(L, 1) ? L : lua_tothread(L, 1);
	luaL_argcheck(L, co != NULL, 1, "coroutine expected");
	struct task *t = task_of(co);
	if (t == NULL || t->slot == 0) {
		lua_pushnil(L);
		lua_pushboolean(L, 0);
		return 2;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_threads);
	lua_rawgeti(L, -1, t->slot);
	lua_pushboolean(L, t->L == co);
	return 2;
}

/* Lua: close(co) -> as coroutine.close */
static int
co_close(lua_State *L) {
	struct sched *S = sched_of(L);
	luaL_checktype(L, 1, LUA_TTHREAD);
	lua_State *co = lua_tothread(L, 1);
	struct task *t = task_of(co);
	if (t != &S->orphan && t != &S->main) {
		return luaL_error(L, "cannot close a coroutine that a task runs or waits in");
	}
	if (lua_status(co) != LUA_YIELD && co != L && lua_getstack(co, 0, &(lua_Debug){0})) {
		return luaL_error(L, "cannot close a running coroutine");
	}
	int status = lua_closethread(co, L);
	if (status == LUA_OK) {
		lua_pushboolean(L, 1);
		return 1;
	}
	lua_pushboolean(L, 0);
	lua_xmove(co, L, 1);
	return 2;
}

int
luaopen_skynet_task_coroutine(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"create", co_create}, {"resume", co_resume}, {"yield", co_yield }, {"status", co_status},
	    {"thread", co_thread}, {"close", co_close},   {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlib(L, functions);
	return 1;
}
