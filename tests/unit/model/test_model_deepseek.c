/* DeepSeek's blocks: against their definitions, their gradients against difference quotients, and
 * the choice and balance of experts. */
#include "unit/model/fixture.h"

static const double tolerance = 1e-9;

/* A block on random input; the function to differentiate is its output times c. */
typedef struct block_test {
	fixture f;
	const mspec_block_f64 *block;
	int64_t layer, count; /* entries of x and of y */
	double *x, *y, *c, *dx, *kept;
} block_test;

static double *new_kept(const block_test *b)
{
	size_t size = b->block->kept(b->f.model, b->layer, &b->f.run.batch);
	double *kept = muon_alloc(size, sizeof *kept);
	CU_ASSERT_PTR_NOT_NULL_FATAL(kept);
	memset(kept, 0xff, size * sizeof *kept); /* NaN: nothing may be read before it is written */
	return kept;
}

static void open_block(block_test *b, const mspec_model_config *config,
                       const mspec_block_f64 *block, int64_t sequences, int64_t length)
{
	*b = (block_test){.block = block, .layer = 1, .count = sequences * length * config->hidden};
	fixture_open(&b->f, config, sequences, length);
	b->x = fixture_normal(b->count, 1);
	b->y = fixture_normal(b->count, 2);
	b->c = fixture_normal(b->count, 3);
	b->dx = fixture_normal(b->count, 4);
	b->kept = new_kept(b);
}

static void close_block(block_test *b)
{
	muon_free(b->x);
	muon_free(b->y);
	muon_free(b->c);
	muon_free(b->dx);
	muon_free(b->kept);
	fixture_close(&b->f);
}

static void run_forward(block_test *b)
{
	b->block->forward(&b->f.run, b->layer, b->x, b->y, b->kept);
}

static double product(void *state)
{
	block_test *b = state;
	run_forward(b);
	return cblas_ddot((int)b->count, b->c, 1, b->y, 1);
}

/* Of x, and of tensors [first, first + count) where a sample of them is enough. */
static void check_block_gradient(block_test *b, size_t first, size_t count)
{
	run_forward(b);
	b->block->backward(&b->f.run, b->layer, b->x, b->c, b->dx, b->kept);
	double error = fixture_gradient_error(product, b, b->x, b->dx, b->count, 150);
	CU_ASSERT_TRUE(error < tolerance);
	for (size_t i = first; i < first + count; i++) {
		const mspec_model_tensor *t = &b->f.model->tensors[i];
		if (!t->trained)
			continue;
		error = fixture_gradient_error(product, b, b->f.parameters + t->offset,
		                               b->f.gradient + t->offset, t->count, 20);
		CU_ASSERT_TRUE(error < tolerance);
	}
}

/* Without what backward needs, the same output. */
static void check_forward_only(block_test *b)
{
	double *first = b->y, *kept = b->kept;
	run_forward(b);
	b->f.run.batch.backward = false;
	b->y = fixture_normal(b->count, 9);
	b->kept = new_kept(b);
	run_forward(b);
	CU_ASSERT_EQUAL(memcmp(b->y, first, (size_t)b->count * sizeof *first), 0);
	muon_free(first);
	muon_free(kept);
}

/* y = W x */
static void multiply(const block_test *b, size_t tensor, const double *x, double *y)
{
	const mspec_model_tensor *t = &b->f.model->tensors[tensor];
	cblas_dgemv(CblasRowMajor, CblasNoTrans, (int)t->dims[0], (int)t->dims[1], 1,
	            b->f.parameters + t->offset, (int)t->dims[1], x, 1, 0, y, 1);
}

/* ---- multi-head latent attention ------------------------------------------------------------ */

enum { HEADS = 3, NOPE = 5, ROPE = 4, VALUE = 3, RANK = 7, QK = NOPE + ROPE };

/* x: ROPE entries, pairs of neighbours. */
static void turn(double *x, int64_t position)
{
	for (int i = 0; i < ROPE / 2; i++) {
		const double angle = (double)position * pow(50, -2.0 * i / ROPE);
		const double a = x[2 * i], b = x[2 * i + 1];
		x[2 * i] = a * cos(angle) - b * sin(angle);
		x[2 * i + 1] = a * sin(angle) + b * cos(angle);
	}
}

static void mla_query(const block_test *b, const double *x, int64_t position, double *q)
{
	multiply(b, b->f.model->layers[1].q, x, q);
	for (int h = 0; h < HEADS; h++)
		turn(q + h * QK + NOPE, position);
}

