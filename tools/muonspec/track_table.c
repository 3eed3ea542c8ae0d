/* A run for people: its weights step by step, what grows and how fast, and what was set aside. */
#include "matrix_place.h"
#include "track_output.h"

#include "common/ranking.h"
#include "common/screen.h"

#include "base/memory.h"
#include "base/statistics.h"
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	MOST_STEPS = 24,   /* of the model, unless --all */
	MOST_MATRICES = 10, /* likewise */
	MOST_KINDS = 20,    /* likewise */
	MOST_ASIDE = 10,
	MOST_METRICS = 64
};

static void number_cell(screen_table *table, double value)
{
	char text[32];
	table_cell(table, short_number(text, sizeof text, value));
}

static bool finish(screen_table *table, const tool_options *options)
{
	table_print(stdout, table, screen_width(options->width), screen_colors(options->color));
	bool failed = table->failed;
	table_release(table);
	return !failed;
}

static const char *plural(size_t count, const char *one, const char *many)
{
	return count == 1 ? one : many;
}

/* ---- head ---------------------------------------------------------------------------------- */

static void print_head(const mspec_track *t, const tool_options *options)
{
	const mspec_run *run = t->run;
	char path[1024], from[32], to[32], parameters[32];
	double entries = 0;
	for (size_t i = 0; i < run->matrix_count; i++)
		entries += run->rows[i] * run->cols[i];
	muon_escape(path, sizeof path, options->arguments[0]);
	printf("%s%s: %zu %s", path, options->argument_count > 1 ? ", ..." : "", run->count,
	       plural(run->count, "checkpoint", "checkpoints"));
	if (run->count)
		printf(", %s %s to %s", run->positions ? "places" : "steps",
		       short_number(from, sizeof from, run->checkpoints[0].step),
		       short_number(to, sizeof to, run->checkpoints[run->count - 1].step));
	if (run->count && run->checkpoints[0].optimizer)
		printf(", %s", muon_escape(path, sizeof path, run->checkpoints[0].optimizer));
	printf("\n%zu %s, %s parameters", run->matrix_count,
	       plural(run->matrix_count, "matrix", "matrices"),
	       grouped_integer(parameters, sizeof parameters,
	                       entries < 9e18 ? (int64_t)entries : INT64_MAX));
	if (run->set_aside_count)
		printf("; %zu %s set aside", run->set_aside_count,
		       plural(run->set_aside_count, "file", "files"));
	putchar('\n');
}

/* ---- the model by step --------------------------------------------------------------------- */

/* The series of a name begin where its first metric's does. */
static const mspec_series *first_of(const mspec_track *t, mspec_series_kind kind)
{
	for (size_t i = 0; i < t->series_count; i++)
		if (t->series[i].kind == kind)
			return &t->series[i];
	return NULL;
}

/* Of a change the first step has none. */
static double value_at(const mspec_series *s, double step)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->steps[i] == step)
			return s->values[i];
	return NAN;
}

static int column_width(const char *name)
{
	int width = (int)strlen(name);
	return 2 + (width > 9 ? width : 9);
}

/* As many of the metrics as fit, those of the registry before those of changes. */
static size_t columns_that_fit(const mspec_track *t, int room)
{
	size_t count = 0;
	while (count < t->metric_count && count < MOST_METRICS) {
		room -= column_width(t->metrics[count]);
		if (room < 0 && count)
			break;
		count++;
	}
	return count;
}

static bool is_shown(size_t i, size_t count, bool all)
{
	if (all || count <= MOST_STEPS || i + 1 == count)
		return true;
	/* evenly spread, the first and the last among them */
	return i * (MOST_STEPS - 1) / (count - 1) != (i ? (i - 1) * (MOST_STEPS - 1) / (count - 1)
	                                                 : SIZE_MAX);
}

