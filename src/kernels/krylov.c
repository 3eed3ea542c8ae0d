/* Spectra by block Krylov iteration: a few products with a matrix instead of its decomposition. */
#include <muon/kernels.h>

#include "base/random.h"
#include "kernels/simd.h"

#include <cblas.h>
#include <float.h>
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <string.h>

enum {
	BLOCK = MUON_KRYLOV_VECTORS, /* vectors at a time */
	STEPS = 5,                   /* for values */
	VECTOR_STEPS = 16,           /* for vectors, which converge later */
	MOST = BLOCK * VECTOR_STEPS
};

/* The operator on the short side, A^T A or A A^T, and the basis built with it. */
typedef struct krylov {
	const float *a;
	int rows, cols, ld;
	int n, l;    /* short side, long side */
	bool tall;   /* rows >= cols */
	int block;   /* vectors at a time, n at the most */
	int width;   /* basis vectors in all */
	float *q;    /* n x width, orthonormal columns, or zero where the space is exhausted */
	float *p;    /* l x width, A or A^T times q */
	float *next; /* block x n: vectors to join the basis */
	float *dots; /* block x width */
	float *gram; /* width x width */
	float *in, *out; /* l x 8: of one product */
	double *t;   /* width x width: q^T G q, then its eigenvectors */
	double *values; /* width, ascending */
} krylov;

static int short_side(int64_t rows, int64_t cols)
{
	return (int)(rows < cols ? rows : cols);
}

static int width_with(int n, int steps, int block)
{
	int most = n / block;
	return block * (steps < most ? steps : most);
}

/* Vectors at a time for a short side of n: as many as allowed, or fewer where those would leave
 * more of a small space out of the basis. */
static int block_size(int n, int steps)
{
	int best = 1;
	for (int b = 2; b <= BLOCK && b <= n; b++)
		if (width_with(n, steps, b) >= width_with(n, steps, best))
			best = b;
	return best;
}

static int basis_width(int n, int steps)
{
	return width_with(n, steps, block_size(n, steps));
}

size_t muon_krylov_workspace(int64_t rows, int64_t cols)
{
	if (rows < 1 || cols < 1 || rows > INT_MAX / MOST || cols > INT_MAX / MOST)
		return SIZE_MAX;
	size_t width = (size_t)basis_width(short_side(rows, cols), VECTOR_STEPS);
	size_t side = (size_t)rows + (size_t)cols;
	size_t floats = side * width + (3 * side + width) * BLOCK + width * width;
	return (floats + 1) / 2 + width * width + width;
}

static void lay_out(krylov *k, double *workspace)
{
	size_t width = (size_t)k->width;
	k->t = workspace;
	k->values = k->t + width * width;
	k->q = (float *)(k->values + width);
	k->p = k->q + (size_t)k->n * width;
	k->next = k->p + (size_t)k->l * width;
	k->dots = k->next + (size_t)k->n * BLOCK;
	k->gram = k->dots + width * BLOCK;
	k->in = k->gram + width * width;
	k->out = k->in + (size_t)k->l * BLOCK;
}

/* ---- products ----------------------------------------------------------------------------- */

/* Eight vectors at a time is too few for BLAS, which packs the matrix anew for every product. A
 * row of eight is one register, or two. */
typedef float eight __attribute__((vector_size(BLOCK * sizeof(float)), aligned(sizeof(float))));

/* out (rows x 8) = a x, x cols x 8. */
SIMD_CLONES
static void times(int rows, int cols, const float *a, int64_t ld, const eight *x, eight *out)
{
	int i = 0;
	for (; i + 6 <= rows; i += 6, a += 6 * ld) {
		eight s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, s4 = {0}, s5 = {0};
		for (int j = 0; j < cols; j++) {
			s0 += a[j] * x[j];
			s1 += a[ld + j] * x[j];
			s2 += a[2 * ld + j] * x[j];
			s3 += a[3 * ld + j] * x[j];
			s4 += a[4 * ld + j] * x[j];
			s5 += a[5 * ld + j] * x[j];
		}
		out[i] = s0;
		out[i + 1] = s1;
		out[i + 2] = s2;
		out[i + 3] = s3;
		out[i + 4] = s4;
		out[i + 5] = s5;
	}
	for (; i < rows; i++, a += ld) {
		eight s = {0};
		for (int j = 0; j < cols; j++)
			s += a[j] * x[j];
		out[i] = s;
	}
}

