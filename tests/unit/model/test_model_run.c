/* Runs of a model through the public interface. */
#include "unit/model/fixture.h"

#include "base/pool.h"

enum { SEQUENCES = 2, LENGTH = 70, ROWS = SEQUENCES * LENGTH };

/* A float32 model with a workspace and a pass. */
typedef struct setup {
	fixture f; /* tokens, targets, model */
	mspec_workspace *workspace;
	mspec_pass pass;
	float *parameters, *logits, *gradient, *outputs;
	int64_t parameter_count, logit_count, output_count;
} setup;

static float *allocate(int64_t count)
{
	float *x = muon_alloc((size_t)count, sizeof *x);
	CU_ASSERT_PTR_NOT_NULL_FATAL(x);
	return x;
}

static void open_setup(setup *s, const mspec_model_config *config, bool backward)
{
	fixture_open(&s->f, config, SEQUENCES, LENGTH);
	s->parameter_count = s->f.model->parameter_count;
	s->logit_count = ROWS * config->vocab;
	s->output_count = ROWS * config->hidden * config->layers;
	s->parameters = allocate(s->parameter_count);
	s->gradient = allocate(s->parameter_count);
	s->logits = allocate(s->logit_count);
	s->outputs = allocate(s->output_count);
	for (int64_t i = 0; i < s->parameter_count; i++)
		s->parameters[i] = (float)s->f.parameters[i];
	CU_ASSERT_EQUAL_FATAL(mspec_workspace_create(&s->workspace, s->f.model, SEQUENCES, LENGTH,
	                                             backward, NULL),
	                      MUON_OK);
	s->pass = (mspec_pass){
	    .parameters = s->parameters,
	    .tokens = s->f.tokens,
	    .targets = s->f.targets,
	    .sequences = SEQUENCES,
	    .length = LENGTH,
	    .logits = s->logits,
	    .layer_outputs = s->outputs,
	    .gradient = backward ? s->gradient : NULL,
	    .loss_scale = 0.25,
	};
}

static void close_setup(setup *s)
{
	mspec_workspace_destroy(&s->workspace);
	muon_free(s->parameters);
	muon_free(s->gradient);
	muon_free(s->logits);
	muon_free(s->outputs);
	fixture_close(&s->f);
}

static void for_both_families(void (*check)(const mspec_model_config *config))
{
	const mspec_model_config llama = fixture_llama(), deepseek = fixture_deepseek();
	check(&llama);
	check(&deepseek);
}

static int run(setup *s)
{
	return mspec_model_run(s->f.model, s->workspace, &s->pass);
}

static bool same(const float *a, const float *b, int64_t count)
{
	return !memcmp(a, b, (size_t)count * sizeof *a);
}

/* ---- cases -------------------------------------------------------------------------------- */

static double largest_difference(const float *a, const float *b, int64_t count)
{
	double most = 0;
	for (int64_t i = 0; i < count; i++)
		most = fmax(most, fabs((double)a[i] - (double)b[i]));
	return most;
}

/* A later token changes nothing before it, and nothing in another sequence, but for rounding where
 * it goes to other experts and so moves their rows. */
static void check_causality(const mspec_model_config *config)
{
	setup s;
	open_setup(&s, config, false);
	const int64_t vocab = config->vocab, changed = 66;
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	float *before = allocate(s.logit_count);
	memcpy(before, s.logits, (size_t)s.logit_count * sizeof *before);
	s.f.tokens[changed] = (int32_t)((s.f.tokens[changed] + 1) % vocab);
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	if (config->family == MSPEC_FAMILY_LLAMA)
		CU_ASSERT_TRUE(same(s.logits, before, changed * vocab));
	CU_ASSERT_TRUE(largest_difference(s.logits, before, changed * vocab) < 1e-5);
	for (int64_t t = changed; t < LENGTH; t++)
		CU_ASSERT_FALSE(same(s.logits + t * vocab, before + t * vocab, vocab));
	CU_ASSERT_TRUE(largest_difference(s.logits + LENGTH * vocab, before + LENGTH * vocab,
	                                  LENGTH * vocab) < 1e-5);
	muon_free(before);
	close_setup(&s);
}

static bool run_task(void *state, size_t task, int worker)
{
	(void)worker;
	setup *s = state;
	return run(&s[task]) == MUON_OK;
}

/* Same bits: again, in a used workspace, on two threads, without backward, and whatever was in the
 * buffers before. */
