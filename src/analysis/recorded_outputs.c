#include "analysis/recorded_outputs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char folder[] = "matrices/";

enum output_metric { OUTPUT_RMS, OUTPUT_MAX_ABS, OUTPUT_RATIO, OUTPUT_METRICS };
static const char *const output_metrics[OUTPUT_METRICS] = {
    "recorded_output_rms", "recorded_output_max_abs", "recorded_output_rms_ratio"};

typedef struct named {
	const char *name;
	size_t matrix;
} named;

typedef struct outputs {
	const mspec_run *run;
	muon_arena *arena;
	named *sorted;  /* the run's matrices by name */
	double *values; /* values[(matrix * OUTPUT_METRICS + metric) * checkpoints + checkpoint] */
} outputs;

bool mspec_is_output_record(const mspec_recorded *recorded)
{
	return !strncmp(recorded->name, folder, strlen(folder));
}

static double *output_at(const outputs *o, size_t matrix, enum output_metric metric)
{
	return &o->values[(matrix * OUTPUT_METRICS + metric) * o->run->count];
}

static int compare_names(const void *x, const void *y)
{
	return strcmp(((const named *)x)->name, ((const named *)y)->name);
}

static int prepare(outputs *o)
{
	size_t values, count = o->run->matrix_count;
	if (__builtin_mul_overflow(count * OUTPUT_METRICS, o->run->count, &values))
		return MUON_E_MEMORY;
	o->sorted = muon_arena_alloc(o->arena, count + 1, sizeof *o->sorted);
	o->values = muon_arena_alloc(o->arena, values + 1, sizeof *o->values);
	if (!o->sorted || !o->values)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < count; i++)
		o->sorted[i] = (named){o->run->names[i], i};
	qsort(o->sorted, count, sizeof *o->sorted, compare_names);
	for (size_t i = 0; i < values; i++)
		o->values[i] = NAN;
	return MUON_OK;
}

/* "matrices/NAME/output_rms" of a matrix of the run; records of others are passed over. */
static int take_record(const outputs *o, const mspec_recorded *r, size_t checkpoint)
{
	const char *name = r->name + strlen(folder), *slash = strrchr(name, '/');
	if (!slash || r->count != 1)
		return MUON_OK;
	bool rms = !strcmp(slash, "/output_rms");
	if (!rms && strcmp(slash, "/output_max_abs"))
		return MUON_OK;
	char *copy = muon_arena_string(o->arena, name);
	if (!copy)
		return MUON_E_MEMORY;
	copy[slash - name] = 0;
	const named wanted = {.name = copy};
	const named *found =
	    bsearch(&wanted, o->sorted, o->run->matrix_count, sizeof wanted, compare_names);
	if (found)
		output_at(o, found->matrix, rms ? OUTPUT_RMS : OUTPUT_MAX_ABS)[checkpoint] =
		    r->values[0];
	return MUON_OK;
}

static void find_ratios(const outputs *o, const mspec_closed_form *closed)
{
	for (size_t i = 0; closed->values && i < o->run->matrix_count; i++)
		for (size_t k = 0; k < o->run->count; k++) {
			double expected = closed->values[i * closed->stride + k];
			if (expected > 0)
				output_at(o, i, OUTPUT_RATIO)[k] =
				    output_at(o, i, OUTPUT_RMS)[k] / expected;
		}
}

static size_t count_known(const double *values, size_t count)
{
	size_t known = 0;
	for (size_t i = 0; i < count; i++)
		known += !isnan(values[i]);
	return known;
}

static int add_series(mspec_series *s, const outputs *o, size_t matrix, enum output_metric metric,
		      const double *steps)
{
	const double *from = output_at(o, matrix, metric);
	size_t known = count_known(from, o->run->count);
	double *at = muon_arena_alloc(o->arena, known, sizeof *at);
	double *values = muon_arena_alloc(o->arena, known, sizeof *values);
	if (!at || !values)
		return MUON_E_MEMORY;
	*s = (mspec_series){.kind = MSPEC_SERIES_OUTPUT,
			    .name = o->run->names[matrix],
			    .group = o->run->groups[matrix],
			    .metric = output_metrics[metric],
			    .steps = at,
			    .values = values};
	for (size_t k = 0; k < o->run->count; k++) {
		if (isnan(from[k]))
			continue;
		at[s->count] = steps[k];
		values[s->count++] = from[k];
	}
	return MUON_OK;
}

static int list_series(mspec_series **series, size_t *count, const outputs *o, const double *steps)
{
	size_t all = o->run->matrix_count * OUTPUT_METRICS, used = 0;
	for (size_t i = 0; i < all; i++)
		*count += count_known(&o->values[i * o->run->count], o->run->count) > 0;
	*series = muon_arena_alloc(o->arena, *count + 1, sizeof **series);
	int code = *series ? MUON_OK : MUON_E_MEMORY;
	for (size_t i = 0; i < all && !code; i++)
		if (count_known(&o->values[i * o->run->count], o->run->count))
			code = add_series(&(*series)[used++], o, i / OUTPUT_METRICS,
					  (enum output_metric)(i % OUTPUT_METRICS), steps);
	return code;
}

int mspec_recorded_outputs(mspec_series **series, size_t *count, const mspec_run *run,
			   const double *steps, const mspec_closed_form *closed, muon_arena *arena)
{
	const mspec_run_memory *m = run->memory;
	outputs o = {.run = run, .arena = arena};
	*series = NULL;
	*count = 0;
	int code = prepare(&o);
	for (size_t i = 0; i < run->count; i++)
		for (size_t k = 0; k < m->records[i]->recorded_count && !code; k++)
			if (mspec_is_output_record(&m->records[i]->recorded[k]))
				code = take_record(&o, &m->records[i]->recorded[k], i);
	if (code)
		return code;
	find_ratios(&o, closed);
	return list_series(series, count, &o, steps);
}
