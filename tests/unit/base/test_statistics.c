#include "base/statistics.h"

#include "base/random.h"
#include "unit/unit.h"

#include <math.h>
#include <muon/error.h>
#include <stdlib.h>
#include <string.h>

static void test_moments(void)
{
	double values[] = {7, 1, 4, 2};
	UNIT_CLOSE(muon_mean(values, 4), 3.5, 1e-15);
	UNIT_CLOSE(muon_standard_deviation(values, 4), sqrt(7), 1e-15);
	UNIT_CLOSE(muon_median(values, 4), 3, 0);
	UNIT_CLOSE(muon_median(values, 3), 2, 0);
	CU_ASSERT(isnan(muon_mean(values, 0)));
	CU_ASSERT(isnan(muon_standard_deviation(values, 1)));
	CU_ASSERT(isnan(muon_median(values, 0)));
}

static int ascending(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* As sorting has it: drawn at random, with many ties, ascending, descending, all the same. */
static void test_median(void)
{
	enum { LONGEST = 600, SHAPES = 5 };
	double values[LONGEST], sorted[LONGEST];
	muon_random random;
	muon_random_seed(&random, 7);
	for (size_t count = 1; count <= LONGEST; count += count < 40 ? 1 : 37)
		for (int shape = 0; shape < SHAPES; shape++) {
			for (size_t i = 0; i < count; i++) {
				double x = muon_random_normal(&random);
				values[i] = shape == 0   ? x
				            : shape == 1 ? floor(3 * x)
				            : shape == 2 ? (double)i
				            : shape == 3 ? -(double)i
				                         : 4;
			}
			memcpy(sorted, values, sizeof sorted);
			qsort(sorted, count, sizeof *sorted, ascending);
			double wanted = 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]);
			CU_ASSERT_EQUAL(muon_median(values, count), wanted);
			qsort(values, count, sizeof *values, ascending); /* only their order may change */
			CU_ASSERT_EQUAL(memcmp(values, sorted, count * sizeof *values), 0);
		}
}

/* I_x(1, b) = 1 - (1-x)^b, I_x(a, 1) = x^a, I_x(2, 2) = x^2 (3 - 2x), I_x(1/2, 1/2) is arcsine. */
static void test_incomplete_beta(void)
{
	for (double x = 0.03; x < 1; x += 0.13) {
		UNIT_CLOSE(muon_incomplete_beta(1, 3.5, x), 1 - pow(1 - x, 3.5), 1e-13);
		UNIT_CLOSE(muon_incomplete_beta(7, 1, x), pow(x, 7), 1e-13);
		UNIT_CLOSE(muon_incomplete_beta(2, 2, x), x * x * (3 - 2 * x), 1e-13);
		UNIT_CLOSE(muon_incomplete_beta(0.5, 0.5, x), asin(sqrt(x)) / asin(1), 1e-13);
	}
	CU_ASSERT_EQUAL(muon_incomplete_beta(3, 4, 0), 0);
	CU_ASSERT_EQUAL(muon_incomplete_beta(3, 4, 1), 1);
	CU_ASSERT(isnan(muon_incomplete_beta(0, 4, 0.5)));
	CU_ASSERT(isnan(muon_incomplete_beta(1, 4, 1.5)));
}

/* Closed forms for 1, 2 and 4 degrees of freedom; the rest by Gauss-Legendre quadrature (NumPy). */
static void test_student(void)
{
	for (double p = 0.02; p < 1; p += 0.07) {
		double q = 2 * p - 1;
		UNIT_CLOSE(muon_student_quantile(p, 1), tan(2 * asin(1) * (p - 0.5)), 1e-12);
		UNIT_CLOSE(muon_student_quantile(p, 2), q * sqrt(2 / (1 - q * q)), 1e-12);
		UNIT_CLOSE(muon_student_cdf(muon_student_quantile(p, 4.5), 4.5), p, 1e-13);
	}
	double t = 1.3, u = t / sqrt(4 + t * t);
	UNIT_CLOSE(muon_student_cdf(t, 4), 0.5 + 0.75 * (u - u * u * u / 3), 1e-14);
	UNIT_CLOSE(muon_student_quantile(0.975, 30), 2.0422724563012, 1e-12);
	UNIT_CLOSE(muon_student_quantile(0.975, 9), 2.2621571627982, 1e-12);
	UNIT_CLOSE(muon_student_quantile(0.995, 4.5), 4.2728239930112, 1e-12);
	UNIT_CLOSE(muon_student_quantile(0.9, 1000), 1.2823987214607, 1e-12);
	UNIT_CLOSE(muon_student_cdf(-1e8, 1), 1 / (2 * asin(1) * 1e8), 1e-12);
	CU_ASSERT_EQUAL(muon_student_quantile(0.5, 3), 0);
	CU_ASSERT(isnan(muon_student_quantile(0, 3)));
	CU_ASSERT(isnan(muon_student_quantile(0.9, 0)));
}

