/*
 * Internals shared by the lua-task*.c files.
 *
 * A *task* is a coroutine run by the framework: for a request, a timer tick
 * or a fork. `struct sched` is the state of one VM, `struct task` of one task.
 * Both are plain C memory; the coroutines are kept alive by the table
 * registry[S->ref_threads], slot by slot.
 *
 * How a coroutine finds its task: lua_getextraspace(L) holds a pointer to
 *   - its `struct task`, for a task's own coroutine and for a user coroutine
 *     (skynet.coroutine) that is running or blocked inside that task;
 *   - &S->orphan, for a user coroutine of skynet.coroutine that is at rest;
 *   - &S->main, for the main thread and every other coroutine (a new thread
 *     inherits the main thread's value).
 * Invariant: no extra space ever points to a freed task.
 *
 * Everything here runs on the thread that runs the service.
 */
#ifndef LUA_TASK_IMP_H
#define LUA_TASK_IMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>

#include "lua-task.h"
#include "skynet.h"
#include "skynet_notice.h"

/* The message that carries a trace tag; only Lua services know it. */
#define TYPE_TRACE 12
/* What a sleep that was woken returns. */
#define TASK_BREAK "BREAK"

enum task_state {
	TASK_FREE,     /* in the pool */
	TASK_READY,    /* not started: in the fork queue, or behind a timer */
	TASK_RUNNING,  /* on the C stack right now */
	TASK_SLEEPING, /* in sleep or yield: a tick will come for `session` */
	TASK_WAITING,  /* in wait: only wakeup ends it */
	TASK_CALLING,  /* in call or rawcall: an answer to `session` ends it */
	TASK_PARKED,   /* suspended by something else than the framework */
	TASK_QUITTING, /* called exit; is closed as soon as it has yielded */
};

enum task_trace { TRACE_NONE, TRACE_ON, TRACE_OFF };

/*
 * What each message needs lies in the first of its two cache lines. With many
 * services no line is in a cache when a message comes, so they are what counts.
 */
struct task {
	lua_State *L;   /* the coroutine */
	lua_State *top; /* innermost coroutine of the resume chain, or L */
	struct sched *S;
	struct task *next; /* link in the pool or in one of the queues */
	int slot;          /* in the table of threads; 0 for main and orphan */
	int session;       /* what it waits for, 0 when it does not */
	int deadline;      /* session of the timer that limits a call, or 0 */
	uint32_t watch;    /* the handle called, 0 when unknown */
	int debt_session;  /* the request it answers */
	uint32_t debt_source;
	/*
	 * 1 + the message type whose class lies at the bottom of the coroutine's stack, also
	 * while the task is in the pool; 0 = nothing does. A class is never replaced.
	 */
	uint16_t kept_class;
	uint16_t rigid;      /* resumes in the chain that may not be suspended */
	uint8_t state;       /* enum task_state */
	uint8_t trace;       /* enum task_trace */
	uint8_t type;        /* of the message that started it */
	bool debt : 1;       /* an answer is owed (debt_session 0: a plain send) */
	bool has_source : 1; /* debt_source means something */
	bool queued : 1;     /* in the wake, fail, fork or stalled queue */
	bool woken : 1;      /* in the wake queue */
	bool failed : 1;     /* the call failed; cause may say why */
	bool timed_out : 1;  /* it failed for want of time */
	bool own_token : 1;  /* the token of its wait is the coroutine itself */
	bool escaped : 1;    /* user code holds the coroutine: never reuse it */
	/* ---- 64 */
	lua_State **nest; /* user coroutines inside, outermost first */
	int nest_n;
	int nest_cap;
	char *cause;   /* why the call failed, or NULL; skynet_malloc */
	int trace_ref; /* value reference of the tag while trace is TRACE_ON, else 0 */
};

_Static_assert(offsetof(struct task, nest) == 64, "one line for a message");

struct task_queue {
	struct task *head;
	struct task *tail;
	int n;
};

