#include "unit/kernels/matrix.h"

#include <float.h>

/* ---- helpers -------------------------------------------------------------------------------- */

typedef struct result {
	double *s;
	double sigma_floor;
	int64_t k;
} result;

static result gram_values(int64_t rows, int64_t cols, muon_dtype type, const void *stored,
			  int64_t ld, double scale)
{
	muon_gram gram;
	result r = {.k = rows < cols ? rows : cols, .sigma_floor = NAN};
	double *work = muon_alloc(muon_gram_workspace(rows, cols), sizeof *work);
	double *solver = muon_alloc(muon_gram_singular_values_workspace(r.k), sizeof *solver);
	r.s = matrix_alloc(r.k, 1);
	CU_ASSERT_TRUE_FATAL(work && solver);
	CU_ASSERT_EQUAL_FATAL(muon_gram_init(&gram, rows, cols, scale, NULL, false, work), MUON_OK);
	int code = rows < cols ? muon_gram_add_cols(&gram, type, stored, 0, cols, ld)
			       : muon_gram_add_rows(&gram, type, stored, 0, rows, ld);
	CU_ASSERT_EQUAL_FATAL(code, MUON_OK);
	CU_ASSERT_EQUAL(muon_gram_singular_values(&gram, r.s, &r.sigma_floor, solver), MUON_OK);
	muon_free(solver);
	muon_free(work);
	return r;
}