/* A token's keys and values of all heads. */
static void mla_key_value(const block_test *b, const double *x, int64_t position, double *k,
                          double *v)
{
	const mspec_model_layer *l = &b->f.model->layers[1];
	const double *gain = b->f.parameters + b->f.model->tensors[l->kv_a_norm].offset;
	double a[RANK + ROPE], up[HEADS * (NOPE + VALUE)];
	multiply(b, l->kv_a, x, a);
	const double mean_square = cblas_ddot(RANK, a, 1, a, 1) / RANK;
	for (int i = 0; i < RANK; i++)
		a[i] *= gain[i] / sqrt(mean_square + 1e-3);
	turn(a + RANK, position);
	multiply(b, l->kv_b, a, up);
	for (int h = 0; h < HEADS; h++) {
		memcpy(k + h * QK, up + h * (NOPE + VALUE), NOPE * sizeof *k);
		memcpy(k + h * QK + NOPE, a + RANK, ROPE * sizeof *k);
		memcpy(v + h * VALUE, up + h * (NOPE + VALUE) + NOPE, VALUE * sizeof *v);
	}
}

/* The block's output at position `row` of the sequence that starts at x. */
static void mla_by_definition(const block_test *b, const double *x, int64_t row, double *y)
{
	const int64_t hidden = b->f.model->config.hidden;
	double q[HEADS * QK], k[HEADS * QK], v[HEADS * VALUE];
	double out[HEADS * VALUE] = {0}, sum[HEADS] = {0};
	mla_query(b, x + row * hidden, row, q);
	for (int64_t s = 0; s <= row; s++) {
		mla_key_value(b, x + s * hidden, s, k, v);
		for (int h = 0; h < HEADS; h++) {
			const double weight =
			    exp(cblas_ddot(QK, q + h * QK, 1, k + h * QK, 1) / sqrt(QK));
			sum[h] += weight;
			cblas_daxpy(VALUE, weight, v + h * VALUE, 1, out + h * VALUE, 1);
		}
	}
	for (int i = 0; i < HEADS * VALUE; i++)
		out[i] /= sum[i / VALUE];
	multiply(b, b->f.model->layers[1].o, out, y);
}

static void test_mla(void)
{
	const mspec_model_config config = fixture_deepseek();
	const int64_t length = 70, hidden = config.hidden;
	block_test b;
	double expected[20];
	open_block(&b, &config, &mspec_mla_block_f64, 2, length);
	run_forward(&b);
	for (int64_t s = 0; s < 2; s++)
		for (int64_t row = 0; row < length; row += 23) {
			mla_by_definition(&b, b.x + s * length * hidden, row, expected);
			const double *y = b.y + (s * length + row) * hidden;
			for (int64_t i = 0; i < hidden; i++)
				UNIT_CLOSE(y[i], expected[i], 1e-10);
		}
	check_forward_only(&b);
	close_block(&b);
}

static void test_mla_gradient(void)
{
	const mspec_model_config config = fixture_deepseek();
	block_test b;
	open_block(&b, &config, &mspec_mla_block_f64, 2, 7);
	check_block_gradient(&b, b.f.model->layers[1].q, 5); /* q, kv_a, its norm, kv_b, o */
	close_block(&b);
}

/* ---- mixture of experts --------------------------------------------------------------------- */

/* Add factor * the MLP whose first tensor is `gate`. */
static void add_mlp(const block_test *b, size_t gate, const double *x, double factor, double *y)
{
	double g[32], u[32], out[20];
	multiply(b, gate, x, g);
	multiply(b, gate + 1, x, u);
	for (int64_t i = 0; i < b->f.model->tensors[gate].dims[0]; i++)
		g[i] *= u[i] / (1 + exp(-g[i]));
	multiply(b, gate + 2, g, out);
	cblas_daxpy(20, factor, out, 1, y, 1);
}