/* What a session number stands for. */
enum pending_kind {
	PENDING_TASK,     /* word: struct task */
	PENDING_TIMER,    /* word: value reference of the function to run */
	PENDING_SET,      /* word: value reference of a handler; aux: handle */
	PENDING_DEADLINE, /* word: struct task whose call it limits */
	PENDING_KICK,     /* go on with the fork queue and with what had no memory */
	PENDING_TICK,     /* cancelled; a tick will come and is swallowed */
	PENDING_ANSWER,   /* cancelled; an answer may come. aux: handle, word: time */
};

/*
 * One slot of the session table: 16 bytes, since a service may have hundreds
 * of thousands of timers. session 0 is an empty slot.
 */
struct pending {
	int32_t session;
	uint32_t aux;
	uintptr_t word; /* low three bits: enum pending_kind */
};

struct pending_table {
	struct pending *slot;
	uint32_t size; /* power of two */
	uint32_t count;
	uint32_t voids;    /* entries that are PENDING_TICK or PENDING_ANSWER */
	uint32_t purge_at; /* voids at which old PENDING_ANSWER are dropped */
	int shift;
};

/* The message being processed. The payload belongs to the kernel. */
struct inbound {
	int type;
	int session;
	uint32_t source;
	const void *msg;
	size_t sz;
};

/* A message that is delivered once more, see sched_deliver_again. */
struct again {
	struct again *next;
	struct inbound in; /* the payload follows */
};

/* Who is told of lost messages of a type; f NULL = nobody. */
struct lost_by {
	int type;
	task_lost f;
};

/* Sockets, multicast. */
#define LOST_TYPES 2

/* Types up to here may be delivered again: bits of sched.again_types. */
#define REPEATED_TYPES 32

/* A deferred answer (skynet.response), a full userdata. */
struct response {
	struct response *prev;
	struct response *next;
	struct sched *S;
	int session;
	uint32_t source;
	bool done; /* used */
	bool gone; /* the requester does not want it any more */
};

/* Fields of a class that a message asks for. */
enum class_field { CLASS_DISPATCH, CLASS_TRACE, CLASS_UNPACK, CLASS_FIELDS };

/*
 * As in struct task: a message touches the first two cache lines and the names in the
 * fourth, a call the third.
 */
struct sched {
	struct inbound in;
	lua_State *from;      /* the thread that runs the dispatcher */
	struct task *running; /* NULL outside of tasks */
	struct task *pool;
	int pool_n;
	int pool_low; /* smallest pool_n since the last trim */
	/* ---- 64 */
	lua_State *L; /* the main thread, as main.L */
	struct skynet_context *ctx;
	struct lua_container *container; /* NULL in a bare VM */
	char *failure;                   /* error texts of this message, or NULL */
	task_filter filter;              /* NULL = none */
	void *filter_ud;
	int due;       /* tasks in wake, fail, fork and stalled together */
	int tag_n;     /* tags that wait in ref_tags */
	int init_slot; /* slot of the start-up task, or 0 */
	int16_t filter_type;
	bool started : 1;
	bool has_manager : 1; /* skynet.manager is loaded */
	bool exiting : 1;
	bool trace_timeout : 1;
	bool kicked : 1;        /* a PENDING_KICK is on its way */
	bool in_debugger : 1;   /* hooks may suspend tasks */
	bool own_callback : 1;  /* messages come by sched_on_message */
	bool thread_tokens : 1; /* a coroutine was the token of another one's wait */
	uint8_t places_age;     /* messages until sched_note_places */
	/* ---- 128 */
	struct pending_table pending;
	uint32_t handle;
	int ref_threads; /* registry references */
	int ref_values;
	int ref_proto;
	int ref_tokens;
	int value_top;
	int value_free;
	int value_n;
	/* ---- 192 */
	const void *name[CLASS_FIELDS]; /* for lua_getnamed */
	/* a message touches nothing from here on */
	int ref_hooks;
	int ref_tags;    /* tags that came ahead of requests, or 0 */
	int trace_count; /* tags created by skynet.trace */
	int all_cap;
	struct task **all; /* every task, by slot */
	int slot_free;     /* last slot known to be free, a hint */
	struct task_queue wake;
	struct task_queue fail;
	struct task_queue fork;
	struct task_queue stalled; /* forks that had no memory to begin */
	struct again *again;       /* messages that had none, in order */
	struct again *last_again;  /* meaningless while there are none */
	struct lost_by lost[LOST_TYPES];
	uint32_t again_types; /* bit of a type: such messages without a session do not get lost */
	size_t failure_n;
	size_t failure_cap;
	struct skynet_notice failures;  /* log lines about them */
	struct skynet_notice forgotten; /* and about answers that nobody gave */
	struct response responses;      /* head of the ring */
	struct task main;               /* stands for "not a task" */
	struct task orphan;             /* stands for a user coroutine at rest */
};

