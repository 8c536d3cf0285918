# `make fuzz` runs each fuzzer (test/fuzz/fuzz_NAME.c, corpus test/fuzz/corpus/NAME)
# for FUZZ_SECONDS. Needs clang with its fuzzer library. What a run finds beyond
# the corpus stays under the build folder; an input that fails is left in the
# current folder, to become a test and a seed.

.PHONY: fuzz fuzz-build

FUZZ_SECONDS ?= 20
FUZZ_NAME := $(patsubst test/fuzz/fuzz_%.c,%,$(sort $(wildcard test/fuzz/fuzz_*.c)))
FUZZ_BIN := $(FUZZ_NAME:%=$(OUT)/test/fuzz/fuzz_%)

# Extra objects and libraries of a fuzzer, as for units.
FUZZ_EXTRA_kcp := $(UNIT_EXTRA_test_kcp)
FUZZ_EXTRA_seri := $(UNIT_EXTRA_test_seri)
FUZZ_EXTRA_http := $(UNIT_EXTRA_test_http)
FUZZ_EXTRA_sproto := $(patsubst %.c,$(OBJ)/%.o,$(wildcard lualib-src/sproto/*.c))
FUZZ_EXTRA_sproto_pack := $(FUZZ_EXTRA_sproto)
FUZZ_EXTRA_sproto_bundle := $(FUZZ_EXTRA_sproto)
FUZZ_EXTRA_cjson := $(CJSON_OBJ)
FUZZ_EXTRA_protobuf := $(patsubst %.c,$(OBJ)/%.o,$(wildcard lualib-src/protobuf/*.c))
FUZZ_EXTRA_protobuf_schema := $(FUZZ_EXTRA_protobuf)
FUZZ_EXTRA_netpack := $(OBJ)/lualib-src/netpack_frame.o $(OBJ)/lualib-src/netpack_guard.o
FUZZ_EXTRA_gate_stream := $(UNIT_EXTRA_test_gate_stream)
FUZZ_EXTRA_tls := $(patsubst %.c,$(OBJ)/%.o,$(wildcard lualib-src/ltls/*.c))
FUZZ_LIBS_tls := -lssl -lcrypto
FUZZ_EXTRA_websocket := $(patsubst %.c,$(OBJ)/%.o,$(wildcard lualib-src/wscodec/ws_*.c))
FUZZ_LIBS_websocket := -lz
FUZZ_EXTRA_dns := $(OBJ)/lualib-src/dns_message.o
FUZZ_LIBS_dns := $(RESOLV)
FUZZ_EXTRA_bson := $(patsubst %.c,$(OBJ)/%.o,$(wildcard lualib-src/bson/*.c))

$(OUT)/test/fuzz/fuzz_%: $(OBJ)/test/fuzz/fuzz_%.o $(UNIT_CORE) $(LUA_LIB) $(JEMALLOC_LIB) $$(FUZZ_EXTRA_$$*)
	@mkdir -p $(@D)
	$(CC) $(SK_LDFLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(EXPORT) $(SYSLIBS) $(FUZZ_LIBS_$*)

$(OBJ)/test/fuzz/%.o: SK_CFLAGS += -Ilualib-src

fuzz-build: $(FUZZ_BIN)

fuzz:
	$(MAKE) CC=clang BUILD=$(BUILD)/fuzz OUT=$(BUILD)/fuzz/out VARIANT=asan CFLAGS=-fsanitize=fuzzer-no-link fuzz-build
	@for name in $(FUZZ_NAME); do \
		mkdir -p $(BUILD)/fuzz/corpus/$$name && \
		$(BUILD)/fuzz/out/test/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
			$(BUILD)/fuzz/corpus/$$name test/fuzz/corpus/$$name || exit 1; \
	done
