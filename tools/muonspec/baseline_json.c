/* Schema muonspec/baseline/1. Nothing in it depends on the machine but what the values do. */
#include "baseline_output.h"

#include "common/json_output.h"

#include <errno.h>
#include <string.h>

static json_t *texts(const char *const *list, size_t count)
{
	json_t *array = json_array();
	for (size_t i = 0; i < count; i++)
		json_add(array, json_text(list[i]));
	return array;
}

static json_t *sources(const mspec_measurement *m)
{
	json_t *array = json_array();
	for (size_t i = 0; i < m->source_count; i++) {
		const mspec_source *s = &m->sources[i];
		json_add(array, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "path", json_text(s->path),
		                          "format", json_text(s->format), "layout", json_text(s->layout),
		                          "step", json_whole_or_null(s->step), "optimizer",
		                          json_text(s->optimizer), "digest", json_text(s->digest)));
	}
	return array;
}

static json_t *subject_object(const mspec_subject *s)
{
	json_t *object = json_pack("{s:o, s:o}", "name", json_text(s->name), "group",
	                           json_text(s->group));
	json_t *metrics = json_object(), *risks = json_object();
	for (size_t k = 0; k < s->count; k++) {
		const mspec_measure *m = &s->measures[k];
		if (m->verdict == MSPEC_NO_VERDICT)
			json_put(metrics, m->metric, json_number_or_null(m->value));
		else
			json_put(risks, m->metric,
			         json_pack("{s:o, s:s}", "value", json_number_or_null(m->value), "verdict",
			                   mspec_verdict_name((mspec_verdict)m->verdict)));
	}
	if (s->kind == MSPEC_SUBJECT_MATRIX) {
		json_put(object, "rows", json_whole_or_null(s->rows));
		json_put(object, "cols", json_whole_or_null(s->cols));
		json_put(object, "dtype", json_text(s->dtype));
	}
	json_put(object, "status", json_text(s->status));
	json_put(object, "metrics", metrics);
	if (json_object_size(risks))
		json_put(object, "risks", risks);
	else
		json_decref(risks);
	return object;
}

static json_t *subjects(const mspec_measurement *m, mspec_subject_kind kind)
{
	json_t *array = json_array();
	for (size_t i = 0; i < m->count; i++)
		if (m->subjects[i].kind == kind)
			json_add(array, subject_object(&m->subjects[i]));
	return array;
}

int baseline_json(FILE *to, const mspec_measurement *m, muon_error *err)
{
	json_t *root = json_pack("{s:s, s:{s:s, s:s}, s:s, s:o, s:s, s:o, s:o, s:o}", "schema",
	                         MSPEC_BASELINE_SCHEMA, "tool", "version", muon_version(), "blas",
	                         muon_blas_description(), "of", mspec_measured_kind_name(m->kind),
	                         "files", sources(m), "svd", m->svd, "metrics",
	                         texts(m->metrics, m->metric_count), "include",
	                         texts(m->include, m->include_count), "exclude",
	                         texts(m->exclude, m->exclude_count));
	for (int kind = 0; kind < MSPEC_SUBJECT_KINDS && root; kind++) {
		json_t *list = subjects(m, (mspec_subject_kind)kind);
		if (json_array_size(list))
			json_put(root, mspec_subject_kind_list((mspec_subject_kind)kind), list);
		else
			json_decref(list);
	}
	return json_write(to, root, false, err);
}
