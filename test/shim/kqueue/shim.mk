# kqueue's back end, compiled on a system without one for test_poller and
# test_socket: the same source, over an epoll-backed shim.

ifeq ($(PLAT),linux)
KQUEUE_SHIM := $(OBJ)/test/shim/kqueue/poller_kqueue.o $(OBJ)/test/shim/kqueue/kqueue_shim.o

$(OBJ)/test/shim/kqueue/poller_kqueue.o: skynet-src/poller_kqueue.c
	@mkdir -p $(@D)
	$(CC) $(SK_CFLAGS) $(CFLAGS) -Itest/shim/kqueue -DPOLLER_KQUEUE_SHIM \
		-Dpoller_native=poller_kqueue_shim -c $< -o $@

$(OBJ)/test/shim/kqueue/kqueue_shim.o $(OBJ)/test/unit/test_poller.o \
$(OBJ)/test/unit/test_socket.o: SK_CFLAGS += -Itest/shim/kqueue

UNIT_EXTRA_test_poller := $(KQUEUE_SHIM)
UNIT_EXTRA_test_socket := $(KQUEUE_SHIM)
endif
