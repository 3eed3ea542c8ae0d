/* Schema muonspec/check/1. */
#include "check_output.h"
#include "run_options.h"

#include "common/json_output.h"

#define SCHEMA "muonspec/check/1"

static json_t *gate_object(const mspec_gate *g)
{
	return json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:s, s:o}", "name", json_text(g->name),
	                 "group", json_text(g->group), "metric", json_text(g->metric), "cause",
	                 mspec_gate_cause_name(g->cause), "baseline", json_number_or_null(g->baseline),
	                 "value", json_number_or_null(g->value), "limit",
	                 json_number_or_null(g->limit), "verdict", g->failed ? "failed" : "ok",
	                 "reason", json_text(g->reason));
}

static json_t *files_array(const mspec_measurement *m)
{
	json_t *files = json_array();
	for (size_t i = 0; i < m->source_count; i++)
		json_add(files, json_pack("{s:o, s:o, s:o}", "path", json_text(m->sources[i].path), "step",
		                          json_whole_or_null(m->sources[i].step), "digest",
		                          json_text(m->sources[i].digest)));
	return files;
}

static json_t *head_object(const check_result *result)
{
	const mspec_gate_report *r = result->report;
	const tool_options *options = result->options;
	return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:I, s:I, s:s}", "schema", SCHEMA, "tool",
	                 json_tool(run_threads(options)), "of",
	                 mspec_measured_kind_name(result->now->kind), "files", files_array(result->now),
	                 "baseline", json_text(options->baseline), "rules", json_text(options->rules),
	                 "count", (json_int_t)r->count, "failed", (json_int_t)r->failed, "verdict",
	                 r->failed ? "failed" : "ok");
}

int check_json(const check_result *result, muon_error *err)
{
	json_t *root = head_object(result), *gates = json_array();
	for (size_t i = 0; i < result->report->count; i++)
		json_add(gates, gate_object(&result->report->gates[i]));
	json_put(root, "gates", gates);
	return json_print(root, false, err);
}

/* A line per record; "record" says which kind it is. */
int check_jsonl(const check_result *result, muon_error *err)
{
	json_t *head = head_object(result);
	json_put(head, "record", json_string("check"));
	int code = json_print(head, true, err);
	for (size_t i = 0; i < result->report->count && !code; i++) {
		json_t *gate = gate_object(&result->report->gates[i]);
		json_put(gate, "record", json_string("gate"));
		code = json_print(gate, true, err);
	}
	return code;
}