static bool print_steps(const mspec_track *t, const tool_options *options)
{
	const mspec_series *model = first_of(t, MSPEC_SERIES_MODEL);
	const mspec_run *run = t->run;
	bool left[MOST_METRICS + 1] = {false};
	char text[32];
	size_t from = 0;
	if (!model)
		return true;
	while (from < t->metric_count) { /* blocks of columns, one below the other */
		mspec_track rest = *t;
		rest.metrics += from;
		rest.metric_count -= from;
		size_t columns = columns_that_fit(&rest, screen_width(options->width) - 10);
		screen_table table = {.columns = (int)columns + 1, .left = left};
		puts(from ? "" : "\nAll weights:");
		table_cell(&table, run->positions ? "place" : "step");
		for (size_t c = 0; c < columns; c++)
			table_cell(&table, rest.metrics[c]);
		for (size_t i = 0; i < run->count; i++) {
			if (!is_shown(i, run->count, options->all))
				continue;
			double step = run->checkpoints[i].step;
			snprintf(text, sizeof text, "%.15g", step);
			table_cell(&table, text);
			for (size_t c = 0; c < columns; c++)
				number_cell(&table, value_at(&model[from + c], step));
		}
		if (!finish(&table, options))
			return false;
		from += columns;
	}
	if (run->count > MOST_STEPS && !options->all)
		printf("(%d of %zu steps; --all for every one)\n", MOST_STEPS, run->count);
	return true;
}

/* ---- trends -------------------------------------------------------------------------------- */

static double first_value(const mspec_series *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (!isnan(s->values[i]))
			return s->values[i];
	return NAN;
}

static double last_value(const mspec_series *s)
{
	for (size_t i = s->count; i-- > 0;)
		if (!isnan(s->values[i]))
			return s->values[i];
	return NAN;
}

/* "1200 (530 to 4400)" */
static const char *crossing(char *out, size_t capacity, const mspec_trend *t)
{
	char at[32], low[32], high[32];
	if (!t->crosses)
		return "-";
	if (t->at == t->high)
		snprintf(out, capacity, "by %s",
		         short_number(at, sizeof at, t->at));
	else
		snprintf(out, capacity, "%s (%s to %s)", short_number(at, sizeof at, t->at),
		         short_number(low, sizeof low, t->low),
		         isinf(t->high) ? "?" : short_number(high, sizeof high, t->high));
	return out;
}

typedef struct trend_table {
	screen_table table;
	bool limits; /* with columns for them */
} trend_table;

static void begin_trends(trend_table *t, bool limits)
{
	static const bool left[] = {true, true, false, false, false, false, false, true};
	*t = (trend_table){.table = {.columns = limits ? 8 : 6, .left = left}, .limits = limits};
	static const char *const names[] = {"name",     "metric", "first", "last",
	                                    "exponent", "+-",     "limit", "crossed at step"};
	for (int i = 0; i < t->table.columns; i++)
		table_cell(&t->table, names[i]);
}

static void trend_cells(trend_table *t, const mspec_trend *trend)
{
	char text[1024];
	table_cell(&t->table, muon_escape(text, sizeof text, trend->series->name));
	table_cell(&t->table, trend->series->metric);
	number_cell(&t->table, first_value(trend->series));
	number_cell(&t->table, last_value(trend->series));
	number_cell(&t->table, trend->exponent);
	number_cell(&t->table, trend->exponent_error);
	if (!t->limits)
		return;
	number_cell(&t->table, trend->limit);
	table_cell(&t->table, crossing(text, sizeof text, trend));
}

