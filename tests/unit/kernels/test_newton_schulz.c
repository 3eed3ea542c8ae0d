#include "unit/allocations.h"
#include "unit/kernels/matrix.h"

#include "base/pool.h"
#include "kernels/newton_schulz_internal.h"

#include <float.h>
#include <pthread.h>

/* ---- helpers -------------------------------------------------------------------------------- */

static muon_coefficients named(const char *name, int steps)
{
	muon_coefficients c;
	CU_ASSERT_EQUAL_FATAL(muon_coefficients_named(&c, name, steps), MUON_OK);
	return c;
}

static muon_ns_plan *plan_for(int64_t rows, int64_t cols, const muon_coefficients *c,
			      muon_arithmetic arithmetic, muon_ns_form form)
{
	muon_ns_plan *plan = NULL;
	CU_ASSERT_EQUAL_FATAL(muon_ns_plan_create_with(&plan, rows, cols, c, arithmetic, form),
			      MUON_OK);
	return plan;
}

/* Execute with a workspace of exactly the size asked for, full of NaN. */
static int execute(const muon_ns_plan *plan, const void *m, int64_t ld, void *o, int64_t ldo)
{
	const size_t size = muon_ns_workspace(plan);
	void *workspace = muon_alloc_aligned(size, 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(workspace);
	memset(workspace, 0xff, size);
	const int code = muon_newton_schulz(plan, m, ld, o, ldo, workspace);
	muon_free_aligned(workspace);
	return code;
}

/* Orthogonalise a float64 matrix in some arithmetic, with gaps between lines, and release the
 * plan. The matrix becomes what the arithmetic was given. */
static double *run_plan(muon_ns_plan *plan, int64_t rows, int64_t cols, muon_arithmetic arithmetic,
			double *m)
{
	const muon_dtype type = arithmetic == MUON_ARITHMETIC_F64 ? MUON_F64 : MUON_F32;
	const int64_t ld = cols + 3, ldo = cols + 5;
	void *stored = matrix_store(m, rows, cols, type, ld);
	void *result = muon_alloc((size_t)(rows * ldo), muon_dtype_size(type));
	double *o = matrix_alloc(rows, cols);
	CU_ASSERT_PTR_NOT_NULL_FATAL(result);
	CU_ASSERT_EQUAL_FATAL(execute(plan, stored, ld, result, ldo), MUON_OK);
	for (int64_t i = 0; i < rows; i++)
		muon_convert_f64(type, (char *)result + (size_t)(i * ldo) * muon_dtype_size(type),
				 (size_t)cols, o + i * cols);
	muon_free(stored);
	muon_free(result);
	muon_ns_plan_destroy(&plan);
	CU_ASSERT_PTR_NULL(plan);
	return o;
}

static double *orthogonalise(int64_t rows, int64_t cols, const muon_coefficients *c,
			     muon_arithmetic arithmetic, muon_ns_form form, double *m)
{
	return run_plan(plan_for(rows, cols, c, arithmetic, form), rows, cols, arithmetic, m);
}

/* What the iteration is: U f(S / (norm_factor |M|_F)) V^T, from LAPACK's decomposition. */
static double *exact_result(int64_t rows, int64_t cols, const muon_coefficients *c, const double *m)
{
	const int64_t k = rows < cols ? rows : cols;
	double *copy = matrix_alloc(rows, cols), *s = matrix_alloc(k, 1),
	       *u = matrix_alloc(rows, k), *vt = matrix_alloc(k, cols),
	       *o = matrix_alloc(rows, cols), sumsq = 0;
	memcpy(copy, m, (size_t)(rows * cols) * sizeof *m);
	CU_ASSERT_EQUAL_FATAL(LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', (int)rows, (int)cols, copy,
					     (int)cols, s, u, (int)k, vt, (int)cols),
			      0);
	for (int64_t i = 0; i < k; i++)
		sumsq += s[i] * s[i];
	for (int64_t i = 0; i < k; i++)
		s[i] = muon_coefficients_apply(c, s[i] / (c->norm_factor * sqrt(sumsq)));
	for (int64_t i = 0; i < rows * k; i++)
		u[i] *= s[i % k];
	cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)cols, (int)k, 1, u,
		    (int)k, vt, (int)cols, 0, o, (int)cols);
	muon_free(copy);
	muon_free(s);
	muon_free(u);
	muon_free(vt);
	return o;
}

/* |a - b|_F / |b|_F */
static double difference(int64_t count, const double *a, const double *b)
{
	double d = 0, sum = 0;
	for (int64_t i = 0; i < count; i++) {
		d += (a[i] - b[i]) * (a[i] - b[i]);
		sum += b[i] * b[i];
	}
	return sqrt(d / sum);
}

/* The difference of a form's result from the exact one. */
static double error_of(int64_t rows, int64_t cols, const muon_coefficients *c,
		       muon_arithmetic arithmetic, muon_ns_form form, double *m)
{
	double *o = orthogonalise(rows, cols, c, arithmetic, form, m);
	double *exact = exact_result(rows, cols, c, m);
	const double error = difference(rows * cols, o, exact);
	muon_free(o);
	muon_free(exact);
	return error;
}

static double *transposed(int64_t rows, int64_t cols, const double *a)
{
	double *t = matrix_alloc(cols, rows);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++)
			t[j * rows + i] = a[i * cols + j];
	return t;
}

static const muon_ns_form forms[] = {MUON_NS_PLAIN, MUON_NS_SYMMETRIC, MUON_NS_GRAM};
enum { FORMS = sizeof forms / sizeof *forms };

