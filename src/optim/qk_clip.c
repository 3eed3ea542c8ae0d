/* QK-clip (Kimi K2, arXiv 2507.20534): queries and keys of heads with too large logits are scaled
 * down after a step. */
#include "optim/optim_internal.h"

#include "optim/exchanges.h"

#include <math.h>

/* ---- scaling -------------------------------------------------------------------------------- */

static void scale_chunk(muon_dtype dtype, void *entries, size_t count, double factor, double *x)
{
	muon_convert_f64(dtype, entries, count, x);
	for (size_t i = 0; i < count; i++)
		x[i] *= factor;
	muon_optim_store(dtype, x, count, entries);
}

/* Values that have no master: on every rank, which all have them. */
static void scale_values(const muon_optim_parameter *p, int64_t begin, int64_t end, double factor)
{
	double x[MUON_OPTIM_CHUNK];
	const size_t size = muon_dtype_size(p->given.dtype);
	for (int64_t at = begin; at < end; at += MUON_OPTIM_CHUNK)
		scale_chunk(p->given.dtype, (char *)p->given.values + (size_t)at * size,
			    muon_optim_chunk(at, end), factor, x);
}

/* Masters of own entries, and their values after them. */
static void scale_masters(const muon_optimizer *o, const muon_optim_parameter *p, int64_t begin,
			  int64_t end, double factor)
{
	double x[MUON_OPTIM_CHUNK];
	for (size_t i = p->first_piece; i < p->first_piece + p->piece_count; i++) {
		const muon_optim_piece *piece = &o->pieces[i];
		const int64_t last = end < piece->end ? end : piece->end;
		int64_t at = begin > piece->begin ? begin : piece->begin;
		for (; at < last; at += MUON_OPTIM_CHUNK) {
			const size_t count = muon_optim_chunk(at, last);
			void *master = muon_optim_state(o, piece, MUON_OPTIM_MASTER, at);
			scale_chunk(MUON_F32, master, count, factor, x);
			muon_optim_round(MUON_F32, x, count);
			muon_optim_store(MUON_BF16, x, count, (uint16_t *)p->given.values + at);
		}
	}
}

static void scale_rows(const muon_optimizer *o, size_t parameter, int64_t row, int64_t rows,
		       double factor)
{
	const muon_optim_parameter *p = &o->parameters[parameter];
	const int64_t cols = p->given.dims[1], begin = row * cols, end = (row + rows) * cols;
	if (factor == 1)
		return;
	if (p->given.dtype == MUON_BF16)
		scale_masters(o, p, begin, end, factor);
	else
		scale_values(p, begin, end, factor);
}

/* ---- factors -------------------------------------------------------------------------------- */

typedef struct clip {
	const muon_qk_layer *layer;
	const double *max_logits;
	double threshold, alpha;
} clip;

/* What a head's logits are to be multiplied with. A largest logit that is not positive, or NaN, is
 * not above the threshold. */
static double logit_factor(const clip *c, int head)
{
	const double largest = c->max_logits[head];
	return largest > c->threshold ? c->threshold / largest : 1;
}

/* The same of the head of a group that needs it most. */
static double group_factor(const clip *c, int key_head)
{
	const int group = c->layer->heads / c->layer->kv_heads;
	double least = 1;
	for (int i = 0; i < group; i++)
		least = fmin(least, logit_factor(c, key_head * group + i));
	return least;
}

static void clip_grouped(const muon_optimizer *o, const clip *c)
{
	const muon_qk_layer *l = c->layer;
	const int group = l->heads / l->kv_heads;
	for (int k = 0; k < l->kv_heads; k++) {
		const double key = pow(group_factor(c, k), 1 - c->alpha);
		scale_rows(o, l->key, k * l->head_dim, l->head_dim, key);
		for (int h = k * group; h < (k + 1) * group; h++)
			scale_rows(o, l->query, h * l->head_dim, l->head_dim,
				   logit_factor(c, h) / key);
	}
}

static void clip_latent(const muon_optimizer *o, const clip *c)
{
	const muon_qk_layer *l = c->layer;
	const int64_t nope = l->head_dim - l->rope_dim, key_rows = nope + l->value_dim;
	for (int h = 0; h < l->heads; h++) {
		const double factor = logit_factor(c, h), key = pow(factor, 1 - c->alpha);
		scale_rows(o, l->query, h * l->head_dim, nope, factor / key);
		scale_rows(o, l->query, h * l->head_dim + nope, l->rope_dim, factor);
		scale_rows(o, l->key, h * key_rows, nope, key);
	}
}

/* ---- checks --------------------------------------------------------------------------------- */

static int check_rows(const muon_optimizer *o, size_t parameter, int64_t heads, int64_t rows,
		      muon_error *err)
{
	const muon_parameter *p = &o->parameters[parameter].given;
	if (p->rank != 2 || p->dims[0] % heads || p->dims[0] / heads != rows)
		return muon_fail(err, MUON_E_USAGE, p->name,
				 "QK-clip: not a matrix of %lld heads of %lld rows",
				 (long long)heads, (long long)rows);
	return MUON_OK;
}