/* Exact fractions. */
static void test_sign(void)
{
	UNIT_CLOSE(muon_sign_test(8, 1), 0.0390625, 1e-13);
	UNIT_CLOSE(muon_sign_test(3, 7), 0.34375, 1e-13);
	UNIT_CLOSE(muon_sign_test(0, 10), 2 / 1024.0, 1e-13);
	UNIT_CLOSE(muon_sign_test(4700, 4300), 2.5937940819055175e-05, 1e-10);
	UNIT_CLOSE(muon_sign_test(2600, 2607), 0.9337340497991051, 1e-10);
	UNIT_CLOSE(muon_sign_test(120, 3), 5.835116341662609e-32, 1e-10);
	CU_ASSERT_EQUAL(muon_sign_test(5, 5), 1);
	CU_ASSERT_EQUAL(muon_sign_test(0, 0), 1);
	CU_ASSERT_EQUAL(muon_sign_test(0, 1), 1);
}

static void test_mean_interval(void)
{
	const double values[] = {1, 2, 3, 4};
	muon_interval mean = muon_mean_interval(values, 4, 0.95);
	double half = 3.1824463052836873 * sqrt(5.0 / 12);
	UNIT_CLOSE(mean.value, 2.5, 1e-15);
	UNIT_CLOSE(mean.low, 2.5 - half, 1e-12);
	UNIT_CLOSE(mean.high, 2.5 + half, 1e-12);
	mean = muon_mean_interval(values, 1, 0.95);
	CU_ASSERT_EQUAL(mean.value, 1);
	CU_ASSERT(isnan(mean.low) && isnan(mean.high));
}

/* Anscombe's first set, by exact fractions. */
static void test_line(void)
{
	const double x[] = {10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5};
	const double y[] = {8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68};
	muon_line line;
	CU_ASSERT_FATAL(muon_line_fit(&line, x, y, 11));
	UNIT_CLOSE(line.slope, 0.5000909090909091, 1e-13);
	UNIT_CLOSE(line.intercept, 3.000090909090909, 1e-13);
	UNIT_CLOSE(line.residual, 1.2366033227263211, 1e-13);
	UNIT_CLOSE(line.slope_error, 0.1179055005956341, 1e-13);
	UNIT_CLOSE(line.intercept_error, 1.124746790808644, 1e-13);
	UNIT_CLOSE(line.covariance, -0.12511536363636364, 1e-13);
	UNIT_CLOSE(line.r_squared, 0.6665424595087749, 1e-13);
	muon_interval at = muon_line_at(&line, 0, 0.95); /* the intercept */
	UNIT_CLOSE(at.value, line.intercept, 1e-15);
	UNIT_CLOSE(at.high - at.value, 2.2621571627982 * line.intercept_error, 1e-11);
	muon_interval slope = muon_line_slope(&line, 0.95);
	UNIT_CLOSE(slope.value - slope.low, 2.2621571627982 * line.slope_error, 1e-11);
}

static void test_line_that_is_none(void)
{
	const double x[] = {1, 1, 2}, y[] = {1, 2, NAN};
	muon_line line;
	CU_ASSERT_FALSE(muon_line_fit(&line, x, y, 0));
	CU_ASSERT_FALSE(muon_line_fit(&line, x, y, 1));
	CU_ASSERT_FALSE(muon_line_fit(&line, x, y, 2));
	CU_ASSERT_FALSE(muon_line_fit(&line, x, y, 3));
	CU_ASSERT(muon_line_fit(&line, x + 1, y, 2));
	CU_ASSERT_EQUAL(line.slope, 1);
	CU_ASSERT(isnan(line.slope_error) && isnan(muon_line_slope(&line, 0.95).low));
	CU_ASSERT(isnan(muon_line_reaches(&line, 5, 0.95).high));
	UNIT_CLOSE(muon_line_reaches(&line, 5, 0.95).value, 5, 1e-15);
}

/* Fieller's ends are where the interval of the line meets y. */
static void test_reaches(void)
{
	const double x[] = {0, 1, 2, 3, 4, 5}, y[] = {0.1, 0.9, 2.2, 2.9, 4.2, 4.8};
	muon_line line;
	CU_ASSERT_FATAL(muon_line_fit(&line, x, y, 6));
	muon_interval at = muon_line_reaches(&line, 9, 0.9);
	UNIT_CLOSE(muon_line_at(&line, at.value, 0.9).value, 9, 1e-13);
	UNIT_CLOSE(muon_line_at(&line, at.low, 0.9).high, 9, 1e-12);
	UNIT_CLOSE(muon_line_at(&line, at.high, 0.9).low, 9, 1e-12);
	/* a flat cloud bounds one side, or nothing */
	const double flat[] = {1, -1, 1, -1, 1, -0.8};
	CU_ASSERT_FATAL(muon_line_fit(&line, x, flat, 6));
	at = muon_line_reaches(&line, 9, 0.95);
	CU_ASSERT(isinf(at.low) != isinf(at.high));
	CU_ASSERT(at.low <= at.value && at.value <= at.high);
	at = muon_line_reaches(&line, 0.1, 0.95);
	CU_ASSERT(isinf(at.low) && isinf(at.high));
	/* exact points give a point */
	CU_ASSERT_FATAL(muon_line_fit(&line, x, x, 6));
	at = muon_line_reaches(&line, 7, 0.95);
	UNIT_CLOSE(at.low, 7, 1e-12);
	UNIT_CLOSE(at.high, 7, 1e-12);
}

