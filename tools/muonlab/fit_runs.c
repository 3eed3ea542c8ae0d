/* Fits over whole runs: means, differences of pairs, equality, scaling laws, curves. */
#include "fit.h"

#include "analysis/scaling_law.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The runs that count, of item `item`; the column's values of them. */
static double *values_of(fit_context *c, const char *const *by, size_t by_count, const char *item,
                         const char *column, size_t *count)
{
	double *values = muon_arena_alloc(&c->memory, c->grid->count + 1, sizeof *values);
	*count = 0;
	for (size_t i = 0; i < c->grid->count && values; i++) {
		const lab_run *run = &c->grid->runs[i];
		if (!fit_counts(c, run))
			continue;
		const char *its = fit_item(c, run, by, by_count);
		if (!its)
			return NULL;
		double value = csv_table_number(&c->store->runs, run->row, column);
		if (!strcmp(its, item) && !isnan(value))
			values[(*count)++] = value;
	}
	return values;
}

/* For the plot: the column over the labels of the last axis, where these are numbers. */
static bool draw_final(fit_context *c, const char *const *by, size_t by_count, const char *column)
{
	size_t count;
	const char **items = fit_items(c, by, by_count - 1, &count);
	for (size_t k = 0; items && k < count; k++) {
		fit_points points = {0};
		bool good = true;
		for (size_t i = 0; i < c->grid->count && good; i++) {
			const lab_run *run = &c->grid->runs[i];
			const char *its =
			    fit_counts(c, run) ? fit_item(c, run, by, by_count - 1) : "";
			good = its != NULL;
			if (!good || strcmp(its, items[k]))
				continue;
			const char *label = fit_label(run, by[by_count - 1]);
			char *end;
			double x = strtod(label, &end);
			fit_point_add(&points, *end ? NAN : x,
			              csv_table_number(&c->store->runs, run->row, column));
		}
		fit_block(c, &points, "%s/%s/final/%s", c->name, items[k], column);
		fit_points_release(&points);
		if (!good)
			return false;
	}
	return items != NULL;
}

int fit_final(fit_context *c)
{
	size_t by_count, columns_count, items_count, count;
	const char **by = fit_list(c, "by", &by_count);
	const char **columns = fit_list(c, "columns", &columns_count);
	int code = by && columns ? fit_check_axes(c, by, by_count) : MUON_E_USAGE;
	const char **items = code ? NULL : fit_items(c, by, by_count, &items_count);
	if (code || !items)
		return code ? code : fit_no_memory(c);
	for (size_t k = 0; k < columns_count; k++)
		for (size_t i = 0; i < items_count; i++) {
			const double *values =
			    values_of(c, by, by_count, items[i], columns[k], &count);
			muon_interval mean = muon_mean_interval(values, count, c->level);
			if (!values ||
			    (count && !fit_add(c, items[i], columns[k], mean, count)))
				return fit_no_memory(c);
		}
	for (size_t k = 0; k < columns_count && by_count; k++)
		if (!draw_final(c, by, by_count, columns[k]))
			return fit_no_memory(c);
	return MUON_OK;
}

/* The keys axis, a and b. */
typedef struct pair_keys {
	const char *axis, *a, *b;
} pair_keys;

static int read_pair(fit_context *c, pair_keys *keys)
{
	*keys = (pair_keys){fit_text(c, "axis", NULL), NULL, NULL};
	keys->a = keys->axis ? fit_text(c, "a", NULL) : NULL;
	keys->b = keys->a ? fit_text(c, "b", NULL) : NULL;
	return keys->b ? fit_check_axes(c, &keys->axis, 1) : MUON_E_USAGE;
}

