# A library that makes calls of the system fail, preloaded by tests: see faults.h.

ifeq ($(PLAT),linux)
FAULTS_SRC := $(sort $(wildcard test/shim/faults/*.c))
FAULTS_SO := $(OUT)/test/shim/faults.so

# The names of libc's functions are its own: nothing may be made of them by the compiler or
# a checker. The sanitizer of a variant is not for what stands below it.
$(FAULTS_SO): $(FAULTS_SRC) test/shim/faults/faults.h
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O1 -g -fno-builtin -D_GNU_SOURCE -U_FORTIFY_SOURCE $(WARN) -fPIC -shared -o $@ \
		$(FAULTS_SRC) -ldl
endif