#define SCHED_LINE 64

_Static_assert(offsetof(struct sched, L) == SCHED_LINE &&
                   offsetof(struct sched, pending) == 2 * SCHED_LINE &&
                   offsetof(struct sched, name) <= 3 * SCHED_LINE,
               "two lines for a message, one for a call, and the names");

/* The scheduler in its userdata, which has room for it to begin with a line. */
static inline struct sched *
sched_in(void *ud) {
	uintptr_t p = ((uintptr_t)ud + SCHED_LINE - 1) & ~(uintptr_t)(SCHED_LINE - 1);
	return ud != NULL ? (struct sched *)p : NULL;
}

/* Scratch values that the dispatcher may push on the thread it runs on. */
#define SCHED_SCRATCH_STACK 40

/* ----------------------------------------------------- lua-task-module.c */

/* The scheduler of L's VM. Raises when `skynet.task` is not loaded. */
struct sched *sched_of(lua_State *L);
void sched_set_callback(struct sched *S, skynet_cb cb);
/* Push a module, loading it if need be. */
void sched_require(lua_State *L, const char *module);

/* ------------------------------------------------------------ lua-task.c */

/* Look up the names of class fields. */
void class_name_fields(lua_State *L, struct sched *S);
/* The kernel's callback of a service. */
int sched_on_message(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
                     const void *msg, size_t sz);
/* Process one message; texts of failures are collected in S->failure. */
void sched_deliver(struct sched *S, lua_State *from, const struct inbound *in);
/*
 * Now and then, while t is about to run: tell the kernel what to fetch ahead of a
 * message. class and function are places on t's stack, or 0, as for lua_places.
 */
void sched_note_places(struct sched *S, struct task *t, int class, int function);
static inline void
sched_age_places(struct sched *S, struct task *t, int class, int function) {
	if (S->places_age-- == 0) {
		sched_note_places(S, t, class, function);
	}
}
/* Push the function that Lua code set for an event. Raises; may load a module. */
void sched_push_hook(lua_State *L, struct sched *S, const char *name);
/* handle is gone: fail every call to it, drop deferred answers for it. */
void sched_source_dead(struct sched *S, lua_State *L, uint32_t handle);

/*
 * Deliver the message once more a little later: there was no memory to begin its task.
 * The payload is copied; what that of an event of a socket refers to is taken.
 */
void sched_deliver_again(struct sched *S, const struct inbound *in);
/* Free what waits to be delivered again. */
void sched_forget_again(struct sched *S);

/* Dispatch of class `error`. Lua: (session, source, ptr, size). */
int task_on_error(lua_State *L);
extern const luaL_Reg task_dispatch_functions[];

/* ------------------------------------------------------ lua-task-start.c */

/* Register class `lua`, and prepare those that are made when first needed. */
void class_init(lua_State *L, struct sched *S);
/* Make the class with this id; pushes it, or nil and returns false. */
bool class_push_builtin(lua_State *L, struct sched *S, int id);
/* Push the class table of the protocol at index arg, or raise. */
void sched_push_class(lua_State *L, struct sched *S, int arg);
extern const luaL_Reg task_start_functions[];

/* ------------------------------------------------------- lua-task-pool.c */

