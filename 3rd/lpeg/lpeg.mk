# lpeg, the pattern-matching library that users require: unchanged upstream
# source, built against our Lua. LPEG_SRC=file gives a tarball by hand.
#
# Defines LPEG_SO, the module with its companion lualib/re.lua.

LPEG_DIR := $(BUILD)/3rd/lpeg
LPEG_SO := $(OUT)/luaclib/lpeg.so
LPEG_OBJ := $(patsubst %,$(OBJ)/3rd/lpeg/%.o,lpcap lpcode lpcset lpprint lptree lpvm)
LPEG_UNPACKED := $(LPEG_DIR)/unpacked$(LPEG_SRC:%=-$(notdir $(LPEG_SRC))).stamp

$(LPEG_UNPACKED): 3rd/lpeg/fetch.sh 3rd/fetch-source.sh 3rd/unpack.sh $(LPEG_SRC)
	@mkdir -p $(@D)
	@tarball=$$(LPEG_SRC="$(LPEG_SRC)" sh 3rd/lpeg/fetch.sh) && \
		sh 3rd/unpack.sh "$$tarball" $(LPEG_DIR)/src
	@rm -f $(LPEG_DIR)/unpacked*.stamp && touch $@

$(OBJ)/3rd/lpeg/%.o: $(LPEG_UNPACKED) | $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(filter-out -D%,$(OPT_$(VARIANT))) -DNDEBUG -fPIC -I$(LUA_INC) $(CFLAGS) \
		-c $(LPEG_DIR)/src/$*.c -o $@

# re.lua belongs to the package; it is copied to where Lua modules are found.
lualib/re.lua: $(LPEG_UNPACKED)
	@mkdir -p $(@D)
	@cp $(LPEG_DIR)/src/re.lua $@

$(LPEG_SO): $(LPEG_OBJ) | lualib/re.lua
	@mkdir -p $(@D)
	$(CC) $(LINK_$(VARIANT)) $(LDFLAGS) $(SHARED) -o $@ $^