static bool print_trends(const mspec_track *t, const tool_options *options)
{
	trend_table table;
	size_t count = 0;
	bool limits = options->limits.count > 0;
	begin_trends(&table, limits);
	for (size_t i = 0; i < t->trend_count; i++) {
		const mspec_trend *trend = &t->trends[i];
		bool asked = limits && !isnan(trend->limit);
		bool whole = trend->series->kind == MSPEC_SERIES_MODEL ||
		             trend->series->kind == MSPEC_SERIES_GROUP ||
		             trend->series->kind == MSPEC_SERIES_LAYER ||
		             trend->series->kind == MSPEC_SERIES_FORWARD;
		bool main = trend->series->kind != MSPEC_SERIES_GROUP || asked ||
		            !strcmp(trend->series->metric, t->metrics[0]);
		if (!(whole && main) && !options->verbose)
			continue;
		if (limits && !asked && !options->verbose)
			continue;
		trend_cells(&table, trend);
		count++;
	}
	if (!count) {
		table_release(&table.table);
		return true;
	}
	puts("\nTrends, value ~ step^exponent:");
	return finish(&table.table, options);
}

/* Each reason why a fit does not hold, with whom it concerns. */
static void print_notes(const mspec_track *t, const tool_options *options)
{
	char name[1024];
	const char *head = "\nWhat the data do not support:\n";
	for (size_t i = 0; i < t->trend_count; i++) {
		const mspec_trend *trend = &t->trends[i];
		bool model = trend->series->kind == MSPEC_SERIES_MODEL;
		bool asked = !isnan(trend->limit) && trend->series->kind != MSPEC_SERIES_MATRIX &&
		             trend->series->kind != MSPEC_SERIES_OUTPUT;
		if (!trend->note || !(model || asked || options->verbose))
			continue;
		printf("%s  %s %s: %s\n", head, muon_escape(name, sizeof name, trend->series->name),
		       trend->series->metric, trend->note);
		head = "";
	}
}

/* ---- matrices ------------------------------------------------------------------------------- */

static bool print_matrices(const mspec_track *t, const tool_options *options)
{
	static const bool left[] = {true, false, false, false};
	const char *metric = t->metrics[0];
	char text[1024];
	size_t count = 0, limit;
	ranked *rows = muon_alloc(t->run->matrix_count + 1, sizeof *rows);
	if (!rows)
		return false;
	for (size_t i = 0; i < t->series_count; i++) {
		const mspec_series *s = &t->series[i];
		if (s->kind != MSPEC_SERIES_MATRIX || strcmp(s->metric, metric))
			continue;
		double first = first_value(s), last = last_value(s);
		rows[count++] = (ranked){s, s->count > 1 && first != 0 ? last / first : NAN};
	}
	rank_items(rows, count, false);
	limit = options->all || count < MOST_MATRICES ? count : MOST_MATRICES;
	screen_table table = {.columns = 4, .left = left};
	table_cell(&table, "matrix");
	table_cell(&table, "first");
	table_cell(&table, "last");
	table_cell(&table, "ratio");
	for (size_t i = 0; i < limit; i++) {
		const mspec_series *s = rows[i].item;
		table_cell(&table, muon_escape(text, sizeof text, s->name));
		number_cell(&table, first_value(s));
		number_cell(&table, last_value(s));
		number_cell(&table, rows[i].value);
	}
	if (limit < count)
		printf("\n%zu of %zu matrices whose %s has grown most (--all for every one):\n",
		       limit, count, metric);
	else
		printf("\nMatrices, those whose %s has grown most first:\n", metric);
	muon_free(rows);
	return finish(&table, options);
}

/* ---- recorded outputs against the closed form ----------------------------------------------- */

typedef struct ratio {
	char kind[LONGEST_KIND];
	double first, last;
} ratio;

static int compare_kinds(const void *x, const void *y)
{
	const ratio *a = x, *b = y;
	int order = strcmp(a->kind, b->kind);
	return order ? order : (a->last > b->last) - (a->last < b->last);
}

static size_t list_ratios(const mspec_track *t, ratio *ratios)
{
	size_t count = 0;
	for (size_t i = 0; i < t->series_count; i++) {
		const mspec_series *s = &t->series[i];
		if (!is_ratio_series(s))
			continue;
		matrix_place place;
		matrix_place_of(&place, s->name, NULL);
		ratio *r = &ratios[count++];
		*r = (ratio){.first = first_value(s), .last = last_value(s)};
		memcpy(r->kind, place.kind, sizeof r->kind);
	}
	qsort(ratios, count, sizeof *ratios, compare_kinds);
	return count;
}