static void check_same_bits(const mspec_model_config *config)
{
	setup s[2], forward;
	open_setup(&s[0], config, true);
	open_setup(&s[1], config, true);
	open_setup(&forward, config, false);
	memset(s[1].gradient, 0xff, (size_t)s[1].parameter_count * sizeof(float));
	CU_ASSERT_EQUAL(run(&s[0]), MUON_OK);
	float *first = allocate(s[0].parameter_count);
	memcpy(first, s[0].gradient, (size_t)s[0].parameter_count * sizeof *first);
	const double loss = s[0].pass.loss_sum;
	for (int i = 0; i < 3; i++)
		muon_pool_run(2, 2, run_task, s);
	CU_ASSERT_EQUAL(run(&forward), MUON_OK);
	for (int i = 0; i < 2; i++) {
		CU_ASSERT_TRUE(same(first, s[i].gradient, s[i].parameter_count));
		CU_ASSERT_EQUAL(s[i].pass.loss_sum, loss);
	}
	CU_ASSERT_TRUE(same(forward.logits, s[0].logits, s[0].logit_count));
	CU_ASSERT_TRUE(same(forward.outputs, s[0].outputs, s[0].output_count));
	CU_ASSERT_EQUAL(forward.pass.loss_sum, loss);
	/* a workspace for backward, used without */
	s[1].pass.gradient = NULL;
	CU_ASSERT_EQUAL(run(&s[1]), MUON_OK);
	CU_ASSERT_TRUE(same(s[1].logits, s[0].logits, s[0].logit_count));
	muon_free(first);
	close_setup(&s[0]);
	close_setup(&s[1]);
	close_setup(&forward);
}

/* Sequences are independent: losses and gradients of two are the sums of each one's. */
static void check_sum_over_sequences(const mspec_model_config *config)
{
	setup both, one;
	open_setup(&both, config, true);
	open_setup(&one, config, true);
	CU_ASSERT_EQUAL(run(&both), MUON_OK);
	one.pass.sequences = 1;
	CU_ASSERT_EQUAL(run(&one), MUON_OK);
	double loss = one.pass.loss_sum, count = (double)one.pass.loss_count;
	float *sum = allocate(one.parameter_count);
	memcpy(sum, one.gradient, (size_t)one.parameter_count * sizeof *sum);
	one.pass.tokens += LENGTH;
	one.pass.targets += LENGTH;
	CU_ASSERT_EQUAL(run(&one), MUON_OK);
	UNIT_CLOSE(loss + one.pass.loss_sum, both.pass.loss_sum, 1e-6);
	CU_ASSERT_EQUAL(count + (double)one.pass.loss_count, (double)both.pass.loss_count);
	double error = 0, norm = 0;
	for (int64_t i = 0; i < one.parameter_count; i++) {
		double whole = (double)both.gradient[i];
		double difference = (double)sum[i] + (double)one.gradient[i] - whole;
		error += difference * difference;
		norm += whole * whole;
	}
	CU_ASSERT_TRUE(sqrt(error / norm) < 1e-6);
	muon_free(sum);
	close_setup(&both);
	close_setup(&one);
}

static void check_targets(const mspec_model_config *config)
{
	setup s;
	open_setup(&s, config, true);
	const int64_t vocab = config->vocab;
	for (int t = 0; t < ROWS; t++)
		s.f.targets[t] = -1;
	s.f.targets[100] = 7;
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	double sum = 0;
	for (int64_t i = 0; i < vocab; i++)
		sum += exp((double)s.logits[100 * vocab + i]);
	CU_ASSERT_EQUAL(s.pass.loss_count, 1);
	UNIT_CLOSE(s.pass.loss_sum, log(sum) - (double)s.logits[100 * vocab + 7], 1e-5);
	/* no target at all: no loss, a gradient of zeros */
	s.f.targets[100] = -1;
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	CU_ASSERT_EQUAL(s.pass.loss_count, 0);
	CU_ASSERT_EQUAL(s.pass.loss_sum, 0);
	int nonzero = 0;
	for (int64_t i = 0; i < s.parameter_count; i++)
		nonzero += s.gradient[i] != 0;
	CU_ASSERT_EQUAL(nonzero, 0);
	s.pass.targets = NULL;
	s.pass.gradient = NULL;
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	CU_ASSERT_EQUAL(s.pass.loss_count, 0);
	close_setup(&s);
}

