/*
 * The allocation family as its users see it, the accounts of blocks, and what
 * happens when memory ends or a block is misused (each such case in a child).
 */
#include "malloc_hook.h"
#include "malloc_ledger.h"
#include "mem_info.h"
#include "skynet_malloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Two services of which nothing else in this process knows. */
#define ALICE 0x00010005u
#define BOB 0x00020005u

/* Hides a pointer or size from the compiler, which knows malloc by name. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))

/*------------------------------------------------------------- any platform */

static void
size_zero_gives_blocks_of_their_own(void **state) {
	(void)state;
	void *a = skynet_malloc(0);
	void *b = skynet_calloc(5, 0);
	void *c = skynet_calloc(0, 5);
	assert_non_null(a);
	assert_non_null(b);
	assert_non_null(c);
	assert_true(a != b && b != c && a != c);
	skynet_free(a);
	skynet_free(b);
	skynet_free(c);
	skynet_free(NULL);
}

static void
aligned_blocks_can_be_resized_and_freed(void **state) {
	(void)state;
	for (size_t align = 16; align <= 1u << 21; align *= 2) {
		void *p = NULL;
		assert_int_equal(skynet_posix_memalign(&p, align, 100), 0);
		assert_int_equal((uintptr_t)p % align, 0);
		memset(p, 'x', 100);
		char *q = skynet_realloc(p, 200000);
		assert_int_equal(q[99], 'x');
		skynet_free(q);
		p = skynet_memalign(align, align + 1);
		assert_int_equal((uintptr_t)p % align, 0);
		skynet_free(p);
		p = skynet_aligned_alloc(align, align);
		assert_int_equal((uintptr_t)p % align, 0);
		skynet_free(p);
	}
}

static void
lalloc_allocates_resizes_and_frees(void **state) {
	(void)state;
	assert_null(skynet_lalloc(NULL, 5, 0));
	size_t size = 1;
	unsigned char *p = skynet_lalloc(NULL, 0, size);
	p[0] = 1;
	while (size < 1000000) {
		size_t more = size * 3 / 2 + 1;
		p = skynet_lalloc(p, size, more);
		assert_int_equal(p[0], 1);
		memset(p, 1, more);
		size = more;
	}
	while (size > 1) {
		p = skynet_lalloc(p, size, size / 2);
		size /= 2;
		assert_int_equal(p[size - 1], 1);
	}
	assert_null(skynet_lalloc(p, size, 0));
}

static void
owner_is_remembered_per_thread(void **state) {
	(void)state;
	malloc_set_owner(0);
	assert_int_equal(malloc_owner(), 0);
	assert_int_equal(malloc_charged(), MALLOC_ACCOUNT_PROCESS);
	malloc_set_owner(ALICE);
	assert_int_equal(malloc_owner(), ALICE);
	assert_int_equal(malloc_charged(), ALICE);
	malloc_set_owner(0);
}

static void
mem_info_merges(void **state) {
	(void)state;
	MemInfo a;
	MemInfo b;
	AtomicMemInfo c;
	meminfo_init(&a);
	meminfo_init(&b);
	atomic_meminfo_init(&c);
	meminfo_alloc(&a, 10);
	meminfo_alloc(&a, 5);
	meminfo_free(&a, 10);
	atomic_meminfo_alloc(&c, 7);
	atomic_meminfo_free(&c, 7);
	meminfo_merge(&b, &a);
	atomic_meminfo_merge(&b, &c);
	assert_int_equal(b.alloc, 22);
	assert_int_equal(b.alloc_count, 3);
	assert_int_equal(b.free, 17);
	assert_int_equal(b.free_count, 2);
}

#ifdef NOUSE_JEMALLOC

static void
nothing_is_charged(void **state) {
	(void)state;
	malloc_set_owner(ALICE);
	void *p = skynet_malloc(1000);
	OPAQUE(p);
	assert_int_equal(malloc_current_memory(), 0);
	assert_int_equal(malloc_used_memory(), 0);
	assert_int_equal(malloc_memory_block(), 0);
	skynet_free(p);
	malloc_set_owner(0);
}

