/* The whole model: its gradient in float64, and float32 against float64. */
#include "unit/model/fixture.h"

static void check_gradient(const mspec_model_config *config, int64_t sequences, int64_t length,
                           int64_t samples)
{
	fixture f;
	fixture_open(&f, config, sequences, length);
	double error = fixture_model_error(&f, samples);
	CU_ASSERT_TRUE(error < 1e-9);
	fixture_close(&f);
}

static void test_gradient(void)
{
	mspec_model_config config = fixture_llama();
	check_gradient(&config, 2, 9, 12);
	check_gradient(&config, 1, 66, 3); /* more than a block of attention's rows */
	config.tied_head = true;
	check_gradient(&config, 2, 9, 12);
	config.kv_heads = 4; /* no grouping */
	config.layers = 1;
	check_gradient(&config, 2, 9, 5);
	config.kv_heads = 1;
	config.vocab = 2;
	check_gradient(&config, 2, 3, 5);
	config.vocab = 4200; /* more than a block of the head's rows */
	check_gradient(&config, 1, 66, 1);
}

static void test_deepseek_gradient(void)
{
	mspec_model_config config = fixture_deepseek();
	check_gradient(&config, 2, 9, 12);
	check_gradient(&config, 1, 66, 3);
	config.dense_layers = 0;
	config.shared_experts = 0;
	config.top_k = 3;
	config.tied_head = true;
	check_gradient(&config, 2, 9, 12);
	config.top_k = 6; /* every token in every expert */
	config.layers = 1;
	check_gradient(&config, 2, 9, 5);
	config.top_k = 1; /* the gate is not normalised */
	check_gradient(&config, 2, 40, 3);
	config.experts = 1;
	config.dense_layers = 1; /* no mixture at all */
	check_gradient(&config, 2, 9, 5);
}

/* A shorter, smaller run in a larger workspace. */
static void test_smaller_run(void)
{
	const mspec_model_config config = fixture_llama();
	fixture f;
	fixture_open(&f, &config, 3, 70);
	f.run.batch.sequences = 2;
	f.run.batch.length = 9;
	CU_ASSERT_TRUE(fixture_model_error(&f, 5) < 1e-9);
	fixture_close(&f);
}

static float *to_float(const double *x, int64_t count)
{
	float *y = muon_alloc((size_t)count, sizeof *y);
	CU_ASSERT_PTR_NOT_NULL_FATAL(y);
	for (int64_t i = 0; i < count; i++)
		y[i] = (float)x[i];
	return y;
}

/* |x - y|_F / |y|_F */
static double distance(const float *x, const double *y, int64_t count)
{
	double error = 0, norm = 0;
	for (int64_t i = 0; i < count; i++) {
		error += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
		norm += y[i] * y[i];
	}
	return sqrt(error / norm);
}

static void check_float32(mspec_model_config config)
{
	fixture f;
	fixture_open(&f, &config, 2, 70);
	const int64_t count = f.model->parameter_count, entries = f.run.rows * config.vocab;
	double *logits = fixture_normal(entries, 1);
	float *parameters = to_float(f.parameters, count), *gradient = to_float(f.gradient, count);
	float *logits32 = to_float(logits, entries);
	for (int64_t i = 0; i < count; i++)
		f.parameters[i] = (double)parameters[i];
	f.run.logits = logits;
	CU_ASSERT_EQUAL(mspec_model_run_f64(&f.run), MUON_OK);
	mspec_workspace *workspace;
	CU_ASSERT_EQUAL_FATAL(mspec_workspace_create(&workspace, f.model, 2, 70, true, NULL),
	                      MUON_OK);
	mspec_pass pass = {
	    .parameters = parameters,
	    .tokens = f.tokens,
	    .targets = f.targets,
	    .sequences = 2,
	    .length = 70,
	    .logits = logits32,
	    .gradient = gradient,
	    .loss_scale = f.run.loss_scale,
	};
	CU_ASSERT_EQUAL(mspec_model_run(f.model, workspace, &pass), MUON_OK);
	UNIT_CLOSE(pass.loss_sum, f.run.loss_sum, 1e-6);
	CU_ASSERT_EQUAL(pass.loss_count, f.run.loss_count);
	CU_ASSERT_TRUE(distance(logits32, logits, entries) < 1e-6);
	for (size_t i = 0; i < f.model->tensor_count; i++) {
		const mspec_model_tensor *t = &f.model->tensors[i];
		if (!t->trained)
			continue;
		double error = distance(gradient + t->offset, f.gradient + t->offset, t->count);
		CU_ASSERT_TRUE(error < 3e-6);
	}
	mspec_workspace_destroy(&workspace);
	muon_free(parameters);
	muon_free(gradient);
	muon_free(logits);
	muon_free(logits32);
	fixture_close(&f);
}

static void test_float32(void)
{
	check_float32(fixture_llama());
	check_float32(fixture_deepseek());
}

/* e^x and the sigmoid in float32, whose polynomial the float64 tests don't see. */
static void test_exponential(void)
{
	double worst = 0, worst_sigmoid = 0;
	for (float x = -87; x <= 0; x += 0.00037f) {
		double exact = exp((double)x);
		worst = fmax(worst, fabs((double)mspec_exp_f32(x) - exact) / exact);
	}
	for (float x = -87; x <= 87; x += 0.00113f) {
		double exact = 1 / (1 + exp(-(double)x));
		worst_sigmoid =
		    fmax(worst_sigmoid, fabs((double)mspec_sigmoid_f32(x) - exact) / exact);
	}
	CU_ASSERT_TRUE(worst < 2 * 0x1p-23);
	CU_ASSERT_TRUE(worst_sigmoid < 4 * 0x1p-23);
	CU_ASSERT_EQUAL(mspec_exp_f32(0), 1);
	CU_ASSERT_EQUAL(mspec_exp_f32(-0.0f), 1);
	CU_ASSERT_EQUAL(mspec_exp_f32(-88), 0);
	CU_ASSERT_EQUAL(mspec_exp_f32(-3e38f), 0);
	CU_ASSERT_EQUAL(mspec_exp_f32(-INFINITY), 0);
	CU_ASSERT_TRUE(isnan(mspec_exp_f32(NAN)));
	CU_ASSERT_EQUAL(mspec_sigmoid_f32(INFINITY), 1);
	CU_ASSERT_EQUAL(mspec_sigmoid_f32(-INFINITY), 0);
	CU_ASSERT_TRUE(isnan(mspec_sigmoid_f32(NAN)));
}

UNIT_SUITE(model_gradient, {"whole Llama", test_gradient},
           {"whole DeepSeek", test_deepseek_gradient}, {"smaller run", test_smaller_run},
           {"float32", test_float32}, {"exponential", test_exponential})
