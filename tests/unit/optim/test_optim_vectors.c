/* Whole steps against the numbers of the reference, in float64. */
#include "unit/optim/optim_fixture.h"

#define ENTRIES 6
static const double w1[] = {.1018686147, .0996999760, .0975313374,
			    .0979484821, .0984949159, .0990413498};
static const double w2[] = {.1019832665, .1003177596, .0936525584,
			    .0957879045, .0970666556, .0991148966};

static void check(const double *w, const double *expected, double tolerance)
{
	for (int i = 0; i < ENTRIES; i++)
		CU_ASSERT_DOUBLE_EQUAL(w[i], expected[i], tolerance);
}

/* Two steps of the Moonlight form on a 2 x 3 matrix. The reference adds 1e-7 to the norm, a
 * relative change of up to 1e-7 in what is orthogonalised. */
static void run_moonlight(muon_momentum_kind kind)
{
	double w[ENTRIES], g[ENTRIES] = {1, 2, 3, 4, 5, 6};
	const double g2[ENTRIES] = {0, -1, 1, 2, 0, -2};
	for (int i = 0; i < ENTRIES; i++)
		w[i] = 0.1;
	const muon_parameter p = {.name = "w",
				  .rank = 2,
				  .dims = {2, 3},
				  .dtype = MUON_F64,
				  .values = w,
				  .gradient_dtype = MUON_F64,
				  .gradient = g};
	muon_options options = MUON_OPTIONS_INIT;
	options.momentum_kind = kind;
	muon_optimizer *o;
	CU_ASSERT_EQUAL_FATAL(muon_optimizer_create(&o, &options, &p, 1, NULL), MUON_OK);
	CU_ASSERT_EQUAL(muon_optimizer_rule(o, 0), MUON_RULE_MUON);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.01, NULL), MUON_OK);
	check(w, w1, 2e-9);
	memcpy(g, g2, sizeof g);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.01, NULL), MUON_OK);
	check(w, w2, 2e-9);
	CU_ASSERT_EQUAL(muon_optimizer_steps(o), 2);
	muon_optimizer_destroy(&o);
	CU_ASSERT_PTR_NULL(o);
}

static void test_moonlight(void)
{
	run_moonlight(MUON_MOMENTUM_CLASSICAL);
	run_moonlight(MUON_MOMENTUM_EMA);
}

static void test_adamw_scalar(void)
{
	static const double gradients[] = {.5, -.25, .125};
	static const double expected[] = {.99890000002, .9985317405787563, .9980852057867098};
	double w = 1, g;
	const muon_parameter p = {.name = "scale",
				  .dtype = MUON_F64,
				  .values = &w,
				  .gradient_dtype = MUON_F64,
				  .gradient = &g};
	const muon_options options = MUON_OPTIONS_INIT;
	muon_optimizer *o;
	CU_ASSERT_EQUAL_FATAL(muon_optimizer_create(&o, &options, &p, 1, NULL), MUON_OK);
	CU_ASSERT_EQUAL(muon_optimizer_rule(o, 0), MUON_RULE_ADAMW);
	for (int i = 0; i < 3; i++) {
		g = gradients[i];
		CU_ASSERT_EQUAL(muon_optimizer_step(o, 1e-3, NULL), MUON_OK);
		CU_ASSERT_DOUBLE_EQUAL(w, expected[i], i ? 1e-15 : 1e-11);
	}
	muon_optimizer_destroy(&o);
}

/* RMS of the update over update_rms, of an iid Gaussian gradient: other draws are +-0.02 off. */
static double relative_rms(int64_t rows, int64_t cols, const char *coefficients)
{
	optim_fixture f;
	muon_statistics s;
	fixture_start(&f, 1);
	FIXTURE_ADD(&f, "w", MUON_F32, rows, cols);
	muon_options options = MUON_OPTIONS_INIT;
	options.coefficients = coefficients;
	muon_optimizer *o = fixture_optimizer(&f, &options);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 1e-3, NULL), MUON_OK);
	CU_ASSERT_EQUAL(muon_optimizer_statistics(o, 0, &s), MUON_OK);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
	return s.update_rms / options.update_rms;
}

static void test_rms(void)
{
	CU_ASSERT_DOUBLE_EQUAL(relative_rms(128, 128, "jordan"), .888, .02);
	CU_ASSERT_DOUBLE_EQUAL(relative_rms(256, 1024, "jordan"), .957, .02);
	CU_ASSERT_DOUBLE_EQUAL(relative_rms(1024, 256, "jordan"), .957, .02);
	/* an orthogonal factor has RMS 1/sqrt(max) exactly (Lemma 1) */
	UNIT_CLOSE(relative_rms(64, 100, "deepseek_v4"), 1, 1e-3);
}

UNIT_SUITE(optim_vectors, {"Moonlight's steps", test_moonlight}, {"AdamW", test_adamw_scalar},
	   {"update RMS", test_rms})
