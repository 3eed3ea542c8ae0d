#include "subject.h"

#include "run_options.h"
#include "verbs.h"

#include "analysis/forward_store.h"
#include "base/memory.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the checkpoint that is looked into --------------------------------------------------------- */

static bool show_analysis(void *state, const mspec_progress *p)
{
	progress_update(state, p->work_done, p->work_total, p->name);
	return true;
}

static bool show_risk(void *state, double done, double total, const char *name)
{
	progress_update(state, done, total, name);
	return true;
}

static double either(double given, double otherwise)
{
	return isnan(given) ? otherwise : given;
}

static void find_increment(const subject *s, subject_side *side)
{
	const double usual = 0.2; /* Muon's matched update and about AdamW's */
	double recorded = mspec_attribute_number(side->checkpoint, "update_rms");
	side->lr = either(s->options->lr, mspec_info(side->checkpoint)->lr);
	side->update_rms = either(s->options->update_rms, recorded > 0 ? recorded : usual);
}

static int analyze(subject *s, subject_side *side, muon_error *err)
{
	const tool_options *o = s->options;
	const mspec_analyze_options how = {
	    .view = {.include = o->include.items, .include_count = o->include.count,
	             .exclude = o->exclude.items, .exclude_count = o->exclude.count,
	             .groups_file = o->groups_file},
	    .svd = (muon_svd_method)o->svd,
	    .threads = (int)o->threads,
	    .max_memory = o->max_memory,
	    .keep_spectra = true,
	    .strict = o->strict,
	    .changes = MSPEC_CHANGES_NONE,
	    .progress = show_analysis,
	    .progress_state = &s->line};
	progress_start(&s->line, o->progress, o->quiet);
	int code = mspec_analyze(&side->analysis, side->checkpoint, &how, err);
	progress_end(&s->line);
	return code;
}

/* With what `muonspec forward --store` measured, where it kept anything. */
static int judge(subject *s, subject_side *side, muon_error *err)
{
	const tool_options *o = s->options;
	const char *why;
	char *place = o->no_store ? NULL : mspec_forward_place(mspec_info(side->checkpoint)->path, &why);
	s->judging = (mspec_risk_options){
	    .view = {.include = o->include.items, .include_count = o->include.count,
	             .exclude = o->exclude.items, .exclude_count = o->exclude.count,
	             .groups_file = o->groups_file},
	    .lr = o->lr,
	    .weight_decay = o->weight_decay,
	    .update_rms = o->update_rms,
	    .store = place,
	    .threads = (int)o->threads,
	    .strict = o->strict,
	    .progress = show_risk,
	    .progress_state = &s->line};
	for (int k = 0; k < MSPEC_RISK_KINDS; k++)
		s->judging.limits[k] = mspec_risk_default_limits((mspec_risk_kind)k);
	progress_start(&s->line, o->progress, o->quiet);
	int code = mspec_risk_judge(&side->risk, side->checkpoint, side->earlier, &s->judging, err);
	progress_end(&s->line);
	s->judging.store = NULL;
	mspec_run_release_path(place);
	return code;
}

static int look_into(subject *s, int which, const char *path, const char *earlier, bool risks,
                     muon_error *err)
{
	subject_side *side = &s->sides[which];
	int code = open_checkpoint(&side->checkpoint, path, err);
	if (!code && earlier && risks)
		code = open_checkpoint(&side->earlier, earlier, err);
	if (code)
		return code;
	find_increment(s, side);
	code = analyze(s, side, err);
	return code || !risks ? code : judge(s, side, err);
}

/* ---- what a run's checkpoints record ------------------------------------------------------------- */

static int read_recorded(subject_side *side, const mspec_run *run, muon_error *err)
{
	side->steps = muon_alloc(run->count, sizeof *side->steps);
	side->recorded_update_rms = muon_alloc(run->count, sizeof *side->recorded_update_rms);
	if (!side->steps || !side->recorded_update_rms)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	side->recorded_count = run->count;
	for (size_t i = 0; i < run->count; i++) {
		mspec_checkpoint *checkpoint;
		muon_error ignored = {0}; /* what can't be read now was read before */
		side->steps[i] = run->checkpoints[i].step;
		side->recorded_update_rms[i] = NAN;
		if (open_checkpoint(&checkpoint, run->checkpoints[i].path, &ignored))
			continue;
		side->recorded_update_rms[i] = mspec_attribute_number(checkpoint, "update_rms");
		mspec_close(&checkpoint);
	}
	return MUON_OK;
}

static size_t find_step(const mspec_run *run, double step)
{
	for (size_t i = run->count; i-- > 0;)
		if (run->checkpoints[i].step == step)
			return i;
	return run->count - 1;
}

