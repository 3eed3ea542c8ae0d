/* track: what becomes of a run's weights over its steps. */
#include "analysis/forward_store.h"
#include "analysis/recorded_outputs.h"
#include "analysis/run_internal.h"
#include "analysis/run_visit.h"
#include "analysis/trends.h"

#include <math.h>
#include <string.h>

/* Numbers of a change, after the registry's metrics. */
enum change_metric {
	DELTA_RMS, RELATIVE_CHANGE, DELTA_STABLE_RANK, DELTA_SVD_ENTROPY, ALIGN_OUT, ALIGN_IN,
	CHANGE_METRICS
};
static const char *const change_metrics[CHANGE_METRICS] = {
    "delta_rms", "relative_change", "delta_stable_rank", "delta_svd_entropy", "align_out",
    "align_in"};

/* Sums over the matrices of a group at one checkpoint. */
typedef struct sums {
	double squares, entries;                   /* of weights */
	double delta, delta_entries;               /* of changes: squares, entries */
	double before;                             /* squares of the weights that changed */
	double total[64];                          /* of each column, for its mean */
	double count[64];
} sums;

typedef struct tracking {
	mspec_track *track;
	const mspec_track_options *options;
	muon_arena *arena;
	const size_t *metrics; /* of the registry */
	size_t metric_count, columns;
	int change_columns[CHANGE_METRICS]; /* their columns; -1: not wanted */
	size_t rms_column;     /* SIZE_MAX: not wanted */
	size_t row_count;      /* the model, the groups, the matrices */
	const char **groups;
	size_t group_count;
	size_t *group_of;      /* of each matrix */
	double *steps, *values; /* values[(row * columns + column) * checkpoints + checkpoint] */
	double *squares;       /* of each matrix at the checkpoint before; NaN: not ok */
	double *work;          /* for one spectrum */
	sums *sums;            /* the model's, then the groups' */
	double *spectra;       /* track->spectra */
} tracking;

static double *cell(const tracking *t, size_t row, size_t column, size_t checkpoint)
{
	return &t->values[(row * t->columns + column) * t->track->run->count + checkpoint];
}

const double *mspec_spectrum_places(void)
{
	static const double places[MSPEC_SPECTRUM_PLACES] = {0, 0.1, 0.25, 0.5, 0.75, 0.9, 1};
	return places;
}

/* ---- preparing ---------------------------------------------------------------------------- */

static int choose_columns(tracking *t)
{
	const mspec_track_options *o = t->options;
	size_t *usual = muon_arena_alloc(t->arena, MSPEC_USUAL_METRICS, sizeof *usual);
	if (!usual)
		return MUON_E_MEMORY;
	mspec_usual_metrics(usual);
	t->metrics = o->metrics ? o->metrics : usual;
	t->metric_count = o->metrics ? o->metric_count : MSPEC_USUAL_METRICS;
	const char **names =
	    muon_arena_alloc(t->arena, t->metric_count + CHANGE_METRICS, sizeof *names);
	if (!names)
		return MUON_E_MEMORY;
	t->rms_column = SIZE_MAX;
	for (size_t k = 0; k < t->metric_count; k++) {
		if (t->metrics[k] >= mspec_metric_count())
			return MUON_E_ARGUMENT;
		names[k] = mspec_metric_at(t->metrics[k])->name;
		if (!strcmp(names[k], "rms"))
			t->rms_column = k;
	}
	t->columns = t->metric_count;
	for (int c = 0; c < CHANGE_METRICS; c++) {
		bool wanted = c >= ALIGN_OUT ? o->run.align > 0
					     : o->run.changes != MSPEC_CHANGES_NONE;
		t->change_columns[c] = wanted ? (int)t->columns : -1;
		if (wanted)
			names[t->columns++] = change_metrics[c];
	}
	t->track->metrics = names;
	t->track->metric_count = t->columns;
	return t->columns <= sizeof t->sums->total / sizeof *t->sums->total ? MUON_OK
									     : MUON_E_ARGUMENT;
}

