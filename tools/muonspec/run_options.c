#include "run_options.h"

#include "metric_list.h"
#include "supervise.h"

#include "common/messages.h"

#include "base/pool.h"
#include "base/text.h"

#include <string.h>

static bool show_progress(void *state, double done, double total, const char *what)
{
	const char *slash = strrchr(what, '/');
	progress_update(state, done, total, slash ? slash + 1 : what);
	return true;
}

mspec_run_options run_options(const tool_options *options, progress_line *line)
{
	return (mspec_run_options){.view = {.include = options->include.items,
	                                    .include_count = options->include.count,
	                                    .exclude = options->exclude.items,
	                                    .exclude_count = options->exclude.count,
	                                    .include_optimizer = options->include_optimizer,
	                                    .groups_file = options->groups_file},
	                           .open = {.watch = watch_reading},
	                           .refuses = refuses_reading,
	                           .step_regex = options->step_regex,
	                           .svd = (muon_svd_method)options->svd,
	                           .threads = (int)options->threads,
	                           .max_memory = options->max_memory,
	                           .strict = options->strict,
	                           .changes = (mspec_change_method)options->changes,
	                           .align = (int)options->align,
	                           .progress = show_progress,
	                           .progress_state = line};
}

int run_metrics_chosen(const tool_options *options, size_t **metrics, size_t *count,
                       muon_error *err)
{
	*metrics = NULL;
	*count = 0;
	if (!options->metrics)
		return MUON_OK;
	bool all = !strcmp(options->metrics, "all");
	return metric_list(all ? NULL : options->metrics, metrics, count, err);
}

int run_threads(const tool_options *options)
{
	return options->threads > 0 ? (int)options->threads : muon_processor_count();
}

void report_store(const char *verb, const tool_options *options, const mspec_run *run,
                  const char *why)
{
	char store[1024] = "";
	if (run->store)
		muon_escape(store, sizeof store, run->store);
	if (run->store_problem)
		fprintf(messages(), "muonspec %s: %s: %s\n", verb, store, run->store_problem);
	if (options->quiet)
		return;
	fprintf(messages(), "muonspec %s: computed %zu of %zu checkpoints", verb, run->computed,
	        run->count);
	if (run->reused)
		fprintf(messages(), ", the rest from %s\n", store);
	else if (run->kept)
		fprintf(messages(), "; results are kept in %s\n", store);
	else
		fprintf(messages(), "; nothing is kept%s%s\n", why ? ": " : "", why ? why : "");
}
