/* Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, §2.1) as a block, queries without a
 * latent: keys and values of all heads come out of one latent of kv_rank entries, and the rotating
 * part of a key is one that all heads share. */

/* Entries of one row. */
typedef struct OP(mla_widths) {
	int64_t qk;      /* of a head's query or key: what stays, then what turns */
	int64_t kv;      /* of a head's key without what turns, then its value */
	int64_t queries; /* of all heads */
	int64_t input;   /* queries, latent, shared key: one product's output */
} OP(mla_widths);

static OP(mla_widths) OP(mla_widths_of)(const mspec_model_config *c)
{
	const int64_t qk = c->nope_dim + c->rope_dim;
	return (OP(mla_widths)){
	    .qk = qk,
	    .kv = c->nope_dim + c->value_dim,
	    .queries = c->heads * qk,
	    .input = c->heads * qk + c->kv_rank + c->rope_dim,
	};
}

/* What is kept; of the gradients, which have the same shapes, what is in scratch. */
typedef struct OP(mla_parts) {
	real *input;   /* rows x input */
	real *latent;  /* rows x kv_rank, normed */
	real *rstd;    /* rows: of that norm */
	real *kv;      /* rows x heads kv */
	real *keys;    /* rows x heads qk: with the shared part */
	real *out;     /* rows x heads value_dim */
	real *weights; /* attention's; of gradients, its scratch */
} OP(mla_parts);

static OP(mla_parts) OP(mla_split)(const OP(run) *run, real *memory)
{
	const mspec_model_config *c = &run->model->config;
	const OP(mla_widths) width = OP(mla_widths_of)(c);
	OP(mla_parts) parts = {.input = memory};
	parts.latent = parts.input + run->rows * width.input;
	parts.rstd = parts.latent + run->rows * c->kv_rank;
	parts.kv = parts.rstd + run->rows;
	parts.keys = parts.kv + run->rows * c->heads * width.kv;
	parts.out = parts.keys + run->rows * width.queries;
	parts.weights = parts.out + run->rows * c->heads * c->value_dim;
	return parts;
}

/* Reals of all parts but `weights`. */
static size_t OP(mla_parts_size)(const mspec_model_config *c, const mspec_batch *batch)
{
	const OP(mla_widths) width = OP(mla_widths_of)(c);
	int64_t of_row = width.input + c->kv_rank + 1 + c->heads * width.kv + width.queries +
			 c->heads * c->value_dim;
	return mspec_times(mspec_batch_rows(batch), (size_t)of_row);
}

static size_t OP(mla_kept)(const mspec_model *model, int64_t layer, const mspec_batch *batch)
{
	(void)layer;
	return mspec_plus(OP(mla_parts_size)(&model->config, batch),
	                  OP(attention_weights_size)(batch, model->config.heads));
}

static size_t OP(mla_scratch)(const mspec_model *model, int64_t layer, const mspec_batch *batch)
{
	(void)layer;
	if (!batch->backward)
		return 0;
	return mspec_plus(OP(mla_parts_size)(&model->config, batch),
	                  OP(attention_scratch_size)(batch));
}

static OP(attention) OP(mla_attention)(const OP(run) *run, int64_t layer,
                                       const OP(mla_parts) *parts)
{
	const mspec_model_config *c = &run->model->config;
	const OP(mla_widths) width = OP(mla_widths_of)(c);
	return (OP(attention)){
	    .layer = layer,
	    .heads = c->heads,
	    .kv_heads = c->heads,
	    .qk_dim = width.qk,
	    .value_dim = c->value_dim,
	    .q = {parts->input, width.input, width.qk},
	    .k = {parts->keys, width.queries, width.qk},
	    .v = {parts->kv + c->nope_dim, c->heads * width.kv, width.kv},
	    .out = {parts->out, c->heads * c->value_dim, c->value_dim},
	    .weights = parts->weights,
	};
}

/* Turn the last rope_dim entries of each query, and the shared key behind the latent. */
static void OP(mla_turn)(const OP(run) *run, real *input, bool back)
{
	const mspec_model_config *c = &run->model->config;
	const OP(mla_widths) width = OP(mla_widths_of)(c);
	OP(rope)(run, input + c->nope_dim, width.input, width.qk, c->heads, c->rope_dim, true,
	         back);
	OP(rope)(run, input + width.queries + c->kv_rank, width.input, c->rope_dim, 1, c->rope_dim,
	         true, back);
}

