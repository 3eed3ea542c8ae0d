#include "analysis/attention_bound.h"

#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_ITERATIONS = 20000, NAME = 96 };

/* ---- spectral norms ---------------------------------------------------------------------------
 */

static double dot(const double *x, const double *y, int64_t n)
{
	enum { LANES = 4 };
	double sums[LANES] = {0};
	int64_t i = 0;
	for (; i + LANES <= n; i += LANES)
		for (int l = 0; l < LANES; l++)
			sums[l] += x[i + l] * y[i + l];
	for (; i < n; i++)
		sums[0] += x[i] * y[i];
	return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* y = a x, a being n x n */
static void multiply(const double *a, const double *x, int64_t n, double *y)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = dot(a + i * n, x, n);
}

/* a b has the eigenvalues of the symmetric b^(1/2) a b^(1/2), those of (A^T B)(A^T B)^T. Its
 * largest is the quotient (x, a x) / (v, x) with x = b v at its end. */
double mspec_product_norm(const double *a, const double *b, int64_t n, double *work)
{
	double *v = work, *x = work + n, *y = work + 2 * n, last = 0, value = 0;
	muon_random random;
	muon_random_seed(&random, (uint64_t)n);
	for (int64_t i = 0; i < n; i++)
		v[i] = muon_random_normal(&random);
	for (int i = 0; i < MOST_ITERATIONS; i++) {
		if (b)
			multiply(b, v, n, x);
		else
			memcpy(x, v, (size_t)n * sizeof *x);
		multiply(a, x, n, y);
		double below = dot(v, x, n);
		value = below > 0 ? dot(x, y, n) / below : 0;
		double norm = sqrt(dot(y, y, n));
		if (!(norm > 0) || fabs(value - last) <= 1e-13 * value)
			break;
		for (int64_t k = 0; k < n; k++)
			v[k] = y[k] / norm;
		last = value;
	}
	return sqrt(value);
}

static void gram(const double *w, int64_t rows, int64_t cols, double *g)
{
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j <= i; j++)
			g[i * rows + j] = g[j * rows + i] = dot(w + i * cols, w + j * cols, cols);
}

/* ---- reading ----------------------------------------------------------------------------- */

typedef struct bound_job {
	mspec_checkpoint *checkpoint;
	const mspec_model_config *config;
	int64_t layer;
	muon_arena arena;
	void *raw; /* room for a block as stored */
	muon_error *err;
	int code;
} bound_job;

/* A matrix of the layer, or a vector of its norms (rows 1). */
typedef struct layer_tensor {
	size_t index;
	int64_t rows, cols;
} layer_tensor;

/* The layer's tensor "`name`.weight": a configuration may ask for any shape, so it is looked up
 * before memory is taken for it. */
static layer_tensor find(bound_job *job, const char *name, int64_t rows, int64_t cols)
{
	char full[NAME];
	snprintf(full, sizeof full, "model.layers.%lld.%s.weight", (long long)job->layer, name);
	size_t index = mspec_find_tensor(job->checkpoint, full);
	const mspec_tensor *t = index == SIZE_MAX ? NULL : mspec_tensor_at(job->checkpoint, index);
	if (job->code)
		return (layer_tensor){0};
	if (!t || t->rank != (rows == 1 ? 1 : 2) || t->dims[t->rank - 1] != cols ||
	    t->elements != rows * cols)
		job->code = muon_fail(job->err, MUON_E_FORMAT, full,
		                      "is missing or not of the shape that the configuration says");
	else if (t->status)
		job->code = muon_fail(job->err, t->status, full, "%s", t->problem);
	return (layer_tensor){index, rows, cols};
}

static double *allocate(bound_job *job, int64_t rows, int64_t cols)
{
	double *block = muon_arena_alloc(&job->arena, (size_t)rows, (size_t)cols * sizeof *block);
	if (!block && !job->code)
		job->code = muon_fail(job->err, MUON_E_MEMORY, NULL, "out of memory");
	return block;
}

/* Rows of the tensor, from `first` on. */
static void read_rows(bound_job *job, const layer_tensor *from, int64_t first, int64_t rows,
                      double *to)
{
	int64_t count = rows * from->cols;
	if (job->code)
		return;
	const mspec_tensor *t = mspec_tensor_at(job->checkpoint, from->index);
	job->code =
	    mspec_read(job->checkpoint, from->index, first * from->cols, count, job->raw, job->err);
	if (!job->code)
		job->code = muon_convert_f64(t->dtype, job->raw, (size_t)count, to);
	for (int64_t i = 0; i < count && !job->code; i++)
		if (!isfinite(to[i]))
			job->code =
			    muon_fail(job->err, MUON_E_NONFINITE, t->name, "holds NaN or Inf");
}

/* The same of a matrix that a norm feeds: columns are multiplied by its gain, and by sqrt(cols),
 * the length of what it puts out without one. */