static const muon_arithmetic arithmetics[] = {MUON_ARITHMETIC_F32, MUON_ARITHMETIC_F64,
					      MUON_ARITHMETIC_BF16_EMULATED, MUON_ARITHMETIC_BF16,
					      MUON_ARITHMETIC_ONEDNN_F32};
enum { ARITHMETICS = sizeof arithmetics / sizeof *arithmetics };

static bool is_available(muon_arithmetic arithmetic)
{
	return !muon_arithmetic_is_onednn(arithmetic) || muon_onednn_available(arithmetic, NULL);
}

/* ---- vectors -------------------------------------------------------------------------------- */

/* Every form, in float64. */
static void check_values(int64_t rows, int64_t cols, const muon_coefficients *c,
			 const double *matrix, const double *expected, double tolerance)
{
	for (int f = 0; f < FORMS; f++) {
		double *m = matrix_alloc(rows, cols);
		memcpy(m, matrix, (size_t)(rows * cols) * sizeof *m);
		double *o = orthogonalise(rows, cols, c, MUON_ARITHMETIC_F64, forms[f], m);
		for (int64_t i = 0; i < rows * cols; i++)
			CU_ASSERT_DOUBLE_EQUAL(o[i], expected[i], tolerance);
		muon_free(o);
		muon_free(m);
	}
}

static void test_diagonal_vector(void)
{
	static const double by_step[][2] = {
	    {.97648192, 1.19326944}, {.72111759, .91191771},          {1.08945684, .80113769},
	    {.69604475, .97470236},  {1.119203929916, .722876168617},
	};
	const double m[] = {4, 0, 0, 3};
	for (int steps = 1; steps <= 5; steps++) {
		const muon_coefficients c = named("jordan", steps);
		const double *s = by_step[steps - 1];
		const double expected[] = {s[0], 0, 0, s[1]};
		check_values(2, 2, &c, m, expected, steps < 5 ? 5.1e-9 : 5.1e-13);
	}
}

static const double g1[] = {1, 2, 3, 4, 5, 6};
static const double g1_jordan[] = {-.5682900921, .0577419433, .6837739786,
				   .5633546843,  .4056128236, .2478709628};

static void test_rectangular_vector(void)
{
	/* made with 1e-6 added to 1.02 |M|_F */
	static const double polar_express[] = {-.5577634353, .0930534407, .7438703166,
					       .6393244981,  .4970105447, .3546965914};
	static const double polar[] = {-.5777918268, .1151166951, .8080252170,
				       .7067460210,  .5657574391, .4247688571};
	const muon_coefficients j5 = named("jordan", 5), pe5 = named("polar_express", 5);
	check_values(2, 3, &j5, g1, g1_jordan, 5.1e-11);
	double *transposed_g1 = transposed(2, 3, g1), *transposed_o = transposed(2, 3, g1_jordan);
	check_values(3, 2, &j5, transposed_g1, transposed_o, 5.1e-11);
	muon_free(transposed_g1);
	muon_free(transposed_o);
	check_values(2, 3, &pe5, g1, polar_express, 1e-5);
	double norm = sqrt(91);
	muon_coefficients added = pe5;
	added.norm_factor = (1.02 * norm + 1e-6) / norm;
	check_values(2, 3, &added, g1, polar_express, 5.1e-11);
	/* enough steps of a converging table give the polar factor */
	const muon_coefficients pe12 = named("polar_express", 12);
	check_values(2, 3, &pe12, g1, polar, 5.1e-11);
}

static void test_rectangular_spectrum(void)
{
	static const double sigma[][2] = {{.9203950870, .7000269820}, {.9447622525, .8729784042}};
	const double norm = sqrt(91);
	muon_coefficients c[] = {named("jordan", 5), named("polar_express", 5)};
	c[1].norm_factor = (1.02 * norm + 1e-6) / norm;
	for (int i = 0; i < 2; i++) {
		double m[6];
		memcpy(m, g1, sizeof m);
		double *o = orthogonalise(2, 3, &c[i], MUON_ARITHMETIC_F64, MUON_NS_AUTO, m);
		double *s = matrix_singular_values(2, 3, o);
		CU_ASSERT_DOUBLE_EQUAL(s[0], sigma[i][0], 5.1e-11);
		CU_ASSERT_DOUBLE_EQUAL(s[1], sigma[i][1], 5.1e-11);
		muon_free(o);
		muon_free(s);
	}
}

/* The update's root mean square over that of an orthonormal matrix, for Gaussian input; of single
 * draws, which differ by 0.02. */
static void test_gaussian_rms(void)
{
	static const struct {
		int64_t rows, cols;
		double rms;
	} shapes[] = {{128, 128, .888},
		      {256, 1024, .957},
		      {512, 512, .940},
		      {1024, 1024, .910},
		      {1408, 2048, .919}};
	const muon_coefficients c = named("jordan", 5);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const int64_t rows = shapes[i].rows, cols = shapes[i].cols;
		double *m = matrix_normal(rows, cols, 3 + i), sum = 0;
		muon_ns_plan *plan = plan_for(rows, cols, &c, MUON_ARITHMETIC_F32, MUON_NS_AUTO);
		muon_ns_plan_set_threads(plan, muon_processor_count());
		double *o = run_plan(plan, rows, cols, MUON_ARITHMETIC_F32, m);
		for (int64_t j = 0; j < rows * cols; j++)
			sum += o[j] * o[j];
		/* sqrt(max(rows, cols)) RMS(O) */
		CU_ASSERT_DOUBLE_EQUAL(sqrt(sum / (double)rows), shapes[i].rms, 0.0205);
		muon_free(m);
		muon_free(o);
	}
}