/* Those of one kind, sorted by `last`; `work` has room for them. */
static void ratio_cells(screen_table *table, const ratio *r, size_t count, double *work)
{
	char text[4 * LONGEST_KIND];
	table_cell(table, muon_escape(text, sizeof text, r->kind));
	snprintf(text, sizeof text, "%zu", count);
	table_cell(table, text);
	for (size_t i = 0; i < count; i++)
		work[i] = r[i].first;
	number_cell(table, muon_median(work, count));
	for (size_t i = 0; i < count; i++)
		work[i] = r[i].last;
	number_cell(table, muon_median(work, count));
	number_cell(table, r[0].last);
	number_cell(table, r[count - 1].last);
}

static bool print_kinds(const ratio *ratios, size_t count, double *work, const tool_options *options)
{
	static const bool left[] = {true, false, false, false, false, false};
	static const char *const names[] = {"matrices", "count",       "first",
	                                    "last",     "last: least", "most"};
	screen_table table = {.columns = 6, .left = left};
	size_t kinds = 0;
	for (int i = 0; i < table.columns; i++)
		table_cell(&table, names[i]);
	for (size_t i = 0, next; i < count; i = next) {
		for (next = i + 1; next < count && !strcmp(ratios[next].kind, ratios[i].kind);)
			next++;
		if (kinds++ < MOST_KINDS || options->all)
			ratio_cells(&table, &ratios[i], next - i, work);
	}
	puts("\nOutput RMS recorded, over the closed form; medians:");
	bool ok = finish(&table, options);
	if (kinds > MOST_KINDS && !options->all)
		printf("(%d of %zu kinds; --all for every one)\n", MOST_KINDS, kinds);
	print_wrapped(stdout, track_ratio_note, 0, 80);
	return ok;
}

static bool print_ratios(const mspec_track *t, const tool_options *options)
{
	ratio *ratios = muon_alloc(t->run->matrix_count + 1, sizeof *ratios);
	double *work = muon_alloc(t->run->matrix_count + 1, sizeof *work);
	size_t count = ratios && work ? list_ratios(t, ratios) : 0;
	bool ok = ratios && work && (!count || print_kinds(ratios, count, work, options));
	muon_free(ratios);
	muon_free(work);
	return ok;
}

/* ---- the rest ------------------------------------------------------------------------------- */

static void print_set_aside(const mspec_run *run, bool every)
{
	char path[1024];
	size_t limit = every || run->set_aside_count < MOST_ASIDE ? run->set_aside_count : MOST_ASIDE;
	if (limit)
		puts("\nSet aside:");
	for (size_t i = 0; i < limit; i++)
		printf("  %s %s\n", muon_escape(path, sizeof path, run->set_aside[i].path),
		       run->set_aside[i].reason);
	if (limit < run->set_aside_count)
		printf("  and %zu more (-v names them)\n", run->set_aside_count - limit);
	for (size_t i = 0; i < run->count; i++)
		if (strcmp(run->checkpoints[i].status, "ok"))
			printf("\n%s: some matrices could not be analyzed ('muonspec analyze' says "
			       "which)\n",
			       muon_escape(path, sizeof path, run->checkpoints[i].path));
}

int track_table(const mspec_track *t, const tool_options *options, muon_error *err)
{
	print_head(t, options);
	bool ok = print_steps(t, options) && print_trends(t, options);
	if (ok)
		print_notes(t, options);
	ok = ok && print_matrices(t, options) && print_ratios(t, options);
	print_set_aside(t->run, options->verbose > 0);
	if (t->estimated)
		puts("\ndelta_stable_rank and delta_svd_entropy of matrices over 128 on the short\n"
		     "side are estimates; --changes exact decomposes them.");
	return ok ? MUON_OK : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}
