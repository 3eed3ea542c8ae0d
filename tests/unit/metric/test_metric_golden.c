/* Against NumPy and a plain Python power-law fit: see golden/metric_numbers.py. */
#include "unit/metric/spectra.h"
#include "unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct golden_metric {
	int rows, cols;
	uint32_t seed;
	const char *name;
	double value;
} golden_metric;

typedef struct golden_fit {
	int count, body;
	uint32_t seed;
	double alpha, xmin, ks;
	int tail;
	double sigma;
} golden_fit;

#include "golden/metric_numbers.h"

static double next(uint32_t *x)
{
	*x = *x * 1664525u + 1013904223u;
	return (double)(*x >> 8) + 0.5;
}

static test_spectrum golden_matrix(int rows, int cols, uint32_t seed)
{
	double *a = malloc((size_t)(rows * cols) * sizeof *a);
	for (int i = 0; i < rows * cols; i++)
		a[i] = ((next(&seed) - 0.5) / 0x1p24 - 0.5) * ldexp(1, -(i % cols % 5));
	test_spectrum spectrum = spectrum_of(rows, cols, a, NULL);
	free(a);
	return spectrum;
}

static void test_matrices(void)
{
	test_spectrum spectrum = {0};
	int made = 0;
	for (size_t i = 0; i < sizeof golden_metrics / sizeof *golden_metrics; i++) {
		const golden_metric *golden = &golden_metrics[i];
		if (golden->rows != made) {
			spectrum_release(&spectrum);
			spectrum = golden_matrix(golden->rows, golden->cols, golden->seed);
			made = golden->rows;
		}
		double value = metric_of(golden->name, &spectrum.spectrum).value;
		unit_close(value, golden->value, 1e-11, golden->name, __FILE__, __LINE__);
	}
	spectrum_release(&spectrum);
}

static void test_fits(void)
{
	for (size_t i = 0; i < sizeof golden_fits / sizeof *golden_fits; i++) {
		const golden_fit *golden = &golden_fits[i];
		int n = golden->count + golden->body;
		uint32_t seed = golden->seed;
		double *sigma = malloc(2 * (size_t)n * sizeof *sigma);
		for (int k = 0; k < n; k++) {
			double u = next(&seed) / 0x1p24;
			sigma[k] = k < golden->count ? sqrt(1 / sqrt(u)) : u;
		}
		qsort(sigma, (size_t)n, sizeof *sigma, descending);
		test_spectrum spectrum = spectrum_of_sigma(n, n, sigma);
		mspec_power_law fit;
		mspec_fit_power_law(&spectrum.spectrum, sigma + n, &fit);
		UNIT_CLOSE(fit.alpha, golden->alpha, 1e-11);
		UNIT_CLOSE(fit.xmin, golden->xmin, 1e-15);
		UNIT_CLOSE(fit.ks, golden->ks, 1e-11);
		UNIT_CLOSE(fit.sigma, golden->sigma, 1e-11);
		CU_ASSERT_EQUAL(fit.tail, golden->tail);
		CU_ASSERT_EQUAL(fit.good, golden->count > 0); /* the last one is a uniform body alone */
		free(sigma);
	}
}

UNIT_SUITE(metric_golden, {"matrices", test_matrices}, {"power-law fits", test_fits})