/* RMS(O) = sqrt(r / (rows cols)) of an orthogonal factor of rank r (Lemma 1 of the Moonlight
 * report), sqrt(1 / max(rows, cols)) of full rank. */
static void test_lemma_1(void)
{
	static const int64_t shapes[][3] = {{24, 40, 24}, {40, 24, 24}, {30, 30, 30},
					    {24, 40, 1},  {40, 24, 5},  {30, 30, 7}};
	const muon_coefficients c = named("polar_express", 20);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const int64_t rows = shapes[i][0], cols = shapes[i][1], rank = shapes[i][2];
		double *m = matrix_of_rank(rows, cols, rank, 90 + i), sum = 0;
		double *o =
		    orthogonalise(rows, cols, &c, MUON_ARITHMETIC_F64, MUON_NS_SYMMETRIC, m);
		for (int64_t j = 0; j < rows * cols; j++)
			sum += o[j] * o[j];
		UNIT_CLOSE(sum, (double)rank, 1e-9);
		muon_free(m);
		muon_free(o);
	}
}

/* ---- forms and arithmetics against the decomposition ----------------------------------------- */

static void test_forms_exact(void)
{
	static const int64_t shapes[][2] = {{1, 1},   {1, 9},    {9, 1},    {2, 3},
					    {65, 67}, {40, 130}, {150, 70}, {3, 1000}};
	for (const char *const *name = muon_coefficients_names(); *name; name++) {
		const muon_coefficients c = named(*name, 0);
		for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
			for (int f = 0; f < FORMS; f++) {
				const int64_t rows = shapes[i][0], cols = shapes[i][1];
				double *m = matrix_normal(rows, cols, 11 * i);
				CU_ASSERT(error_of(rows, cols, &c, MUON_ARITHMETIC_F64, forms[f],
						   m) < 1e-11);
				muon_free(m);
			}
	}
}

static void fill_geometric(double *s, int64_t k, double last)
{
	for (int64_t i = 0; i < k; i++)
		s[i] = pow(last, (double)i / (double)(k - 1));
}

typedef struct hard_case {
	const char *name;
	double *m;
	double plain, gram; /* largest errors allowed in float32 */
} hard_case;

static void test_f32_accuracy(void)
{
	enum { M = 64, N = 128 };
	double s[M], ones[M];
	fill_geometric(s, M, 1e-6);
	hard_case cases[] = {
	    {"gaussian", matrix_normal(M, N, 5), 1e-5, 3e-5},
	    {"condition 1e6", matrix_of_spectrum(M, N, s, 6), 5e-5, 6e-4},
	    {"rank 7", matrix_of_rank(M, N, 7, 7), 2e-4, 6e-4},
	    {"rank 1", matrix_of_rank(M, N, 1, 8), 5e-4, 2e-3},
	    {"one large", NULL, 4e-4, 6e-4},
	};
	for (int i = 0; i < M; i++)
		ones[i] = i ? 1e-4 : 1;
	cases[4].m = matrix_of_spectrum(M, N, ones, 9);
	static const char *const tables[] = {"jordan", "you5", "polar_express"};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
			const muon_coefficients c = named(tables[t], 5);
			for (int f = 0; f < FORMS; f++) {
				const double error =
				    error_of(M, N, &c, MUON_ARITHMETIC_F32, forms[f], cases[i].m);
				CU_ASSERT(error < (forms[f] == MUON_NS_GRAM ? cases[i].gram
									    : cases[i].plain));
			}
		}
		muon_free(cases[i].m);
	}
}

static void test_many_steps(void)
{
	enum { M = 24, N = 40 };
	double *m = matrix_normal(M, N, 17);
	for (const char *const *name = muon_coefficients_names(); *name; name++)
		for (int steps = 1; steps <= MUON_NS_MAX_STEPS; steps++) {
			const muon_coefficients c = named(*name, steps);
			for (int f = 0; f < FORMS; f++) {
				/* Jordan's steps never settle, and amplify what they are given;
				 * cans and aol end on polynomials that are steep at 1 */
				CU_ASSERT(error_of(M, N, &c, MUON_ARITHMETIC_F64, forms[f], m) <
					  1e-6);
				if (steps <= 10)
					CU_ASSERT(error_of(M, N, &c, MUON_ARITHMETIC_F32, forms[f],
							   m) < 5e-4);
			}
		}
	muon_free(m);
}

static void test_bf16_emulated(void)
{
	static const int64_t shapes[][2] = {{64, 96}, {130, 64}, {1, 20}, {230, 210}};
	const muon_coefficients c = named("jordan", 5);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (int f = 0; f < 2; f++) {
			const int64_t rows = shapes[i][0], cols = shapes[i][1];
			double *m = matrix_normal(rows, cols, 23 + i);
			double *o = orthogonalise(rows, cols, &c, MUON_ARITHMETIC_BF16_EMULATED,
						  forms[f], m);
			double *exact = exact_result(rows, cols, &c, m);
			const double error = difference(rows * cols, o, exact);
			CU_ASSERT(error > 1e-4 && error < 0.03);
			int64_t wide = 0;
			for (int64_t j = 0; j < rows * cols; j++)
				wide += o[j] != muon_round_bf16(o[j]);
			CU_ASSERT_EQUAL(wide, 0);
			muon_free(m);
			muon_free(o);
			muon_free(exact);
		}
}