static inline struct task *
task_of(lua_State *L) {
	return *(struct task **)lua_getextraspace(L);
}

static inline void
task_bind(lua_State *L, struct task *t) {
	*(struct task **)lua_getextraspace(L) = t;
}

/* Take everything off the coroutine's stack but the class that is kept there. */
static inline void
task_clear(struct task *t) {
	lua_settop(t->L, t->kept_class != 0 ? 1 : 0);
}

/*
 * A task with an empty coroutine, state TASK_READY. NULL when memory is
 * exhausted (the failure is recorded). Never raises. L lends its stack.
 */
struct task *task_new(struct sched *S, lua_State *L);
/* The same, but the coroutine may have the class of kept_class on its stack. */
struct task *task_new_kept(struct sched *S, lua_State *L);
/*
 * Start or continue t with nargs values on its stack; settles the outcome. false: it
 * has failed for want of memory.
 */
bool task_run(struct sched *S, struct task *t, int nargs);
/*
 * Start t with the function and the arguments that are on its stack: a little later, if
 * there is no memory to begin with.
 */
void task_start(struct sched *S, struct task *t);
/* Have the fork queue, and what had no memory, looked after in so many cs. */
void sched_kick(struct sched *S, int cs);
/* What had no memory to begin may try again. */
void sched_retry_stalled(struct sched *S);
/*
 * The task of a continuation. Raises when it is not the framework that let it
 * go on: the coroutine is dead then, and what it waited for finds it so.
 */
struct task *task_resumed(lua_State *L);
/* Give the coroutine up: it is closed by the caller, or never ran. */
void task_release(struct sched *S, struct task *t);
/* Close the coroutine, running its to-be-closed variables, and release it. */
void task_close(struct sched *S, struct task *t);
/* Run every task that was woken or whose call failed, in order. */
void sched_pump(struct sched *S);
/* Run the fork queue. */
void sched_run_forks(struct sched *S);
/* Drop pooled coroutines that were not needed lately. */
void sched_trim(struct sched *S);
/* Free all tasks of a VM that is being closed. */
void sched_free_tasks(struct sched *S);

/* Tasks in a row: to its end; from its front, or NULL; out of its midst, false when it
 * is not there. */
void task_queue_push(struct task_queue *q, struct task *t);
struct task *task_queue_pop(struct task_queue *q);
bool task_queue_remove(struct task_queue *q, struct task *t);

/*
 * The task that may be suspended by L now, or an error that says why L may
 * not be suspended. what: name of the function, for the message.
 */
struct task *task_blocking(lua_State *L, const char *what);
/* Suspend the task; k runs when it continues. state: what it waits for. */
int task_suspend(lua_State *L, struct task *t, int state, int session, lua_KFunction k);

/* ---------------------------------------------------- lua-task-session.c */

/* The table of the sessions that something waits for, empty; and its end. */
void pending_init(struct sched *S);
void pending_free(struct sched *S);
/* NULL when nothing is registered for session. Valid until the next add. */
struct pending *pending_find(struct sched *S, int session);
void pending_add(struct sched *S, int session, enum pending_kind kind, uintptr_t word,
                 uint32_t aux);
/* Remove and copy. false when nothing is registered. */
bool pending_take(struct sched *S, int session, struct pending *out);
/* Turn an entry into a tombstone, of kind PENDING_TICK or PENDING_ANSWER. */
void pending_void(struct sched *S, int session, enum pending_kind kind, uint32_t handle);
int sched_new_session(struct sched *S);
/* Arm a kernel timer for session. */
void sched_arm(struct sched *S, int session, int cs);

static inline enum pending_kind
pending_kind(const struct pending *p) {
	return (enum pending_kind)(p->word & 7);
}

static inline struct task *
pending_task(const struct pending *p) {
	return (struct task *)(p->word & ~(uintptr_t)7);
}

static inline int
pending_ref(const struct pending *p) {
	return (int)(p->word >> 3);
}

