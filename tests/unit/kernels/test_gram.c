#include "unit/kernels/exact_sum.h"
#include "unit/kernels/matrix.h"

#include <float.h>

/* ---- helpers -------------------------------------------------------------------------------- */

/* The workspace has exactly the size asked for, so that AddressSanitizer sees what is beyond. */
static double *start(muon_gram *gram, int64_t rows, int64_t cols, double scale, const double *gain,
		     bool gain_on_rows)
{
	size_t size = muon_gram_workspace(rows, cols);
	double *workspace = muon_alloc(size, sizeof *workspace);
	CU_ASSERT_PTR_NOT_NULL_FATAL(workspace);
	memset(workspace, 0xff, size * sizeof *workspace);
	CU_ASSERT_EQUAL_FATAL(
	    muon_gram_init(gram, rows, cols, scale, gain, gain_on_rows, workspace), MUON_OK);
	return workspace;
}

/* Feed `stored` in chunks of `chunk` rows (columns where wide). */
static void feed(muon_gram *gram, muon_dtype type, const void *stored, int64_t ld, int64_t chunk)
{
	const unsigned char *bytes = stored;
	bool wide = gram->rows < gram->cols;
	int64_t longest = wide ? gram->cols : gram->rows;
	size_t size = muon_dtype_size(type);
	for (int64_t at = 0; at < longest; at += chunk) {
		int64_t count = longest - at < chunk ? longest - at : chunk;
		int code =
		    wide ? muon_gram_add_cols(gram, type, bytes + (size_t)at * size, at, count, ld)
			 : muon_gram_add_rows(gram, type, bytes + (size_t)(at * ld) * size, at,
					      count, ld);
		CU_ASSERT_EQUAL_FATAL(code, MUON_OK);
	}
}

/* Largest difference between the lower triangle and A^T A or A A^T, over eps times
 * the largest diagonal entry. */
static double gram_error(const muon_gram *gram, const double *a)
{
	bool wide = gram->rows < gram->cols;
	int64_t k = gram->k, depth = wide ? gram->cols : gram->rows;
	double worst = 0, top = 0;
	for (int64_t i = 0; i < k; i++)
		for (int64_t j = 0; j <= i; j++) {
			exact_sum sum = {0, 0};
			for (int64_t l = 0; l < depth; l++) {
				double x = wide ? a[i * depth + l] : a[l * k + i];
				double y = wide ? a[j * depth + l] : a[l * k + j];
				exact_add_product(&sum, x * gram->scale, y * gram->scale);
			}
			double expected = exact_value(&sum);
			double difference = fabs(gram->g[i + j * k] - expected);
			worst = difference > worst || isnan(difference) ? difference : worst;
			top = i == j ? fmax(top, expected) : top;
		}
	return top > 0 ? worst / (top * DBL_EPSILON) : worst;
}

static void check_shape(int64_t rows, int64_t cols, muon_dtype type, int64_t extra, int64_t chunk)
{
	double *a = matrix_normal(rows, cols, (uint64_t)(rows * 1000 + cols));
	void *stored = matrix_store(a, rows, cols, type, cols + extra);
	muon_gram gram;
	double *workspace = start(&gram, rows, cols, 1, NULL, false);
	feed(&gram, type, stored, cols + extra, chunk);
	double error = gram_error(&gram, a);
	CU_ASSERT_TRUE(error < 20);
	muon_moments whole = {0};
	muon_moments_add(&whole, a, (size_t)(rows * cols));
	CU_ASSERT_EQUAL(gram.moments.count, rows * cols);
	CU_ASSERT_EQUAL(gram.moments.max_abs, whole.max_abs);
	CU_ASSERT_EQUAL(gram.moments.bf16_exact, whole.bf16_exact);
	CU_ASSERT_EQUAL(gram.moments.zeros, whole.zeros);
	UNIT_CLOSE(gram.moments.m2, whole.m2, 1e-12);
	UNIT_CLOSE(gram.moments.m4, whole.m4, 1e-12);
	UNIT_CLOSE(gram.moments.sumsq, whole.sumsq, 1e-12);
	UNIT_CLOSE(gram.moments.bf16_error_sq, whole.bf16_error_sq, 1e-12);
	muon_free(workspace);
	muon_free(stored);
	muon_free(a);
}

