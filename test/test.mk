# Test targets. `make test` builds everything, then test/run.py runs all kinds
# of tests and prints `N passed, N failed` as its last line.

.PHONY: test check test-build debug check-debug check-asan check-tsan check-ubsan

-include test/cmodule/cmodule.mk
-include test/shim/kqueue/shim.mk
-include test/shim/faults/shim.mk

UNIT_SRC := $(sort $(wildcard test/unit/test_*.c))
UNIT_BIN := $(UNIT_SRC:test/unit/%.c=$(OUT)/test/unit/%)
UNIT_CORE := $(filter-out $(OBJ)/skynet-src/skynet_main.o,$(CORE_OBJ))

# A unit is linked with the whole core except main, and with what
# UNIT_EXTRA_<name> adds: objects of libraries, `-l` flags.
UNIT_EXTRA_test_sproto := $(patsubst %.c,$(OBJ)/%.o,$(sort $(wildcard lualib-src/sproto/*.c)))
UNIT_EXTRA_test_seri := $(OBJ)/lualib-src/lua-seri-read.o $(OBJ)/lualib-src/lua-seri-write.o $(OBJ)/lualib-src/lua-seri-walk.o
UNIT_EXTRA_test_zset := $(OBJ)/lualib-src/zset.o
UNIT_EXTRA_test_aoi := $(OBJ)/lualib-src/aoi.o
UNIT_EXTRA_test_kcp := $(patsubst %.c,$(OBJ)/%.o,$(filter-out %/lua-kcp.c,$(wildcard lualib-src/kcp/*.c)))
UNIT_EXTRA_test_http := $(OBJ)/lualib-src/http/http_head.o $(OBJ)/lualib-src/http/http_chunk.o
UNIT_EXTRA_test_netpack := $(OBJ)/lualib-src/netpack_frame.o
UNIT_EXTRA_test_ltls := $(patsubst %.c,$(OBJ)/%.o,$(sort $(wildcard lualib-src/ltls/*.c))) -lssl -lcrypto
UNIT_EXTRA_test_netpack_guard := $(OBJ)/lualib-src/netpack_guard.o
UNIT_EXTRA_test_gate_stream := $(OBJ)/service-src/gate/gate_stream.o

# Not written out in the rule, where make would put the stem for the %.
ANY_O := %.o

.SECONDEXPANSION:
$(OUT)/test/unit/%: $(OBJ)/test/unit/%.o $(UNIT_CORE) $(LUA_LIB) $(JEMALLOC_LIB) $$(filter $$(ANY_O),$$(UNIT_EXTRA_$$*))
	@mkdir -p $(@D)
	$(CC) $(SK_LDFLAGS) $(LDFLAGS) -o $@ $< $(UNIT_CORE) $(UNIT_EXTRA_$*) $(LUA_LIB) $(JEMALLOC_LIB) \
		$(EXPORT) $(SYSLIBS) -lcmocka

$(OBJ)/test/unit/%.o: SK_CFLAGS += -Ilualib-src

.SECONDARY:

# cmocka and Python are installed before the first test is compiled.
$(UNIT_SRC:%.c=$(OBJ)/%.o): | $(DEPS_TEST)

test-build: $(DEPS_TEST) $(LUA_PLAIN) products $(UNIT_BIN) $(CMODULE_SO) $(FAULTS_SO)

# FILTER=regex runs the tests whose name matches.
test check: test-build
	LUA_BIN=$(LUA_BIN) LUA_PLAIN=$(LUA_PLAIN) python3 test/run.py --variant $(VARIANT) --out $(OUT) $(if $(FILTER),--filter '$(FILTER)')

debug:
	$(MAKE) VARIANT=debug products

check-debug check-asan check-tsan check-ubsan: check-%:
	$(MAKE) VARIANT=$* test

include test/fuzz/fuzz.mk

# Ten minutes of services that are born, talk and die, and ten of connections that
# come and go; SOAK_SECONDS=n for longer.
.PHONY: soak
soak: test-build
	SOAK_SECONDS=$${SOAK_SECONDS:-600} python3 test/run.py --variant $(VARIANT) --out $(OUT) --jobs 1 \
		--filter 'lua/test_(soak|socket_churn).lua#4$$'
