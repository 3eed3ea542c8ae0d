/* compare: two checkpoints or two runs side by side. */
#include "base/memory.h"
#include "base/statistics.h"

#include <math.h>
#include <muonspec/run.h>
#include <string.h>

/* Checkpoint `b` of the second run stands beside `a` of the first. */
typedef struct match {
	size_t a, b;
} match;

typedef struct comparing {
	mspec_comparison *result;
	const mspec_compare_options *options;
	muon_arena *arena;
	mspec_track *tracks[2];
	match *matches;
	size_t match_count;
	size_t *partner; /* row of b for each row of a; SIZE_MAX: none */
	size_t rows[2];  /* model, groups, matrices: series / metrics */
	double *values;  /* 2 * metric_count for each pair */
	muon_error *err;
} comparing;

/* Row r of a run's series: its first metric's. */
static const mspec_series *row_of(const comparing *c, int side, size_t row)
{
	return &c->tracks[side]->series[row * c->tracks[side]->metric_count];
}

static size_t count_rows(const mspec_track *track)
{
	size_t count = 0;
	while (count < track->series_count && track->series[count].kind <= MSPEC_SERIES_MATRIX)
		count++;
	return count / track->metric_count;
}

static int out_of_memory(const comparing *c)
{
	return muon_fail(c->err, MUON_E_MEMORY, NULL, "out of memory");
}

/* ---- checkpoints -------------------------------------------------------------------------- */

/* The checkpoint of b with as many tokens, within 2 per cent; SIZE_MAX if none. */
static size_t nearest_tokens(const mspec_run *b, double tokens)
{
	const double tolerance = 0.02;
	size_t best = SIZE_MAX;
	double least = tolerance * tokens;
	for (size_t i = 0; i < b->count; i++) {
		double distance = fabs(b->checkpoints[i].tokens - tokens);
		if (distance <= least) {
			best = i;
			least = distance;
		}
	}
	return best;
}

static size_t same_step(const mspec_run *b, double step)
{
	for (size_t i = 0; i < b->count; i++)
		if (b->checkpoints[i].step == step)
			return i;
	return SIZE_MAX;
}

static int match_checkpoints(comparing *c)
{
	const mspec_run *a = c->tracks[0]->run, *b = c->tracks[1]->run;
	c->matches = muon_arena_alloc(c->arena, a->count + 1, sizeof *c->matches);
	if (!c->matches)
		return out_of_memory(c);
	if (a->count == 1 && b->count == 1) { /* two files: their steps are their own business */
		c->matches[c->match_count++] = (match){0, 0};
		return MUON_OK;
	}
	for (size_t i = 0; i < a->count; i++) {
		size_t other = c->options->pairing == MSPEC_PAIR_TOKENS
				   ? nearest_tokens(b, a->checkpoints[i].tokens)
				   : same_step(b, a->checkpoints[i].step);
		bool taken = c->match_count && other != SIZE_MAX &&
			     c->matches[c->match_count - 1].b == other;
		if (other != SIZE_MAX && !taken)
			c->matches[c->match_count++] = (match){i, other};
	}
	if (!c->match_count)
		return muon_fail(c->err, MUON_E_FORMAT, NULL,
				 "no two checkpoints have the same %s",
				 c->options->pairing == MSPEC_PAIR_TOKENS
				     ? "number of tokens"
				     : "step; see --by tokens");
	return MUON_OK;
}

/* ---- matrices ----------------------------------------------------------------------------- */

static size_t find_row(const comparing *c, int side, const mspec_series *wanted, size_t near)
{
	for (size_t k = 0; k < c->rows[side]; k++) {
		size_t row = (near + k) % c->rows[side];
		const mspec_series *s = row_of(c, side, row);
		if (s->kind == wanted->kind && !strcmp(s->name, wanted->name))
			return row;
	}
	return SIZE_MAX;
}

