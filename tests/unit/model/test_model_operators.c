/* Each operator in float64: its gradient against difference quotients, and its values against the
 * formula where that is short. */
#include "unit/model/fixture.h"

static const double tolerance = 1e-9;

/* A scalar function of an operator's result: its product with fixed random numbers `c`, which are
 * then the gradient of the result. */
typedef struct operation {
	fixture f;
	double *x, *y, *c, *dx;
	int64_t ld; /* of x */
	int64_t x_count, y_count;
	bool flag;
} operation;

static void open_operation(operation *o, int64_t sequences, int64_t length, int64_t x_width,
                           int64_t y_width)
{
	const mspec_model_config config = fixture_llama();
	*o = (operation){.ld = x_width};
	fixture_open(&o->f, &config, sequences, length);
	o->x_count = o->f.run.rows * x_width;
	o->y_count = o->f.run.rows * y_width;
	o->x = fixture_normal(o->x_count, 1);
	o->y = fixture_normal(o->y_count, 2);
	o->c = fixture_normal(o->y_count, 3);
	o->dx = fixture_normal(o->x_count, 4);
}

static void close_operation(operation *o)
{
	muon_free(o->x);
	muon_free(o->y);
	muon_free(o->c);
	muon_free(o->dx);
	fixture_close(&o->f);
}

static double product(const operation *o)
{
	return cblas_ddot((int)o->y_count, o->c, 1, o->y, 1);
}

static void check_input(operation *o, double (*f)(void *))
{
	double error = fixture_gradient_error(f, o, o->x, o->dx, o->x_count, 120);
	CU_ASSERT_TRUE(error < tolerance);
}

static void check_tensor(operation *o, double (*f)(void *), size_t tensor)
{
	const mspec_model_tensor *t = &o->f.model->tensors[tensor];
	double error = fixture_gradient_error(f, o, o->f.parameters + t->offset,
	                                      o->f.gradient + t->offset, t->count, 60);
	CU_ASSERT_TRUE(error < tolerance);
}

/* ---- linear ------------------------------------------------------------------------------- */

static double linear(void *state)
{
	operation *o = state;
	mspec_linear_forward_f64(&o->f.run, o->f.model->layers[1].q, 3, o->x, o->ld, o->f.run.rows,
	                         o->y);
	return product(o);
}

static void test_linear(void)
{
	operation o;
	const int64_t hidden = fixture_llama().hidden, width = (4 + 2 * 2) * 6, gap = 3;
	open_operation(&o, 2, 7, hidden + gap, width);
	const mspec_model_layer *l = &o.f.model->layers[1];
	const mspec_run_f64 *run = &o.f.run;
	const int64_t rows = run->rows;
	for (int64_t t = 0; t < rows; t++) /* between the rows, where nothing may be written */
		memset(o.dx + t * o.ld + hidden, 0, (size_t)gap * sizeof *o.dx);
	linear(&o);
	mspec_linear_backward_f64(run, l->q, 3, o.x, o.ld, o.c, rows, o.dx, false);
	check_input(&o, linear);
	check_tensor(&o, linear, l->q);
	check_tensor(&o, linear, l->k);
	check_tensor(&o, linear, l->v);
	/* added to, and each half alone: twice the weights' gradient, three times the input's */
	mspec_linear_backward_f64(run, l->q, 3, NULL, o.ld, o.c, rows, o.dx, true);
	mspec_linear_backward_f64(run, l->q, 3, o.x, o.ld, o.c, rows, NULL, true);
	mspec_linear_backward_f64(run, l->q, 3, NULL, o.ld, o.c, rows, o.dx, true);
	cblas_dscal((int)o.x_count, 1.0 / 3, o.dx, 1);
	cblas_dscal((int)o.f.model->parameter_count, 0.5, o.f.gradient, 1);
	check_input(&o, linear);
	check_tensor(&o, linear, l->q);
	/* row 3, output 5 of the keys */
	const double *w = o.f.parameters + o.f.model->tensors[l->k].offset + 5 * hidden;
	UNIT_CLOSE(o.y[3 * width + 4 * 6 + 5],
	           cblas_ddot((int)hidden, w, 1, o.x + 3 * o.ld, 1), 1e-12);
	/* no rows: nothing happens */
	mspec_linear_forward_f64(run, l->q, 3, NULL, o.ld, 0, NULL);
	mspec_linear_backward_f64(run, l->q, 3, NULL, o.ld, NULL, 0, NULL, false);
	close_operation(&o);
}