/* Intervals hold the truth as often as they say: 2000 lines of 8 points with known noise. */
static void test_coverage(void)
{
	enum { LINES = 2000, POINTS = 8 };
	int slope_held = 0, reach_held = 0, mean_held = 0;
	muon_random random;
	muon_random_seed(&random, 3);
	for (int i = 0; i < LINES; i++) {
		double x[POINTS], y[POINTS], noise[POINTS];
		for (int k = 0; k < POINTS; k++) {
			noise[k] = 0.4 * muon_random_normal(&random);
			x[k] = k;
			y[k] = 2 + 0.5 * k + noise[k];
		}
		muon_line line;
		CU_ASSERT_FATAL(muon_line_fit(&line, x, y, POINTS));
		muon_interval slope = muon_line_slope(&line, 0.9);
		muon_interval reach = muon_line_reaches(&line, 7, 0.9); /* true: 10 */
		muon_interval mean = muon_mean_interval(noise, POINTS, 0.9);
		slope_held += slope.low <= 0.5 && 0.5 <= slope.high;
		reach_held += reach.low <= 10 && 10 <= reach.high;
		mean_held += mean.low <= 0 && 0 <= mean.high;
	}
	double five_errors = 5 * sqrt(0.9 * 0.1 / LINES);
	CU_ASSERT(fabs(slope_held / (double)LINES - 0.9) < five_errors);
	CU_ASSERT(fabs(reach_held / (double)LINES - 0.9) < five_errors);
	CU_ASSERT(fabs(mean_held / (double)LINES - 0.9) < five_errors);
}

/* For many values the bootstrap of the mean is the normal interval, s(n)/sqrt(n) with n below. */
static void test_bootstrap(void)
{
	enum { COUNT = 400 };
	double values[COUNT];
	muon_random random;
	muon_random_seed(&random, 5);
	for (int i = 0; i < COUNT; i++)
		values[i] = 3 + muon_random_normal(&random);
	muon_interval mean, again;
	CU_ASSERT_EQUAL_FATAL(
	    muon_bootstrap(&mean, values, COUNT, muon_sample_mean, 0.95, 4000, 1), MUON_OK);
	double error = muon_standard_deviation(values, COUNT) / sqrt(COUNT);
	UNIT_CLOSE(mean.value, muon_mean(values, COUNT), 1e-15);
	UNIT_CLOSE(mean.high - mean.value, 1.96 * error, 0.08);
	UNIT_CLOSE(mean.value - mean.low, 1.96 * error, 0.08);
	muon_bootstrap(&again, values, COUNT, muon_sample_mean, 0.95, 4000, 1);
	CU_ASSERT(again.low == mean.low && again.high == mean.high);
	/* of {0, 1}, means are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4 */
	const double two[] = {0, 1};
	muon_bootstrap(&mean, two, 2, muon_sample_mean, 0.95, 1000, 1);
	CU_ASSERT(mean.low == 0 && mean.high == 1);
	muon_bootstrap(&mean, two, 2, muon_sample_mean, 0.3, 1000, 1);
	CU_ASSERT(mean.low == 0.5 && mean.high == 0.5);
	/* of {0, 0, 1}, medians are 1 with probability 7/27 */
	const double three[] = {1, 0, 0};
	muon_bootstrap(&mean, three, 3, muon_sample_median, 0.6, 1000, 1);
	CU_ASSERT(mean.value == 0 && mean.low == 0 && mean.high == 1);
	muon_bootstrap(&mean, three, 3, muon_sample_median, 0.4, 1000, 1);
	CU_ASSERT(mean.low == 0 && mean.high == 0);
	CU_ASSERT_EQUAL(muon_bootstrap(&mean, two, 0, muon_sample_mean, 0.95, 10, 1),
	                MUON_E_ARGUMENT);
}

static void test_bootstrap_memory(void)
{
	int left = 0;
	const muon_allocator none = unit_failing_allocator(&left);
	const double two[] = {0, 1};
	muon_interval mean;
	muon_set_allocator(&none);
	int code = muon_bootstrap(&mean, two, 2, muon_sample_mean, 0.95, 10, 1);
	muon_set_allocator(NULL);
	CU_ASSERT_EQUAL(code, MUON_E_MEMORY);
}

UNIT_SUITE(statistics, {"moments", test_moments}, {"median", test_median},
           {"incomplete beta", test_incomplete_beta}, {"Student's t", test_student},
           {"sign test", test_sign},
           {"interval of a mean", test_mean_interval}, {"line", test_line},
           {"line that is none", test_line_that_is_none}, {"line reaches a value", test_reaches},
           {"intervals hold the truth", test_coverage}, {"bootstrap", test_bootstrap},
           {"bootstrap without memory", test_bootstrap_memory})
