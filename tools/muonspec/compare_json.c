/* Schema muonspec/compare/1. */
#include "compare_output.h"
#include "run_options.h"

#include "common/json_output.h"

#define SCHEMA "muonspec/compare/1"

static json_t *labels_array(const mspec_comparison *c)
{
	return json_pack("[o, o]", json_text(c->labels[0]), json_text(c->labels[1]));
}

static json_t *numbers_array(const double *values)
{
	json_t *array = json_array();
	for (int i = 0; i < MSPEC_SPECTRUM_PLACES; i++)
		json_add(array, json_number_or_null(values[i]));
	return array;
}

static json_t *pair_object(const mspec_comparison *c, const mspec_pair *p)
{
	json_t *metrics = json_object();
	for (size_t k = 0; k < c->metric_count; k++)
		json_put(metrics, c->metrics[k],
		         json_pack("{s:o, s:o, s:o}", "a", json_number_or_null(p->a[k]), "b",
		                   json_number_or_null(p->b[k]), "difference",
		                   json_number_or_null(p->a[k] - p->b[k])));
	json_t *pair = json_pack("{s:o, s:o, s:o, s:o}", "name", json_text(p->name), "group",
	                         json_text(p->group), "step", json_whole_or_null(p->step),
	                         "metrics", metrics);
	if (pair && p->spectrum_a)
		json_put(pair, "spectra",
		         json_pack("{s:o, s:o, s:o}", "at", numbers_array(mspec_spectrum_places()),
		                   "a", numbers_array(p->spectrum_a), "b",
		                   numbers_array(p->spectrum_b)));
	return pair;
}

static json_t *finding_object(const mspec_finding *f)
{
	return json_pack("{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "metric", f->metric,
	                 "count", (json_int_t)f->count, "share_higher_a",
	                 json_number_or_null(f->share_higher_a), "share_higher_b",
	                 json_number_or_null(f->share_higher_b), "ties",
	                 json_number_or_null(f->ties), "sign_test_p",
	                 json_number_or_null(f->sign_test_p), "median_difference",
	                 json_number_or_null(f->median_difference), "low",
	                 json_number_or_null(f->low), "high", json_number_or_null(f->high),
	                 "effect_size", json_number_or_null(f->effect_size));
}

static json_t *unpaired_object(const mspec_comparison *c, const mspec_unpaired *u)
{
	return json_pack("{s:o, s:o, s:o}", "label", json_text(c->labels[u->side]), "name",
	                 json_text(u->name), "reason", json_text(u->reason));
}

int compare_json(const mspec_comparison *c, const tool_options *options, muon_error *err)
{
	json_t *pairs = json_array(), *groups = json_array(), *findings = json_array(),
	       *unpaired = json_array();
	for (size_t i = 0; i < c->pair_count; i++)
		json_add(pairs, pair_object(c, &c->pairs[i]));
	for (size_t i = 0; i < c->group_count; i++)
		json_add(groups, pair_object(c, &c->groups[i]));
	for (size_t i = 0; i < c->finding_count; i++)
		json_add(findings, finding_object(&c->findings[i]));
	for (size_t i = 0; i < c->unpaired_count; i++)
		json_add(unpaired, unpaired_object(c, &c->unpaired[i]));
	return json_print(json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "schema", SCHEMA, "tool",
	                            json_tool(run_threads(options)), "labels", labels_array(c),
	                            "pairs", pairs, "groups", groups, "findings", findings,
	                            "unpaired", unpaired),
	                  false, err);
}

/* A line per record; "record" says which kind it is. */
static int print_record(json_t *object, const char *kind, muon_error *err)
{
	if (object)
		json_put(object, "record", json_string(kind));
	return json_print(object, true, err);
}

int compare_jsonl(const mspec_comparison *c, const tool_options *options, muon_error *err)
{
	int code = print_record(json_pack("{s:s, s:o, s:o}", "schema", SCHEMA, "tool",
	                                  json_tool(run_threads(options)), "labels",
	                                  labels_array(c)),
	                        "comparison", err);
	for (size_t i = 0; i < c->pair_count && !code; i++)
		code = print_record(pair_object(c, &c->pairs[i]), "pair", err);
	for (size_t i = 0; i < c->group_count && !code; i++)
		code = print_record(pair_object(c, &c->groups[i]), "group", err);
	for (size_t i = 0; i < c->finding_count && !code; i++)
		code = print_record(finding_object(&c->findings[i]), "finding", err);
	for (size_t i = 0; i < c->unpaired_count && !code; i++)
		code = print_record(unpaired_object(c, &c->unpaired[i]), "unpaired", err);
	return code;
}
