#include "analyze_output.h"
#include "metric_list.h"
#include "verbs.h"

#include "common/output_file.h"
#include "common/progress.h"

#include "base/memory.h"
#include "base/output.h"

#include <string.h>

static bool show_progress(void *state, const mspec_progress *p)
{
	progress_update(state, p->work_done, p->work_total, p->name);
	return true;
}

/* The metric to sort by must be among those computed; it joins them if it is not. */
static int find_order(const tool_options *options, size_t *metrics, size_t *count,
                      row_order *order, muon_error *err)
{
	*order = (row_order){.metric = SIZE_MAX};
	if (!options->sort)
		return MUON_OK;
	const char *name = options->sort;
	size_t index;
	order->ascending = *name == '-';
	name += order->ascending;
	int code = metric_named(name, strlen(name), &index, err);
	if (code)
		return code;
	for (order->metric = 0; order->metric < *count; order->metric++)
		if (metrics[order->metric] == index)
			return MUON_OK;
	metrics[(*count)++] = index; /* the list has room for all */
	return MUON_OK;
}

static int print(const mspec_analysis *analysis, const mspec_checkpoint *checkpoint,
                 const tool_options *options, row_order order, muon_error *err)
{
	switch (options->format) {
	case FORMAT_JSON:
		return analyze_json(analysis, checkpoint, err);
	case FORMAT_JSONL:
		return analyze_jsonl(analysis, checkpoint, err);
	case FORMAT_CSV:
		return analyze_csv(analysis, checkpoint, err);
	default:
		return analyze_table(analysis, checkpoint, options, order, err);
	}
}

static int analyze_and_print(mspec_checkpoint *checkpoint, const tool_options *options,
                             const mspec_analyze_options *how, row_order order,
                             const char *temporary, muon_error *err)
{
	mspec_analysis *analysis;
	progress_line *line = how->progress_state;
	progress_start(line, options->progress, options->quiet);
	int code = mspec_analyze(&analysis, checkpoint, how, err);
	progress_end(line);
	if (code)
		return code;
	if (temporary)
		code = mspec_write_spectra(analysis, temporary, err);
	if (!code && temporary)
		code = muon_output_commit(temporary, options->output, err);
	if (!code)
		code = print(analysis, checkpoint, options, order, err);
	mspec_analysis_destroy(&analysis);
	return code;
}

int run_analyze(const tool_options *options, muon_error *err)
{
	progress_line line;
	row_order order;
	size_t *metrics, metric_count;
	mspec_checkpoint *checkpoint;
	char *temporary = NULL;
	int code = metric_list(options->metrics, &metrics, &metric_count, err);
	if (!code)
		code = find_order(options, metrics, &metric_count, &order, err);
	if (!code)
		code = open_checkpoint(&checkpoint, options->arguments[0], err);
	if (code) {
		muon_free(metrics);
		return code;
	}
	if (options->output)
		code = claim_output(&temporary, options, checkpoint, err);
	const mspec_analyze_options how = {
	    .view = {.include = options->include.items, .include_count = options->include.count,
	             .exclude = options->exclude.items, .exclude_count = options->exclude.count,
	             .include_optimizer = options->include_optimizer,
	             .groups_file = options->groups_file},
	    .metrics = metrics,
	    .metric_count = metric_count,
	    .svd = (muon_svd_method)options->svd,
	    .threads = (int)options->threads,
	    .max_memory = options->max_memory,
	    .keep_spectra = options->output != NULL,
	    .strict = options->strict,
	    .progress = show_progress,
	    .progress_state = &line};
	if (!code)
		code = analyze_and_print(checkpoint, options, &how, order, temporary, err);
	if (code && temporary)
		muon_output_discard(temporary, options->output);
	muon_free(temporary);
	muon_free(metrics);
	mspec_close(&checkpoint);
	return code;
}
