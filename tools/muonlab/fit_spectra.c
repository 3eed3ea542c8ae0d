/* Fits over the metrics of matrices: curves, growth, and who is higher. */
#include "fit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Rows of one run in spectra.csv, where they stand together. */
typedef struct row_range {
	size_t from, to;
} row_range;

static row_range rows_of(const csv_table *spectra, const char *run)
{
	row_range range = {0, 0};
	while (range.from < spectra->row_count &&
	       strcmp(csv_table_cell(spectra, range.from, "run"), run))
		range.from++;
	range.to = range.from;
	while (range.to < spectra->row_count &&
	       !strcmp(csv_table_cell(spectra, range.to, "run"), run))
		range.to++;
	return range;
}

/* Keys that two of the kinds share. */
typedef struct spectra_keys {
	const char **by, **metrics, **groups;
	size_t by_count, metric_count, group_count;
	const char **items;
	size_t item_count;
} spectra_keys;

/* Every group that the spectra hold, when the fit names none. */
static const char **all_groups(fit_context *c, size_t *count)
{
	enum { MOST_GROUPS = 32 };
	const csv_table *spectra = &c->store->spectra;
	const char **groups = muon_arena_alloc(&c->memory, MOST_GROUPS, sizeof *groups);
	*count = 0;
	for (size_t row = 0; row < spectra->row_count && groups; row++) {
		const char *group = csv_table_cell(spectra, row, "group");
		size_t i = 0;
		while (i < *count && strcmp(groups[i], group))
			i++;
		if (i == *count && *count < MOST_GROUPS)
			groups[(*count)++] = group;
	}
	return groups;
}

static int read_keys(fit_context *c, spectra_keys *k)
{
	*k = (spectra_keys){0};
	k->by = fit_list(c, "by", &k->by_count);
	k->metrics = k->by ? fit_list(c, "metrics", &k->metric_count) : NULL;
	k->groups = k->metrics ? fit_list(c, "groups", &k->group_count) : NULL;
	int code = k->groups ? fit_check_axes(c, k->by, k->by_count) : MUON_E_USAGE;
	if (code)
		return code;
	if (!k->group_count)
		k->groups = all_groups(c, &k->group_count);
	k->items = fit_items(c, k->by, k->by_count, &k->item_count);
	return k->groups && k->items ? MUON_OK : fit_no_memory(c);
}

/* Mean of the metric over the group's matrices at each step of one run. */
static void collect_means(const fit_context *c, const lab_run *run, const char *metric,
                          const char *group, fit_points *means)
{
	const csv_table *spectra = &c->store->spectra;
	row_range range = rows_of(spectra, run->name);
	double step = NAN, sum = 0;
	size_t count = 0;
	for (size_t row = range.from; row <= range.to && row <= spectra->row_count; row++) {
		double next = row < range.to ? csv_table_number(spectra, row, "step") : NAN;
		if (next != step && count) {
			fit_point_add(means, step, sum / (double)count);
			sum = 0;
			count = 0;
		}
		step = next;
		if (row == range.to || strcmp(csv_table_cell(spectra, row, "group"), group))
			continue;
		double value = csv_table_number(spectra, row, metric);
		sum += isnan(value) ? 0 : value;
		count += !isnan(value);
	}
}

/* The means of all runs of an item. False when out of memory. */
static bool collect_item(fit_context *c, const spectra_keys *k, const char *item,
                         const char *metric, const char *group, fit_points *points,
                         fit_points *last)
{
	for (size_t i = 0; i < c->grid->count; i++) {
		const lab_run *run = &c->grid->runs[i];
		if (!fit_counts(c, run))
			continue;
		const char *its = fit_item(c, run, k->by, k->by_count);
		if (!its)
			return false;
		if (strcmp(its, item))
			continue;
		size_t before = points->count;
		collect_means(c, run, metric, group, points);
		if (points->count > before)
			fit_point_add(last, 0, points->items[points->count - 1].y);
	}
	return !points->failed && !last->failed;
}

static bool add_last(fit_context *c, const char *item, const char *group, const char *metric,
                     const fit_points *last)
{
	const char *name = muon_arena_format(&c->memory, "%s/%s", item, group);
	double *values = muon_arena_alloc(&c->memory, last->count + 1, sizeof *values);
	if (!name || !values)
		return false;
	for (size_t i = 0; i < last->count; i++)
		values[i] = last->items[i].y;
	return !last->count || fit_add(c, name, metric,
	                               muon_mean_interval(values, last->count, c->level),
	                               last->count);
}

typedef bool (*cell_fn)(fit_context *c, const spectra_keys *k, const char *item,
                        const char *metric, const char *group);

static int each_cell(fit_context *c, cell_fn cell)
{
	spectra_keys k;
	int code = read_keys(c, &k);
	for (size_t m = 0; m < k.metric_count && !code; m++)
		for (size_t i = 0; i < k.item_count && !code; i++)
			for (size_t g = 0; g < k.group_count && !code; g++)
				if (!cell(c, &k, k.items[i], k.metrics[m], k.groups[g]))
					code = fit_no_memory(c);
	return code;
}

