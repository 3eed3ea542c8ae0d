/* The values that gates look at, out of the reports of the other verbs. */
#include "analysis/content_hash.h"
#include "analysis/gate.h"
#include "base/memory.h"

#include <math.h>
#include <string.h>

enum { GROUP_NUMBERS = 3, PAIR_NUMBERS = 3, FINDING_NUMBERS = 3, RUN_NUMBERS = 4 };

typedef struct measuring {
	mspec_measurement *m;
	const mspec_measure_options *options;
	muon_error *err;
	int code; /* the first failure */
} measuring;

static void out_of_memory(measuring *g)
{
	if (!g->code)
		g->code = muon_fail(g->err, MUON_E_MEMORY, NULL, "out of memory");
}

static mspec_subject *add_subject(measuring *g, mspec_subject_kind kind, const char *name,
                                  const char *group, size_t measures)
{
	mspec_subject *s = g->code ? NULL : mspec_add_subject(g->m, kind, name, group, measures);
	if (!s)
		out_of_memory(g);
	return s;
}

static void add_value(measuring *g, mspec_subject *s, const char *metric, const char *suffix,
                      double value, const char *note)
{
	if (!s || mspec_add_measure(g->m, s, metric, suffix, value, MSPEC_NO_VERDICT, note))
		out_of_memory(g);
}

static const char *metric_name(const measuring *g, size_t k)
{
	return mspec_metric_at(g->options->metrics[k])->name;
}

/* ---- where from --------------------------------------------------------------------------- */

static const char *copy(measuring *g, const char *text)
{
	const char *own = text ? muon_arena_string(g->m->memory, text) : NULL;
	if (text && !own)
		out_of_memory(g);
	return own;
}

static const char *const *copy_all(measuring *g, const char *const *texts, size_t count)
{
	const char **own = muon_arena_alloc(g->m->memory, count + 1, sizeof *own);
	if (!own)
		out_of_memory(g);
	for (size_t i = 0; i < count && !g->code; i++)
		own[i] = copy(g, texts[i]);
	return own;
}

static void add_source(measuring *g, const char *path, const char *format, const char *layout,
                       const char *optimizer, double step)
{
	mspec_hash hash;
	if (!g->code)
		g->code = mspec_hash_checkpoint(&hash, path, g->err);
	if (g->code)
		return;
	mspec_source *s = &g->m->sources[g->m->source_count++];
	*s = (mspec_source){copy(g, path),
	                    copy(g, format),
	                    copy(g, layout),
	                    copy(g, optimizer),
	                    muon_arena_format(g->m->memory, "xxh3-128:%s", hash.hex),
	                    step};
	if (!s->digest)
		out_of_memory(g);
}

static void add_run_sources(measuring *g, const mspec_run *run)
{
	for (size_t i = 0; i < run->count && !g->code; i++)
		add_source(g, run->checkpoints[i].path, NULL, NULL, run->checkpoints[i].optimizer,
		           run->checkpoints[i].step);
}

/* A measurement with room, and what was asked for. */
static void begin(measuring *g, mspec_measured_kind kind, size_t room, size_t sources)
{
	const mspec_measure_options *o = g->options;
	const mspec_view_options *view = &o->run.view;
	if (mspec_measurement_create(&g->m, kind, room)) {
		out_of_memory(g);
		return;
	}
	const char **names = muon_arena_alloc(g->m->memory, o->metric_count + 1, sizeof *names);
	g->m->sources = muon_arena_alloc(g->m->memory, sources + 1, sizeof *g->m->sources);
	if (!names || !g->m->sources) {
		out_of_memory(g);
		return;
	}
	for (size_t k = 0; k < o->metric_count; k++)
		names[k] = metric_name(g, k);
	g->m->metrics = names;
	g->m->metric_count = o->metric_count;
	g->m->svd = o->run.svd == MUON_SVD_GESDD ? "gesdd" : "gram";
	g->m->include = copy_all(g, view->include, view->include_count);
	g->m->include_count = view->include_count;
	g->m->exclude = copy_all(g, view->exclude, view->exclude_count);
	g->m->exclude_count = view->exclude_count;
}

static int finish(measuring *g, mspec_measurement **out)
{
	if (g->code)
		mspec_measurement_destroy(&g->m);
	*out = g->m;
	return g->code;
}

/* ---- risks -------------------------------------------------------------------------------- */

