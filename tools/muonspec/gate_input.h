/* What baseline and check look at, and how. */
#ifndef MUONSPEC_TOOL_GATE_INPUT_H
#define MUONSPEC_TOOL_GATE_INPUT_H

#include "options.h"

#include "analysis/gate.h"

/* Measure what the arguments name: a checkpoint; a run where they are several files or a folder; a
 * comparison with --against. Metrics are those of --metrics, else those of `baseline` (may be NULL)
 * and those that `rules` (may be NULL) name, else the usual ones; the choice of matrices is the
 * baseline's where the options make none. */
int measure_gates(mspec_measurement **out, const tool_options *options,
                  const mspec_measurement *baseline, const mspec_gate_rules *rules,
                  muon_error *err);

/* MUON_E_USAGE if the file to write is one that was read. */
int refuse_to_overwrite(const mspec_measurement *m, const tool_options *options, muon_error *err);

size_t count_subjects(const mspec_measurement *m, mspec_subject_kind kind);

#endif