/* One step of 1 x 1, each rounding written out. */
static void test_bf16_roundings(void)
{
	const muon_coefficients c = {
	    .steps = 1, .norm_factor = 1.7, .step = {{3.4445, -4.775, 2.0315}}};
	double m = 1;
	const double x = muon_round_bf16((double)(float)(1 / 1.7)), s = muon_round_bf16(x * x);
	const double p = muon_round_bf16((double)(float)(c.step[0].c * s * s + c.step[0].b * s));
	const double y = muon_round_bf16((double)(float)(p * x + c.step[0].a * x));
	double *o = orthogonalise(1, 1, &c, MUON_ARITHMETIC_BF16_EMULATED, MUON_NS_AUTO, &m);
	CU_ASSERT_EQUAL(o[0], y);
	muon_free(o);
}

/* ---- laws ----------------------------------------------------------------------------------- */

static void test_transpose(void)
{
	static const int64_t shapes[][2] = {{3, 1000}, {65, 67}, {200, 90}};
	const muon_coefficients c = named("jordan", 5);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (int f = 0; f < FORMS; f++) {
			const int64_t rows = shapes[i][0], cols = shapes[i][1];
			double *m = matrix_normal(rows, cols, 31 + i);
			double *mt = transposed(rows, cols, m);
			double *o = orthogonalise(rows, cols, &c, MUON_ARITHMETIC_F32, forms[f], m);
			double *ot =
			    orthogonalise(cols, rows, &c, MUON_ARITHMETIC_F32, forms[f], mt);
			double *back = transposed(cols, rows, ot);
			CU_ASSERT(difference(rows * cols, back, o) < 1e-5);
			muon_free(m);
			muon_free(mt);
			muon_free(o);
			muon_free(ot);
			muon_free(back);
		}
}

/* The result for factor * m, in `type`. */
static double *result_of_scaled(int64_t rows, int64_t cols, const double *m, double factor,
				muon_arithmetic arithmetic)
{
	const muon_coefficients c = named("jordan", 5);
	double *scaled = matrix_alloc(rows, cols);
	for (int64_t i = 0; i < rows * cols; i++)
		scaled[i] = m[i] * factor;
	double *o = orthogonalise(rows, cols, &c, arithmetic, MUON_NS_AUTO, scaled);
	muon_free(scaled);
	return o;
}

static void check_scales(muon_arithmetic arithmetic, const double *factors, size_t count,
			 double tolerance)
{
	enum { M = 20, N = 33 };
	double *m = matrix_normal(M, N, 41);
	double *o = result_of_scaled(M, N, m, 1, arithmetic);
	for (size_t i = 0; i < count; i++) {
		double *scaled = result_of_scaled(M, N, m, factors[i], arithmetic);
		CU_ASSERT(difference(M * N, scaled, o) < tolerance);
		muon_free(scaled);
	}
	muon_free(o);
	muon_free(m);
}

static void test_scale(void)
{
	/* entries reach 4 */
	const double f32[] = {1e-30, 1e30, 1e-9, (double)FLT_MAX / 5, (double)FLT_MIN};
	check_scales(MUON_ARITHMETIC_F32, f32, 5, 1e-5);
	const double denormal[] = {1e-41}; /* three digits left */
	check_scales(MUON_ARITHMETIC_F32, denormal, 1, 0.02);
	check_scales(MUON_ARITHMETIC_BF16_EMULATED, f32, 5, 0.03);
	const double f64[] = {1e-300, 1e300, DBL_MAX / 5, DBL_MIN};
	check_scales(MUON_ARITHMETIC_F64, f64, 4, 1e-12);
	const double tiny[] = {1e-318};
	check_scales(MUON_ARITHMETIC_F64, tiny, 1, 0.02);
}

/* A power of two changes no bit as long as no entry becomes subnormal. */
static void test_power_of_two(void)
{
	enum { M = 20, N = 33 };
	double *m = matrix_normal(M, N, 43);
	for (int i = 0; i < M * N; i++)
		m[i] = (double)(float)m[i];
	for (int a = 0; a < ARITHMETICS; a++) {
		if (!is_available(arithmetics[a]))
			continue;
		double *o = result_of_scaled(M, N, m, 1, arithmetics[a]);
		for (int exponent = -100; exponent <= 120; exponent += 44) {
			double *scaled =
			    result_of_scaled(M, N, m, ldexp(1, exponent), arithmetics[a]);
			CU_ASSERT_EQUAL(memcmp(scaled, o, M * N * sizeof *o), 0);
			muon_free(scaled);
		}
		muon_free(o);
	}
	muon_free(m);
}

/* G1 at a norm of 1e-9, where an epsilon of 1e-7 added to it would shorten the result, from a norm
 * of 1.1564 to 0.7915; and at norms of 1e-30 and 1e30. */
static void test_norms(void)
{
	static const double norms[] = {1e-9, 1e-30, 1e30};
	const muon_coefficients c = named("jordan", 5);
	for (int n = 0; n < 3; n++) {
		double m[6], sum = 0;
		for (int i = 0; i < 6; i++)
			m[i] = g1[i] * norms[n] / sqrt(91);
		check_values(2, 3, &c, m, g1_jordan, 5.1e-11);
		double *o = orthogonalise(2, 3, &c, MUON_ARITHMETIC_F32, MUON_NS_AUTO, m);
		for (int i = 0; i < 6; i++) {
			CU_ASSERT_DOUBLE_EQUAL(o[i], g1_jordan[i], 2e-6);
			sum += o[i] * o[i];
		}
		CU_ASSERT_DOUBLE_EQUAL(sqrt(sum), 1.1564, 5.1e-5);
		muon_free(o);
	}
}

