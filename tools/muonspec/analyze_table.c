/* The report for people: the file, its groups, its matrices, and what was left out. */
#include "analyze_output.h"

#include "common/ranking.h"
#include "common/screen.h"

#include "base/memory.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

enum {
	MOST_SHOWN = 40, /* rows shown unasked; above it only the first TOP_SHOWN of an order */
	TOP_SHOWN = 10,
	NAME_ROOM = 30, /* columns that names may take before metrics are added, at the least */
	SHAPE_ROOM = 2 + 10,
	TYPE_ROOM = 2 + 7
};

/* Metrics in the order in which they get a place while there is room, unless --metrics says. */
static const char *const preferred[] = {
    "svd_entropy", "stable_rank",    "spectral_norm",    "rms",
    "alpha",       "effective_rank", "numerical_rank",   "svd_entropy_excess",
    "mp_spikes",   "output_rms",     "condition_number", "max_abs",
    "output_rms_max"};

/* ---- which columns ----------------------------------------------------------------------- */

typedef struct chosen {
	size_t metrics[64]; /* indices into analysis->metrics */
	size_t count;
} chosen;

static const char *metric_name(const mspec_analysis *a, size_t k)
{
	return mspec_metric_at(a->metrics[k])->name;
}

static int column_width(const mspec_analysis *a, size_t k)
{
	int width = (int)strlen(metric_name(a, k));
	return 2 + (width > 9 ? width : 9);
}

static void choose(chosen *c, const mspec_analysis *a, size_t k, int *room)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->metrics[i] == k)
			return;
	int width = column_width(a, k);
	if (c->count < sizeof c->metrics / sizeof *c->metrics && width <= *room) {
		c->metrics[c->count++] = k;
		*room -= width;
	}
}

static bool has_values(const mspec_analysis *a, size_t k)
{
	for (size_t i = 0; i < a->views.count; i++)
		if (!isnan(a->rows[i].values[k]))
			return true;
	return false;
}

/* Metrics that fit into `room` columns: the one sorted by, then those asked for in their order, or
 * the preferred ones. At least one. */
static chosen choose_columns(const mspec_analysis *a, const tool_options *options, row_order order,
                             int room)
{
	chosen c = {.count = 0};
	if (order.metric != SIZE_MAX)
		choose(&c, a, order.metric, &room);
	for (size_t i = 0; !options->metrics && i < sizeof preferred / sizeof *preferred; i++)
		for (size_t k = 0; k < a->metric_count; k++)
			if (!strcmp(metric_name(a, k), preferred[i]) && has_values(a, k))
				choose(&c, a, k, &room);
	for (size_t k = 0; options->metrics && k < a->metric_count; k++)
		choose(&c, a, k, &room);
	if (!c.count)
		c.metrics[c.count++] = 0;
	return c;
}

/* ---- head -------------------------------------------------------------------------------- */

/* The element type that all matrices have, or MUON_DTYPE_NONE. */
static muon_dtype common_type(const mspec_analysis *a)
{
	muon_dtype type = a->views.count ? a->rows[0].matrix->dtype : MUON_DTYPE_NONE;
	for (size_t i = 1; i < a->views.count; i++)
		if (a->rows[i].matrix->dtype != type)
			return MUON_DTYPE_NONE;
	return type;
}

static void print_head(const mspec_analysis *a)
{
	const mspec_checkpoint_info *info = a->checkpoint;
	char text[1024], count[32], parameters[32];
	int64_t total = 0;
	for (size_t i = 0; i < a->group_count; i++)
		if (__builtin_add_overflow(total, a->groups[i].parameters, &total))
			total = INT64_MAX; /* shapes in a file can be absurd */
	printf("%s: %s, %s layout", muon_escape(text, sizeof text, info->path), info->format,
	       info->layout);
	if (isfinite(info->step))
		printf(", step %.0f", info->step);
	if (info->optimizer)
		printf(", %s", muon_escape(text, sizeof text, info->optimizer));
	muon_dtype type = common_type(a);
	printf("\n%s %s%s%s, %s parameters; %s %s skipped\n",
	       grouped_integer(count, sizeof count, (int64_t)a->views.count),
	       a->views.count == 1 ? "matrix" : "matrices", type == MUON_DTYPE_NONE ? "" : " of ",
	       type == MUON_DTYPE_NONE ? "" : muon_dtype_name(type),
	       grouped_integer(parameters, sizeof parameters, total),
	       grouped_integer(text, sizeof text, (int64_t)a->views.skipped_count),
	       a->views.skipped_count == 1 ? "tensor" : "tensors");
}