#else

/*---------------------------------------------------------------- accounts */

static void
realloc_to_zero_keeps_a_block(void **state) {
	(void)state;
	void *p = skynet_malloc(10);
	p = skynet_realloc(p, 0);
	assert_non_null(p);
	skynet_free(p);
}

static void
bad_alignments_are_refused(void **state) {
	(void)state;
	void *p = &p;
	size_t align = 24;
	OPAQUE(align);
	assert_int_equal(skynet_posix_memalign(&p, align, 10), EINVAL);
	align = 4;
	OPAQUE(align);
	assert_int_equal(skynet_posix_memalign(&p, align, 10), EINVAL);
	align = 0;
	OPAQUE(align);
	assert_int_equal(skynet_posix_memalign(&p, align, 10), EINVAL);
	assert_ptr_equal(p, &p);
}

static void
every_block_is_aligned(void **state) {
	(void)state;
	for (size_t size = 0; size < 3000; size += 7) {
		void *p = skynet_malloc(size);
		void *q = skynet_calloc(2, size);
		void *r = skynet_realloc(NULL, size);
		assert_int_equal(((uintptr_t)p | (uintptr_t)q | (uintptr_t)r) % 16, 0);
		skynet_free(p);
		skynet_free(q);
		skynet_free(r);
	}
}

static void
calloc_zeroes_recycled_blocks(void **state) {
	(void)state;
	static const unsigned char zero[70000];
	for (size_t size = 1; size < sizeof(zero); size = size * 5 / 3 + 1) {
		void *dirty = skynet_malloc(size);
		memset(dirty, 0xee, size);
		OPAQUE(dirty);
		skynet_free(dirty);
		void *p = skynet_calloc(1, size);
		assert_memory_equal(p, zero, size);
		skynet_free(p);
	}
}

static void
a_block_counts_its_size_and_sixteen(void **state) {
	(void)state;
	static const size_t sizes[] = {0, 1, 16, 64, 496, 497, 512, 4096, 14000, 100005, 5000000};
	malloc_set_owner(ALICE);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t blocks = malloc_memory_block();
		size_t total = malloc_used_memory();
		void *p = skynet_malloc(sizes[i]);
		OPAQUE(p);
		assert_int_equal(malloc_current_memory(), sizes[i] + 16);
		assert_int_equal(malloc_used_memory(), total + sizes[i] + 16);
		assert_int_equal(malloc_memory_block(), blocks + 1);
		assert_int_equal(malloc_usable_size(p), sizes[i]);
		skynet_free(p);
		p = skynet_calloc(2, sizes[i]);
		OPAQUE(p);
		assert_int_equal(malloc_current_memory(), 2 * sizes[i] + 16);
		p = skynet_realloc(p, sizes[i]);
		OPAQUE(p);
		assert_int_equal(malloc_current_memory(), sizes[i] + 16);
		skynet_free(p);
		p = skynet_memalign(4096, sizes[i]);
		OPAQUE(p);
		assert_int_equal(malloc_current_memory(), sizes[i] + 16);
		skynet_free(p);
		assert_int_equal(malloc_current_memory(), 0);
		assert_int_equal(malloc_memory_block(), blocks);
	}
	malloc_set_owner(0);
}

static void
standard_functions_are_the_same_family(void **state) {
	(void)state;
	malloc_set_owner(ALICE);
	char *p = strdup("hello");
	assert_int_equal(malloc_current_memory(), 6 + 16);
	skynet_free(p);
	assert_true(asprintf(&p, "%d", 12345) == 5);
	assert_true(malloc_current_memory() >= 6 + 16);
	skynet_free(p);
	p = reallocarray(NULL, 10, 10);
	assert_int_equal(malloc_current_memory(), 116);
	size_t huge = SIZE_MAX / 2;
	OPAQUE(huge);
	assert_null(reallocarray(p, huge, 10));
	skynet_free(p);
	p = valloc(100);
	assert_int_equal(malloc_current_memory(), 116);
	skynet_free(p);
	assert_int_equal(malloc_current_memory(), 0);
	malloc_set_owner(0);
}