static void check_refused(setup *s)
{
	CU_ASSERT_EQUAL(run(s), MUON_E_ARGUMENT);
}

static void check_arguments(const mspec_model_config *config)
{
	setup s, forward;
	open_setup(&s, config, true);
	open_setup(&forward, config, false);
	static const int32_t bad[] = {-1, 37, INT32_MAX, INT32_MIN};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const int32_t token = s.f.tokens[ROWS - 1], target = s.f.targets[3];
		s.f.tokens[ROWS - 1] = bad[i];
		check_refused(&s);
		s.f.tokens[ROWS - 1] = token;
		s.f.targets[3] = bad[i];
		if (bad[i] != -1)
			check_refused(&s);
		s.f.targets[3] = target;
	}
	s.pass.targets = NULL; /* with a gradient */
	check_refused(&s);
	s.pass.targets = s.f.targets;
	s.pass.sequences = SEQUENCES + 1;
	check_refused(&s);
	s.pass.sequences = 0;
	check_refused(&s);
	s.pass.sequences = 1;
	s.pass.length = LENGTH + 1;
	check_refused(&s);
	s.pass.length = LENGTH;
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	forward.pass.gradient = forward.gradient; /* in a workspace without backward */
	check_refused(&forward);
	CU_ASSERT_EQUAL(mspec_model_run(forward.f.model, s.workspace, &s.pass), MUON_E_ARGUMENT);
	close_setup(&s);
	close_setup(&forward);
}

/* A diverged model: NaN, no error. */
static void check_diverged(const mspec_model_config *config)
{
	setup s;
	open_setup(&s, config, true);
	s.parameters[s.f.model->tensors[s.f.model->layers[1].q].offset + 3] = NAN;
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	CU_ASSERT_TRUE(isnan(s.pass.loss_sum));
	s.pass.bf16 = true;
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	CU_ASSERT_TRUE(isnan(s.pass.loss_sum));
	close_setup(&s);
}

/* ---- records ------------------------------------------------------------------------------ */

static void direct_record(const float *x, int64_t count, double *sumsq, double *max_abs)
{
	*sumsq = *max_abs = 0;
	for (int64_t i = 0; i < count; i++) {
		*sumsq += (double)x[i] * (double)x[i];
		*max_abs = fmax(*max_abs, fabs((double)x[i]));
	}
}

static int64_t expected_rows(const setup *s, size_t tensor)
{
	const mspec_model_tensor *t = &s->f.model->tensors[tensor];
	return t->rank == 2 && tensor != s->f.model->embedding ? ROWS : 0;
}

/* Tensors of routed experts see the tokens that their expert takes, top_k experts a token. */
static void check_expert_records(const setup *s, const mspec_records *records)
{
	const mspec_model_config *c = &s->f.model->config;
	for (int64_t l = 0; l < c->layers; l++) {
		const mspec_model_layer *layer = &s->f.model->layers[l];
		const int64_t *load = records->expert_tokens + l * c->experts;
		int64_t sum = 0;
		for (int64_t e = 0; e < c->experts; e++) {
			sum += load[e];
			for (int64_t i = 0; layer->is_moe && i < 3; i++) {
				size_t tensor = layer->experts + (size_t)(3 * e + i);
				CU_ASSERT_EQUAL(records->tensors[tensor].output_count,
				                load[e] * s->f.model->tensors[tensor].dims[0]);
			}
		}
		CU_ASSERT_EQUAL(sum, layer->is_moe ? ROWS * c->top_k : 0);
	}
}

static bool is_of_expert(const mspec_model *model, size_t tensor)
{
	const mspec_model_tensor *t = &model->tensors[tensor];
	return t->layer >= 0 && model->layers[t->layer].is_moe &&
	       tensor >= model->layers[t->layer].experts;
}

