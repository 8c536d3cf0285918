# C modules that only tests load: each test/cmodule/X.c is test/cservice/X.so
# below $(OUT), which the harness puts into cpath.
CMODULE_SRC := $(sort $(wildcard test/cmodule/*.c))
CMODULE_SO := $(CMODULE_SRC:test/cmodule/%.c=$(OUT)/test/cservice/%.so)

$(OUT)/test/cservice/%.so: $(OBJ)/test/cmodule/%.o
	@mkdir -p $(@D)
	$(CC) $(SK_LDFLAGS) $(LDFLAGS) $(SHARED) -o $@ $< -lpthread

.PRECIOUS: $(OBJ)/test/cmodule/%.o
