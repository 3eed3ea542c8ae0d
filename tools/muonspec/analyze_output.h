/* An analysis in each output format, to standard output. */
#ifndef MUONSPEC_TOOL_ANALYZE_OUTPUT_H
#define MUONSPEC_TOOL_ANALYZE_OUTPUT_H

#include "options.h"

/* The metric that --sort names, or SIZE_MAX; `ascending` for '-METRIC'. */
typedef struct row_order {
	size_t metric; /* index into analysis->metrics */
	bool ascending;
} row_order;

int analyze_table(const mspec_analysis *analysis, const mspec_checkpoint *checkpoint,
                  const tool_options *options, row_order order, muon_error *err);
int analyze_json(const mspec_analysis *analysis, const mspec_checkpoint *checkpoint,
                 muon_error *err);
int analyze_jsonl(const mspec_analysis *analysis, const mspec_checkpoint *checkpoint,
                  muon_error *err);
int analyze_csv(const mspec_analysis *analysis, const mspec_checkpoint *checkpoint,
                muon_error *err);

#endif