/* ---- cases ---------------------------------------------------------------------------------- */

static void test_shapes(void)
{
	static const int64_t shapes[][2] = {
	    {1, 1},   {1, 5},   {5, 1},    {1, 70001}, {70001, 1}, {7, 7},    {40, 30},
	    {30, 40}, {64, 64}, {700, 20}, {20, 700},  {3000, 50}, {50, 3000}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		int64_t rows = shapes[i][0], cols = shapes[i][1], all = rows > cols ? rows : cols;
		check_shape(rows, cols, MUON_F32, 0, all);
		check_shape(rows, cols, MUON_F32, 3, all);
		check_shape(rows, cols, MUON_BF16, 1, all);
		check_shape(rows, cols, MUON_F64, 0, all / 3 + 1);
	}
	check_shape(40, 30, MUON_F32, 5, 1);
	check_shape(30, 40, MUON_BF16, 0, 1);
}

/* Against naive sums only on a sample of entries: more than one strip, more than one panel. */
static void check_large(int64_t rows, int64_t cols)
{
	double *a = matrix_normal(rows, cols, 3);
	bool wide = rows < cols;
	int64_t k = wide ? rows : cols, depth = wide ? cols : rows;
	muon_gram gram;
	double *workspace = start(&gram, rows, cols, 1, NULL, false);
	feed(&gram, MUON_F64, a, cols, depth);
	double worst = 0;
	for (int64_t j = 0; j < k; j += 37)
		for (int64_t i = j; i < k; i += 1 + (k - j) / 9) {
			double expected =
			    wide ? cblas_ddot((int)depth, a + i * depth, 1, a + j * depth, 1)
				 : cblas_ddot((int)depth, a + i, (int)k, a + j, (int)k);
			worst = fmax(worst, fabs(gram.g[i + j * k] - expected));
		}
	CU_ASSERT_TRUE(worst < 1e-14 * (double)depth);
	muon_free(workspace);
	muon_free(a);
}

static void test_strips(void)
{
	check_large(560, 520);
	check_large(520, 560);
}

/* Blocks that start at multiples of the depth: same bits; a threaded product too. */
static void check_same_bits(int64_t rows, int64_t cols)
{
	double *a = matrix_normal(rows, cols, 4), *gain = matrix_normal(cols, 1, 5);
	void *stored = matrix_store(a, rows, cols, MUON_F32, cols);
	int64_t depth = muon_gram_panel_depth(rows, cols), longest = rows > cols ? rows : cols;
	CU_ASSERT_TRUE(depth >= 1 && depth <= longest && depth < longest / 2);
	muon_gram one, chunked, threaded;
	double *first = start(&one, rows, cols, 1, gain, false);
	double *second = start(&chunked, rows, cols, 1, gain, false);
	double *third = start(&threaded, rows, cols, 1, gain, false);
	threaded.threads = 3;
	feed(&one, MUON_F32, stored, cols, longest);
	feed(&chunked, MUON_F32, stored, cols, depth);
	feed(&threaded, MUON_F32, stored, cols, 2 * depth);
	size_t k = (size_t)one.k;
	int wrong = 0;
	for (size_t j = 0; j < k; j++)
		for (size_t i = j; i < k; i++)
			wrong += one.g[i + j * k] != chunked.g[i + j * k] ||
				 one.g[i + j * k] != threaded.g[i + j * k];
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(memcmp(&one.moments, &chunked.moments, sizeof one.moments), 0);
	CU_ASSERT_EQUAL(memcmp(&one.moments, &threaded.moments, sizeof one.moments), 0);
	CU_ASSERT_TRUE(one.gain_sumsq == chunked.gain_sumsq &&
		       one.gain_sumsq == threaded.gain_sumsq);
	muon_free(first);
	muon_free(second);
	muon_free(third);
	muon_free(stored);
	muon_free(gain);
	muon_free(a);
}

