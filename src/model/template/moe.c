/* A mixture of experts as a block (DeepSeek-V3, arXiv 2412.19437, §2.1.2, experts not in groups):
 * y = shared(x) + sum over the chosen of gate_e expert_e(x). Scores are sigmoids; the top_k experts
 * of the largest score + bias are chosen, and their gates are routed_scale times their scores over
 * the sum of these; with one alone, which that would leave without a gradient, times its score.
 * There is no capacity: an expert takes all tokens that choose it. The router's own numbers are not
 * rounded in bf16 models, as they are float32 in DeepSeek's. */

/* Tokens that choose an expert are gathered one after the other, experts in order. A choice is
 * number t * top_k + j: the j-th of token t; its place is where its token went. */
typedef struct OP(moe_parts) {
	real *scores;    /* rows x experts */
	real *gates;     /* rows x top_k */
	int32_t *chosen; /* rows x top_k: the expert of a choice */
	int32_t *place;  /* rows x top_k */
	int32_t *choice; /* rows x top_k: the choice at a place */
	int32_t *first;  /* experts + 1: place of an expert's first token */
	real *gate_up;   /* rows top_k x 2 expert_ffn, by place */
	real *out;       /* rows top_k x hidden, by place: the experts' outputs; backward leaves the
	                    gradients of their inputs there */
	real *shared;    /* rows x 2 shared_experts expert_ffn */
} OP(moe_parts);

static OP(moe_parts) OP(moe_split)(const OP(run) *run, real *kept)
{
	const mspec_model_config *c = &run->model->config;
	const int64_t choices = run->rows * c->top_k;
	OP(moe_parts) parts = {.scores = kept};
	parts.gates = parts.scores + run->rows * c->experts;
	parts.chosen = (int32_t *)(parts.gates + choices);
	parts.place = (int32_t *)(parts.gates + 2 * choices);
	parts.choice = (int32_t *)(parts.gates + 3 * choices);
	parts.first = (int32_t *)(parts.gates + 4 * choices);
	parts.gate_up = parts.gates + 4 * choices + c->experts + 1;
	parts.out = parts.gate_up + choices * 2 * c->expert_ffn;
	parts.shared = parts.out + choices * c->hidden;
	return parts;
}

static size_t OP(moe_kept)(const mspec_model *model, int64_t layer, const mspec_batch *batch)
{
	(void)layer;
	const mspec_model_config *c = &model->config;
	size_t of_choice = (size_t)(4 + 2 * c->expert_ffn + c->hidden);
	size_t of_row = mspec_plus((size_t)(c->experts + 2 * c->shared_experts * c->expert_ffn),
	                           mspec_times((size_t)c->top_k, of_choice));
	return mspec_plus(mspec_times(mspec_batch_rows(batch), of_row), (size_t)c->experts + 1);
}

/* Of the widest MLP. */
static int64_t OP(moe_width)(const mspec_model_config *c)
{
	return (c->shared_experts > 1 ? c->shared_experts : 1) * c->expert_ffn;
}

static size_t OP(moe_scratch)(const mspec_model *model, int64_t layer, const mspec_batch *batch)
{
	(void)layer;
	const mspec_model_config *c = &model->config;
	int64_t of_row = c->hidden + OP(moe_width)(c);
	if (batch->backward)
		of_row = c->experts + c->top_k + 2 * c->hidden + 3 * OP(moe_width)(c);
	return mspec_times(mspec_batch_rows(batch), (size_t)of_row);
}

/* ---- router ------------------------------------------------------------------------------- */

SIMD_CLONES
static void OP(sigmoids)(real *x, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		x[i] = OP(sigmoid)(x[i]);
}

/* The top_k of the largest score + bias, largest first, the earlier of equals; a NaN is chosen only
 * among the first top_k. */
static void OP(choose)(const real *scores, const real *bias, int64_t experts, int64_t top_k,
                       int32_t *chosen)
{
	for (int32_t e = 0; e < experts; e++) {
		const real key = scores[e] + bias[e];
		int64_t at = e < top_k ? e : top_k;
		while (at > 0 && key > scores[chosen[at - 1]] + bias[chosen[at - 1]]) {
			if (at < top_k)
				chosen[at] = chosen[at - 1];
			at--;
		}
		if (at < top_k)
			chosen[at] = e;
	}
}

/* What one token's scores are divided by. Not 0 even where they all are, as Hugging Face has it. */
static real OP(gate_divisor)(const real *scores, const int32_t *chosen, int64_t top_k)
{
	real sum = (real)1e-20;
	if (top_k == 1)
		return 1;
	for (int64_t j = 0; j < top_k; j++)
		sum += scores[chosen[j]];
	return sum;
}