/* Keep the value on the top of L (popped); a reference is never 0. */
int value_keep(lua_State *L, struct sched *S);
void value_push(lua_State *L, struct sched *S, int ref);
void value_drop(lua_State *L, struct sched *S, int ref);

/* ------------------------------------------------------- lua-task-wait.c */

/* Forget the token of a suspended task that will not run again. */
void wait_forget_token(struct sched *S, struct task *t);
/* Whatever t waits for is not wanted any more. */
void task_abandon_wait(struct sched *S, struct task *t);
extern const luaL_Reg task_wait_functions[];

/* ------------------------------------------------------- lua-task-call.c */

/* Remote end of an address argument. */
struct address {
	uint32_t handle;  /* 0: a global name */
	const char *name; /* set when handle is 0 */
	bool missing;     /* a local name that nobody has */
};

/* Read argument arg as a destination, or raise. */
struct address address_check(lua_State *L, struct sched *S, int arg);
extern const luaL_Reg task_call_functions[];

/* ------------------------------------------------------ lua-task-reply.c */

extern const luaL_Reg task_reply_functions[];

/* ------------------------------------------------------- lua-task-fail.c */

/* ERROR message to a requester; false if it is gone. cause may be NULL. */
bool sched_send_error(struct sched *S, uint32_t dest, int session, const char *cause);
/* t ended with an error; the message is on the top of its stack. */
void task_failed(struct sched *S, struct task *t);
/* Record a text for the error entry of this message. */
void sched_add_failure(struct sched *S, const char *text);

/*
 * Push where the service called, like luaL_where(L, 1). Functions of the framework that called for
 * it, which are in the loader's folder, are passed over: their lines tell a user nothing.
 */
void task_push_place(lua_State *L);

/* Whether skynet has no such function for want of skynet.manager. */
bool sched_needs_manager(const struct sched *S, const char *name);

/* The message, or a longer one, which is pushed, when what is missing is in a module that was not
 * required. */
const char *task_hint(lua_State *L, const char *message);

/* Record that t was suspended by a yield that nobody will undo. */
void sched_park_failure(struct sched *S, struct task *t, const char *what);
/* Log the collected failures as one entry. */
void sched_report(struct sched *S, const struct inbound *in);
/* Answer what t owes with ERROR. */
void task_fail_debt(struct sched *S, struct task *t, const char *cause);
/* The handler returned without an answer: log it, and answer ERROR. */
void task_forgot_debt(struct sched *S, struct task *t);
/* ERROR from a service that is retired already. */
void sched_push_error(struct sched *S, uint32_t dest, int session);
/* A call of t failed: run it with failure later. cause is copied. */
void task_fail_call(struct sched *S, struct task *t, const char *cause, size_t n);
/* Lua: exit(), never returns */
int task_exit(lua_State *L);
/* Requests of a VM that is closed without exit: answer them with ERROR. */
void sched_bounce_debts(struct sched *S);
/* A deferred answer was dropped unused: answer ERROR. */
void sched_bounce_dropped(struct sched *S, const struct response *r);
extern const luaL_Reg task_fail_functions[];

/* ------------------------------------------------------ lua-task-trace.c */

/* Write one line for t's tag. L: a thread whose call sites follow, or NULL. */
void trace_event(struct sched *S, struct task *t, const char *what, lua_State *L);
/* Send the tag of t ahead of a request. false: no such destination. */
bool trace_send_tag(struct sched *S, struct task *t, const struct address *to);
/* A message of type TRACE arrived. */
void trace_incoming(struct sched *S, lua_State *L, const struct inbound *in);
/* A request starts task t; field `trace` of its class is on the top of L, and popped. */
void trace_adopt(lua_State *L, struct sched *S, struct task *t);
/* The same when nobody handles its class. */
void trace_refuse(lua_State *L, struct sched *S);
void trace_end(struct sched *S, struct task *t);
extern const luaL_Reg task_trace_functions[];

/* ------------------------------------------------------- lua-task-info.c */

extern const luaL_Reg task_info_functions[];

#endif
