# Lua 5.5: unpacked under $(BUILD), compiled with our overlay once per variant.
#
# Defines
#   LUA_INC    folder with lua.h and the others, for our and third-party modules
#   LUA_LIB    the static library of this variant
#   LUA_BIN    the interpreter of this variant (release: 3rd/lua/lua)
#   LUA_PLAIN  an interpreter without any of our changes, for comparison in tests
#   LUA_READY  a stamp: the headers are in LUA_INC
# LUA_SHARE=off builds stock Lua, with everything in lshare.h done by copying.

LUA_INC := 3rd/lua
LUA_SRCDIR := $(BUILD)/3rd/lua
LUA_UNPACKED := $(LUA_SRCDIR)/unpacked$(LUA_SRC:%=-$(notdir $(LUA_SRC))).stamp

LUA_UNITS := lapi lcode lctype ldebug ldo ldump lfunc lgc llex lmem lobject lopcodes lparser \
	lstate lstring ltable ltm lundump lvm lzio lauxlib lbaselib lcorolib ldblib liolib lmathlib \
	loadlib loslib lstrlib ltablib lutf8lib linit
# Stock units that an overlay unit compiles, and all units of our own.
LUA_REPLACED := lapi lgc llex lstate lstring ltable lvm lauxlib
LUA_SHARED := $(LUA_REPLACED:%=overlay_%) share_cache share_code share_collect share_image share_load share_memory \
	share_string share_table

# LUA_MODE is share or stock. Only a release of Lua that we do not know needs a
# look; the answer is an included makefile, so that make has it before the rules.
ifeq ($(LUA_SHARE),off)
LUA_MODE := stock
else ifneq ($(filter-out clean cleanall,$(or $(MAKECMDGOALS),all)),)
include $(LUA_SRCDIR)/mode.mk
endif

LUA_OBJ := $(OBJ)/3rd/lua-$(LUA_MODE)
LUA_LIB := $(LUA_OBJ)/liblua.a
LUA_BIN := $(if $(filter release,$(VARIANT)),$(LUA_INC)/lua,$(LUA_OBJ)/lua)
LUA_PLAIN := $(OBJ)/3rd/lua-plain
LUA_READY := $(LUA_SRCDIR)/headers-$(LUA_MODE).stamp

LUA_LIBOBJ := $(patsubst %,$(LUA_OBJ)/%.o,$(if $(filter share,$(LUA_MODE)), \
	$(filter-out $(LUA_REPLACED),$(LUA_UNITS)) $(LUA_SHARED),$(LUA_UNITS) lshare_off))

# Nearly all of a state's strings are shared, so its own table starts smaller
# than in stock Lua; so does the cache of strings that C code asks for, which
# comes after one for all states (overlay_lstring.c).
LUA_SIZES := $(if $(filter share,$(LUA_MODE)),-DMINSTRTABSIZE=32 -DSTRCACHE_N=5 -DSTRCACHE_M=1)

# Lua's own assertions and API checks are on in every checked variant.
LUA_CHECKS = $(if $(filter release,$(VARIANT)),,-DLUAI_ASSERT -DLUA_USE_APICHECK)
LUA_TSAN = $(if $(filter tsan,$(VARIANT)),-include 3rd/lua/overlay/tsan.h)
LUA_CFLAGS = -std=gnu11 $(filter-out -D%,$(OPT_$(VARIANT))) -fPIC -DLUA_USE_POSIX \
	-DLUA_USE_DLOPEN $(LUA_SIZES) $(LUA_CHECKS) $(LUA_TSAN) -I$(LUA_SRCDIR)/src -MMD -MP

# The stamp tells the tarball too: giving another one unpacks again.
$(LUA_UNPACKED): 3rd/lua/fetch.sh 3rd/fetch-source.sh 3rd/unpack.sh $(LUA_SRC)
	@tarball=$$(LUA_SRC="$(LUA_SRC)" sh 3rd/lua/fetch.sh) && \
		sh 3rd/unpack.sh "$$tarball" $(LUA_SRCDIR)/src src
	@rm -f $(LUA_SRCDIR)/unpacked*.stamp && touch $@

$(LUA_SRCDIR)/mode.mk: $(LUA_UNPACKED) 3rd/lua/probe.sh $(wildcard 3rd/lua/overlay/*)
	@mode=$$(LUA_STOCK="$(filter-out $(LUA_REPLACED),$(LUA_UNITS))" LUA_OURS="$(LUA_SHARED)" \
		sh 3rd/lua/probe.sh $(LUA_SRCDIR)/src $(LUA_SRCDIR)/probe $(CC)) && \
		echo "LUA_MODE := $$mode" >$@

# Another build folder may have put other headers there, so this looks each
# time; the stamp, and a header, get a new time only when something changed.
LUA_HEADERS := $(addprefix $(LUA_INC)/,lua.h luaconf.h lauxlib.h lualib.h lua.hpp lshare.h)
$(LUA_READY): $(LUA_UNPACKED) 3rd/lua/install-headers.sh 3rd/lua/overlay/lshare.h LUA_LOOK
	@changed=$$(sh 3rd/lua/install-headers.sh $(LUA_MODE) $(LUA_SRCDIR)/src $(LUA_INC)) && \
		{ [ -z "$$changed" ] && [ -e $@ ] || touch $@; }
$(LUA_HEADERS): $(LUA_READY) ;
.PHONY: LUA_LOOK
LUA_LOOK:

# The stock files appear with the unpacking, so make cannot know them earlier.
$(LUA_UNITS:%=$(LUA_SRCDIR)/src/%.c) $(LUA_SRCDIR)/src/lua.c: $(LUA_UNPACKED) ;

$(LUA_OBJ)/%.o: $(LUA_SRCDIR)/src/%.c 3rd/lua/lua.mk | $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) $(LUA_CFLAGS) -Wall -Wextra $(CFLAGS) -c $< -o $@

# Overlay units contain stock code, which has its own idea of warnings.
$(LUA_OBJ)/overlay_%.o: 3rd/lua/overlay/overlay_%.c 3rd/lua/lua.mk | $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) $(LUA_CFLAGS) -Wall -Wextra $(CFLAGS) -c $< -o $@

$(LUA_OBJ)/%.o: 3rd/lua/overlay/%.c 3rd/lua/lua.mk | $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) $(LUA_CFLAGS) $(WARN) $(CFLAGS) -c $< -o $@

$(LUA_LIB): $(LUA_LIBOBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(LUA_BIN): $(LUA_OBJ)/lua.o $(LUA_LIB) $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) $(LINK_$(VARIANT)) $(LDFLAGS) -o $@ $(LUA_OBJ)/lua.o \
		-Wl,--whole-archive $(LUA_LIB) -Wl,--no-whole-archive $(EXPORT) $(SYSLIBS)

$(LUA_PLAIN): $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -DLUA_USE_POSIX -DLUA_USE_DLOPEN -o $@ \
		$(LUA_UNITS:%=$(LUA_SRCDIR)/src/%.c) $(LUA_SRCDIR)/src/lua.c $(EXPORT) $(SYSLIBS)
