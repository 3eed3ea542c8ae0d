/* Llama's attention as a block: q, k and v of the normed stream, turned, attention, o. */

static int64_t OP(qkv_width)(const mspec_model_config *c)
{
	return (c->heads + 2 * c->kv_heads) * c->head_dim;
}

/* kept: q, k and v (one product's output), attention's output, its weights. */
typedef struct OP(attention_kept) {
	real *qkv, *out, *weights;
} OP(attention_kept);

static OP(attention_kept) OP(attention_split)(const OP(run) *run, real *kept)
{
	const mspec_model_config *c = &run->model->config;
	real *out = kept + run->rows * OP(qkv_width)(c);
	return (OP(attention_kept)){kept, out, out + run->rows * c->heads * c->head_dim};
}

static size_t OP(attention_kept_size)(const mspec_model *model, int64_t layer,
                                      const mspec_batch *batch)
{
	(void)layer;
	const mspec_model_config *c = &model->config;
	size_t width = (size_t)(OP(qkv_width)(c) + c->heads * c->head_dim);
	return mspec_plus(mspec_times(mspec_batch_rows(batch), width),
	                  OP(attention_weights_size)(batch, c->heads));
}

static size_t OP(attention_block_scratch)(const mspec_model *model, int64_t layer,
                                          const mspec_batch *batch)
{
	(void)layer;
	const mspec_model_config *c = &model->config;
	if (!batch->backward)
		return 0;
	size_t width = (size_t)(OP(qkv_width)(c) + c->heads * c->head_dim);
	return mspec_plus(mspec_times(mspec_batch_rows(batch), width),
	                  OP(attention_scratch_size)(batch));
}

/* The parts of what q, k and v make together, rows x qkv_width. */
static void OP(qkv_views)(const mspec_model_config *c, real *qkv, OP(heads) *q, OP(heads) *k,
                          OP(heads) *v)
{
	int64_t width = OP(qkv_width)(c);
	*q = (OP(heads)){qkv, width, c->head_dim};
	*k = (OP(heads)){qkv + c->heads * c->head_dim, width, c->head_dim};
	*v = (OP(heads)){k->at + c->kv_heads * c->head_dim, width, c->head_dim};
}

static OP(attention) OP(attention_of)(const OP(run) *run, int64_t layer,
                                      const OP(attention_kept) *kept)
{
	const mspec_model_config *c = &run->model->config;
	OP(attention) a = {
	    .layer = layer,
	    .heads = c->heads,
	    .kv_heads = c->kv_heads,
	    .qk_dim = c->head_dim,
	    .value_dim = c->head_dim,
	    .out = {kept->out, c->heads * c->head_dim, c->head_dim},
	    .weights = kept->weights,
	};
	OP(qkv_views)(c, kept->qkv, &a.q, &a.k, &a.v);
	return a;
}

/* Queries and keys are neighbours, and so are turned together. */
static void OP(turn)(const OP(run) *run, real *qkv, bool back)
{
	const mspec_model_config *c = &run->model->config;
	OP(rope)(run, qkv, OP(qkv_width)(c), c->head_dim, c->heads + c->kv_heads, c->head_dim, false,
	         back);
}

static void OP(attention_forward)(OP(run) *run, int64_t layer, const real *x, real *y, real *kept)
{
	const mspec_model_config *c = &run->model->config;
	const mspec_model_layer *l = &run->model->layers[layer];
	OP(attention_kept) parts = OP(attention_split)(run, kept);
	OP(attention) a = OP(attention_of)(run, layer, &parts);
	OP(linear_forward)(run, l->q, 3, x, c->hidden, run->rows, parts.qkv);
	OP(turn)(run, parts.qkv, false);
	OP(causal_forward)(run, &a);
	OP(linear_forward)(run, l->o, 1, parts.out, a.out.ld, run->rows, y);
}

static void OP(attention_backward)(OP(run) *run, int64_t layer, const real *x, const real *dy,
                                   real *dx, real *kept)
{
	const mspec_model_config *c = &run->model->config;
	const mspec_model_layer *l = &run->model->layers[layer];
	OP(attention_kept) parts = OP(attention_split)(run, kept);
	OP(attention) a = OP(attention_of)(run, layer, &parts);
	OP(attention_kept) d = OP(attention_split)(run, run->scratch); /* weights: scratch */
	OP(heads) dout = {d.out, a.out.ld, a.out.step}, dq, dk, dv;
	OP(qkv_views)(c, d.qkv, &dq, &dk, &dv);
	OP(linear_backward)(run, l->o, 1, parts.out, a.out.ld, dy, run->rows, d.out, false);
	OP(causal_backward)(run, &a, dout, dq, dk, dv, d.weights);
	OP(turn)(run, d.qkv, true);
	OP(linear_backward)(run, l->q, 3, x, c->hidden, d.qkv, run->rows, dx, false);
}

const OP(block) OP(attention_block) = {
    .kept = OP(attention_kept_size),
    .scratch = OP(attention_block_scratch),
    .forward = OP(attention_forward),
    .backward = OP(attention_backward),
};
