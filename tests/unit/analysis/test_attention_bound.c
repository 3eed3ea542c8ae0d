/* Bounds of attention logits against maximisation by other means, and against what models reach. */
#include "analysis/attention_bound.h"
#include "base/random.h"
#include "unit/analysis/model_file.h"
#include "unit/checkpoint/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- products ------------------------------------------------------------------------------ */

/* Largest singular value of the m x n matrix, by as many steps of power iteration as it takes. */
static double largest_singular_value(const double *p, int64_t m, int64_t n)
{
	double *x = fixture_normal(n, 99), *y = muon_alloc((size_t)m, sizeof *y), value = 0;
	for (int step = 0; step < 20000; step++) {
		double length = 0;
		for (int64_t i = 0; i < m; i++) {
			y[i] = 0;
			for (int64_t k = 0; k < n; k++)
				y[i] += p[i * n + k] * x[k];
		}
		for (int64_t k = 0; k < n; k++) {
			x[k] = 0;
			for (int64_t i = 0; i < m; i++)
				x[k] += p[i * n + k] * y[i];
			length += x[k] * x[k];
		}
		length = sqrt(length);
		for (int64_t k = 0; k < n; k++)
			x[k] /= length;
		value = sqrt(length);
	}
	muon_free(x);
	muon_free(y);
	return value;
}

/* P = A^T B: A is n x m, B is n x k */
static double *product(const double *a, int64_t m, const double *b, int64_t k, int64_t n)
{
	double *p = muon_alloc((size_t)(m * k), sizeof *p);
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < k; j++)
			for (int64_t r = 0; r < n; r++)
				p[i * k + j] += a[r * m + i] * b[r * k + j];
	return p;
}

static double *gram_of(const double *a, int64_t n, int64_t m)
{
	double *g = muon_alloc((size_t)(n * n), sizeof *g);
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j < n; j++)
			for (int64_t k = 0; k < m; k++)
				g[i * n + j] += a[i * m + k] * a[j * m + k];
	return g;
}

static void check_product(int64_t n, int64_t m, int64_t k)
{
	double *a = fixture_normal(n * m, 1), *b = fixture_normal(n * k, 2);
	double *work = muon_alloc((size_t)(3 * n), sizeof *work);
	double *p = product(a, m, b, k, n), *ga = gram_of(a, n, m), *gb = gram_of(b, n, k);
	UNIT_CLOSE(mspec_product_norm(ga, gb, n, work), largest_singular_value(p, m, k), 1e-8);
	UNIT_CLOSE(mspec_product_norm(ga, NULL, n, work), largest_singular_value(a, n, m), 1e-8);
	muon_free(a);
	muon_free(b);
	muon_free(work);
	muon_free(p);
	muon_free(ga);
	muon_free(gb);
}

static void test_products(void)
{
	check_product(1, 1, 1);
	check_product(4, 9, 7);
	check_product(6, 3, 2); /* Gram matrices of less than full rank */
	check_product(8, 20, 5);
	double zero[9] = {0}, work[9];
	CU_ASSERT_EQUAL(mspec_product_norm(zero, zero, 3, work), 0);
}

/* ---- models -------------------------------------------------------------------------------- */

typedef struct opened {
	mspec_model_config config;
	float *parameters;
	mspec_checkpoint *checkpoint;
} opened;

/* `prepare` changes the parameters before they are written; may be NULL. */
static opened open_model(const mspec_model_config *config, void (*prepare)(opened *o))
{
	const char *path = scratch_path("attention-bound.h5");
	opened o = {.config = *config, .parameters = model_file_parameters(config, 21)};
	if (prepare)
		prepare(&o);
	const model_file file = MODEL_FILE(config, o.parameters);
	model_file_write(path, &file);
	o.checkpoint = scratch_open(path);
	return o;
}

static void close_model(opened *o)
{
	mspec_close(&o->checkpoint);
	muon_free(o->parameters);
}

/* Rows of a tensor of layer 1 as float64, their columns multiplied by `gain` unless NULL. */
static double *rows_of(const opened *o, const char *name, int64_t first, int64_t rows, int64_t cols,
                       const float *gain)
{
	char full[128];
	snprintf(full, sizeof full, "model.layers.1.%s.weight", name);
	const float *w = model_file_tensor(&o->config, o->parameters, full) + first * cols;
	double *out = muon_alloc((size_t)(rows * cols), sizeof *out);
	for (int64_t i = 0; i < rows * cols; i++)
		out[i] = (double)w[i] * (gain ? (double)gain[i % cols] : 1);
	return out;
}

static const float *gain_of(const opened *o, const char *name)
{
	char full[128];
	snprintf(full, sizeof full, "model.layers.1.%s.weight", name);
	return model_file_tensor(&o->config, o->parameters, full);
}

static void bounds_of(const opened *o, double *bounds)
{
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_attention_bounds(o->checkpoint, &o->config, 1, bounds, &err),
	                MUON_OK);
}

