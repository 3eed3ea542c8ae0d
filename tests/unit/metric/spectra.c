#include "unit/metric/spectra.h"

#include "base/random.h"
#include "unit/unit.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double nearest_bf16(double x)
{
	int exponent;
	frexp(x, &exponent);
	double ulp = ldexp(1, exponent - 8);
	return nearbyint(x / ulp) * ulp;
}

static muon_moments moments_of(const double *a, int64_t count)
{
	muon_moments m = {.count = count};
	long double sum = 0, m2 = 0, m3 = 0, m4 = 0, sumsq = 0, error = 0;
	for (int64_t i = 0; i < count; i++)
		sum += a[i];
	long double mean = sum / (long double)count;
	for (int64_t i = 0; i < count; i++) {
		long double d = a[i] - mean, rounding = a[i] - nearest_bf16(a[i]);
		m2 += d * d;
		m3 += d * d * d;
		m4 += d * d * d * d;
		sumsq += (long double)a[i] * a[i];
		error += rounding * rounding;
		m.zeros += a[i] == 0;
		m.bf16_exact += rounding == 0;
		m.max_abs = fmax(m.max_abs, fabs(a[i]));
	}
	m.mean = (double)mean;
	m.m2 = (double)m2;
	m.m3 = (double)m3;
	m.m4 = (double)m4;
	m.sumsq = (double)sumsq;
	m.bf16_error_sq = (double)error;
	return m;
}

static int64_t shorter(int64_t rows, int64_t cols)
{
	return rows < cols ? rows : cols;
}

test_spectrum spectrum_of(int64_t rows, int64_t cols, const double *a, const double *sigma)
{
	test_spectrum t = {.spectrum = {.rows = rows, .cols = cols, .dtype = MUON_F32}};
	mspec_spectrum *s = &t.spectrum;
	s->count = shorter(rows, cols);
	s->method = MUON_SVD_GESDD;
	s->moments = moments_of(a, rows * cols);
	if (!sigma) {
		size_t bytes = (size_t)(rows * cols) * sizeof(double);
		double *copy = malloc(bytes);
		sigma = t.sigma = malloc((size_t)s->count * sizeof(double));
		memcpy(copy, a, bytes);
		/* row-major rows x cols is column-major cols x rows, of the same singular values */
		CU_ASSERT(!LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'N', (lapack_int)cols, (lapack_int)rows, copy,
		                          (lapack_int)cols, t.sigma, NULL, 1, NULL, 1));
		free(copy);
		s->sigma_floor = 0x1p-52 * (double)(rows > cols ? rows : cols) * sigma[0];
	}
	s->sigma = sigma;
	return t;
}

test_spectrum spectrum_of_sigma(int64_t rows, int64_t cols, const double *sigma)
{
	test_spectrum t = {.spectrum = {.rows = rows, .cols = cols, .dtype = MUON_F32}};
	mspec_spectrum *s = &t.spectrum;
	s->count = shorter(rows, cols);
	s->sigma = sigma;
	s->method = MUON_SVD_GESDD;
	s->moments.count = rows * cols;
	long double sumsq = 0;
	for (int64_t i = 0; i < s->count; i++)
		sumsq += (long double)sigma[i] * sigma[i];
	s->moments.sumsq = s->moments.m2 = (double)sumsq;
	s->moments.max_abs = sigma[0];
	return t;
}

void spectrum_release(test_spectrum *spectrum)
{
	free(spectrum->sigma);
}

mspec_metric_value metric_of(const char *name, const mspec_spectrum *spectrum)
{
	const mspec_metric *metric = mspec_metric_at(mspec_metric_find(name));
	CU_ASSERT_PTR_NOT_NULL_FATAL(metric);
	mspec_metric_input input = {spectrum, NULL};
	mspec_power_law fit;
	if (metric->needs & MSPEC_NEEDS_POWER_LAW) {
		double *workspace = malloc((size_t)spectrum->count * sizeof(double));
		mspec_fit_power_law(spectrum, workspace, &fit);
		free(workspace);
		input.power_law = &fit;
	}
	return metric->value(&input);
}

double *gaussian_matrix(int64_t rows, int64_t cols, uint64_t seed)
{
	double *a = malloc((size_t)(rows * cols) * sizeof(double));
	muon_random random;
	muon_random_seed(&random, seed);
	for (int64_t i = 0; i < rows * cols; i++)
		a[i] = muon_random_normal(&random);
	return a;
}

int descending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x < y) - (x > y);
}