static int look_into_run(subject *s, int which, const mspec_run *run, double step, bool risks,
                         muon_error *err)
{
	size_t at = find_step(run, step);
	int code = look_into(s, which, run->checkpoints[at].path,
	                     at ? run->checkpoints[at - 1].path : NULL, risks, err);
	return code || run->count < 2 ? code : read_recorded(&s->sides[which], run, err);
}

/* ---- runs ------------------------------------------------------------------------------------------ */

static char *place_of_store(const subject *s, const char *path, const char **why)
{
	struct stat st;
	*why = s->options->no_store ? "--no-store" : "a single file";
	if (s->options->no_store || stat(path, &st) || !S_ISDIR(st.st_mode))
		return NULL;
	return mspec_run_default_store(&path, 1, why);
}

static int load_run(subject *s, bool risks, const char *verb, muon_error *err)
{
	const char *path = s->options->arguments[0], *why;
	char *store = place_of_store(s, path, &why);
	mspec_track_options how = {.run = run_options(s->options, &s->line)};
	how.run.store = store;
	progress_start(&s->line, s->options->progress, s->options->quiet);
	int code = mspec_track_run(&s->track, &path, 1, &how, err);
	progress_end(&s->line);
	if (!code) {
		const mspec_run *run = s->track->run;
		report_store(verb, s->options, run, why);
		s->kind = run->count > 1 ? SUBJECT_RUN : SUBJECT_CHECKPOINT;
		code = look_into_run(s, 0, run, run->checkpoints[run->count - 1].step, risks, err);
	}
	mspec_run_release_path(store);
	return code;
}

static int load_comparison(subject *s, bool risks, const char *verb, muon_error *err)
{
	const tool_options *o = s->options;
	mspec_compare_options how = {.run = run_options(o, &s->line),
	                             .pairing = (mspec_pairing)o->pairing};
	char *stores[2] = {NULL, NULL};
	const char *why[2];
	s->kind = SUBJECT_COMPARISON;
	s->side_count = 2;
	for (int i = 0; i < 2; i++)
		how.stores[i] = stores[i] = place_of_store(s, o->arguments[i], &why[i]);
	for (size_t i = 0; i < o->labels.count; i++)
		how.labels[i] = o->labels.items[i];
	progress_start(&s->line, o->progress, o->quiet);
	int code = mspec_compare(&s->comparison, o->arguments[0], o->arguments[1], &how, err);
	progress_end(&s->line);
	for (int i = 0; i < 2 && !code; i++) {
		const mspec_run *run = s->comparison->runs[i];
		double step = i ? s->comparison->step_b : s->comparison->step;
		s->sides[i].label = s->comparison->labels[i];
		if (stores[i])
			report_store(verb, o, run, why[i]);
		code = look_into_run(s, i, run, step, risks, err);
	}
	mspec_run_release_path(stores[0]);
	mspec_run_release_path(stores[1]);
	return code;
}

/* ---- the whole --------------------------------------------------------------------------------------- */

int subject_load(subject *s, const tool_options *options, bool risks, const char *verb,
                 muon_error *err)
{
	struct stat st;
	*s = (subject){.options = options, .side_count = 1,
	               .sides = {{.label = ""}, {.label = ""}}};
	if (options->labels.count > 2)
		return muon_fail(err, MUON_E_USAGE, NULL, "--label: there are only two sides");
	if (options->argument_count == 2)
		return load_comparison(s, risks, verb, err);
	if (!stat(options->arguments[0], &st) && S_ISDIR(st.st_mode))
		return load_run(s, risks, verb, err);
	return look_into(s, 0, options->arguments[0], NULL, risks, err);
}

void subject_release(subject *s)
{
	for (int i = 0; i < 2; i++) {
		subject_side *side = &s->sides[i];
		mspec_risk_destroy(&side->risk);
		mspec_analysis_destroy(&side->analysis);
		mspec_close(&side->earlier);
		mspec_close(&side->checkpoint);
		muon_free(side->steps);
		muon_free(side->recorded_update_rms);
	}
	mspec_track_destroy(&s->track);
	mspec_comparison_destroy(&s->comparison);
}

const mspec_run *subject_run(const subject *s, int side)
{
	return s->kind == SUBJECT_COMPARISON ? s->comparison->runs[side]
	       : s->kind == SUBJECT_RUN      ? s->track->run
	                                     : NULL;
}

const mspec_track *subject_track(const subject *s, int side)
{
	return s->kind == SUBJECT_COMPARISON ? s->comparison->tracks[side]
	       : s->kind == SUBJECT_RUN      ? s->track
	                                     : NULL;
}

size_t subject_metric(const char *name)
{
	return mspec_metric_find(name); /* all are computed, in the registry's order */
}
