/* Krylov estimates against full decompositions. */
#include "base/random.h"
#include "unit/unit.h"

#include <math.h>
#include <muon/kernels.h>
#include <stdlib.h>
#include <string.h>

/* What the singular values say. */
typedef struct truth {
	double sumsq, first, entropy;
} truth;

static truth decompose(int m, int n, const float *a)
{
	int k = m < n ? m : n;
	double *work = malloc(muon_gram_workspace(m, n) * sizeof *work), floor, rest = 0;
	double *solver = malloc(muon_gram_singular_values_workspace(k) * sizeof *solver);
	double *sigma = malloc((size_t)k * sizeof *sigma);
	muon_gram gram;
	CU_ASSERT_EQUAL_FATAL(muon_gram_init(&gram, m, n, 1, NULL, false, work), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(m >= n ? muon_gram_add_rows(&gram, MUON_F32, a, 0, m, n)
				     : muon_gram_add_cols(&gram, MUON_F32, a, 0, n, n),
			      MUON_OK);
	CU_ASSERT_EQUAL_FATAL(muon_gram_singular_values(&gram, sigma, &floor, solver), MUON_OK);
	truth t = {.first = sigma[0], .sumsq = gram.moments.sumsq};
	for (int i = 0; i < k; i++)
		rest += sigma[i] * sigma[i];
	for (int i = 0; i < k; i++) {
		double p = sigma[i] * sigma[i] / rest;
		t.entropy -= p > 1e-14 ? p * log(p) / log(k) : 0;
	}
	free(work);
	free(solver);
	free(sigma);
	return t;
}

typedef enum spectrum_kind { GAUSSIAN, LOW_RANK, SPIKE, DECAYING, KINDS } spectrum_kind;

/* rows x cols with the singular values of that kind, roughly. */
static float *make(spectrum_kind kind, int m, int n, uint64_t seed)
{
	float *a = calloc((size_t)m * (size_t)n, sizeof *a);
	double *u = malloc((size_t)m * sizeof *u), *v = malloc((size_t)n * sizeof *v);
	muon_random random;
	muon_random_seed(&random, seed);
	int terms = kind == GAUSSIAN ? 0 : kind == SPIKE ? 1 : kind == LOW_RANK ? 7 : 60;
	for (int i = 0; kind != LOW_RANK && i < m * n; i++)
		a[i] = (float)(kind == DECAYING ? 0.001 : 1) * (float)muon_random_normal(&random);
	for (int t = 0; t < terms; t++) {
		for (int i = 0; i < m; i++)
			u[i] = muon_random_normal(&random);
		for (int j = 0; j < n; j++)
			v[j] = muon_random_normal(&random);
		for (int i = 0; i < m; i++)
			for (int j = 0; j < n; j++)
				a[i * n + j] += (float)(u[i] * v[j] / (t + 1));
	}
	free(u);
	free(v);
	return a;
}

static muon_krylov estimate(int m, int n, const float *a, int64_t ld)
{
	muon_krylov result;
	double *work = malloc(muon_krylov_workspace(m, n) * sizeof *work);
	CU_ASSERT_EQUAL(muon_krylov_spectrum(&result, m, n, a, ld, 0, NULL, NULL, work), MUON_OK);
	free(work);
	return result;
}

static void test_spectra(void)
{
	static const int shapes[][2] = {{200, 200}, {150, 400}, {400, 150}, {384, 384}};
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (spectrum_kind kind = 0; kind < KINDS; kind++) {
			int m = shapes[s][0], n = shapes[s][1];
			float *a = make(kind, m, n, s + 10);
			truth t = decompose(m, n, a);
			muon_krylov e = estimate(m, n, a, n);
			UNIT_CLOSE(e.sumsq, t.sumsq, 1e-12);
			UNIT_CLOSE(e.sigma_first, t.first, kind == GAUSSIAN ? 0.03 : 1e-4);
			CU_ASSERT_TRUE(e.sigma_first <= t.first * (1 + 1e-5));
			CU_ASSERT_TRUE(fabs(e.entropy - t.entropy) < 0.008);
			free(a);
		}
}

/* A basis as large as the space: nothing is left to estimate. */
static void test_small(void)
{
	for (int k = 1; k <= 8; k++) {
		float *a = make(GAUSSIAN, 30, k, (uint64_t)k);
		truth t = decompose(30, k, a);
		muon_krylov e = estimate(30, k, a, k);
		UNIT_CLOSE(e.sigma_first, t.first, 1e-5);
		CU_ASSERT_TRUE(k == 1 ? isnan(e.entropy) : fabs(e.entropy - t.entropy) < 1e-5);
		free(a);
	}
}

/* The same matrix inside a wider array, and again: the same bits. */
static void test_bits(void)
{
	enum { M = 160, N = 140, LD = 150 };
	float *a = make(SPIKE, M, N, 3), *wide = calloc(M * LD, sizeof *wide);
	for (int i = 0; i < M; i++)
		memcpy(wide + i * LD, a + i * N, N * sizeof *a);
	muon_krylov x = estimate(M, N, a, N), y = estimate(M, N, a, N), z = estimate(M, N, wide, LD);
	CU_ASSERT_EQUAL(memcmp(&x, &y, sizeof x), 0);
	UNIT_CLOSE(z.entropy, x.entropy, 1e-6);
	UNIT_CLOSE(z.sigma_first, x.sigma_first, 1e-6);
	free(a);
	free(wide);
}

/* A v = sigma u, both orthonormal, for matrices with gaps between their singular values. */
static void check_vectors(int m, int n, int count, int rank)
{
	float *a = make(rank == 7 ? LOW_RANK : DECAYING, m, n, 5);
	float *left = malloc((size_t)(m * count) * sizeof *left);
	float *right = malloc((size_t)(n * count) * sizeof *right);
	double *work = malloc(muon_krylov_workspace(m, n) * sizeof *work);
	muon_krylov e;
	CU_ASSERT_EQUAL(muon_krylov_spectrum(&e, m, n, a, n, count, left, right, work), MUON_OK);
	CU_ASSERT_EQUAL(e.vectors, count < rank ? count : rank);
	double before = INFINITY;
	for (int c = 0; c < e.vectors; c++) {
		double sigma = 0, error = 0, norm = 0, first = 0;
		for (int i = 0; i < m; i++) {
			double y = 0, u = (double)left[i * count + c];
			for (int j = 0; j < n; j++)
				y += (double)a[i * n + j] * (double)right[j * count + c];
			sigma += u * y;
			norm += u * u;
			first += u * (double)left[i * count];
		}
		for (int i = 0; i < m; i++) {
			double y = 0;
			for (int j = 0; j < n; j++)
				y += (double)a[i * n + j] * (double)right[j * count + c];
			error += pow(y - sigma * (double)left[i * count + c], 2);
		}
		UNIT_CLOSE(norm, 1, 1e-4);
		CU_ASSERT_TRUE(fabs(first - (c ? 0 : norm)) < 1e-4);
		CU_ASSERT_TRUE(sqrt(error) < 1e-3 * sigma);
		CU_ASSERT_TRUE(sigma <= before);
		before = sigma;
	}
	for (int c = e.vectors; c < count; c++)
		CU_ASSERT_EQUAL(left[c], 0);
	free(a);
	free(left);
	free(right);
	free(work);
}

static void test_vectors(void)
{
	check_vectors(200, 150, 3, 150);
	check_vectors(150, 200, 4, 150);
	check_vectors(90, 60, 8, 7);
	check_vectors(12, 300, 2, 12);
}

static void test_refused(void)
{
	float *a = make(GAUSSIAN, 140, 130, 1), zero[130 * 3] = {0};
	double *work = malloc(muon_krylov_workspace(140, 130) * sizeof *work);
	muon_krylov e;
	CU_ASSERT_EQUAL(muon_krylov_spectrum(&e, 140, 130, a, 129, 0, NULL, NULL, work),
			MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_krylov_spectrum(&e, 140, 130, a, 130, MUON_KRYLOV_VECTORS + 1, NULL,
					     NULL, work),
			MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_krylov_workspace(0, 3), SIZE_MAX);
	CU_ASSERT_EQUAL(muon_krylov_workspace(INT64_MAX, 3), SIZE_MAX);
	CU_ASSERT_EQUAL(muon_krylov_spectrum(&e, 3, 130, zero, 130, 0, NULL, NULL, work), MUON_OK);
	CU_ASSERT_EQUAL(e.sumsq, 0);
	CU_ASSERT_TRUE(isnan(e.entropy));
	a[77] = NAN;
	CU_ASSERT_EQUAL(muon_krylov_spectrum(&e, 140, 130, a, 130, 0, NULL, NULL, work),
			MUON_E_NONFINITE);
	a[77] = INFINITY;
	CU_ASSERT_EQUAL(muon_krylov_spectrum(&e, 140, 130, a, 130, 0, NULL, NULL, work),
			MUON_E_NONFINITE);
	free(a);
	free(work);
}

UNIT_SUITE(krylov, {"estimates", test_spectra}, {"small matrices", test_small},
	   {"the same bits", test_bits}, {"singular vectors", test_vectors},
	   {"what is refused", test_refused})
