/* Singular values out of a Gram matrix, and by LAPACK. */
#include <muon/kernels.h>

#include "base/random.h"

#include <cblas.h>
#include <float.h>
#include <lapacke.h>
#include <limits.h>
#include <math.h>

/* ---- from the Gram matrix ------------------------------------------------------------------- */

enum { MIX_MIN = 16 }; /* order from which structure matters */

/* Size under which singular values are noise. Rounding perturbs the eigenvalues by some multiple of
 * eps * largest. The worst of some thousand matrices of low rank, many with equal lines, was 12 for
 * narrow ones, however long, then, for the solver's errors, about the root of the order: 20 at 200,
 * 24 at 768, 25 at 2048, 22 at 4096. The floor, its square over these, keeps a margin of 1.5 on
 * singular values up to order 500; above, of 1.3, so as not to pass the 1e-7 that all values are
 * accurate to before order 4096. */
static double gram_floor(const muon_gram *gram, double largest)
{
	const double limit = 45; /* times eps: 1e-7 squared */
	double root = sqrt((double)gram->k);
	double multiple = fmax(fmin(25 + 1.8 * root, limit), 0.7 * root);
	return largest * sqrt(multiple * DBL_EPSILON);
}

/* g <- H g H for a random reflection H = I - u u^T, which keeps the eigenvalues. Where many entries
 * are equal but for sign, as in a constant matrix, the solver's rounding errors line up and reach
 * hundreds of eps; mixed, they stay random. */
static void mix(lapack_int n, double *g, double *work)
{
	double *u = work, *p = work + n, norm = 0;
	muon_random random;
	muon_random_seed(&random, (uint64_t)n);
	for (lapack_int i = 0; i < n; i++) {
		u[i] = muon_random_normal(&random);
		norm += u[i] * u[i];
	}
	cblas_dscal(n, sqrt(2 / norm), u, 1);
	/* H g H = g - u q^T - q u^T with p = g u, q = p - u (u^T p) / 2 */
	cblas_dsymv(CblasColMajor, CblasLower, n, 1, g, n, u, 1, 0, p, 1);
	cblas_daxpy(n, -cblas_ddot(n, u, 1, p, 1) / 2, u, 1, p, 1);
	cblas_dsyr2(CblasColMajor, CblasLower, n, -1, u, 1, p, 1, g, n);
}

size_t muon_gram_singular_values_workspace(int64_t k)
{
	if (k > INT_MAX)
		return SIZE_MAX;
	size_t solver = muon_eigenvalues_workspace(k), mixing = k > 0 ? 2 * (size_t)k : 0;
	return solver > mixing ? solver : mixing;
}

int muon_gram_singular_values(muon_gram *gram, double *sigma, double *sigma_floor,
			      double *workspace)
{
	const muon_moments *m = &gram->moments;
	const int64_t k = gram->k;
	if (m->nan || m->inf)
		return MUON_E_NONFINITE;
	if (gram->entries_only || m->count != gram->rows * gram->cols)
		return MUON_E_ARGUMENT;
	for (int64_t i = 0; i < k; i++)
		if (!isfinite(gram->g[i + i * k])) /* squares overflowed: the scale was wrong */
			return MUON_E_ARGUMENT;
	if (k >= MIX_MIN)
		mix((lapack_int)k, gram->g, workspace);
	int code = muon_eigenvalues(k, gram->g, k, sigma, workspace);
	if (code)
		return code;
	for (int64_t i = 0, j = k - 1; i <= j; i++, j--) {
		double small = sqrt(fmax(sigma[i], 0)), large = sqrt(fmax(sigma[j], 0));
		sigma[i] = large / gram->scale;
		sigma[j] = small / gram->scale;
	}
	*sigma_floor = gram_floor(gram, sigma[0]);
	return MUON_OK;
}

/* ---- by LAPACK ------------------------------------------------------------------------------ */

/* Doubles of workspace dgesdd wants, by its own answer; 0 where that doesn't fit LAPACK's int. To
 * LAPACK, row-major rows x cols is column-major cols x rows, of the same singular values. */
static size_t gesdd_work_size(int64_t rows, int64_t cols)
{
	/* the answer holds (rows + cols) * block size, the latter at most 64, and would wrap */
	if (rows > INT_MAX / 64 || cols > INT_MAX / 64 - rows)
		return 0;
	double none = 0, size = 0;
	lapack_int m = (lapack_int)cols, n = (lapack_int)rows, none_int = 0;
	lapack_int info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'N', m, n, &none, m, &none, &none,
					      1, &none, 1, &size, -1, &none_int);
	return info == 0 && size >= 1 && size <= INT_MAX ? (size_t)size : 0;
}

size_t muon_singular_values_gesdd_workspace(int64_t rows, int64_t cols)
{
	if (rows <= 0 || cols <= 0)
		return 0;
	size_t doubles = gesdd_work_size(rows, cols), k = (size_t)(rows < cols ? rows : cols);
	size_t ints = 8 * k;
	return doubles ? doubles + ints * sizeof(lapack_int) / sizeof(double) : SIZE_MAX;
}

/* dgesdd prints to stderr when it meets Inf. */
static bool all_finite(const double *x, size_t count)
{
	double sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += x[i] * 0;
	return sum == 0;
}

/* There is no second try with dgesvd: for values alone the two run the same iteration, dqds, and QR
 * steps where that stalls. */
int muon_singular_values_gesdd(int64_t rows, int64_t cols, double *a, double *sigma,
			       double *sigma_floor, double *workspace)
{
	if (rows <= 0 || cols <= 0)
		return MUON_E_ARGUMENT;
	size_t size = gesdd_work_size(rows, cols);
	if (!size)
		return MUON_E_TOO_LARGE;
	if (!all_finite(a, (size_t)rows * (size_t)cols))
		return MUON_E_NONFINITE;
	double none = 0;
	lapack_int m = (lapack_int)cols, n = (lapack_int)rows;
	lapack_int *ints = (lapack_int *)(workspace + size);
	lapack_int info = LAPACKE_dgesdd_work(LAPACK_COL_MAJOR, 'N', m, n, a, m, sigma, &none, 1,
					      &none, 1, workspace, (lapack_int)size, ints);
	if (info)
		return info > 0 ? MUON_E_NO_CONVERGENCE : MUON_E_INTERNAL;
	*sigma_floor = sigma[0] * DBL_EPSILON * (double)(rows > cols ? rows : cols);
	return MUON_OK;
}