static result gesdd_values(int64_t rows, int64_t cols, const double *a)
{
	result r = {.k = rows < cols ? rows : cols, .sigma_floor = NAN};
	size_t size = muon_singular_values_gesdd_workspace(rows, cols);
	double *copy = matrix_alloc(rows, cols), *work = muon_alloc(size, sizeof *work);
	r.s = matrix_alloc(r.k, 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(work);
	memcpy(copy, a, (size_t)(rows * cols) * sizeof *a);
	int code = muon_singular_values_gesdd(rows, cols, copy, r.s, &r.sigma_floor, work);
	CU_ASSERT_EQUAL(code, MUON_OK);
	muon_free(copy);
	muon_free(work);
	return r;
}

/* Descending, not negative, and each within `tolerance` * largest of the expected. */
static void compare(const result *r, const double *expected, double tolerance)
{
	int wrong = 0;
	for (int64_t i = 0; i < r->k; i++) {
		wrong += !(r->s[i] >= 0) || (i && r->s[i] > r->s[i - 1]);
		wrong += !(fabs(r->s[i] - expected[i]) <= tolerance * expected[0]);
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

/* The promise: 1e-12 on the largest, 1e-7 of it on all, and what is above the floor much better. */
static void check_against(const result *r, const double *expected)
{
	int wrong = 0;
	compare(r, expected, 1e-7);
	UNIT_CLOSE(r->s[0], expected[0], 1e-12);
	CU_ASSERT_TRUE(r->sigma_floor >= 1e-9 * r->s[0] && r->sigma_floor <= 1e-7 * r->s[0]);
	/* an error in s^2 of at most the floor's square is, in s, floor^2 / 2s */
	for (int64_t i = 0; i < r->k; i++)
		if (expected[i] > 2 * r->sigma_floor)
			wrong += fabs(r->s[i] - expected[i]) * expected[i] >
				 r->sigma_floor * r->sigma_floor;
	CU_ASSERT_EQUAL(wrong, 0);
}

static void check_matrix(double *a, int64_t rows, int64_t cols, muon_dtype type, int64_t ld)
{
	void *stored = matrix_store(a, rows, cols, type, ld);
	double *expected = matrix_singular_values(rows, cols, a);
	result r = gram_values(rows, cols, type, stored, ld, 1);
	check_against(&r, expected);
	muon_free(r.s);
	muon_free(expected);
	muon_free(stored);
}

/* ---- from the Gram matrix ------------------------------------------------------------------- */

static void test_gram_random(void)
{
	static const int64_t shapes[][2] = {{1, 1},    {1, 9},    {9, 1},    {2, 2},     {13, 7},
					    {7, 13},   {64, 64},  {65, 63},  {200, 150}, {150, 200},
					    {500, 40}, {40, 500}, {300, 300}};
	static const muon_dtype types[] = {MUON_F32, MUON_BF16, MUON_F64};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (size_t t = 0; t < 3; t++) {
			int64_t rows = shapes[i][0], cols = shapes[i][1];
			double *a = matrix_normal(rows, cols, 17 * i + t);
			check_matrix(a, rows, cols, types[t], cols + (int64_t)i % 3);
			muon_free(a);
		}
}

/* Values that are 0 but for rounding come out below the floor. */
static void check_rank(int64_t rows, int64_t cols, int64_t rank, double *a)
{
	result r = gram_values(rows, cols, MUON_F64, a, cols, 1);
	int64_t above = 0;
	for (int64_t i = 0; i < r.k; i++)
		above += r.s[i] > r.sigma_floor;
	CU_ASSERT_EQUAL(above, rank);
	CU_ASSERT_TRUE(r.sigma_floor <= 1e-7 * r.s[0]);
	muon_free(r.s);
	muon_free(a);
}

/* left * right^T with entries of a few values, which round alike, instead of random ones */
static double *structured(int64_t rows, int64_t cols, int64_t rank, int kind)
{
	double *left = matrix_normal(rows, rank, 21), *right = matrix_normal(cols, rank, 22);
	for (int64_t i = 0; i < rows * rank; i++)
		left[i] = kind == 0 ? (left[i] < 0 ? -1 : 1) : kind == 1 ? 0.1 : rint(2 * left[i]);
	for (int64_t i = 0; i < cols * rank; i++)
		right[i] = kind == 0   ? (right[i] < 0 ? -1 : 1)
			   : kind == 1 ? 0.3
				       : rint(2 * right[i]);
	double *a = matrix_product(rows, cols, rank, left, NULL, right);
	muon_free(left);
	muon_free(right);
	return a;
}

static void test_gram_rank(void)
{
	static const int64_t cases[][3] = {{60, 60, 1},     {60, 40, 17},    {40, 60, 39},
					   {256, 256, 10},  {400, 300, 200}, {2000, 100, 30},
					   {100, 2000, 99}, {512, 512, 2}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int64_t rows = cases[i][0], cols = cases[i][1], rank = cases[i][2];
		check_rank(rows, cols, rank, matrix_of_rank(rows, cols, rank, i));
	}
	for (int kind = 0; kind < 3; kind++) {
		check_rank(96, 96, 1, structured(96, 96, 1, kind));
		check_rank(512, 512, 1, structured(512, 512, 1, kind));
	}
	check_rank(512, 600, 3, structured(512, 600, 3, 0));
}

enum { EQUAL, EQUAL_BUT_FOR_SIGN, POWERS_OF_TWO, CONSTANT, SOME_OTHERS, KINDS };

/* Long sums of few distinct terms, where rounding errors don't cancel. Rank 1, or 2. */
static void check_equal_lines(int64_t longest, int64_t k, bool wide, int kind, uint64_t seed)
{
	double *lines = matrix_normal(2, k, seed), *a = matrix_alloc(longest, k);
	for (int64_t j = 0; j < 2 * k && seed % 2; j++)
		lines[j] = (double)(float)lines[j];
	for (int64_t i = 0; i < longest; i++) {
		const double *line = lines + (kind == SOME_OTHERS && i % 50 == 0 ? k : 0);
		double factor = kind == EQUAL_BUT_FOR_SIGN && i * i % 7 < 3 ? -1
				: kind == POWERS_OF_TWO			    ? ldexp(1, (int)(i % 8))
									    : 1;
		for (int64_t j = 0; j < k; j++)
			a[wide ? j * longest + i : i * k + j] =
			    factor * line[kind == CONSTANT ? 0 : j];
	}
	muon_free(lines);
	check_rank(wide ? k : longest, wide ? longest : k, kind == SOME_OTHERS ? 2 : 1, a);
}

static void test_gram_equal_lines(void)
{
	static const int64_t shapes[][2] = {{65536, 2}, {30000, 3}, {8192, 8},  {6000, 16},
					    {1000, 50}, {50, 50},   {1200, 100}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (int kind = 0; kind < KINDS; kind++)
			for (uint64_t seed = 0; seed < 4; seed++)
				if (kind != SOME_OTHERS || shapes[i][1] > 2)
					check_equal_lines(shapes[i][0], shapes[i][1],
							  seed >= 2 && shapes[i][0] != shapes[i][1],
							  kind, seed);
}

/* A rank-300 product rounded to float32 has rank 300 by NumPy's rule. */
static void test_gram_numerical_rank(void)
{
	double *a = matrix_of_rank(768, 768, 300, 5);
	void *stored = matrix_store(a, 768, 768, MUON_F32, 768);
	result r = gram_values(768, 768, MUON_F32, stored, 768, 1);
	double threshold = r.s[0] * 768 * muon_dtype_eps(MUON_F32);
	int rank = 0;
	for (int i = 0; i < 768; i++)
		rank += r.s[i] > threshold;
	CU_ASSERT_EQUAL(rank, 300);
	CU_ASSERT_TRUE(threshold > r.sigma_floor);
	muon_free(r.s);
	muon_free(stored);
	muon_free(a);
}

static void check_size(double size, muon_dtype type)
{
	double *a = matrix_normal(90, 70, 31), largest = 0;
	for (int i = 0; i < 90 * 70; i++) {
		a[i] *= size;
		largest = fmax(largest, fabs(a[i]));
	}
	void *stored = matrix_store(a, 90, 70, type, 70);
	double *expected = matrix_singular_values(90, 70, a);
	result r = gram_values(90, 70, type, stored, 70, muon_gram_scale(largest));
	check_against(&r, expected);
	compare(&r, expected, 1e-12);
	muon_free(r.s);
	muon_free(expected);
	muon_free(stored);
	muon_free(a);
}

static void test_gram_sizes(void)
{
	check_size(1e38 / 5, MUON_F32);
	check_size(1e-38, MUON_F32);
	check_size(1e-43, MUON_F32);
	check_size(1e200, MUON_F64);
	check_size(1e-200, MUON_F64);
	check_size(1e-306, MUON_F64);
	check_size(1e305, MUON_F64);
}

static void test_gram_zero(void)
{
	double a[12 * 5] = {0};
	result r = gram_values(12, 5, MUON_F64, a, 5, muon_gram_scale(0));
	for (int i = 0; i < 5; i++)
		CU_ASSERT_EQUAL(r.s[i], 0);
	CU_ASSERT_EQUAL(r.sigma_floor, 0);
	muon_free(r.s);
}

static int gram_code(double *a, int64_t fed)
{
	muon_gram gram;
	double work[2000], solver[20000], s[4], sigma_floor;
	CU_ASSERT_TRUE_FATAL(muon_gram_workspace(6, 4) <= 2000);
	CU_ASSERT_TRUE_FATAL(muon_gram_singular_values_workspace(4) <= 20000);
	CU_ASSERT_EQUAL(muon_gram_init(&gram, 6, 4, 1, NULL, false, work), MUON_OK);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, a, 0, fed, 4), MUON_OK);
	return muon_gram_singular_values(&gram, s, &sigma_floor, solver);
}

static void test_gram_refusals(void)
{
	double a[24] = {1, 2, 3, 4, 5};
	CU_ASSERT_EQUAL(gram_code(a, 6), MUON_OK);
	CU_ASSERT_EQUAL(gram_code(a, 5), MUON_E_ARGUMENT); /* a row is missing */
	a[7] = NAN;
	CU_ASSERT_EQUAL(gram_code(a, 6), MUON_E_NONFINITE);
	a[7] = -INFINITY;
	CU_ASSERT_EQUAL(gram_code(a, 6), MUON_E_NONFINITE);
	a[7] = 1e200; /* wants a scale */
	CU_ASSERT_EQUAL(gram_code(a, 6), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_singular_values_workspace(INT64_MAX), SIZE_MAX);
}

static void test_eigenvalues_refusals(void)
{
	const double bad[] = {NAN, INFINITY, -INFINITY};
	double w[3], *work = muon_alloc(muon_eigenvalues_workspace(3), sizeof *work);
	CU_ASSERT_PTR_NOT_NULL_FATAL(work);
	for (int i = 0; i < 3; i++) {
		double a[9] = {2, 0, 0, 0, 3, bad[i], 0, 0, 1};
		CU_ASSERT_EQUAL(muon_eigenvalues(3, a, 3, w, work), MUON_E_NONFINITE);
	}
	double a[9] = {2, 0, 0, NAN, 3, 0, NAN, NAN, 1}; /* the upper triangle isn't read */
	CU_ASSERT_EQUAL(muon_eigenvalues(3, a, 3, w, work), MUON_OK);
	CU_ASSERT_TRUE(fabs(w[0] - 1) < 1e-15 && fabs(w[2] - 3) < 1e-15);
	muon_free(work);
}

/* ---- spectra whose entropies and ranks are known -------------------------------------------- */

typedef struct oracle {
	const char *name;
	double entropy, effective_rank, entropy_rank, stable_rank;
} oracle;

/* Entropy of p = s^2 over ln n; exp of the entropy of s over its sum; exp of that of p; sum of p
 * over the largest. Noise counts as 0. */
static void check_oracle(const result *r, const oracle *o, double tolerance)
{
	double sum = 0, sumsq = 0, h = 0, q_entropy = 0;
	for (int64_t i = 0; i < r->k && r->s[i] > r->sigma_floor; i++) {
		sum += r->s[i];
		sumsq += r->s[i] * r->s[i];
	}
	for (int64_t i = 0; i < r->k && r->s[i] > r->sigma_floor; i++) {
		double p = r->s[i] * r->s[i] / sumsq, q = r->s[i] / sum;
		h -= p * log(p);
		q_entropy -= q * log(q);
	}
	CU_ASSERT_DOUBLE_EQUAL(h / log((double)r->k), o->entropy, tolerance);
	UNIT_CLOSE(exp(q_entropy), o->effective_rank, tolerance);
	UNIT_CLOSE(exp(h), o->entropy_rank, tolerance);
	UNIT_CLOSE(sumsq / (r->s[0] * r->s[0]), o->stable_rank, tolerance);
}

static void check_spectrum(int64_t rows, int64_t cols, const double *s, const oracle *o)
{
	double *a = matrix_of_spectrum(rows, cols, s, 77);
	result gram = gram_values(rows, cols, MUON_F64, a, cols, 1);
	check_oracle(&gram, o, 2e-9); /* of which half is the digits of the table */
	UNIT_CLOSE(gram.s[0], s[0], 1e-12);
	compare(&gram, s, 1e-7);
	if (rows * cols < 10000) {
		result gesdd = gesdd_values(rows, cols, a);
		check_oracle(&gesdd, o, 2e-9);
		compare(&gesdd, s, 1e-14);
		muon_free(gesdd.s);
	}
	muon_free(gram.s);
	muon_free(a);
}

static void test_spectra(void)
{
	static const oracle oracles[] = {
	    {"flat", 1, 8, 8, 8},
	    {"one", 0, 1, 1, 1},
	    {"two equal", 1.0 / 3, 2, 2, 2},
	    {"halving", 0.360479336, 3.898666875, 2.116144299, 1.333312988},
	    {"harmonic", 0.561582132, 6.146285629, 3.214838795, 1.527422052},
	};
	static const int64_t shapes[][2] = {{8, 8}, {20, 8}, {8, 33}};
	for (size_t kind = 0; kind < 5; kind++)
		for (size_t shape = 0; shape < 3; shape++) {
			double s[8];
			for (int i = 0; i < 8; i++)
				s[i] = kind == 0   ? 1
				       : kind == 1 ? i < 1
				       : kind == 2 ? i < 2
				       : kind == 3 ? ldexp(1, -i)
						   : 1.0 / (i + 1);
			check_spectrum(shapes[shape][0], shapes[shape][1], s, &oracles[kind]);
		}
	static const oracle pair = {"4, 3", 0.942683189, 1.979626330, 1.922099724, 1.5625};
	check_spectrum(2, 2, (const double[]){4, 3}, &pair);
	check_spectrum(2, 900, (const double[]){4, 3}, &pair);
}

/* Orthogonal n x n of the discrete cosine transform: less work than matrix_orthonormal */
static double *cosines(int64_t n)
{
	const double pi = 3.141592653589793;
	double *q = matrix_alloc(n, n);
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j < n; j++) {
			double angle = pi * (double)((2 * i + 1) * j % (4 * n)) / (double)(2 * n);
			q[i * n + j] = sqrt((j ? 2.0 : 1.0) / (double)n) * cos(angle);
		}
	return q;
}

/* R diag(s) Q^T for a reflection R */
static void check_long_spectrum(int64_t n, const double *s, const double *q, const oracle *o)
{
	double *a = matrix_alloc(n, n), *u = matrix_normal(n, 1, 91), *p = matrix_alloc(n, 1);
	const int size = (int)n;
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j < n; j++)
			a[i * n + j] = s[i] * q[j * n + i];
	cblas_dgemv(CblasRowMajor, CblasTrans, size, size, 1, a, size, u, 1, 0, p, 1);
	cblas_dger(CblasRowMajor, size, size, -2 / cblas_ddot(size, u, 1, u, 1), u, 1, p, 1, a,
		   size);
	result r = gram_values(n, n, MUON_F64, a, n, 1);
	check_oracle(&r, o, 4e-9); /* the table's 179.650093 has no more digits */
	compare(&r, s, 1e-9);
	UNIT_CLOSE(r.s[0], s[0], 1e-12);
	muon_free(r.s);
	muon_free(p);
	muon_free(u);
	muon_free(a);
}

