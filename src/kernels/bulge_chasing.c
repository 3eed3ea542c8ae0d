/*
 * Band to tridiagonal form by bulge chasing with Householder reflectors: the column-wise sweeps of
 * B. Lang, "A parallel algorithm for reducing symmetric banded matrices to tridiagonal form", SIAM
 * J. Sci. Comput. 14 (1993), as used for the second step by Haidar, Ltaief, Dongarra (SC 2011).
 *
 * Sweep k makes column k tridiagonal and chases the bulge down the band.  Sweep k+1 may take a step
 * as soon as sweep k is one step ahead of it, so SWEEPS of them go down together, and the band
 * passes through the near caches once for all of them.
 */
#include <math.h>
#include <string.h>

#include "eigenvalues_internal.h"

enum { SWEEPS = 4 };

/* a sweep on its way: its reflector acts on rows row to row + b */
struct sweep {
	double v[EIG_MAX_BAND];
	double tau;
	int64_t row;
};

/* the reflector that zeroes x[1..b); x[0] becomes the subdiagonal entry of the column */
static void start_sweep(int64_t b, double *x, struct sweep *sweep)
{
	double norm2 = 0, scale = 0;

	for (int64_t i = 1; i < b; i++) {
		norm2 += x[i] * x[i];
	}
	sweep->tau = 0;
	if (norm2 >= EIG_TINY_SQUARE) {
		const double alpha = x[0], beta = -copysign(sqrt(alpha * alpha + norm2), alpha);

		sweep->tau = (beta - alpha) / beta;
		scale = 1 / (alpha - beta);
		x[0] = beta;
	}
	sweep->v[0] = 1;
	for (int64_t i = 1; i < b; i++) {
		sweep->v[i] = scale * x[i];
		x[i] = 0;
	}
}

void muon_bulge_chasing(const struct eig_kernels *k, int64_t n, int64_t b, double *band, double *d,
			double *e)
{
	const int64_t stride = muon_band_stride(b);
	struct sweep sweeps[SWEEPS];

	for (int64_t first = 0; first < n - 2; first += SWEEPS) {
		const int64_t count = n - 2 - first < SWEEPS ? n - 2 - first : SWEEPS;
		int64_t live = count;

		for (int64_t t = 0; live > 0; t++) {
			for (int64_t g = 0; g < count && g <= t; g++) {
				struct sweep *sweep = &sweeps[g];

				if (g == t) {
					const int64_t column = first + g;

					sweep->row = column + 1;
					start_sweep(b, band + column * stride + column + 1, sweep);
				} else if (sweep->row >= n) {
					continue;
				} else {
					k->chase_step(b, band + sweep->row * stride + sweep->row,
						      stride, sweep->v, &sweep->tau);
					sweep->row += b;
				}
				/* without a reflector there is no bulge */
				if (sweep->tau == 0) {
					sweep->row = n;
				}
				live -= sweep->row >= n;
			}
		}
	}
	for (int64_t i = 0; i < n; i++) {
		d[i] = band[i * stride + i];
		if (i + 1 < n) {
			e[i] = band[i * stride + i + 1];
		}
	}
}
