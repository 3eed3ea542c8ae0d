#include "analysis/attention_bound.h"

#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_ITERATIONS = 20000, NAME = 96 };

/* y = a x */
static void multiply(const double *a, const double *x, int64_t n, double *y)
{
	for (int64_t i = 0; i < n; i++) {
		double sum = 0;
		for (int64_t j = 0; j < n; j++)
			sum += a[i * n + j] * x[j];
		y[i] = sum;
	}
}

static double dot(const double *x, const double *y, int64_t n)
{
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += x[i] * y[i];
	return sum;
}

/* a b has the eigenvalues of the symmetric b^(1/2) a b^(1/2); its largest is the quotient
 * (x, a x) / (x, b^-1 x), here with x = b v. */
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
		for (int64_t j = 0; j < n; j++)
			v[j] = y[j] / norm;
		last = value;
	}
	return sqrt(value);
}

/* ---- reading ----------------------------------------------------------------------------- */

typedef struct bound_job {
	mspec_checkpoint *checkpoint;
	const mspec_model_config *config;
	int64_t layer;
	muon_arena arena;
	muon_error *err;
	int code;
} bound_job;

static double *allocate(bound_job *job, int64_t rows, int64_t cols)
{
	double *block = muon_arena_alloc(&job->arena, (size_t)rows * (size_t)cols, sizeof *block);
	if (!block && !job->code)
		job->code = muon_fail(job->err, MUON_E_MEMORY, NULL, "out of memory");
	return block;
}

static size_t find(const mspec_checkpoint *checkpoint, const char *name)
{
	for (size_t i = 0; i < mspec_tensor_count(checkpoint); i++)
		if (!strcmp(mspec_tensor_at(checkpoint, i)->name, name))
			return i;
	return SIZE_MAX;
}

/* A tensor of the layer, rows x cols (a vector is 1 x cols), as float64; NULL once job->code is
 * set.
 */
static double *load(bound_job *job, const char *name, int64_t rows, int64_t cols)
{
	char full[NAME];
	snprintf(full, sizeof full, "model.layers.%lld.%s.weight", (long long)job->layer, name);
	size_t index = find(job->checkpoint, full);
	double *values = job->code ? NULL : allocate(job, rows, cols);
	void *raw = values ? allocate(job, rows, cols) : NULL;
	if (!raw)
		return NULL;
	const mspec_tensor *t = index == SIZE_MAX ? NULL : mspec_tensor_at(job->checkpoint, index);
	if (!t || t->elements != rows * cols || t->dims[t->rank - 1] != cols)
		job->code = muon_fail(job->err, MUON_E_FORMAT, full,
				      "is missing or not of the shape that the configuration says");
	if (!job->code)
		job->code = mspec_read(job->checkpoint, index, 0, rows * cols, raw, job->err);
	if (!job->code)
		job->code = muon_convert_f64(t->dtype, raw, (size_t)(rows * cols), values);
	return job->code ? NULL : values;
}

/* ---- bounds ------------------------------------------------------------------------------- */

/* Multiply the columns by the norm's gain and by the RMS vector's length sqrt(cols). */
static void take_norm_in(double *w, int64_t rows, int64_t cols, const double *gain)
{
	double length = sqrt((double)cols);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++)
			w[i * cols + j] *= gain[j] * length;
}

static void gram(const double *w, int64_t rows, int64_t cols, double *g)
{
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j <= i; j++)
			g[i * rows + j] = g[j * rows + i] = dot(w + i * cols, w + j * cols, cols);
}

/* Room for the Gram matrices of two heads and the iteration. */
typedef struct head_work {
	double *a, *b, *vectors;
} head_work;

static head_work allocate_work(bound_job *job, int64_t n)
{
	return (head_work){allocate(job, n, n), allocate(job, n, n), allocate(job, 3, n)};
}

static double block_norm(const double *w, int64_t rows, int64_t cols, const head_work *work)
{
	gram(w, rows, cols, work->a);
	return mspec_product_norm(work->a, NULL, rows, work->vectors);
}

static void bound_llama(bound_job *job, double *bounds)
{
	const mspec_model_config *c = job->config;
	int64_t d = c->head_dim, in = c->hidden;
	double *gain = load(job, "input_layernorm", 1, in);
	double *q = load(job, "self_attn.q_proj", c->heads * d, in);
	double *k = load(job, "self_attn.k_proj", c->kv_heads * d, in);
	head_work work = allocate_work(job, d);
	if (job->code)
		return;
	take_norm_in(q, c->heads * d, in, gain);
	take_norm_in(k, c->kv_heads * d, in, gain);
	for (int64_t h = 0; h < c->heads; h++) {
		int64_t key = h * c->kv_heads / c->heads;
		bounds[h] = block_norm(q + h * d * in, d, in, &work) *
			    block_norm(k + key * d * in, d, in, &work) / sqrt((double)d);
	}
}

static void bound_deepseek(bound_job *job, double *bounds)
{
	const mspec_model_config *c = job->config;
	int64_t in = c->hidden, nope = c->nope_dim, rope = c->rope_dim, rank = c->kv_rank;
	int64_t d = nope + rope, kv = nope + c->value_dim;
	double *gain = load(job, "input_layernorm", 1, in);
	double *latent_gain = load(job, "self_attn.kv_a_layernorm", 1, rank);
	double *q = load(job, "self_attn.q_proj", c->heads * d, in);
	double *kv_a = load(job, "self_attn.kv_a_proj_with_mqa", rank + rope, in);
	double *kv_b = load(job, "self_attn.kv_b_proj", c->heads * kv, rank);
	head_work work = allocate_work(job, nope > rope ? nope : rope);
	if (job->code)
		return;
	take_norm_in(q, c->heads * d, in, gain);
	take_norm_in(kv_a, rank + rope, in, gain);
	take_norm_in(kv_b, c->heads * kv, rank, latent_gain);
	double key_norm = block_norm(kv_a + rank * in, rope, in, &work);
	for (int64_t h = 0; h < c->heads; h++) {
		const double *query = q + h * d * in;
		double rotating = block_norm(query + nope * in, rope, in, &work) * key_norm;
		gram(query, nope, in, work.a);
		gram(kv_b + h * kv * rank, nope, rank, work.b);
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
