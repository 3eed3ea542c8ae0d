/* The figure of a table of trainings: loss over compute, and the laws L = a C^b through it. */
#include "figures.h"

#include "common/csv_table.h"

#include "analysis/scaling_law.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_LAWS = 7 }; /* as many as there are colours */

/* The runs of one optimizer. */
typedef struct law {
	const char *name;
	double *compute, *loss;
	size_t count;
	bool fitted;
	mspec_scaling_law law;
} law;

typedef struct law_table {
	csv_table rows;
	const char *path, *loss; /* loss: its column */
	law laws[MOST_LAWS];
	size_t law_count;
	double least, most; /* compute */
	double low, high;   /* loss */
} law_table;

static const double LEVEL = 0.95;

/* Only runs that went well, and that the options name. */
static bool is_wanted(const law_table *t, size_t row, const tool_options *options)
{
	const char *run = csv_table_cell(&t->rows, row, "run");
	const char *status = csv_table_cell(&t->rows, row, "status");
	const text_list *in = &options->include, *out = &options->exclude;
	return (!*status || !strcmp(status, "ok")) &&
	       (!in->count || muon_matches_any(in->items, in->count, run)) &&
	       !muon_matches_any(out->items, out->count, run);
}

static int no_memory(const law_table *t, muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, t->path, "out of memory");
}

/* The law of that name, new if there is none; NULL with the error recorded. */
static law *find_law(law_table *t, const char *name, muon_error *err)
{
	size_t i = 0;
	while (i < t->law_count && strcmp(t->laws[i].name, name))
		i++;
	if (i < t->law_count)
		return &t->laws[i];
	if (i == MOST_LAWS) {
		muon_fail(err, MUON_E_FORMAT, t->path, "more than %d different optimizers", MOST_LAWS);
		return NULL;
	}
	double *values = muon_alloc(2 * t->rows.row_count, sizeof *values);
	if (!values) {
		no_memory(t, err);
		return NULL;
	}
	t->laws[i] = (law){.name = name, .compute = values, .loss = values + t->rows.row_count};
	t->law_count++;
	return &t->laws[i];
}

static int take_row(law_table *t, size_t row, muon_error *err)
{
	double compute = csv_table_number(&t->rows, row, "compute");
	double loss = csv_table_number(&t->rows, row, t->loss);
	if (!(compute > 0 && isfinite(compute) && loss > 0 && isfinite(loss)))
		return muon_fail(err, MUON_E_FORMAT, t->path,
		                 "row %zu: compute and %s must be positive numbers", row + 1, t->loss);
	law *l = find_law(t, csv_table_cell(&t->rows, row, "optimizer"), err);
	if (!l)
		return err->code;
	l->compute[l->count] = compute;
	l->loss[l->count++] = loss;
	t->least = fmin(t->least, compute);
	t->most = fmax(t->most, compute);
	t->low = fmin(t->low, loss);
	t->high = fmax(t->high, loss);
	return MUON_OK;
}

static bool has_column(const law_table *t, const char *name)
{
	return csv_table_column(&t->rows, name) < t->rows.column_count;
}

static int load_laws(law_table *t, const tool_options *options, muon_error *err)
{
	*t = (law_table){.path = options->arguments[0], .least = INFINITY, .low = INFINITY};
	int code = csv_table_read(&t->rows, t->path, err);
	if (code)
		return code;
	if (!t->rows.column_count)
		return muon_fail(err, MUON_E_OPEN, t->path, "no such file, or an empty one");
	t->loss = has_column(t, "held_out_loss") ? "held_out_loss" : "loss";
	if (!has_column(t, "compute") || !has_column(t, t->loss))
		return muon_fail(err, MUON_E_FORMAT, t->path,
		                 "needs the columns compute and held_out_loss (or loss)");
	for (size_t i = 0; i < t->rows.row_count && !code; i++)
		if (is_wanted(t, i, options))
			code = take_row(t, i, err);
	if (!code && !t->law_count)
		code = muon_fail(err, MUON_E_FORMAT, t->path, "no run to draw");
	for (size_t i = 0; i < t->law_count; i++)
		t->laws[i].fitted = mspec_scaling_law_fit(&t->laws[i].law, t->laws[i].compute,
		                                          t->laws[i].loss, t->laws[i].count);
	return code;
}

static void release_laws(law_table *t)
{
	for (size_t i = 0; i < t->law_count; i++)
		muon_free(t->laws[i].compute);
	csv_table_release(&t->rows);
}

/* ---- what is drawn ------------------------------------------------------------------------------ */

static const char *shown_name(const law *l)
{
	return *l->name ? l->name : "runs";
}

static void add_points(figure *f, const law *l, size_t index, int block)
{
	muon_text_format(&f->data, "# runs\n");
	for (size_t i = 0; i < l->count; i++)
		muon_text_format(&f->data, "%.8g %.8g\n", l->compute[i], l->loss[i]);
	muon_text_add_string(&f->data, "\n\n");
	muon_text_format(&f->script, "%sdata index %d using 1:2 with points pt %d ps 1 lc rgb '%s' %s ",
	                 block ? ", \\\n  " : "plot ", block, index ? 7 : 6, figure_color(index),
	                 l->fitted ? "notitle" : "title");
	if (!l->fitted)
		figure_quote(&f->script, shown_name(l), 30, false);
}