/* The largest logit over all inputs when the key is `angle` further on, each pair turning by its
 * own share of it: the norm's outputs have length sqrt(hidden). */
static double largest_at(const opened *o, const double *q, const double *k, double position)
{
	const int64_t d = o->config.head_dim, in = o->config.hidden, half = d / 2;
	double *turned = muon_alloc((size_t)(d * in), sizeof *turned);
	for (int64_t i = 0; i < half; i++) {
		double angle = position * pow(o->config.rope_theta, -2 * (double)i / (double)d);
		for (int64_t c = 0; c < in; c++) {
			double a = k[i * in + c], b = k[(i + half) * in + c];
			turned[i * in + c] = a * cos(angle) - b * sin(angle);
			turned[(i + half) * in + c] = b * cos(angle) + a * sin(angle);
		}
	}
	double *p = product(q, in, turned, in, d);
	double largest = largest_singular_value(p, in, in) * (double)in / sqrt((double)d);
	muon_free(turned);
	muon_free(p);
	return largest;
}

/* With one pair a head, positions turn keys into any direction, and the bound is reached; with more
 * it is not exceeded at any of them. Grouped queries: heads 0 and 1 share key head 0. */
static void check_llama(int64_t head_dim, double least_share)
{
	mspec_model_config config = fixture_llama();
	config.head_dim = head_dim;
	config.hidden = 6;
	config.rope_theta = 10000;
	opened o = open_model(&config, NULL);
	const float *gain = gain_of(&o, "input_layernorm");
	double bounds[8], most[8] = {0};
	bounds_of(&o, bounds);
	for (int64_t h = 0; h < config.heads; h++) {
		double *q = rows_of(&o, "self_attn.q_proj", h * head_dim, head_dim, 6, gain);
		double *k = rows_of(&o, "self_attn.k_proj", h / 2 * head_dim, head_dim, 6, gain);
		for (int position = 0; position < 12; position++)
			most[h] = fmax(most[h], largest_at(&o, q, k, position));
		CU_ASSERT_TRUE(most[h] <= bounds[h] * (1 + 1e-9));
		CU_ASSERT_TRUE(most[h] >= bounds[h] * least_share);
		muon_free(q);
		muon_free(k);
	}
	close_model(&o);
}

static void test_llama(void)
{
	check_llama(2, 0.97);
	check_llama(6, 0.5);
}

/* Queries and keys that are built to be turned onto each other at position 0. */
static void align(opened *o)
{
	const int64_t entries = o->config.head_dim * o->config.hidden;
	float *q =
	    model_file_tensor(&o->config, o->parameters, "model.layers.1.self_attn.q_proj.weight");
	float *k =
	    model_file_tensor(&o->config, o->parameters, "model.layers.1.self_attn.k_proj.weight");
	memcpy(q, k, (size_t)entries * sizeof *q);
}

/* Where Wq = Wk the bound is reached without any rotation, with the gain and the factor in full. */
static void test_aligned_heads(void)
{
	const mspec_model_config config = fixture_llama();
	const int64_t d = config.head_dim, in = config.hidden;
	opened o = open_model(&config, align);
	double bounds[8];
	bounds_of(&o, bounds);
	double *q = rows_of(&o, "self_attn.q_proj", 0, d, in, gain_of(&o, "input_layernorm"));
	UNIT_CLOSE(bounds[0], largest_at(&o, q, q, 0), 1e-8);
	muon_free(q);
	close_model(&o);
}

static void stop_rotating(opened *o)
{
	const mspec_model_config *c = &o->config;
	const int64_t d = c->nope_dim + c->rope_dim;
	float *q = model_file_tensor(c, o->parameters, "model.layers.1.self_attn.q_proj.weight");
	for (int64_t h = 0; h < c->heads; h++)
		memset(q + (h * d + c->nope_dim) * c->hidden, 0,
		       (size_t)(c->rope_dim * c->hidden) * sizeof *q);
}

static void only_rotate(opened *o)
{
	const mspec_model_config *c = &o->config;
	const int64_t d = c->nope_dim + c->rope_dim;
	float *q = model_file_tensor(c, o->parameters, "model.layers.1.self_attn.q_proj.weight");
	for (int64_t h = 0; h < c->heads; h++)
		memset(q + h * d * c->hidden, 0, (size_t)(c->nope_dim * c->hidden) * sizeof *q);
}

/* The part that doesn't rotate: |q.k| over all normed x and normed latents. */
static double largest_fixed(const opened *o, int64_t head)
{
	const mspec_model_config *c = &o->config;
	const int64_t d = c->nope_dim + c->rope_dim, kv = c->nope_dim + c->value_dim;
	double *q = rows_of(o, "self_attn.q_proj", head * d, c->nope_dim, c->hidden,
	                    gain_of(o, "input_layernorm"));
	double *k = rows_of(o, "self_attn.kv_b_proj", head * kv, c->nope_dim, c->kv_rank,
	                    gain_of(o, "self_attn.kv_a_layernorm"));
	double *p = product(q, c->hidden, k, c->kv_rank, c->nope_dim);
	double largest = largest_singular_value(p, c->hidden, c->kv_rank) *
	                 sqrt((double)(c->hidden * c->kv_rank));
	muon_free(q);
	muon_free(k);
	muon_free(p);
	return largest / sqrt((double)d);
}