/* ---- norm --------------------------------------------------------------------------------- */

static double norm(void *state)
{
	operation *o = state;
	double rstd[32];
	mspec_norm_forward_f64(&o->f.run, o->f.model->final_norm, o->x, o->ld, o->f.run.rows, o->y,
	                       rstd);
	return product(o);
}

static void test_norm(void)
{
	operation o;
	const int64_t hidden = fixture_llama().hidden, gap = 5;
	double rstd[32], again[32 * 20], before[32 * 25];
	open_operation(&o, 3, 9, hidden + gap, hidden);
	const size_t gain = o.f.model->final_norm;
	const mspec_run_f64 *run = &o.f.run;
	mspec_norm_forward_f64(run, gain, o.x, o.ld, run->rows, o.y, rstd);
	mspec_norm_repeat_f64(run, gain, o.x, o.ld, run->rows, rstd, again);
	CU_ASSERT_EQUAL(memcmp(again, o.y, (size_t)o.y_count * sizeof *o.y), 0);
	const double *x = o.x + 4 * o.ld;
	double mean_square = cblas_ddot((int)hidden, x, 1, x, 1) / (double)hidden;
	UNIT_CLOSE(o.y[4 * hidden + 2],
	           x[2] / sqrt(mean_square + 1e-3) *
	               o.f.parameters[o.f.model->tensors[gain].offset + 2],
	           1e-14);
	/* the gradient is added to what is there */
	memcpy(before, o.dx, (size_t)o.x_count * sizeof *before);
	mspec_norm_backward_f64(run, gain, o.x, o.ld, run->rows, rstd, o.c, o.dx);
	cblas_daxpy((int)o.x_count, -1, before, 1, o.dx, 1);
	check_input(&o, norm);
	check_tensor(&o, norm, gain);
	close_operation(&o);
}

/* ---- rotary positions --------------------------------------------------------------------- */

static double rope(void *state)
{
	operation *o = state;
	memcpy(o->y, o->x, (size_t)o->x_count * sizeof *o->x);
	mspec_rope_f64(&o->f.run, o->y + 1, o->ld, 8, 3, 6, o->flag, false);
	return product(o);
}

/* Heads of 6 entries 8 apart in rows of 27, from entry 1 on; what is between them stays. */
static void check_rope(bool neighbours)
{
	operation o;
	open_operation(&o, 2, 9, 27, 27);
	o.flag = neighbours;
	rope(&o);
	const int64_t row = 9 + 5, head = 2, pair = 1; /* position 5 */
	const int64_t start = row * 27 + 1 + head * 8;
	const int64_t first = start + (neighbours ? 2 * pair : pair);
	const int64_t second = neighbours ? first + 1 : first + 3;
	const double angle = 5 * pow(50, -2.0 * pair / 6), a = o.x[first], b = o.x[second];
	UNIT_CLOSE(o.y[first], a * cos(angle) - b * sin(angle), 1e-14);
	UNIT_CLOSE(o.y[second], a * sin(angle) + b * cos(angle), 1e-14);
	CU_ASSERT_EQUAL(o.y[row * 27], o.x[row * 27]);
	CU_ASSERT_EQUAL(o.y[start + 6], o.x[start + 6]);
	CU_ASSERT_EQUAL(o.y[start + 8], o.x[start + 8]);
	memcpy(o.dx, o.c, (size_t)o.x_count * sizeof *o.dx);
	mspec_rope_f64(&o.f.run, o.dx + 1, 27, 8, 3, 6, neighbours, true);
	check_input(&o, rope);
	close_operation(&o);
}

