/* A comparison for people: which side is higher in what, by how much, and where most. */
#include "compare_output.h"
#include "matrix_place.h"

#include "common/ranking.h"
#include "common/screen.h"

#include "base/memory.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

enum { MOST_SHOWN = 10 }; /* matrices, unpaired things; unless --all */

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

static const char *label(char *out, size_t capacity, const mspec_comparison *c, int side)
{
	return muon_escape(out, capacity < 24 ? capacity : 24, c->labels[side]);
}

static void print_side(const mspec_comparison *c, int side, const tool_options *options)
{
	const mspec_run *run = c->runs[side];
	char name[64], path[1024], text[64], from[32], to[32];
	printf("%s: %s, ", label(name, sizeof name, c, side),
	       muon_escape(path, sizeof path, options->arguments[side]));
	short_number(from, sizeof from, run->checkpoints[0].step);
	short_number(to, sizeof to, run->checkpoints[run->count - 1].step);
	if (run->count == 1 && run->positions)
		printf("one checkpoint");
	else if (run->count == 1)
		printf("step %s", from);
	else
		printf("%zu checkpoints, steps %s to %s", run->count, from, to);
	if (run->checkpoints[0].optimizer)
		printf(", %s", muon_escape(text, sizeof text, run->checkpoints[0].optimizer));
	putchar('\n');
}

/* ---- findings ------------------------------------------------------------------------------- */

static void share_cell(screen_table *table, double share)
{
	char text[32];
	snprintf(text, sizeof text, isnan(share) ? "-" : "%.0f%%", 100 * share);
	table_cell(table, text);
}

/* " at step 100", or both when they differ; nothing where steps are only the places of files. */
static const char *at_step(char *out, size_t capacity, const mspec_comparison *c)
{
	*out = 0;
	if (!c->runs[0]->positions && c->step == c->step_b)
		snprintf(out, capacity, " at step %.15g", c->step);
	else if (!c->runs[0]->positions)
		snprintf(out, capacity, " at steps %.15g and %.15g", c->step, c->step_b);
	return out;
}

static bool print_findings(const mspec_comparison *c, const tool_options *options)
{
	static const bool left[] = {true, false, false, false, false, false, false, false, false};
	char a[64], b[64], text[96], count[32], where[64];
	size_t pairs = c->finding_count ? c->findings[0].count : 0;
	screen_table table = {.columns = 9, .left = left};
	label(a, sizeof a, c, 0);
	label(b, sizeof b, c, 1);
	table_cell(&table, "metric");
	snprintf(text, sizeof text, "%s higher", a);
	table_cell(&table, text);
	snprintf(text, sizeof text, "%s higher", b);
	table_cell(&table, text);
	table_cell(&table, "ties");
	table_cell(&table, "p");
	table_cell(&table, "median diff");
	table_cell(&table, "from");
	table_cell(&table, "to");
	table_cell(&table, "effect");
	for (size_t i = 0; i < c->finding_count; i++) {
		const mspec_finding *f = &c->findings[i];
		table_cell(&table, f->metric);
		share_cell(&table, f->share_higher_a);
		share_cell(&table, f->share_higher_b);
		share_cell(&table, f->ties);
		number_cell(&table, f->sign_test_p);
		number_cell(&table, f->median_difference);
		number_cell(&table, f->low);
		number_cell(&table, f->high);
		number_cell(&table, f->effect_size);
	}
	printf("\n%s %s%s, %s minus %s; p of the sign test, 95%% interval of the median,\n"
	       "mean difference over its standard deviation:\n",
	       grouped_integer(count, sizeof count, (int64_t)pairs),
	       pairs == 1 ? "pair" : "pairs of matrices", at_step(where, sizeof where, c), a, b);
	return finish(&table, options);
}

/* ---- groups --------------------------------------------------------------------------------- */

static bool print_groups(const mspec_comparison *c, const tool_options *options)
{
	static const bool left[] = {true, true, false, false, false};
	char text[1024];
	screen_table table = {.columns = 5, .left = left};
	table_cell(&table, "group");
	table_cell(&table, "metric");
	for (int side = 0; side < 2; side++)
		table_cell(&table, label(text, sizeof text, c, side));
	table_cell(&table, "difference");
	for (size_t i = 0; i < c->group_count; i++) {
		const mspec_pair *p = &c->groups[i];
		for (size_t k = 0; k < c->metric_count; k++) {
			if (p->step != c->step)
				continue;
			table_cell(&table, muon_escape(text, sizeof text, p->name));
			table_cell(&table, c->metrics[k]);
			number_cell(&table, p->a[k]);
			number_cell(&table, p->b[k]);
			number_cell(&table, p->a[k] - p->b[k]);
		}
	}
	printf("\nGroups%s:\n", at_step(text, sizeof text, c));
	return finish(&table, options);
}

/* ---- matrices ------------------------------------------------------------------------------- */