/* The part that does, all heads having the same keys. */
static double largest_rotating(const opened *o, int64_t head)
{
	const mspec_model_config *c = &o->config;
	const int64_t d = c->nope_dim + c->rope_dim;
	const float *gain = gain_of(o, "input_layernorm");
	double *q =
	    rows_of(o, "self_attn.q_proj", head * d + c->nope_dim, c->rope_dim, c->hidden, gain);
	double *k =
	    rows_of(o, "self_attn.kv_a_proj_with_mqa", c->kv_rank, c->rope_dim, c->hidden, gain);
	double largest = largest_singular_value(q, c->rope_dim, c->hidden) *
	                 largest_singular_value(k, c->rope_dim, c->hidden) * (double)c->hidden;
	muon_free(q);
	muon_free(k);
	return largest / sqrt((double)d);
}

static void check_mla(void (*prepare)(opened *o), bool fixed, bool rotating)
{
	const mspec_model_config config = fixture_deepseek();
	opened o = open_model(&config, prepare);
	double bounds[8];
	bounds_of(&o, bounds);
	for (int64_t h = 0; h < config.heads; h++)
		UNIT_CLOSE(bounds[h],
		           (fixed ? largest_fixed(&o, h) : 0) +
		               (rotating ? largest_rotating(&o, h) : 0),
		           1e-8);
	close_model(&o);
}

static void test_mla(void)
{
	check_mla(stop_rotating, true, false);
	check_mla(only_rotate, false, true);
	check_mla(NULL, true, true);
}

/* No logit that a model computes is beyond its head's bound. */
static void check_reached(const mspec_model_config *config)
{
	enum { TOKENS = 400 };
	opened o = open_model(config, NULL);
	mspec_model *model;
	float *parameters;
	int32_t tokens[TOKENS];
	mspec_forward *f;
	double bounds[8];
	muon_random random;
	muon_random_seed(&random, 6);
	for (int i = 0; i < TOKENS; i++)
		tokens[i] = (int32_t)(muon_random_bits(&random) % (uint64_t)config->vocab);
	CU_ASSERT_EQUAL_FATAL(mspec_model_load(&model, &parameters, o.checkpoint, NULL), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(mspec_forward_run_model(&f, model, parameters, tokens, TOKENS,
	                                              &(mspec_forward_options){0}, NULL),
	                      MUON_OK);
	bounds_of(&o, bounds);
	for (int64_t h = 0; h < config->heads; h++) {
		double reached = f->runs[0].head_max_logits[config->heads + h];
		CU_ASSERT_TRUE(reached > 0 && reached <= bounds[h]);
		CU_ASSERT_TRUE(reached > bounds[h] / 50); /* or the bound is not of this head */
	}
	mspec_forward_destroy(&f);
	mspec_parameters_destroy(&parameters);
	mspec_model_destroy(&model);
	close_model(&o);
}

static void test_reached(void)
{
	const mspec_model_config llama = fixture_llama(), deepseek = fixture_deepseek();
	check_reached(&llama);
	check_reached(&deepseek);
}

/* ---- refusals ------------------------------------------------------------------------------ */

static void refuse(const opened *o, const mspec_model_config *config, int64_t layer, int code)
{
	double *bounds = muon_alloc(64, sizeof *bounds);
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_attention_bounds(o->checkpoint, config, layer, bounds, &err), code);
	CU_ASSERT_TRUE(*err.where && *err.message);
	muon_free(bounds);
}

static void spoil(opened *o)
{
	model_file_tensor(&o->config, o->parameters, "model.layers.1.self_attn.k_proj.weight")[7] =
	    NAN;
}

static void test_refusals(void)
{
	mspec_model_config config = fixture_llama();
	opened o = open_model(&config, spoil);
	refuse(&o, &config, 1, MUON_E_NONFINITE);
	refuse(&o, &config, 2, MUON_E_FORMAT); /* there is no such layer */
	config.hidden = 1 << 24;
	config.head_dim = 1 << 22; /* no memory is taken for what the file does not have */
	refuse(&o, &config, 0, MUON_E_FORMAT);
	config = fixture_deepseek();
	refuse(&o, &config, 0, MUON_E_FORMAT);
	close_model(&o);
}

UNIT_SUITE(attention_bound, {"products", test_products}, {"llama", test_llama},
           {"aligned_heads", test_aligned_heads}, {"mla", test_mla}, {"reached", test_reached},
           {"refusals", test_refusals})
