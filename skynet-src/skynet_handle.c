/*
 * DESIGN. A 24-bit index is looked up in two steps, page and slot, without a
 * lock. Pages exist only where services live: a page that empties behind the
 * issuing counter is freed, so a node that has launched millions of services
 * pays for those that are alive.
 *
 * Names sit in a hash table of immutable entries. A name resolves only while
 * the entry of its handle does, so clearing that one slot removes a service and
 * all its names at once; the entries are swept up behind.
 *
 * Writers hold `mutex`. What they unlink goes to a limbo list until no look-up
 * can see it any more (epoch.h).
 */
#include "skynet_handle.h"

#include "epoch.h"
#include "malloc_hook.h"
#include "skynet_context.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define PAGE_BITS 8
#define PAGE_SLOTS (1 << PAGE_BITS)
#define PAGES ((HANDLE_MASK + 1) / PAGE_SLOTS)
/* 128 KB that are only touched where names fall; a million names still find
   theirs within a few dozen steps. */
#define NAME_BUCKETS 16384

/* First member of what is unlinked and freed later. */
struct limbo {
	struct limbo *next;
	uint64_t epoch;
};

struct page {
	struct limbo limbo;
	uint32_t used; /* slots that are reserved or published; under mutex */
	_Atomic(struct skynet_context *) slots[PAGE_SLOTS];
};

struct handle_name {
	struct limbo limbo;
	_Atomic(struct handle_name *) next; /* in the bucket */
	struct handle_name *sibling;        /* of the same handle; under mutex */
	uint32_t handle;
	uint32_t hash;
	char text[];
};

static struct {
	uint32_t harbor; /* in place; set once */
	_Atomic(struct page *) pages[PAGES];
	_Atomic(struct handle_name *) names[NAME_BUCKETS];

	pthread_mutex_t mutex; /* the rest */
	uint32_t next;         /* index that is tried next */
	uint32_t used;         /* indices in use */
	struct limbo *limbo;
	struct skynet_context *first, *last; /* live contexts, in launch order */
	size_t live;
	atomic_bool is_closing; /* written under mutex */
} H = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
};

/* In a slot whose handle is reserved but not published. */
static struct skynet_context reserved_mark;
#define RESERVED (&reserved_mark)

void
skynet_handle_init(int harbor, int thread) {
	(void)thread;
	H.harbor = (uint32_t)(harbor & 0xff) << HANDLE_REMOTE_SHIFT;
	atomic_store(&H.is_closing, false);
}

void
skynet_handle_register_thread(void) {
}

void
skynet_handle_set_next(uint32_t index) {
	pthread_mutex_lock(&H.mutex);
	H.next = index & HANDLE_MASK;
	pthread_mutex_unlock(&H.mutex);
}

bool
skynet_handle_is_closing(void) {
	return atomic_load_explicit(&H.is_closing, memory_order_relaxed);
}

/*-------------------------------------------------------------------- limbo */

/* Under mutex: nobody finds the object any more. */
static void
banish(struct limbo *object) {
	object->epoch = epoch_retire();
	object->next = H.limbo;
	H.limbo = object;
}

/* Under mutex: take out what nobody can see any more. */
static struct limbo *
redeem(void) {
	struct limbo **p = &H.limbo;

	/* The list runs from young to old: once one is safe, so is the rest. */
	while (*p && !epoch_passed((*p)->epoch)) {
		p = &(*p)->next;
	}
	struct limbo *list = *p;
	*p = NULL;
	return list;
}

static void
free_list(struct limbo *list) {
	while (list) {
		struct limbo *next = list->next;
		skynet_free(list);
		list = next;
	}
}

static void
unlock_and_free(void) {
	struct limbo *list = redeem();

	pthread_mutex_unlock(&H.mutex);
	free_list(list);
}

/*------------------------------------------------------------------ handles */

static _Atomic(struct skynet_context *) *
slot_of(uint32_t index) {
	/* Sequentially consistent: see epoch.c. */
	struct page *p = atomic_load(&H.pages[index >> PAGE_BITS]);

	return p ? &p->slots[index % PAGE_SLOTS] : NULL;
}

static void
add_page(uint32_t index) {
	struct page *p;
	uint32_t owner = malloc_owner();

	malloc_set_owner(0);
	p = skynet_calloc(1, sizeof(*p));
	malloc_set_owner(owner);
	atomic_store(&H.pages[index >> PAGE_BITS], p);
}

