/* A comparison in each output format, to standard output. */
#ifndef MUONSPEC_TOOL_COMPARE_OUTPUT_H
#define MUONSPEC_TOOL_COMPARE_OUTPUT_H

#include "options.h"

#include <muonspec/run.h>

int compare_table(const mspec_comparison *comparison, const tool_options *options, muon_error *err);
int compare_json(const mspec_comparison *comparison, const tool_options *options, muon_error *err);
int compare_jsonl(const mspec_comparison *comparison, const tool_options *options, muon_error *err);
int compare_csv(const mspec_comparison *comparison, muon_error *err);

#endif