/* out (cols x 8) = a^T x, x rows x 8. */
SIMD_CLONES
static void times_transposed(int rows, int cols, const float *a, int64_t ld, const eight *x,
			     eight *out)
{
	int i = 0;
	memset(out, 0, (size_t)cols * sizeof *out);
	for (; i + 6 <= rows; i += 6, a += 6 * ld) {
		eight x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3], x4 = x[i + 4],
		      x5 = x[i + 5];
		for (int j = 0; j < cols; j++)
			out[j] += ((a[j] * x0 + a[ld + j] * x1) +
				   (a[2 * ld + j] * x2 + a[3 * ld + j] * x3)) +
				  (a[4 * ld + j] * x4 + a[5 * ld + j] * x5);
	}
	for (; i < rows; i++, a += ld)
		for (int j = 0; j < cols; j++)
			out[j] += a[j] * x[i];
}

/* Block j of a basis (size x width) to or from size x 8. */
static eight *gather(const krylov *k, const float *basis, int size, int j)
{
	float *in = k->in;
	memset(in, 0, (size_t)size * BLOCK * sizeof *in);
	for (int i = 0; i < size; i++)
		memcpy(in + i * BLOCK, basis + (size_t)i * (size_t)k->width + j * k->block,
		       (size_t)k->block * sizeof *in);
	return (eight *)in;
}

/* p_j = A q_j (A^T q_j for a wide matrix): block j. */
static void multiply(krylov *k, int j)
{
	const eight *in = gather(k, k->q, k->n, j);
	if (k->tall)
		times(k->rows, k->cols, k->a, k->ld, in, (eight *)k->out);
	else
		times_transposed(k->rows, k->cols, k->a, k->ld, in, (eight *)k->out);
	for (int i = 0; i < k->l; i++)
		memcpy(k->p + (size_t)i * (size_t)k->width + j * k->block, k->out + i * BLOCK,
		       (size_t)k->block * sizeof *k->p);
}

/* next = p_j^T A (p_j^T A^T). */
static void multiply_back(krylov *k, int j)
{
	const eight *in = gather(k, k->p, k->l, j);
	if (k->tall)
		times_transposed(k->rows, k->cols, k->a, k->ld, in, (eight *)k->out);
	else
		times(k->rows, k->cols, k->a, k->ld, in, (eight *)k->out);
	for (int i = 0; i < k->n; i++)
		for (int c = 0; c < k->block; c++)
			k->next[c * k->n + i] = k->out[i * BLOCK + c];
}

/* next -= (next q) q^T over the first `count` basis vectors; twice is enough. */
static void project_out(krylov *k, int count)
{
	for (int pass = 0; pass < 2; pass++) {
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, k->block, count, k->n, 1,
			    k->next, k->n, k->q, k->width, 0, k->dots, k->width);
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, k->block, k->n, count, -1,
			    k->dots, k->width, k->q, k->width, 1, k->next, k->n);
	}
}

/* Vector c of next, made orthogonal to those before it and of norm 1; zero when nothing but
 * rounding is left of the norm `before` that it had. */
static void finish_vector(krylov *k, int c, double before)
{
	float *x = k->next + c * k->n;
	for (int pass = 0; pass < 2; pass++)
		for (int d = 0; d < c; d++) {
			const float *y = k->next + d * k->n;
			cblas_saxpy(k->n, -cblas_sdot(k->n, x, 1, y, 1), y, 1, x, 1);
		}
	double norm = (double)cblas_snrm2(k->n, x, 1);
	cblas_sscal(k->n, norm > 1e-5 * before ? (float)(1 / norm) : 0, x, 1);
}