static void test_rope(void)
{
	check_rope(false);
	check_rope(true);
}

/* ---- causal attention --------------------------------------------------------------------- */

/* x: queries of 4 heads of 6, keys of 2 heads of 6, values of 2 heads of 5, then a gap of 2. */
enum { Q = 0, K = 24, V = 36, X = 48, OUT = 4 * 7 };

static mspec_attention_f64 attention_of(const operation *o, double *weights)
{
	return (mspec_attention_f64){
	    .layer = 1,
	    .heads = 4,
	    .kv_heads = 2,
	    .qk_dim = 6,
	    .value_dim = 5,
	    .q = {o->x + Q, X, 6},
	    .k = {o->x + K, X, 6},
	    .v = {o->x + V, X, 5},
	    .out = {o->y, OUT, 7}, /* 5 entries, 2 that stay */
	    .weights = weights,
	};
}

static double *new_weights(const operation *o)
{
	double *weights =
	    muon_alloc(mspec_attention_weights_size_f64(&o->f.run.batch, 4), sizeof *weights);
	CU_ASSERT_PTR_NOT_NULL_FATAL(weights);
	return weights;
}

static double causal(void *state)
{
	operation *o = state;
	double *weights = new_weights(o);
	mspec_attention_f64 a = attention_of(o, weights);
	mspec_causal_forward_f64(&o->f.run, &a);
	muon_free(weights);
	return product(o);
}

static double logit(const operation *o, int64_t sequence, int64_t head, int64_t row, int64_t seen)
{
	int64_t first = sequence * o->f.run.batch.length;
	return cblas_ddot(6, o->x + (first + row) * X + Q + head * 6, 1,
	                  o->x + (first + seen) * X + K + head / 2 * 6, 1) /
	       sqrt(6);
}

/* Entry i of a head's output, from the definition. */
static double expected_output(const operation *o, int64_t sequence, int64_t head, int64_t row,
                              int64_t i)
{
	double sum = 0, weighted = 0;
	for (int64_t s = 0; s <= row; s++) {
		double weight = exp(logit(o, sequence, head, row, s));
		int64_t t = sequence * o->f.run.batch.length + s;
		sum += weight;
		weighted += weight * o->x[t * X + V + head / 2 * 5 + i];
	}
	return weighted / sum;
}

static void check_causal(int64_t length)
{
	operation o;
	open_operation(&o, 2, length, X, OUT);
	double *weights = new_weights(&o), *scratch = new_weights(&o);
	mspec_attention_f64 a = attention_of(&o, weights);
	const double untouched = o.y[5];
	mspec_causal_forward_f64(&o.f.run, &a);
	CU_ASSERT_EQUAL(o.y[5], untouched);
	for (int64_t h = 0; h < 4; h++)
		for (int64_t row = 0; row < length; row += length > 9 ? length / 9 : 1)
			UNIT_CLOSE(o.y[(length + row) * OUT + h * 7 + 4],
			           expected_output(&o, 1, h, row, 4), 1e-11);
	for (int64_t i = 0; i < o.y_count; i++)
		if (i % 7 >= 5)
			o.c[i] = 0; /* no part of the result */
	memset(o.dx, 0, (size_t)o.x_count * sizeof *o.dx);
	mspec_heads_f64 dout = {o.c, OUT, 7}, dq = {o.dx + Q, X, 6}, dk = {o.dx + K, X, 6},
			dv = {o.dx + V, X, 5};
	CU_ASSERT_TRUE_FATAL(mspec_attention_scratch_size_f64(&o.f.run.batch) <=
	                     mspec_attention_weights_size_f64(&o.f.run.batch, 4));
	mspec_causal_backward_f64(&o.f.run, &a, dout, dq, dk, dv, scratch);
	check_input(&o, causal);
	causal(&o);
	/* forward only: a block of weights at a time, same result */
	double *kept = o.y;
	o.y = fixture_normal(o.y_count, 2);
	o.f.run.batch.backward = false;
	causal(&o);
	CU_ASSERT_EQUAL(memcmp(o.y, kept, (size_t)o.y_count * sizeof *kept), 0);
	muon_free(kept);
	muon_free(weights);
	muon_free(scratch);
	close_operation(&o);
}