/* Under mutex: free the page of an index if nothing needs it. */
static void
drop_page(uint32_t index) {
	struct page *p = atomic_load(&H.pages[index >> PAGE_BITS]);

	if (p->used == 0 && index >> PAGE_BITS != H.next >> PAGE_BITS) {
		atomic_store(&H.pages[index >> PAGE_BITS], NULL);
		banish(&p->limbo);
	}
}

uint32_t
skynet_handle_reserve(void) {
	uint32_t index = 0;

	pthread_mutex_lock(&H.mutex);
	if (H.used < HANDLE_MASK && !skynet_handle_is_closing()) {
		_Atomic(struct skynet_context *) *slot;
		do {
			index = H.next;
			H.next = (H.next + 1) & HANDLE_MASK;
			slot = slot_of(index);
		} while (index == 0 || (slot && atomic_load(slot) != NULL));
		if (slot == NULL) {
			add_page(index);
			slot = slot_of(index);
		}
		atomic_store(slot, RESERVED);
		atomic_load(&H.pages[index >> PAGE_BITS])->used++;
		H.used++;
	}
	pthread_mutex_unlock(&H.mutex);
	return index == 0 ? 0 : index | H.harbor;
}

/* Under mutex: empty the slot; from here on the handle is dead. */
static void
clear_slot(uint32_t handle) {
	uint32_t index = handle & HANDLE_MASK;

	atomic_store(slot_of(index), NULL);
	atomic_load(&H.pages[index >> PAGE_BITS])->used--;
	H.used--;
	drop_page(index);
}

void
skynet_handle_unreserve(uint32_t handle) {
	pthread_mutex_lock(&H.mutex);
	clear_slot(handle);
	unlock_and_free();
}

void
skynet_handle_publish(uint32_t handle, struct skynet_context *ctx) {
	pthread_mutex_lock(&H.mutex);
	ctx->launched_after = NULL;
	ctx->launched_before = H.last;
	if (H.last) {
		H.last->launched_after = ctx;
	} else {
		H.first = ctx;
	}
	H.last = ctx;
	H.live++;
	atomic_store(slot_of(handle & HANDLE_MASK), ctx);
	pthread_mutex_unlock(&H.mutex);
}

uint32_t
skynet_handle_register(struct skynet_context *ctx) {
	uint32_t handle = skynet_handle_reserve();

	if (handle != 0) {
		ctx->mailbox.owner = handle;
		skynet_handle_publish(handle, ctx);
	}
	return handle;
}

struct skynet_context *
skynet_handle_peek(uint32_t handle) {
	_Atomic(struct skynet_context *) *slot;
	struct skynet_context *ctx;

	if ((handle & ~(uint32_t)HANDLE_MASK) != H.harbor) {
		return NULL;
	}
	slot = slot_of(handle & HANDLE_MASK);
	ctx = slot ? atomic_load(slot) : NULL;
	return ctx == RESERVED ? NULL : ctx;
}

struct skynet_context *
skynet_handle_grab(uint32_t handle) {
	struct skynet_context *ctx;

	epoch_enter();
	ctx = skynet_handle_peek(handle);
	if (ctx && !context_try_grab(ctx)) {
		ctx = NULL;
	}
	epoch_exit();
	return ctx;
}

/*-------------------------------------------------------------------- names */

static uint32_t
hash_name(const char *name) {
	/* FNV-1a, with its usual constants. */
	uint32_t h = 2166136261u;

	for (; *name; name++) {
		h = (h ^ (unsigned char)*name) * 16777619u;
	}
	return h;
}

/* The entry of a name, or NULL. Under mutex or in an epoch section. */
static struct handle_name *
find_entry(const char *name, uint32_t hash) {
	struct handle_name *n = atomic_load(&H.names[hash % NAME_BUCKETS]);

	while (n && (n->hash != hash || strcmp(n->text, name) != 0)) {
		n = atomic_load(&n->next);
	}
	return n;
}

uint32_t
skynet_handle_findname(const char *name) {
	struct handle_name *n;
	uint32_t handle = 0;

	epoch_enter();
	n = find_entry(name, hash_name(name));
	if (n && skynet_handle_peek(n->handle)) {
		handle = n->handle;
	}
	epoch_exit();
	return handle;
}