/* A single denormal entry has a direction too. */
static void test_smallest(void)
{
	const muon_coefficients c = named("jordan", 5);
	double m[6] = {0, 0, 0, 0, 0x1p-149, 0};
	double *o = orthogonalise(2, 3, &c, MUON_ARITHMETIC_F32, MUON_NS_AUTO, m);
	for (int i = 0; i < 6; i++)
		CU_ASSERT_DOUBLE_EQUAL(o[i], i == 4 ? 0.696436 : 0, 1e-6);
	muon_free(o);
}

static void test_zero(void)
{
	const muon_coefficients c = named("jordan", 5);
	for (int a = 0; a < ARITHMETICS; a++) {
		double m[6] = {0, -0.0, 0, 0, -0.0, 0};
		if (!is_available(arithmetics[a]))
			continue;
		double *o = orthogonalise(2, 3, &c, arithmetics[a], MUON_NS_AUTO, m);
		for (int j = 0; j < 6; j++)
			CU_ASSERT_EQUAL(o[j], 0);
		muon_free(o);
	}
}

static void test_nonfinite(void)
{
	static const muon_precision all[] = {MUON_PRECISION_F32, MUON_PRECISION_F64,
					     MUON_PRECISION_BF16_EMULATED};
	static const double bad[] = {INFINITY, -INFINITY, NAN};
	const muon_coefficients c = named("jordan", 5);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		for (int place = 0; place < 6; place++)
			for (int b = 0; b < 3; b++) {
				muon_ns_plan *plan = NULL;
				CU_ASSERT_EQUAL_FATAL(
				    muon_ns_plan_create(&plan, 2, 3, &c, all[i], MUON_NS_AUTO), 0);
				double m[6] = {1, 2, 0, 3, 4, 5}, o[6] = {7};
				float f[6] = {1, 2, 0, 3, 4, 5}, of[6] = {7};
				m[place] = bad[b];
				f[place] = (float)bad[b];
				const bool is_f64 = all[i] == MUON_PRECISION_F64;
				CU_ASSERT_EQUAL(is_f64 ? execute(plan, m, 3, o, 3)
						       : execute(plan, f, 3, of, 3),
						MUON_E_NONFINITE);
				CU_ASSERT(o[0] == 7 && of[0] == 7); /* as it was */
				muon_ns_plan_destroy(&plan);
			}
}

/* ---- buffers -------------------------------------------------------------------------------- */

/* m stays as it is, the gaps of o too; in place gives the same bits. */
static void check_buffers(int64_t rows, int64_t cols, const muon_coefficients *c,
			  muon_arithmetic arithmetic, muon_ns_form form)
{
	const int64_t ld = cols + 3, ldo = cols + 1;
	const muon_dtype type = arithmetic == MUON_ARITHMETIC_F64 ? MUON_F64 : MUON_F32;
	const size_t size = muon_dtype_size(type);
	const size_t bytes = (size_t)(rows * ld) * size, line = (size_t)cols * size;
	muon_ns_plan *plan = plan_for(rows, cols, c, arithmetic, form);
	double *m = matrix_normal(rows, cols, 51);
	char *stored = matrix_store(m, rows, cols, type, ld);
	char *before = matrix_store(m, rows, cols, type, ld);
	char *o = matrix_store(m, rows, cols, type, ldo), gap[8];
	memset(gap, 0xff, sizeof gap);
	CU_ASSERT_EQUAL(execute(plan, stored, ld, o, ldo), MUON_OK);
	CU_ASSERT_EQUAL(memcmp(stored, before, bytes), 0);
	CU_ASSERT_EQUAL(execute(plan, stored, ld, stored, ld), MUON_OK);
	for (int64_t i = 0; i < rows; i++) {
		const char *of = o + (size_t)(i * ldo) * size;
		const char *in_place = stored + (size_t)(i * ld) * size;
		CU_ASSERT_EQUAL(memcmp(of, in_place, line), 0);
		CU_ASSERT_EQUAL(memcmp(of + line, gap, size), 0);
		CU_ASSERT_EQUAL(memcmp(in_place + line, gap, size), 0);
	}
	muon_free(m);
	muon_free(stored);
	muon_free(before);
	muon_free(o);
	muon_ns_plan_destroy(&plan);
}

static void test_buffers(void)
{
	for (int a = 0; a < ARITHMETICS; a++) {
		const bool can_gram =
		    arithmetics[a] == MUON_ARITHMETIC_F32 || arithmetics[a] == MUON_ARITHMETIC_F64;
		if (!is_available(arithmetics[a]))
			continue;
		for (int f = 0; f < (can_gram ? FORMS : FORMS - 1); f++)
			for (int steps = 4; steps <= 5; steps++) { /* ends in one X or the other */
				const muon_coefficients c = named("jordan", steps);
				check_buffers(30, 40, &c, arithmetics[a], forms[f]);
				check_buffers(40, 30, &c, arithmetics[a], forms[f]);
				check_buffers(1, 40, &c, arithmetics[a], forms[f]);
				check_buffers(40, 1, &c, arithmetics[a], forms[f]);
			}
	}
}