static void add_risk(measuring *g, mspec_subject *s, const mspec_risk *risk)
{
	if (s && mspec_add_measure(g->m, s, "risk.", mspec_risk_kind_name(risk->kind), risk->value,
	                           (int)risk->verdict, risk->reason))
		out_of_memory(g);
}

/* Layers come one after the other, and after the matrices. */
static mspec_subject *layer_subject(measuring *g, const char *name)
{
	for (size_t i = g->m->count; i > 0 && g->m->subjects[i - 1].kind == MSPEC_SUBJECT_LAYER; i--)
		if (!strcmp(g->m->subjects[i - 1].name, name))
			return &g->m->subjects[i - 1];
	return add_subject(g, MSPEC_SUBJECT_LAYER, name, NULL, MSPEC_RISK_KINDS);
}

static void add_risks(measuring *g, const mspec_risk_report *r)
{
	mspec_subject_index index = {0};
	if (mspec_index_subjects(&index, g->m))
		out_of_memory(g);
	for (size_t i = 0; i < r->count && !g->code; i++) {
		const mspec_risk *risk = &r->risks[i];
		const char *name = mspec_subject_name(g->m, risk->name);
		mspec_subject *s =
		    name ? mspec_index_find(&index, MSPEC_SUBJECT_MATRIX, name) : NULL;
		if (name)
			add_risk(g, s ? s : layer_subject(g, name), risk);
		else
			out_of_memory(g);
	}
	mspec_index_release(&index);
}

static bool risk_progress(void *state, double done, double total, const char *name)
{
	const mspec_measure_options *o = state;
	return !o->run.progress || o->run.progress(o->run.progress_state, done, total, name ? name : "");
}

static int judge(mspec_risk_report **report, const measuring *g, mspec_checkpoint *checkpoint,
                 mspec_checkpoint *earlier)
{
	mspec_measure_options how = *g->options;
	mspec_risk_options options = {.view = how.run.view,
	                              .lr = NAN,
	                              .weight_decay = NAN,
	                              .update_rms = NAN,
	                              .threads = how.run.threads,
	                              .strict = how.run.strict,
	                              .progress = risk_progress,
	                              .progress_state = &how};
	for (int k = 0; k < MSPEC_RISK_KINDS; k++)
		options.limits[k] = mspec_risk_default_limits((mspec_risk_kind)k);
	return mspec_risk_judge(report, checkpoint, earlier, &options, g->err);
}

/* ---- checkpoints -------------------------------------------------------------------------- */

static bool analyze_progress(void *state, const mspec_progress *p)
{
	const mspec_measure_options *o = state;
	return !o->run.progress ||
	       o->run.progress(o->run.progress_state, p->work_done, p->work_total,
	                       p->name ? p->name : "");
}

static const char *note_on(const mspec_row *row, const char *metric)
{
	size_t length = strlen(metric);
	for (size_t i = 0; i < row->note_count; i++)
		if (!strncmp(row->notes[i], metric, length) && row->notes[i][length] == ':')
			return row->notes[i] + length + 1 + (row->notes[i][length + 1] == ' ');
	return NULL;
}

static void add_row(measuring *g, const mspec_row *row)
{
	const mspec_matrix *matrix = row->matrix;
	size_t count = g->options->metric_count;
	mspec_subject *s = add_subject(g, MSPEC_SUBJECT_MATRIX, matrix->name, matrix->group,
	                               count + MSPEC_RISK_KINDS);
	if (!s)
		return;
	s->rows = (double)matrix->rows;
	s->cols = (double)matrix->cols;
	s->dtype = muon_dtype_name(matrix->dtype);
	s->status = row->status;
	for (size_t k = 0; k < count; k++)
		add_value(g, s, metric_name(g, k), "", row->values[k], note_on(row, metric_name(g, k)));
}

static void add_group(measuring *g, const mspec_group_row *row)
{
	size_t count = g->options->metric_count;
	const char *name = muon_arena_format(g->m->memory, "(%s)", row->group);
	mspec_subject *s = name ? add_subject(g, MSPEC_SUBJECT_GROUP, name, row->group,
	                                      GROUP_NUMBERS * count)
	                        : NULL;
	for (size_t k = 0; k < count; k++) {
		add_value(g, s, metric_name(g, k), ".mean", row->summaries[k].mean, NULL);
		add_value(g, s, metric_name(g, k), ".min", row->summaries[k].min, NULL);
		add_value(g, s, metric_name(g, k), ".max", row->summaries[k].max, NULL);
	}
}