static void test_long_spectra(void)
{
	static const oracle harmonic = {"harmonic", 0.235690345, 179.650093, 5.094141849,
					1.643934567};
	static const oracle geometric = {"geometric", 0.710363735, 270.338900, 135.235654,
					 50.251256188};
	double s[1000], *q = cosines(1000);
	for (int i = 0; i < 1000; i++)
		s[i] = 1.0 / (i + 1);
	check_long_spectrum(1000, s, q, &harmonic);
	for (int i = 0; i < 1000; i++)
		s[i] = pow(0.99, i);
	check_long_spectrum(1000, s, q, &geometric);
	muon_free(q);
}

/* ---- by LAPACK ------------------------------------------------------------------------------ */

static void test_gesdd_small_values(void)
{
	static const int64_t shapes[][2] = {{13, 13}, {60, 13}, {13, 60}, {14, 13}};
	double s[13];
	for (int i = 0; i < 13; i++)
		s[i] = pow(10, -i);
	for (size_t i = 0; i < 4; i++) {
		int64_t rows = shapes[i][0], cols = shapes[i][1];
		double *a = matrix_of_spectrum(rows, cols, s, i);
		result r = gesdd_values(rows, cols, a);
		compare(&r, s, 1e-15);
		UNIT_CLOSE(r.s[11], 1e-11, 1e-3); /* which a Gram matrix loses */
		double longest = (double)(rows > cols ? rows : cols);
		UNIT_CLOSE(r.sigma_floor, longest * DBL_EPSILON, 1e-12);
		muon_free(r.s);
		muon_free(a);
	}
}

