/* Eigenvalues of a dense symmetric matrix: scaling, and the three stages. */
#include <muon/kernels.h>

#include <math.h>
#include <string.h>

#include <lapacke.h>

#include "eigenvalues_internal.h"

/*
 * The reduction to a band costs 4/3 n^3 flops and prefers a wide band, the bulge chasing 6 n^2 b at
 * less than half the speed.
 */
static int64_t bandwidth(int64_t n)
{
	return n < 3072 ? 16 : 32;
}

/* where the parts of the workspace begin, in doubles */
struct layout {
	size_t e, band, rest, size;
};

static struct layout lay_out(int64_t n, int64_t b)
{
	const size_t reduction = muon_band_reduction_workspace(n, b);
	const size_t roots = muon_tridiagonal_workspace(n);
	const size_t vector = (size_t)(n + 7) / 8 * 8;
	struct layout l;

	l.e = vector;
	l.band = l.e + vector;
	l.rest = l.band + muon_band_size(n, b);
	l.size = l.rest + (reduction > roots ? reduction : roots);
	return l;
}

size_t muon_eigenvalues_workspace(int64_t n)
{
	return lay_out(n, bandwidth(n)).size;
}

/* the largest absolute value in the lower triangle; not finite when an entry is not */
static double largest_entry(int64_t n, const double *a, int64_t lda)
{
	int64_t largest = 0;
	double value;

	for (int64_t j = 0; j < n; j++) {
		for (int64_t i = j; i < n; i++) {
			int64_t bits;

			/* as integers, absolute values are in the same order, with NaN last */
			memcpy(&bits, &a[j * lda + i], sizeof bits);
			bits &= INT64_MAX;
			largest = bits > largest ? bits : largest;
		}
	}
	memcpy(&value, &largest, sizeof value);
	return value;
}

/* for machines without the vector instructions; work: 33 n doubles. 0, or -1 for no convergence */
static int plain_lapack(int64_t n, double *a, int64_t lda, double *w, double *e, double *work)
{
	const lapack_int size = (lapack_int)n;

	LAPACKE_dsytrd_work(LAPACK_COL_MAJOR, 'L', size, a, (lapack_int)lda, w, e, work, work + n,
			    32 * size);
	return LAPACKE_dsterf_work(size, w, e) == 0 ? 0 : -1;
}

int muon_eigenvalues(int64_t n, double *a, int64_t lda, double *w, double *work)
{
	const struct eig_kernels *k = muon_eig_kernels();
	const int64_t b = bandwidth(n);
	const struct layout l = lay_out(n, b);
	const double largest = largest_entry(n, a, lda);
	double *d = work, *e = work + l.e, *band = work + l.band, *rest = work + l.rest;
	int exponent = 0;

	if (n <= 0) {
		return 0;
	}
	if (!isfinite(largest)) {
		return MUON_E_NONFINITE;
	}
	/* squares must neither overflow nor underflow; a power of two costs no accuracy */
	if (largest > 0 && (largest < 1e-60 || largest > 1e60)) {
		frexp(largest, &exponent);
		for (int64_t j = 0; j < n; j++) {
			for (int64_t i = j; i < n; i++) {
				a[j * lda + i] = ldexp(a[j * lda + i], -exponent);
			}
		}
	}
	if (k) {
		memset(band, 0, muon_band_size(n, b) * sizeof *band);
		muon_band_reduction(k, n, b, a, lda, band, rest);
		muon_bulge_chasing(k, n, b, band, d, e);
		muon_tridiagonal_eigenvalues(k, n, d, e, w, rest);
	} else if (plain_lapack(n, a, lda, w, e, rest) < 0) {
		return MUON_E_NO_CONVERGENCE;
	}
	for (int64_t i = 0; i < n && exponent != 0; i++) {
		w[i] = ldexp(w[i], exponent);
	}
	return 0;
}