/* As code does that allocates for somebody else. A compiler that knows malloc, and
 * sees all of this at once, must not drop the owner. */
static void *
malloc_for(uint32_t handle, size_t size) {
	uint32_t before = malloc_owner();
	malloc_set_owner(handle);
	void *p = skynet_malloc(size);
	malloc_set_owner(before);
	return p;
}

static void *
calloc_for(uint32_t handle, size_t size) {
	uint32_t before = malloc_owner();
	malloc_set_owner(handle);
	void *p = skynet_calloc(1, size);
	malloc_set_owner(before);
	return p;
}

static void
an_owner_for_one_allocation_is_charged(void **state) {
	(void)state;
	malloc_set_owner(ALICE);
	void *p = malloc_for(BOB, 100);
	void *q = calloc_for(BOB, 200);
	OPAQUE(p);
	OPAQUE(q);
	assert_int_equal(malloc_service_memory(ALICE), 0);
	assert_int_equal(malloc_service_memory(BOB), 100 + 200 + 32);
	skynet_free(p);
	skynet_free(q);
	malloc_set_owner(0);
}

static void
lalloc_is_not_charged(void **state) {
	(void)state;
	malloc_set_owner(ALICE);
	void *p = skynet_lalloc(NULL, 0, 100000);
	assert_int_equal(malloc_current_memory(), 0);
	skynet_lalloc(p, 100000, 0);
	malloc_set_owner(0);
}

static void
realloc_moves_a_block_to_the_new_owner(void **state) {
	(void)state;
	malloc_set_owner(ALICE);
	void *p = skynet_malloc(100);
	malloc_set_owner(BOB);
	p = skynet_realloc(p, 50);
	OPAQUE(p);
	assert_int_equal(malloc_service_memory(ALICE), 0);
	assert_int_equal(malloc_service_memory(BOB), 66);
	skynet_free(p);
	assert_int_equal(malloc_service_memory(BOB), 0);
	malloc_set_owner(0);
}

static void *
free_as_bob(void *arg) {
	malloc_set_owner(BOB);
	skynet_free(arg);
	return NULL;
}

static void
freeing_credits_the_allocating_service(void **state) {
	(void)state;
	malloc_set_owner(ALICE);
	void *p = skynet_malloc(1000);
	OPAQUE(p);
	malloc_set_owner(0);
	pthread_t id;
	assert_int_equal(pthread_create(&id, NULL, free_as_bob, p), 0);
	pthread_join(id, NULL);
	assert_int_equal(malloc_service_memory(ALICE), 0);
	assert_int_equal(malloc_service_memory(BOB), 0);
}

/* A ring of blocks that one thread makes and another frees. */
enum { RING = 64, ROUNDS = 20000 };
static _Atomic(void *) ring[RING];

static void *
consume(void *arg) {
	(void)arg;
	malloc_set_owner(BOB);
	for (int i = 0; i < ROUNDS; i++) {
		void *p;
		/* Acquire: pairs with the release in the producer; the block's content
		 * comes with it. */
		while ((p = atomic_exchange_explicit(&ring[i % RING], NULL, memory_order_acquire)) ==
		       NULL) {
			sched_yield();
		}
		assert_int_equal(*(unsigned char *)p, (unsigned char)i);
		skynet_free(p);
	}
	return NULL;
}

static void
given_blocks_count_for_the_new_owner(void **state) {
	(void)state;
	malloc_set_owner(ALICE);
	size_t alice = malloc_service_memory(ALICE);
	size_t bob = malloc_service_memory(BOB);
	void *small = skynet_malloc(100);
	void *large = skynet_malloc(100000);
	malloc_give(small, BOB);
	malloc_give(large, BOB);
	malloc_give(large, BOB);
	malloc_give(NULL, BOB);
	assert_int_equal(malloc_service_memory(ALICE), alice);
	assert_int_equal(malloc_service_memory(BOB), bob + 100 + 100000 + 32);
	skynet_free(small);
	malloc_give(large, 0);
	assert_int_equal(malloc_service_memory(BOB), bob);
	skynet_free(large);
	malloc_set_owner(0);
}

