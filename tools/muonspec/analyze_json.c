/* Schema muonspec/analyze/1. */
#include "analyze_output.h"

#include "common/json_output.h"

#include <math.h>

static json_t *metrics_object(const mspec_analysis *a, const mspec_row *row)
{
	json_t *object = json_object();
	for (size_t k = 0; k < a->metric_count; k++)
		json_put(object, mspec_metric_at(a->metrics[k])->name,
		         json_number_or_null(row->values[k]));
	return object;
}

static json_t *matrix_object(const mspec_analysis *a, const mspec_row *row)
{
	const mspec_matrix *m = row->matrix;
	json_t *object = json_pack(
	    "{s:o, s:o, s:o, s:s, s:I, s:I, s:s, s:s, s:o}", "name", json_text(m->name), "tensor",
	    json_text(row->tensor_name), "slice", json_text(m->slice), "group", m->group, "rows",
	    (json_int_t)m->rows, "cols", (json_int_t)m->cols, "dtype", muon_dtype_name(m->dtype),
	    "status", row->status, "metrics", metrics_object(a, row));
	if (object && row->note_count) {
		json_t *notes = json_array();
		for (size_t i = 0; i < row->note_count; i++)
			json_add(notes, json_text(row->notes[i]));
		json_put(object, "notes", notes);
	}
	return object;
}

static json_t *group_object(const mspec_analysis *a, const mspec_group_row *group)
{
	json_t *metrics = json_object();
	for (size_t k = 0; k < a->metric_count; k++) {
		const mspec_summary *s = &group->summaries[k];
		json_put(metrics, mspec_metric_at(a->metrics[k])->name,
		         json_pack("{s:o, s:o, s:o}", "mean", json_number_or_null(s->mean), "min",
		                   json_number_or_null(s->min), "max", json_number_or_null(s->max)));
	}
	return json_pack("{s:s, s:I, s:I, s:I, s:o}", "group", group->group, "count",
	                 (json_int_t)group->count, "ok", (json_int_t)group->ok, "parameters",
	                 (json_int_t)group->parameters, "metrics", metrics);
}

static json_t *skipped_object(const mspec_checkpoint *checkpoint, const mspec_skip *skip)
{
	return json_pack("{s:o, s:o}", "tensor",
	                 json_text(mspec_tensor_at(checkpoint, skip->tensor)->name), "reason",
	                 json_text(skip->reason));
}

int analyze_json(const mspec_analysis *a, const mspec_checkpoint *checkpoint, muon_error *err)
{
	json_t *matrices = json_array(), *groups = json_array(), *skipped = json_array();
	for (size_t i = 0; i < a->views.count; i++)
		json_add(matrices, matrix_object(a, &a->rows[i]));
	for (size_t i = 0; i < a->group_count; i++)
		json_add(groups, group_object(a, &a->groups[i]));
	for (size_t i = 0; i < a->views.skipped_count; i++)
		json_add(skipped, skipped_object(checkpoint, &a->views.skipped[i]));
	return json_print(json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "schema",
	                            "muonspec/analyze/1", "tool", json_tool(a->threads),
	                            "checkpoint", json_checkpoint(a->checkpoint), "matrices",
	                            matrices, "groups", groups, "skipped", skipped),
	                  false, err);
}

/* A line per record; "record" says which kind it is. */
static int print_record(json_t *object, const char *kind, muon_error *err)
{
	if (object)
		json_put(object, "record", json_string(kind));
	return json_print(object, true, err);
}

int analyze_jsonl(const mspec_analysis *a, const mspec_checkpoint *checkpoint, muon_error *err)
{
	json_t *head = json_pack("{s:s, s:o, s:o}", "schema", "muonspec/analyze/1", "tool",
	                         json_tool(a->threads), "checkpoint",
	                         json_checkpoint(a->checkpoint));
	int code = print_record(head, "checkpoint", err);
	for (size_t i = 0; i < a->views.count && !code; i++)
		code = print_record(matrix_object(a, &a->rows[i]), "matrix", err);
	for (size_t i = 0; i < a->group_count && !code; i++)
		code = print_record(group_object(a, &a->groups[i]), "group", err);
	for (size_t i = 0; i < a->views.skipped_count && !code; i++)
		code = print_record(skipped_object(checkpoint, &a->views.skipped[i]), "skipped", err);
	return code;
}
