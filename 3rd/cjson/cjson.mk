# cjson, the JSON library that users require: upstream source, built against our
# Lua after the changes in adapt.sed. CJSON_SRC=file gives a tarball by hand.
#
# Defines CJSON_SO, the module.

CJSON_DIR := $(BUILD)/3rd/cjson
CJSON_SO := $(OUT)/luaclib/cjson.so
CJSON_OBJ := $(patsubst %,$(OBJ)/3rd/cjson/%.o,adapted fpconv strbuf)
CJSON_UNPACKED := $(CJSON_DIR)/unpacked.stamp

# The number of marks that adapt.sed leaves.
CJSON_CHANGES := 11

$(CJSON_UNPACKED): 3rd/cjson/fetch.sh 3rd/cjson/adapt.sed 3rd/fetch-source.sh 3rd/unpack.sh $(CJSON_SRC)
	@mkdir -p $(@D)
	@tarball=$$(CJSON_SRC="$(CJSON_SRC)" sh 3rd/cjson/fetch.sh) && \
		sh 3rd/unpack.sh "$$tarball" $(CJSON_DIR)/src
	@sed -f 3rd/cjson/adapt.sed $(CJSON_DIR)/src/lua_cjson.c >$(CJSON_DIR)/src/adapted.c
	@[ "$$(grep -c '/\* adapted \*/' $(CJSON_DIR)/src/adapted.c)" = $(CJSON_CHANGES) ] || { \
		echo "cjson: 3rd/cjson/adapt.sed does not fit this version of lua_cjson.c" >&2; exit 1; }
	@touch $@

$(OBJ)/3rd/cjson/%.o: $(CJSON_UNPACKED) 3rd/cjson/adapt.h | $(LUA_READY)
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -fgnu89-inline $(filter-out -D%,$(OPT_$(VARIANT))) -DNDEBUG -fPIC -I$(LUA_INC) \
		$(CFLAGS) $(if $(filter adapted,$*),-include 3rd/cjson/adapt.h) -c $(CJSON_DIR)/src/$*.c -o $@

$(CJSON_SO): $(CJSON_OBJ)
	@mkdir -p $(@D)
	$(CC) $(LINK_$(VARIANT)) $(LDFLAGS) $(SHARED) -o $@ $^ -lm