/* svd_entropy where it is among the metrics, else the first. */
static size_t telling_metric(const mspec_comparison *c)
{
	for (size_t k = 0; k < c->metric_count; k++)
		if (!strcmp(c->metrics[k], "svd_entropy"))
			return k;
	return 0;
}

/* "layer 3 mlp.up_proj": whole names leave no room for a spectrum. */
static const char *short_name(char *out, size_t capacity, const char *name)
{
	matrix_place place;
	char kind[4 * LONGEST_KIND], layer[32] = "";
	matrix_place_of(&place, name, NULL);
	if (place.layer >= 0)
		snprintf(layer, sizeof layer, "layer %d ", place.layer);
	snprintf(out, capacity, "%s%s", layer, muon_escape(kind, sizeof kind, place.kind));
	return out;
}

/* Two digits do for a shape. */
static void ratio_cell(screen_table *table, double value)
{
	char text[32];
	snprintf(text, sizeof text, isnan(value) ? "-" : "%.2g", value);
	table_cell(table, text);
}

/* Two lines a matrix, one for each side. */
static bool print_spectra(const mspec_comparison *c, const ranked *rows, size_t count,
                          const tool_options *options)
{
	static const bool left[MSPEC_SPECTRUM_PLACES + 2] = {true, true};
	char text[1024];
	screen_table table = {.columns = MSPEC_SPECTRUM_PLACES + 2, .left = left};
	table_cell(&table, "matrix");
	table_cell(&table, "of");
	for (int i = 0; i < MSPEC_SPECTRUM_PLACES; i++)
		ratio_cell(&table, mspec_spectrum_places()[i]);
	for (size_t i = 0; i < count; i++) {
		const mspec_pair *p = rows[i].item;
		for (int side = 0; p->spectrum_a && side < 2; side++) {
			table_cell(&table,
			           side ? "" : short_name(text, sizeof text, p->name));
			table_cell(&table, label(text, sizeof text, c, side));
			for (int k = 0; k < MSPEC_SPECTRUM_PLACES; k++)
				ratio_cell(&table, side ? p->spectrum_b[k] : p->spectrum_a[k]);
		}
	}
	puts("\nTheir singular values over the largest, from the first (0) to the last (1):");
	return finish(&table, options);
}

static bool print_matrices(const mspec_comparison *c, const tool_options *options)
{
	static const bool left[] = {true, false, false, false};
	size_t metric = telling_metric(c), count = 0;
	char text[1024];
	ranked *rows = muon_alloc(c->pair_count, sizeof *rows);
	if (!rows)
		return false;
	for (size_t i = 0; i < c->pair_count; i++)
		if (c->pairs[i].step == c->step)
			rows[count++] = (ranked){
			    &c->pairs[i], fabs(c->pairs[i].a[metric] - c->pairs[i].b[metric])};
	rank_items(rows, count, false);
	size_t limit = options->all || count < MOST_SHOWN ? count : MOST_SHOWN;
	screen_table table = {.columns = 4, .left = left};
	table_cell(&table, "matrix");
	for (int side = 0; side < 2; side++)
		table_cell(&table, label(text, sizeof text, c, side));
	table_cell(&table, "difference");
	for (size_t i = 0; i < limit; i++) {
		const mspec_pair *p = rows[i].item;
		table_cell(&table, muon_escape(text, sizeof text, p->name));
		number_cell(&table, p->a[metric]);
		number_cell(&table, p->b[metric]);
		number_cell(&table, p->a[metric] - p->b[metric]);
	}
	printf("\n%zu of %zu matrices, those that differ most in %s first%s:\n", limit, count,
	       c->metrics[metric], limit < count ? " (--all for every one)" : "");
	bool ok = finish(&table, options) &&
	          (!options->verbose || print_spectra(c, rows, limit, options));
	muon_free(rows);
	return ok;
}

static void print_unpaired(const mspec_comparison *c, bool every)
{
	char name[1024], side[64];
	size_t limit = every || c->unpaired_count < MOST_SHOWN ? c->unpaired_count : MOST_SHOWN;
	if (limit)
		puts("\nUnpaired:");
	for (size_t i = 0; i < limit; i++)
		printf("  %s: %s: %s\n", label(side, sizeof side, c, c->unpaired[i].side),
		       muon_escape(name, sizeof name, c->unpaired[i].name), c->unpaired[i].reason);
	if (limit < c->unpaired_count)
		printf("  and %zu more (-v names them)\n", c->unpaired_count - limit);
}

int compare_table(const mspec_comparison *c, const tool_options *options, muon_error *err)
{
	print_side(c, 0, options);
	print_side(c, 1, options);
	bool ok = print_findings(c, options) && print_groups(c, options) &&
	          print_matrices(c, options);
	print_unpaired(c, options->verbose > 0);
	return ok ? MUON_OK : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}