static void add_checkpoint(measuring *g, const mspec_analysis *a, const mspec_risk_report *risks)
{
	const mspec_checkpoint_info *info = a->checkpoint;
	begin(g, MSPEC_OF_CHECKPOINT, a->group_count + a->views.count + risks->count, 1);
	if (!g->code)
		add_source(g, info->path, info->format, info->layout, info->optimizer, info->step);
	for (size_t i = 0; i < a->group_count && !g->code; i++)
		add_group(g, &a->groups[i]);
	for (size_t i = 0; i < a->views.count && !g->code; i++)
		add_row(g, &a->rows[i]);
	if (!g->code)
		add_risks(g, risks);
}

int mspec_measure_checkpoint(mspec_measurement **out, mspec_checkpoint *checkpoint,
                             const mspec_measure_options *options, muon_error *err)
{
	measuring g = {.options = options, .err = err};
	mspec_measure_options progress = *options;
	mspec_analysis *analysis = NULL;
	mspec_risk_report *risks = NULL;
	const mspec_analyze_options how = {.view = options->run.view,
	                                   .metrics = options->metrics,
	                                   .metric_count = options->metric_count,
	                                   .svd = options->run.svd,
	                                   .threads = options->run.threads,
	                                   .max_memory = options->run.max_memory,
	                                   .strict = options->run.strict,
	                                   .progress = analyze_progress,
	                                   .progress_state = &progress};
	g.code = mspec_analyze(&analysis, checkpoint, &how, err);
	if (!g.code)
		g.code = judge(&risks, &g, checkpoint, NULL);
	if (!g.code)
		add_checkpoint(&g, analysis, risks);
	mspec_risk_destroy(&risks);
	mspec_analysis_destroy(&analysis);
	return finish(&g, out);
}

/* ---- runs --------------------------------------------------------------------------------- */

static mspec_subject_kind kind_of(mspec_series_kind kind)
{
	static const mspec_subject_kind kinds[] = {[MSPEC_SERIES_MODEL] = MSPEC_SUBJECT_MODEL,
	                                           [MSPEC_SERIES_GROUP] = MSPEC_SUBJECT_GROUP,
	                                           [MSPEC_SERIES_MATRIX] = MSPEC_SUBJECT_MATRIX,
	                                           [MSPEC_SERIES_LAYER] = MSPEC_SUBJECT_LAYER};
	return kinds[kind];
}

static size_t of_run(const mspec_run *run, const char *name)
{
	for (size_t i = 0; i < run->matrix_count; i++)
		if (!strcmp(run->names[i], name))
			return i;
	return run->matrix_count;
}

/* The subject of a series: the last added, as those of one name follow each other, or a layer's. */
static mspec_subject *series_subject(measuring *g, const mspec_run *run, const mspec_series *series,
                                     size_t measures)
{
	mspec_subject_kind kind = kind_of(series->kind);
	for (size_t i = g->m->count; i > 0; i--) {
		mspec_subject *s = &g->m->subjects[i - 1];
		if (s->kind == kind && !strcmp(s->name, series->name))
			return s;
		if (kind != MSPEC_SUBJECT_LAYER || s->kind != kind)
			break;
	}
	mspec_subject *s = add_subject(g, kind, series->name, series->group, measures);
	size_t matrix = s && kind == MSPEC_SUBJECT_MATRIX ? of_run(run, series->name) : SIZE_MAX;
	if (matrix < run->matrix_count) {
		s->rows = run->rows[matrix];
		s->cols = run->cols[matrix];
	}
	return s;
}

static void add_series(measuring *g, const mspec_track *t, const mspec_trend *trend)
{
	enum { RECORDED = 64 }; /* kinds of recorded activations, at most */
	const mspec_series *series = trend->series;
	double last = t->run->checkpoints[t->run->count - 1].step;
	bool there = series->count && series->steps[series->count - 1] == last;
	size_t measures = 2 * (series->kind == MSPEC_SERIES_LAYER ? RECORDED : t->metric_count);
	mspec_subject *s = series_subject(g, t->run, series, measures + MSPEC_RISK_KINDS);
	add_value(g, s, series->metric, "", there ? series->values[series->count - 1] : NAN, NULL);
	add_value(g, s, series->metric, ".exponent", trend->exponent, trend->note);
}