static void test_causal(void)
{
	check_causal(1);
	check_causal(13);
	check_causal(64);
	check_causal(75);
}

static void test_logit_records(void)
{
	operation o;
	const int64_t length = 70;
	double heads[8], expected[4], most = -INFINITY, over = 0;
	mspec_layer_record layers[2] = {{.max_attention_logit = -INFINITY},
	                                {.max_attention_logit = -INFINITY}};
	mspec_records records = {.layers = layers, .head_max_logits = heads};
	open_operation(&o, 2, length, X, OUT);
	cblas_dscal((int)o.x_count, 7, o.x, 1); /* logits in the hundreds */
	for (int i = 0; i < 8; i++)
		heads[i] = -INFINITY;
	for (int64_t h = 0; h < 4; h++) {
		expected[h] = -INFINITY;
		for (int64_t s = 0; s < 2; s++)
			for (int64_t row = 0; row < length; row++)
				for (int64_t seen = 0; seen <= row; seen++) {
					double value = logit(&o, s, h, row, seen);
					expected[h] = fmax(expected[h], value);
					over += value > 100;
				}
		most = fmax(most, expected[h]);
	}
	o.f.run.records = &records;
	causal(&o);
	CU_ASSERT_TRUE(over > 100);
	CU_ASSERT_EQUAL(layers[1].logits_over_100, over);
	CU_ASSERT_EQUAL(layers[1].logit_count, 2 * 4 * length * (length + 1) / 2);
	UNIT_CLOSE(layers[1].max_attention_logit, most, 1e-13);
	CU_ASSERT_EQUAL(layers[0].logit_count, 0);
	CU_ASSERT_EQUAL(heads[0], -INFINITY);
	for (int64_t h = 0; h < 4; h++)
		UNIT_CLOSE(heads[4 + h], expected[h], 1e-13);
	causal(&o); /* added to what is there */
	CU_ASSERT_EQUAL(layers[1].logits_over_100, 2 * over);
	close_operation(&o);
}

/* ---- SwiGLU ------------------------------------------------------------------------------- */

static double swiglu(void *state)
{
	operation *o = state;
	mspec_swiglu_forward_f64(&o->f.run, o->x, o->f.run.rows, 35, o->y);
	return product(o);
}

static void test_swiglu(void)
{
	operation o;
	open_operation(&o, 1, 6, 70, 35);
	o.x[3] = -40; /* both tails */
	o.x[4] = 40;
	swiglu(&o);
	double gate = o.x[70 + 2], up = o.x[70 + 35 + 2];
	UNIT_CLOSE(o.y[35 + 2], gate / (1 + exp(-gate)) * up, 1e-14);
	double *dy = fixture_normal(o.y_count, 3);
	mspec_swiglu_backward_f64(&o.f.run, o.x, o.f.run.rows, 35, dy, o.dx);
	CU_ASSERT_EQUAL(memcmp(dy, o.y, (size_t)o.y_count * sizeof *dy), 0);
	check_input(&o, swiglu);
	muon_free(dy);
	close_operation(&o);
}

