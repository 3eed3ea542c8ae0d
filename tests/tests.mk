# Tests, checks and benchmarks; included by the Makefile.
export MUONSPEC_TEST_DATA ?= $(abspath ../shared/data)

UNIT = $(BUILD)/tests/unit

$(call objects,$(UNIT_SRC)): | $(BUILD)/packages-test
CFLAGS_tests = -Itests

$(UNIT): $(call objects,$(UNIT_SRC)) $(BUILD)/libmuonspec.a $(BUILD)/libmuon.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZE) $^ -o $@ -lcunit $(LDLIBS)

.PHONY: test test-unit
test-unit: $(UNIT)
	$(UNIT)
test: test-unit
