/* A baseline as a file, and what an update of it changes. */
#ifndef MUONSPEC_TOOL_BASELINE_OUTPUT_H
#define MUONSPEC_TOOL_BASELINE_OUTPUT_H

#include "options.h"

#include "analysis/gate.h"

/* Write it as JSON, schema muonspec/baseline/1. MUON_E_WRITE, MUON_E_MEMORY. */
int baseline_json(FILE *to, const mspec_measurement *m, muon_error *err);

/* Say for people what was written; `before` is the baseline that it replaces, or NULL. */
int baseline_table(const mspec_measurement *m, const mspec_measurement *before,
                   const tool_options *options, muon_error *err);

#endif