static void test_bad_arguments(void)
{
	muon_coefficients c = named("jordan", 5);
	muon_ns_plan *plan = NULL;
	float m[6] = {1}, o[8];
	const muon_precision f32 = MUON_PRECISION_F32;
	CU_ASSERT_EQUAL(muon_ns_plan_create(&plan, 0, 3, &c, f32, MUON_NS_AUTO), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_ns_plan_create(&plan, 3, -1, &c, f32, MUON_NS_AUTO), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_ns_plan_create(&plan, 3, 3, &c, f32, (muon_ns_form)9),
			MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_ns_plan_create(&plan, 3, 3, &c, (muon_precision)9, MUON_NS_AUTO),
			MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_ns_plan_create(&plan, INT64_MAX, 3, &c, f32, MUON_NS_AUTO),
			MUON_E_TOO_LARGE);
	CU_ASSERT_EQUAL(muon_ns_plan_create(&plan, 1 << 30, 3, &c, f32, MUON_NS_AUTO),
			MUON_E_TOO_LARGE);
	CU_ASSERT_EQUAL(
	    muon_ns_plan_create(&plan, 3, 3, &c, MUON_PRECISION_BF16_EMULATED, MUON_NS_GRAM),
	    MUON_E_UNSUPPORTED);
	CU_ASSERT_PTR_NULL(plan);
	CU_ASSERT_EQUAL_FATAL(muon_ns_plan_create(&plan, 2, 3, &c, f32, MUON_NS_AUTO), MUON_OK);
	CU_ASSERT_EQUAL(execute(plan, m, 2, o, 3), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(execute(plan, m, 3, o, 2), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(execute(plan, m, 3, m, 4), MUON_E_ARGUMENT);
	muon_ns_plan_destroy(&plan);
	muon_ns_plan_destroy(&plan); /* NULL-safe */
}

static void check_refused(muon_coefficients c)
{
	muon_ns_plan *plan = NULL;
	CU_ASSERT_EQUAL(muon_ns_plan_create(&plan, 4, 4, &c, MUON_PRECISION_F32, MUON_NS_AUTO),
			MUON_E_ARGUMENT);
	CU_ASSERT_PTR_NULL(plan);
}

static void test_bad_coefficients(void)
{
	muon_coefficients c = named("jordan", 5);
	c.steps = 0;
	check_refused(c);
	c.steps = 21;
	check_refused(c);
	c = named("jordan", 5);
	c.norm_factor = 0;
	check_refused(c);
	c.norm_factor = NAN;
	check_refused(c);
	c.norm_factor = 0.5; /* singular values up to 2 diverge */
	check_refused(c);
	c = named("jordan", 5);
	c.step[2].b = NAN;
	check_refused(c);
	c = named("aol", 4);
	c.norm_factor = 1; /* turns large singular values round */
	check_refused(c);
}

/* ---- plans ---------------------------------------------------------------------------------- */

static void test_choice(void)
{
	static const struct {
		int64_t rows, cols;
		muon_ns_form form;
		double flops; /* 1e9, five steps; tiles on the diagonal add some */
	} shapes[] = {{2048, 2048, MUON_NS_SYMMETRIC, 171.8},
		      {1408, 2048, MUON_NS_GRAM, 63.4},
		      {2048, 1408, MUON_NS_GRAM, 63.4},
		      {2048, 11264, MUON_NS_GRAM, 403.7},
		      {64, 2048, MUON_NS_GRAM, 0.054}};
	const muon_coefficients c = named("jordan", 5);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const int64_t rows = shapes[i].rows, cols = shapes[i].cols;
		muon_ns_plan *plan = plan_for(rows, cols, &c, MUON_ARITHMETIC_F32, MUON_NS_AUTO);
		CU_ASSERT_EQUAL(muon_ns_plan_form(plan), shapes[i].form);
		UNIT_CLOSE(muon_ns_flops(plan) / 1e9, shapes[i].flops, 0.06);
		muon_ns_plan_destroy(&plan);
		const double m = (double)(rows < cols ? rows : cols);
		const double n = (double)(rows < cols ? cols : rows);
		plan = plan_for(rows, cols, &c, MUON_ARITHMETIC_F32, MUON_NS_PLAIN);
		UNIT_CLOSE(muon_ns_flops(plan), 5 * (4 * m * m * n + 2 * m * m * m), 1e-12);
		muon_ns_plan_destroy(&plan);
		plan = plan_for(rows, cols, &c, MUON_ARITHMETIC_BF16_EMULATED, MUON_NS_AUTO);
		CU_ASSERT_EQUAL(muon_ns_plan_form(plan), MUON_NS_SYMMETRIC);
		muon_ns_plan_destroy(&plan);
	}
}

static void test_every_table_has_plans(void)
{
	for (const char *const *name = muon_coefficients_names(); *name; name++)
		for (int steps = 1; steps <= MUON_NS_MAX_STEPS; steps++) {
			const muon_coefficients c = named(*name, steps);
			muon_ns_plan *plan =
			    plan_for(64, 300, &c, MUON_ARITHMETIC_F32, MUON_NS_GRAM);
			muon_ns_plan_destroy(&plan);
		}
}

static void test_allocations(void)
{
	allocations counts = ALLOCATIONS_INIT;
	const muon_allocator counted = allocations_counted(&counts);
	static const muon_arithmetic all[] = {MUON_ARITHMETIC_F32, MUON_ARITHMETIC_ONEDNN_F32};
	const muon_coefficients c = named("jordan", 5);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		if (muon_arithmetic_is_onednn(all[i]) && !muon_onednn_available(all[i], NULL))
			continue;
		muon_ns_plan *plan = NULL;
		int needed = 0, code;
		muon_set_allocator(&counted);
		do {
			counts.left = needed++;
			code = muon_ns_plan_create_with(&plan, 210, 300, &c, all[i], MUON_NS_AUTO);
			if (code) {
				CU_ASSERT_EQUAL(code, MUON_E_MEMORY);
				CU_ASSERT_PTR_NULL(plan);
			}
		} while (code && needed < 100);
		CU_ASSERT(needed > 1);
		CU_ASSERT_EQUAL_FATAL(code, MUON_OK);
		muon_set_allocator(NULL);
		double *m = matrix_normal(210, 300, 1);
		float *stored = matrix_store(m, 210, 300, MUON_F32, 300);
		for (int threads = 1; threads <= 3; threads += 2) {
			muon_ns_plan_set_threads(plan, threads);
			void *workspace = muon_alloc_aligned(muon_ns_workspace(plan), 1);
			muon_set_allocator(&counted);
			counts.calls = 0;
			CU_ASSERT_EQUAL(
			    muon_newton_schulz(plan, stored, 300, stored, 300, workspace), 0);
			CU_ASSERT_EQUAL(counts.calls, 0);
			muon_set_allocator(NULL);
			muon_free_aligned(workspace);
		}
		muon_free(m);
		muon_free(stored);
		muon_ns_plan_destroy(&plan);
	}
}