static void add_run_numbers(measuring *g, const mspec_run *run)
{
	size_t not_ok = 0;
	for (size_t i = 0; i < run->count; i++)
		not_ok += strcmp(run->checkpoints[i].status, "ok") != 0;
	mspec_subject *s = add_subject(g, MSPEC_SUBJECT_RUN, "(run)", NULL, RUN_NUMBERS);
	add_value(g, s, "checkpoints", "", (double)run->count, NULL);
	add_value(g, s, "last_step", "", run->checkpoints[run->count - 1].step, NULL);
	add_value(g, s, "set_aside", "", (double)run->set_aside_count, NULL);
	add_value(g, s, "not_ok", "", (double)not_ok, NULL);
	if (s && not_ok)
		s->status = "nonfinite or unreadable matrices in some checkpoints";
}

/* Where a run's last checkpoint is "partial", matrices without any value: of `stride` measures in a
 * row the one at `first` tells. */
static void mark_not_ok(measuring *g, const mspec_run *run, size_t first, size_t stride)
{
	if (!strcmp(run->checkpoints[run->count - 1].status, "ok"))
		return;
	for (size_t i = 0; i < g->m->count; i++) {
		mspec_subject *s = &g->m->subjects[i];
		bool any = false;
		for (size_t k = first; k < s->count; k += stride)
			any |= !isnan(s->measures[k].value);
		if (s->kind == MSPEC_SUBJECT_MATRIX && !any && s->count)
			s->status = "not ok at the last step";
	}
}

static void add_track(measuring *g, const mspec_track *t, const mspec_risk_report *risks)
{
	const mspec_run *run = t->run;
	begin(g, MSPEC_OF_RUN, 1 + t->series_count + risks->count, run->count);
	if (!g->code)
		add_run_sources(g, run);
	if (!g->code)
		add_run_numbers(g, run);
	for (size_t i = 0; i < t->trend_count && !g->code; i++)
		if (t->trends[i].series->kind <= MSPEC_SERIES_LAYER)
			add_series(g, t, &t->trends[i]);
	if (!g->code)
		mark_not_ok(g, run, 0, 2); /* a value and its exponent */
	if (!g->code)
		add_risks(g, risks);
}

/* Of the last checkpoint since the one before. */
static int judge_run(mspec_risk_report **report, const measuring *g, const mspec_run *run,
                     mspec_checkpoint *opened[2])
{
	const mspec_run_options *o = &g->options->run;
	int code = mspec_open(&opened[0], run->checkpoints[run->count - 1].path, &o->open, g->err);
	if (!code && run->count > 1)
		code = mspec_open(&opened[1], run->checkpoints[run->count - 2].path, &o->open, g->err);
	return code ? code : judge(report, g, opened[0], opened[1]);
}

int mspec_measure_run(mspec_measurement **out, const char *const *arguments, size_t count,
                      const mspec_measure_options *options, muon_error *err)
{
	measuring g = {.options = options, .err = err};
	mspec_track *track = NULL;
	mspec_risk_report *risks = NULL;
	mspec_checkpoint *opened[2] = {NULL, NULL};
	mspec_track_options how = {.run = options->run,
	                           .metrics = options->metrics,
	                           .metric_count = options->metric_count};
	how.run.changes = MSPEC_CHANGES_NONE;
	g.code = mspec_track_run(&track, arguments, count, &how, err);
	if (!g.code)
		g.code = judge_run(&risks, &g, track->run, opened);
	if (!g.code)
		add_track(&g, track, risks);
	mspec_risk_destroy(&risks);
	mspec_close(&opened[0]);
	mspec_close(&opened[1]);
	mspec_track_destroy(&track);
	return finish(&g, out);
}

/* ---- comparisons -------------------------------------------------------------------------- */

static void add_pair(measuring *g, const mspec_comparison *c, const mspec_pair *pair)
{
	mspec_subject *s = add_subject(g, kind_of(pair->kind), pair->name, pair->group,
	                               PAIR_NUMBERS * c->metric_count);
	for (size_t k = 0; k < c->metric_count && !g->code; k++) {
		add_value(g, s, c->metrics[k], ".a", pair->a[k], NULL);
		add_value(g, s, c->metrics[k], ".b", pair->b[k], NULL);
		add_value(g, s, c->metrics[k], ".difference", pair->a[k] - pair->b[k], NULL);
	}
	size_t matrix = s && s->kind == MSPEC_SUBJECT_MATRIX ? of_run(c->runs[0], pair->name) : SIZE_MAX;
	if (matrix < c->runs[0]->matrix_count) {
		s->rows = c->runs[0]->rows[matrix];
		s->cols = c->runs[0]->cols[matrix];
	}
}

