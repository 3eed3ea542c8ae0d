/* Matrices for the tests of the dense kernels: row-major float64, released with muon_free. */
#ifndef TESTS_KERNELS_MATRIX_H
#define TESTS_KERNELS_MATRIX_H

#include "unit/unit.h"

#include "base/memory.h"
#include "base/random.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <muon/kernels.h>
#include <string.h>

static inline double *matrix_alloc(int64_t rows, int64_t cols)
{
	double *a = muon_alloc((size_t)rows * (size_t)cols, sizeof *a);
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	return a;
}

static inline double *matrix_normal(int64_t rows, int64_t cols, uint64_t seed)
{
	double *a = matrix_alloc(rows, cols);
	muon_random random;
	muon_blas_single_thread(); /* as the kernels want it, and faster at these sizes */
	muon_random_seed(&random, seed);
	for (int64_t i = 0; i < rows * cols; i++)
		a[i] = muon_random_normal(&random);
	return a;
}

/* rows x k with orthonormal columns, k <= rows */
static inline double *matrix_orthonormal(int64_t rows, int64_t k, uint64_t seed)
{
	double *q = matrix_normal(rows, k, seed), *tau = matrix_alloc(k, 1);
	lapack_int m = (lapack_int)rows, n = (lapack_int)k;
	CU_ASSERT_EQUAL_FATAL(LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, m, n, q, n, tau), 0);
	CU_ASSERT_EQUAL_FATAL(LAPACKE_dorgqr(LAPACK_ROW_MAJOR, m, n, n, q, n, tau), 0);
	muon_free(tau);
	return q;
}

/* left (rows x k) * diag(s) * right^T (cols x k) */
static inline double *matrix_product(int64_t rows, int64_t cols, int64_t k, const double *left,
				     const double *s, const double *right)
{
	double *scaled = matrix_alloc(rows, k), *a = matrix_alloc(rows, cols);
	for (int64_t i = 0; i < rows * k; i++)
		scaled[i] = left[i] * (s ? s[i % k] : 1);
	cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)cols, (int)k, 1,
		    scaled, (int)k, right, (int)k, 0, a, (int)cols);
	muon_free(scaled);
	return a;
}

/* rows x cols of singular values s, min(rows, cols) of them */
static inline double *matrix_of_spectrum(int64_t rows, int64_t cols, const double *s, uint64_t seed)
{
	int64_t k = rows < cols ? rows : cols;
	double *left = matrix_orthonormal(rows, k, seed),
	       *right = matrix_orthonormal(cols, k, ~seed);
	double *a = matrix_product(rows, cols, k, left, s, right);
	muon_free(left);
	muon_free(right);
	return a;
}

/* rows x cols of the given rank, a product of Gaussian matrices */
static inline double *matrix_of_rank(int64_t rows, int64_t cols, int64_t rank, uint64_t seed)
{
	double *left = matrix_normal(rows, rank, seed), *right = matrix_normal(cols, rank, ~seed);
	double *a = matrix_product(rows, cols, rank, left, NULL, right);
	muon_free(left);
	muon_free(right);
	return a;
}

/* The matrix stored as `type` (f64, f32 or bf16) with leading dimension ld; the gaps hold NaN. `a`
 * becomes what was stored. */
static inline void *matrix_store(double *a, int64_t rows, int64_t cols, muon_dtype type, int64_t ld)
{
	size_t size = muon_dtype_size(type);
	unsigned char *stored = muon_alloc((size_t)rows * (size_t)ld, size);
	CU_ASSERT_PTR_NOT_NULL_FATAL(stored);
	memset(stored, 0xff, (size_t)rows * (size_t)ld * size);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++) {
			double *x = &a[i * cols + j];
			unsigned char *place = stored + (size_t)(i * ld + j) * size;
			if (type == MUON_BF16)
				*x = muon_round_bf16(*x);
			float f = (float)*x;
			uint32_t bits;
			memcpy(&bits, &f, sizeof bits);
			uint16_t upper = (uint16_t)(bits >> 16);
			if (type == MUON_F64) {
				memcpy(place, x, sizeof *x);
				continue;
			}
			*x = (double)f;
			if (type == MUON_F32)
				memcpy(place, &f, sizeof f);
			else
				memcpy(place, &upper, sizeof upper);
		}
	return stored;
}

/* Singular values by LAPACK's dgesdd, descending. */
static inline double *matrix_singular_values(int64_t rows, int64_t cols, const double *a)
{
	int64_t k = rows < cols ? rows : cols;
	double *copy = matrix_alloc(rows, cols), *s = matrix_alloc(k, 1);
	memcpy(copy, a, (size_t)(rows * cols) * sizeof *a);
	lapack_int m = (lapack_int)cols, n = (lapack_int)rows;
	lapack_int info = LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'N', m, n, copy, m, s, NULL, 1, NULL, 1);
	CU_ASSERT_EQUAL_FATAL(info, 0);
	muon_free(copy);
	return s;
}

#endif