/* Matrices of one name but different shapes are no pair. */
static bool same_shape(const comparing *c, size_t a, size_t b)
{
	const mspec_run *x = c->tracks[0]->run, *y = c->tracks[1]->run;
	size_t i = a + x->matrix_count - c->rows[0], k = b + y->matrix_count - c->rows[1];
	return x->rows[i] == y->rows[k] && x->cols[i] == y->cols[k];
}

static void add_unpaired(comparing *c, int side, const char *name, const char *reason)
{
	c->result->unpaired[c->result->unpaired_count++] = (mspec_unpaired){side, name, reason};
}

static int match_rows(comparing *c)
{
	const mspec_run *const runs[2] = {c->tracks[0]->run, c->tracks[1]->run};
	size_t most = 2 * (runs[0]->matrix_count + runs[1]->matrix_count) + runs[0]->count +
		      runs[1]->count + runs[0]->set_aside_count + runs[1]->set_aside_count;
	bool *used = muon_alloc(c->rows[1] + 1, sizeof *used);
	c->partner = muon_arena_alloc(c->arena, c->rows[0] + 1, sizeof *c->partner);
	c->result->unpaired = muon_arena_alloc(c->arena, most + 1, sizeof *c->result->unpaired);
	if (!used || !c->partner || !c->result->unpaired) {
		muon_free(used);
		return out_of_memory(c);
	}
	for (size_t row = 0; row < c->rows[0]; row++) {
		const mspec_series *s = row_of(c, 0, row);
		size_t other = find_row(c, 1, s, row);
		bool matrix = s->kind == MSPEC_SERIES_MATRIX;
		c->partner[row] = other;
		if (other != SIZE_MAX)
			used[other] = true;
		if (other != SIZE_MAX && matrix && !same_shape(c, row, other)) {
			c->partner[row] = SIZE_MAX;
			add_unpaired(c, 0, s->name, "has another shape on the other side");
			add_unpaired(c, 1, s->name, "has another shape on the other side");
		} else if (other == SIZE_MAX && matrix) {
			add_unpaired(c, 0, s->name, "no such matrix on the other side");
		}
	}
	for (size_t row = 0; row < c->rows[1]; row++)
		if (!used[row] && row_of(c, 1, row)->kind == MSPEC_SERIES_MATRIX)
			add_unpaired(c, 1, row_of(c, 1, row)->name,
				     "no such matrix on the other side");
	muon_free(used);
	return MUON_OK;
}

static void list_unpaired_checkpoints(comparing *c)
{
	const char *reason = c->options->pairing == MSPEC_PAIR_TOKENS
				 ? "no checkpoint of about as many tokens on the other side"
				 : "no checkpoint of this step on the other side";
	for (int side = 0; side < 2; side++) {
		const mspec_run *run = c->tracks[side]->run;
		for (size_t i = 0; i < run->count; i++) {
			bool found = false;
			for (size_t k = 0; k < c->match_count; k++)
				found |= (side ? c->matches[k].b : c->matches[k].a) == i;
			if (!found)
				add_unpaired(c, side, run->checkpoints[i].path, reason);
		}
		for (size_t i = 0; i < run->set_aside_count; i++)
			add_unpaired(c, side, run->set_aside[i].path, run->set_aside[i].reason);
	}
}

/* ---- pairs -------------------------------------------------------------------------------- */

/* The outline of a matrix' spectrum at checkpoint `at`. */
static const double *outline(const comparing *c, int side, size_t row, size_t at)
{
	const mspec_track *t = c->tracks[side];
	size_t matrix = row + t->run->matrix_count - c->rows[side];
	return &t->spectra[(matrix * t->run->count + at) * MSPEC_SPECTRUM_PLACES];
}