/* ---- groups ------------------------------------------------------------------------------ */

static void number_cell(screen_table *table, double value)
{
	char text[32];
	table_cell(table, short_number(text, sizeof text, value));
}

/* Means over each group; the first metric also gets its range. */
static bool print_groups(const mspec_analysis *a, const tool_options *options, row_order order,
                         int width)
{
	enum { FIXED = 13 + 7 + 15, RANGE = 2 * 11, MOST = 3 + 2 + 64 };
	bool left[MOST] = {true};
	char text[32];
	chosen c = choose_columns(a, options, order, width - FIXED - RANGE);
	screen_table table = {.columns = (int)(3 + 2 + c.count), .left = left};
	table_cell(&table, "group");
	table_cell(&table, "count");
	table_cell(&table, "parameters");
	for (size_t i = 0; i < c.count; i++) {
		table_cell(&table, metric_name(a, c.metrics[i]));
		if (!i) {
			table_cell(&table, "min");
			table_cell(&table, "max");
		}
	}
	for (size_t g = 0; g < a->group_count; g++) {
		const mspec_group_row *group = &a->groups[g];
		table_cell(&table, group->group);
		table_cell(&table, grouped_integer(text, sizeof text, (int64_t)group->count));
		table_cell(&table, grouped_integer(text, sizeof text, group->parameters));
		for (size_t i = 0; i < c.count; i++) {
			const mspec_summary *s = &group->summaries[c.metrics[i]];
			number_cell(&table, s->mean);
			if (!i) {
				number_cell(&table, s->min);
				number_cell(&table, s->max);
			}
		}
	}
	printf("\nMeans over each group:\n");
	table_print(stdout, &table, width, screen_colors(options->color));
	bool failed = table.failed;
	table_release(&table);
	return !failed;
}

/* ---- rows -------------------------------------------------------------------------------- */

/* Columns for names: what they need, but no more than leaves room for metrics. */
static int name_room(const ranked *keys, size_t count, int width)
{
	char text[1024];
	int most = width * 9 / 20 > NAME_ROOM ? width * 9 / 20 : NAME_ROOM, room = 0;
	for (size_t i = 0; i < count && room < most; i++) {
		const mspec_row *row = keys[i].item;
		int needed = display_width(muon_escape(text, sizeof text, row->matrix->name));
		room = needed > room ? needed : room;
	}
	return room < most ? room : most;
}

static void row_cells(screen_table *table, const mspec_row *row, const chosen *c, bool with_type)
{
	char text[1024];
	table_cell(table, muon_escape(text, sizeof text, row->matrix->name));
	snprintf(text, sizeof text, "%lldx%lld", (long long)row->matrix->rows,
	         (long long)row->matrix->cols);
	table_cell(table, text);
	if (with_type)
		table_cell(table, muon_dtype_name(row->matrix->dtype));
	for (size_t i = 0; i < c->count; i++) {
		if (row->code && !i)
			table_cell(table, row->status);
		else
			number_cell(table, row->values[c->metrics[i]]);
	}
}

static bool print_rows(const mspec_analysis *a, const tool_options *options, row_order order,
                       int width)
{
	enum { MOST = 3 + 64 };
	bool with_type = common_type(a) == MUON_DTYPE_NONE;
	bool left[MOST] = {true, false, with_type};
	char shown[32], all[32];
	size_t count = a->views.count, limit = count;
	bool shortened = !options->all && !options->top && count > MOST_SHOWN;
	if (options->top && (size_t)options->top < limit)
		limit = (size_t)options->top;
	if (shortened) {
		limit = TOP_SHOWN;
		if (order.metric == SIZE_MAX) /* what people look at first */
			for (size_t k = 0; k < a->metric_count; k++)
				if (!strcmp(metric_name(a, k), "spectral_norm"))
					order.metric = k;
	}
	ranked *keys = muon_alloc(count, sizeof *keys);
	if (!keys)
		return false;
	for (size_t i = 0; i < count; i++)
		keys[i] = (ranked){&a->rows[i],
		                   order.metric == SIZE_MAX ? 0 : a->rows[i].values[order.metric]};
	rank_items(keys, count, order.ascending);
	int room = width - SHAPE_ROOM - (with_type ? TYPE_ROOM : 0) - name_room(keys, limit, width);
	chosen c = choose_columns(a, options, order, room);
	screen_table table = {.columns = (int)(2 + with_type + c.count), .left = left};
	table_cell(&table, "matrix");
	table_cell(&table, "out x in");
	if (with_type)
		table_cell(&table, "type");
	for (size_t i = 0; i < c.count; i++)
		table_cell(&table, metric_name(a, c.metrics[i]));
	for (size_t i = 0; i < limit; i++)
		row_cells(&table, keys[i].item, &c, with_type);
	grouped_integer(shown, sizeof shown, (int64_t)limit);
	grouped_integer(all, sizeof all, (int64_t)count);
	if (limit < count && order.metric == SIZE_MAX)
		printf("\nThe first %s of %s matrices, in the file's order:\n", shown, all);
	else if (limit < count)
		printf("\n%s of %s matrices, %s %s first:\n", shown, all,
		       order.ascending ? "smallest" : "largest", metric_name(a, order.metric));
	else
		printf("\nMatrices:\n");
	if (shortened)
		puts("(--all for every row, --top K --sort METRIC for others)");
	table_print(stdout, &table, width, screen_colors(options->color));
	bool failed = table.failed;
	muon_free(keys);
	table_release(&table);
	return !failed;
}

