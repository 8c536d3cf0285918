# Lua 5.5: unpacked under $(BUILD), compiled with our overlay once per variant.
#
# Defines
#   LUA_INC    folder with lua.h and the others, for our and third-party modules
#   LUA_LIB    the static library of this variant
#   LUA_BIN    the interpreter of this variant (release: 3rd/lua/lua)
#   LUA_READY  a stamp: the headers are in LUA_INC
#   LPEG_SO    the lpeg module
# LUA_SHARE=off builds stock Lua, with everything in lshare.h done by copying.

LUA_INC := 3rd/lua
LUA_SRCDIR := $(BUILD)/3rd/lua
LUA_OBJ := $(OBJ)/3rd/lua
LUA_LIB := $(LUA_OBJ)/liblua.a
LUA_BIN := $(if $(filter release,$(VARIANT)),3rd/lua/lua,$(LUA_OBJ)/lua)

LUA_UNITS := lapi lcode lctype ldebug ldo ldump lfunc lgc llex lmem lobject lopcodes lparser \
	lstate lstring ltable ltm lundump lvm lzio lauxlib lbaselib lcorolib ldblib liolib lmathlib \
	loadlib loslib lstrlib ltablib lutf8lib linit

LUA_MODE := stock
LUA_OVERLAY := lshare_off

LUA_READY := $(LUA_SRCDIR)/headers-$(LUA_MODE).stamp
LUA_UNPACKED := $(LUA_SRCDIR)/unpacked.stamp

# Lua's own assertions and API checks are on in every checked variant.
LUA_DEFS := -DLUA_USE_POSIX -DLUA_USE_DLOPEN
LUA_CHECKS = $(if $(filter release,$(VARIANT)),,-DLUAI_ASSERT -DLUA_USE_APICHECK)
LUA_CFLAGS = -std=gnu11 $(filter-out -D%,$(OPT_$(VARIANT))) -fPIC $(LUA_DEFS) $(LUA_CHECKS) \
	-I$(LUA_SRCDIR)/src -MMD -MP

$(LUA_UNPACKED): 3rd/lua/fetch.sh 3rd/fetch-source.sh 3rd/unpack.sh $(LUA_SRC)
	@tarball=$$(LUA_SRC="$(LUA_SRC)" sh 3rd/lua/fetch.sh) && \
		sh 3rd/unpack.sh "$$tarball" $(LUA_SRCDIR)/src src
	@touch $@

$(LUA_READY): $(LUA_UNPACKED) 3rd/lua/install-headers.sh 3rd/lua/overlay/lshare.h
	@sh 3rd/lua/install-headers.sh $(LUA_MODE) $(LUA_SRCDIR)/src $(LUA_INC)
	@touch $@

# The stock files appear with the unpacking, so make cannot know them earlier.
$(LUA_UNITS:%=$(LUA_SRCDIR)/src/%.c) $(LUA_SRCDIR)/src/lua.c: $(LUA_UNPACKED) ;

$(LUA_OBJ)/%.o: $(LUA_SRCDIR)/src/%.c | $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) $(LUA_CFLAGS) -Wall -Wextra $(CFLAGS) -c $< -o $@

$(LUA_OBJ)/%.o: 3rd/lua/overlay/%.c | $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) $(LUA_CFLAGS) $(WARN) $(CFLAGS) -c $< -o $@

$(LUA_LIB): $(LUA_UNITS:%=$(LUA_OBJ)/%.o) $(LUA_OVERLAY:%=$(LUA_OBJ)/%.o)
	@rm -f $@
	$(AR) rcs $@ $^

$(LUA_BIN): $(LUA_OBJ)/lua.o $(LUA_LIB)
	@mkdir -p $(@D)
	$(CC) $(LINK_$(VARIANT)) $(LDFLAGS) -o $@ $(LUA_OBJ)/lua.o \
		-Wl,--whole-archive $(LUA_LIB) -Wl,--no-whole-archive $(EXPORT) $(SYSLIBS)
