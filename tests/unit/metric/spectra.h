/* Spectra for the metric tests, made without muonspec's kernels. */
#ifndef TESTS_UNIT_METRIC_SPECTRA_H
#define TESTS_UNIT_METRIC_SPECTRA_H

#include <muonspec/metric.h>

/* Spectrum of a (rows x cols, row-major, float32 as the stored type): moments by plain sums,
 * singular values by LAPACK's dgesdd, or `sigma` when it is not NULL. Both arrays stay the
 * caller's; those that it makes itself are released by spectrum_release. */
typedef struct test_spectrum {
	mspec_spectrum spectrum;
	double *sigma;
} test_spectrum;

test_spectrum spectrum_of(int64_t rows, int64_t cols, const double *a, const double *sigma);
/* Of given singular values, with the moments of some matrix that has them, as far as they are
 * determined: sumsq and count; sigma_floor 0. */
test_spectrum spectrum_of_sigma(int64_t rows, int64_t cols, const double *sigma);
void spectrum_release(test_spectrum *spectrum);

/* Evaluate a metric by name, with the fit it may need. An unknown name fails the test. */
mspec_metric_value metric_of(const char *name, const mspec_spectrum *spectrum);

/* iid standard Gaussian entries; to be freed. */
double *gaussian_matrix(int64_t rows, int64_t cols, uint64_t seed);

int descending(const void *a, const void *b);

#endif