static void moe_by_definition(const block_test *b, const double *x, double *y)
{
	const mspec_model_config *c = &b->f.model->config;
	const mspec_model_layer *l = &b->f.model->layers[1];
	const double *bias = b->f.parameters + b->f.model->tensors[l->router_bias].offset;
	double scores[8], sum = 0;
	bool is_chosen[8] = {false};
	multiply(b, l->router, x, scores);
	for (int64_t e = 0; e < c->experts; e++)
		scores[e] = 1 / (1 + exp(-scores[e]));
	for (int64_t j = 0; j < c->top_k; j++) {
		int64_t best = -1;
		for (int64_t e = 0; e < c->experts; e++)
			if (!is_chosen[e] &&
			    (best < 0 || scores[e] + bias[e] > scores[best] + bias[best]))
				best = e;
		is_chosen[best] = true;
		sum += scores[best];
	}
	memset(y, 0, 20 * sizeof *y);
	if (c->shared_experts)
		add_mlp(b, l->shared_gate, x, 1, y);
	for (int64_t e = 0; e < c->experts; e++)
		if (is_chosen[e])
			add_mlp(b, l->experts + 3 * (size_t)e, x,
			        c->routed_scale * scores[e] / (c->top_k > 1 ? sum : 1), y);
}

static void check_moe(const mspec_model_config *config)
{
	block_test b;
	double expected[20];
	open_block(&b, config, &mspec_moe_block_f64, 2, 15);
	run_forward(&b);
	for (int64_t t = 0; t < 30; t++) {
		moe_by_definition(&b, b.x + t * 20, expected);
		for (int64_t i = 0; i < 20; i++)
			UNIT_CLOSE(b.y[t * 20 + i], expected[i], 1e-10);
	}
	check_forward_only(&b);
	close_block(&b);
}

/* Few tokens: none is so near another choice that a difference quotient's step makes it. */
static void check_moe_gradient(const mspec_model_config *config)
{
	block_test b;
	open_block(&b, config, &mspec_moe_block_f64, 2, 7);
	const size_t first = b.f.model->layers[1].router;
	check_block_gradient(&b, first, b.f.model->final_norm - first);
	close_block(&b);
}

static void test_moe(void)
{
	mspec_model_config config = fixture_deepseek();
	check_moe(&config);
	check_moe_gradient(&config);
	config.shared_experts = 0;
	config.top_k = 5;
	check_moe(&config);
	check_moe_gradient(&config);
	config.top_k = 1;
	check_moe(&config);
	check_moe_gradient(&config);
}

/* Equal scores: the first experts get all tokens, the others none and no gradient. */
static void test_ties(void)
{
	const mspec_model_config config = fixture_deepseek();
	block_test b;
	int64_t load[2 * 6] = {0};
	mspec_records records = {.expert_tokens = load};
	open_block(&b, &config, &mspec_moe_block_f64, 2, 15);
	const mspec_model_layer *l = &b.f.model->layers[1];
	const mspec_model_tensor *router = &b.f.model->tensors[l->router];
	const mspec_model_tensor *bias = &b.f.model->tensors[l->router_bias];
	memset(b.f.parameters + router->offset, 0, (size_t)router->count * sizeof(double));
	memset(b.f.parameters + bias->offset, 0, (size_t)bias->count * sizeof(double));
	b.f.parameters[bias->offset + 4] = 0.125; /* before all others */
	b.f.run.records = &records;
	run_forward(&b);
	static const int64_t expected[2 * 6] = {[6] = 30, [6 + 4] = 30};
	CU_ASSERT_EQUAL(memcmp(load, expected, sizeof load), 0);
	b.block->backward(&b.f.run, 1, b.x, b.c, b.dx, b.kept);
	for (size_t e = 0; e < 6; e++) {
		const mspec_model_tensor *gate = &b.f.model->tensors[l->experts + 3 * e];
		double size = cblas_dasum((int)gate->count, b.f.gradient + gate->offset, 1);
		CU_ASSERT_EQUAL(size > 0, e == 0 || e == 4);
	}
	CU_ASSERT_EQUAL(cblas_dasum(6, b.f.gradient + bias->offset, 1), 0);
	close_block(&b);
}

/* Of a diverged model's scores, NaN, as many experts are chosen, each once. */
static void test_nan_scores(void)
{
	const mspec_model_config config = fixture_deepseek();
	block_test b;
	int64_t load[2 * 6] = {0}, sum = 0;
	mspec_records records = {.expert_tokens = load};
	open_block(&b, &config, &mspec_moe_block_f64, 2, 15);
	b.f.run.records = &records;
	for (int64_t i = 0; i < b.count; i += 37)
		b.x[i] = NAN;
	b.x[41] = INFINITY;
	run_forward(&b);
	for (int e = 0; e < 6; e++) {
		sum += load[6 + e];
		CU_ASSERT_TRUE(load[6 + e] >= 0 && load[6 + e] <= 30);
	}
	CU_ASSERT_EQUAL(sum, 30 * config.top_k);
	CU_ASSERT_TRUE(isnan(b.y[0]));
	close_block(&b);
}

