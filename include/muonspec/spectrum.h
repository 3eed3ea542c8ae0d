/* The spectrum of one matrix: everything that metrics are computed from. */
#ifndef MUONSPEC_SPECTRUM_H
#define MUONSPEC_SPECTRUM_H

#include <muon/kernels.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mspec_spectrum {
	int64_t rows, cols;    /* out, in */
	muon_dtype dtype;      /* of the stored entries */
	const double *sigma;   /* singular values, descending */
	int64_t count;         /* min(rows, cols) */
	double sigma_floor;    /* size under which they are rounding noise */
	muon_svd_method method;
	muon_moments moments;  /* of the entries */
	bool has_gain;         /* the gain g of the norm before the matrix is known */
	double gain_sumsq;     /* ||W diag(g)||_F^2, when has_gain; NaN if g can't be read */
} mspec_spectrum;

/* Entropy that an iid Gaussian m x n matrix has on average: 1 - (m / 2n) / ln m for m <= n
 * (Page 1993); arguments in either order. NaN for min(m, n) < 2. */
MUON_API double mspec_gaussian_entropy(int64_t m, int64_t n);

/* Continuous power-law fit of eigenvalues lambda = sigma^2 above the noise floor (Clauset,
 * Shalizi and Newman 2009): xmin by least Kolmogorov-Smirnov distance, alpha by maximum
 * likelihood. */
typedef struct mspec_power_law {
	double alpha, xmin, ks, sigma; /* sigma: standard error (alpha - 1)/sqrt(tail) */
	int64_t tail;                  /* eigenvalues >= xmin */
	bool good;                     /* the fit is good enough for alpha to mean something */
	const char *reason;            /* why not; static text; NULL when good */
} mspec_power_law;
/* `workspace` has count doubles. Always fills `fit`; with too few values all numbers are NaN. */
MUON_API void mspec_fit_power_law(const mspec_spectrum *spectrum, double *workspace,
                                  mspec_power_law *fit);

#ifdef __cplusplus
}
#endif
#endif
