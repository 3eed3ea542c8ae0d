/* Trends: series of known exponents, and what must not be fitted. */
#include "analysis/trends.h"
#include "base/random.h"
#include "unit/unit.h"

#include <math.h>
#include <string.h>

enum { MOST = 40 };

typedef struct made {
	double steps[MOST], values[MOST];
	mspec_series series;
} made;

/* value = scale step^exponent exp(bend ln(step)^2) and scatter, at steps 10, 20, ... */
static void make(made *m, size_t count, double scale, double exponent, double bend, double scatter)
{
	muon_random random;
	muon_random_seed(&random, 7);
	for (size_t i = 0; i < count; i++) {
		double x = log(m->steps[i] = 10 * (double)(i + 1));
		m->values[i] = scale * exp(exponent * x + bend * x * x +
					   scatter * muon_random_normal(&random));
	}
	m->series = (mspec_series){.count = count, .steps = m->steps, .values = m->values};
}

static mspec_trend fit(const made *m, double limit, muon_arena *arena)
{
	mspec_trend t;
	mspec_trend_rules rules = {.level = 0.95};
	CU_ASSERT_EQUAL(mspec_trend_fit(&t, &m->series, limit, &rules, arena), MUON_OK);
	CU_ASSERT_PTR_EQUAL(t.series, &m->series);
	return t;
}

static bool notes(const mspec_trend *t, const char *text)
{
	return t->note && strstr(t->note, text);
}

static void test_exponents(void)
{
	muon_arena arena = {0};
	static const double exponents[] = {0.5, 1, -0.25, 2};
	made m;
	for (size_t i = 0; i < sizeof exponents / sizeof *exponents; i++) {
		make(&m, 12, 0.02, exponents[i], 0, 0);
		mspec_trend t = fit(&m, NAN, &arena);
		UNIT_CLOSE(t.exponent, exponents[i], 1e-12);
		CU_ASSERT_TRUE(t.exponent_error < 1e-12);
		CU_ASSERT_FALSE(t.crosses);
		make(&m, 20, 0.02, exponents[i], 0, 0.02);
		t = fit(&m, NAN, &arena);
		CU_ASSERT_TRUE(fabs(t.exponent - exponents[i]) < 4 * t.exponent_error);
		CU_ASSERT_TRUE(t.exponent_error > 0.001 && t.exponent_error < 0.02);
		CU_ASSERT_PTR_NULL(t.note);
	}
	muon_arena_release(&arena);
}

static void test_crossing(void)
{
	muon_arena arena = {0};
	made m;
	make(&m, 20, 0.02, 0.5, 0, 0.01); /* 0.02 sqrt(step): 0.4 at 400 */
	mspec_trend t = fit(&m, 0.4, &arena);
	CU_ASSERT_TRUE(t.crosses);
	CU_ASSERT_TRUE(fabs(t.at - 400) < 30);
	CU_ASSERT_TRUE(t.low < t.at && t.at < t.high && t.low < 400 && t.high > 400);
	CU_ASSERT_TRUE(t.high - t.low < 80);
	t = fit(&m, 20, &arena); /* at a million */
	CU_ASSERT_TRUE(t.crosses && notes(&t, "times the last step away"));
	t = fit(&m, 0.001, &arena);
	CU_ASSERT_TRUE(!t.crosses && isnan(t.at) && notes(&t, "away from the limit"));
	t = fit(&m, -1, &arena);
	CU_ASSERT_TRUE(!t.crosses && notes(&t, "0 or less"));
	/* between steps 60 and 70, where it has been */
	make(&m, 20, 0.02, 0.5, 0, 0);
	t = fit(&m, 0.16, &arena);
	CU_ASSERT_TRUE(t.crosses);
	CU_ASSERT_EQUAL(t.low, 60);
	CU_ASSERT_EQUAL(t.at, 70);
	CU_ASSERT_EQUAL(t.high, 70);
	make(&m, 20, 0.5, -0.5, 0, 0); /* falling through 0.06 between 60 and 70 */
	t = fit(&m, 0.06, &arena);
	CU_ASSERT_TRUE(t.crosses && t.low == 60 && t.at == 70);
	muon_arena_release(&arena);
}

static void test_unsupported(void)
{
	muon_arena arena = {0};
	made m;
	make(&m, 2, 1, 1, 0, 0);
	mspec_trend t = fit(&m, 100, &arena);
	CU_ASSERT_TRUE(isnan(t.exponent) && notes(&t, "fewer than 3"));
	make(&m, 12, 1, 0, 0, 0.1);
	t = fit(&m, 2, &arena);
	CU_ASSERT_TRUE(!t.crosses && notes(&t, "no trend"));
	make(&m, 20, 0.02, 1.5, -0.1, 0.002);
	t = fit(&m, 100, &arena);
	CU_ASSERT_TRUE(!t.crosses && notes(&t, "levels off"));
	make(&m, 20, 0.02, 0.1, 0.1, 0.002);
	t = fit(&m, NAN, &arena);
	CU_ASSERT_TRUE(notes(&t, "steepens"));
	/* nothing at step 0, NaN and 0 have no logarithm; the rest is fitted */
	make(&m, 12, 0.02, 0.5, 0, 0);
	m.steps[0] = 0;
	m.values[3] = NAN;
	m.values[5] = 0;
	t = fit(&m, NAN, &arena);
	UNIT_CLOSE(t.exponent, 0.5, 1e-10);
	for (size_t i = 0; i < 12; i++)
		m.values[i] = -1;
	t = fit(&m, 0.5, &arena);
	CU_ASSERT_TRUE(isnan(t.exponent) && notes(&t, "above 0"));
	muon_arena_release(&arena);
}

UNIT_SUITE(trends, {"known exponents", test_exponents}, {"limits", test_crossing},
	   {"what the data do not support", test_unsupported})