static void test_same_bits(void)
{
	check_same_bits(5000, 60);
	check_same_bits(60, 5000);
	check_same_bits(540, 520);
	check_same_bits(520, 540);
}

static void check_gain(int64_t rows, int64_t cols, bool on_rows)
{
	double *a = matrix_normal(rows, cols, 6),
	       *gain = matrix_normal(on_rows ? rows : cols, 1, 7);
	int64_t longest = rows > cols ? rows : cols;
	muon_gram gram;
	double *workspace = start(&gram, rows, cols, 0.25, gain, on_rows);
	a[1] = NAN; /* left out */
	feed(&gram, MUON_F64, a, cols, longest / 2 + 3);
	exact_sum expected = {0, 0};
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++) {
			double y = a[i * cols + j] * gain[on_rows ? i : j];
			if (!isnan(y))
				exact_add_product(&expected, y, y);
		}
	UNIT_CLOSE(gram.gain_sumsq, exact_value(&expected), 1e-13);
	muon_free(workspace);
	muon_free(gain);
	muon_free(a);
}

static void test_gain(void)
{
	check_gain(3000, 70, false);
	check_gain(3000, 70, true);
	check_gain(70, 3000, false);
	check_gain(70, 3000, true);
	check_gain(9, 9, false);
	check_gain(9, 9, true);
}

static void test_not_finite(void)
{
	enum { ROWS = 900, COLS = 80 };
	double *a = matrix_normal(ROWS, COLS, 8);
	a[0] = NAN;
	a[5 * COLS + 7] = INFINITY;
	a[500 * COLS + 79] = -INFINITY;
	a[ROWS * COLS - 1] = NAN;
	muon_gram gram;
	double *workspace = start(&gram, ROWS, COLS, 1, NULL, false);
	feed(&gram, MUON_F64, a, COLS, ROWS);
	CU_ASSERT_EQUAL(gram.moments.nan, 2);
	CU_ASSERT_EQUAL(gram.moments.inf, 2);
	CU_ASSERT_EQUAL(gram.moments.count, ROWS * COLS - 4);
	a[0] = a[5 * COLS + 7] = a[500 * COLS + 79] = a[ROWS * COLS - 1] = 0;
	double error = gram_error(&gram, a);
	CU_ASSERT_TRUE(error < 20);
	muon_free(workspace);
	muon_free(a);
}

static void test_entries_only(void)
{
	static const int64_t shapes[][2] = {{300, 40}, {40, 300}, {1, 1}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		int64_t rows = shapes[i][0], cols = shapes[i][1], longest = rows > cols ? rows : cols;
		double *a = matrix_normal(rows, cols, 9), *gain = matrix_normal(cols, 1, 10);
		double sigma[40], sigma_floor;
		muon_gram gram, full;
		size_t size = muon_gram_entries_workspace(rows, cols);
		double *panel = muon_alloc(size, sizeof *panel);
		double *workspace = start(&full, rows, cols, 1, gain, false);
		CU_ASSERT_PTR_NOT_NULL_FATAL(panel);
		CU_ASSERT_TRUE(size < muon_gram_workspace(rows, cols));
		CU_ASSERT_EQUAL_FATAL(
		    muon_gram_init_entries(&gram, rows, cols, gain, false, panel), MUON_OK);
		feed(&gram, MUON_F64, a, cols, longest);
		feed(&full, MUON_F64, a, cols, longest);
		CU_ASSERT_EQUAL(memcmp(&gram.moments, &full.moments, sizeof gram.moments), 0);
		CU_ASSERT_EQUAL(gram.gain_sumsq, full.gain_sumsq);
		CU_ASSERT_EQUAL(muon_gram_singular_values(&gram, sigma, &sigma_floor, NULL),
				MUON_E_ARGUMENT);
		muon_free(workspace);
		muon_free(panel);
		muon_free(gain);
		muon_free(a);
	}
}