static void fill_pair(comparing *c, mspec_pair *pair, size_t row, const match *m, double *values)
{
	size_t metrics = c->result->metric_count;
	const mspec_series *a = row_of(c, 0, row), *b = row_of(c, 1, c->partner[row]);
	for (size_t k = 0; k < metrics; k++) {
		values[k] = a[k].values[m->a];
		values[metrics + k] = b[k].values[m->b];
	}
	*pair = (mspec_pair){.kind = a->kind,
			     .name = a->name,
			     .group = a->group,
			     .step = c->tracks[0]->run->checkpoints[m->a].step,
			     .a = values,
			     .b = values + metrics};
	if (a->kind != MSPEC_SERIES_MATRIX || m != &c->matches[c->match_count - 1])
		return;
	pair->spectrum_a = outline(c, 0, row, m->a);
	pair->spectrum_b = outline(c, 1, c->partner[row], m->b);
}

static int fill_pairs(comparing *c)
{
	mspec_comparison *r = c->result;
	size_t rows = 0, matrices = 0, cells;
	for (size_t row = 0; row < c->rows[0]; row++) {
		rows += c->partner[row] != SIZE_MAX;
		matrices += c->partner[row] != SIZE_MAX &&
			    row_of(c, 0, row)->kind == MSPEC_SERIES_MATRIX;
	}
	if (!matrices)
		return muon_fail(c->err, MUON_E_FORMAT, NULL,
				 "the two have no matrix of the same name and shape");
	if (__builtin_mul_overflow(rows * c->match_count, 2 * r->metric_count, &cells))
		return out_of_memory(c);
	c->values = muon_arena_alloc(c->arena, cells, sizeof *c->values);
	r->pairs = muon_arena_alloc(c->arena, matrices * c->match_count, sizeof *r->pairs);
	r->groups = muon_arena_alloc(c->arena, (rows - matrices) * c->match_count + 1,
				     sizeof *r->groups);
	if (!c->values || !r->pairs || !r->groups)
		return out_of_memory(c);
	double *next = c->values;
	for (size_t m = 0; m < c->match_count; m++)
		for (size_t row = 0; row < c->rows[0]; row++) {
			if (c->partner[row] == SIZE_MAX)
				continue;
			bool matrix = row_of(c, 0, row)->kind == MSPEC_SERIES_MATRIX;
			fill_pair(c, matrix ? &r->pairs[r->pair_count++]
					    : &r->groups[r->group_count++],
				  row, &c->matches[m], next);
			next += 2 * r->metric_count;
		}
	return MUON_OK;
}

/* ---- findings ----------------------------------------------------------------------------- */

static int find_metric(comparing *c, size_t metric, const mspec_pair *pairs, size_t count,
		       double *differences, mspec_finding *f)
{
	enum { RESAMPLES = 4000, SEED = 1 };
	double level = c->options->level > 0 ? c->options->level : 0.95;
	size_t higher = 0, lower = 0, n = 0;
	*f = (mspec_finding){.metric = c->result->metrics[metric],
			     .share_higher_a = NAN,
			     .share_higher_b = NAN,
			     .ties = NAN,
			     .sign_test_p = NAN,
			     .median_difference = NAN,
			     .low = NAN,
			     .high = NAN,
			     .effect_size = NAN};
	for (size_t i = 0; i < count; i++) {
		double d = pairs[i].a[metric] - pairs[i].b[metric];
		if (!isfinite(d))
			continue;
		differences[n++] = d;
		higher += d > 0;
		lower += d < 0;
	}
	f->count = n;
	if (!n)
		return MUON_OK;
	f->share_higher_a = (double)higher / (double)n;
	f->share_higher_b = (double)lower / (double)n;
	f->ties = (double)(n - higher - lower) / (double)n;
	f->sign_test_p = muon_sign_test(higher, lower);
	double spread = muon_standard_deviation(differences, n);
	f->effect_size = spread > 0 ? muon_mean(differences, n) / spread : NAN;
	muon_interval median;
	int code = muon_bootstrap(&median, differences, n, muon_sample_median, level, RESAMPLES, SEED);
	f->median_difference = median.value;
	f->low = n > 1 ? median.low : NAN;
	f->high = n > 1 ? median.high : NAN;
	return code;
}

