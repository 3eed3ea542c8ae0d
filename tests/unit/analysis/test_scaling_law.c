#include "analysis/scaling_law.h"

#include "base/random.h"
#include "unit/unit.h"

#include <math.h>

/* Figure 1a's ratio by the report's own coefficients, computed apart in float64 Python. */
static void test_report(void)
{
	mspec_scaling_law muon = mspec_scaling_law_report_muon();
	mspec_scaling_law adamw = mspec_scaling_law_report_adamw();
	CU_ASSERT_DOUBLE_EQUAL(mspec_compute_ratio(&muon, &adamw, 1, 0.95).value, 0.464, 5e-4);
	CU_ASSERT_DOUBLE_EQUAL(mspec_compute_ratio(&muon, &adamw, 4.05, 0.95).value, 0.490, 5e-4);
	CU_ASSERT_DOUBLE_EQUAL(mspec_compute_ratio(&muon, &adamw, 18.1, 0.95).value, 0.519, 5e-4);
	CU_ASSERT(isnan(mspec_compute_ratio(&muon, &adamw, 1, 0.95).low));
	UNIT_CLOSE(mspec_scaling_law_loss(&adamw, 1, 0.95).value, 2.608, 1e-14);
}

static void test_exact_law(void)
{
	double compute[5], loss[5];
	for (int i = 0; i < 5; i++) {
		compute[i] = 1e12 * pow(3, i);
		loss[i] = 7 * pow(compute[i], -0.05);
	}
	mspec_scaling_law law, same;
	CU_ASSERT_FATAL(mspec_scaling_law_fit(&law, compute, loss, 5));
	UNIT_CLOSE(mspec_scaling_law_scale(&law, 0.95).value, 7, 1e-12);
	UNIT_CLOSE(mspec_scaling_law_exponent(&law, 0.95).value, -0.05, 1e-12);
	UNIT_CLOSE(mspec_scaling_law_exponent(&law, 0.95).low, -0.05, 1e-9);
	/* half the compute for the same loss, everywhere */
	for (int i = 0; i < 5; i++)
		compute[i] /= 2;
	CU_ASSERT_FATAL(mspec_scaling_law_fit(&same, compute, loss, 5));
	muon_interval ratio = mspec_compute_ratio(&same, &law, 1e15, 0.95);
	UNIT_CLOSE(ratio.value, 0.5, 1e-10);
	UNIT_CLOSE(ratio.low, 0.5, 1e-6);
	UNIT_CLOSE(ratio.high, 0.5, 1e-6);
}

static void test_refused(void)
{
	const double compute[] = {1, 2, 3}, loss[] = {3, 2, -1}, flat[] = {3, 3, 3};
	mspec_scaling_law law;
	CU_ASSERT_FALSE(mspec_scaling_law_fit(&law, compute, loss, 3));
	CU_ASSERT_FALSE(mspec_scaling_law_fit(&law, compute, loss, 1));
	CU_ASSERT_FALSE(mspec_scaling_law_fit(&law, flat, compute, 3));
	CU_ASSERT_FALSE(mspec_scaling_law_fit(&law, compute, loss, 0));
	CU_ASSERT_FATAL(mspec_scaling_law_fit(&law, compute, flat, 3));
	mspec_scaling_law adamw = mspec_scaling_law_report_adamw();
	CU_ASSERT(isnan(mspec_compute_ratio(&law, &adamw, 1, 0.95).low));
}

/* A noisy pair of laws with the known ratio 0.5: four sizes, three seeds each. */
static void test_coverage(void)
{
	enum { TRIALS = 1500, SIZES = 4, SEEDS = 3, RUNS = SIZES * SEEDS };
	int held[2] = {0, 0};
	muon_random random;
	muon_random_seed(&random, 11);
	for (int trial = 0; trial < TRIALS; trial++) {
		mspec_scaling_law laws[2];
		for (int k = 0; k < 2; k++) {
			double compute[RUNS], loss[RUNS];
			for (int i = 0; i < RUNS; i++) {
				compute[i] = 1e13 * pow(4, i / SEEDS);
				loss[i] = 5 * pow(compute[i] * (k ? 1 : 2), -0.06) *
				          exp(0.006 * (1 + k) * muon_random_normal(&random));
			}
			CU_ASSERT_FATAL(mspec_scaling_law_fit(&laws[k], compute, loss, RUNS));
		}
		muon_interval inside = mspec_compute_ratio(&laws[0], &laws[1], 1e14, 0.9);
		muon_interval beyond = mspec_compute_ratio(&laws[0], &laws[1], 1e16, 0.9);
		held[0] += inside.low <= 0.5 && 0.5 <= inside.high;
		held[1] += beyond.low <= 0.5 && 0.5 <= beyond.high;
	}
	double five_errors = 5 * sqrt(0.9 * 0.1 / TRIALS);
	CU_ASSERT(fabs(held[0] / (double)TRIALS - 0.9) < five_errors);
	CU_ASSERT(fabs(held[1] / (double)TRIALS - 0.9) < five_errors);
}

UNIT_SUITE(scaling_law, {"the report's coefficients", test_report}, {"exact law", test_exact_law},
           {"no law", test_refused}, {"intervals hold the truth", test_coverage})
