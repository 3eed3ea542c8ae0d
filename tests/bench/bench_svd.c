/* Singular values of float32 matrices on one thread: this library, from the stored entries, against
 * LAPACK's sgesdd and dgesdd (values only, LAPACK's work array and conversion not counted).
 *
 *     bench_svd [--quick]        --quick leaves out the largest matrix
 *
 * The floor is the time of m n^2 + 4/3 n^3 operations (Gram matrix and tridiagonalisation) at the
 * rate of dgemm, which is measured around each timing and whose median counts. */
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <muon/kernels.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	GEMM = 2048, /* size of the dgemm that sets the rate */
	RATES = 16,
	REPEATS = 3 /* of ours; the least time counts */
};

static void *allocate(size_t count, size_t size)
{
	void *block = muon_alloc_aligned(count, size);
	if (!block) {
		fprintf(stderr, "bench_svd: out of memory\n");
		exit(5);
	}
	return block;
}

static void demand(int code, const char *what)
{
	if (code) {
		fprintf(stderr, "bench_svd: %s failed with %d\n", what, code);
		exit(5);
	}
}

/* ---- rate of dgemm -------------------------------------------------------------------------- */

typedef struct gemm {
	double *a, *b, *c;
	double rate[RATES];
	int count;
} gemm;

static void gemm_setup(gemm *g)
{
	const size_t size = (size_t)GEMM * GEMM;
	g->a = allocate(size, sizeof(double));
	g->b = allocate(size, sizeof(double));
	g->c = allocate(size, sizeof(double));
	for (size_t i = 0; i < size; i++) {
		g->a[i] = (double)(i % 1021) / 1021 - 0.5;
		g->b[i] = (double)(i % 1019) / 1019 - 0.5;
		g->c[i] = 0;
	}
}

static void gemm_measure(gemm *g)
{
	const double start = muon_seconds();
	cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, GEMM, GEMM, GEMM, 1, g->a, GEMM,
		    g->b, GEMM, 0, g->c, GEMM);
	const double seconds = muon_seconds() - start;
	if (g->count < RATES)
		g->rate[g->count++] = 2.0 * GEMM * GEMM * GEMM / seconds;
}