const char *
skynet_handle_peekname(uint32_t handle) {
	size_t i;

	for (i = 0; i < NAME_BUCKETS; i++) {
		struct handle_name *n = atomic_load(&H.names[i]);
		while (n && n->handle != handle) {
			n = atomic_load(&n->next);
		}
		if (n) {
			return n->text;
		}
	}
	return NULL;
}

static struct handle_name *
new_entry(const char *name, uint32_t hash, uint32_t handle) {
	size_t size = strlen(name) + 1;
	struct handle_name *n = skynet_malloc(sizeof(*n) + size);

	n->hash = hash;
	n->handle = handle;
	memcpy(n->text, name, size);
	return n;
}

const char *
skynet_handle_namehandle(uint32_t handle, const char *name) {
	uint32_t hash = hash_name(name);
	struct handle_name *n;
	struct skynet_context *ctx;
	const char *result = NULL;

	if (name[0] == '\0') {
		return NULL;
	}
	n = new_entry(name, hash, handle);
	pthread_mutex_lock(&H.mutex);
	ctx = skynet_handle_peek(handle);
	if (ctx && find_entry(name, hash) == NULL) {
		n->sibling = ctx->names;
		ctx->names = n;
		atomic_init(&n->next, atomic_load(&H.names[hash % NAME_BUCKETS]));
		atomic_store(&H.names[hash % NAME_BUCKETS], n);
		result = name;
		n = NULL;
	}
	pthread_mutex_unlock(&H.mutex);
	skynet_free(n);
	return result;
}

/* Under mutex. */
static void
remove_names(struct skynet_context *ctx) {
	struct handle_name *n = ctx->names;

	ctx->names = NULL;
	while (n) {
		struct handle_name *sibling = n->sibling;
		_Atomic(struct handle_name *) *p = &H.names[n->hash % NAME_BUCKETS];
		while (atomic_load(p) != n) {
			p = &atomic_load(p)->next;
		}
		atomic_store(p, atomic_load(&n->next));
		banish(&n->limbo);
		n = sibling;
	}
}

/*-------------------------------------------------------------------- death */

/* Under mutex. */
static void
unlink_launched(struct skynet_context *ctx) {
	if (ctx->launched_before) {
		ctx->launched_before->launched_after = ctx->launched_after;
	} else {
		H.first = ctx->launched_after;
	}
	if (ctx->launched_after) {
		ctx->launched_after->launched_before = ctx->launched_before;
	} else {
		H.last = ctx->launched_before;
	}
	H.live--;
}

int
skynet_handle_retire(uint32_t handle) {
	struct skynet_context *ctx;

	/* The section keeps ctx alive until context_close is through. */
	epoch_enter();
	pthread_mutex_lock(&H.mutex);
	ctx = skynet_handle_peek(handle);
	if (ctx) {
		clear_slot(handle);
		remove_names(ctx);
		unlink_launched(ctx);
	}
	unlock_and_free();
	if (ctx == NULL) {
		epoch_exit();
		return 0;
	}
	bool is_mine = context_close(ctx);
	epoch_exit();
	if (is_mine) {
		scheduler_push(&ctx->mailbox.run);
	}
	return 1;
}

size_t
skynet_handle_snapshot(uint32_t **out) {
	uint32_t *list;
	size_t count, n = 0;
	struct skynet_context *ctx;

	pthread_mutex_lock(&H.mutex);
	count = H.live;
	pthread_mutex_unlock(&H.mutex);
	/* Launched meanwhile: the newest are left out. */
	list = skynet_malloc(count * sizeof(*list));
	pthread_mutex_lock(&H.mutex);
	for (ctx = H.first; ctx && n < count; ctx = ctx->launched_after) {
		list[n++] = ctx->mailbox.owner;
	}
	pthread_mutex_unlock(&H.mutex);
	*out = list;
	return n;
}

void
skynet_handle_retireall(void) {
	uint32_t logger = skynet_handle_findname("logger");
	uint32_t *list;
	size_t n, i;

	pthread_mutex_lock(&H.mutex);
	atomic_store(&H.is_closing, true);
	pthread_mutex_unlock(&H.mutex);
	/* A handle reserved just before may still be published: once more. */
	do {
		size_t retired = 0;
		n = skynet_handle_snapshot(&list);
		for (i = n; i-- > 0;) {
			if (list[i] != logger) {
				retired += (size_t)skynet_handle_retire(list[i]);
			}
		}
		skynet_free(list);
		n = retired;
	} while (n > 0);
	context_notice_closing();
}
