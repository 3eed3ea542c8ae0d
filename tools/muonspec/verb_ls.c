#include "verbs.h"

#include "common/csv_output.h"
#include "common/json_output.h"
#include "common/screen.h"

#include "base/memory.h"
#include "base/text.h"

#include <string.h>

/* One line of the listing: a matrix, or a tensor without one. */
typedef struct listing {
	const mspec_checkpoint *checkpoint;
	const mspec_views *views;
} listing;

typedef int (*line_fn)(void *state, const mspec_tensor *tensor, const mspec_matrix *matrix,
                       const char *reason, muon_error *err);

/* Call `line` for every matrix and skipped tensor in the order of the file. */
static int for_each_line(const listing *l, line_fn line, void *state, muon_error *err)
{
	size_t m = 0, s = 0;
	int code = MUON_OK;
	for (size_t t = 0; t < mspec_tensor_count(l->checkpoint) && !code; t++) {
		const mspec_tensor *tensor = mspec_tensor_at(l->checkpoint, t);
		for (; m < l->views->count && l->views->matrices[m].tensor == t && !code; m++)
			code = line(state, tensor, &l->views->matrices[m], NULL, err);
		for (; s < l->views->skipped_count && l->views->skipped[s].tensor == t && !code; s++)
			code = line(state, tensor, NULL, l->views->skipped[s].reason, err);
	}
	return code;
}

static const char *type_of(const mspec_tensor *t)
{
	return t->dtype == MUON_DTYPE_NONE ? t->type_name : muon_dtype_name(t->dtype);
}

static const char *shape_text(char *buffer, size_t capacity, const mspec_tensor *t)
{
	size_t used = 0;
	*buffer = 0;
	for (int i = 0; i < t->rank && used < capacity; i++)
		used += (size_t)snprintf(buffer + used, capacity - used, "%s%lld", i ? "x" : "",
		                         (long long)t->dims[i]);
	return t->rank ? buffer : t->elements ? "scalar" : "unknown";
}

/* ---- table ------------------------------------------------------------------------------- */

static int table_line(void *state, const mspec_tensor *tensor, const mspec_matrix *matrix,
                      const char *reason, muon_error *err)
{
	screen_table *table = state;
	char text[1024], number[64];
	(void)err;
	table_cell(table, muon_escape(text, sizeof text, matrix ? matrix->name : tensor->name));
	table_cell(table, shape_text(text, sizeof text, tensor));
	table_cell(table, muon_escape(text, sizeof text, type_of(tensor)));
	if (matrix) {
		snprintf(number, sizeof number, "%lldx%lld%s", (long long)matrix->rows,
		         (long long)matrix->cols, matrix->transposed ? " T" : "");
		table_cell(table, number);
		table_cell(table, tensor->status ? tensor->problem : matrix->group);
	} else {
		table_cell(table, "-");
		table_cell(table, reason);
	}
	return MUON_OK;
}

static int print_table(const listing *l, const tool_options *options, muon_error *err)
{
	static const bool left[] = {true, false, true, false, true};
	static const char *const headers[] = {"tensor", "shape", "type", "matrix", "group or reason"};
	screen_table table = {.columns = 5, .left = left};
	char path[1024], a[32], b[32], c[32];
	const mspec_checkpoint_info *info = mspec_info(l->checkpoint);
	for (size_t i = 0; i < 5; i++)
		table_cell(&table, headers[i]);
	for_each_line(l, table_line, &table, err);
	printf("%s: %s, %s layout\n", muon_escape(path, sizeof path, info->path), info->format,
	       info->layout);
	table_print(stdout, &table, screen_width(options->width), screen_colors(options->color));
	printf("%s tensors: %s matrices, %s skipped\n",
	       grouped_integer(a, sizeof a, (int64_t)mspec_tensor_count(l->checkpoint)),
	       grouped_integer(b, sizeof b, (int64_t)l->views->count),
	       grouped_integer(c, sizeof c, (int64_t)l->views->skipped_count));
	bool failed = table.failed;
	table_release(&table);
	return failed ? muon_fail(err, MUON_E_MEMORY, NULL, "out of memory") : MUON_OK;
}

/* ---- JSON -------------------------------------------------------------------------------- */