/* Where each choice's token goes. */
static void OP(place_tokens)(const OP(run) *run, const OP(moe_parts) *parts)
{
	const mspec_model_config *c = &run->model->config;
	const int32_t choices = (int32_t)(run->rows * c->top_k);
	memset(parts->first, 0, (size_t)(c->experts + 1) * sizeof *parts->first);
	for (int32_t i = 0; i < choices; i++)
		parts->first[parts->chosen[i] + 1]++;
	for (int64_t e = 0; e < c->experts; e++)
		parts->first[e + 1] += parts->first[e];
	for (int32_t i = 0; i < choices; i++) { /* first becomes the next expert's, */
		int32_t place = parts->first[parts->chosen[i]]++;
		parts->place[i] = place;
		parts->choice[place] = i;
	}
	for (int64_t e = c->experts; e > 0; e--) /* and is moved back */
		parts->first[e] = parts->first[e - 1];
	parts->first[0] = 0;
}

static void OP(record_experts)(const OP(run) *run, int64_t layer, const OP(moe_parts) *parts)
{
	const int64_t experts = run->model->config.experts;
	if (!run->records || !run->records->expert_tokens)
		return;
	for (int64_t e = 0; e < experts; e++)
		run->records->expert_tokens[layer * experts + e] +=
		    parts->first[e + 1] - parts->first[e];
}

static void OP(router_forward)(const OP(run) *run, int64_t layer, const real *x,
                               const OP(moe_parts) *parts)
{
	const mspec_model_config *c = &run->model->config;
	const mspec_model_layer *l = &run->model->layers[layer];
	const real *bias = run->parameters + run->model->tensors[l->router_bias].offset;
	OP(linear_unrounded)(run, l->router, 1, x, c->hidden, run->rows, parts->scores);
	OP(sigmoids)(parts->scores, run->rows * c->experts);
	for (int64_t t = 0; t < run->rows; t++) {
		const real *scores = parts->scores + t * c->experts;
		int32_t *chosen = parts->chosen + t * c->top_k;
		OP(choose)(scores, bias, c->experts, c->top_k, chosen);
		const real factor =
		    (real)c->routed_scale / OP(gate_divisor)(scores, chosen, c->top_k);
		for (int64_t j = 0; j < c->top_k; j++)
			parts->gates[t * c->top_k + j] = factor * scores[chosen[j]];
	}
	OP(place_tokens)(run, parts);
	OP(record_experts)(run, layer, parts);
}

/* From the gradients of the gates: with S the sum of the chosen scores s and r = routed_scale,
 * gate_j = r s_j / S, so that ds_j = (r dgate_j - sum over i of dgate_i gate_i) / S. */
static void OP(router_backward)(const OP(run) *run, int64_t layer, const real *x,
                                const OP(moe_parts) *parts, const real *d_gates, real *d_scores,
                                real *dx)
{
	const mspec_model_config *c = &run->model->config;
	memset(d_scores, 0, (size_t)(run->rows * c->experts) * sizeof *d_scores);
	for (int64_t t = 0; t < run->rows; t++) {
		const real *scores = parts->scores + t * c->experts, *d = d_gates + t * c->top_k;
		const int32_t *chosen = parts->chosen + t * c->top_k;
		const real sum = OP(gate_divisor)(scores, chosen, c->top_k);
		real mean = 0;
		for (int64_t j = 0; j < c->top_k && c->top_k > 1; j++)
			mean += d[j] * parts->gates[t * c->top_k + j];
		for (int64_t j = 0; j < c->top_k; j++) {
			const real s = scores[chosen[j]];
			d_scores[t * c->experts + chosen[j]] =
			    ((real)c->routed_scale * d[j] - mean) / sum * s * (1 - s);
		}
	}
	OP(linear_backward)(run, run->model->layers[layer].router, 1, x, c->hidden, d_scores,
	                    run->rows, dx, true);
}

/* ---- experts ------------------------------------------------------------------------------ */

/* One expert's tokens: places [first, first + rows). */
typedef struct OP(expert) {
	size_t gate; /* its first tensor */
	int64_t first, rows;
} OP(expert);

static OP(expert) OP(expert_at)(const OP(run) *run, int64_t layer, const OP(moe_parts) *parts,
                                int64_t e)
{
	return (OP(expert)){
	    .gate = run->model->layers[layer].experts + 3 * (size_t)e,
	    .first = parts->first[e],
	    .rows = parts->first[e + 1] - parts->first[e],
	};
}

