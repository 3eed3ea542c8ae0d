# muonspec: `make` builds, `make run` shows the example, `make test` tests, `make help` lists more.
.DEFAULT_GOAL := all
SHELL := /bin/bash

BUILD ?= build
CC = gcc
CSTD = -std=c11 -D_POSIX_C_SOURCE=200809L
OPT ?= -O2 -g
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla \
       -Wcast-qual -Wformat=2 -Wundef
WERROR ?=
SANITIZE ?=
V ?= 0
Q = $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2))

# ---- packages: installed when missing, with sudo only when not root ---------------------------
PACKAGES_BUILD = gcc libc6-dev make pkg-config libopenblas-dev liblapacke-dev libhdf5-dev \
                 libjansson-dev libzip-dev uthash-dev libxxhash-dev
# bf16 products of Newton-Schulz by oneDNN; ONEDNN=0 builds without it
ONEDNN ?= 1
ifneq ($(ONEDNN),0)
PACKAGES_BUILD += libdnnl-dev
CFLAGS_ONEDNN = -DMUON_WITH_ONEDNN
LIBS_ONEDNN = -ldnnl -lgomp
endif
# Distributed Muon on Open MPI; MPI=0 builds without it
MPI ?= 1
ifneq ($(MPI),0)
PACKAGES_BUILD += libopenmpi-dev openmpi-bin
CFLAGS_MPI = $(eval CFLAGS_MPI := -DMUON_WITH_MPI $$(shell pkg-config --cflags ompi-c))$(CFLAGS_MPI)
LIBS_MPI = $(eval LIBS_MPI := $$(shell pkg-config --libs ompi-c))$(LIBS_MPI)
endif
PACKAGES_TEST = g++ mandoc libcunit1-dev python3-numpy python3-h5py gnuplot-nox
PACKAGES_BENCH = python3-scipy
PACKAGES_BROWSER = chromium chromium-driver python3-selenium
PACKAGES_CHECK = clang libclang-rt-dev valgrind

# one at a time: apt does not wait for another apt
define install_missing
@mkdir -p $(BUILD); exec 9>$(BUILD)/packages.lock; flock 9; \
missing=$$(for p in $(1); do \
	dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -n "$$missing" ]; then \
	echo "installing from Debian:" $$missing; \
	sudo=; [ $$(id -u) = 0 ] || sudo=sudo; \
	$$sudo apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends \
		$$missing >/dev/null || { echo "could not install:" $$missing >&2; exit 1; }; \
fi
endef

PKG = hdf5-serial openblas lapacke jansson libzip libxxhash
# looked up only when something is compiled, after the packages are there
CFLAGS_PKG = $(eval CFLAGS_PKG := $$(shell pkg-config --cflags $(PKG)))$(CFLAGS_PKG)
LIBS_PKG = $(eval LIBS_PKG := $$(shell pkg-config --libs $(PKG)))$(LIBS_PKG)
# only what a program uses: muonspec needs neither MPI nor oneDNN
LDLIBS = -Wl,--as-needed $(LIBS_PKG) $(LIBS_ONEDNN) $(LIBS_MPI) -lpthread -lm

# but for what public headers mark with MUON_API; see also lib%.map
VISIBILITY = -fvisibility=hidden

CFLAGS_ALL = $(CSTD) $(OPT) $(WARN) $(WERROR) $(SANITIZE) -fPIC $(VISIBILITY) -MMD -MP -Iinclude \
             -Isrc $(CFLAGS_PKG) $(CPPFLAGS) $(CFLAGS)

CFLAGS_tools = -Itools

# everything is compiled again when these change
COMPILED_WITH := $(strip $(CC) $(CSTD) $(OPT) $(SANITIZE) $(VISIBILITY) $(CPPFLAGS) $(CFLAGS))

