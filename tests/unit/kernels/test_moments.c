#include "unit/unit.h"

#include "base/memory.h"
#include "base/random.h"
#include "unit/kernels/exact_sum.h"

#include <float.h>
#include <math.h>
#include <muon/kernels.h>
#include <string.h>

/* ---- rounding to bf16 ----------------------------------------------------------------------- */

static double bf16_value(uint32_t code)
{
	uint32_t bits = code << 16;
	float x;
	memcpy(&x, &bits, sizeof x);
	return (double)x;
}

/* Every positive bf16, the midpoint to the next one, and the doubles beside the midpoint: those a
 * detour through float32 would round twice. */
static void test_round_every_bf16(void)
{
	int wrong = 0;
	for (uint32_t code = 0; code < 0x7f80; code++) {
		double low = bf16_value(code);
		double high = code == 0x7f7f ? 0x1p128 : bf16_value(code + 1);
		double middle = low + (high - low) / 2;
		double up = code == 0x7f7f ? INFINITY : high;
		for (int sign = -1; sign <= 1; sign += 2) {
			wrong += muon_round_bf16(sign * low) != sign * low;
			wrong += muon_round_bf16(sign * middle) != sign * (code % 2 ? up : low);
			wrong += muon_round_bf16(sign * nextafter(middle, 0)) != sign * low;
			wrong += muon_round_bf16(sign * nextafter(middle, INFINITY)) != sign * up;
		}
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

static void test_round_special(void)
{
	CU_ASSERT_TRUE(isnan(muon_round_bf16(NAN)));
	CU_ASSERT_EQUAL(muon_round_bf16(INFINITY), INFINITY);
	CU_ASSERT_EQUAL(muon_round_bf16(-INFINITY), -INFINITY);
	CU_ASSERT_EQUAL(muon_round_bf16(DBL_MAX), INFINITY);
	CU_ASSERT_EQUAL(muon_round_bf16(-1e39), -INFINITY);
	CU_ASSERT_EQUAL(muon_round_bf16(1e-300), 0);
	CU_ASSERT_EQUAL(muon_round_bf16(0x1p-1074), 0);
	CU_ASSERT_TRUE(signbit(muon_round_bf16(-0.0)) && signbit(muon_round_bf16(-1e-300)));
}

/* ---- statistics against the definitions ----------------------------------------------------- */

/* Two passes over everything. */
static muon_moments reference(const double *x, size_t count)
{
	muon_moments m = {0};
	exact_sum sum = {0, 0}, m2 = sum, m3 = sum, m4 = sum, sumsq = sum, error_sq = sum;
	for (size_t i = 0; i < count; i++) {
		if (isnan(x[i]) || isinf(x[i])) {
			m.nan += isnan(x[i]) != 0;
			m.inf += isinf(x[i]) != 0;
			continue;
		}
		double error = x[i] - muon_round_bf16(x[i]);
		m.count++;
		m.zeros += x[i] == 0;
		m.bf16_exact += error == 0;
		m.max_abs = fmax(m.max_abs, fabs(x[i]));
		exact_add(&sum, x[i]);
		exact_add_product(&sumsq, x[i], x[i]);
		if (isinf(error))
			error_sq.low = INFINITY;
		else
			exact_add_product(&error_sq, error, error);
	}
	m.mean = m.count ? exact_value(&sum) / (double)m.count : 0;
	for (size_t i = 0; i < count; i++) {
		double d = isfinite(x[i]) ? x[i] - m.mean : 0;
		exact_add(&m2, d * d);
		exact_add(&m3, d * d * d);
		exact_add(&m4, d * d * d * d);
	}
	m.m2 = exact_value(&m2);
	m.m3 = exact_value(&m3);
	m.m4 = exact_value(&m4);
	m.sumsq = exact_value(&sumsq);
	m.bf16_error_sq = exact_value(&error_sq);
	return m;
}

static void check(const double *x, size_t count, double tolerance)
{
	muon_moments m = {0}, r = reference(x, count);
	muon_moments_add(&m, x, count);
	CU_ASSERT_EQUAL(m.count, r.count);
	CU_ASSERT_EQUAL(m.nan, r.nan);
	CU_ASSERT_EQUAL(m.inf, r.inf);
	CU_ASSERT_EQUAL(m.zeros, r.zeros);
	CU_ASSERT_EQUAL(m.bf16_exact, r.bf16_exact);
	CU_ASSERT_EQUAL(m.max_abs, r.max_abs);
	double n = (double)r.count, std = sqrt(r.m2 / n);
	CU_ASSERT_DOUBLE_EQUAL(m.mean, r.mean, tolerance * (std + 1e-3 * fabs(r.mean)));
	UNIT_CLOSE(m.m2, r.m2, tolerance);
	CU_ASSERT_DOUBLE_EQUAL(m.m3, r.m3, tolerance * n * std * std * std);
	UNIT_CLOSE(m.m4, r.m4, tolerance);
	UNIT_CLOSE(m.sumsq, r.sumsq, tolerance);
	UNIT_CLOSE(m.bf16_error_sq, r.bf16_error_sq, tolerance);
}

enum { MANY = 30000 };

static double *normals(double mean, double deviation)
{
	double *x = muon_alloc(MANY, sizeof *x);
	muon_random random;
	CU_ASSERT_PTR_NOT_NULL_FATAL(x);
	muon_random_seed(&random, 11);
	for (int i = 0; i < MANY; i++)
		x[i] = mean + deviation * muon_random_normal(&random);
	return x;
}

/* Lengths around those of the vector lanes and of the blocks. */
static void test_lengths(void)
{
	double *x = normals(0.01, 0.02);
	muon_moments none = {0};
	muon_moments_add(&none, x, 0);
	CU_ASSERT_TRUE(none.count == 0 && none.mean == 0 && none.m2 == 0 && none.sumsq == 0);
	for (size_t count = 1; count < 100; count++)
		check(x + count, count, 1e-13);
	for (size_t count = 2040; count < 2060; count++)
		check(x, count, 1e-13);
	check(x, 4096, 1e-13);
	check(x, MANY, 1e-13);
	muon_free(x);
}

static void test_offset_mean(void)
{
	double *x = normals(1e4, 1);
	check(x, MANY, 1e-11);
	x[0] = 1e9; /* the entry that a block is first shifted by */
	check(x, MANY, 1e-11);
	muon_free(x);
}

static void test_heavy_tail_and_zeros(void)
{
	double *x = normals(0, 1);
	for (int i = 0; i < MANY; i++)
		x[i] = i % 3 ? pow(x[i], 5) : 0;
	check(x, MANY, 1e-13);
	muon_free(x);
}

static void test_float_subnormals(void)
{
	double *x = normals(0, 0x1p-126);
	for (int i = 0; i < MANY; i++)
		x[i] = (double)(float)x[i];
	x[7] = 0x1p-149;
	check(x, MANY, 1e-12);
	muon_free(x);
}

static void test_float_maximum(void)
{
	double *x = normals(0, 1e38);
	for (int i = 0; i < MANY; i++)
		x[i] = fmax(fmin(x[i], bf16_value(0x7f7f)), -bf16_value(0x7f7f));
	check(x, MANY, 1e-13);
	x[5] = (double)FLT_MAX; /* rounds to Inf in bf16 */
	check(x, MANY, 1e-13);
	muon_free(x);
}

static void test_not_finite(void)
{
	double *x = normals(0.3, 1);
	x[0] = NAN;
	x[1] = INFINITY;
	x[2] = -INFINITY;
	for (int i = 4096; i < 6144; i++) /* a block with nothing else */
		x[i] = NAN;
	x[10000] = -NAN;
	x[MANY - 1] = INFINITY;
	check(x, MANY, 1e-13);
	muon_moments m = {0};
	muon_moments_add(&m, x, 3);
	CU_ASSERT_TRUE(m.count == 0 && m.nan == 1 && m.inf == 2 && m.m2 == 0 && m.mean == 0);
	muon_free(x);
}

/* Beyond the range of the sums: those that overflow show it. */
static void test_huge(void)
{
	double x[100];
	for (int i = 0; i < 100; i++)
		x[i] = i % 2 ? 1.5e300 : -1e300;
	muon_moments m = {0};
	muon_moments_add(&m, x, 100);
	CU_ASSERT_EQUAL(m.count, 100);
	CU_ASSERT_EQUAL(m.max_abs, 1.5e300);
	UNIT_CLOSE(m.mean, 0.25e300, 1e-14);
	CU_ASSERT_FALSE(isfinite(m.m2));
	CU_ASSERT_FALSE(isfinite(m.m3));
	CU_ASSERT_FALSE(isfinite(m.m4));
	CU_ASSERT_FALSE(isfinite(m.sumsq));
	CU_ASSERT_EQUAL(m.bf16_exact, 0);
	CU_ASSERT_EQUAL(m.bf16_error_sq, INFINITY);
	for (int i = 0; i < 100; i++)
		x[i] = i % 2 ? DBL_MAX : -DBL_MAX;
	muon_moments_add(&m, x, 100);
	CU_ASSERT_TRUE(m.max_abs == DBL_MAX && m.count == 200 && m.nan == 0 && m.inf == 0);
}

/* ---- closed forms --------------------------------------------------------------------------- */

static void test_constant(void)
{
	double x[5000];
	for (int i = 0; i < 5000; i++)
		x[i] = 0.1;
	muon_moments m = {0};
	muon_moments_add(&m, x, 5000);
	CU_ASSERT_EQUAL(m.mean, 0.1);
	CU_ASSERT_TRUE(m.m2 == 0 && m.m3 == 0 && m.m4 == 0);
	UNIT_CLOSE(m.sumsq, 50, 1e-15);
	CU_ASSERT_TRUE(m.bf16_exact == 0 && m.zeros == 0 && m.count == 5000);
}

static void test_two_values(void)
{
	double x[6000];
	for (int i = 0; i < 6000; i++)
		x[i] = i % 2 ? 3 : -3;
	muon_moments m = {0};
	muon_moments_add(&m, x, 6000);
	CU_ASSERT_TRUE(m.mean == 0 && m.m2 == 54000 && m.m3 == 0 && m.m4 == 486000);
	CU_ASSERT_TRUE(m.sumsq == 54000 && m.bf16_exact == 6000 && m.bf16_error_sq == 0);
}

/* 0, 1, ... n-1 */
static void test_ramp(void)
{
	enum { N = 9001 };
	static double x[N];
	const double n = N;
	for (int i = 0; i < N; i++)
		x[i] = i;
	muon_moments m = {0};
	muon_moments_add(&m, x, N);
	UNIT_CLOSE(m.mean, (n - 1) / 2, 1e-15);
	UNIT_CLOSE(m.m2, n * (n * n - 1) / 12, 1e-14);
	UNIT_CLOSE(m.m4, n * (n * n - 1) * (3 * n * n - 7) / 240, 1e-14);
	CU_ASSERT_DOUBLE_EQUAL(m.m3, 0, 1e-13 * pow(m.m2, 1.5) / sqrt(n));
	UNIT_CLOSE(m.sumsq, (n - 1) * n * (2 * n - 1) / 6, 1e-14);
	CU_ASSERT_EQUAL(m.zeros, 1);
	/* integers with at most 8 significant bits: 256, then 128 in each binade above; the last
	 * binade, from 8192, goes on for 809 more, every 64th of which */
	CU_ASSERT_EQUAL(m.bf16_exact, 256 + 5 * 128 + 808 / 64 + 1);
}

/* ---- laws ----------------------------------------------------------------------------------- */

static void test_same_bits(void)
{
	double *x = normals(0.5, 1);
	muon_moments a = {0}, b = {0}, whole = {0};
	for (int i = 0; i < MANY; i += 1000)
		muon_moments_add(&a, x + i, 1000);
	for (int i = 0; i < MANY; i += 1000)
		muon_moments_add(&b, x + i, 1000);
	muon_moments_add(&whole, x, MANY);
	CU_ASSERT_EQUAL(memcmp(&a, &b, sizeof a), 0);
	UNIT_CLOSE(a.m2, whole.m2, 1e-13);
	UNIT_CLOSE(a.m4, whole.m4, 1e-13);
	UNIT_CLOSE(a.mean, whole.mean, 1e-13);
	CU_ASSERT_EQUAL(a.bf16_exact, whole.bf16_exact);
	/* whole blocks merge alike, however they come */
	muon_moments blocks = {0}, together = {0};
	for (int i = 0; i < 4; i++)
		muon_moments_add(&blocks, x + 2048 * i, 2048);
	muon_moments_add(&together, x, 4 * 2048);
	CU_ASSERT_EQUAL(memcmp(&blocks, &together, sizeof blocks), 0);
	muon_free(x);
}

UNIT_SUITE(moments, {"bf16 rounding, every neighbour", test_round_every_bf16},
	   {"bf16 rounding, special values", test_round_special}, {"lengths", test_lengths},
	   {"mean far from 0", test_offset_mean},
	   {"heavy tail and zeros", test_heavy_tail_and_zeros},
	   {"float32 subnormals", test_float_subnormals}, {"float32 maximum", test_float_maximum},
	   {"NaN and Inf", test_not_finite}, {"float64 too large for the sums", test_huge},
	   {"constant", test_constant}, {"two values", test_two_values}, {"ramp", test_ramp},
	   {"same bits", test_same_bits})
