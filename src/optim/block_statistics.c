#include "optim/block_statistics.h"

#include <math.h>

static int64_t short_side(const muon_optim_block *b)
{
	return b->rows < b->cols ? b->rows : b->cols;
}

/* ---- the factor ----------------------------------------------------------------------------- */

double muon_optim_factor(const muon_optimizer *o, int64_t rows, int64_t cols)
{
	const double out = (double)rows, in = (double)cols, rms = o->options.update_rms;
	switch (o->options.scale) {
	case MUON_SCALE_MATCH_RMS_ADAMW:
		return rms * sqrt(fmax(out, in));
	case MUON_SCALE_ORIGINAL:
		return sqrt(fmax(1, out / in));
	case MUON_SCALE_SPECTRAL_NORM:
		return sqrt(out / in);
	case MUON_SCALE_FIXED:
		return rms * sqrt(o->options.fixed_width);
	case MUON_SCALE_UPDATE_NORM: /* known after each orthogonalisation */
	case MUON_SCALE_NONE:
		break;
	}
	return 1;
}

static double norm_of(muon_dtype dtype, const void *matrix, int64_t entries)
{
	double x[MUON_OPTIM_CHUNK], sum = 0;
	for (int64_t at = 0; at < entries; at += MUON_OPTIM_CHUNK) {
		const size_t count = muon_optim_chunk(at, entries);
		const char *from = (const char *)matrix + (size_t)at * muon_dtype_size(dtype);
		muon_convert_f64(dtype, from, count, x);
		sum += muon_optim_sum_of_squares(x, count);
	}
	return sqrt(sum);
}

static double update_norm_factor(const muon_optimizer *o, const muon_optim_block *b,
				 const void *matrix)
{
	const int64_t entries = b->rows * b->cols;
	const double rms =
	    norm_of(o->plans[b->plan].dtype, matrix, entries) / sqrt((double)entries);
	return rms > 0 ? o->options.update_rms / rms : 0;
}

/* ---- singular values of what is orthogonalised ---------------------------------------------- */

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t reach_doubles(int64_t rows, int64_t cols)
{
	const int64_t k = rows < cols ? rows : cols;
	return (size_t)k + muon_gram_workspace(rows, cols) + muon_gram_singular_values_workspace(k);
}

size_t muon_optim_statistics_workspace(unsigned statistics, int64_t rows, int64_t cols,
				       muon_dtype dtype)
{
	const size_t k = (size_t)(rows < cols ? rows : cols);
	size_t bytes = 0;
	if (statistics & MUON_STATISTICS_ORTHOGONALITY)
		bytes = k * k * muon_dtype_size(dtype);
	if (statistics & MUON_STATISTICS_REACH)
		bytes = larger(bytes, reach_doubles(rows, cols) * sizeof(double));
	return bytes;
}

/* Its square would over- or underflow in float64 otherwise. */
static double scale_for(const muon_optim_block *b, muon_dtype dtype, const void *matrix)
{
	const double *x = matrix;
	double largest = 0;
	if (dtype != MUON_F64)
		return 1;
	for (int64_t i = 0; i < b->rows * b->cols; i++)
		largest = fmax(largest, fabs(x[i]));
	return muon_gram_scale(largest);
}

int muon_optim_count_below_reach(const muon_optimizer *o, muon_optim_block *b, const void *matrix,
				 void *workspace)
{
	if (!(o->options.statistics & MUON_STATISTICS_REACH) || !b->is_reported)
		return MUON_OK;
	const int64_t k = short_side(b), rows = b->rows, cols = b->cols;
	const muon_dtype dtype = o->plans[b->plan].dtype;
	const double scale = scale_for(b, dtype, matrix);
	double *sigma = workspace, *space = sigma + k, floor, sum = 0;
	muon_gram gram;
	int code = muon_gram_init(&gram, rows, cols, scale, NULL, false, space);
	if (!code)
		code = rows >= cols ? muon_gram_add_rows(&gram, dtype, matrix, 0, rows, cols)
				    : muon_gram_add_cols(&gram, dtype, matrix, 0, cols, cols);
	space += muon_gram_workspace(rows, cols);
	if (!code)
		code = muon_gram_singular_values(&gram, sigma, &floor, space);
	for (int64_t i = 0; !code && i < k; i++)
		sum += sigma[0] > 0 ? (sigma[i] / sigma[0]) * (sigma[i] / sigma[0]) : 0;
	for (int64_t i = 0; !code && i < k; i++)
		b->sums[MUON_OPTIM_BELOW] += sigma[i] <= o->reach * sqrt(sum) * sigma[0];
	return code;
}

/* ---- after ---------------------------------------------------------------------------------- */

void muon_optim_measure_block(const muon_optimizer *o, muon_optim_block *b, const void *matrix,
			      void *workspace)
{
	const muon_optim_parameter *p = &o->parameters[b->parameter];
	if (o->options.scale == MUON_SCALE_UPDATE_NORM)
		b->factor = update_norm_factor(o, b, matrix);
	if (b == &o->blocks[p->first_block] && b->is_reported)
		b->sums[MUON_OPTIM_EFFECTIVE_LR] = o->lr * b->factor;
	if (o->options.statistics & MUON_STATISTICS_ORTHOGONALITY)
		b->orthogonality =
		    muon_orthogonality_error(b->rows, b->cols, matrix, b->cols,
					     o->plans[b->plan].dtype == MUON_F64, workspace);
}
