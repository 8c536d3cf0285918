# kqueue's back end, compiled on a system without one for test_poller and
# the tests of sockets: the same source, over an epoll-backed shim.

ifeq ($(PLAT),linux)
KQUEUE_SHIM := $(OBJ)/test/shim/kqueue/poller_kqueue.o $(OBJ)/test/shim/kqueue/kqueue_shim.o

$(OBJ)/test/shim/kqueue/poller_kqueue.o: skynet-src/poller_kqueue.c
	@mkdir -p $(@D)
	$(CC) $(SK_CFLAGS) $(CFLAGS) -Itest/shim/kqueue -DPOLLER_KQUEUE_SHIM \
		-Dpoller_native=poller_kqueue_shim -c $< -o $@

KQUEUE_USERS := test_poller $(patsubst test/unit/%.c,%,$(wildcard test/unit/test_socket*.c))

$(OBJ)/test/shim/kqueue/kqueue_shim.o $(KQUEUE_USERS:%=$(OBJ)/test/unit/%.o): \
	SK_CFLAGS += -Itest/shim/kqueue
$(foreach u,$(KQUEUE_USERS),$(eval UNIT_EXTRA_$(u) := $(KQUEUE_SHIM)))
endif