static double mlp(void *state)
{
	operation *o = state;
	double kept[10 * 2 * 28], act[10 * 28];
	mspec_swiglu_mlp_forward_f64(&o->f.run, o->f.model->layers[0].gate, o->x, o->f.run.rows,
	                             o->y, kept, act);
	return product(o);
}

static void test_mlp(void)
{
	operation o;
	double kept[10 * 2 * 28], act[10 * 28], scratch[10 * 3 * 28];
	open_operation(&o, 2, 5, 20, 20);
	const mspec_model_layer *l = &o.f.model->layers[0];
	const mspec_run_f64 *run = &o.f.run;
	mspec_swiglu_mlp_forward_f64(run, l->gate, o.x, run->rows, o.y, kept, act);
	mspec_swiglu_mlp_backward_f64(run, l->gate, o.x, run->rows, o.c, o.dx, false, kept,
	                              scratch);
	check_input(&o, mlp);
	check_tensor(&o, mlp, l->gate);
	check_tensor(&o, mlp, l->gate + 1);
	check_tensor(&o, mlp, l->gate + 2);
	mspec_swiglu_mlp_backward_f64(run, l->gate, o.x, run->rows, o.c, o.dx, true, kept,
	                              scratch);
	cblas_dscal((int)o.x_count, 0.5, o.dx, 1);
	check_input(&o, mlp);
	close_operation(&o);
}

/* ---- loss --------------------------------------------------------------------------------- */

static double loss(void *state)
{
	operation *o = state;
	mspec_run_f64 run = o->f.run;
	run.gradient = NULL;
	run.loss_sum = 0;
	memcpy(o->y, o->x, (size_t)o->x_count * sizeof *o->x); /* it destroys them */
	mspec_cross_entropy_f64(&run, o->y, o->f.targets, run.rows);
	return run.loss_scale * run.loss_sum;
}

static void test_loss(void)
{
	operation o;
	const int64_t vocab = fixture_llama().vocab;
	open_operation(&o, 3, 8, vocab, vocab);
	double expected = 0;
	int64_t count = 0;
	cblas_dscal((int)o.x_count, 10, o.x, 1);
	o.x[vocab] += 900; /* beyond where e^x overflows */
	for (int64_t t = 0; t < o.f.run.rows; t++) {
		double sum = 0, *row = o.x + t * vocab, max = row[cblas_idamax((int)vocab, row, 1)];
		for (int64_t i = 0; i < vocab; i++)
			sum += exp(row[i] - max);
		if (o.f.targets[t] >= 0) {
			expected += log(sum) + max - row[o.f.targets[t]];
			count++;
		}
	}
	CU_ASSERT_TRUE(count > 0 && count < o.f.run.rows);
	memcpy(o.dx, o.x, (size_t)o.x_count * sizeof *o.x);
	mspec_cross_entropy_f64(&o.f.run, o.dx, o.f.targets, o.f.run.rows);
	UNIT_CLOSE(o.f.run.loss_sum, expected, 1e-13);
	CU_ASSERT_EQUAL(o.f.run.loss_count, count);
	check_input(&o, loss);
	close_operation(&o);
}

static double head(void *state)
{
	operation *o = state;
	mspec_run_f64 run = o->f.run;
	run.gradient = NULL;
	run.loss_sum = 0;
	mspec_head_f64(&run, o->x, NULL);
	return run.loss_scale * run.loss_sum;
}

static void test_head(void)
{
	operation o;
	open_operation(&o, 3, 8, 20, 1);
	mspec_head_f64(&o.f.run, o.x, o.dx);
	check_input(&o, head);
	check_tensor(&o, head, o.f.model->head);
	close_operation(&o);
}

UNIT_SUITE(model_operators, {"linear", test_linear}, {"norm", test_norm},
           {"rotary positions", test_rope}, {"causal attention", test_causal},
           {"records of logits", test_logit_records}, {"SwiGLU", test_swiglu},
           {"dense MLP", test_mlp}, {"cross-entropy", test_loss}, {"head", test_head})