/* keys = each head's own part, then the shared one. */
static void OP(mla_join_keys)(const OP(run) *run, const OP(mla_parts) *parts)
{
	const mspec_model_config *c = &run->model->config;
	const OP(mla_widths) width = OP(mla_widths_of)(c);
	const real *shared = parts->input + width.queries + c->kv_rank, *kv = parts->kv;
	real *key = parts->keys;
	for (int64_t t = 0; t < run->rows; t++, shared += width.input)
		for (int64_t h = 0; h < c->heads; h++, kv += width.kv, key += width.qk) {
			memcpy(key, kv, (size_t)c->nope_dim * sizeof *key);
			memcpy(key + c->nope_dim, shared, (size_t)c->rope_dim * sizeof *key);
		}
}

/* The way back: the shared part's gradient is the sum over heads, rounded once. */
static void OP(mla_split_keys)(const OP(run) *run, const OP(mla_parts) *d)
{
	const mspec_model_config *c = &run->model->config;
	const OP(mla_widths) width = OP(mla_widths_of)(c);
	const real *key = d->keys;
	real *shared = d->input + width.queries + c->kv_rank, *kv = d->kv;
	for (int64_t t = 0; t < run->rows; t++, shared += width.input) {
		memset(shared, 0, (size_t)c->rope_dim * sizeof *shared);
		for (int64_t h = 0; h < c->heads; h++, kv += width.kv, key += width.qk) {
			memcpy(kv, key, (size_t)c->nope_dim * sizeof *kv);
			for (int64_t i = 0; i < c->rope_dim; i++)
				shared[i] += key[c->nope_dim + i];
		}
		OP(round)(run, shared, c->rope_dim);
	}
}

static void OP(mla_forward)(OP(run) *run, int64_t layer, const real *x, real *y, real *kept)
{
	const mspec_model_config *c = &run->model->config;
	const mspec_model_layer *l = &run->model->layers[layer];
	const OP(mla_widths) width = OP(mla_widths_of)(c);
	const OP(mla_parts) parts = OP(mla_split)(run, kept);
	const OP(attention) a = OP(mla_attention)(run, layer, &parts);
	OP(linear_forward)(run, l->q, 2, x, c->hidden, run->rows, parts.input);
	OP(norm_forward)(run, l->kv_a_norm, parts.input + width.queries, width.input, run->rows,
	                 parts.latent, parts.rstd);
	OP(linear_forward)(run, l->kv_b, 1, parts.latent, c->kv_rank, run->rows, parts.kv);
	OP(mla_turn)(run, parts.input, false);
	OP(mla_join_keys)(run, &parts);
	OP(causal_forward)(run, &a);
	OP(linear_forward)(run, l->o, 1, parts.out, a.out.ld, run->rows, y);
}

static void OP(mla_backward)(OP(run) *run, int64_t layer, const real *x, const real *dy, real *dx,
                             real *kept)
{
	const mspec_model_config *c = &run->model->config;
	const mspec_model_layer *l = &run->model->layers[layer];
	const OP(mla_widths) width = OP(mla_widths_of)(c);
	const OP(mla_parts) parts = OP(mla_split)(run, kept);
	const OP(mla_parts) d = OP(mla_split)(run, run->scratch);
	const OP(attention) a = OP(mla_attention)(run, layer, &parts);
	const OP(attention) da = OP(mla_attention)(run, layer, &d); /* where the gradients go */
	real *d_latent = d.input + width.queries;                   /* before the norm */
	OP(linear_backward)(run, l->o, 1, parts.out, a.out.ld, dy, run->rows, d.out, false);
	OP(causal_backward)(run, &a, da.out, da.q, da.k, da.v, d.weights);
	OP(mla_split_keys)(run, &d);
	OP(mla_turn)(run, d.input, true);
	OP(linear_backward)(run, l->kv_b, 1, parts.latent, c->kv_rank, d.kv, run->rows, d.latent,
	                    false);
	OP(zero_rows)(d_latent, run->rows, c->kv_rank, width.input); /* the norm adds */
	OP(norm_backward)(run, l->kv_a_norm, parts.input + width.queries, width.input, run->rows,
	                  parts.rstd, d.latent, d_latent);
	OP(linear_backward)(run, l->q, 2, x, c->hidden, d.input, run->rows, dx, false);
}

const OP(block) OP(mla_block) = {
    .kept = OP(mla_kept),
    .scratch = OP(mla_scratch),
    .forward = OP(mla_forward),
    .backward = OP(mla_backward),
};