/* Groups that the run has, in the order of reports. */
static int choose_groups(tracking *t)
{
	const mspec_run *run = t->track->run;
	size_t all = 0;
	while (mspec_groups()[all])
		all++;
	t->groups = muon_arena_alloc(t->arena, all + 1, sizeof *t->groups);
	t->group_of = muon_arena_alloc(t->arena, run->matrix_count + 1, sizeof *t->group_of);
	if (!t->groups || !t->group_of)
		return MUON_E_MEMORY;
	for (size_t g = 0; g < all; g++) {
		bool found = false;
		for (size_t i = 0; i < run->matrix_count; i++) {
			if (strcmp(run->groups[i], mspec_groups()[g]))
				continue;
			t->group_of[i] = t->group_count;
			found = true;
		}
		if (found)
			t->groups[t->group_count++] = mspec_groups()[g];
	}
	return MUON_OK;
}

static int allocate_spectra(tracking *t)
{
	const mspec_run *run = t->track->run;
	size_t values;
	if (__builtin_mul_overflow(run->matrix_count * MSPEC_SPECTRUM_PLACES, run->count, &values))
		return MUON_E_MEMORY;
	t->track->spectra = t->spectra = muon_arena_alloc(t->arena, values + 1, sizeof *t->spectra);
	for (size_t i = 0; t->spectra && i < values; i++)
		t->spectra[i] = NAN;
	return t->spectra ? MUON_OK : MUON_E_MEMORY;
}

static int allocate(tracking *t)
{
	const mspec_run *run = t->track->run;
	size_t longest = 1, cells;
	t->row_count = 1 + t->group_count + run->matrix_count;
	if (__builtin_mul_overflow(t->row_count * t->columns, run->count, &cells))
		return MUON_E_MEMORY;
	for (size_t i = 0; i < run->matrix_count; i++) {
		double side = run->rows[i] < run->cols[i] ? run->rows[i] : run->cols[i];
		longest = side > (double)longest ? (size_t)side : longest;
	}
	t->steps = muon_arena_alloc(t->arena, run->count + 1, sizeof *t->steps);
	t->values = muon_arena_alloc(t->arena, cells + 1, sizeof *t->values);
	t->squares = muon_arena_alloc(t->arena, run->matrix_count + 1, sizeof *t->squares);
	t->work = muon_arena_alloc(t->arena, longest, sizeof *t->work);
	t->sums = muon_arena_alloc(t->arena, t->group_count + 1, sizeof *t->sums);
	if (!t->steps || !t->values || !t->squares || !t->work || !t->sums)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < cells; i++)
		t->values[i] = NAN;
	for (size_t i = 0; i < run->matrix_count; i++)
		t->squares[i] = NAN;
	for (size_t i = 0; i < run->count; i++)
		t->steps[i] = run->checkpoints[i].step;
	return t->options->spectra ? allocate_spectra(t) : MUON_OK;
}

/* ---- one checkpoint ------------------------------------------------------------------------- */

static void put_change(const tracking *t, size_t row, size_t checkpoint, enum change_metric metric,
		       double value)
{
	if (t->change_columns[metric] >= 0)
		*cell(t, row, (size_t)t->change_columns[metric], checkpoint) = value;
}

static void put_matrix_change(tracking *t, size_t matrix, size_t checkpoint, const mspec_change *c)
{
	const mspec_run *run = t->track->run;
	double entries = run->rows[matrix] * run->cols[matrix];
	size_t row = 1 + t->group_count + matrix;
	double norm = c->spectral_norm;
	put_change(t, row, checkpoint, DELTA_RMS, sqrt(c->sumsq / entries));
	put_change(t, row, checkpoint, RELATIVE_CHANGE,
		   t->squares[matrix] > 0 ? sqrt(c->sumsq / t->squares[matrix]) : NAN);
	put_change(t, row, checkpoint, DELTA_STABLE_RANK,
		   norm > 0 ? c->sumsq / (norm * norm) : NAN);
	put_change(t, row, checkpoint, DELTA_SVD_ENTROPY, c->svd_entropy);
	put_change(t, row, checkpoint, ALIGN_OUT, c->align_out);
	put_change(t, row, checkpoint, ALIGN_IN, c->align_in);
	t->track->estimated |= c->estimated;
}

