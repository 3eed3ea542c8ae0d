/* Options of the verbs that work on runs. */
#ifndef MUONSPEC_TOOL_RUN_OPTIONS_H
#define MUONSPEC_TOOL_RUN_OPTIONS_H

#include "options.h"

#include "common/progress.h"

#include <muonspec/run.h>

/* What both sides of compare and track's run share; `line` shows progress. */
mspec_run_options run_options(const tool_options *options, progress_line *line);

/* Metrics of --metrics: NULL and 0 for the usual ones, every one for "all". Release with
 * muon_free. */
int run_metrics_chosen(const tool_options *options, size_t **metrics, size_t *count,
                       muon_error *err);

/* Workers that will be used, for reports. */
int run_threads(const tool_options *options);

/* Say on standard error what was computed and where it is kept, unless --quiet. `why` is why there
 * is no store. */
void report_store(const char *verb, const tool_options *options, const mspec_run *run,
                  const char *why);

#endif