static void add_findings(measuring *g, const mspec_comparison *c)
{
	mspec_subject *s = add_subject(g, MSPEC_SUBJECT_FINDINGS, "(findings)", NULL,
	                               FINDING_NUMBERS * c->finding_count);
	for (size_t k = 0; k < c->finding_count; k++) {
		const mspec_finding *f = &c->findings[k];
		add_value(g, s, f->metric, ".share_higher_a", f->share_higher_a, NULL);
		add_value(g, s, f->metric, ".share_higher_b", f->share_higher_b, NULL);
		add_value(g, s, f->metric, ".median_difference", f->median_difference, NULL);
	}
}

/* A matrix: where the shapes differ, both sides say so, one after the other. */
static void add_unpaired(measuring *g, const mspec_unpaired *u)
{
	const mspec_subject *last = g->m->count ? &g->m->subjects[g->m->count - 1] : NULL;
	if (last && last->kind == MSPEC_SUBJECT_MATRIX && !strcmp(last->name, u->name))
		return;
	mspec_subject *s = add_subject(g, MSPEC_SUBJECT_MATRIX, u->name, NULL, 0);
	if (s)
		s->status = copy(g, u->reason);
}

static bool is_matrix(const mspec_comparison *c, const mspec_unpaired *u)
{
	const mspec_run *run = c->runs[u->side];
	return of_run(run, u->name) < run->matrix_count;
}

static void add_comparison_numbers(measuring *g, const mspec_comparison *c)
{
	size_t pairs = 0, unpaired = 0;
	for (size_t i = 0; i < c->group_count; i++)
		pairs += c->groups[i].kind == MSPEC_SERIES_MODEL;
	for (size_t i = 0; i < c->unpaired_count; i++)
		unpaired += !is_matrix(c, &c->unpaired[i]);
	mspec_subject *s = add_subject(g, MSPEC_SUBJECT_RUN, "(comparison)", NULL, 2);
	add_value(g, s, "pairs", "", (double)pairs, NULL);
	add_value(g, s, "unpaired", "", (double)unpaired, NULL);
}

static void add_comparison(measuring *g, const mspec_comparison *c)
{
	size_t files = c->runs[0]->count + c->runs[1]->count;
	begin(g, MSPEC_OF_COMPARISON, 2 + c->pair_count + c->group_count + c->unpaired_count, files);
	for (int side = 0; side < 2 && !g->code; side++)
		add_run_sources(g, c->runs[side]);
	if (!g->code)
		add_comparison_numbers(g, c);
	if (!g->code)
		add_findings(g, c);
	for (size_t i = 0; i < c->group_count && !g->code; i++)
		if (c->groups[i].step == c->step)
			add_pair(g, c, &c->groups[i]);
	for (size_t i = 0; i < c->pair_count && !g->code; i++)
		if (c->pairs[i].step == c->step)
			add_pair(g, c, &c->pairs[i]);
	for (int side = 0; side < 2 && !g->code; side++)
		mark_not_ok(g, c->runs[side], PAIR_NUMBERS - 1, PAIR_NUMBERS); /* the difference */
	for (size_t i = 0; i < c->unpaired_count && !g->code; i++)
		if (is_matrix(c, &c->unpaired[i]))
			add_unpaired(g, &c->unpaired[i]);
}

int mspec_measure_comparison(mspec_measurement **out, const char *a, const char *b,
                             const mspec_measure_options *options, muon_error *err)
{
	measuring g = {.options = options, .err = err};
	mspec_comparison *comparison = NULL;
	mspec_compare_options how = {.run = options->run,
	                             .stores = {options->stores[0], options->stores[1]},
	                             .metrics = options->metrics,
	                             .metric_count = options->metric_count};
	how.run.store = NULL;
	g.code = mspec_compare(&comparison, a, b, &how, err);
	if (!g.code)
		add_comparison(&g, comparison);
	mspec_comparison_destroy(&comparison);
	return finish(&g, out);
}