static int add_difference(fit_context *c, const pair_keys *keys, const char *column)
{
	double *differences = muon_arena_alloc(&c->memory, c->grid->count + 1,
	                                       sizeof *differences);
	size_t count = 0, larger = 0, smaller = 0;
	for (size_t i = 0; i < c->grid->count && differences; i++) {
		const lab_run *run = &c->grid->runs[i];
		if (!fit_counts(c, run) || strcmp(fit_label(run, keys->axis), keys->a))
			continue;
		const lab_run *other = fit_partner(c, run, keys->axis, keys->b);
		double difference =
		    other ? csv_table_number(&c->store->runs, run->row, column) -
		                csv_table_number(&c->store->runs, other->row, column)
		          : NAN;
		if (isnan(difference))
			continue;
		differences[count++] = difference;
		larger += difference > 0;
		smaller += difference < 0;
	}
	const char *item = muon_arena_format(&c->memory, "%s-minus-%s", keys->a, keys->b);
	char quantity[120];
	if (!differences || !item)
		return fit_no_memory(c);
	if (!count)
		return MUON_OK;
	muon_interval mean = muon_mean_interval(differences, count, c->level);
	bool good = fit_add(c, item, column, mean, count);
	snprintf(quantity, sizeof quantity, "%.80s: pairs larger", column);
	good = good && fit_add(c, item, quantity, fit_plain((double)larger), count);
	snprintf(quantity, sizeof quantity, "%.80s: sign test p", column);
	return good && fit_add(c, item, quantity, fit_plain(muon_sign_test(larger, smaller)), count)
	           ? MUON_OK
	           : fit_no_memory(c);
}

int fit_difference(fit_context *c)
{
	pair_keys keys;
	size_t count;
	int code = read_pair(c, &keys);
	const char **columns = code ? NULL : fit_list(c, "columns", &count);
	if (!columns)
		return code ? code : MUON_E_USAGE;
	for (size_t i = 0; i < count && !code; i++)
		code = add_difference(c, &keys, columns[i]);
	return code;
}

int fit_equal(fit_context *c)
{
	size_t by_count, items_count;
	const char **by = fit_list(c, "by", &by_count);
	const char *column = fit_text(c, "column", "digest");
	int code = by && column ? fit_check_axes(c, by, by_count) : MUON_E_USAGE;
	const char **items = code ? NULL : fit_items(c, by, by_count, &items_count);
	if (code || !items)
		return code ? code : fit_no_memory(c);
	for (size_t i = 0; i < items_count; i++) {
		const char *first = NULL;
		size_t count = 0, same = 0;
		for (size_t k = 0; k < c->grid->count; k++) {
			const lab_run *run = &c->grid->runs[k];
			const char *its = fit_counts(c, run) ? fit_item(c, run, by, by_count) : "";
			if (!its)
				return fit_no_memory(c);
			if (strcmp(its, items[i]))
				continue;
			const char *cell = csv_table_cell(&c->store->runs, run->row, column);
			first = first ? first : cell;
			count++;
			same += *cell && !strcmp(cell, first);
		}
		if (!fit_add(c, items[i], "runs equal to the first", fit_plain((double)same),
		             count))
			return fit_no_memory(c);
	}
	return MUON_OK;
}

/* ---- scaling laws ------------------------------------------------------------------------ */

typedef struct law_points {
	double *compute, *loss;
	size_t count;
} law_points;

static int collect_law(fit_context *c, const char *axis, const char *label, law_points *points)
{
	const char *column = fit_text(c, "column", "held_out_loss");
	const char *compute = fit_text(c, "compute", "compute");
	points->compute = muon_arena_alloc(&c->memory, c->grid->count + 1, sizeof(double));
	points->loss = muon_arena_alloc(&c->memory, c->grid->count + 1, sizeof(double));
	points->count = 0;
	if (!column || !compute)
		return MUON_E_USAGE;
	if (!points->compute || !points->loss)
		return fit_no_memory(c);
	fit_points figure = {0};
	for (size_t i = 0; i < c->grid->count; i++) {
		const lab_run *run = &c->grid->runs[i];
		if (!fit_counts(c, run) || strcmp(fit_label(run, axis), label))
			continue;
		double x = csv_table_number(&c->store->runs, run->row, compute);
		double y = csv_table_number(&c->store->runs, run->row, column);
		if (isnan(x) || isnan(y))
			continue;
		fit_point_add(&figure, x, y);
		points->compute[points->count] = x;
		points->loss[points->count++] = y;
	}
	fit_block(c, &figure, "%s/points", label);
	fit_points_release(&figure);
	return MUON_OK;
}

static void range_of(const law_points *points, double *least, double *most)
{
	for (size_t i = 0; i < points->count; i++) {
		*least = fmin(*least, points->compute[i]);
		*most = fmax(*most, points->compute[i]);
	}
}