/* ---- balance -------------------------------------------------------------------------------- */

static void test_balance_step(void)
{
	const mspec_model_config config = fixture_deepseek();
	mspec_model *model;
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, &config, NULL), MUON_OK);
	float *parameters = muon_alloc((size_t)model->parameter_count, sizeof *parameters);
	CU_ASSERT_PTR_NOT_NULL_FATAL(parameters);
	const int64_t offset = model->tensors[model->layers[1].router_bias].offset;
	/* the dense layer's counts mean nothing; a mean of 7 */
	static const int64_t load[2 * 6] = {90, 1, 1, 1, 1, 1, 0, 7, 8, 6, 21, 0};
	static const float expected[6] = {0.25f, 0, -0.25f, 0.25f, -0.25f, 0.25f};
	mspec_model_balance(model, parameters, load, 0.25);
	for (int64_t i = 0; i < model->parameter_count; i++) {
		bool is_bias = i >= offset && i < offset + 6;
		CU_ASSERT_EQUAL(parameters[i], is_bias ? expected[i - offset] : 0);
	}
	mspec_model_balance(model, parameters, load, 0.25);
	CU_ASSERT_EQUAL(parameters[offset + 4], -0.5);
	muon_free(parameters);
	mspec_model_destroy(&model);
}

static void run_and_count(const fixture *f, mspec_workspace *workspace, const float *parameters,
                          int64_t *load)
{
	mspec_records records = {.expert_tokens = load};
	mspec_pass pass = {
	    .parameters = parameters,
	    .tokens = f->tokens,
	    .sequences = 2,
	    .length = 60,
	    .records = &records,
	};
	memset(load, 0, 12 * sizeof *load);
	CU_ASSERT_EQUAL_FATAL(mspec_model_run(f->model, workspace, &pass), MUON_OK);
}

static int64_t least(const int64_t *load)
{
	int64_t few = load[0];
	for (int e = 1; e < 6; e++)
		few = load[e] < few ? load[e] : few;
	return few;
}

/* Experts that nobody chose come to work, without any gradient. */
static void test_no_expert_starves(void)
{
	const mspec_model_config config = fixture_deepseek();
	fixture f;
	int64_t load[12], sum[6] = {0};
	mspec_workspace *workspace;
	enum { STEPS = 160, LAST = 60 };
	fixture_open(&f, &config, 2, 60);
	CU_ASSERT_EQUAL_FATAL(mspec_workspace_create(&workspace, f.model, 2, 60, false, NULL),
	                      MUON_OK);
	float *parameters = muon_alloc((size_t)f.model->parameter_count, sizeof *parameters);
	CU_ASSERT_PTR_NOT_NULL_FATAL(parameters);
	for (int64_t i = 0; i < f.model->parameter_count; i++)
		parameters[i] = (float)f.parameters[i];
	float *bias = parameters + f.model->tensors[f.model->layers[1].router_bias].offset;
	for (int e = 0; e < 6; e++)
		bias[e] = e < 2 ? 1.5f : 0; /* more than any score */
	run_and_count(&f, workspace, parameters, load);
	CU_ASSERT_EQUAL(least(load + 6), 0);
	CU_ASSERT_EQUAL(load[6], 120);
	for (int i = 0; i < STEPS; i++) {
		mspec_model_balance(f.model, parameters, load, 0.02);
		run_and_count(&f, workspace, parameters, load);
		for (int e = 0; e < 6 && i >= STEPS - LAST; e++)
			sum[e] += load[6 + e];
	}
	CU_ASSERT_TRUE(least(load + 6) > 0);
	for (int e = 0; e < 6; e++) /* about a sixth of the choices each, over the last steps */
		UNIT_CLOSE((double)sum[e], LAST * 120 * 2 / 6.0, 0.1);
	muon_free(parameters);
	mspec_workspace_destroy(&workspace);
	fixture_close(&f);
}

UNIT_SUITE(model_deepseek, {"latent attention", test_mla},
           {"latent attention's gradient", test_mla_gradient}, {"mixture of experts", test_moe},
           {"equal scores", test_ties}, {"NaN scores", test_nan_scores},
           {"step of the balance", test_balance_step},
           {"no expert starves", test_no_expert_starves})
