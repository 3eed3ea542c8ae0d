/* QK-clip (Kimi K2, arXiv 2507.20534). */
#include "trainer.h"

#include <string.h>

/* Index, among those that the optimizer has, of the layer's matrix. */
static size_t find_parameter(const trainer *t, int64_t layer, const char *matrix)
{
	char name[80];
	size_t index = 0;
	snprintf(name, sizeof name, "model.layers.%lld.self_attn.%s.weight", (long long)layer,
	         matrix);
	for (size_t i = 0; i < mspec_model_tensor_count(t->model); i++) {
		const mspec_model_tensor *m = mspec_model_tensor_at(t->model, i);
		if (!strcmp(m->name, name))
			return index;
		index += m->trained;
	}
	return SIZE_MAX;
}

static muon_qk_layer describe_layer(const trainer *t, int64_t layer)
{
	const mspec_model_config *c = &t->config;
	bool latent = c->family == MSPEC_FAMILY_DEEPSEEK;
	return (muon_qk_layer){
	    .query = find_parameter(t, layer, "q_proj"),
	    .key = find_parameter(t, layer, latent ? "kv_b_proj" : "k_proj"),
	    .heads = (int)c->heads,
	    .kv_heads = (int)c->kv_heads,
	    .head_dim = latent ? c->nope_dim + c->rope_dim : c->head_dim,
	    .rope_dim = latent ? c->rope_dim : 0,
	    .value_dim = latent ? c->value_dim : 0};
}

int trainer_clip(trainer *t, const double *head_max_logits, muon_error *err)
{
	const double alpha = 0.5; /* queries and keys share */
	int code = MUON_OK;
	t->row.clipped_heads = 0;
	for (int64_t layer = 0; layer < t->config.layers && !code; layer++) {
		const muon_qk_layer heads = describe_layer(t, layer);
		int clipped = 0;
		code = muon_optimizer_qk_clip(t->optimizer, &heads,
		                              head_max_logits + layer * t->config.heads,
		                              t->options->qk_clip, alpha, &clipped, err);
		t->row.clipped_heads += clipped;
	}
	return code;
}
