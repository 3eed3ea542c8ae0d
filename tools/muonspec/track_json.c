/* Schema muonspec/track/1. */
#include "run_options.h"
#include "track_output.h"

#include "common/json_output.h"

#include <math.h>
#include <string.h>

#define SCHEMA "muonspec/track/1"

static const char estimated[] =
    "delta_stable_rank and delta_svd_entropy of matrices over 128 on the short side are estimates "
    "(--changes exact decomposes them)";
static const char positions[] = "no file says a step: steps are the places of the files, from 0";

const char track_ratio_note[] =
    "recorded_output_rms_ratio is the RMS of y = W x that the checkpoint recorded, over the closed "
    "form ||W diag(g)||_F / sqrt(rows), which takes x to have independent entries of RMS 1 before "
    "the gain g. Behind a norm (q, k, v, gate, up, head) the RMS is 1: a ratio over 1 tells that x "
    "lies along the large singular directions of W, under 1 along the small ones, and "
    "sqrt(cols / stable rank) of W diag(g) is the most. Inputs without a norm (o_proj, down_proj) "
    "have an RMS of their own, which is a factor of the ratio: attention averages values and so "
    "makes it small, and large weights before make it large.";

bool is_ratio_series(const mspec_series *series)
{
	return series->kind == MSPEC_SERIES_OUTPUT &&
	       !strcmp(series->metric, "recorded_output_rms_ratio");
}

static bool has_ratios(const mspec_track *t)
{
	for (size_t i = 0; i < t->series_count; i++)
		if (is_ratio_series(&t->series[i]))
			return true;
	return false;
}

static json_t *checkpoint_object(const mspec_run_checkpoint *c)
{
	return json_pack("{s:o, s:o, s:s}", "path", json_text(c->path), "step",
	                 json_whole_or_null(c->step), "status", c->status);
}

static json_t *set_aside_object(const mspec_set_aside *s)
{
	return json_pack("{s:o, s:o}", "path", json_text(s->path), "reason", json_text(s->reason));
}

static json_t *series_object(const mspec_series *s)
{
	json_t *steps = json_array(), *values = json_array();
	for (size_t i = 0; i < s->count; i++) {
		json_add(steps, json_whole_or_null(s->steps[i]));
		json_add(values, json_number_or_null(s->values[i]));
	}
	return json_pack("{s:o, s:o, s:s, s:o, s:o}", "name", json_text(s->name), "group",
	                 json_text(s->group), "metric", s->metric, "steps", steps, "values", values);
}

static json_t *trend_object(const mspec_trend *t)
{
	json_t *crosses = !t->crosses
	                      ? json_null()
	                      : json_pack("{s:o, s:o, s:o, s:o}", "limit",
	                                  json_number_or_null(t->limit), "step",
	                                  json_number_or_null(t->at), "low",
	                                  json_number_or_null(t->low), "high",
	                                  json_number_or_null(t->high));
	return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o}", "name", json_text(t->series->name),
	                 "metric", t->series->metric, "exponent", json_number_or_null(t->exponent),
	                 "exponent_error", json_number_or_null(t->exponent_error), "crosses", crosses,
	                 "note", json_text(t->note));
}

static json_t *notes_array(const mspec_track *t)
{
	json_t *notes = json_array();
	if (t->estimated)
		json_add(notes, json_string(estimated));
	if (t->run->positions)
		json_add(notes, json_string(positions));
	if (has_ratios(t))
		json_add(notes, json_string(track_ratio_note));
	return notes;
}

int track_json(const mspec_track *t, const tool_options *options, muon_error *err)
{
	const mspec_run *run = t->run;
	json_t *checkpoints = json_array(), *series = json_array(), *trends = json_array(),
	       *aside = json_array();
	for (size_t i = 0; i < run->count; i++)
		json_add(checkpoints, checkpoint_object(&run->checkpoints[i]));
	for (size_t i = 0; i < t->series_count; i++)
		json_add(series, series_object(&t->series[i]));
	for (size_t i = 0; i < t->trend_count; i++)
		json_add(trends, trend_object(&t->trends[i]));
	for (size_t i = 0; i < run->set_aside_count; i++)
		json_add(aside, set_aside_object(&run->set_aside[i]));
	return json_print(json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "schema", SCHEMA, "tool",
	                            json_tool(run_threads(options)), "checkpoints", checkpoints,
	                            "series", series, "trends", trends, "set_aside", aside, "notes",
	                            notes_array(t)),
	                  false, err);
}

/* A line per record; "record" says which kind it is. */
static int print_record(json_t *object, const char *kind, muon_error *err)
{
	if (object)
		json_put(object, "record", json_string(kind));
	return json_print(object, true, err);
}

static int print_values(const mspec_series *s, double after, muon_error *err)
{
	int code = MUON_OK;
	for (size_t i = 0; i < s->count && !code; i++)
		if (s->steps[i] > after)
			code = print_record(
			    json_pack("{s:o, s:o, s:s, s:o, s:o}", "name", json_text(s->name),
			              "group", json_text(s->group), "metric", s->metric, "step",
			              json_whole_or_null(s->steps[i]), "value",
			              json_number_or_null(s->values[i])),
			    "value", err);
	return code;
}

int track_jsonl(const mspec_track *t, const tool_options *options, double after, muon_error *err)
{
	const mspec_run *run = t->run;
	int code = MUON_OK;
	if (after < 0)
		code = print_record(json_pack("{s:s, s:o, s:o}", "schema", SCHEMA, "tool",
		                              json_tool(run_threads(options)), "notes",
		                              notes_array(t)),
		                    "run", err);
	for (size_t i = 0; i < run->count && !code; i++)
		if (run->checkpoints[i].step > after)
			code = print_record(checkpoint_object(&run->checkpoints[i]), "checkpoint",
			                    err);
	for (size_t i = 0; i < t->series_count && !code; i++)
		code = print_values(&t->series[i], after, err);
	for (size_t i = 0; i < t->trend_count && !code; i++)
		code = print_record(trend_object(&t->trends[i]), "trend", err);
	for (size_t i = 0; i < run->set_aside_count && !code; i++)
		code = print_record(set_aside_object(&run->set_aside[i]), "set_aside", err);
	return code;
}
