# Build of skynet. `make` builds everything, `make test` runs every test,
# `make run` starts the example game. README.md lists the targets.
#
# Settings a user may pass:
#   CC=clang          another compiler
#   BUILD=dir         where objects go (one directory per variant inside)
#   LUA_SRC=file      a Lua 5.5 source tarball to use instead of fetching one
#   LUA_SHARE=off     stock Lua, no sharing between VMs
#   NOUSE_JEMALLOC=1  libc malloc, no accounting
#   WERROR=1          warnings are errors (what CI does)

BUILD ?= build
VARIANT ?= release
# Where the products go. A variant other than release keeps its products under
# its own build folder, so that it never overwrites the ones users start.
OUT ?= $(if $(filter release,$(VARIANT)),.,$(BUILD)/$(VARIANT)/out)
OBJ := $(BUILD)/$(VARIANT)

include platform.mk

.PHONY: all linux freebsd macosx clean cleanall deps

all: products

linux freebsd macosx: all

include 3rd/deps.mk
include 3rd/jemalloc/jemalloc.mk
include 3rd/lua/lua.mk
include 3rd/lpeg/lpeg.mk
include 3rd/cjson/cjson.mk

#------------------------------------------------------------------ variants

OPT_release := -O2 -g
OPT_debug := -O0 -g3 -DMEMORY_CHECK -DCALLING_CHECK
OPT_asan := -O1 -g -fsanitize=address -fno-omit-frame-pointer -DMEMORY_CHECK
OPT_tsan := -O1 -g -fsanitize=thread
OPT_ubsan := -O1 -g -fsanitize=undefined -fno-sanitize-recover=all
LINK_asan := -fsanitize=address
LINK_tsan := -fsanitize=thread
LINK_ubsan := -fsanitize=undefined

ifneq ($(filter asan tsan,$(VARIANT)),)
NOUSE_JEMALLOC ?= 1
endif

#--------------------------------------------------------------------- flags

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wundef
ifdef WERROR
WARN += -Werror
endif
DEFS := -D_GNU_SOURCE
ifdef NOUSE_JEMALLOC
DEFS += -DNOUSE_JEMALLOC
else
JEMALLOC_LIB = $(JEMALLOC)
endif
SK_CFLAGS = -std=gnu11 $(OPT_$(VARIANT)) $(WARN) $(DEFS) -fPIC $(NOPLT) -Iskynet-src -I$(LUA_INC) -MMD -MP
SK_LDFLAGS = $(LINK_$(VARIANT))

#------------------------------------------------------------------- objects

CORE_SRC := $(sort $(wildcard skynet-src/*.c))
CORE_OBJ := $(CORE_SRC:%.c=$(OBJ)/%.o)
# One C service is one file service_X.c, or one folder service-src/X/.
CSERVICE := $(patsubst service-src/service_%.c,%,$(wildcard service-src/service_*.c)) \
	$(patsubst service-src/%/,%,$(wildcard service-src/*/))
# lualib-src/*.c is skynet.so; each folder lualib-src/X/ is X.so.
LUACLIB := skynet $(patsubst lualib-src/%/,%,$(wildcard lualib-src/*/))

PRODUCTS := $(OUT)/skynet $(CSERVICE:%=$(OUT)/cservice/%.so) $(LUACLIB:%=$(OUT)/luaclib/%.so)

.PHONY: products
products: $(PRODUCTS) $(LUA_BIN) $(LPEG_SO) $(CJSON_SO)

$(OBJ)/%.o: %.c | $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) $(SK_CFLAGS) $(CFLAGS) -c $< -o $@

# Modules resolve the kernel and Lua from the executable, which therefore
# exports everything it contains, used by itself or not.
$(OUT)/skynet: $(CORE_OBJ) $(LUA_LIB) $(JEMALLOC_LIB)
	@mkdir -p $(@D)
	$(CC) $(SK_LDFLAGS) $(LDFLAGS) -o $@ $(CORE_OBJ) -Wl,--whole-archive $(LUA_LIB) -Wl,--no-whole-archive \
		$(JEMALLOC_LIB) $(EXPORT) $(SYSLIBS)

define cservice_rule
$(1)_CSRC := $$(wildcard service-src/service_$(1).c service-src/$(1)/*.c)
$$(OUT)/cservice/$(1).so: $$($(1)_CSRC:%.c=$$(OBJ)/%.o)
	@mkdir -p $$(@D)
	$$(CC) $$(SK_LDFLAGS) $$(LDFLAGS) $$(SHARED) -o $$@ $$^ $$(CSLIBS_$(1))
endef
$(foreach m,$(CSERVICE),$(eval $(call cservice_rule,$(m))))

skynet_LSRC := $(sort $(wildcard lualib-src/*.c))
# client.crypt is skynet.crypt, for plain Lua.
LUACLIB_EXTRA_client := $(sort $(wildcard lualib-src/lua-crypt*.c))
define luaclib_rule
$(1)_LSRC ?= $$(sort $$(wildcard lualib-src/$(1)/*.c)) $$(LUACLIB_EXTRA_$(1))
$$(OUT)/luaclib/$(1).so: $$($(1)_LSRC:%.c=$$(OBJ)/%.o)
	@mkdir -p $$(@D)
	$$(CC) $$(SK_LDFLAGS) $$(LDFLAGS) $$(SHARED) -o $$@ $$^ $$(LUACLIB_LIBS_$(1))
endef
# Extra sources and libraries of one Lua C library go here.
LUACLIB_LIBS_skynet = -lcrypto $(RESOLV) $(NODELETE)
LUACLIB_LIBS_client = -lcrypto -lpthread
LUACLIB_LIBS_bson = -lpthread $(NODELETE)
LUACLIB_LIBS_ltls = -lssl -lcrypto -lpthread $(NODELETE)
LUACLIB_LIBS_http = -lz
LUACLIB_LIBS_md5 = -lcrypto
LUACLIB_LIBS_protobuf = -lpthread $(NODELETE)
LUACLIB_LIBS_sproto = -lpthread $(NODELETE)
LUACLIB_LIBS_wscodec = -lz
# These read Lua's own structures.
$(OBJ)/lualib-src/lua-seri-walk.o $(OBJ)/lualib-src/lua-sharetable-walk.o \
	$(OBJ)/lualib-src/lua-heap-walk.o: SK_CFLAGS += -I$(LUA_SRCDIR)/src
$(foreach m,$(LUACLIB),$(eval $(call luaclib_rule,$(m))))

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)

#--------------------------------------------------------------------- tests

include test/test.mk
include examples/examples.mk
include bench/bench.mk

clean:
	rm -rf $(BUILD) skynet cservice luaclib

cleanall: clean
	rm -rf 3rd/lua/lua 3rd/lua/*.h 3rd/lua/*.hpp 3rd/lua/*.a lualib/re.lua