/* Block j of the basis out of next, whose vectors had the norms `before` before projection. */
static void extend_basis(krylov *k, int j, const double *before)
{
	for (int c = 0; c < k->block; c++) {
		finish_vector(k, c, before[c]);
		cblas_scopy(k->n, k->next + c * k->n, 1, k->q + j * k->block + c, k->width);
	}
}

static void build_basis(krylov *k)
{
	double before[BLOCK];
	muon_random random;
	muon_random_seed(&random, (uint64_t)k->n);
	for (int i = 0; i < k->n * k->block; i++)
		k->next[i] = (float)muon_random_normal(&random);
	for (int j = 0; j < k->width / k->block; j++) {
		if (j)
			multiply_back(k, j - 1);
		for (int c = 0; c < k->block; c++)
			before[c] = (double)cblas_snrm2(k->n, k->next + c * k->n, 1);
		if (j)
			project_out(k, j * k->block);
		extend_basis(k, j, before);
		multiply(k, j);
	}
}

/* ---- values ------------------------------------------------------------------------------- */

/* Eigenvalues and eigenvectors of q^T G q = p^T p. The products are float32: their error is far
 * below that of the estimate. */
static int find_ritz_values(krylov *k)
{
	int w = k->width;
	cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, w, k->l, 1, k->p, w, 0, k->gram, w);
	for (int i = 0; i < w; i++)
		for (int c = 0; c <= i; c++) {
			k->t[i * w + c] = (double)k->gram[i * w + c];
			if (!isfinite(k->t[i * w + c]))
				return MUON_E_NONFINITE;
		}
	return LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'L', w, k->t, w, k->values) ? MUON_E_NO_CONVERGENCE
									       : MUON_OK;
}

/* |G y - theta y| of Ritz vector i, squared; `products` are those of next's vectors, what of G q of
 * the last block is outside the basis. */
static double residual_squared(const krylov *k, const double *products, int i)
{
	const double *last = k->t + (k->width - k->block) * k->width + i;
	double sum = 0;
	for (int c = 0; c < k->block; c++)
		for (int d = 0; d < k->block; d++)
			sum += last[c * k->width] * products[c * BLOCK + d] * last[d * k->width];
	return sum;
}

/* Number of leading Ritz values that have converged: they are eigenvalues, once each. What of G q
 * is outside the basis comes from its last block alone. */
static int count_converged(krylov *k)
{
	const double close = 0.03;
	double products[BLOCK * BLOCK] = {0};
	int count = 0;
	multiply_back(k, k->width / k->block - 1);
	project_out(k, k->width);
	for (int c = 0; c < k->block; c++)
		for (int d = 0; d < k->block; d++)
			products[c * BLOCK + d] =
			    (double)cblas_sdot(k->n, k->next + c * k->n, 1, k->next + d * k->n, 1);
	for (int i = k->width - 1; i >= 0 && k->values[i] > 0; i--, count++)
		if (sqrt(fmax(residual_squared(k, products, i), 0)) > close * k->values[i])
			break;
	return count;
}

static double x_log_x(double x)
{
	return x > 0 ? x * log(x) : 0;
}

/* Entropy from the Ritz values; `mean` is the mean eigenvalue of G. */
static double estimate_entropy(krylov *k, double mean)
{
	int converged = count_converged(k), others = k->width - converged;
	double sum = 0, number = k->n - converged, mass = k->n, weight = 0, moment = 0;
	for (int i = others; i < k->width; i++) {
		double x = k->values[i] / mean;
		sum += x_log_x(x);
		mass -= x;
	}
	double share[MOST];
	for (int i = 0; i < others; i++) { /* weight of the Ritz value as the start vectors see it */
		share[i] = 0;
		for (int c = 0; c < k->block; c++)
			share[i] += k->t[c * k->width + i] * k->t[c * k->width + i];
		weight += share[i];
		moment += share[i] * fmax(k->values[i], 0) / mean;
	}
	if (number > 0 && mass > 0 && weight > 0 && moment > 0) {
		/* scaled so that number and sum of the remaining eigenvalues are right */
		double scale = (mass / number) * (weight / moment);
		for (int i = 0; i < others; i++)
			sum += number * share[i] / weight *
			       x_log_x(scale * fmax(k->values[i], 0) / mean);
	}
	double entropy = 1 - sum / (k->n * log(k->n));
	return fmin(fmax(entropy, 0), 1);
}

