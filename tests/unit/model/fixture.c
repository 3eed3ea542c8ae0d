#include "unit/model/fixture.h"

#include "base/random.h"

mspec_model_config fixture_llama(void)
{
	return (mspec_model_config){
	    .family = MSPEC_FAMILY_LLAMA,
	    .vocab = 37,
	    .hidden = 20,
	    .layers = 2,
	    .heads = 4,
	    .kv_heads = 2,
	    .head_dim = 6,
	    .ffn = 28,
	    .context = 80,
	    .rope_theta = 50,
	    .norm_eps = 1e-3,
	    .init_std = 0.3,
	};
}

mspec_model_config fixture_deepseek(void)
{
	return (mspec_model_config){
	    .family = MSPEC_FAMILY_DEEPSEEK,
	    .vocab = 37,
	    .hidden = 20,
	    .layers = 2,
	    .heads = 3,
	    .ffn = 28,
	    .context = 80,
	    .rope_theta = 50,
	    .norm_eps = 1e-3,
	    .init_std = 0.3,
	    .dense_layers = 1,
	    .experts = 6,
	    .shared_experts = 2,
	    .top_k = 2,
	    .expert_ffn = 9,
	    .routed_scale = 1.7,
	    .kv_rank = 7,
	    .nope_dim = 5,
	    .rope_dim = 4,
	    .value_dim = 3,
	};
}

double *fixture_normal(int64_t count, uint64_t seed)
{
	double *x = muon_alloc((size_t)count, sizeof *x);
	CU_ASSERT_PTR_NOT_NULL_FATAL(x);
	muon_random random;
	muon_random_seed(&random, seed);
	for (int64_t i = 0; i < count; i++)
		x[i] = muon_random_normal(&random);
	return x;
}

static void fill_parameters(fixture *f)
{
	for (size_t i = 0; i < f->model->tensor_count; i++) {
		const mspec_model_tensor *t = &f->model->tensors[i];
		double *x = f->parameters + t->offset;
		for (int64_t j = 0; j < t->count; j++)
			x[j] = t->rank == 2  ? f->model->config.init_std * x[j]
			       : t->trained ? 1 + 0.3 * x[j]
			                    : 0.1 * x[j];
	}
}

static void fill_tokens(fixture *f, int64_t rows)
{
	muon_random random;
	muon_random_seed(&random, 11);
	f->tokens = muon_alloc((size_t)rows, sizeof *f->tokens);
	f->targets = muon_alloc((size_t)rows, sizeof *f->targets);
	CU_ASSERT_TRUE_FATAL(f->tokens && f->targets);
	for (int64_t t = 0; t < rows; t++) {
		uint64_t vocab = (uint64_t)f->model->config.vocab;
		f->tokens[t] = (int32_t)(muon_random_bits(&random) % vocab);
		f->targets[t] = (int32_t)(muon_random_bits(&random) % (vocab + 1)) - 1;
	}
	f->targets[rows / 2] = -1;
}

void fixture_open(fixture *f, const mspec_model_config *config, int64_t sequences, int64_t length)
{
	const mspec_batch batch = {sequences, length, true};
	muon_error err = {0};
	*f = (fixture){0};
	muon_blas_single_thread();
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&f->model, config, &err), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(mspec_workspace_init_f64(&f->workspace, f->model, &batch), MUON_OK);
	f->parameters = fixture_normal(f->model->parameter_count, 5);
	f->gradient = muon_alloc((size_t)f->model->parameter_count, sizeof *f->gradient);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f->gradient);
	fill_parameters(f);
	fill_tokens(f, sequences * length);
	f->run = (mspec_run_f64){
	    .model = f->model,
	    .workspace = &f->workspace,
	    .parameters = f->parameters,
	    .gradient = f->gradient,
	    .tokens = f->tokens,
	    .targets = f->targets,
	    .batch = batch,
	    .rows = sequences * length,
	    .loss_scale = 0.7,
	    .cosine = f->workspace.cosine,
	    .sine = f->workspace.sine,
	    .rounded = f->workspace.rounded,
	    .scratch = f->workspace.scratch,
	};
}

void fixture_close(fixture *f)
{
	mspec_workspace_release_f64(&f->workspace);
	mspec_model_destroy(&f->model);
	muon_free(f->parameters);
	muon_free(f->gradient);
	muon_free(f->tokens);
	muon_free(f->targets);
}

void fixture_clear_gradient(fixture *f)
{
	memset(f->gradient, 0, (size_t)f->model->parameter_count * sizeof *f->gradient);
}

/* ---- difference quotients ----------------------------------------------------------------- */

/* Of fourth order: error h^4 f^(5)/30, and rounding of about 1e-16 f/h. */
static double quotient(double (*f)(void *state), void *state, double *x)
{
	const double at = *x, h = 3e-4;
	double values[4];
	for (int i = 0; i < 4; i++) {
		*x = at + h * (i < 2 ? i - 2 : i - 1);
		values[i] = f(state);
	}
	*x = at;
	return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h);
}

double fixture_gradient_error(double (*f)(void *state), void *state, double *x,
                              const double *gradient, int64_t count, int64_t samples)
{
	double worst = 0, largest = 0;
	int64_t step = samples < count ? count / samples : 1;
	for (int64_t i = 0; i < count; i++)
		largest = fmax(largest, fabs(gradient[i]));
	for (int64_t i = 0; i < count; i += step) {
		double error = fabs(quotient(f, state, x + i) - gradient[i]);
		worst = error > worst || isnan(error) ? error : worst;
	}
	return worst == 0 ? 0 : worst / largest; /* a gradient of 0 where there is one: Inf */
}

static double model_loss(void *state)
{
	fixture *f = state;
	mspec_run_f64 run = f->run;
	run.gradient = NULL;
	CU_ASSERT_EQUAL_FATAL(mspec_model_run_f64(&run), MUON_OK);
	return run.loss_scale * run.loss_sum;
}

static bool is_zero(const double *x, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		if (x[i] != 0)
			return false;
	return true;
}

double fixture_model_error(fixture *f, int64_t samples)
{
	double worst = 0;
	mspec_run_f64 run = f->run;
	CU_ASSERT_EQUAL_FATAL(mspec_model_run_f64(&run), MUON_OK);
	for (size_t i = 0; i < f->model->tensor_count; i++) {
		const mspec_model_tensor *t = &f->model->tensors[i];
		const double *gradient = f->gradient + t->offset;
		if (!t->trained)
			continue;
		if (is_zero(gradient, t->count))
			return 1;
		double error = fixture_gradient_error(model_loss, f, f->parameters + t->offset,
		                                      gradient, t->count, samples);
		worst = error > worst || isnan(error) ? error : worst;
	}
	return worst;
}