static void read_fed_rows(bound_job *job, const layer_tensor *from, int64_t first, int64_t rows,
                          const double *gain, double *to)
{
	double length = sqrt((double)from->cols);
	read_rows(job, from, first, rows, to);
	for (int64_t i = 0; i < rows && !job->code; i++)
		for (int64_t k = 0; k < from->cols; k++)
			to[i * from->cols + k] *= gain[k] * length;
}

/* ---- bounds ------------------------------------------------------------------------------- */

/* Gram matrices of two blocks of rows, n x n at most, and the iteration's vectors. */
typedef struct norm_work {
	double *a, *b, *vectors;
} norm_work;

static norm_work allocate_work(bound_job *job, int64_t n)
{
	return (norm_work){allocate(job, n, n), allocate(job, n, n), allocate(job, 3, n)};
}

static double block_norm(const double *w, int64_t rows, int64_t cols, const norm_work *work)
{
	gram(w, rows, cols, work->a);
	return mspec_product_norm(work->a, NULL, rows, work->vectors);
}

static void bound_llama(bound_job *job, double *bounds)
{
	const mspec_model_config *c = job->config;
	const int64_t d = c->head_dim, in = c->hidden;
	const layer_tensor norm = find(job, "input_layernorm", 1, in);
	const layer_tensor q = find(job, "self_attn.q_proj", c->heads * d, in);
	const layer_tensor k = find(job, "self_attn.k_proj", c->kv_heads * d, in);
	if (job->code)
		return;
	double *gain = allocate(job, 1, in), *block = allocate(job, d, in);
	double *key_norms = allocate(job, 1, c->kv_heads);
	norm_work work = allocate_work(job, d);
	job->raw = allocate(job, d, in);
	read_rows(job, &norm, 0, 1, gain);
	for (int64_t h = 0; h < c->kv_heads; h++) {
		read_fed_rows(job, &k, h * d, d, gain, block);
		if (job->code)
			return;
		key_norms[h] = block_norm(block, d, in, &work);
	}
	for (int64_t h = 0; h < c->heads; h++) {
		read_fed_rows(job, &q, h * d, d, gain, block);
		if (job->code)
			return;
		bounds[h] = block_norm(block, d, in, &work) *
		            key_norms[h * c->kv_heads / c->heads] / sqrt((double)d);
	}
}

static void bound_deepseek(bound_job *job, double *bounds)
{
	const mspec_model_config *c = job->config;
	const int64_t in = c->hidden, nope = c->nope_dim, rope = c->rope_dim, rank = c->kv_rank;
	const int64_t d = nope + rope, kv = nope + c->value_dim, most = in > rank ? in : rank;
	const layer_tensor norm = find(job, "input_layernorm", 1, in);
	const layer_tensor latent_norm = find(job, "self_attn.kv_a_layernorm", 1, rank);
	const layer_tensor q = find(job, "self_attn.q_proj", c->heads * d, in);
	const layer_tensor kv_a = find(job, "self_attn.kv_a_proj_with_mqa", rank + rope, in);
	const layer_tensor kv_b = find(job, "self_attn.kv_b_proj", c->heads * kv, rank);
	if (job->code)
		return;
	double *gain = allocate(job, 1, in), *latent_gain = allocate(job, 1, rank);
	double *query = allocate(job, d, in), *key = allocate(job, d, most);
	norm_work work = allocate_work(job, d);
	job->raw = allocate(job, d, most);
	read_rows(job, &norm, 0, 1, gain);
	read_rows(job, &latent_norm, 0, 1, latent_gain);
	read_fed_rows(job, &kv_a, rank, rope, gain, key);
	double key_norm = job->code ? NAN : block_norm(key, rope, in, &work);
	for (int64_t h = 0; h < c->heads; h++) {
		read_fed_rows(job, &q, h * d, d, gain, query);
		read_fed_rows(job, &kv_b, h * kv, nope, latent_gain, key);
		if (job->code)
			return;
		double rotating = block_norm(query + nope * in, rope, in, &work) * key_norm;
		gram(query, nope, in, work.a);
		gram(key, nope, rank, work.b);
		double fixed = mspec_product_norm(work.a, work.b, nope, work.vectors);
		bounds[h] = (fixed + rotating) / sqrt((double)d);
	}
}

int mspec_attention_bounds(mspec_checkpoint *checkpoint, const mspec_model_config *config,
                           int64_t layer, double *bounds, muon_error *err)
{
	bound_job job = {.checkpoint = checkpoint, .config = config, .layer = layer, .err = err};
	if (config->family == MSPEC_FAMILY_LLAMA)
		bound_llama(&job, bounds);
	else
		bound_deepseek(&job, bounds);
	muon_arena_release(&job.arena);
	return job.code;
}
