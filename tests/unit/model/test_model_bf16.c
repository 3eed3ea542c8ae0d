/* The bf16 mode: what is rounded, is rounded to the nearest; what is not, is not. */
#include "unit/model/fixture.h"

#include "base/random.h"

static bool is_bf16(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return (bits & 0xffff) == 0;
}

static int64_t count_bf16(const float *x, int64_t count)
{
	int64_t exact = 0;
	for (int64_t i = 0; i < count; i++)
		exact += is_bf16(x[i]);
	return exact;
}

static void *allocate(int64_t count, size_t size)
{
	void *block = muon_alloc((size_t)count, size);
	CU_ASSERT_PTR_NOT_NULL_FATAL(block);
	return block;
}

/* ---- rounding itself ---------------------------------------------------------------------- */

static void test_rounding(void)
{
	enum { COUNT = 4096 };
	static float x[COUNT], y[COUNT];
	static const uint32_t special[] = {
	    0x00000000, 0x80000000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x7f7fffff,
	    0x7f7f7fff, 0xff7f8000, 0x7f800000, 0xff800000, 0x7f800001, 0x7fffffff, 0xffffffff,
	    0xff80ffff, 0x7fc00000, 0x00000001, 0x00008000, 0x00018000, 0x807fffff};
	const mspec_run_f32 run = {.bf16 = true}, plain = {0};
	muon_random random;
	muon_random_seed(&random, 3);
	for (size_t i = 0; i < COUNT; i++) {
		uint32_t bits = (uint32_t)muon_random_bits(&random);
		if (i < sizeof special / sizeof *special)
			bits = special[i];
		else if (i % 3 == 0)
			bits = (bits & 0xffff0000) | 0x8000; /* a tie */
		memcpy(&x[i], &bits, sizeof bits);
	}
	memcpy(y, x, sizeof y);
	mspec_round_f32(&plain, y, COUNT);
	CU_ASSERT_EQUAL(memcmp(x, y, sizeof y), 0);
	mspec_round_f32(&run, y, COUNT);
	int wrong = 0;
	for (int i = 0; i < COUNT; i++) {
		double nearest = muon_round_bf16((double)x[i]);
		wrong += isnan(x[i]) ? !isnan(y[i])
		                     : (double)y[i] != nearest || signbit(y[i]) != signbit(x[i]);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(count_bf16(y, COUNT), COUNT);
	/* rows with a gap, which stays */
	memcpy(y, x, sizeof y);
	mspec_round_rows_f32(&run, y, COUNT / 8, 5, 8);
	for (int i = 0; i < COUNT; i++)
		wrong += i % 8 < 5 ? !is_bf16(y[i]) : memcmp(&y[i], &x[i], sizeof *x) != 0;
	CU_ASSERT_EQUAL(wrong, 0);
}

/* ---- a matrix product whose sums are exact in float32 --------------------------------------- */

static float small_integer(muon_random *random)
{
	return (float)((int)(muon_random_bits(random) % 401) - 200);
}

/* Integers up to 200 are bf16 numbers, 257 is not: weights are rounded, then the sum. */
static void test_linear(void)
{
	const mspec_model_config config = fixture_llama();
	const int64_t in = config.hidden, out = config.ffn, rows = 5;
	fixture f;
	float x[5 * 20], dy[5 * 28], y[5 * 28], dx[5 * 20];
	muon_random random;
	muon_random_seed(&random, 4);
	fixture_open(&f, &config, 1, rows);
	const size_t tensor = f.model->layers[0].gate;
	const int64_t offset = f.model->tensors[tensor].offset;
	float *w = allocate(f.model->parameter_count, sizeof *w);
	float *gradient = allocate(f.model->parameter_count, sizeof *gradient);
	float *rounded = allocate(f.model->largest_group, sizeof *rounded);
	for (int64_t i = 0; i < in * out; i++)
		w[offset + i] = small_integer(&random) * 2 + 1; /* odd, up to 401 */
	for (int64_t i = 0; i < rows * in; i++)
		x[i] = small_integer(&random);
	for (int64_t i = 0; i < rows * out; i++)
		dy[i] = small_integer(&random);
	const mspec_run_f32 run = {.model = f.model, .parameters = w, .gradient = gradient,
	                           .rows = rows, .bf16 = true, .rounded = rounded};
	mspec_linear_forward_f32(&run, tensor, 1, x, in, rows, y);
	mspec_linear_backward_f32(&run, tensor, 1, x, in, dy, rows, dx, false);
	int wrong = 0, inexact = 0;
	for (int64_t t = 0; t < rows; t++) {
		for (int64_t o = 0; o < out; o++) {
			double sum = 0;
			for (int64_t i = 0; i < in; i++)
				sum += muon_round_bf16((double)w[offset + o * in + i]) * (double)x[t * in + i];
			wrong += (double)y[t * out + o] != muon_round_bf16(sum);
			inexact += sum != muon_round_bf16(sum);
		}
		for (int64_t i = 0; i < in; i++) {
			double sum = 0;
			for (int64_t o = 0; o < out; o++)
				sum += muon_round_bf16((double)w[offset + o * in + i]) *
				       (double)dy[t * out + o];
			wrong += (double)dx[t * in + i] != muon_round_bf16(sum);
		}
	}
	for (int64_t o = 0; o < out; o++) /* weights' gradients are left alone */
		for (int64_t i = 0; i < in; i++) {
			double sum = 0;
			for (int64_t t = 0; t < rows; t++)
				sum += (double)dy[t * out + o] * (double)x[t * in + i];
			wrong += (double)gradient[offset + o * in + i] != sum;
		}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_TRUE(inexact > rows * out / 2);
	muon_free(w);
	muon_free(gradient);
	muon_free(rounded);
	fixture_close(&f);
}

/* ---- entrywise operators ------------------------------------------------------------------ */

/* Each result is that of the float32 operator on the rounded weights, rounded. */
static void test_operators(void)
{
	const mspec_model_config config = fixture_llama();
	enum { ROWS = 6, HIDDEN = 20, WIDTH = 28 };
	fixture f;
	fixture_open(&f, &config, 1, ROWS);
	float *w = allocate(f.model->parameter_count, sizeof *w);
	float *rounded_w = allocate(f.model->parameter_count, sizeof *w);
	float *rounded = allocate(f.model->largest_group, sizeof *rounded);
	float *cosine = allocate(ROWS * 3, sizeof *cosine), *sine = allocate(ROWS * 3, sizeof *sine);
	for (int64_t i = 0; i < f.model->parameter_count; i++) {
		w[i] = (float)f.parameters[i];
		rounded_w[i] = (float)muon_round_bf16((double)w[i]);
	}
	for (int i = 0; i < ROWS * 3; i++) {
		cosine[i] = (float)f.workspace.cosine[i];
		sine[i] = (float)f.workspace.sine[i];
	}
	mspec_run_f32 bf16 = {.model = f.model, .parameters = w, .rows = ROWS, .bf16 = true,
	                      .batch = {1, ROWS, true}, .rounded = rounded, .cosine = cosine,
	                      .sine = sine};
	mspec_run_f32 plain = bf16;
	plain.parameters = rounded_w;
	plain.bf16 = false;
	float x[ROWS * 2 * WIDTH], a[2][ROWS * 2 * WIDTH], b[2][ROWS * 2 * WIDTH];
	float c[2][ROWS * 2 * WIDTH], d[2][ROWS * 2 * WIDTH], rstd[ROWS];
	double *normal = fixture_normal(ROWS * 2 * WIDTH, 8);
	for (int i = 0; i < ROWS * 2 * WIDTH; i++)
		x[i] = (float)normal[i];
	for (int i = 0; i < 2; i++) {
		const mspec_run_f32 *run = i ? &bf16 : &plain;
		mspec_norm_forward_f32(run, f.model->final_norm, x, HIDDEN, ROWS, a[i], rstd);
		memcpy(b[i], x, sizeof x);
		mspec_rope_f32(run, b[i], 24, 6, 4, 6, false, false);
		mspec_swiglu_forward_f32(run, x, ROWS, WIDTH, c[i]);
		memcpy(d[i], x, sizeof x);
		mspec_add_f32(run, d[i], c[i], d[i], ROWS * WIDTH);
	}
	int wrong = 0;
	for (int i = 0; i < ROWS * HIDDEN; i++)
		wrong += (double)a[1][i] != muon_round_bf16((double)a[0][i]);
	for (int i = 0; i < ROWS * 24; i++)
		wrong += (double)b[1][i] != muon_round_bf16((double)b[0][i]);
	for (int i = 0; i < ROWS * WIDTH; i++) {
		wrong += (double)c[1][i] != muon_round_bf16((double)c[0][i]);
		wrong += (double)d[1][i] != muon_round_bf16((double)(x[i] + c[1][i]));
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_TRUE(count_bf16(a[0], ROWS * HIDDEN) < ROWS);
	muon_free(normal);
	muon_free(w);
	muon_free(rounded_w);
	muon_free(rounded);
	muon_free(cosine);
	muon_free(sine);
	fixture_close(&f);
}

/* ---- the whole model ---------------------------------------------------------------------- */

static void run_once(const fixture *f, mspec_workspace *workspace, const float *parameters,
                     bool bf16, float *logits, float *outputs, float *gradient, double *loss)
{
	mspec_pass pass = {
	    .parameters = parameters,
	    .tokens = f->tokens,
	    .targets = f->targets,
	    .sequences = f->run.batch.sequences,
	    .length = f->run.batch.length,
	    .bf16 = bf16,
	    .logits = logits,
	    .layer_outputs = outputs,
	    .gradient = gradient,
	    .loss_scale = 1,
	};
	CU_ASSERT_EQUAL_FATAL(mspec_model_run(f->model, workspace, &pass), MUON_OK);
	*loss = pass.loss_sum / (double)pass.loss_count;
}

static double distance(const float *x, const float *y, int64_t count)
{
	double error = 0, norm = 0;
	for (int64_t i = 0; i < count; i++) {
		error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
		norm += (double)y[i] * (double)y[i];
	}
	return sqrt(error / norm);
}

static void check_whole(mspec_model_config config)
{
	fixture f;
	fixture_open(&f, &config, 2, 70);
	const int64_t count = f.model->parameter_count, entries = f.run.rows * config.vocab;
	const int64_t stream = f.run.rows * config.hidden * config.layers;
	float *parameters = allocate(count, sizeof(float)), *gradient[3], *logits[3], *outputs[3];
	double loss[3];
	mspec_workspace *workspace;
	CU_ASSERT_EQUAL_FATAL(mspec_workspace_create(&workspace, f.model, 2, 70, true, NULL),
	                      MUON_OK);
	for (int i = 0; i < 3; i++) {
		gradient[i] = allocate(count, sizeof(float));
		logits[i] = allocate(entries, sizeof(float));
		outputs[i] = allocate(stream, sizeof(float));
	}
	for (int64_t i = 0; i < count; i++)
		parameters[i] = (float)f.parameters[i];
	run_once(&f, workspace, parameters, false, logits[0], outputs[0], gradient[0], &loss[0]);
	run_once(&f, workspace, parameters, true, logits[1], outputs[1], gradient[1], &loss[1]);
	CU_ASSERT_EQUAL(count_bf16(logits[1], entries), entries);
	CU_ASSERT_EQUAL(count_bf16(outputs[1], stream), stream);
	CU_ASSERT_TRUE(count_bf16(logits[0], entries) < entries / 100);
	CU_ASSERT_TRUE(count_bf16(gradient[1], count) < count / 10);
	/* near, but off by about bf16's 2^-9 and some */
	UNIT_CLOSE(loss[1], loss[0], 1e-2);
	double error = distance(logits[1], logits[0], entries);
	CU_ASSERT_TRUE(error > 1e-3 && error < 3e-2);
	error = distance(gradient[1], gradient[0], count);
	CU_ASSERT_TRUE(error > 1e-3 && error < 1e-1);
	/* only the rounded weights count */
	for (int64_t i = 0; i < count; i++)
		parameters[i] = (float)muon_round_bf16((double)parameters[i]);
	run_once(&f, workspace, parameters, true, logits[2], outputs[2], gradient[2], &loss[2]);
	CU_ASSERT_EQUAL(loss[2], loss[1]);
	CU_ASSERT_EQUAL(memcmp(gradient[2], gradient[1], (size_t)count * sizeof(float)), 0);
	for (int i = 0; i < 3; i++) {
		muon_free(gradient[i]);
		muon_free(logits[i]);
		muon_free(outputs[i]);
	}
	muon_free(parameters);
	mspec_workspace_destroy(&workspace);
	fixture_close(&f);
}

static void test_whole(void)
{
	check_whole(fixture_llama());
	check_whole(fixture_deepseek());
}

UNIT_SUITE(model_bf16, {"rounding", test_rounding}, {"linear", test_linear},
           {"entrywise operators", test_operators}, {"whole model", test_whole})
