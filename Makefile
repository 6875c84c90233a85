# leadhook.  `make help` lists the targets.

# Knobs; V=1 shows the commands
VARIANT   ?= release
BUILD     ?= build/$(VARIANT)
CC         = gcc
PREFIX    ?= /usr/local
UNITDIR   ?= $(PREFIX)/lib/systemd/system
V         ?=
MORE_FLAGS ?=
VERSION   := $(shell sed -nE '1s/^leadhook \(([0-9A-Za-z.:+~-]+)\).*/\1/p' deploy/debian/changelog)
Q         := $(if $(V),,@)
# What is compiled: the layers, lowest first (a folder includes only from folders before it).
LIB_DIRS  ?= lib/base lib/lead lib/auth lib/net lib/table lib/mail lib/store lib/relay
UNITS     ?= $(wildcard tests/unit/test_*.c tests/golden/test_*.c)
TARGETS   ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

WARNINGS  = -Wall -Wextra -Werror -Wshadow -Wconversion -Wundef -Wformat=2 -Wcast-qual -Wswitch \
            -Wnull-dereference -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
            -Wold-style-definition -Wwrite-strings
STANDARD  = -std=c11 -D_GNU_SOURCE -I. -fvisibility=hidden -MMD -MP

# Without -O2's knowledge of values two warnings speak of what cannot happen; the release build has them.  Sanitizers
# read files and make calls that the sandbox forbids.
FLAGS_release = -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection \
                -fcf-protection -fPIE
FLAGS_asan    = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
                -Wno-null-dereference -Wno-format-truncation -DLEADHOOK_NO_SANDBOX
FLAGS_tsan    = -O1 -g -fno-omit-frame-pointer -fsanitize=thread -Wno-null-dereference -Wno-format-truncation -fPIE \
                -DLEADHOOK_NO_SANDBOX
FLAGS_cov     = -O0 -g --coverage -fprofile-update=atomic -Wno-null-dereference -Wno-format-truncation \
                -DLEADHOOK_NO_SANDBOX
# For tests of long waits: they can be divided, and the wall clock moved.
FLAGS_fault   = $(FLAGS_release) -DLEADHOOK_TEST_CLOCK
LINK_fault    = $(LINK_release)
# For clang, which warns of some things that gcc knows to be harmless.
FLAGS_fuzz    = -O2 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
                -Wno-format-nonliteral -Wno-missing-field-initializers
LINK_fuzz     = -fsanitize=fuzzer,address,undefined
LINK_release  = -pie -Wl,-z,relro,-z,now,--as-needed
LINK_asan     = -fsanitize=address,undefined
LINK_cov      = --coverage
LINK_tsan     = -fsanitize=thread -pie

PACKAGES  = libcurl yajl libssl libcrypto sqlite3 libseccomp
CFLAGS    = $(STANDARD) $(WARNINGS) $(FLAGS_$(VARIANT)) $(MORE_FLAGS) -pthread $(shell pkg-config --cflags $(PACKAGES)) \
            -include lib/base/banned.h
LDLIBS    = $(LINK_$(VARIANT)) -pthread $(shell pkg-config --libs $(PACKAGES))

