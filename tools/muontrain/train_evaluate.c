#include "trainer.h"

#include <math.h>

/* What the log says about the activations of all layers. */
static void summarize_layers(trainer *t)
{
	double sumsq = 0, count = 0, max_abs = 0, logit = -INFINITY, over = 0, logits = 0;
	for (int64_t i = 0; i < t->config.layers; i++) {
		const mspec_layer_record *layer = &t->records->records.layers[i];
		sumsq += layer->output_sumsq;
		count += layer->output_count;
		max_abs = fmax(max_abs, layer->output_max_abs);
		logit = fmax(logit, layer->max_attention_logit);
		over += layer->logits_over_100;
		logits += layer->logit_count;
	}
	t->row.output_rms = sqrt(sumsq / count);
	t->row.output_max_abs = max_abs;
	t->row.max_attention_logit = logit;
	t->row.share_logits_over_100 = over / logits;
}

int trainer_evaluate(trainer *t, muon_error *err)
{
	const batch_work work = {.parameters = t->parameters,
	                         .tokens = t->held_out.tokens,
	                         .targets = t->held_out.targets,
	                         .sequences = t->held_out.count,
	                         .bf16 = t->options->precision != PRECISION_FLOAT32,
	                         .full_records = true};
	int code = micro_batches_run(t->batches, &work, &t->records, err);
	code = t->comm ? muon_comm_agree(t->comm, code) : code;
	if (!code)
		code = batch_sums_over_ranks(t->model, t->comm, t->records, err);
	if (code)
		return code;
	t->evaluated = t->step;
	t->held_out_loss = t->records->loss / t->records->targets;
	t->row.held_out_loss = t->held_out_loss;
	if (!isfinite(t->held_out_loss))
		return muon_fail(err, MUON_E_NONFINITE, NULL,
		                 "the held-out loss after step %lld is %s: the training has diverged",
		                 (long long)t->step, isnan(t->held_out_loss) ? "NaN" : "Inf");
	summarize_layers(t);
	return MUON_OK;
}
