#include "compare_output.h"
#include "run_options.h"
#include "verbs.h"

#include "base/memory.h"

#include <sys/stat.h>

static int print(const mspec_comparison *comparison, const tool_options *options, muon_error *err)
{
	switch (options->format) {
	case FORMAT_JSON:
		return compare_json(comparison, options, err);
	case FORMAT_JSONL:
		return compare_jsonl(comparison, options, err);
	case FORMAT_CSV:
		return compare_csv(comparison, err);
	default:
		return compare_table(comparison, options, err);
	}
}

/* A single file is soon done, and nobody wants another beside it for that. */
static char *place_of(const tool_options *options, int side, const char **why)
{
	struct stat st;
	const char *path = options->arguments[side];
	*why = options->no_store ? "--no-store" : "a single file";
	if (options->no_store || stat(path, &st) || !S_ISDIR(st.st_mode))
		return NULL;
	return mspec_run_default_store(&path, 1, why);
}

static int compare_with(mspec_compare_options *how, progress_line *line,
                        const tool_options *options, muon_error *err)
{
	mspec_comparison *comparison;
	char *places[2] = {NULL, NULL};
	const char *why[2] = {NULL, NULL};
	for (int side = 0; side < 2; side++)
		how->stores[side] = places[side] = place_of(options, side, &why[side]);
	progress_start(line, options->progress, options->quiet);
	int code = mspec_compare(&comparison, options->arguments[0], options->arguments[1], how, err);
	progress_end(line);
	if (!code) {
		for (int side = 0; side < 2; side++)
			if (options->no_store || places[side])
				report_store("compare", options, comparison->runs[side], why[side]);
		code = print(comparison, options, err);
		mspec_comparison_destroy(&comparison);
	}
	mspec_run_release_path(places[0]);
	mspec_run_release_path(places[1]);
	return code;
}

int run_compare(const tool_options *options, muon_error *err)
{
	progress_line line;
	size_t *metrics, metric_count;
	if (options->labels.count > 2)
		return muon_fail(err, MUON_E_USAGE, NULL, "--label: there are only two sides");
	int code = run_metrics_chosen(options, &metrics, &metric_count, err);
	if (code)
		return code;
	mspec_compare_options how = {.run = run_options(options, &line),
	                             .metrics = metrics,
	                             .metric_count = metric_count,
	                             .pairing = (mspec_pairing)options->pairing};
	for (size_t i = 0; i < options->labels.count; i++)
		how.labels[i] = options->labels.items[i];
	code = compare_with(&how, &line, options, err);
	muon_free(metrics);
	return code;
}
