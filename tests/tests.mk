# Tests, checks and benchmarks; included by the Makefile.
export MUONSPEC_TEST_DATA ?= $(abspath ../shared/data)
PYTHON = /usr/bin/python3

UNIT = $(BUILD)/tests/unit

$(call objects,$(UNIT_SRC)): | $(BUILD)/packages-test
CFLAGS_tests = -Itests

$(UNIT): $(call objects,$(UNIT_SRC)) $(BUILD)/libmuonspec.a $(BUILD)/libmuon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZE) $^ -o $@ -lcunit $(LDLIBS)

# One program per benchmark.
$(BUILD)/tests/%: $(BUILD)/obj/tests/bench/%.o $(BUILD)/libmuonspec.a $(BUILD)/libmuon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZE) $^ -o $@ $(LDLIBS)

# What mpi.py runs.
$(BUILD)/tests/mpi_%: $(BUILD)/obj/tests/mpi_%.o $(BUILD)/libmuon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZE) $^ -o $@ $(LDLIBS)

# What model_torch.py and optim_torch.py run.
$(BUILD)/tests/run_%: $(BUILD)/obj/tests/run_%.o $(BUILD)/libmuonspec.a $(BUILD)/libmuon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZE) $^ -o $@ $(LDLIBS)

# ---- tests --------------------------------------------------------------------------------------
.PHONY: test test-unit test-cli test-numbers test-bad-input test-mpi \
	test-install test-runs
test: test-cli test-numbers test-runs test-gates test-bad-input test-train test-lab test-mpi test-install \
	test-unit check-layers
	@echo "all tests passed"

test-unit: $(UNIT)
	@$(UNIT)

test-cli: $(BUILD)/muonspec $(BUILD)/muonlab | $(BUILD)/packages-test
	@tests/cli/run $(BUILD)/muonspec

test-numbers: $(BUILD)/muonspec $(BUILD)/muontrain $(BUILD)/tests/run_model \
		$(BUILD)/tests/run_optim | $(BUILD)/packages-test
	@$(PYTHON) tests/compare_numpy.py $(BUILD)/muonspec "$(MUONSPEC_TEST_DATA)"
	@$(PYTHON) tests/same_report.py $(BUILD)/muonspec "$(MUONSPEC_TEST_DATA)"
	@$(PYTHON) tests/model_torch.py $(BUILD)/tests/run_model
	@$(PYTHON) tests/forward_numpy.py $(BUILD)/muonspec "$(MUONSPEC_TEST_DATA)"
	@$(PYTHON) tests/optim_torch.py $(BUILD)/tests/run_optim
	@$(PYTHON) tests/forward_training.py $(BUILD)/muontrain $(BUILD)/muonspec

test-mpi: $(BUILD)/tests/mpi_communicator $(BUILD)/tests/mpi_optimizer | $(BUILD)/packages-test
	@$(PYTHON) tests/mpi.py $(BUILD)

test-install: all documents | $(BUILD)/packages-test
	@+tests/install.sh $(MAKE) BUILD=$(abspath $(BUILD)) MPI=$(MPI) ONEDNN=$(ONEDNN)

.PHONY: test-documents
test: test-documents
test-documents: documents | $(BUILD)/packages-test
	@$(PYTHON) tests/documents.py $(BUILD)

# Not part of make test: it compiles everything again. REALLY=1: also on this machine.
PACKAGES_TEST_DEB = lintian fakeroot
REALLY ?= 0
$(BUILD)/packages-test-deb: Makefile
	$(call install_missing,$(PACKAGES_TEST_DEB))
	@mkdir -p $(@D) && touch $@

.PHONY: test-deb
test-deb: deb | $(BUILD)/packages-test-deb
	@tests/deb.sh $(BUILD)/deb $(if $(filter 1,$(REALLY)),really)

test-runs: $(BUILD)/muonspec | $(BUILD)/packages-test
	@$(PYTHON) tests/runs_numpy.py $(BUILD)/muonspec

.PHONY: test-gates
test-gates: $(BUILD)/muonspec | $(BUILD)/packages-test
	@$(PYTHON) tests/gates.py $(BUILD)/muonspec "$(MUONSPEC_TEST_DATA)"

test-bad-input: $(BUILD)/muonspec | $(BUILD)/packages-test
	@$(PYTHON) tests/bad_input.py $(BUILD)/muonspec "$(MUONSPEC_TEST_DATA)"

.PHONY: test-figures
test: test-figures
test-figures: $(BUILD)/muonspec | $(BUILD)/packages-test
	@$(PYTHON) tests/figures.py $(BUILD)/muonspec notebooks-data/example
	@$(PYTHON) tests/report_page.py $(BUILD)/muonspec notebooks-data/example

# Chromium is large: only root and CI install it; for others the test says that it was skipped
.PHONY: test-browser
test-browser: $(BUILD)/muonspec | $(BUILD)/packages-test \
		$(if $(CI)$(filter 0,$(shell id -u)),$(BUILD)/packages-browser)
	@$(PYTHON) tests/report_browser.py $(BUILD)/muonspec notebooks-data "$(MUONSPEC_TEST_DATA)"

