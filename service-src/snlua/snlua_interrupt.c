/*
 * Interrupts: make the Lua thread that runs now raise an error, or log where it
 * is, at its next instruction.
 *
 * Problem: only the thread that runs a Lua state may touch it, and that thread
 * is busy in the interpreter, which must not pay for a check. Idea: the
 * requester notes for which message the interrupt is meant (its serial number)
 * and sends a signal to the system thread that handles it. The signal handler,
 * running on that very thread, finds the service in a thread-local variable and
 * sets a Lua count hook, the one thing the Lua manual allows there. The hook
 * does the rest, at an instruction boundary. An idle service has an even serial
 * and cannot be interrupted; a request that arrives late finds another serial
 * and is dropped, so it can never hit another message or another service.
 * Cost when unused: four stores per message.
 *
 * A hook that did not run before its message ended stays in that Lua thread
 * (and in threads made from it) and removes itself when it runs at last.
 */
#include "snlua.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include <lauxlib.h>

/* Ignored by default, meant for out-of-band data, which nobody here asks for. */
#define INTERRUPT_SIGNAL SIGURG

/*
 * The service whose message this thread handles. Read by the handler on it: in
 * static storage of the thread, since the first use of any other kind may
 * allocate.
 */
static _Thread_local _Atomic(struct snlua *) current __attribute__((tls_model("initial-exec")));

static uint64_t
serial_now(struct snlua *l) {
	return atomic_load_explicit(&l->turn.serial, memory_order_relaxed);
}

/* Whether an interrupt of this kind is meant for the message in progress. */
static int
is_wanted(struct snlua *l, enum interrupt_kind kind) {
	/* Acquire pairs with the release in snlua_interrupt, though only the value matters. */
	return atomic_load_explicit(&l->interrupt.wanted[kind], memory_order_acquire) == serial_now(l);
}

static int
take(struct snlua *l, enum interrupt_kind kind) {
	if (!is_wanted(l, kind)) {
		return 0;
	}
	atomic_store_explicit(&l->interrupt.wanted[kind], 0, memory_order_relaxed);
	return 1;
}

static int
log_traceback(lua_State *L) {
	struct snlua *l = lua_touserdata(L, 1);
	luaL_traceback(L, L, NULL, 1);
	skynet_error(l->base.ctx, "error: maybe in an endless loop, now at %s", lua_tostring(L, -1));
	return 0;
}

static void
interrupt_hook(lua_State *L, lua_Debug *ar) {
	struct snlua *l = atomic_load_explicit(&current, memory_order_relaxed);
	(void)ar;
	if (l != NULL && l->interrupt.armed == L) {
		lua_sethook(L, l->interrupt.hook, l->interrupt.hook_mask, l->interrupt.hook_count);
		l->interrupt.armed = NULL;
	} else {
		lua_sethook(L, NULL, 0, 0);
	}
	if (l == NULL) {
		return;
	}
	if (take(l, INTERRUPT_TRACEBACK)) {
		lua_pushcfunction(L, log_traceback);
		lua_pushlightuserdata(L, l);
		if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
			lua_pop(L, 1); /* no memory for the text: nothing to report */
		}
	}
	if (take(l, INTERRUPT_RAISE)) {
		lua_pushliteral(L, "signal 0");
		lua_error(L);
	}
}

/* Runs in the signal handler: set the hook on the thread that executes. */
static void
arm(struct snlua *l) {
	lua_State *L = atomic_load_explicit(&l->base.running, memory_order_relaxed);
	lua_Hook present = lua_gethook(L);
	if (present != interrupt_hook) {
		l->interrupt.hook = present;
		l->interrupt.hook_mask = lua_gethookmask(L);
		l->interrupt.hook_count = lua_gethookcount(L);
	} else if (l->interrupt.armed != L) {
		/* A leftover of an earlier message: there was no other hook. */
		l->interrupt.hook = NULL;
		l->interrupt.hook_mask = 0;
		l->interrupt.hook_count = 0;
	}
	l->interrupt.armed = L;
	lua_sethook(L, interrupt_hook, LUA_MASKCOUNT, 1);
}

static void
on_signal(int sig) {
	int saved = errno;
	struct snlua *l = atomic_load_explicit(&current, memory_order_relaxed);
	(void)sig;
	if (l != NULL && (is_wanted(l, INTERRUPT_RAISE) || is_wanted(l, INTERRUPT_TRACEBACK))) {
		arm(l);
	}
	errno = saved;
}

void
snlua_interrupt_init(void) {
	struct sigaction sa;
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = on_signal;
	sa.sa_flags = SA_RESTART | SA_ONSTACK;
	sigemptyset(&sa.sa_mask);
	sigaction(INTERRUPT_SIGNAL, &sa, NULL);
}

struct snlua *
snlua_turn_begin(struct snlua *l, lua_State *L) {
	struct snlua *outer = atomic_load_explicit(&current, memory_order_relaxed);
	uint64_t serial = serial_now(l);
	atomic_store_explicit(&l->base.running, L, memory_order_relaxed);
	atomic_store_explicit(&current, l, memory_order_relaxed);
	atomic_store_explicit(&l->turn.thread, pthread_self(), memory_order_relaxed);
	/* Release pairs with the acquire in snlua_interrupt: who sees that a message
	   is in progress sees its thread, on which `current` is already set. */
	atomic_store_explicit(&l->turn.serial, serial + 1, memory_order_release);
	return outer;
}

void
snlua_turn_end(struct snlua *l, struct snlua *outer) {
	/* Relaxed: a requester that still sees the odd serial is dropped by the handler. */
	atomic_store_explicit(&l->turn.serial, serial_now(l) + 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&current, outer, memory_order_relaxed);
}

void
snlua_interrupt(struct snlua *l, enum interrupt_kind kind) {
	/* Acquire pairs with the release in snlua_turn_begin. */
	uint64_t serial = atomic_load_explicit(&l->turn.serial, memory_order_acquire);
	if ((serial & 1) == 0) {
		return;
	}
	pthread_t thread = atomic_load_explicit(&l->turn.thread, memory_order_relaxed);
	/* Release pairs with the acquire in is_wanted. */
	atomic_store_explicit(&l->interrupt.wanted[kind], serial, memory_order_release);
	pthread_kill(thread, INTERRUPT_SIGNAL);
}
