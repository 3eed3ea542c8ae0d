/* Schema muonspec/forward/1. */
#include "forward_output.h"

#include "common/json_output.h"

#include <math.h>

static json_t *layer_object(const mspec_forward *f, const mspec_forward_run *run, int64_t layer)
{
	const mspec_forward_layer *l = &run->layers[layer];
	json_t *heads = json_array();
	for (int64_t h = 0; h < f->heads; h++)
		json_add(heads, json_number_or_null(run->head_max_logits[layer * f->heads + h]));
	return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "layer", (json_int_t)layer,
	                 "output_rms", json_number_or_null(l->output_rms), "output_max_abs",
	                 json_number_or_null(l->output_max_abs), "max_attention_logit",
	                 json_number_or_null(l->max_attention_logit), "share_logits_over_100",
	                 json_number_or_null(l->share_logits_over_100), "bf16_error",
	                 json_number_or_null(l->bf16_error), "head_max_logits", heads);
}

static json_t *matrix_object(const mspec_forward_matrix *m)
{
	return json_pack("{s:o, s:o, s:o}", "name", json_text(m->name), "output_rms",
	                 json_number_or_null(m->output_rms), "output_max_abs",
	                 json_number_or_null(m->output_max_abs));
}

static json_t *run_object(const mspec_forward_run *run)
{
	return json_pack("{s:s, s:o, s:o}", "arithmetic", forward_arithmetic(run), "loss",
	                 json_number_or_null(run->loss), "logits_error",
	                 json_number_or_null(run->logits_error));
}

static json_t *whole_run(const mspec_forward *f, const mspec_forward_run *run)
{
	json_t *layers = json_array(), *matrices = json_array(), *object = run_object(run);
	for (int64_t l = 0; l < f->layers; l++)
		json_add(layers, layer_object(f, run, l));
	for (int64_t m = 0; m < f->matrices; m++)
		json_add(matrices, matrix_object(&run->matrices[m]));
	if (object) {
		json_put(object, "layers", layers);
		json_put(object, "matrices", matrices);
	}
	return object;
}

static json_t *head_object(const mspec_forward *f, const mspec_checkpoint_info *checkpoint,
                           const tool_options *options)
{
	json_t *model = json_pack("{s:I, s:I, s:I}", "parameters", (json_int_t)f->parameters,
	                          "layers", (json_int_t)f->layers, "heads", (json_int_t)f->heads);
	json_t *tokens = json_pack("{s:o, s:I, s:I, s:I}", "path", json_text(options->tokens),
	                           "targets", (json_int_t)f->tokens, "windows",
	                           (json_int_t)f->windows, "length", (json_int_t)f->length);
	return json_pack("{s:s, s:o, s:o, s:o, s:o}", "schema", "muonspec/forward/1", "tool",
	                 json_tool(f->threads), "checkpoint", json_checkpoint(checkpoint), "model",
	                 model, "tokens", tokens);
}

int forward_json(const mspec_forward *f, const mspec_checkpoint_info *checkpoint,
                 const tool_options *options, muon_error *err)
{
	json_t *runs = json_array(), *object = head_object(f, checkpoint, options);
	for (int run = 0; run < 2; run++)
		json_add(runs, whole_run(f, &f->runs[run]));
	if (object)
		json_put(object, "runs", runs);
	return json_print(object, false, err);
}

/* A line per record; "record" says which kind it is, "arithmetic" of which run. */
static int print_record(json_t *object, const char *kind, const mspec_forward_run *run,
                        muon_error *err)
{
	if (object)
		json_put(object, "record", json_string(kind));
	if (object && run)
		json_put(object, "arithmetic", json_string(forward_arithmetic(run)));
	return json_print(object, true, err);
}

int forward_jsonl(const mspec_forward *f, const mspec_checkpoint_info *checkpoint,
                  const tool_options *options, muon_error *err)
{
	int code = print_record(head_object(f, checkpoint, options), "checkpoint", NULL, err);
	for (int r = 0; r < 2 && !code; r++) {
		const mspec_forward_run *run = &f->runs[r];
		code = print_record(run_object(run), "run", run, err);
		for (int64_t l = 0; l < f->layers && !code; l++)
			code = print_record(layer_object(f, run, l), "layer", run, err);
		for (int64_t m = 0; m < f->matrices && !code; m++)
			code = print_record(matrix_object(&run->matrices[m]), "matrix", run, err);
	}
	return code;
}