static int check_layer(const muon_optimizer *o, const muon_qk_layer *l, muon_error *err)
{
	const bool is_latent = l->rope_dim != 0 || l->value_dim != 0;
	if (l->query >= o->count || l->key >= o->count || l->query == l->key)
		return muon_fail(err, MUON_E_ARGUMENT, NULL,
				 "QK-clip: query and key are not two parameters");
	if (l->heads <= 0 || l->kv_heads <= 0 || l->heads % l->kv_heads || l->head_dim <= 0 ||
	    l->rope_dim < 0 || l->rope_dim >= l->head_dim || l->value_dim < 0 ||
	    (is_latent && l->kv_heads != l->heads))
		return muon_fail(err, MUON_E_ARGUMENT, o->parameters[l->query].given.name,
				 "QK-clip: these heads make no sense");
	int code = check_rows(o, l->query, l->heads, l->head_dim, err);
	if (code)
		return code;
	return check_rows(o, l->key, l->kv_heads, l->head_dim - l->rope_dim + l->value_dim, err);
}

static int check_clip(const muon_optimizer *o, const clip *c, muon_error *err)
{
	const char *name = o->parameters[c->layer->query].given.name;
	if (!(c->threshold > 0) || isinf(c->threshold) || !(c->alpha >= 0 && c->alpha <= 1))
		return muon_fail(err, MUON_E_ARGUMENT, name,
				 "QK-clip: threshold %g must be positive, alpha %g in [0, 1]",
				 c->threshold, c->alpha);
	for (int h = 0; h < c->layer->heads; h++)
		if (isinf(c->max_logits[h]) && c->max_logits[h] > 0)
			return muon_fail(err, MUON_E_NONFINITE, name,
					 "QK-clip: head %d has an infinite logit", h);
	return MUON_OK;
}

static int check_all(const muon_optimizer *o, const clip *c, muon_error *err)
{
	if (!c->layer || !c->max_logits)
		return muon_fail(err, MUON_E_USAGE, NULL, "QK-clip: %s is NULL",
				 c->layer ? "max_logits" : "the layer");
	int code = check_layer(o, c->layer, err);
	return code ? code : check_clip(o, c, err);
}

/* Of what ranks must have in common. */
static double hash_of(const clip *c)
{
	const muon_qk_layer *l = c->layer;
	const double numbers[] = {
	    (double)l->query,     (double)l->key,      l->heads,
	    l->kv_heads,          (double)l->head_dim, (double)l->rope_dim,
	    (double)l->value_dim, c->threshold,        c->alpha,
	};
	return muon_optim_hash(numbers, sizeof numbers / sizeof *numbers);
}

static int apply(muon_optimizer *o, const clip *c, int *above, muon_error *err)
{
	const muon_qk_layer *layer = c->layer;
	const bool has_masters = o->parameters[layer->query].given.dtype == MUON_BF16 ||
				 o->parameters[layer->key].given.dtype == MUON_BF16;
	*above = 0;
	for (int h = 0; h < layer->heads; h++)
		*above += logit_factor(c, h) < 1;
	if (!*above)
		return MUON_OK;
	if (layer->rope_dim || layer->value_dim)
		clip_latent(o, c);
	else
		clip_grouped(o, c);
	return has_masters ? muon_optim_all_gather(o, err) : MUON_OK;
}

/* The largest logits of all ranks, each of which has seen its own part of the batch. */
static int find_largest(const muon_optimizer *o, const clip *c, double *largest, muon_error *err)
{
	for (int h = 0; h < c->layer->heads; h++)
		largest[h] = isnan(c->max_logits[h]) ? -INFINITY : c->max_logits[h];
	return muon_comm_max(o->comm, largest, (size_t)c->layer->heads, err);
}

static int clip_ranks(muon_optimizer *o, clip *c, int *above, muon_error *err)
{
	double *largest = muon_alloc((size_t)c->layer->heads, sizeof *largest);
	int code = largest ? MUON_OK : muon_optim_out_of_memory(NULL, err);
	code = muon_optim_agree(o, code, err);
	if (!code)
		code = find_largest(o, c, largest, err);
	c->max_logits = largest;
	if (!code)
		code = apply(o, c, above, err);
	muon_free(largest);
	return code;
}

int muon_optimizer_qk_clip(muon_optimizer *o, const muon_qk_layer *layer, const double *max_logits,
			   double threshold, double alpha, int *clipped, muon_error *err)
{
	clip c = {layer, max_logits, threshold, alpha};
	int above = 0;
	int code = muon_optim_need(o, err);
	if (code)
		return code;
	code = check_all(o, &c, err);
	code = muon_optim_agree_on(o, code, code ? 0 : hash_of(&c), "what is to be clipped", err);
	if (!code)
		code = o->exchanges ? clip_ranks(o, &c, &above, err) : apply(o, &c, &above, err);
	if (clipped)
		*clipped = above;
	return code;
}