static int compare_doubles(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static double gemm_median(gemm *g)
{
	qsort(g->rate, (size_t)g->count, sizeof *g->rate, compare_doubles);
	return (g->rate[(g->count - 1) / 2] + g->rate[g->count / 2]) / 2;
}

/* ---- the three ways ------------------------------------------------------------------------- */

/* Seconds from float32 entries to singular values; *entries are those of reading, converting and
 * measuring the entries alone. */
static double time_ours(int rows, int cols, const float *a, double *s, double *entries)
{
	const int k = rows < cols ? rows : cols;
	double *work = allocate(muon_gram_workspace(rows, cols), sizeof *work);
	double *solver = allocate(muon_gram_singular_values_workspace(k), sizeof *solver);
	double sigma_floor, best = INFINITY;
	muon_gram gram;
	*entries = INFINITY;
	for (int repeat = 0; repeat < 2 * REPEATS; repeat++) {
		const double start = muon_seconds();
		demand(repeat % 2 ? muon_gram_init_entries(&gram, rows, cols, NULL, false, work)
				  : muon_gram_init(&gram, rows, cols, 1, NULL, false, work),
		       "muon_gram_init");
		demand(rows < cols ? muon_gram_add_cols(&gram, MUON_F32, a, 0, cols, cols)
				   : muon_gram_add_rows(&gram, MUON_F32, a, 0, rows, cols),
		       "muon_gram_add");
		if (!gram.entries_only)
			demand(muon_gram_singular_values(&gram, s, &sigma_floor, solver),
			       "muon_gram_singular_values");
		const double seconds = muon_seconds() - start;
		double *least = gram.entries_only ? entries : &best;
		*least = fmin(*least, seconds);
	}
	muon_free_aligned(work);
	muon_free_aligned(solver);
	return best;
}

/* To LAPACK, row-major rows x cols is column-major cols x rows. */
static double time_sgesdd(int rows, int cols, const float *a, double *s)
{
	const int k = rows < cols ? rows : cols;
	const size_t size = (size_t)rows * (size_t)cols;
	float *copy = allocate(size, sizeof *copy), *values = allocate((size_t)k, sizeof *values);
	lapack_int *ints = allocate(8 * (size_t)k, sizeof *ints);
	float none, wanted;
	memcpy(copy, a, size * sizeof *copy);
	demand(LAPACKE_sgesdd_work(LAPACK_COL_MAJOR, 'N', cols, rows, copy, cols, values, &none, 1,
				   &none, 1, &wanted, -1, ints),
	       "sgesdd");
	/* a float may have lost the last digits of the size */
	const lapack_int length = (lapack_int)(wanted * 1.001f) + 1;
	float *work = allocate((size_t)length, sizeof *work);
	const double start = muon_seconds();
	demand(LAPACKE_sgesdd_work(LAPACK_COL_MAJOR, 'N', cols, rows, copy, cols, values, &none, 1,
				   &none, 1, work, length, ints),
	       "sgesdd");
	const double seconds = muon_seconds() - start;
	for (int i = 0; i < k; i++)
		s[i] = (double)values[i];
	muon_free_aligned(copy);
	muon_free_aligned(values);
	muon_free_aligned(ints);
	muon_free_aligned(work);
	return seconds;
}

static double time_dgesdd(int rows, int cols, const float *a, double *s)
{
	const size_t size = (size_t)rows * (size_t)cols;
	double *copy = allocate(size, sizeof *copy), sigma_floor;
	double *work = allocate(muon_singular_values_gesdd_workspace(rows, cols), sizeof *work);
	demand(muon_convert_f64(MUON_F32, a, size, copy), "muon_convert_f64");
	const double start = muon_seconds();
	demand(muon_singular_values_gesdd(rows, cols, copy, s, &sigma_floor, work), "dgesdd");
	const double seconds = muon_seconds() - start;
	muon_free_aligned(copy);
	muon_free_aligned(work);
	return seconds;
}

/* ---- table ---------------------------------------------------------------------------------- */

static double largest_error(int k, const double *s, const double *exact)
{
	double worst = 0;
	for (int i = 0; i < k; i++)
		worst = fmax(worst, fabs(s[i] - exact[i]));
	return worst / exact[0];
}

static void run(gemm *g, int rows, int cols)
{
	const int k = rows < cols ? rows : cols, longest = rows < cols ? cols : rows;
	const size_t size = (size_t)rows * (size_t)cols;
	float *a = allocate(size, sizeof *a);
	double *ours = allocate(3 * (size_t)k, sizeof *ours), *single = ours + k,
	       *exact = single + k;
	muon_random random;
	muon_random_seed(&random, 1);
	for (size_t i = 0; i < size; i++)
		a[i] = (float)(0.02 * muon_random_normal(&random));

	double entries;
	g->count = 0;
	gemm_measure(g);
	gemm_measure(g);
	const double t_ours = time_ours(rows, cols, a, ours, &entries);
	gemm_measure(g);
	gemm_measure(g);
	const double t_single = time_sgesdd(rows, cols, a, single);
	gemm_measure(g);
	const double t_double = time_dgesdd(rows, cols, a, exact);
	gemm_measure(g);

	const double rate = gemm_median(g), n = k, m = longest;
	const double limit = (m * n * n + 4.0 / 3 * n * n * n) / rate;
	char shape[32];
	snprintf(shape, sizeof shape, "%d x %d", rows, cols);
	printf(
	    "| %-11s | %6.3f | %7.3f | %7.3f | %7.3f | %8.1fx | %8.1fx | %7.0e | %8.0e | %10.1f | "
	    "%7.3f | %4.0f%% |\n",
	    shape, t_ours, entries, t_single, t_double, t_single / t_ours, t_double / t_ours,
	    largest_error(k, ours, exact), largest_error(k, single, exact), rate / 1e9, limit,
	    100 * limit / t_ours);
	fflush(stdout);
	muon_free_aligned(a);
	muon_free_aligned(ours);
}

int main(int argc, char **argv)
{
	const bool quick = argc == 2 && !strcmp(argv[1], "--quick");
	if (argc > 1 && !quick) {
		fprintf(stderr, "usage: bench_svd [--quick]\n");
		return 2;
	}
	gemm g = {0};
	muon_blas_single_thread();
	gemm_setup(&g);
	gemm_measure(&g);
	printf(
	    "Singular values of Gaussian float32 matrices, %s, 1 thread. Seconds; errors relative "
	    "to s_1, against dgesdd.\n\n",
	    muon_blas_description());
	printf("| matrix      |   ours | entries |  sgesdd |  dgesdd | vs sgesdd | vs dgesdd |   "
	       "error | "
	       "sgesdd's | dgemm GF/s |   floor | share |\n"
	       "|-------------|-------:|--------:|--------:|--------:|----------:|----------:|-----"
	       "---:|"
	       "---------:|-----------:|--------:|------:|\n");
	run(&g, 768, 768);
	run(&g, 2048, 1408);
	run(&g, 4096, 1024);
	if (!quick)
		run(&g, 4096, 4096);
	muon_free_aligned(g.a);
	muon_free_aligned(g.b);
	muon_free_aligned(g.c);
	return 0;
}