/* ---- threads -------------------------------------------------------------------------------- */

typedef struct job {
	const muon_ns_plan *plan;
	const float *m;
	float *o;
	int code;
} job;

enum { JOB_M = 210, JOB_N = 300, JOBS = 3 };

static void *run_job(void *argument)
{
	job *j = argument;
	void *workspace = muon_alloc_aligned(muon_ns_workspace(j->plan), 1);
	j->code = workspace ? muon_newton_schulz(j->plan, j->m, JOB_N, j->o, JOB_N, workspace)
			    : MUON_E_MEMORY;
	muon_free_aligned(workspace);
	return NULL;
}

static void check_threads(muon_arithmetic arithmetic, muon_ns_form form)
{
	enum { BYTES = JOB_M * JOB_N * sizeof(float) };
	const muon_coefficients c = named("jordan", 5);
	double *m = matrix_normal(JOB_M, JOB_N, 61);
	float *stored = matrix_store(m, JOB_M, JOB_N, MUON_F32, JOB_N);
	float *first = muon_alloc(1, BYTES);
	muon_ns_plan *plan = plan_for(JOB_M, JOB_N, &c, arithmetic, form);
	CU_ASSERT_EQUAL(execute(plan, stored, JOB_N, first, JOB_N), MUON_OK);
	/* several matrices at a time by one plan */
	job jobs[JOBS];
	pthread_t threads[JOBS];
	for (int i = 0; i < JOBS; i++) {
		jobs[i] = (job){plan, stored, muon_alloc(1, BYTES), -1};
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
	}
	for (int i = 0; i < JOBS; i++) {
		pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(jobs[i].code, MUON_OK);
		CU_ASSERT_EQUAL(memcmp(jobs[i].o, first, BYTES), 0);
	}
	/* several threads at one matrix */
	for (int i = 0; i < JOBS; i++) {
		muon_ns_plan_set_threads(plan, i + 2);
		CU_ASSERT_EQUAL(execute(plan, stored, JOB_N, jobs[i].o, JOB_N), MUON_OK);
		CU_ASSERT_EQUAL(memcmp(jobs[i].o, first, BYTES), 0);
		muon_free(jobs[i].o);
	}
	muon_ns_plan_destroy(&plan);
	muon_free(m);
	muon_free(stored);
	muon_free(first);
}

static void test_threads(void)
{
	check_threads(MUON_ARITHMETIC_F32, MUON_NS_SYMMETRIC);
	check_threads(MUON_ARITHMETIC_F32, MUON_NS_GRAM);
	check_threads(MUON_ARITHMETIC_BF16_EMULATED, MUON_NS_SYMMETRIC);
}

/* ---- oneDNN --------------------------------------------------------------------------------- */

/* The code that bf16 takes, in a type that every CPU has. */
static void test_onednn(void)
{
	static const int64_t shapes[][2] = {{1, 1},   {1, 9},    {9, 1},     {3, 1000},
					    {65, 67}, {150, 70}, {210, 300}, {300, 210}};
	const muon_arithmetic arithmetic = MUON_ARITHMETIC_ONEDNN_F32;
	const char *why = "";
	if (!muon_onednn_available(arithmetic, &why)) {
		unit_skip(why);
		return;
	}
	const muon_coefficients c = named("jordan", 5);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (int f = 0; f < 2; f++) {
			const int64_t rows = shapes[i][0], cols = shapes[i][1];
			double *m = matrix_normal(rows, cols, 71 + i);
			double *exact =
			    orthogonalise(rows, cols, &c, MUON_ARITHMETIC_F64, MUON_NS_AUTO, m);
			double *o = orthogonalise(rows, cols, &c, arithmetic, forms[f], m);
			CU_ASSERT(difference(rows * cols, o, exact) < 1e-5);
			muon_free(m);
			muon_free(o);
			muon_free(exact);
		}
	check_threads(arithmetic, MUON_NS_SYMMETRIC);
	muon_ns_plan *plan = NULL;
	CU_ASSERT_EQUAL(muon_ns_plan_create_with(&plan, 3, 5, &c, arithmetic, MUON_NS_GRAM),
			MUON_E_UNSUPPORTED);
}

