#include "forward_material.h"
#include "risk_output.h"
#include "run_options.h"
#include "verbs.h"

#include "common/messages.h"
#include "common/nearest.h"

#include "analysis/forward_store.h"
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- limits -------------------------------------------------------------------------------- */

static int find_kind(const char *name, mspec_risk_kind *kind, muon_error *err)
{
	const char *names[MSPEC_RISK_KINDS];
	char shown[128];
	for (int k = 0; k < MSPEC_RISK_KINDS; k++) {
		names[k] = mspec_risk_kind_name((mspec_risk_kind)k);
		*kind = (mspec_risk_kind)k;
		if (!strcmp(names[k], name))
			return MUON_OK;
	}
	const char *near = nearest(name, names, MSPEC_RISK_KINDS);
	return muon_fail(err, MUON_E_USAGE, NULL, "--limit: unknown kind '%s'%s%s%s",
	                 muon_escape(shown, sizeof shown, name), near ? "; did you mean '" : "",
	                 near ? near : "", near ? "'?" : "");
}

static bool parse_numbers(const char *text, mspec_risk_limits *limits)
{
	char *end;
	limits->watch = strtod(text, &end);
	if (end == text || *end != ',')
		return false;
	text = end + 1;
	limits->risk = strtod(text, &end);
	return end != text && !*end && !isnan(limits->watch) && !isnan(limits->risk);
}

/* "KIND=WATCH,RISK" */
static int parse_limit(const char *text, mspec_risk_options *how, muon_error *err)
{
	char name[64], shown[128];
	mspec_risk_limits limits;
	mspec_risk_kind kind;
	size_t length = strcspn(text, "=");
	if (!text[length] || length >= sizeof name || !parse_numbers(text + length + 1, &limits))
		return muon_fail(err, MUON_E_USAGE, NULL, "--limit takes KIND=WATCH,RISK, not '%s'",
		                 muon_escape(shown, sizeof shown, text));
	snprintf(name, sizeof name, "%.*s", (int)length, text);
	int code = find_kind(name, &kind, err);
	if (code)
		return code;
	bool larger = mspec_risk_larger_is_worse(kind);
	if (larger ? limits.risk < limits.watch : limits.risk > limits.watch)
		return muon_fail(err, MUON_E_USAGE, NULL,
		                 "--limit: for %s a risk is %s than what is to be watched", name,
		                 larger ? "more" : "less");
	how->limits[kind] = limits;
	return MUON_OK;
}

static int parse_limits(const tool_options *options, mspec_risk_options *how, muon_error *err)
{
	int code = MUON_OK;
	for (int k = 0; k < MSPEC_RISK_KINDS; k++)
		how->limits[k] = mspec_risk_default_limits((mspec_risk_kind)k);
	for (size_t i = 0; i < options->limits.count && !code; i++)
		code = parse_limit(options->limits.items[i], how, err);
	return code;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* The last two of a run. */
typedef struct last_two {
	mspec_checkpoint *earlier, *latest; /* earlier: NULL if there is none */
} last_two;

static void report_set_aside(const mspec_run *run, const tool_options *options)
{
	char path[1024];
	for (size_t i = 0; i < run->set_aside_count && !options->quiet; i++)
		fprintf(messages(), "muonspec risk: %s: set aside: %s\n",
		        muon_escape(path, sizeof path, run->set_aside[i].path),
		        run->set_aside[i].reason);
}

static int open_from_run(last_two *two, const mspec_run *run, muon_error *err)
{
	const mspec_run_checkpoint *last = &run->checkpoints[run->count - 1];
	int code = open_checkpoint(&two->latest, last->path, err);
	if (!code && run->count > 1)
		code = open_checkpoint(&two->earlier, last[-1].path, err);
	return code;
}

static int open_last_two(last_two *two, const tool_options *options, progress_line *line,
                         muon_error *err)
{
	struct stat st;
	const char *first = options->arguments[0];
	*two = (last_two){0};
	if (options->argument_count == 1 && (stat(first, &st) || !S_ISDIR(st.st_mode)))
		return open_checkpoint(&two->latest, first, err);
	const mspec_run_options how = run_options(options, line);
	mspec_run *run;
	progress_start(line, options->progress, options->quiet);
	int code = mspec_run_open(&run, (const char *const *)options->arguments,
	                          (size_t)options->argument_count, &how, err);
	progress_end(line);
	if (code)
		return code;
	report_set_aside(run, options);
	code = open_from_run(two, run, err);
	mspec_run_close(&run);
	return code;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static bool show_progress(void *state, double done, double total, const char *name)
{
	progress_update(state, done, total, name);
	return true;
}

static int print(const mspec_risk_report *report, const mspec_risk_options *how,
                 const tool_options *options, muon_error *err)
{
	switch (options->format) {
	case FORMAT_JSON:
		return risk_json(report, how, err);
	case FORMAT_JSONL:
		return risk_jsonl(report, how, err);
	case FORMAT_CSV:
		return risk_csv(report, err);
	default:
		return risk_table(report, how, options, err);
	}
}

static int judge_and_print(const last_two *two, const mspec_risk_options *how,
                           const tool_options *options, muon_error *err)
{
	mspec_risk_report *report;
	progress_start(how->progress_state, options->progress, options->quiet);
	int code = mspec_risk_judge(&report, two->latest, two->earlier, how, err);
	progress_end(how->progress_state);
	if (code)
		return code;
	code = print(report, how, options, err);
	bool found = options->fail_on >= 0 &&
	             report->verdict >= (mspec_verdict)(MSPEC_VERDICT_WATCH + options->fail_on);
	mspec_risk_destroy(&report);
	return !code && found ? VERDICT : code;
}

/* With --tokens: the activations of the latest checkpoint's model, measured now. */
static int measure_and_judge(const last_two *two, mspec_risk_options *how,
                             const tool_options *options, muon_error *err)
{
	forward_material material = {0};
	mspec_forward *measured = NULL;
	int code = MUON_OK;
	const char *path = mspec_info(two->latest)->path;
	char *place = options->tokens || options->store_file ? NULL
	                                                     : mspec_forward_place(path, NULL);
	how->store = options->store_file ? options->store_file : place;
	if (options->tokens)
		code = load_forward(&material, two->latest, options, err);
	if (!code && options->tokens)
		code = run_forward_material(&measured, &material, false, options, err);
	how->measured = measured;
	if (!code)
		code = judge_and_print(two, how, options, err);
	mspec_forward_destroy(&measured);
	release_forward(&material);
	mspec_run_release_path(place);
	return code;
}

int run_risk(const tool_options *options, muon_error *err)
{
	progress_line line;
	last_two two;
	mspec_risk_options how = {.view = {.include = options->include.items,
	                                   .include_count = options->include.count,
	                                   .exclude = options->exclude.items,
	                                   .exclude_count = options->exclude.count,
	                                   .groups_file = options->groups_file},
	                          .lr = options->lr,
	                          .weight_decay = options->weight_decay,
	                          .update_rms = options->update_rms,
	                          .threads = (int)options->threads,
	                          .strict = options->strict,
	                          .progress = show_progress,
	                          .progress_state = &line};
	int code = parse_limits(options, &how, err);
	if (code)
		return code;
	code = open_last_two(&two, options, &line, err);
	if (!code)
		code = measure_and_judge(&two, &how, options, err);
	mspec_close(&two.earlier);
	mspec_close(&two.latest);
	return code;
}