/* The law and its interval as a curve over the computes that were run. */
static void draw_law(fit_context *c, const mspec_scaling_law *law, const char *label, double least,
                     double most)
{
	enum { STEPS = 40 };
	muon_text_format(&c->figures, "# %s/law\n", label);
	for (int i = 0; i <= STEPS; i++) {
		double x = least * pow(most / least, i / (double)STEPS);
		muon_interval y = mspec_scaling_law_loss(law, x, c->level);
		muon_text_format(&c->figures, "%.8g %.6g %.6g %.6g\n", x, y.value, y.low, y.high);
	}
	muon_text_add_string(&c->figures, "\n\n");
}

static int add_law(fit_context *c, const mspec_scaling_law *law, const char *label, size_t count)
{
	muon_interval scale = mspec_scaling_law_scale(law, c->level);
	muon_interval exponent = mspec_scaling_law_exponent(law, c->level);
	bool good = fit_add(c, label, "scale", scale, count) &&
	            fit_add(c, label, "exponent", exponent, count) &&
	            fit_add(c, label, "residual of ln L", fit_plain(law->line.residual), count);
	return good ? MUON_OK : fit_no_memory(c);
}

/* At the least, the (geometric) middle and the largest compute. */
static int add_ratios(fit_context *c, const mspec_scaling_law *a, const mspec_scaling_law *b,
                      const pair_keys *keys, double least, double most, size_t count)
{
	const double at[] = {least, sqrt(least * most), most};
	const char *item = muon_arena_format(&c->memory, "%s-over-%s", keys->a, keys->b);
	char quantity[80];
	for (size_t i = 0; i < 3 && item; i++) {
		snprintf(quantity, sizeof quantity, "compute ratio at %.3g flops", at[i]);
		if (!fit_add(c, item, quantity, mspec_compute_ratio(a, b, at[i], c->level), count))
			return fit_no_memory(c);
	}
	return item ? MUON_OK : fit_no_memory(c);
}

int fit_scaling_law(fit_context *c)
{
	pair_keys keys;
	law_points points[2];
	mspec_scaling_law laws[2];
	double least = INFINITY, most = 0;
	int code = read_pair(c, &keys);
	for (int i = 0; i < 2 && !code; i++)
		code = collect_law(c, keys.axis, i ? keys.b : keys.a, &points[i]);
	if (code)
		return code;
	for (int i = 0; i < 2; i++) {
		if (!mspec_scaling_law_fit(&laws[i], points[i].compute, points[i].loss,
		                           points[i].count))
			return MUON_OK; /* too few runs yet: no rows */
		range_of(&points[i], &least, &most);
	}
	for (int i = 0; i < 2 && !code; i++) {
		draw_law(c, &laws[i], i ? keys.b : keys.a, least, most);
		code = add_law(c, &laws[i], i ? keys.b : keys.a, points[i].count);
	}
	return code ? code : add_ratios(c, &laws[0], &laws[1], &keys, least, most,
	                                points[0].count + points[1].count);
}

/* ---- curves ------------------------------------------------------------------------------ */

static int draw_curve(fit_context *c, const char *const *by, size_t by_count, const char *item,
                      const char *column)
{
	const csv_table *curves = &c->store->curves;
	fit_points points = {0};
	bool good = true;
	for (size_t i = 0; i < c->grid->count && good; i++) {
		const lab_run *run = &c->grid->runs[i];
		if (!fit_counts(c, run))
			continue;
		const char *its = fit_item(c, run, by, by_count);
		good = its != NULL;
		if (!good || strcmp(its, item))
			continue;
		for (size_t row = 0; row < curves->row_count; row++)
			if (!strcmp(csv_table_cell(curves, row, "run"), run->name))
				fit_point_add(&points, csv_table_number(curves, row, "step"),
				              csv_table_number(curves, row, column));
	}
	fit_block(c, &points, "%s/%s", item, column);
	fit_points_release(&points);
	return good ? MUON_OK : fit_no_memory(c);
}

int fit_curve(fit_context *c)
{
	size_t by_count, columns_count, items_count;
	const char **by = fit_list(c, "by", &by_count);
	const char **columns = fit_list(c, "columns", &columns_count);
	int code = by && columns ? fit_check_axes(c, by, by_count) : MUON_E_USAGE;
	const char **items = code ? NULL : fit_items(c, by, by_count, &items_count);
	if (code || !items)
		return code ? code : fit_no_memory(c);
	for (size_t i = 0; i < items_count && !code; i++)
		for (size_t k = 0; k < columns_count && !code; k++)
			code = draw_curve(c, by, by_count, items[i], columns[k]);
	return code;
}