static json_t *line_object(const mspec_tensor *tensor, const mspec_matrix *matrix,
                           const char *reason)
{
	json_t *shape = json_array();
	for (int i = 0; i < tensor->rank; i++)
		json_add(shape, json_integer(tensor->dims[i]));
	json_t *object = json_pack("{s:o, s:o, s:o}", "tensor", json_text(tensor->name), "shape",
	                           shape, "dtype", json_text(type_of(tensor)));
	if (matrix && object) {
		json_put(object, "name", json_text(matrix->name));
		json_put(object, "slice", json_text(matrix->slice));
		json_put(object, "group", json_text(matrix->group));
		json_put(object, "rows", json_integer(matrix->rows));
		json_put(object, "cols", json_integer(matrix->cols));
		json_put(object, "transposed", json_boolean(matrix->transposed));
		if (tensor->status)
			json_put(object, "problem", json_text(tensor->problem));
	} else if (object) {
		json_put(object, "reason", json_text(reason));
	}
	return object;
}

typedef struct json_lists {
	json_t *matrices, *skipped;
} json_lists;

static int json_line(void *state, const mspec_tensor *tensor, const mspec_matrix *matrix,
                     const char *reason, muon_error *err)
{
	json_lists *lists = state;
	(void)err;
	json_add(matrix ? lists->matrices : lists->skipped, line_object(tensor, matrix, reason));
	return MUON_OK;
}

static int print_json(const listing *l, muon_error *err)
{
	json_lists lists = {json_array(), json_array()};
	for_each_line(l, json_line, &lists, err);
	return json_print(json_pack("{s:s, s:o, s:o, s:o, s:o}", "schema", "muonspec/ls/1", "tool",
	                            json_tool(1), "checkpoint",
	                            json_checkpoint(mspec_info(l->checkpoint)), "matrices",
	                            lists.matrices, "skipped", lists.skipped),
	                  false, err);
}

static int jsonl_line(void *state, const mspec_tensor *tensor, const mspec_matrix *matrix,
                      const char *reason, muon_error *err)
{
	(void)state;
	return json_print(line_object(tensor, matrix, reason), true, err);
}

/* ---- CSV --------------------------------------------------------------------------------- */

static int csv_line(void *state, const mspec_tensor *tensor, const mspec_matrix *matrix,
                    const char *reason, muon_error *err)
{
	char shape[1024];
	(void)state;
	csv_text(matrix ? matrix->name : tensor->name);
	csv_text(tensor->name);
	csv_text(matrix ? matrix->slice : NULL);
	csv_text(shape_text(shape, sizeof shape, tensor));
	csv_text(type_of(tensor));
	csv_text(matrix ? matrix->group : NULL);
	csv_text(matrix ? NULL : reason);
	return csv_end(err);
}

static int print_listing(const listing *l, const tool_options *options, muon_error *err)
{
	switch (options->format) {
	case FORMAT_JSON:
		return print_json(l, err);
	case FORMAT_JSONL:
		return for_each_line(l, jsonl_line, NULL, err);
	case FORMAT_CSV:
		puts("name,tensor,slice,shape,dtype,group,reason");
		return for_each_line(l, csv_line, NULL, err);
	default:
		return print_table(l, options, err);
	}
}

/* --strict: the first tensor that can't be read is an error. */
static int check_strict(const mspec_checkpoint *checkpoint, muon_error *err)
{
	for (size_t i = 0; i < mspec_tensor_count(checkpoint); i++) {
		const mspec_tensor *t = mspec_tensor_at(checkpoint, i);
		if (t->status)
			return muon_fail(err, t->status, t->name, "%s", t->problem);
	}
	return MUON_OK;
}

int run_ls(const tool_options *options, muon_error *err)
{
	const mspec_view_options view = {
	    .include = options->include.items, .include_count = options->include.count,
	    .exclude = options->exclude.items, .exclude_count = options->exclude.count,
	    .include_optimizer = options->include_optimizer, .groups_file = options->groups_file};
	mspec_checkpoint *checkpoint;
	mspec_views views;
	int code = open_checkpoint(&checkpoint, options->arguments[0], err);
	if (code)
		return code;
	code = options->strict ? check_strict(checkpoint, err) : MUON_OK;
	if (!code)
		code = mspec_views_create(&views, checkpoint, &view, err);
	if (!code) {
		code = print_listing(&(listing){checkpoint, &views}, options, err);
		mspec_views_destroy(&views);
	}
	mspec_close(&checkpoint);
	return code;
}