LIB_SRC   := $(foreach dir,$(LIB_DIRS),$(wildcard $(dir)/*.c))
HOOK_SRC  := $(wildcard handler/*.c)
CTL_SRC   := $(wildcard handler/ctl/*.c handler/ctl/*/*.c)
LIB       := $(BUILD)/libleadhook.a
OBJ        = $(patsubst %.c,$(BUILD)/%.o,$(1))
# leadctl shares the handler's modules except its main.
SHARED_OBJ := $(call OBJ,$(filter-out handler/main.c,$(HOOK_SRC)))
UNIT_BIN  := $(patsubst tests/%.c,$(BUILD)/tests/%,$(UNITS))
REPLAYS   := $(TARGETS:%=$(BUILD)/tests/fuzz/replay_%)
FUZZERS   := $(TARGETS:%=$(BUILD)/tests/fuzz/fuzz_%)
MAN_PAGES := $(patsubst deploy/man/%.in,$(BUILD)/man/%,$(wildcard deploy/man/*.in))
# The test servers are programs; what tests preload into leadhook are libraries.
PRELOADED := tests/harness/preload.c tests/harness/clock.c tests/harness/escape.c tests/harness/torture.c
HARNESS   := $(patsubst tests/harness/%.c,$(BUILD)/harness/%,$(filter-out $(PRELOADED),$(wildcard tests/harness/*.c))) \
             $(PRELOADED:tests/harness/%.c=$(BUILD)/harness/%.so)

.DELETE_ON_ERROR:
.PHONY: all lib units replays fuzz fuzzers test test-unit test-asan test-tsan test-systemd test-valgrind coverage fault torture harness bench bench-growth profile analyze format format-check man install test-upgrade deb test-package clean help

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

# The one file that knows the version, so that another version makes little anew.
$(BUILD)/lib/base/version.o: deploy/debian/changelog
$(BUILD)/lib/base/version.o: STANDARD += -DLEADHOOK_VERSION='"$(or $(VERSION),$(error no version in the first line of deploy/debian/changelog))"'

# Unit tests: one binary per module, linked with the library and, where it exists, the handler's modules.
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(call OBJ,$(filter-out handler/ctl/main.c,$(CTL_SRC))) $(SHARED_OBJ) $(LIB)
	@mkdir -p $(@D)
	@echo LINK $@
	$(Q)$(CC) -o $@ $^ $(LDLIBS) -lcmocka

# For the programs that tell libFuzzer of every comparison: these look at each byte, and compare it with nothing that
# libFuzzer would not find by itself.
$(BUILD)/lib/base/buf.o $(BUILD)/lib/base/span.o $(BUILD)/lib/base/text.o $(BUILD)/lib/mail/compose.o \
    $(BUILD)/lib/mail/mime.o: FLAGS_fuzz += -fno-sanitize-coverage=trace-cmp

# Fuzz targets: with libFuzzer, and with a main that gives them the inputs in the tree.  Out of archives, because some
# include a source file, for a function in it that is nobody else's.
$(BUILD)/libhandler.a: $(SHARED_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

FUZZ_LINK = $(Q)$(CC) -o $@ $(filter %.o,$^) $(BUILD)/libhandler.a $(LIB) $(LDLIBS)

$(REPLAYS): $(BUILD)/tests/fuzz/replay_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/tests/fuzz/replay.o $(BUILD)/libhandler.a $(LIB)
	@echo LINK $@
	$(FUZZ_LINK)

$(FUZZERS): $(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/libhandler.a $(LIB)
	@echo LINK $@
	$(FUZZ_LINK)

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

replays: $(REPLAYS)

fuzzers: $(FUZZERS)

test-unit: units ## unit and golden tests only
	@failed=0; for t in $(UNIT_BIN); do $$t || failed=1; done; exit $$failed

test-asan: ## everything under AddressSanitizer and UBSan
	VARIANT=asan BUILD=build/asan sh tests/run

test-tsan: ## everything under ThreadSanitizer
	VARIANT=tsan BUILD=build/tsan sh tests/run

coverage: ## what of lib/ the tests reach; pages in build/cov/html
	sh tests/coverage

# TRIALS, KINDS, TRIAL and JOBS go on to it.
fault: ## trials with faults: is a lead lost, a row or a mail there twice?
	$(Q)sh deploy/install-packages eatmydata e2fsprogs iproute2 mount
	$(Q)$(MAKE) --no-print-directory VARIANT=fault BUILD=build/fault all harness
	$(Q)BUILD=build/fault node tests/fault/run.js

# TIME=seconds or RUNS=number is for each of the TARGETS (all).
fuzz: ## fuzz every parser: TIME=10 or RUNS=100000 each, TARGETS="json_body ..."
	$(Q)sh deploy/install-packages clang libclang-rt-14-dev
	$(Q)$(MAKE) --no-print-directory VARIANT=fuzz BUILD=build/fuzz CC=clang TARGETS="$(TARGETS)" fuzzers
	$(Q)BUILD=build/fuzz TIME="$(TIME)" RUNS="$(RUNS)" sh tests/fuzz/run $(TARGETS)

test-systemd: deb harness ## the package under a real systemd, in a container; needs root
	sh tests/systemd/run

# TORTURE=all or how many times as many points, SCENARIOS, POINTS, TRACE and JOBS go on to it.
torture: ## each allocation and each system call fails in turn: no crash, no hang, no lead lost or doubled
	$(Q)sh tests/node-packages
	$(Q)$(MAKE) --no-print-directory VARIANT=fault BUILD=build/fault all harness
	$(Q)BUILD=build/fault node tests/torture/run.js

# VALGRIND=all goes on to it.
test-valgrind: all units harness ## unit and golden tests and some of the system tests under valgrind
	$(Q)sh deploy/install-packages valgrind libc6-dbg
	$(Q)sh tests/node-packages
	$(Q)sh tests/valgrind

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

analyze: ## static analysis: gcc -fanalyzer, cppcheck, clang-tidy, scan-build
	sh tests/analyze

format: ## rewrite the sources in the house style
	clang-format -i $(shell find lib handler tests -name node_modules -prune -o -name '*.[ch]' -print)

format-check: ## fail when a source differs from the house style
	clang-format --dry-run --Werror $(shell find lib handler tests -name node_modules -prune -o -name '*.[ch]' -print)

# Settings come from the README's table, which a test compares with the program's; commands from leadctl's own help.
man: $(MAN_PAGES) ## build the manual pages: build/release/man

$(BUILD)/man/%: deploy/man/%.in deploy/man/fill README.md $(BUILD)/leadctl
	@mkdir -p $(@D)
	$(Q)sh deploy/man/fill $< $(BUILD)/leadctl README.md >$@

# What all services have in common lies beside each of them.  The files name each other, and the programs, by where
# `make install` puts them if it is not told otherwise.
SHARE      = $(DESTDIR)$(PREFIX)/share
UNITS_IN   = $(DESTDIR)$(UNITDIR)
install: all man ## install the programs and the files for nginx and systemd under DESTDIR/PREFIX
	install -D -m 0755 $(BUILD)/leadhook $(DESTDIR)$(PREFIX)/sbin/leadhook
	install -D -m 0755 $(BUILD)/leadctl $(DESTDIR)$(PREFIX)/bin/leadctl
	install -D -m 0644 -t $(SHARE)/leadhook deploy/leadhook.conf.example deploy/routes.example
	install -D -m 0644 -t $(SHARE)/leadhook/azure deploy/azure/storage.json
	install -D -m 0755 -t $(SHARE)/leadhook/azure deploy/azure/create-storage
	install -D -m 0644 -t $(SHARE)/leadhook/nginx nginx/*.conf nginx/*.conf.example
	install -D -m 0644 deploy/completion/leadctl $(SHARE)/bash-completion/completions/leadctl
	for page in $(MAN_PAGES); do install -D -m 0644 -t $(SHARE)/man/man$${page##*.} $$page || exit; done
	install -D -m 0644 -t $(UNITS_IN) $(wildcard $(addprefix deploy/systemd/*.,socket service timer))
	for unit in $(notdir $(wildcard deploy/systemd/*.service)); do \
	    install -D -m 0644 -t $(UNITS_IN)/$$unit.d deploy/systemd/10-common.conf || exit; done
	install -D -m 0644 -t $(SHARE)/leadhook/prometheus deploy/prometheus/leadhook.rules.yml deploy/prometheus/prometheus.yml.example
	install -D -m 0644 -t $(SHARE)/leadhook/grafana deploy/grafana/leadhook.json
	install -D -m 0644 deploy/systemd/sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/leadhook.conf
	install -D -m 0644 deploy/systemd/tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/leadhook.conf
	sed -i 's,/usr/local/,$(PREFIX)/,g' $(UNITS_IN)/leadhook*.service $(SHARE)/leadhook/nginx/* $(SHARE)/man/man?/lead*

# OLD=commit is that of the older one.
test-upgrade: all ## this leadhook and an older one (OLD=commit) in turn and beside each other on one store and spool
	$(Q)sh tests/node-packages
	$(Q)sh deploy/install-packages nginx-light spawn-fcgi sqlite3
	$(Q)OLD=$(OLD) sh tests/upgrade/run

deb: ## build a Debian package: build/leadhook_*.deb
	$(Q)sh deploy/deb

test-package: deb harness ## the package in a fresh Debian 12, and the container's recipe; needs root
	sh tests/package/run

clean: ## remove what was built
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

-include $(wildcard $(BUILD)/harness/*.d $(BUILD)/lib/*/*.d $(BUILD)/handler/*.d $(BUILD)/handler/ctl/*.d $(BUILD)/handler/ctl/*/*.d $(BUILD)/tests/*/*.d)
