/* The gates' results, in each format. */
#ifndef MUONSPEC_TOOL_CHECK_OUTPUT_H
#define MUONSPEC_TOOL_CHECK_OUTPUT_H

#include "options.h"

#include "analysis/gate.h"

/* Of --format of check, after those of output_format. */
enum { FORMAT_JUNIT = FORMAT_CSV + 1, FORMAT_GITHUB };

typedef struct check_result {
	const mspec_gate_report *report;
	const mspec_measurement *now;
	const tool_options *options;
	double seconds; /* that it took */
} check_result;

int check_table(const check_result *result, muon_error *err);
int check_json(const check_result *result, muon_error *err);
int check_jsonl(const check_result *result, muon_error *err);
int check_csv(const check_result *result, muon_error *err);
/* One suite, a case for every gate, as the schemas of Ant and Jenkins want it. */
int check_junit(FILE *to, const check_result *result, muon_error *err);
/* Workflow commands: an annotation for every gate that failed, after one that sums up. */
int check_github(const check_result *result, muon_error *err);

/* What --help says about rules. */
extern const char check_help[];

#endif