static void test_scale(void)
{
	CU_ASSERT_EQUAL(muon_gram_scale(0), 1);
	CU_ASSERT_EQUAL(muon_gram_scale(1), 1);
	CU_ASSERT_EQUAL(muon_gram_scale(0x1p-149), 1);
	CU_ASSERT_EQUAL(muon_gram_scale((double)FLT_MAX), 1);
	CU_ASSERT_EQUAL(muon_gram_scale(NAN), 1);
	CU_ASSERT_EQUAL(muon_gram_scale(INFINITY), 1);
	const double extremes[] = {1e39, 1e100, 1e200, DBL_MAX, 1e-46, 1e-100, DBL_MIN, 0x1p-1074};
	for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++) {
		int exponent;
		double scale = muon_gram_scale(extremes[i]), scaled = extremes[i] * scale;
		CU_ASSERT_EQUAL(frexp(scale, &exponent), 0.5);
		CU_ASSERT_TRUE(scaled >= 0x1p-60 && scaled < 2);
		CU_ASSERT_EQUAL(scaled / scale, extremes[i]);
	}
}

static void test_arguments(void)
{
	double w[1 << 17], x[12] = {0};
	muon_gram gram;
	CU_ASSERT_EQUAL(muon_gram_init(&gram, 0, 3, 1, NULL, false, w), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_init(&gram, 3, -1, 1, NULL, false, w), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_init(&gram, 3, 3, 0, NULL, false, w), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_init(&gram, 3, 3, NAN, NULL, false, w), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_init(&gram, INT64_MAX, 3, 1, NULL, false, w), MUON_E_TOO_LARGE);
	CU_ASSERT_EQUAL(muon_gram_init(&gram, INT64_MAX, INT64_MAX, 1, NULL, false, w),
			MUON_E_TOO_LARGE);
	CU_ASSERT_EQUAL(muon_gram_workspace(INT64_MAX, INT64_MAX), SIZE_MAX);
	CU_ASSERT_EQUAL(muon_gram_workspace(INT64_C(1) << 31, INT64_C(1) << 31), SIZE_MAX);
	CU_ASSERT_EQUAL(muon_gram_workspace(0, 4), 0);
	CU_ASSERT_EQUAL(muon_gram_entries_workspace(0, 4), 0);
	CU_ASSERT_EQUAL(muon_gram_entries_workspace(INT64_MAX, INT64_MAX), SIZE_MAX);
	CU_ASSERT_EQUAL(muon_gram_init_entries(&gram, 0, 3, NULL, false, w), MUON_E_ARGUMENT);
	/* the short side squared and one panel, whatever the long side */
	CU_ASSERT_TRUE(muon_gram_workspace(1 << 30, 2048) < 2048 * 2048 + 2048 * 300);
	CU_ASSERT_EQUAL(muon_gram_workspace(2048, 1 << 30), muon_gram_workspace(1 << 30, 2048));

	CU_ASSERT_EQUAL_FATAL(muon_gram_init(&gram, 4, 3, 1, NULL, false, w), MUON_OK);
	CU_ASSERT_EQUAL(muon_gram_add_cols(&gram, MUON_F64, x, 0, 3, 3), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, 0, 5, 3), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, 0, 4, 2), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, -1, 1, 3), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, 0, -1, 3), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_DTYPE_NONE, x, 0, 4, 3), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, 0, 2, 3), MUON_OK);
	/* twice the same, and a gap */
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, 0, 2, 3), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, 3, 1, 3), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, 2, 0, 3), MUON_OK);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, 2, 2, 3), MUON_OK);
	CU_ASSERT_EQUAL(muon_gram_add_rows(&gram, MUON_F64, x, 4, 1, 3), MUON_E_ARGUMENT);
}

UNIT_SUITE(gram, {"shapes, types, leading dimension", test_shapes},
	   {"several strips and panels", test_strips},
	   {"same bits in chunks and on threads", test_same_bits}, {"gain", test_gain},
	   {"NaN and Inf", test_not_finite}, {"entries only", test_entries_only},
	   {"scale", test_scale}, {"arguments", test_arguments})
