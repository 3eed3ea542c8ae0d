/* The verbs: each in its own file verb_<name>.c. They return a MUON_ code. */
#ifndef MUONSPEC_TOOL_VERBS_H
#define MUONSPEC_TOOL_VERBS_H

#include "options.h"

int run_ls(const tool_options *options, muon_error *err);
int run_analyze(const tool_options *options, muon_error *err);
int run_metrics(const tool_options *options, muon_error *err);
int run_convert(const tool_options *options, muon_error *err);
int run_risk(const tool_options *options, muon_error *err);
int run_forward(const tool_options *options, muon_error *err);
int run_track(const tool_options *options, muon_error *err);
int run_compare(const tool_options *options, muon_error *err);
int run_plot(const tool_options *options, muon_error *err);
int run_report(const tool_options *options, muon_error *err);
int run_baseline(const tool_options *options, muon_error *err);
int run_check(const tool_options *options, muon_error *err);

/* Open the checkpoint with the tool's watcher; a file without a single tensor is an error. */
int open_checkpoint(mspec_checkpoint **out, const char *path, muon_error *err);

/* Claim options->output (common/output_file.h). MUON_E_USAGE if it is a file that is being read,
 * which would be lost. `checkpoint` may be NULL. */
int claim_output(char **temporary, const tool_options *options, const mspec_checkpoint *checkpoint,
                 muon_error *err);

#endif
