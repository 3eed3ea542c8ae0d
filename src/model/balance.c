/* Balance of the experts' load by their biases, without a loss for it. */
#include "model/model_internal.h"

/* 1, 0 or -1 as the load is below, at or above the mean. */
static int direction(int64_t load, int64_t total, int64_t experts)
{
	const double below_mean = (double)total - (double)load * (double)experts;
	return (below_mean > 0) - (below_mean < 0);
}

void mspec_model_balance(const mspec_model *model, float *parameters, const int64_t *expert_tokens,
                         double speed)
{
	const int64_t experts = model->config.experts;
	for (int64_t l = 0; l < model->config.layers; l++) {
		const int64_t *load = expert_tokens + l * experts;
		int64_t total = 0;
		if (!model->layers[l].is_moe)
			continue;
		float *bias = parameters + model->tensors[model->layers[l].router_bias].offset;
		for (int64_t e = 0; e < experts; e++)
			total += load[e];
		for (int64_t e = 0; e < experts; e++)
			bias[e] += (float)(speed * direction(load[e], total, experts));
	}
}
