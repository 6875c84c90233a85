# leadhook.  `make help` lists the targets.

# Knobs; V=1 shows the commands
VARIANT   ?= release
BUILD     ?= build/$(VARIANT)
CC         = gcc
PREFIX    ?= /usr/local
V         ?=
Q         := $(if $(V),,@)
# What is compiled: the layers, lowest first (a folder includes only from folders before it).
LIB_DIRS  ?= lib/base lib/lead lib/auth lib/net lib/table lib/mail lib/store lib/relay
UNITS     ?= $(wildcard tests/unit/test_*.c tests/golden/test_*.c)

WARNINGS  = -Wall -Wextra -Werror -Wshadow -Wconversion -Wundef -Wformat=2 -Wcast-qual -Wswitch \
            -Wnull-dereference -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
            -Wold-style-definition -Wwrite-strings
STANDARD  = -std=c11 -D_GNU_SOURCE -I. -fvisibility=hidden -MMD -MP

# Without -O2's knowledge of values two warnings speak of what cannot happen; the release build has them.
FLAGS_release = -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection \
                -fcf-protection -fPIE
FLAGS_asan    = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
                -Wno-null-dereference -Wno-format-truncation
FLAGS_tsan    = -O1 -g -fno-omit-frame-pointer -fsanitize=thread -Wno-null-dereference -Wno-format-truncation -fPIE
# For tests of long waits: they can be divided, and the wall clock moved.
FLAGS_fault   = $(FLAGS_release) -DLEADHOOK_TEST_CLOCK
LINK_fault    = $(LINK_release)
LINK_release  = -pie -Wl,-z,relro,-z,now,--as-needed
LINK_asan     = -fsanitize=address,undefined
LINK_tsan     = -fsanitize=thread -pie

PACKAGES  = libcurl yajl libcrypto sqlite3
CFLAGS    = $(STANDARD) $(WARNINGS) $(FLAGS_$(VARIANT)) -pthread $(shell pkg-config --cflags $(PACKAGES)) \
            -include lib/base/banned.h
LDLIBS    = $(LINK_$(VARIANT)) -pthread $(shell pkg-config --libs $(PACKAGES))

LIB_SRC   := $(foreach dir,$(LIB_DIRS),$(wildcard $(dir)/*.c))
HOOK_SRC  := $(wildcard handler/*.c)
CTL_SRC   := $(wildcard handler/ctl/*.c)
LIB       := $(BUILD)/libleadhook.a
OBJ        = $(patsubst %.c,$(BUILD)/%.o,$(1))
# leadctl shares the handler's modules except its main.
SHARED_OBJ := $(call OBJ,$(filter-out handler/main.c,$(HOOK_SRC)))
UNIT_BIN  := $(patsubst tests/%.c,$(BUILD)/tests/%,$(UNITS))
# The test servers are programs; what tests preload into leadhook is a library.
HARNESS   := $(patsubst tests/harness/%.c,$(BUILD)/harness/%,$(filter-out %/preload.c,$(wildcard tests/harness/*.c))) \
             $(patsubst tests/harness/%.c,$(BUILD)/harness/%.so,$(wildcard tests/harness/preload.c))

.DELETE_ON_ERROR:
.PHONY: all lib units test test-unit test-asan test-tsan fault harness bench bench-growth profile analyze format format-check install clean help

all: $(BUILD)/leadhook $(BUILD)/leadctl ## build leadhook and leadctl (the default)

lib: $(LIB)

$(LIB): $(call OBJ,$(LIB_SRC))
	@rm -f $@
	$(Q)ar rcs $@ $^

$(BUILD)/leadhook: $(call OBJ,$(HOOK_SRC)) $(LIB)
	@echo LINK $@
	$(Q)$(CC) -o $@ $^ $(LDLIBS)

$(BUILD)/leadctl: $(call OBJ,$(CTL_SRC)) $(SHARED_OBJ) $(LIB)
	@echo LINK $@
	$(Q)$(CC) -o $@ $^ $(LDLIBS)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo CC $<
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

# Unit tests: one binary per module, linked with the library and, where it exists, the handler's modules.
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(call OBJ,$(filter-out handler/ctl/main.c,$(CTL_SRC))) $(SHARED_OBJ) $(LIB)
	@mkdir -p $(@D)
	@echo LINK $@
	$(Q)$(CC) -o $@ $^ $(LDLIBS) -lcmocka

$(BUILD)/harness/%: tests/harness/%.c Makefile
	@mkdir -p $(@D)
	@echo CC $<
	$(Q)$(CC) $(filter-out -include lib/base/banned.h,$(CFLAGS)) -o $@ $< $(LDLIBS) -lfcgi

# Plain in every variant: checked versions of libc's functions and sanitizers would be in its way.
$(BUILD)/harness/%.so: tests/harness/%.c Makefile
	@mkdir -p $(@D)
	@echo CC $<
	$(Q)$(CC) $(STANDARD) $(WARNINGS) -O2 -g -fPIC -shared -o $@ $< -ldl

harness: $(HARNESS) ## build the test servers

test: ## everything: unit, golden, cases and system tests
	sh tests/run

units: $(UNIT_BIN)

test-unit: units ## unit and golden tests only
	@failed=0; for t in $(UNIT_BIN); do $$t || failed=1; done; exit $$failed

test-asan: ## everything under AddressSanitizer and UBSan
	VARIANT=asan BUILD=build/asan sh tests/run

test-tsan: ## everything under ThreadSanitizer
	VARIANT=tsan BUILD=build/tsan sh tests/run

# TRIALS, KINDS, TRIAL and JOBS go on to it.
fault: ## trials with faults: is a lead lost, a row or a mail there twice?
	$(Q)sh deploy/install-packages eatmydata e2fsprogs iproute2 mount
	$(Q)$(MAKE) --no-print-directory VARIANT=fault BUILD=build/fault all harness
	$(Q)BUILD=build/fault node tests/fault/run.js

# ROUNDS, SECONDS and PARTS go on to them.
bench: all harness ## speed, memory and start against other programs, as ratios in one run
	$(Q)sh tests/bench/packages
	$(Q)PATH=$$PATH:/usr/sbin node tests/bench/run.js

bench-growth: all harness ## speed by connections, processes, latency, offers and leads stored; plots
	$(Q)sh tests/bench/packages
	$(Q)PATH=$$PATH:/usr/sbin node tests/bench/growth.js

profile: all harness ## where leadhook's time goes
	$(Q)sh tests/bench/packages linux-perf strace
	$(Q)PATH=$$PATH:/usr/sbin node tests/bench/profile.js

analyze: ## static analysis: cppcheck, clang-tidy, gcc -fanalyzer
	sh tests/analyze

format: ## rewrite the sources in the house style
	clang-format -i $(shell find lib handler tests -name node_modules -prune -o -name '*.[ch]' -print)

format-check: ## fail when a source differs from the house style
	clang-format --dry-run --Werror $(shell find lib handler tests -name node_modules -prune -o -name '*.[ch]' -print)

install: all ## install the programs under DESTDIR/PREFIX
	install -D -m 0755 $(BUILD)/leadhook $(DESTDIR)$(PREFIX)/sbin/leadhook
	install -D -m 0755 $(BUILD)/leadctl $(DESTDIR)$(PREFIX)/bin/leadctl
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/leadhook/nginx nginx/*.conf

clean: ## remove what was built
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

-include $(wildcard $(BUILD)/harness/*.d $(BUILD)/lib/*/*.d $(BUILD)/handler/*.d $(BUILD)/handler/ctl/*.d $(BUILD)/tests/*/*.d)