/* ---- vectors ------------------------------------------------------------------------------ */

/* The leading `count` singular vectors out of the Ritz vectors, down to where float32 products know
 * them no more. */
static int find_vectors(const krylov *k, int count, float *near, float *far)
{
	int found = 0;
	double largest = k->values[k->width - 1];
	memset(near, 0, (size_t)k->n * (size_t)count * sizeof *near);
	memset(far, 0, (size_t)k->l * (size_t)count * sizeof *far);
	while (found < count && found < k->width) {
		int column = k->width - 1 - found;
		double value = k->values[column];
		if (!(value > 1e-6 * largest))
			break;
		float y[MOST];
		for (int i = 0; i < k->width; i++)
			y[i] = (float)k->t[i * k->width + column];
		cblas_sgemv(CblasRowMajor, CblasNoTrans, k->n, k->width, 1, k->q, k->width, y, 1, 0,
			    near + found, count);
		cblas_sgemv(CblasRowMajor, CblasNoTrans, k->l, k->width, (float)(1 / sqrt(value)),
			    k->p, k->width, y, 1, 0, far + found, count);
		found++;
	}
	return found;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static double sum_of_squares(const krylov *k)
{
	double sum = 0;
	for (int i = 0; i < k->rows; i++) {
		const float *row = k->a + (size_t)i * (size_t)k->ld;
		double part[4] = {0};
		int j = 0;
		for (; j + 4 <= k->cols; j += 4)
			for (int c = 0; c < 4; c++)
				part[c] += (double)row[j + c] * (double)row[j + c];
		for (; j < k->cols; j++)
			part[0] += (double)row[j] * (double)row[j];
		sum += (part[0] + part[1]) + (part[2] + part[3]);
	}
	return sum;
}

int muon_krylov_spectrum(muon_krylov *result, int64_t rows, int64_t cols, const float *a, int64_t ld,
			 int vectors, float *left, float *right, double *workspace)
{
	*result = (muon_krylov){.entropy = NAN};
	if (muon_krylov_workspace(rows, cols) == SIZE_MAX || ld < cols || ld > INT_MAX ||
	    vectors < 0 || vectors > MUON_KRYLOV_VECTORS)
		return MUON_E_ARGUMENT;
	krylov k = {.a = a, .rows = (int)rows, .cols = (int)cols, .ld = (int)ld};
	k.n = short_side(rows, cols);
	k.l = k.rows + k.cols - k.n;
	k.tall = rows >= cols;
	int steps = vectors ? VECTOR_STEPS : STEPS;
	k.block = block_size(k.n, steps);
	k.width = basis_width(k.n, steps);
	lay_out(&k, workspace);
	result->sumsq = sum_of_squares(&k);
	if (!isfinite(result->sumsq))
		return MUON_E_NONFINITE;
	if (!(result->sumsq > 0)) {
		if (vectors) {
			memset(left, 0, (size_t)rows * (size_t)vectors * sizeof *left);
			memset(right, 0, (size_t)cols * (size_t)vectors * sizeof *right);
		}
		return MUON_OK;
	}
	build_basis(&k);
	int code = find_ritz_values(&k);
	if (code)
		return code;
	result->sigma_first = sqrt(fmax(k.values[k.width - 1], 0));
	if (vectors)
		result->vectors = find_vectors(&k, vectors, k.tall ? right : left,
					       k.tall ? left : right);
	if (k.n > 1)
		result->entropy = estimate_entropy(&k, result->sumsq / k.n);
	return MUON_OK;
}