/* Of the last checkpoints that pair: those of one run are not independent of each other. */
static int find_all(comparing *c)
{
	mspec_comparison *r = c->result;
	size_t count = r->pair_count / c->match_count;
	const mspec_pair *last = r->pairs + (c->match_count - 1) * count;
	double *differences = muon_alloc(count, sizeof *differences);
	r->findings = muon_arena_alloc(c->arena, r->metric_count + 1, sizeof *r->findings);
	int code = differences && r->findings ? MUON_OK : out_of_memory(c);
	r->step = last->step;
	r->step_b = c->tracks[1]->run->checkpoints[c->matches[c->match_count - 1].b].step;
	for (size_t k = 0; k < r->metric_count && !code; k++)
		code = find_metric(c, k, last, count, differences,
				   &r->findings[r->finding_count++]);
	muon_free(differences);
	return code;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int load_side(comparing *c, int side, const char *path)
{
	mspec_track_options how = {.run = c->options->run,
				   .metrics = c->options->metrics,
				   .metric_count = c->options->metric_count,
				   .spectra = true};
	how.run.store = c->options->stores[side];
	how.run.changes = MSPEC_CHANGES_NONE;
	how.run.align = 0;
	int code = mspec_track_run(&c->tracks[side], &path, 1, &how, c->err);
	if (!code)
		c->rows[side] = count_rows(c->tracks[side]);
	return code;
}

static int compare(comparing *c, const char *a, const char *b)
{
	mspec_comparison *r = c->result;
	int code = load_side(c, 0, a);
	if (!code)
		code = load_side(c, 1, b);
	if (code)
		return code;
	r->metric_count = c->tracks[0]->metric_count;
	r->metrics = c->tracks[0]->metrics;
	for (int side = 0; side < 2; side++) {
		r->tracks[side] = c->tracks[side];
		r->runs[side] = c->tracks[side]->run;
		r->labels[side] = c->options->labels[side] ? c->options->labels[side]
				  : side                   ? "b"
							   : "a";
	}
	code = match_checkpoints(c);
	if (!code)
		code = match_rows(c);
	if (!code)
		list_unpaired_checkpoints(c);
	if (!code)
		code = fill_pairs(c);
	return code ? code : find_all(c);
}

/* The result's memory: the arena, and the tracks that its names and runs belong to. */
typedef struct comparison_memory {
	muon_arena arena;
	mspec_track *tracks[2];
} comparison_memory;

int mspec_compare(mspec_comparison **out, const char *a, const char *b,
		  const mspec_compare_options *options, muon_error *err)
{
	mspec_comparison *result = *out = muon_alloc(1, sizeof *result);
	comparison_memory *memory = result ? muon_alloc(1, sizeof *memory) : NULL;
	int code = memory ? MUON_OK : MUON_E_MEMORY;
	if (memory) {
		result->memory = memory;
		comparing c = {.result = result,
			       .options = options,
			       .arena = &memory->arena,
			       .err = err};
		code = compare(&c, a, b);
		memory->tracks[0] = c.tracks[0];
		memory->tracks[1] = c.tracks[1];
	}
	if (code) {
		mspec_comparison_destroy(out);
		return muon_fail(err, code, NULL, "%s", muon_error_text(code));
	}
	return MUON_OK;
}

void mspec_comparison_destroy(mspec_comparison **comparison)
{
	mspec_comparison *c = *comparison;
	*comparison = NULL;
	if (!c)
		return;
	comparison_memory *memory = c->memory;
	if (memory) {
		mspec_track_destroy(&memory->tracks[0]);
		mspec_track_destroy(&memory->tracks[1]);
		muon_arena_release(&memory->arena);
		muon_free(memory);
	}
	muon_free(c);
}