/* ---- what was left out ------------------------------------------------------------------- */

static void print_failures(const mspec_analysis *a, bool every)
{
	char name[1024], count[32];
	size_t failed = 0;
	for (size_t i = 0; i < a->views.count; i++) {
		const mspec_row *row = &a->rows[i];
		if (!row->code || (failed++ >= TOP_SHOWN && !every))
			continue;
		printf("%s  %s: %s%s%s\n", failed == 1 ? "\nNot analyzed:\n" : "",
		       muon_escape(name, sizeof name, row->matrix->name), row->status,
		       row->note_count ? ": " : "", row->note_count ? row->notes[0] : "");
	}
	if (failed > TOP_SHOWN && !every)
		printf("  and %s more (-v names them)\n",
		       grouped_integer(count, sizeof count, (int64_t)failed - TOP_SHOWN));
}

static void print_notes(const mspec_analysis *a)
{
	char name[1024];
	const char *head = "\nNotes:\n";
	for (size_t i = 0; i < a->views.count; i++)
		for (size_t k = 0; !a->rows[i].code && k < a->rows[i].note_count; k++) {
			printf("%s  %s: %s\n", head,
			       muon_escape(name, sizeof name, a->rows[i].matrix->name),
			       a->rows[i].notes[k]);
			head = "";
		}
}

/* Each reason once with its count, or every tensor for -v. */
static void print_skipped(const mspec_analysis *a, const mspec_checkpoint *checkpoint, bool every)
{
	char name[1024];
	const mspec_skip *s = a->views.skipped;
	size_t count = a->views.skipped_count;
	if (count)
		printf("\nSkipped%s:\n", every ? "" : " (-v names them)");
	for (size_t i = 0; i < count; i++) {
		size_t same = 0;
		bool seen = false;
		if (every) {
			printf("  %s: %s\n",
			       muon_escape(name, sizeof name, mspec_tensor_at(checkpoint, s[i].tensor)->name),
			       s[i].reason);
			continue;
		}
		/* reasons are few, so the first of a kind is soon found */
		for (size_t k = 0; k < i && !seen; k++)
			seen = !strcmp(s[k].reason, s[i].reason);
		for (size_t k = i; k < count && !seen; k++)
			same += !strcmp(s[k].reason, s[i].reason);
		if (!seen)
			printf("  %zu: %s\n", same, s[i].reason);
	}
}

int analyze_table(const mspec_analysis *a, const mspec_checkpoint *checkpoint,
                  const tool_options *options, row_order order, muon_error *err)
{
	int width = screen_width(options->width);
	print_head(a);
	bool ok = true;
	if (a->views.count) {
		ok = print_groups(a, options, order, width);
		ok = ok && print_rows(a, options, order, width);
	}
	print_failures(a, options->verbose > 0);
	if (options->verbose)
		print_notes(a);
	print_skipped(a, checkpoint, options->verbose > 0);
	if (options->verbose)
		printf("\n%.2f s, %d threads, %.1f GFLOP, %.1f GFLOP/s\n", a->seconds, a->threads,
		       a->flops / 1e9, a->flops / 1e9 / (a->seconds > 0 ? a->seconds : 1));
	return ok ? MUON_OK : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}