.PHONY: test-notebook
test: test-notebook
test-notebook: $(BUILD)/muonspec | $(BUILD)/packages-test
	@$(PYTHON) tests/notebook.py $(BUILD)/muonspec notebooks-data/tour.ipynb

.PHONY: test-readme
test: test-readme
test-readme: $(BUILD)/muonspec | $(BUILD)/packages-test
	@$(PYTHON) tests/readme_snippets.py $(BUILD)/muonspec README.md

.PHONY: test-train
test-train: $(BUILD)/muontrain $(BUILD)/muonspec | $(BUILD)/packages-test
	@$(PYTHON) tests/train.py $(BUILD)/muontrain $(BUILD)/muonspec

.PHONY: test-lab
test-lab: $(addprefix $(BUILD)/,$(filter muonlab muontrain,$(TOOLS))) | $(BUILD)/packages-test
	@$(PYTHON) tests/lab_runs.py $(BUILD)/muonlab $(BUILD)/muontrain

.PHONY: check-layers test-sanitize test-valgrind
check-layers:
	@tests/check_layers.sh

# everything again with sanitizers, in a build folder of its own
SANITIZED = $(MAKE) BUILD=$(BUILD)-sanitize OPT='-O1 -g' \
	SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined'

test-sanitize: | $(BUILD)/packages-test
	@+$(SANITIZED) $(BUILD)-sanitize/tests/unit
	@ASAN_OPTIONS=detect_leaks=1 $(BUILD)-sanitize/tests/unit

# valgrind 3.19 does not know AVX-512
test-valgrind: $(UNIT) | $(BUILD)/packages-check
	@OPENBLAS_CORETYPE=Haswell valgrind -q --error-exitcode=9 --leak-check=full \
		--errors-for-leak-kinds=definite $(UNIT)

# ---- fuzzing ------------------------------------------------------------------------------------
FUZZERS = $(patsubst tests/fuzz/fuzz_%.c,%,$(FUZZ_SRC))
FUZZ_SECONDS ?= 1200
FUZZED = $(MAKE) BUILD=$(BUILD)-fuzz CC=clang OPT='-O1 -g' \
	SANITIZE='-fsanitize=address,undefined,fuzzer-no-link'

$(BUILD)/fuzz/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/libmuonspec.a $(BUILD)/libmuon.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZE) -fsanitize=fuzzer $^ -o $@ $(LDLIBS)

# the corpus through the same target, without libFuzzer
$(BUILD)/fuzz/replay_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/replay.o \
		$(BUILD)/libmuonspec.a $(BUILD)/libmuon.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZE) $^ -o $@ $(LDLIBS)

.SECONDARY: # objects are kept
.PHONY: fuzz fuzz-replay $(addprefix fuzz-,$(FUZZERS))
fuzz: $(addprefix fuzz-,$(FUZZERS))
$(addprefix fuzz-,$(FUZZERS)): fuzz-%: | $(BUILD)/packages-check
	+$(FUZZED) $(BUILD)-fuzz/fuzz/fuzz_$*
	mkdir -p $(BUILD)-fuzz/new_$*
	$(BUILD)-fuzz/fuzz/fuzz_$* -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 -timeout=30 \
		-artifact_prefix=$(BUILD)-fuzz/$*- $(BUILD)-fuzz/new_$* tests/fuzz/corpus/$*

fuzz-replay: | $(BUILD)/packages-build
	@+$(SANITIZED) $(addprefix $(BUILD)-sanitize/fuzz/replay_,$(FUZZERS))
	@for f in $(FUZZERS); do $(BUILD)-sanitize/fuzz/replay_$$f tests/fuzz/corpus/$$f || exit 1; done

# ---- benchmarks ---------------------------------------------------------------------------------
.PHONY: bench bench-quick
bench: $(BUILD)/muonspec $(BUILD)/tests/bench_svd $(BUILD)/tests/bench_model \
		$(BUILD)/tests/bench_newton_schulz $(BUILD)/tests/bench_step \
		$(BUILD)/tests/bench_distributed $(BUILD)/tests/make_checkpoint \
		| $(BUILD)/packages-test $(BUILD)/packages-bench
	$(BUILD)/tests/bench_svd
	$(BUILD)/tests/bench_model
	$(BUILD)/tests/bench_newton_schulz
	$(BUILD)/tests/bench_step
	$(BUILD)/tests/bench_distributed
	$(PYTHON) tests/bench/whole_process.py $(BUILD)

bench-quick: $(BUILD)/muonspec $(BUILD)/tests/bench_svd $(BUILD)/tests/bench_model \
		$(BUILD)/tests/bench_newton_schulz $(BUILD)/tests/bench_step \
		$(BUILD)/tests/bench_distributed $(BUILD)/tests/make_checkpoint \
		| $(BUILD)/packages-test
	$(BUILD)/tests/bench_svd --quick
	$(BUILD)/tests/bench_model --quick
	$(BUILD)/tests/bench_newton_schulz --quick
	$(BUILD)/tests/bench_step --quick
	$(BUILD)/tests/bench_distributed --quick
	$(PYTHON) tests/bench/whole_process.py $(BUILD) --quick
