#include "gate_input.h"

#include "metric_list.h"
#include "run_options.h"
#include "supervise.h"
#include "verbs.h"

#include "common/output_file.h"

#include "base/memory.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define USUAL_METRICS                                                                              \
	"rms,max_abs,zero_fraction,spectral_norm,svd_entropy,effective_rank,stable_rank,output_rms"

/* ---- metrics ------------------------------------------------------------------------------ */

static bool is_of(const mspec_measurement *baseline, const char *metric)
{
	for (size_t i = 0; baseline && i < baseline->metric_count; i++)
		if (!strcmp(baseline->metrics[i], metric))
			return true;
	return false;
}

/* Those of the baseline and of the rules; RMS where rules are about risks alone, as something has
 * to be read to know that the matrices are ok. */
static int wanted_metrics(size_t **metrics, size_t *count, const mspec_measurement *baseline,
                          const mspec_gate_rules *rules, muon_error *err)
{
	int code = metric_list(NULL, metrics, count, err);
	size_t all = *count;
	if (code)
		return code;
	*count = 0;
	for (size_t i = 0; i < all; i++) {
		const char *name = mspec_metric_at(i)->name;
		if (is_of(baseline, name) || (rules && mspec_rules_want(rules, name)))
			(*metrics)[(*count)++] = i;
	}
	if (!*count)
		(*metrics)[(*count)++] = mspec_metric_find("rms");
	return MUON_OK;
}

static int choose_metrics(size_t **metrics, size_t *count, const tool_options *options,
                          const mspec_measurement *baseline, const mspec_gate_rules *rules,
                          muon_error *err)
{
	if (options->metrics)
		return metric_list(strcmp(options->metrics, "all") ? options->metrics : NULL, metrics,
		                   count, err);
	return baseline || rules ? wanted_metrics(metrics, count, baseline, rules, err)
	                         : metric_list(USUAL_METRICS, metrics, count, err);
}

/* ---- measuring ---------------------------------------------------------------------------- */

static bool is_folder(const char *path)
{
	struct stat st;
	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* The index of a folder that is one sharded checkpoint, in `index`; false where it is none. */
static bool find_shards(char *index, size_t capacity, const char *path)
{
	int length = snprintf(index, capacity, "%s/model.safetensors.index.json", path);
	return length > 0 && (size_t)length < capacity && !access(index, F_OK);
}

static mspec_measured_kind kind_of(const tool_options *options)
{
	const char *path = options->arguments[0];
	char index[PATH_MAX];
	if (options->against)
		return MSPEC_OF_COMPARISON;
	return options->argument_count > 1 ||
	               (is_folder(path) && !find_shards(index, sizeof index, path))
	           ? MSPEC_OF_RUN
	           : MSPEC_OF_CHECKPOINT;
}

/* Where results of a run are kept; NULL: they are not. */
static char *place_of(const tool_options *options, const char *const *paths, size_t count)
{
	const char *why;
	bool run = count > 1 || is_folder(paths[0]);
	return options->no_store || !run ? NULL : mspec_run_default_store(paths, count, &why);
}

static int measure_checkpoint(mspec_measurement **out, const tool_options *options,
                              const mspec_measure_options *how, muon_error *err)
{
	mspec_checkpoint *checkpoint;
	char index[PATH_MAX];
	const char *path = options->arguments[0];
	bool sharded = find_shards(index, sizeof index, path);
	int code = open_checkpoint(&checkpoint, sharded ? index : path, err);
	if (code)
		return code;
	code = mspec_measure_checkpoint(out, checkpoint, how, err);
	mspec_close(&checkpoint);
	return code;
}

static int measure_run(mspec_measurement **out, const tool_options *options,
                       mspec_measure_options *how, muon_error *err)
{
	const char *const *paths = (const char *const *)options->arguments;
	size_t count = (size_t)options->argument_count;
	char *place = place_of(options, paths, count);
	how->run.store = place;
	int code = mspec_measure_run(out, paths, count, how, err);
	mspec_run_release_path(place);
	return code;
}

static int measure_comparison(mspec_measurement **out, const tool_options *options,
                              mspec_measure_options *how, muon_error *err)
{
	const char *a = options->arguments[0], *b = options->against;
	char *places[2] = {place_of(options, &a, 1), place_of(options, &b, 1)};
	how->stores[0] = places[0];
	how->stores[1] = places[1];
	int code = mspec_measure_comparison(out, a, b, how, err);
	mspec_run_release_path(places[0]);
	mspec_run_release_path(places[1]);
	return code;
}

static void choose_matrices(mspec_measure_options *how, const tool_options *options,
                            const mspec_measurement *baseline)
{
	mspec_view_options *view = &how->run.view;
	if (!baseline || options->include.count || options->exclude.count)
		return;
	view->include = baseline->include;
	view->include_count = baseline->include_count;
	view->exclude = baseline->exclude;
	view->exclude_count = baseline->exclude_count;
}

int measure_gates(mspec_measurement **out, const tool_options *options,
                  const mspec_measurement *baseline, const mspec_gate_rules *rules,
                  muon_error *err)
{
	progress_line line;
	mspec_measurement *m = NULL;
	size_t *metrics, count;
	mspec_measured_kind kind = kind_of(options);
	*out = NULL;
	if (options->against && options->argument_count > 1)
		return muon_fail(err, MUON_E_USAGE, NULL, "--against takes one file or folder before it");
	int code = mspec_gate_fit(kind, baseline, rules, err);
	if (!code)
		code = choose_metrics(&metrics, &count, options, baseline, rules, err);
	if (code)
		return code;
	mspec_measure_options how = {.run = run_options(options, &line),
	                             .metrics = metrics,
	                             .metric_count = count};
	if (baseline && !strcmp(baseline->svd, "gesdd"))
		how.run.svd = MUON_SVD_GESDD;
	choose_matrices(&how, options, baseline);
	progress_start(&line, options->progress, options->quiet);
	code = kind == MSPEC_OF_CHECKPOINT ? measure_checkpoint(&m, options, &how, err)
	       : kind == MSPEC_OF_RUN      ? measure_run(&m, options, &how, err)
	                                   : measure_comparison(&m, options, &how, err);
	progress_end(&line);
	muon_free(metrics);
	*out = m;
	return code;
}

int refuse_to_overwrite(const mspec_measurement *m, const tool_options *options, muon_error *err)
{
	const char *const others[] = {options->groups_file, options->baseline, options->rules};
	bool same = false;
	if (!options->output)
		return MUON_OK;
	for (size_t i = 0; i < m->source_count; i++)
		same |= output_file_same(m->sources[i].path, options->output);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		same |= others[i] && output_file_same(others[i], options->output);
	return same ? muon_fail(err, MUON_E_USAGE, options->output,
	                        "is a file that was read; name another")
	            : MUON_OK;
}

size_t count_subjects(const mspec_measurement *m, mspec_subject_kind kind)
{
	size_t count = 0;
	for (size_t i = 0; i < m->count; i++)
		count += m->subjects[i].kind == kind;
	return count;
}