static void test_gesdd_rank(void)
{
	double *a = matrix_of_rank(80, 50, 20, 1);
	result r = gesdd_values(80, 50, a);
	CU_ASSERT_TRUE(r.s[19] > r.sigma_floor && r.s[20] < r.sigma_floor);
	muon_free(r.s);
	muon_free(a);
}

static void test_gesdd_sizes(void)
{
	const double sizes[] = {1e-300, 1e300};
	for (int i = 0; i < 2; i++) {
		double a[4] = {3 * sizes[i], 0, 0, -2 * sizes[i]};
		result r = gesdd_values(2, 2, a);
		UNIT_CLOSE(r.s[0], 3 * sizes[i], 1e-14);
		UNIT_CLOSE(r.s[1], 2 * sizes[i], 1e-14);
		muon_free(r.s);
	}
	double zero[6] = {0}, row[3] = {2, -1, 2};
	result r = gesdd_values(2, 3, zero);
	CU_ASSERT_TRUE(r.s[0] == 0 && r.s[1] == 0 && r.sigma_floor == 0);
	muon_free(r.s);
	r = gesdd_values(1, 3, row);
	UNIT_CLOSE(r.s[0], 3, 1e-15);
	muon_free(r.s);
	r = gesdd_values(3, 1, row);
	UNIT_CLOSE(r.s[0], 3, 1e-15);
	muon_free(r.s);
}