static bool spectra_cell(fit_context *c, const spectra_keys *k, const char *item,
                         const char *metric, const char *group)
{
	fit_points points = {0}, last = {0};
	bool good = collect_item(c, k, item, metric, group, &points, &last) &&
	            add_last(c, item, group, metric, &last);
	fit_block(c, &points, "%s/%s/%s", item, group, metric);
	fit_points_release(&points);
	fit_points_release(&last);
	return good;
}

int fit_spectra(fit_context *c)
{
	return each_cell(c, spectra_cell);
}

/* ---- growth ------------------------------------------------------------------------------ */

/* Exponent of one run; NaN where its steps do not give one. */
static double exponent_of(const fit_points *means, double from)
{
	enum { MOST = 256 };
	double x[MOST], y[MOST], last = 0;
	size_t count = 0;
	for (size_t i = 0; i < means->count; i++)
		last = fmax(last, means->items[i].x);
	for (size_t i = 0; i < means->count && count < MOST; i++)
		if (means->items[i].x > 0 && means->items[i].x >= from * last) {
			x[count] = log(means->items[i].x);
			y[count++] = log(means->items[i].y);
		}
	muon_line line;
	return muon_line_fit(&line, x, y, count) ? line.slope : NAN;
}

static bool growth_cell(fit_context *c, const spectra_keys *k, const char *item,
                        const char *metric, const char *group)
{
	const json_t *from_key = json_object_get(c->fit, "from");
	double from = json_is_number(from_key) ? json_number_value(from_key) : 0.1;
	double *exponents = muon_arena_alloc(&c->memory, c->grid->count + 1, sizeof *exponents);
	char quantity[120];
	size_t count = 0;
	bool good = exponents != NULL;
	for (size_t i = 0; i < c->grid->count && good; i++) {
		const lab_run *run = &c->grid->runs[i];
		const char *its = fit_counts(c, run) ? fit_item(c, run, k->by, k->by_count) : "";
		good = its != NULL;
		if (!good || strcmp(its, item))
			continue;
		fit_points means = {0};
		collect_means(c, run, metric, group, &means);
		good = !means.failed;
		double exponent = exponent_of(&means, from);
		if (!isnan(exponent))
			exponents[count++] = exponent;
		fit_points_release(&means);
	}
	const char *name = muon_arena_format(&c->memory, "%s/%s", item, group);
	snprintf(quantity, sizeof quantity, "%.80s: exponent in steps", metric);
	return good && name &&
	       (!count || fit_add(c, name, quantity,
	                          muon_mean_interval(exponents, count, c->level), count));
}

int fit_growth(fit_context *c)
{
	return each_cell(c, growth_cell);
}

/* ---- who is higher ----------------------------------------------------------------------- */

/* Pairs of matrices of one item, group and step. */
typedef struct tally {
	size_t higher, lower, ties;
	fit_points differences, shares; /* shares: one a pair of runs */
} tally;

static void release_tally(tally *t)
{
	fit_points_release(&t->differences);
	fit_points_release(&t->shares);
}

static double value_in(const csv_table *spectra, row_range range, size_t like, const char *metric)
{
	const char *matrix = csv_table_cell(spectra, like, "matrix");
	const char *step = csv_table_cell(spectra, like, "step");
	for (size_t row = range.from; row < range.to; row++)
		if (!strcmp(csv_table_cell(spectra, row, "matrix"), matrix) &&
		    !strcmp(csv_table_cell(spectra, row, "step"), step))
			return csv_table_number(spectra, row, metric);
	return NAN;
}

typedef struct higher_keys {
	const char **by, **groups;
	size_t by_count, group_count;
	const char *axis, *a, *b, *metric;
} higher_keys;

static int read_higher(fit_context *c, higher_keys *k)
{
	k->by = fit_list(c, "by", &k->by_count);
	k->axis = k->by ? fit_text(c, "axis", NULL) : NULL;
	k->a = k->axis ? fit_text(c, "a", NULL) : NULL;
	k->b = k->a ? fit_text(c, "b", NULL) : NULL;
	k->metric = k->b ? fit_text(c, "metric", "svd_entropy") : NULL;
	k->groups = k->metric ? fit_list(c, "groups", &k->group_count) : NULL;
	int code = k->groups ? fit_check_axes(c, k->by, k->by_count) : MUON_E_USAGE;
	if (!code)
		code = fit_check_axes(c, &k->axis, 1);
	if (!code && !k->group_count)
		k->groups = all_groups(c, &k->group_count);
	return code || k->groups ? code : fit_no_memory(c);
}

/* Is the group one of those looked at (all of them, for none)? */
static bool is_chosen(const higher_keys *k, const char *group, const char *of)
{
	if (group)
		return !strcmp(group, of);
	for (size_t i = 0; i < k->group_count; i++)
		if (!strcmp(k->groups[i], of))
			return true;
	return false;
}