static void
the_ledger_of_the_process_adds_up(void **state) {
	(void)state;
	size_t size = 32 << 20;
	char *p = skynet_malloc(size);
	memset(p, 1, size);
	OPAQUE(p);
	struct malloc_ledger l;
	malloc_ledger(&l);
	assert_true(l.accounted > size && l.allocated >= l.accounted && l.active >= l.allocated);
	size_t sum = l.active + l.dirty + l.metadata - l.untouched + l.filled_up + l.tables +
	             l.reserve + l.file + l.data + l.stacks;
	assert_true(sum > l.rss / 10 * 9 && sum < l.rss / 10 * 11);
	skynet_free(p);
}

static void
blocks_travel_between_threads(void **state) {
	(void)state;
	pthread_t id;
	assert_int_equal(pthread_create(&id, NULL, consume, NULL), 0);
	malloc_set_owner(ALICE);
	for (int i = 0; i < ROUNDS; i++) {
		size_t size = 1 + (size_t)(i * 37) % 3000;
		void *p = skynet_malloc(size);
		memset(p, (unsigned char)i, size);
		void *none = NULL;
		while (!atomic_compare_exchange_weak_explicit(&ring[i % RING], &none, p,
		                                              memory_order_release, memory_order_relaxed)) {
			none = NULL;
			sched_yield();
		}
	}
	malloc_set_owner(0);
	pthread_join(id, NULL);
	assert_int_equal(malloc_service_memory(ALICE), 0);
	assert_int_equal(malloc_service_memory(BOB), 0);
}

static void
jemalloc_answers(void **state) {
	(void)state;
	assert_true(mallctl_int64("stats.allocated", NULL) > 0);
	assert_int_equal(mallctl_int64("no.such.name", NULL), 0);
	assert_int_equal(mallctl_int64("arenas.page", NULL) % 4096, 0);
	assert_false(mallctl_bool("prof.active", NULL));
	assert_int_not_equal(mallctl_cmd("no.such.name"), 0);
	assert_int_equal(malloc_trim_unused(), 0);
}

/*---------------------------------------------------------------- disaster */