/* From the least compute, share 0, to the most, share 1, by the logarithm. */
static double compute_between(const law_table *t, double share)
{
	return exp((1 - share) * log(t->least) + share * log(t->most));
}

/* The law with its interval, over all the compute that there is. */
static void add_curve(figure *f, const law_table *t, size_t index, int block)
{
	enum { STEPS = 40 };
	const law *l = &t->laws[index];
	muon_text_format(&f->data, "# law\n");
	for (int i = 0; i <= STEPS; i++) {
		double x = compute_between(t, i / (double)STEPS);
		muon_interval y = mspec_scaling_law_loss(&l->law, x, LEVEL);
		bool known = isfinite(y.low) && isfinite(y.high);
		muon_text_format(&f->data, "%.8g %.8g %.8g %.8g\n", x, y.value,
		                 known ? y.low : y.value, known ? y.high : y.value);
	}
	muon_text_add_string(&f->data, "\n\n");
	muon_text_format(&f->script,
	                 ", \\\n  data index %d using 1:3:4 with filledcurves fillstyle transparent "
	                 "solid 0.2 noborder lc rgb '%s' notitle, \\\n  data index %d using 1:2 with "
	                 "lines lw 2 lc rgb '%s' title ",
	                 block, figure_color(index), block, figure_color(index));
	figure_quote(&f->script, shown_name(l), 30, false);
}

static void describe_law(muon_text *words, const law *l)
{
	muon_interval a = mspec_scaling_law_scale(&l->law, LEVEL);
	muon_interval b = mspec_scaling_law_exponent(&l->law, LEVEL);
	muon_text_format(words, " %s, %zu runs: L = %.4g C^%.4g", shown_name(l), l->count, a.value,
	                 b.value);
	if (isfinite(b.low))
		muon_text_format(words, " (95%% interval of the exponent %.4g to %.4g)", b.low, b.high);
	muon_text_add_string(words, ".");
}

static void describe_ratio(muon_text *words, const law_table *t)
{
	const law *a = &t->laws[0], *b = &t->laws[1];
	double middle = compute_between(t, 0.5);
	if (t->law_count != 2 || !a->fitted || !b->fitted)
		return;
	if (mspec_compute_ratio(&a->law, &b->law, middle, LEVEL).value > 1) {
		a = b;
		b = &t->laws[0];
	}
	const double at[] = {t->least, middle, t->most};
	muon_text_format(words, " %s needs this share of %s's compute for the same loss:",
	                 shown_name(a), shown_name(b));
	for (int i = 0; i < 3; i++) {
		muon_interval r = mspec_compute_ratio(&a->law, &b->law, at[i], LEVEL);
		muon_text_format(words, "%s %.3g", i ? "," : "", r.value);
		if (isfinite(r.low) && isfinite(r.high))
			muon_text_format(words, " (%.3g to %.3g)", r.low, r.high);
		muon_text_format(words, " at C = %.3g", at[i]);
	}
	muon_text_add_string(words, ".");
}

/* The runs fill the figure: a law of few runs has a band that goes far beyond them. */
static void add_axes(figure *f, const law_table *t)
{
	const double pad = 1.05;
	double low = t->low / pad, high = t->high * pad, tics = figure_tics(high - low, 6);
	muon_text_format(&f->script,
	                 "set logscale xy 10\nset format x '%%.0e'\nset format y '%%.4g'\n"
	                 "set xlabel 'compute C'\nset ylabel '%s'\nset key top right\n"
	                 "set xrange [%.8g:%.8g]\nset yrange [%.8g:%.8g]\nset ytics (",
	                 strcmp(t->loss, "loss") ? "held-out loss L" : "loss L", t->least / (pad * pad),
	                 t->most * pad * pad, low, high);
	for (double at = ceil(low / tics); at * tics <= high; at++)
		muon_text_format(&f->script, "%s%.8g", at * tics < low + tics ? "" : ", ", at * tics);
	muon_text_add_string(&f->script, ")\n");
}

static int draw_laws(figure_list *list, const law_table *t, muon_error *err)
{
	figure *f = figure_add(list, "scaling-law", 620, 420);
	if (!f)
		return no_memory(t, err);
	muon_text_add_string(&f->title, "Loss over compute");
	muon_text_add_string(&f->words, "Loss over compute, both by their logarithm; the lines are "
	                                "power laws by least squares, the bands their 95% intervals.");
	add_axes(f, t);
	figure_put_title(f);
	int block = 0;
	for (size_t i = 0; i < t->law_count; i++) {
		add_points(f, &t->laws[i], i, block++);
		if (t->laws[i].fitted) {
			add_curve(f, t, i, block++);
			describe_law(&f->words, &t->laws[i]);
		}
	}
	muon_text_add_string(&f->script, "\n");
	describe_ratio(&f->words, t);
	return f->data.failed || f->script.failed || f->words.failed ? no_memory(t, err) : MUON_OK;
}

int figures_of_trainings(figure_list *list, const tool_options *options, muon_error *err)
{
	law_table t;
	int code = load_laws(&t, options, err);
	if (!code)
		code = draw_laws(list, &t, err);
	release_laws(&t);
	return code;
}