static void count_pair(const fit_context *c, const lab_run *a, const lab_run *b,
                       const higher_keys *k, const char *group, double step, tally *t)
{
	const csv_table *spectra = &c->store->spectra;
	row_range ours = rows_of(spectra, a->name), theirs = rows_of(spectra, b->name);
	size_t higher = t->higher, all = t->higher + t->lower + t->ties;
	for (size_t row = ours.from; row < ours.to; row++) {
		if (csv_table_number(spectra, row, "step") != step ||
		    !is_chosen(k, group, csv_table_cell(spectra, row, "group")))
			continue;
		double difference = csv_table_number(spectra, row, k->metric) -
		                    value_in(spectra, theirs, row, k->metric);
		if (isnan(difference))
			continue;
		t->higher += difference > 0;
		t->lower += difference < 0;
		t->ties += difference == 0;
		fit_point_add(&t->differences, 0, difference);
	}
	all = t->higher + t->lower + t->ties - all;
	if (all)
		fit_point_add(&t->shares, 0, (double)(t->higher - higher) / (double)all);
}

/* All pairs of runs of the item. False when out of memory. */
static bool count_item(fit_context *c, const higher_keys *k, const char *item, const char *group,
                       double step, tally *t)
{
	for (size_t i = 0; i < c->grid->count; i++) {
		const lab_run *run = &c->grid->runs[i];
		if (!fit_counts(c, run) || strcmp(fit_label(run, k->axis), k->a))
			continue;
		const char *its = fit_item(c, run, k->by, k->by_count);
		const lab_run *other = fit_partner(c, run, k->axis, k->b);
		if (!its)
			return false;
		if (other && !strcmp(its, item))
			count_pair(c, run, other, k, group, step, t);
	}
	return !t->differences.failed && !t->shares.failed;
}

static bool add_tally(fit_context *c, const char *item, const char *group, const tally *t)
{
	enum { RESAMPLES = 4000 };
	size_t pairs = t->shares.count, matrices = t->differences.count;
	const char *name = muon_arena_format(&c->memory, "%s/%s", item, group ? group : "all");
	double *values = muon_arena_alloc(&c->memory, pairs + matrices + 1, sizeof *values);
	if (!name || !values)
		return false;
	for (size_t i = 0; i < pairs; i++)
		values[i] = t->shares.items[i].y;
	muon_interval share = muon_mean_interval(values, pairs, c->level), median;
	share.value = (double)t->higher / (double)matrices;
	for (size_t i = 0; i < matrices; i++)
		values[i] = t->differences.items[i].y;
	return !muon_bootstrap(&median, values, matrices, muon_sample_median, c->level, RESAMPLES,
	                       1) &&
	       fit_add(c, name, "share higher", share, matrices) &&
	       fit_add(c, name, "sign test p",
	               fit_plain(muon_sign_test(t->higher, t->lower)), matrices) &&
	       fit_add(c, name, "median difference", median, matrices);
}

/* Steps that the stage's spectra have, ascending. */
static double *list_steps(fit_context *c, size_t *count)
{
	const csv_table *spectra = &c->store->spectra;
	double *steps = muon_arena_alloc(&c->memory, spectra->row_count + 1, sizeof *steps);
	*count = 0;
	for (size_t i = 0; i < c->grid->count && steps; i++) {
		row_range range = rows_of(spectra, c->grid->runs[i].name);
		for (size_t row = range.from; row < range.to && fit_counts(c, &c->grid->runs[i]);
		     row++) {
			double step = csv_table_number(spectra, row, "step");
			size_t at = 0;
			while (at < *count && steps[at] < step)
				at++;
			if (isnan(step) || (at < *count && steps[at] == step))
				continue;
			memmove(steps + at + 1, steps + at, (*count - at) * sizeof *steps);
			steps[at] = step;
			++*count;
		}
	}
	return steps;
}

/* An item and group over all steps; results of the last. */
static bool higher_cell(fit_context *c, const higher_keys *k, const char *item, const char *group,
                        const double *steps, size_t step_count)
{
	fit_points curve = {0};
	bool good = true;
	for (size_t i = 0; i < step_count && good; i++) {
		tally t = {0};
		good = count_item(c, k, item, group, steps[i], &t);
		for (size_t p = 0; p < t.shares.count; p++)
			fit_point_add(&curve, steps[i], t.shares.items[p].y);
		if (good && i + 1 == step_count && t.differences.count)
			good = add_tally(c, item, group, &t);
		release_tally(&t);
	}
	fit_block(c, &curve, "%s/%s/share-higher", item, group ? group : "all");
	fit_points_release(&curve);
	return good;
}

int fit_share_higher(fit_context *c)
{
	higher_keys k;
	size_t step_count, item_count;
	int code = read_higher(c, &k);
	if (code)
		return code;
	const double *steps = list_steps(c, &step_count);
	const char **items = fit_items(c, k.by, k.by_count, &item_count);
	bool good = steps && items;
	for (size_t i = 0; good && i < item_count; i++) {
		good = higher_cell(c, &k, items[i], NULL, steps, step_count);
		for (size_t g = 0; good && g < k.group_count; g++)
			good = higher_cell(c, &k, items[i], k.groups[g], steps, step_count);
	}
	return good ? MUON_OK : fit_no_memory(c);
}
