/* Schema muonspec/risk/1. */
#include "risk_output.h"

#include "common/json_output.h"

static json_t *limits_object(const mspec_risk_options *how)
{
	json_t *object = json_object();
	for (int k = 0; k < MSPEC_RISK_KINDS; k++) {
		mspec_risk_kind kind = (mspec_risk_kind)k;
		json_put(object, mspec_risk_kind_name(kind),
		         json_pack("{s:o, s:o, s:s}", "watch",
		                   json_number_or_null(how->limits[k].watch), "risk",
		                   json_number_or_null(how->limits[k].risk), "value",
		                   mspec_risk_kind_meaning(kind)));
	}
	return object;
}

static json_t *settings_object(const mspec_risk_report *r)
{
	return json_pack("{s:o, s:o, s:o}", "lr", json_number_or_null(r->lr), "weight_decay",
	                 json_number_or_null(r->weight_decay), "update_rms",
	                 json_number_or_null(r->update_rms));
}

static json_t *earlier_object(const mspec_risk_report *r)
{
	return r->earlier ? json_checkpoint(r->earlier) : json_null();
}

static json_t *risk_object(const mspec_risk *risk)
{
	return json_pack("{s:o, s:o, s:s, s:o, s:o, s:s, s:o}", "name", json_text(risk->name),
	                 "group", json_text(risk->group), "kind", mspec_risk_kind_name(risk->kind),
	                 "value", json_number_or_null(risk->value), "threshold",
	                 json_number_or_null(risk->threshold), "verdict",
	                 mspec_verdict_name(risk->verdict), "reason", json_text(risk->reason));
}

static json_t *unjudged_object(const mspec_unjudged *u)
{
	return json_pack("{s:s, s:o}", "kind", mspec_risk_kind_name(u->kind), "reason",
	                 json_text(u->reason));
}

static json_t *attention_object(const mspec_risk_report *r, const mspec_attention_layer *a)
{
	json_t *bounds = a->head_bounds ? json_array() : json_null();
	for (int64_t h = 0; a->head_bounds && h < r->heads; h++)
		json_add(bounds, json_number_or_null(a->head_bounds[h]));
	return json_pack("{s:I, s:o, s:o}", "layer", (json_int_t)a->layer, "recorded",
	                 json_number_or_null(a->recorded), "head_bounds", bounds);
}

static json_t *binades_object(const mspec_binades *b)
{
	json_t *shares = json_array();
	for (size_t i = 0; i < b->count; i++)
		json_add(shares, json_real(b->share[i]));
	return json_pack("{s:o, s:i, s:o}", "zeros", json_number_or_null(b->zeros), "first",
	                 b->first, "shares", shares);
}

int risk_json(const mspec_risk_report *r, const mspec_risk_options *how, muon_error *err)
{
	json_t *risks = json_array(), *unjudged = json_array(), *attention = json_array();
	for (size_t i = 0; i < r->count; i++)
		json_add(risks, risk_object(&r->risks[i]));
	for (size_t i = 0; i < r->unjudged_count; i++)
		json_add(unjudged, unjudged_object(&r->unjudged[i]));
	for (size_t i = 0; i < r->attention_count; i++)
		json_add(attention, attention_object(r, &r->attention[i]));
	return json_print(json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o}",
	                            "schema", "muonspec/risk/1", "tool", json_tool(r->threads),
	                            "checkpoint", json_checkpoint(r->checkpoint), "earlier",
	                            earlier_object(r), "settings", settings_object(r), "limits",
	                            limits_object(how), "risks", risks, "verdict",
	                            mspec_verdict_name(r->verdict), "unjudged", unjudged,
	                            "attention", attention, "binades", binades_object(&r->binades)),
	                  false, err);
}

/* A line per record; "record" says which kind it is. */
static int print_record(json_t *object, const char *kind, muon_error *err)
{
	if (object)
		json_put(object, "record", json_string(kind));
	return json_print(object, true, err);
}

int risk_jsonl(const mspec_risk_report *r, const mspec_risk_options *how, muon_error *err)
{
	json_t *head = json_pack(
	    "{s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o}", "schema", "muonspec/risk/1", "tool",
	    json_tool(r->threads), "checkpoint", json_checkpoint(r->checkpoint), "earlier",
	    earlier_object(r), "settings", settings_object(r), "limits", limits_object(how),
	    "verdict", mspec_verdict_name(r->verdict), "binades", binades_object(&r->binades));
	int code = print_record(head, "checkpoint", err);
	for (size_t i = 0; i < r->count && !code; i++)
		code = print_record(risk_object(&r->risks[i]), "risk", err);
	for (size_t i = 0; i < r->unjudged_count && !code; i++)
		code = print_record(unjudged_object(&r->unjudged[i]), "unjudged", err);
	for (size_t i = 0; i < r->attention_count && !code; i++)
		code = print_record(attention_object(r, &r->attention[i]), "attention", err);
	return code;
}