static void add_to_sums(sums *s, const tracking *t, size_t matrix, size_t checkpoint,
			const mspec_spectrum *spectrum, const mspec_change *change)
{
	const mspec_run *run = t->track->run;
	double entries = run->rows[matrix] * run->cols[matrix];
	if (spectrum) {
		s->squares += spectrum->moments.sumsq;
		s->entries += entries;
	}
	if (change && !isnan(change->sumsq) && !isnan(t->squares[matrix])) {
		s->delta += change->sumsq;
		s->delta_entries += entries;
		s->before += t->squares[matrix];
	}
	for (size_t c = 0; c < t->columns; c++) {
		double x = *cell(t, 1 + t->group_count + matrix, c, checkpoint);
		if (isnan(x))
			continue;
		s->total[c] += x;
		s->count[c]++;
	}
}

/* The means over matrices, and of all entries together where that is the better number. */
static void put_sums(const tracking *t, size_t row, size_t checkpoint, const sums *s)
{
	for (size_t c = 0; c < t->columns; c++)
		*cell(t, row, c, checkpoint) = s->count[c] > 0 ? s->total[c] / s->count[c] : NAN;
	if (t->rms_column != SIZE_MAX)
		*cell(t, row, t->rms_column, checkpoint) =
		    s->entries > 0 ? sqrt(s->squares / s->entries) : NAN;
	put_change(t, row, checkpoint, DELTA_RMS,
		   s->delta_entries > 0 ? sqrt(s->delta / s->delta_entries) : NAN);
	put_change(t, row, checkpoint, RELATIVE_CHANGE,
		   s->before > 0 ? sqrt(s->delta / s->before) : NAN);
}

static void put_spectrum(const tracking *t, size_t matrix, size_t checkpoint,
			 const mspec_spectrum *s)
{
	double *out = &t->spectra[(matrix * t->track->run->count + checkpoint) *
				  MSPEC_SPECTRUM_PLACES];
	if (!s->sigma || s->count < 1 || !(s->sigma[0] > 0))
		return;
	for (int i = 0; i < MSPEC_SPECTRUM_PLACES; i++) {
		double place = mspec_spectrum_places()[i] * (double)(s->count - 1);
		out[i] = s->sigma[(size_t)(place + 0.5)] / s->sigma[0];
	}
}

static int take_checkpoint(void *state, size_t index, const mspec_spectra *spectra,
			   const mspec_change *changes, const mspec_record *record, muon_error *err)
{
	tracking *t = state;
	(void)record, (void)err;
	memset(t->sums, 0, (t->group_count + 1) * sizeof *t->sums);
	for (size_t i = 0; i < spectra->count; i++) {
		const mspec_spectrum *s = spectra->codes[i] ? NULL : &spectra->spectra[i];
		const mspec_change *c = s && changes && changes[i].known && !changes[i].code
					    ? &changes[i]
					    : NULL;
		double values[64];
		if (s)
			mspec_spectrum_metrics(s, t->metrics, t->metric_count, t->work, values);
		for (size_t k = 0; s && k < t->metric_count; k++)
			*cell(t, 1 + t->group_count + i, k, index) = values[k];
		if (s && t->spectra)
			put_spectrum(t, i, index, s);
		if (c)
			put_matrix_change(t, i, index, c);
		add_to_sums(&t->sums[0], t, i, index, s, c);
		add_to_sums(&t->sums[1 + t->group_of[i]], t, i, index, s, c);
		t->squares[i] = s ? s->moments.sumsq : NAN;
	}
	for (size_t g = 0; g <= t->group_count; g++)
		put_sums(t, g, index, &t->sums[g]);
	return MUON_OK;
}

/* ---- series --------------------------------------------------------------------------------- */

/* Recorded statistics of activations, one series per name and layer. */
typedef struct layer_names {
	const char *name;
	size_t layers;
} layer_names;