static void test_bf16(void)
{
	const char *why = NULL;
	const muon_coefficients c = named("jordan", 5);
	if (!muon_precision_available(MUON_PRECISION_BF16, &why)) {
		muon_ns_plan *plan = NULL;
		CU_ASSERT_PTR_NOT_NULL(why);
		CU_ASSERT_EQUAL(
		    muon_ns_plan_create(&plan, 3, 5, &c, MUON_PRECISION_BF16, MUON_NS_AUTO),
		    MUON_E_UNSUPPORTED);
		CU_ASSERT_PTR_NULL(plan);
		CU_ASSERT_FALSE(muon_precision_available(MUON_PRECISION_BF16, NULL));
		return;
	}
	double *m = matrix_normal(150, 400, 81);
	double *emulated =
	    orthogonalise(150, 400, &c, MUON_ARITHMETIC_BF16_EMULATED, MUON_NS_SYMMETRIC, m);
	double *o = orthogonalise(150, 400, &c, MUON_ARITHMETIC_BF16, MUON_NS_SYMMETRIC, m);
	CU_ASSERT(difference(150 * 400, o, emulated) < 0.02);
	check_threads(MUON_ARITHMETIC_BF16, MUON_NS_SYMMETRIC);
	muon_free(m);
	muon_free(emulated);
	muon_free(o);
}

static void test_precisions(void)
{
	CU_ASSERT_STRING_EQUAL(muon_precision_name(MUON_PRECISION_F32), "f32");
	CU_ASSERT_STRING_EQUAL(muon_precision_name(MUON_PRECISION_BF16), "bf16");
	CU_ASSERT_STRING_EQUAL(muon_precision_name(MUON_PRECISION_BF16_EMULATED), "bf16_emulated");
	CU_ASSERT_STRING_EQUAL(muon_precision_name(MUON_PRECISION_F64), "f64");
	CU_ASSERT_STRING_EQUAL(muon_precision_name((muon_precision)9), "?");
	CU_ASSERT_TRUE(muon_precision_available(MUON_PRECISION_F32, NULL));
	CU_ASSERT_TRUE(muon_precision_available(MUON_PRECISION_F64, NULL));
	CU_ASSERT_TRUE(muon_precision_available(MUON_PRECISION_BF16_EMULATED, NULL));
	CU_ASSERT_FALSE(muon_precision_available((muon_precision)9, NULL));
}

/* ---- distance from orthogonality ------------------------------------------------------------ */

static void check_distance(int64_t rows, int64_t cols, double *o, double expected)
{
	const int64_t k = rows < cols ? rows : cols, ld = cols + 2;
	double *workspace = matrix_alloc(k, k);
	void *f64 = matrix_store(o, rows, cols, MUON_F64, ld);
	CU_ASSERT_DOUBLE_EQUAL(muon_orthogonality_error(rows, cols, f64, ld, true, workspace),
			       expected, 1e-12);
	void *f32 = matrix_store(o, rows, cols, MUON_F32, ld);
	CU_ASSERT_DOUBLE_EQUAL(muon_orthogonality_error(rows, cols, f32, ld, false, workspace),
			       expected, 1e-6);
	muon_free(workspace);
	muon_free(f64);
	muon_free(f32);
}

static void test_distance(void)
{
	static const int64_t shapes[][2] = {{1, 1}, {6, 20}, {20, 6}, {33, 33}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const int64_t rows = shapes[i][0], cols = shapes[i][1];
		const int64_t k = rows < cols ? rows : cols;
		double s[33], sum = 0;
		for (int64_t j = 0; j < k; j++)
			s[j] = 1;
		double *o = matrix_of_spectrum(rows, cols, s, i);
		check_distance(rows, cols, o, 0);
		muon_free(o);
		for (int64_t j = 0; j < k; j++) {
			s[j] = 1.2 - (double)j / 40;
			sum += (s[j] * s[j] - 1) * (s[j] * s[j] - 1);
		}
		o = matrix_of_spectrum(rows, cols, s, i);
		check_distance(rows, cols, o, sqrt(sum / (double)k));
		muon_free(o);
	}
}

UNIT_SUITE(newton_schulz, {"diag(4, 3) by step", test_diagonal_vector},
	   {"2 x 3", test_rectangular_vector}, {"2 x 3, spectrum", test_rectangular_spectrum},
	   {"RMS for Gaussian matrices", test_gaussian_rms}, {"RMS by rank", test_lemma_1},
	   {"forms against a decomposition", test_forms_exact},
	   {"accuracy in float32", test_f32_accuracy}, {"1 to 20 steps", test_many_steps},
	   {"bf16 emulated", test_bf16_emulated}, {"bf16, each rounding", test_bf16_roundings},
	   {"transpose", test_transpose}, {"scale", test_scale},
	   {"powers of two", test_power_of_two}, {"small and large norms", test_norms},
	   {"smallest number", test_smallest}, {"zero", test_zero}, {"NaN and Inf", test_nonfinite},
	   {"buffers", test_buffers}, {"bad arguments", test_bad_arguments},
	   {"bad coefficients", test_bad_coefficients}, {"choice of form", test_choice},
	   {"every table", test_every_table_has_plans}, {"allocations", test_allocations},
	   {"threads", test_threads}, {"oneDNN in float32", test_onednn}, {"bf16", test_bf16},
	   {"precisions", test_precisions}, {"distance from orthogonality", test_distance})