static void test_gesdd_refusals(void)
{
	double a[4] = {1, NAN, 0, 1}, s[2], sigma_floor, work[1000];
	CU_ASSERT_TRUE_FATAL(muon_singular_values_gesdd_workspace(2, 2) <= 1000);
	CU_ASSERT_EQUAL(muon_singular_values_gesdd(2, 2, a, s, &sigma_floor, work),
			MUON_E_NONFINITE);
	a[1] = INFINITY;
	CU_ASSERT_EQUAL(muon_singular_values_gesdd(2, 2, a, s, &sigma_floor, work),
			MUON_E_NONFINITE);
	CU_ASSERT_EQUAL(muon_singular_values_gesdd(0, 2, a, s, &sigma_floor, work),
			MUON_E_ARGUMENT);
	const int64_t huge = INT64_C(1) << 40;
	CU_ASSERT_EQUAL(muon_singular_values_gesdd_workspace(huge, 2), SIZE_MAX);
	CU_ASSERT_EQUAL(muon_singular_values_gesdd_workspace(2, huge), SIZE_MAX);
	CU_ASSERT_EQUAL(muon_singular_values_gesdd_workspace(INT64_MAX, INT64_MAX), SIZE_MAX);
	CU_ASSERT_EQUAL(muon_singular_values_gesdd(huge, 2, a, s, &sigma_floor, work),
			MUON_E_TOO_LARGE);
}

static void test_blas(void)
{
	CU_ASSERT_EQUAL(strncmp(muon_blas_description(), "OpenBLAS ", 9), 0);
	CU_ASSERT_PTR_NOT_NULL(strchr(muon_blas_description(), '('));
	muon_blas_single_thread();
	CU_ASSERT_EQUAL(openblas_get_num_threads(), 1);
}

UNIT_SUITE(singular_values, {"Gram: random matrices", test_gram_random},
	   {"Gram: zero values and the floor", test_gram_rank},
	   {"Gram: equal lines and the floor", test_gram_equal_lines},
	   {"eigenvalues: refusals", test_eigenvalues_refusals},
	   {"Gram: numerical rank", test_gram_numerical_rank},
	   {"Gram: tiny and huge entries", test_gram_sizes}, {"Gram: zero matrix", test_gram_zero},
	   {"Gram: refusals", test_gram_refusals}, {"known spectra", test_spectra},
	   {"known spectra of 1000", test_long_spectra},
	   {"gesdd: small values", test_gesdd_small_values}, {"gesdd: rank", test_gesdd_rank},
	   {"gesdd: tiny, huge, thin", test_gesdd_sizes}, {"gesdd: refusals", test_gesdd_refusals},
	   {"BLAS", test_blas})