static size_t find_layers(const tracking *t, layer_names *names, size_t room)
{
	const mspec_run_memory *m = t->track->run->memory;
	size_t count = 0;
	for (size_t i = 0; i < t->track->run->count; i++)
		for (size_t k = 0; k < m->records[i]->recorded_count; k++) {
			const mspec_recorded *r = &m->records[i]->recorded[k];
			size_t at = 0;
			if (mspec_is_output_record(r))
				continue;
			while (at < count && strcmp(names[at].name, r->name))
				at++;
			if (at == room)
				continue;
			if (at == count)
				names[count++] = (layer_names){r->name, 0};
			if (r->count > names[at].layers)
				names[at].layers = r->count;
		}
	return count;
}

static const mspec_recorded *recorded_of(const mspec_record *record, const char *name)
{
	for (size_t k = 0; k < record->recorded_count; k++)
		if (!strcmp(record->recorded[k].name, name))
			return &record->recorded[k];
	return NULL;
}

static int fill_layer(const tracking *t, mspec_series *s, const char *name, size_t layer)
{
	const mspec_run *run = t->track->run;
	const mspec_run_memory *m = run->memory;
	double *steps = muon_arena_alloc(t->arena, run->count + 1, sizeof *steps);
	double *values = muon_arena_alloc(t->arena, run->count + 1, sizeof *values);
	*s = (mspec_series){.kind = MSPEC_SERIES_LAYER,
			    .name = muon_arena_format(t->arena, "layer %zu", layer),
			    .metric = muon_arena_format(t->arena, "recorded_%s", name),
			    .steps = steps,
			    .values = values};
	if (!steps || !values || !s->name || !s->metric)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < run->count; i++) {
		const mspec_recorded *r = recorded_of(m->records[i], name);
		if (!r || layer >= r->count)
			continue;
		steps[s->count] = t->steps[i];
		values[s->count++] = r->values[layer];
	}
	return MUON_OK;
}

static int fill_row(const tracking *t, size_t row, mspec_series **next)
{
	const mspec_run *run = t->track->run;
	bool model = !row, group = row && row <= t->group_count;
	size_t matrix = row - 1 - t->group_count;
	const char *name = model ? "(model)"
			   : group ? muon_arena_format(t->arena, "(%s)", t->groups[row - 1])
				   : run->names[matrix];
	if (!name)
		return MUON_E_MEMORY;
	for (size_t c = 0; c < t->columns; c++) {
		size_t skip = c >= t->metric_count; /* the first checkpoint has no change */
		*(*next)++ = (mspec_series){.kind = model   ? MSPEC_SERIES_MODEL
						    : group ? MSPEC_SERIES_GROUP
							    : MSPEC_SERIES_MATRIX,
					    .name = name,
					    .group = model   ? NULL
						     : group ? t->groups[row - 1]
							     : run->groups[matrix],
					    .metric = t->track->metrics[c],
					    .count = run->count - skip,
					    .steps = t->steps + skip,
					    .values = cell(t, row, c, skip)};
	}
	return MUON_OK;
}

/* With their ratio to the closed form, if that is among the columns. */
static int list_outputs(const tracking *t, mspec_series **series, size_t *count)
{
	mspec_closed_form closed = {.stride = t->columns * t->track->run->count};
	for (size_t c = 0; c < t->metric_count; c++)
		if (t->track->run->matrix_count && !strcmp(t->track->metrics[c], "output_rms"))
			closed.values = cell(t, 1 + t->group_count, c, 0);
	return mspec_recorded_outputs(series, count, t->track->run, t->steps, &closed, t->arena);
}

static int fill_series(tracking *t)
{
	layer_names names[32];
	size_t kinds = find_layers(t, names, sizeof names / sizeof *names), layers = 0;
	for (size_t k = 0; k < kinds; k++)
		layers += names[k].layers;
	mspec_series *outputs;
	size_t output_count;
	int code = list_outputs(t, &outputs, &output_count);
	if (code)
		return code;
	mspec_series *forwards;
	size_t forward_count;
	code = mspec_forward_series(&forwards, &forward_count, t->track->run, t->steps, t->arena);
	if (code)
		return code;
	size_t count = t->row_count * t->columns + layers + output_count + forward_count;
	mspec_series *next = t->track->series =
	    muon_arena_alloc(t->arena, count + 1, sizeof *t->track->series);
	if (!next)
		return MUON_E_MEMORY;
	t->track->series_count = count;
	for (size_t row = 0; row < t->row_count && !code; row++)
		code = fill_row(t, row, &next);
	for (size_t k = 0; k < kinds; k++)
		for (size_t layer = 0; layer < names[k].layers && !code; layer++)
			code = fill_layer(t, next++, names[k].name, layer);
	if (!code && output_count)
		memcpy(next, outputs, output_count * sizeof *outputs);
	if (!code && forward_count)
		memcpy(next + output_count, forwards, forward_count * sizeof *forwards);
	return code;
}