# ---- sources: a folder is a layer, a file a concept --------------------------------------------
sources = $(sort $(foreach d,$(1),$(wildcard $(d)/*.c)))
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

LIBMUON_SRC = $(call sources,src/base src/kernels src/optim src/dist)
LIBMUONSPEC_SRC = $(call sources,src/checkpoint src/metric src/model src/analysis)
TOOLS = $(notdir $(patsubst %/main.c,%,$(wildcard tools/*/main.c)))
TOOL_SRC = $(call sources,$(addprefix tools/,$(TOOLS) common))
UNIT_SRC = $(call sources,tests/unit $(patsubst %/,%,$(wildcard tests/unit/*/)))
BENCH_SRC = $(call sources,tests/bench)
FUZZ_SRC = $(wildcard tests/fuzz/fuzz_*.c)

VERSION = $(shell sed -n 's/^\#define MUON_VERSION "\(.*\)"/\1/p' include/muon/error.h)
SOVERSION = $(firstword $(subst ., ,$(VERSION)))

.PHONY: all
all: $(addprefix $(BUILD)/,$(TOOLS)) $(BUILD)/libmuon.so $(BUILD)/libmuonspec.so

# what depends on a switch is made again when it changes
$(BUILD)/onednn-$(ONEDNN) $(BUILD)/mpi-$(MPI):
	@mkdir -p $(@D) && rm -f $(@D)/$(firstword $(subst -, ,$(@F)))-* && touch $@

$(BUILD)/packages-build: Makefile $(BUILD)/onednn-$(ONEDNN) $(BUILD)/mpi-$(MPI)
	$(call install_missing,$(PACKAGES_BUILD))
	@mkdir -p $(@D) && touch $@

$(BUILD)/packages-test: Makefile
	$(call install_missing,$(PACKAGES_TEST))
	@mkdir -p $(@D) && touch $@

$(BUILD)/packages-bench: Makefile
	$(call install_missing,$(PACKAGES_BENCH))
	@mkdir -p $(@D) && touch $@

$(BUILD)/packages-browser: Makefile
	$(call install_missing,$(PACKAGES_BROWSER))
	@mkdir -p $(@D) && touch $@

$(BUILD)/packages-check: Makefile
	$(call install_missing,$(PACKAGES_CHECK))
	@mkdir -p $(@D) && touch $@

ifneq "$(file <$(BUILD)/compiled-with)" "$(COMPILED_WITH)"
.PHONY: $(BUILD)/compiled-with
endif
$(BUILD)/compiled-with:
	@mkdir -p $(@D) && echo '$(subst ','\'',$(COMPILED_WITH))' >$@

$(BUILD)/obj/%.o: %.c $(BUILD)/compiled-with | $(BUILD)/packages-build
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_$(firstword $(subst /, ,$<))) -c $< -o $@

# kernels and models are where the time goes
$(BUILD)/obj/src/kernels/%.o $(BUILD)/obj/src/model/%.o: OPT += $(if $(SANITIZE),,-O3)
# square roots in vector code don't set errno
$(BUILD)/obj/src/optim/%.o: OPT += $(if $(SANITIZE),,-O3) -fno-math-errno

$(BUILD)/obj/src/kernels/products_onednn.o: CFLAGS_ALL += $(CFLAGS_ONEDNN)
$(BUILD)/obj/src/kernels/products_onednn.o: $(BUILD)/onednn-$(ONEDNN)
$(BUILD)/obj/src/dist/dist_mpi.o: CFLAGS_ALL += $(CFLAGS_MPI)
$(BUILD)/obj/src/dist/dist_mpi.o: $(BUILD)/mpi-$(MPI)

$(BUILD)/libmuon.a: $(call objects,$(LIBMUON_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/libmuonspec.a: $(call objects,$(LIBMUONSPEC_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

# what a library exports: what its public headers declare, under a version such as LIBMUON_0
$(BUILD)/lib%.map: packaging/public_functions.sh $(wildcard include/*/*.h) | $(BUILD)/packages-build
	$(Q)set -o pipefail; { echo "LIB$$(echo $* | tr a-z A-Z)_$(SOVERSION) { global:" && \
		packaging/public_functions.sh $* | sed 's/$$/;/' && echo 'local: *; };'; } >$@.tmp && \
		mv $@.tmp $@

# of library $(1), with nothing left undefined but in sanitizers' run-time libraries
LINK_SHARED = $(CC) -shared $(SANITIZE) $(LDFLAGS) $(if $(SANITIZE),,-Wl,-z,defs) \
	-Wl,-soname,$(1).so.$(SOVERSION) -Wl,--version-script=$(BUILD)/$(1).map \
	$(filter %.o,$^) -o $@.$(VERSION)
LINK_NAMES = ln -sf $(1).so.$(VERSION) $@.$(SOVERSION) && ln -sf $(1).so.$(VERSION) $@

$(BUILD)/libmuon.so: $(call objects,$(LIBMUON_SRC)) $(BUILD)/libmuon.map
	$(call say,LD,$@)
	$(Q)$(call LINK_SHARED,libmuon) $(shell pkg-config --libs openblas lapacke 2>/dev/null) \
		$(LIBS_ONEDNN) $(LIBS_MPI) -lpthread -lm
	$(Q)$(call LINK_NAMES,libmuon)

# with its own copy of what it uses of base: libmuon.so doesn't export that
BASE_COPIED = $(filter-out src/base/error.c src/base/allocator.c,$(call sources,src/base))

$(BUILD)/libmuonspec.so: $(call objects,$(LIBMUONSPEC_SRC) $(BASE_COPIED)) $(BUILD)/libmuon.so \
		$(BUILD)/libmuonspec.map
	$(call say,LD,$@)
	$(Q)$(call LINK_SHARED,libmuonspec) -L$(BUILD) -lmuon $(LDLIBS)
	$(Q)$(call LINK_NAMES,libmuonspec)

TOOL_OBJECTS = $(call objects,$(call sources,tools/$(1) tools/common))
$(foreach t,$(TOOLS),$(eval $(BUILD)/$(t): $(call TOOL_OBJECTS,$(t))))
$(addprefix $(BUILD)/,$(TOOLS)): $(BUILD)/libmuonspec.a $(BUILD)/libmuon.a
	$(call say,LD,$@)
	$(Q)$(CC) $(SANITIZE) $(LDFLAGS) $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LDLIBS)

# ---- corpora ------------------------------------------------------------------------------------
# King James Bible, in the public domain, without the verses' numbers; and to fine-tune on something
# else Perl's documentation in English (GPL or Artistic). They are read from the machine, not shipped.
PACKAGES_CORPUS = bible-kjv perl-doc
$(BUILD)/packages-corpus: Makefile
	$(call install_missing,$(PACKAGES_CORPUS))
	@mkdir -p $(@D) && touch $@

$(BUILD)/corpus/kjv.txt: | $(BUILD)/packages-corpus
	$(call say,TEXT,$@)
	@mkdir -p $(@D)
	$(Q)set -o pipefail; bible -f gen1:1-rev22:21 | sed 's/^[^ ]* //' >$@.tmp && mv $@.tmp $@

$(BUILD)/corpus/perl.txt: | $(BUILD)/packages-corpus
	$(call say,TEXT,$@)
	@mkdir -p $(@D)
	$(Q)set -o pipefail; dpkg -L perl-doc | grep 'pod/perl.*\.pod$$' | \
		grep -v 'perl\(cn\|jp\|ko\|tw\)\.pod$$' | LC_ALL=C sort | xargs -d '\n' cat >$@.tmp && \
		mv $@.tmp $@

.PHONY: corpus
corpus: $(BUILD)/corpus/kjv.txt $(BUILD)/corpus/perl.txt

# ---- run ----------------------------------------------------------------------------------------
CKPT ?= notebooks-data/weight-decay/checkpoints/muon-decay/step-004500.h5

.PHONY: run
run: $(BUILD)/muonspec
	@$(BUILD)/muonspec analyze "$(CKPT)"

# ---- notebook -----------------------------------------------------------------------------------
PACKAGES_NOTEBOOK = jupyter-nbconvert python3-ipykernel python3-pandas python3-matplotlib python3-h5py
$(BUILD)/packages-notebook: Makefile
	$(call install_missing,$(PACKAGES_NOTEBOOK))
	@mkdir -p $(@D) && touch $@

# again with the results that are there now; the file is replaced only if every cell runs
.PHONY: notebook
notebook: $(BUILD)/muonspec | $(BUILD)/packages-notebook
	@mkdir -p $(BUILD)/tour
	@MUONSPEC=$(abspath $<) PYDEVD_DISABLE_FILE_VALIDATION=1 $(PYTHON) -m nbconvert --to notebook \
		--execute notebooks-data/tour.ipynb --output-dir $(BUILD)/tour --log-level WARN \
		--ExecutePreprocessor.record_timing=False --ExecutePreprocessor.kernel_name=python3 \
		--ExecutePreprocessor.timeout=1200 --ExecutePreprocessor.startup_timeout=600
	@mv $(BUILD)/tour/tour.ipynb notebooks-data/tour.ipynb

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
include tests/tests.mk
include install.mk

.PHONY: clean help
clean:
	rm -rf $(BUILD) $(BUILD)-*

help:
	@echo 'make                the program and both libraries, in build/'
	@echo 'make run [CKPT=F]   analyze the shipped example, or F'
	@echo 'make corpus         the texts that muontrain learns by default, in build/corpus/'
	@echo 'make notebook       run notebooks-data/tour.ipynb again'
	@echo 'make test           every test that the machine allows'
	@echo 'make test-browser   reports in Chromium, which root and CI install for it'
	@echo 'make bench          the tables of the README'
	@echo 'make documents      manual pages and completions, in build/documents/'
	@echo 'make install        into PREFIX=/usr/local, under DESTDIR= if given; make uninstall'
	@echo 'make deb            Debian packages, in build/deb/; make test-deb installs and removes them'
	@echo 'make check-layers   includes point only down the layers'
	@echo 'make test-sanitize  unit tests under AddressSanitizer and UBSan'
	@echo 'make test-valgrind  unit tests under valgrind'
	@echo 'make fuzz           libFuzzer targets, FUZZ_SECONDS=1200 each'
	@echo 'Missing Debian packages are installed as each target needs them.'