static void check_records(const mspec_model_config *config)
{
	setup s;
	open_setup(&s, config, true);
	const size_t tensor_count = s.f.model->tensor_count;
	mspec_layer_record layers[2] = {{.max_attention_logit = -INFINITY},
	                                {.max_attention_logit = -INFINITY}};
	mspec_tensor_record tensors[64] = {0};
	double heads[8], sumsq, max_abs;
	int64_t load[2 * 8] = {0};
	mspec_records records = {layers, tensors, heads, load};
	CU_ASSERT_TRUE_FATAL(tensor_count <= 64 && config->layers == 2 && config->heads <= 4 &&
	                     config->experts <= 8);
	for (int i = 0; i < 8; i++)
		heads[i] = -INFINITY;
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	float *without = allocate(s.parameter_count);
	memcpy(without, s.gradient, (size_t)s.parameter_count * sizeof *without);
	s.pass.records = &records;
	CU_ASSERT_EQUAL(run(&s), MUON_OK);
	CU_ASSERT_TRUE(same(without, s.gradient, s.parameter_count));
	const int64_t hidden = config->hidden;
	for (int64_t l = 0; l < 2; l++) {
		direct_record(s.outputs + l * ROWS * hidden, ROWS * hidden, &sumsq, &max_abs);
		UNIT_CLOSE(layers[l].output_sumsq, sumsq, 1e-12);
		CU_ASSERT_EQUAL(layers[l].output_max_abs, max_abs);
		CU_ASSERT_EQUAL(layers[l].output_count, ROWS * hidden);
		CU_ASSERT_EQUAL(layers[l].logit_count,
		                config->heads * SEQUENCES * LENGTH * (LENGTH + 1) / 2);
		double most = -INFINITY;
		for (int64_t h = 0; h < config->heads; h++)
			most = fmax(most, heads[l * config->heads + h]);
		CU_ASSERT_TRUE(isfinite(most));
		CU_ASSERT_EQUAL(layers[l].max_attention_logit, most);
	}
	direct_record(s.logits, s.logit_count, &sumsq, &max_abs);
	UNIT_CLOSE(tensors[s.f.model->head].output_sumsq, sumsq, 1e-12);
	CU_ASSERT_EQUAL(tensors[s.f.model->head].output_max_abs, max_abs);
	for (size_t i = 0; i < tensor_count; i++)
		if (!is_of_expert(s.f.model, i))
			CU_ASSERT_EQUAL(tensors[i].output_count,
			                expected_rows(&s, i) * s.f.model->tensors[i].dims[0]);
	check_expert_records(&s, &records);
	muon_free(without);
	close_setup(&s);
}

/* The outputs of each of a group, which one product computes. */
static void test_group_records(void)
{
	const mspec_model_config config = fixture_llama();
	setup s;
	open_setup(&s, &config, true);
	mspec_tensor_record tensors[21] = {0};
	mspec_records records = {.tensors = tensors};
	const mspec_model_layer *l = &s.f.model->layers[0];
	const int64_t widths[] = {24, 12, 12}, hidden = 20, rows = 9;
	float y[9 * 48], x[9 * 20];
	for (int i = 0; i < 9 * 20; i++)
		x[i] = (float)(i % 17) - 8;
	const mspec_run_f32 r = {.model = s.f.model, .parameters = s.parameters, .rows = rows,
	                         .records = &records};
	mspec_linear_forward_f32(&r, l->q, 3, x, hidden, rows, y);
	for (int64_t i = 0, column = 0; i < 3; column += widths[i++]) {
		double sumsq = 0, max_abs = 0;
		for (int64_t t = 0; t < rows; t++) {
			double row_sumsq, row_max;
			direct_record(y + t * 48 + column, widths[i], &row_sumsq, &row_max);
			sumsq += row_sumsq;
			max_abs = fmax(max_abs, row_max);
		}
		UNIT_CLOSE(tensors[l->q + (size_t)i].output_sumsq, sumsq, 1e-13);
		CU_ASSERT_EQUAL(tensors[l->q + (size_t)i].output_max_abs, max_abs);
		CU_ASSERT_EQUAL(tensors[l->q + (size_t)i].output_count, rows * widths[i]);
	}
	close_setup(&s);
}

static void test_causality(void)
{
	for_both_families(check_causality);
}

static void test_same_bits(void)
{
	for_both_families(check_same_bits);
}

static void test_sum_over_sequences(void)
{
	for_both_families(check_sum_over_sequences);
}

static void test_targets(void)
{
	for_both_families(check_targets);
}

static void test_arguments(void)
{
	for_both_families(check_arguments);
}

static void test_diverged(void)
{
	for_both_families(check_diverged);
}

static void test_records(void)
{
	for_both_families(check_records);
}

UNIT_SUITE(model_run, {"causality", test_causality}, {"same bits", test_same_bits},
           {"sum over sequences", test_sum_over_sequences}, {"targets", test_targets},
           {"arguments", test_arguments}, {"diverged", test_diverged}, {"records", test_records},
           {"records of a group", test_group_records})