/* ---- trends --------------------------------------------------------------------------------- */

static size_t count_limits(const tracking *t, const mspec_series *s)
{
	size_t count = 0;
	for (size_t i = 0; i < t->options->limit_count; i++)
		count += !strcmp(t->options->limits[i].metric, s->metric);
	return count;
}

/* One trend per series, or one for each of its limits. */
static int fit_trends(tracking *t)
{
	mspec_track *track = t->track;
	mspec_trend_rules rules = {.level = t->options->level > 0 ? t->options->level : 0.95};
	size_t count = 0;
	for (size_t i = 0; i < track->series_count; i++) {
		size_t limits = count_limits(t, &track->series[i]);
		count += limits ? limits : 1;
	}
	track->trends = muon_arena_alloc(t->arena, count + 1, sizeof *track->trends);
	if (!track->trends)
		return MUON_E_MEMORY;
	int code = MUON_OK;
	for (size_t i = 0; i < track->series_count && !code; i++) {
		const mspec_series *s = &track->series[i];
		if (!count_limits(t, s))
			code = mspec_trend_fit(&track->trends[track->trend_count++], s, NAN, &rules,
					       t->arena);
		for (size_t k = 0; k < t->options->limit_count && !code; k++)
			if (!strcmp(t->options->limits[k].metric, s->metric))
				code = mspec_trend_fit(&track->trends[track->trend_count++], s,
						       t->options->limits[k].value, &rules,
						       t->arena);
	}
	return code;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int check_limits(const tracking *t, muon_error *err)
{
	for (size_t i = 0; i < t->options->limit_count; i++) {
		const char *name = t->options->limits[i].metric;
		bool known = !strncmp(name, "recorded_", strlen("recorded_")) ||
			     !strncmp(name, "forward_", strlen("forward_"));
		for (size_t c = 0; c < t->columns; c++)
			known |= !strcmp(t->track->metrics[c], name);
		if (!known)
			return muon_fail(err, MUON_E_USAGE, name,
					 "is not among the metrics that are tracked");
	}
	return MUON_OK;
}

static int track_run(tracking *t, const char *const *arguments, size_t count, muon_error *err)
{
	int code = choose_columns(t);
	if (!code)
		code = check_limits(t, err);
	if (!code)
		code = mspec_run_open(&t->track->run, arguments, count, &t->options->run, err);
	if (!code)
		code = choose_groups(t);
	if (!code)
		code = allocate(t);
	if (!code)
		code = mspec_run_visit(t->track->run, take_checkpoint, t, err);
	if (!code)
		code = fill_series(t);
	return code ? code : fit_trends(t);
}

int mspec_track_run(mspec_track **out, const char *const *arguments, size_t count,
		    const mspec_track_options *options, muon_error *err)
{
	mspec_track *track = *out = muon_alloc(1, sizeof *track);
	tracking t = {.track = track, .options = options};
	if (track)
		t.arena = track->memory = muon_alloc(1, sizeof *t.arena);
	int code = t.arena ? track_run(&t, arguments, count, err) : MUON_E_MEMORY;
	if (code) {
		mspec_track_destroy(out);
		return muon_fail(err, code, NULL, "%s", muon_error_text(code));
	}
	return MUON_OK;
}

void mspec_track_destroy(mspec_track **track)
{
	mspec_track *t = *track;
	*track = NULL;
	if (!t)
		return;
	mspec_run_close(&t->run);
	if (t->memory)
		muon_arena_release(t->memory);
	muon_free(t->memory);
	muon_free(t);
}
