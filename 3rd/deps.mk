# Finds what the system must provide, and says where the pieces are.
#
# Defines JEMALLOC_A (the archive that 3rd/jemalloc/jemalloc.mk starts from) and DEPS_TEST
# (a stamp: what only tests need is installed). The search result is an included
# makefile, so that make has it before it reads any rule that uses it; it is
# made again when the script or the compiler changes.

DEPS_FOUND := $(BUILD)/deps-$(notdir $(firstword $(CC)))$(if $(NOUSE_JEMALLOC),-libc).mk
DEPS_TEST := $(BUILD)/deps-test.stamp

$(DEPS_FOUND): 3rd/deps.sh 3rd/find-jemalloc.sh
	@CC="$(CC)" NOUSE_JEMALLOC="$(NOUSE_JEMALLOC)" sh 3rd/deps.sh build
	@mkdir -p $(@D)
	@echo "JEMALLOC_A := $$(sh 3rd/find-jemalloc.sh $(CC))" >$@.$$$$ && mv $@.$$$$ $@

$(DEPS_TEST): 3rd/deps.sh
	@CC="$(CC)" sh 3rd/deps.sh test
	@mkdir -p $(@D) && touch $@

deps: $(DEPS_FOUND) $(DEPS_TEST)

# Cleaning must work on a machine where nothing is installed.
ifneq ($(filter-out clean cleanall,$(or $(MAKECMDGOALS),all)),)
include $(DEPS_FOUND)
endif