/* What a child that ran f wrote on stderr before it aborted. */
static const char *
output_of_abort(void (*f)(void)) {
	static char text[20000];
	int fd[2];
	assert_int_equal(pipe(fd), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fd[1], STDERR_FILENO);
		close(fd[0]);
		struct rlimit no_core = {0, 0};
		setrlimit(RLIMIT_CORE, &no_core);
		/* cmocka would make a failed test of an abort. */
		signal(SIGABRT, SIG_DFL);
		malloc_set_owner(ALICE);
		f();
		_exit(0);
	}
	close(fd[1]);
	size_t len = 0;
	ssize_t n;
	while ((n = read(fd[0], text + len, sizeof(text) - 1 - len)) > 0) {
		len += (size_t)n;
	}
	text[len] = '\0';
	close(fd[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	return text;
}

static void
assert_reports(void (*f)(void), const char *line) {
	const char *text = output_of_abort(f);
	if (strstr(text, line) == NULL) {
		fail_msg("expected '%s' in: %s", line, text);
	}
}

static const char *
namer(uint32_t handle) {
	return handle == ALICE ? "alice" : NULL;
}

static void
malloc_too_much(void) {
	size_t size = SIZE_MAX - 7;
	OPAQUE(size);
	void *p = skynet_malloc(size);
	OPAQUE(p);
}

static void
calloc_too_much(void) {
	size_t n = (SIZE_MAX >> 4) + 2;
	OPAQUE(n);
	void *p = skynet_calloc(n, 16);
	OPAQUE(p);
}

static void
realloc_too_much(void) {
	size_t size = (size_t)PTRDIFF_MAX - 3;
	OPAQUE(size);
	void *p = skynet_malloc(3);
	p = skynet_realloc(p, size);
	OPAQUE(p);
}

static void
sizes_beyond_memory_are_out_of_memory(void **state) {
	(void)state;
	malloc_set_namer(namer);
	assert_reports(malloc_too_much, "xmalloc: Out of memory trying to allocate "
	                                "18446744073709551608 bytes for :00010005 alice\n");
	assert_reports(calloc_too_much, "xmalloc: Out of memory trying to allocate ");
	assert_reports(realloc_too_much, "xmalloc: Out of memory trying to allocate "
	                                 "9223372036854775804 bytes for :00010005 alice\n");
}

/* The hook needs memory that only the reserve can give. */
static void
hook(size_t size, uint32_t owner) {
	void *p = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *q = skynet_malloc(100);
	OPAQUE(q);
	dprintf(STDERR_FILENO, "hook %s memory, %d %08x\n", p == MAP_FAILED ? "without" : "with",
	        size >= 1 << 22, owner);
}

static void
exhaust_memory(void) {
	malloc_set_oom_hook(hook);
	assert_int_equal(malloc_set_reserve(8 << 20), 0);
	/* Hardly any address space beyond what is mapped now. */
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	assert_int_equal(fscanf(f, "%lu", &pages), 1);
	fclose(f);
	struct rlimit limit = {0, 0};
	limit.rlim_cur = limit.rlim_max = pages * (unsigned long)sysconf(_SC_PAGESIZE) + (1 << 20);
	setrlimit(RLIMIT_AS, &limit);
	for (size_t size = 1 << 22;; size *= 2) {
		void *p = skynet_malloc(size);
		OPAQUE(p);
	}
}

static void
fail_in_hook(size_t size, uint32_t owner) {
	(void)size;
	(void)owner;
	malloc_too_much();
}

static void
exhaust_memory_twice(void) {
	malloc_set_oom_hook(fail_in_hook);
	malloc_too_much();
}

static void
hook_runs_on_the_reserve(void **state) {
	(void)state;
	const char *text = output_of_abort(exhaust_memory);
	assert_non_null(strstr(text, "xmalloc: Out of memory trying to allocate "));
	assert_non_null(strstr(text, "hook with memory, 1 00010005"));
}

static void
failing_hook_does_not_loop(void **state) {
	(void)state;
	assert_reports(exhaust_memory_twice, "xmalloc: Out of memory in the hook");
}

#ifdef MEMORY_CHECK

static void
double_free(void) {
	void *p = skynet_malloc(10);
	void *q = p;
	OPAQUE(q);
	skynet_free(p);
	skynet_free(q);
}

static void
overrun_by_one(void) {
	char *p = skynet_malloc(10);
	OPAQUE(p);
	p[10] = 0;
	skynet_free(p);
}

static void
overrun_into_cookie(void) {
	char *p = skynet_malloc(16);
	OPAQUE(p);
	memset(p, 0, 17);
	skynet_free(p);
}

static void
free_inside_block(void) {
	char *p = skynet_malloc(64);
	p += 16;
	OPAQUE(p);
	skynet_free(p);
}

static void
free_local(void) {
	int i = 0;
	void *p = &i;
	OPAQUE(p);
	skynet_free(p);
}

static void
realloc_foreign(void) {
	void *p = (void *)(uintptr_t)0x1000;
	OPAQUE(p);
	p = skynet_realloc(p, 5);
	OPAQUE(p);
}

static void
realloc_freed(void) {
	void *p = skynet_malloc(10);
	void *q = p;
	OPAQUE(q);
	skynet_free(p);
	q = skynet_realloc(q, 100);
	OPAQUE(q);
}

static void
write_late(void) {
	malloc_set_quarantine(100000);
	char *p = skynet_malloc(10);
	char *q = p;
	OPAQUE(q);
	skynet_free(p);
	q[3] = 'x';
	malloc_set_quarantine(0);
}

static void
free_other_service(void) {
	void *p = skynet_malloc(10);
	void *q = p;
	OPAQUE(q);
	skynet_free(p);
	malloc_set_owner(BOB);
	skynet_free(q);
}

static void
misuse_is_reported(void **state) {
	(void)state;
	malloc_set_namer(namer);
	assert_reports(double_free, "xmalloc: double free in :00010005 alice\n");
	assert_reports(overrun_by_one, "xmalloc: overrun in :00010005 alice\n");
	assert_reports(overrun_into_cookie, "xmalloc: overrun into the cookie in :00010005 alice\n");
	assert_reports(free_inside_block, "xmalloc: free of a foreign pointer in :00010005 alice\n");
	assert_reports(free_local, "xmalloc: free of a foreign pointer in :00010005 alice\n");
	assert_reports(realloc_foreign, "xmalloc: realloc of a foreign pointer in :00010005 alice\n"
	                                "xmalloc: block 0x1000 of 0 bytes");
	assert_reports(realloc_freed, "xmalloc: realloc of a freed block in :00010005 alice\n");
	assert_reports(write_late, "xmalloc: write to a freed block in :00010005 alice\n");
	assert_reports(free_other_service, "of 10 bytes, owner :00010005; found by :00020005 \n");
	assert_reports(double_free, "test_malloc("); /* the C stack */
}

static void
quarantine_keeps_and_releases(void **state) {
	(void)state;
	malloc_set_quarantine(10000);
	malloc_set_owner(ALICE);
	void *first = skynet_malloc(100);
	void *seen = first;
	OPAQUE(seen);
	skynet_free(first);
	for (int i = 0; i < 40; i++) {
		void *p = skynet_malloc(100);
		assert_ptr_not_equal(p, seen);
		skynet_free(p);
	}
	for (int i = 0; i < 5000; i++) {
		skynet_free(skynet_malloc((size_t)i * 10));
	}
	malloc_set_quarantine(0);
	assert_int_equal(malloc_current_memory(), 0);
	malloc_set_owner(0);
}

#endif

#endif

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(size_zero_gives_blocks_of_their_own),
	    cmocka_unit_test(aligned_blocks_can_be_resized_and_freed),
	    cmocka_unit_test(lalloc_allocates_resizes_and_frees),
	    cmocka_unit_test(owner_is_remembered_per_thread),
	    cmocka_unit_test(mem_info_merges),
#ifdef NOUSE_JEMALLOC
	    cmocka_unit_test(nothing_is_charged),
#else
	    cmocka_unit_test(realloc_to_zero_keeps_a_block),
	    cmocka_unit_test(bad_alignments_are_refused),
	    cmocka_unit_test(every_block_is_aligned),
	    cmocka_unit_test(calloc_zeroes_recycled_blocks),
	    cmocka_unit_test(a_block_counts_its_size_and_sixteen),
	    cmocka_unit_test(standard_functions_are_the_same_family),
	    cmocka_unit_test(an_owner_for_one_allocation_is_charged),
	    cmocka_unit_test(lalloc_is_not_charged),
	    cmocka_unit_test(realloc_moves_a_block_to_the_new_owner),
	    cmocka_unit_test(freeing_credits_the_allocating_service),
	    cmocka_unit_test(given_blocks_count_for_the_new_owner),
	    cmocka_unit_test(the_ledger_of_the_process_adds_up),
	    cmocka_unit_test(blocks_travel_between_threads),
	    cmocka_unit_test(jemalloc_answers),
	    cmocka_unit_test(sizes_beyond_memory_are_out_of_memory),
	    cmocka_unit_test(hook_runs_on_the_reserve),
	    cmocka_unit_test(failing_hook_does_not_loop),
#ifdef MEMORY_CHECK
	    cmocka_unit_test(misuse_is_reported),
	    cmocka_unit_test(quarantine_keeps_and_releases),
#endif
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