/* Rows of x (rows x hidden) in the order of the expert's places. */
static void OP(gather)(const OP(run) *run, const OP(moe_parts) *parts, const OP(expert) *expert,
                       const real *x, real *gathered)
{
	const int64_t hidden = run->model->config.hidden, top_k = run->model->config.top_k;
	for (int64_t i = 0; i < expert->rows; i++)
		memcpy(gathered + i * hidden,
		       x + parts->choice[expert->first + i] / top_k * hidden,
		       (size_t)hidden * sizeof *x);
}

SIMD_CLONES
static void OP(add_multiple)(real *restrict sum, real factor, const real *restrict x, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		sum[i] += factor * x[i];
}

/* Add each token's rows at its places to y, with the gates as factors or, if NULL, without. */
static void OP(scatter)(const OP(run) *run, const OP(moe_parts) *parts, const real *gates, real *y)
{
	const int64_t hidden = run->model->config.hidden, top_k = run->model->config.top_k;
	for (int64_t i = 0; i < run->rows * top_k; i++)
		OP(add_multiple)(y + i / top_k * hidden, gates ? gates[i] : 1,
		                 parts->out + parts->place[i] * hidden, hidden);
	OP(round)(run, y, run->rows * hidden);
}

static void OP(moe_forward)(OP(run) *run, int64_t layer, const real *x, real *y, real *kept)
{
	const mspec_model_config *c = &run->model->config;
	const OP(moe_parts) parts = OP(moe_split)(run, kept);
	real *gathered = run->scratch, *act = gathered + run->rows * c->hidden;
	OP(router_forward)(run, layer, x, &parts);
	if (c->shared_experts)
		OP(swiglu_mlp_forward)(run, run->model->layers[layer].shared_gate, x, run->rows, y,
		                       parts.shared, act);
	else
		memset(y, 0, (size_t)(run->rows * c->hidden) * sizeof *y);
	for (int64_t e = 0; e < c->experts; e++) {
		const OP(expert) expert = OP(expert_at)(run, layer, &parts, e);
		OP(gather)(run, &parts, &expert, x, gathered);
		OP(swiglu_mlp_forward)(run, expert.gate, gathered, expert.rows,
		                       parts.out + expert.first * c->hidden,
		                       parts.gate_up + expert.first * 2 * c->expert_ffn, act);
	}
	OP(scatter)(run, &parts, parts.gates, y);
}

/* Gradients of an expert's gates, and in place of each gathered row of dy that of its output. */
static void OP(gates_backward)(const OP(run) *run, const OP(moe_parts) *parts,
                               const OP(expert) *expert, real *dy, real *d_gates)
{
	const int64_t hidden = run->model->config.hidden;
	for (int64_t i = 0; i < expert->rows; i++) {
		const int64_t place = expert->first + i;
		const int32_t choice = parts->choice[place];
		d_gates[choice] = OP(dot)(dy + i * hidden, parts->out + place * hidden, hidden);
		OP(multiply)(dy + i * hidden, hidden, parts->gates[choice]);
	}
	OP(round)(run, dy, expert->rows * hidden);
}

static void OP(moe_backward)(OP(run) *run, int64_t layer, const real *x, const real *dy, real *dx,
                             real *kept)
{
	const mspec_model_config *c = &run->model->config;
	const OP(moe_parts) parts = OP(moe_split)(run, kept);
	real *d_scores = run->scratch, *d_gates = d_scores + run->rows * c->experts;
	real *gathered = d_gates + run->rows * c->top_k;
	real *d_out = gathered + run->rows * c->hidden, *scratch = d_out + run->rows * c->hidden;
	if (c->shared_experts)
		OP(swiglu_mlp_backward)(run, run->model->layers[layer].shared_gate, x, run->rows,
		                        dy, dx, false, parts.shared, scratch);
	else
		memset(dx, 0, (size_t)(run->rows * c->hidden) * sizeof *dx);
	for (int64_t e = 0; e < c->experts; e++) {
		const OP(expert) expert = OP(expert_at)(run, layer, &parts, e);
		OP(gather)(run, &parts, &expert, x, gathered);
		OP(gather)(run, &parts, &expert, dy, d_out);
		OP(gates_backward)(run, &parts, &expert, d_out, d_gates);
		OP(swiglu_mlp_backward)(run, expert.gate, gathered, expert.rows, d_out,
		                        parts.out + expert.first * c->hidden, false,
		                        parts.gate_up + expert.first * 2 * c->expert_ffn, scratch);
	}
	OP(scatter)(run, &parts, NULL, dx);
	OP(router_backward)(run, layer, x, &parts, d_gates, d_scores, dx);
}

const OP(block) OP(moe_block) = {
    .kept = OP(moe_kept),
    .scratch = OP(moe_scratch),
    .forward = OP(moe_forward),
    .backward = OP(moe_backward),
};
