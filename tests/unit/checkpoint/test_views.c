#include "unit/allocations.h"
#include "unit/checkpoint/fake.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <muonspec/checkpoint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mspec_views views_of(const mspec_checkpoint *checkpoint, const mspec_view_options *options)
{
	mspec_views views;
	CU_ASSERT_EQUAL_FATAL(mspec_views_create(&views, checkpoint, options, NULL), MUON_OK);
	return views;
}

static const char *reason_of(const mspec_views *views, size_t tensor)
{
	for (size_t i = 0; i < views->skipped_count; i++)
		if (views->skipped[i].tensor == tensor)
			return views->skipped[i].reason;
	return "";
}

/* Compare with the line and text on failure. */
#define SAME(a, b) same((a), (b), __LINE__)
static void same(const char *a, const char *b, int line)
{
	char text[512];
	snprintf(text, sizeof text, "got \"%s\", expected \"%s\"", a ? a : "(null)", b);
	CU_assertImplementation(a && !strcmp(a, b), (unsigned)line, text, __FILE__, "", CU_FALSE);
}

/* The matrices of one tensor as text: "[slice] rows x cols", "'" where stored transposed. */
static const char *matrices_of(const char *layout, const char *name, int64_t d0, int64_t d1,
			       int64_t d2, int64_t d3, int64_t d4)
{
	static char text[1024];
	mspec_checkpoint *checkpoint = fake_checkpoint(layout);
	fake_add(checkpoint, name, d0, d1, d2, d3, d4);
	mspec_views views = views_of(checkpoint, NULL);
	text[0] = 0;
	for (size_t i = 0; i < views.count && i < 8; i++) {
		const mspec_matrix *m = &views.matrices[i];
		size_t used = strlen(text);
		snprintf(text + used, sizeof text - used, "%s%s%s%s%lldx%lld%s", i ? " " : "",
			 m->slice ? "[" : "", m->slice ? m->slice : "", m->slice ? "]" : "",
			 (long long)m->rows, (long long)m->cols, m->transposed ? "'" : "");
	}
	if (!views.count)
		snprintf(text, sizeof text, "%s", reason_of(&views, 0));
	CU_ASSERT_TRUE(views.count ? !views.skipped_count : views.skipped_count == 1);
	mspec_views_destroy(&views);
	mspec_close(&checkpoint);
	return text;
}

static void test_pytorch(void)
{
	SAME(matrices_of("pytorch", "fc1.weight", 16, 256, 0, 0, 0), "16x256");
	SAME(matrices_of("pytorch", "score", 1, 7, 0, 0, 0), "1x7");
	SAME(matrices_of("pytorch", "score", 7, 1, 0, 0, 0), "7x1");
	SAME(matrices_of("muonspec", "model.embed_tokens.weight", 256, 96, 0, 0, 0), "256x96");
	SAME(matrices_of("pytorch", "conv1.weight", 4, 3, 5, 7, 0), "4x105");
	SAME(matrices_of("pytorch", "video.weight", 4, 3, 2, 5, 7), "4x210");
	SAME(matrices_of("pytorch", "stft_conv.weight", 258, 1, 256, 0, 0), "258x256");
	SAME(matrices_of("pytorch", "mixer.conv1d.weight", 128, 1, 4, 0, 0), "128x4");
	SAME(matrices_of("custom", "a/weights", 64, 32, 3, 0, 0), "64x96");
	SAME(matrices_of("custom", "actor/layers/0/weights/parameters", 16, 22, 0, 0, 0), "16x22");
	SAME(matrices_of("custom", "example", 3, 5, 7, 0, 0), "[0]5x7 [1]5x7 [2]5x7");
	SAME(matrices_of("pytorch", "pos_embed", 1, 197, 768, 0, 0), "197x768");
	SAME(matrices_of("pytorch", "cls_token", 1, 1, 768, 0, 0), "1x768");
}

static void test_stacks(void)
{
	SAME(matrices_of("pytorch", "mlp.experts.w1", 3, 8, 4, 0, 0), "[0]8x4 [1]8x4 [2]8x4");
	SAME(matrices_of("pytorch", "mlp.experts.w1", 64, 8, 3, 0, 0),
	     "[0]8x3 [1]8x3 [2]8x3 [3]8x3 [4]8x3 [5]8x3 [6]8x3 [7]8x3");
	SAME(matrices_of("pytorch", "layers.mlp.experts.w1", 2, 2, 8, 4, 0),
	     "[0,0]8x4 [0,1]8x4 [1,0]8x4 [1,1]8x4");
	SAME(matrices_of("pytorch", "mlp.experts.w1", 1, 8, 4, 0, 0), "[0]8x4");
	SAME(matrices_of("pytorch", "mlp.experts.3.conv.weight", 8, 4, 3, 3, 0), "8x36");
	SAME(matrices_of("keras2", "moe/experts/kernel:0", 2, 8, 4, 0, 0), "[0]4x8' [1]4x8'");
	SAME(matrices_of("pytorch", "mlp.experts.gate_up_proj_bias", 4, 8, 0, 0, 0),
	     "bias, not a matrix (2-d)");
}

static void test_fused(void)
{
	SAME(matrices_of("pytorch", "attn.in_proj_weight", 12, 4, 0, 0, 0), "[q]4x4 [k]4x4 [v]4x4");
	SAME(matrices_of("pytorch", "blocks.0.attn.qkv.weight", 12, 4, 0, 0, 0),
	     "[q]4x4 [k]4x4 [v]4x4");
	SAME(matrices_of("pytorch", "h.0.attn.c_attn.weight", 12, 4, 0, 0, 0),
	     "[q]4x4 [k]4x4 [v]4x4");
	SAME(matrices_of("pytorch", "h.0.attn.c_attn.weight", 4, 12, 0, 0, 0),
	     "[q]4x4' [k]4x4' [v]4x4'");
	SAME(matrices_of("pytorch", "layers.0.self_attn.qkv_proj.weight", 12, 4, 0, 0, 0),
	     "[q]4x4 [k]4x4 [v]4x4");
	SAME(matrices_of("pytorch", "h.0.mixer.Wqkv.weight", 12, 4, 0, 0, 0),
	     "[q]4x4 [k]4x4 [v]4x4");
	/* grouped queries, or an order that the name doesn't tell */
	SAME(matrices_of("pytorch", "layers.0.self_attn.qkv_proj.weight", 8, 4, 0, 0, 0), "8x4");
	SAME(matrices_of("pytorch", "h.0.attn.qkv_proj.weight", 12, 4, 0, 0, 0), "12x4");
	SAME(matrices_of("pytorch", "layers.0.attention.wqkv.weight", 12, 4, 0, 0, 0), "12x4");
	SAME(matrices_of("pytorch", "attention.query_key_value.weight", 12, 4, 0, 0, 0), "12x4");
}

static void test_gpt2_conv1d(void)
{
	/* the shape of c_attn tells for the whole file */
	for (int nano = 0; nano < 2; nano++) {
		mspec_checkpoint *c = fake_checkpoint("pytorch");
		fake_add(c, "h.0.attn.c_attn.weight", nano ? 12 : 4, nano ? 4 : 12, 0, 0, 0);
		fake_add(c, "h.0.attn.c_proj.weight", 4, 4, 0, 0, 0);
		fake_add(c, "h.0.mlp.c_fc.weight", 4, 16, 0, 0, 0);
		fake_add(c, "wte.weight", 50, 4, 0, 0, 0);
		mspec_views v = views_of(c, NULL);
		CU_ASSERT_EQUAL_FATAL(v.count, 6);
		SAME(v.matrices[1].name, "h.0.attn.c_attn.weight[k]");
		SAME(v.matrices[1].slice, "k");
		CU_ASSERT_EQUAL(v.matrices[1].offset, nano ? 16 : 4);
		CU_ASSERT_EQUAL(v.matrices[1].row_stride, nano ? 4 : 12);
		CU_ASSERT_EQUAL(v.matrices[3].transposed, !nano);
		CU_ASSERT_EQUAL(v.matrices[4].transposed, !nano);
		CU_ASSERT_EQUAL(v.matrices[4].rows, nano ? 4 : 16);
		CU_ASSERT_FALSE(v.matrices[5].transposed);
		mspec_views_destroy(&v);
		mspec_close(&c);
	}
}

static void test_lora(void)
{
	SAME(matrices_of("pytorch", "l.20.self_attn.q_proj.lora_a", 896, 8, 0, 0, 0), "8x896'");
	SAME(matrices_of("pytorch", "l.20.self_attn.v_proj.lora_b", 8, 128, 0, 0, 0), "128x8'");
	SAME(matrices_of("pytorch", "q_proj.lora_A.weight", 8, 896, 0, 0, 0), "8x896");
	SAME(matrices_of("pytorch", "q_proj.lora_B.weight", 128, 8, 0, 0, 0), "128x8");
}

static void test_keras(void)
{
	SAME(matrices_of("keras2", "dense_1/dense_1/kernel:0", 64, 10, 0, 0, 0), "10x64'");
	SAME(matrices_of("keras2", "e/e/embeddings:0", 5000, 16, 0, 0, 0), "5000x16");
	SAME(matrices_of("keras2", "patch_embed/dense/kernel:0", 48, 16, 0, 0, 0), "16x48'");
	SAME(matrices_of("keras2", "lstm_1/lstm_1/recurrent_kernel:0", 128, 512, 0, 0, 0),
	     "512x128'");
	SAME(matrices_of("keras2", "conv2d/kernel:0", 3, 5, 7, 11, 0), "11x105'");
	SAME(matrices_of("keras2", "conv3d/kernel:0", 2, 3, 5, 7, 11), "11x210'");
	SAME(matrices_of("keras2", "conv1d/conv1d/kernel:0", 3, 16, 32, 0, 0), "32x48'");
	SAME(matrices_of("keras2", "s/s/depthwise_kernel:0", 3, 3, 8, 2, 0), "16x9'");
	SAME(matrices_of("keras2", "s/s/pointwise_kernel:0", 1, 1, 8, 16, 0), "16x8'");
	SAME(matrices_of("keras2", "depthwise_conv2d/depthwise_kernel:0", 3, 3, 8, 1, 0), "8x9'");
	SAME(matrices_of("keras2", "conv2d_transpose/kernel:0", 3, 3, 5, 7, 0), "5x63");
	SAME(matrices_of("keras2", "mha/query/kernel:0", 16, 4, 256, 0, 0), "1024x16'");
	SAME(matrices_of("keras2", "mha/attention_output/kernel:0", 4, 256, 16, 0, 0), "16x1024'");
	SAME(matrices_of("keras2", "mha/query/bias:0", 4, 256, 0, 0, 0),
	     "bias, not a matrix (2-d)");
	SAME(matrices_of("keras2", "gru/gru/bias:0", 2, 96, 0, 0, 0), "bias, not a matrix (2-d)");
	SAME(matrices_of("keras2", "einsum_dense/kernel:0", 4, 8, 16, 0, 0), "16x32'");
	SAME(matrices_of("keras3", "layers/dense/vars/0", 64, 10, 0, 0, 0), "10x64'");
	SAME(matrices_of("keras3", "layers/embedding/vars/0", 64, 10, 0, 0, 0), "64x10");
	SAME(matrices_of("keras3", "layers/conv2d/vars/0", 3, 3, 3, 32, 0), "32x27'");
	SAME(matrices_of("keras3", "layers/separable_conv2d/vars/0", 3, 3, 8, 2, 0), "16x9'");
	SAME(matrices_of("keras3", "layers/separable_conv2d/vars/1", 1, 1, 16, 4, 0), "4x16'");
	SAME(matrices_of("keras3", "layers/conv1d_transpose/vars/0", 3, 5, 7, 0, 0), "5x21");
	SAME(matrices_of("keras3", "layers/m/query_dense/vars/0", 16, 4, 8, 0, 0), "32x16'");
	SAME(matrices_of("keras3", "layers/m/output_dense/vars/0", 4, 8, 16, 0, 0), "16x32'");
	SAME(matrices_of("keras3", "layers/m/query_dense/vars/1", 4, 8, 0, 0, 0),
	     "bias, not a matrix (2-d)");
	SAME(matrices_of("keras3", "layers/gru/cell/vars/2", 2, 96, 0, 0, 0),
	     "bias, not a matrix (2-d)");
	/* Flax, or a Keras file that doesn't say so */
	SAME(matrices_of("custom", "params/Dense_0/kernel", 64, 10, 0, 0, 0), "10x64'");
	SAME(matrices_of("custom", "conv2d_transpose/kernel", 3, 3, 5, 7, 0), "5x63");
	/* Flax */
	SAME(matrices_of("custom", "params/ConvTranspose_0/kernel", 3, 3, 5, 7, 0), "7x45'");
	SAME(matrices_of("custom", "params/Attention_0/query/kernel", 16, 4, 8, 0, 0), "32x16'");
	SAME(matrices_of("custom", "params/Attention_0/out/kernel", 4, 8, 16, 0, 0), "16x32'");
	/* Keras 1 didn't say which order its kernels have */
	SAME(matrices_of("keras1", "convolution2d_1/convolution2d_1_W", 16, 12, 5, 5, 0), "16x300");
	SAME(matrices_of("keras1", "convolution2d_6/convolution2d_6_W", 1, 16, 1, 1, 0), "1x16");
	SAME(matrices_of("keras1", "convolution2d_2/convolution2d_2_W", 16, 16, 3, 3, 0), "16x144");
	SAME(matrices_of("keras1", "convolution2d_2/convolution2d_2_W", 3, 3, 16, 32, 0),
	     "32x144'");
	SAME(matrices_of("keras1", "dense_1/dense_1_W", 64, 10, 0, 0, 0), "10x64'");
}

static void test_skipped(void)
{
	static const int64_t empty[] = {0, 5}, nine[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	fake_add(c, "norm.weight", 5, 0, 0, 0, 0);
	mspec_add_tensor(c, "scale", MUON_F32, "F32", 0, NULL);
	mspec_add_tensor(c, "ids", MUON_I64, "I64", 2, nine);
	mspec_add_tensor(c, "table", MUON_DTYPE_NONE, "compound\n", 2, nine);
	fake_add(c, "optimizer/m", 5, 5, 0, 0, 0)->tensor.role = MSPEC_ROLE_OPTIMIZER;
	fake_add(c, "activations/x", 5, 5, 0, 0, 0)->tensor.role = MSPEC_ROLE_ACTIVATION;
	mspec_add_tensor(c, "none", MUON_F16, "F16", 2, empty);
	mspec_add_tensor(c, "many", MUON_F32, "F32", 9, nine);
	fake_add(c, "twice", 5, 5, 0, 0, 0)->tensor.alias_of = "x\n";
	mspec_set_problem(c, fake_add(c, "gone", 5, 0, 0, 0, 0), MUON_E_READ, "filter lzf");
	mspec_add_tensor(c, "flag", MUON_BOOL, "BOOL", 2, nine);
	mspec_set_problem(c, mspec_add_shapeless(c, "lost", "unknown"), MUON_E_FORMAT, "no header");
	mspec_set_problem(c, mspec_add_tensor(c, "odd", MUON_DTYPE_NONE, "F4", 2, nine),
			  MUON_E_FORMAT, "no such data");
	mspec_set_problem(c, mspec_add_tensor(c, "six", MUON_F32, "F32", 6, nine), MUON_E_READ,
			  "six is too many");
	fake_add(c, "h.0.attn.bias", 1, 1, 8, 8, 0);
	fake_add(c, "w.weight_scale_inv", 4, 4, 0, 0, 0);
	static const char *const expected[] = {
	    "not a matrix (1-d)",
	    "not a matrix (scalar)",
	    "integers (i64)",
	    "type compound\\n",
	    "optimizer state (--include-optimizer)",
	    "recorded activations",
	    "empty (0 x 5)",
	    "not a matrix (9-d)",
	    "hard link to 'x\\n'",
	    "filter lzf",
	    "booleans",
	    "no header",
	    "no such data",
	    "six is too many",
	    "bias, not a matrix (4-d)",
	    "scales of quantization, not a matrix (2-d)",
	};
	mspec_views v = views_of(c, NULL);
	CU_ASSERT_EQUAL(v.count, 0);
	CU_ASSERT_EQUAL(v.skipped_count, sizeof expected / sizeof *expected);
	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
		SAME(reason_of(&v, i), expected[i]);
	mspec_views_destroy(&v);
	const mspec_view_options optimizer = {.include_optimizer = true};
	v = views_of(c, &optimizer);
	CU_ASSERT_EQUAL_FATAL(v.count, 1);
	SAME(v.matrices[0].name, "optimizer/m");
	mspec_views_destroy(&v);
	mspec_close(&c);
}

/* What can't be read still has a row, unless its shape is nonsense. */
static void test_unreadable(void)
{
	static const int64_t huge[] = {1LL << 40, 1LL << 40}, negative[] = {-3, 4};
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	c->options.max_tensor_bytes = 1000;
	mspec_set_problem(c, fake_add(c, "a.weight", 5, 6, 0, 0, 0), MUON_E_READ, "filter lzf");
	fake_add(c, "b.weight", 5000, 6, 0, 0, 0);
	mspec_add_tensor(c, "c.weight", MUON_F32, "F32", 2, huge);
	mspec_add_tensor(c, "d.weight", MUON_F32, "F32", 2, negative);
	mspec_set_problem(c, fake_add(c, "e.weight", 4, 3, 0, 0, 0), MUON_E_FORMAT, "cut off");
	mspec_views v = views_of(c, NULL);
	CU_ASSERT_EQUAL_FATAL(v.count, 3);
	CU_ASSERT_EQUAL(v.matrices[2].tensor, 4); /* whatever the code */
	CU_ASSERT_EQUAL(v.matrices[0].tensor, 0);
	CU_ASSERT_EQUAL(v.matrices[1].rows, 5000);
	SAME(reason_of(&v, 2), "impossible size");
	SAME(reason_of(&v, 3), "impossible size");
	float buffer[30];
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_read_block(c, &v.matrices[0], 0, 5, 0, 6, buffer, &err), MUON_E_READ);
	SAME(err.where, "a.weight");
	mspec_views_destroy(&v);
	mspec_close(&c);
}

static void test_hostile_stack(void)
{
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	fake_add(c, "a.experts.w", 1000000000, 8, 4, 0, 0);
	fake_add(c, "b.experts.w", 4, 8, 4, 0, 0);
	mspec_views v = views_of(c, NULL);
	CU_ASSERT_EQUAL(v.count, 4);
	SAME(reason_of(&v, 0), "1000000000 matrices, over the limit of 1000000 for one checkpoint");
	mspec_views_destroy(&v);
	mspec_close(&c);
}

static void test_filters(void)
{
	static const char *const attention[] = {"*attn*", "*[[]2]"}, *const keys[] = {"*k_proj*"},
				 *const slice[] = {"mlp.experts.w[1]"};
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	fake_add(c, "attn.k_proj.weight", 4, 4, 0, 0, 0);
	fake_add(c, "attn.q_proj.weight", 4, 4, 0, 0, 0);
	fake_add(c, "mlp.down.weight", 4, 4, 0, 0, 0);
	fake_add(c, "mlp.experts.w", 3, 8, 4, 0, 0);
	mspec_view_options options = {.include = attention, .include_count = 2};
	mspec_views v = views_of(c, &options);
	CU_ASSERT_EQUAL_FATAL(v.count, 3);
	SAME(v.matrices[2].name, "mlp.experts.w[2]");
	CU_ASSERT_EQUAL(v.matrices[2].offset, 64);
	CU_ASSERT_EQUAL(v.skipped_count, 1);
	SAME(reason_of(&v, 2), "not matched by --include");
	mspec_views_destroy(&v);

	options.exclude = keys;
	options.exclude_count = 1;
	v = views_of(c, &options);
	CU_ASSERT_EQUAL(v.count, 2);
	SAME(reason_of(&v, 0), "excluded by --exclude '*k_proj*'");
	mspec_views_destroy(&v);

	/* the name of a slice as reports print it, though '[' begins a set in a glob */
	options = (mspec_view_options){.exclude = slice, .exclude_count = 1};
	v = views_of(c, &options);
	CU_ASSERT_EQUAL_FATAL(v.count, 5);
	SAME(v.matrices[4].name, "mlp.experts.w[2]");
	CU_ASSERT_EQUAL(v.skipped_count, 0);
	mspec_views_destroy(&v);
	mspec_close(&c);
}

/* The elements of a tensor's matrices are those of the tensor, each once. */
static void test_partition(void)
{
	static const struct {
		const char *layout, *name;
		int64_t dims[5];
	} cases[] = {
	    {"pytorch", "x.weight", {6, 7}},
	    {"pytorch", "in_proj_weight", {15, 5}},
	    {"pytorch", "c_attn.weight", {5, 15}},
	    {"pytorch", "experts.w", {2, 3, 5, 7}},
	    {"pytorch", "experts.w", {4, 5, 7}},
	    {"pytorch", "conv.weight", {4, 5, 3, 2}},
	    {"keras2", "conv2d_transpose/kernel:0", {3, 2, 5, 7}},
	    {"keras2", "conv2d/kernel:0", {3, 2, 5, 7}},
	    {"keras2", "d/depthwise_kernel:0", {3, 2, 5, 7}},
	    {"keras2", "m/value/kernel:0", {6, 2, 5}},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		mspec_checkpoint *c = fake_checkpoint(cases[i].layout);
		const int64_t *d = cases[i].dims;
		int64_t elements =
		    fake_add(c, cases[i].name, d[0], d[1], d[2], d[3], d[4])->tensor.elements;
		int seen[512] = {0};
		float buffer[512];
		mspec_views v = views_of(c, NULL);
		CU_ASSERT_TRUE_FATAL(elements <= 512 && v.count > 0);
		for (size_t m = 0; m < v.count; m++) {
			const mspec_matrix *x = &v.matrices[m];
			CU_ASSERT_EQUAL(x->rows * x->cols, x->stored_rows * x->stored_cols);
			CU_ASSERT_EQUAL_FATAL(x->rows * x->cols * (int64_t)v.count, elements);
			CU_ASSERT_EQUAL_FATAL(mspec_read_block(c, x, 0, x->stored_rows, 0,
							       x->stored_cols, buffer, NULL),
					      MUON_OK);
			for (int64_t e = 0; e < x->rows * x->cols; e++)
				seen[(int)buffer[e]]++;
		}
		for (int64_t e = 0; e < elements; e++)
			CU_ASSERT_EQUAL(seen[e], 1);
		mspec_views_destroy(&v);
		mspec_close(&c);
	}
}

/* Every window of a matrix against the definition of its entries. */
static void check_windows(const char *layout, const char *name, const int64_t *d, size_t which,
			  int64_t (*element)(const int64_t *d, int64_t i, int64_t j))
{
	mspec_checkpoint *c = fake_checkpoint(layout);
	fake_add(c, name, d[0], d[1], d[2], d[3], 0);
	mspec_views v = views_of(c, NULL);
	CU_ASSERT_TRUE_FATAL(which < v.count);
	const mspec_matrix *m = &v.matrices[which];
	int wrong = 0;
	float buffer[512];
	for (int64_t r = 0; r < m->stored_rows; r++)
		for (int64_t rows = 0; r + rows <= m->stored_rows; rows++)
			for (int64_t col = 0; col < m->stored_cols; col++)
				for (int64_t cols = 0; col + cols <= m->stored_cols; cols++) {
					if (mspec_read_block(c, m, r, rows, col, cols, buffer,
							     NULL))
						wrong++;
					for (int64_t e = 0; e < rows * cols; e++) {
						int64_t i = r + e / cols, j = col + e % cols;
						int64_t want = m->transposed ? element(d, j, i)
									     : element(d, i, j);
						wrong += (int64_t)buffer[e] != want;
					}
				}
	CU_ASSERT_EQUAL(wrong, 0);
	mspec_views_destroy(&v);
	mspec_close(&c);
}

/* entry (out i, in j) as a place in the tensor, written out for each layout */
static int64_t element_linear(const int64_t *d, int64_t i, int64_t j)
{
	return i * d[1] + j;
}

static int64_t element_keras_dense(const int64_t *d, int64_t i, int64_t j)
{
	return j * d[1] + i;
}

static int64_t element_fused_k(const int64_t *d, int64_t i, int64_t j)
{
	return (d[0] / 3 + i) * d[1] + j;
}

static int64_t element_conv1d_v(const int64_t *d, int64_t i, int64_t j)
{
	return j * d[1] + 2 * d[0] + i;
}

static int64_t element_keras_conv(const int64_t *d, int64_t i, int64_t j)
{
	return j * d[3] + i; /* [h, w, in, out]: columns are (h, w, in) */
}

static int64_t element_keras_transposed_conv(const int64_t *d, int64_t i, int64_t j)
{
	int64_t place = j / d[3], in = j % d[3]; /* [h, w, out, in] */
	return (place * d[2] + i) * d[3] + in;
}

static int64_t element_expert_1(const int64_t *d, int64_t i, int64_t j)
{
	return d[1] * d[2] + i * d[2] + j;
}

static void test_read_block(void)
{
	static const int64_t plain[4] = {5, 7}, rows[4] = {12, 4}, cols[4] = {4, 12},
			     kernel[4] = {2, 2, 3, 4}, experts[4] = {3, 4, 5};
	check_windows("pytorch", "x.weight", plain, 0, element_linear);
	check_windows("keras2", "dense/kernel:0", plain, 0, element_keras_dense);
	check_windows("pytorch", "in_proj_weight", rows, 1, element_fused_k);
	check_windows("pytorch", "c_attn.weight", cols, 2, element_conv1d_v);
	check_windows("keras2", "conv2d/kernel:0", kernel, 0, element_keras_conv);
	check_windows("keras2", "conv2d_transpose/kernel:0", kernel, 0,
		      element_keras_transposed_conv);
	check_windows("pytorch", "experts.w", experts, 1, element_expert_1);
}

/* Wide rows must not go through the scratch buffer, whole rows not one by one. */
static void test_read_calls(void)
{
	enum { ROWS = 40, COLS = 20000 };
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	fake_add(c, "x.weight", ROWS, COLS, 0, 0, 0);
	mspec_views v = views_of(c, NULL);
	float *buffer = malloc(sizeof(float[ROWS][COLS]));
	static const struct {
		int64_t col, cols;
		int least, most;
	} windows[] = {
	    {0, COLS, 1, 1},
	    {3, 1, ROWS, ROWS},
	    {5000, 10000, 2, 10},
	    {7, COLS - 7, 2, 10},
	};
	for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
		int64_t cols = windows[w].cols, col = windows[w].col;
		int wrong = 0;
		fake_reads = 0;
		CU_ASSERT_EQUAL(
		    mspec_read_block(c, v.matrices, 1, ROWS - 1, col, cols, buffer, NULL), MUON_OK);
		CU_ASSERT_TRUE(fake_reads >= windows[w].least - 1 && fake_reads <= windows[w].most);
		for (int64_t e = 0; e < (ROWS - 1) * cols; e++)
			wrong += (int64_t)buffer[e] != (1 + e / cols) * COLS + col + e % cols;
		CU_ASSERT_EQUAL(wrong, 0);
	}
	free(buffer);
	mspec_views_destroy(&v);
	mspec_close(&c);
}

static void test_read_bounds(void)
{
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	fake_add(c, "experts.w", 2, 4, 5, 0, 0);
	mspec_views v = views_of(c, NULL);
	static const int64_t outside[][4] = {
	    {-1, 1, 0, 1}, {0, -1, 0, 1}, {4, 1, 0, 1},  {0, 5, 0, 1},         {0, 1, -1, 1},
	    {0, 1, 5, 1},  {0, 1, 1, 5},  {0, 1, 0, -1}, {0, 1, INT64_MAX, 1}, {INT64_MAX, 2, 0, 1},
	};
	float buffer[64];
	for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
		const int64_t *o = outside[i];
		CU_ASSERT_EQUAL(
		    mspec_read_block(c, v.matrices, o[0], o[1], o[2], o[3], buffer, NULL),
		    MUON_E_ARGUMENT);
	}
	mspec_views_destroy(&v);
	mspec_close(&c);
}

/* Names and lists outlive the checkpoint. */
static void test_ownership(void)
{
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	fake_add(c, "mlp.experts.w", 2, 8, 4, 0, 0);
	fake_add(c, "norm", 5, 0, 0, 0, 0);
	fake_add(c, "x.weight", 5, 5, 0, 0, 0);
	mspec_views v = views_of(c, NULL);
	mspec_close(&c);
	CU_ASSERT_EQUAL_FATAL(v.count, 3);
	SAME(v.matrices[2].name, "x.weight");
	SAME(v.matrices[2].group, "Other");
	CU_ASSERT_PTR_NULL(v.matrices[2].slice);
	SAME(v.skipped[0].reason, "not a matrix (1-d)");
	mspec_views_destroy(&v);
	CU_ASSERT_EQUAL(v.count, 0);
	mspec_views_destroy(&v);
}

static void test_out_of_memory(void)
{
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	for (int i = 0; i < 300; i++) {
		char name[64];
		snprintf(name, sizeof name, "layers.%d.mlp.experts.%s", i,
			 i % 2 ? "w" : "gate_up_proj");
		fake_add(c, name, 2, 4, 4, 0, 0);
		fake_add(c, "norm", 4, 0, 0, 0, 0);
	}
	allocations count = {.left = 0};
	const muon_allocator allocator = allocations_counted(&count);
	muon_set_allocator(&allocator);
	int code = MUON_E_MEMORY, failures = 0;
	for (int k = 0; code && k < 1000; k++) {
		mspec_views v;
		muon_error err = {0};
		count.left = k;
		code = mspec_views_create(&v, c, NULL, &err);
		if (code) {
			CU_ASSERT_EQUAL(code, MUON_E_MEMORY);
			CU_ASSERT_EQUAL(err.code, MUON_E_MEMORY);
			CU_ASSERT_PTR_NULL(v.memory);
			CU_ASSERT_EQUAL(count.blocks, 0);
			failures++;
		} else {
			CU_ASSERT_EQUAL(v.count, 600);
			SAME(v.matrices[599].group, "Experts");
			mspec_views_destroy(&v);
		}
	}
	CU_ASSERT_EQUAL(code, MUON_OK);
	CU_ASSERT_TRUE(failures > 10);
	CU_ASSERT_EQUAL(count.blocks, 0);
	muon_set_allocator(NULL);
	mspec_close(&c);
}

static void test_many(void)
{
	enum { LAYERS = 100, EXPERTS = 330 };
	static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"};
	mspec_checkpoint *c = fake_checkpoint("pytorch");
	for (int layer = 0; layer < LAYERS; layer++)
		for (int e = 0; e < EXPERTS; e++)
			for (int p = 0; p < 3; p++) {
				char name[128];
				snprintf(name, sizeof name,
					 "model.layers.%d.mlp.experts.%d.%s.weight", layer, e,
					 parts[p]);
				fake_add(c, name, 8, 4, 0, 0, 0);
			}
	mspec_views v = views_of(c, NULL); /* some 0.05 s; minutes if it grew with the square */
	CU_ASSERT_EQUAL_FATAL(v.count, LAYERS * EXPERTS * 3);
	SAME(v.matrices[v.count - 1].group, "Experts");
	mspec_views_destroy(&v);
	mspec_close(&c);
}

/* Real files: how many matrices they hold, and one of them. */
static void test_real(void)
{
	static const struct {
		const char *file;
		size_t count;
		const char *name, *group;
		int64_t rows, cols;
	} cases[] = {
	    {"hdf5/keras_bert_test_bert_fit.h5", 78,
	     "model_weights/Encoder-10-FeedForward/Encoder-10-FeedForward/"
	     "Encoder-10-FeedForward_W1:0",
	     "Dense", 100, 25},
	    {"hdf5/random_minimodel_policy_weights.hdf5", 6, "convolution2d_1/convolution2d_1_W",
	     "Conv", 16, 300},
	    {"hdf5/settyl_transformer_weights.h5", 20,
	     "multi_head_attention_4/multi_head_attention_4/value/kernel:0", "AttnKV", 1024, 16},
	    {"hdf5/snake_dqn.weights.h5", 4, "layers/conv2d_1/vars/0", "Conv", 64, 288},
	    {"hdf5/textgenrnn_weights.hdf5", 7, "rnn_1/rnn_1/kernel:0", "Recurrent", 512, 100},
	    {"hdf5/tiny_XCEPTION_KDEF.hdf5", 23,
	     "model_weights/separable_conv2d_2/separable_conv2d_2/depthwise_kernel:0", "Conv", 8,
	     9},
	    {"hdf5/zinc_encoder.h5", 5, "model_weights/encoder_conv2/encoder_conv2/kernel:0",
	     "Conv", 10, 99},
	    {"series-lstm-aiw/AiW-1.h5", 3, "model_weights/dense_1/dense_1/kernel:0", "Dense", 45,
	     128},
	    {"safetensors/silero_vad_16k.safetensors", 8, "conv1.weight", "Conv", 128, 387},
	    {"safetensors/sharded", 24, "bfloat16_357[2]", "Other", 5, 7},
	    {"safetensors/mlx-lora/adapters.safetensors", 16,
	     "model.layers.20.self_attn.v_proj.lora_b", "AttnKV", 128, 8},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *path = scratch_shared(cases[i].file);
		if (!path)
			return;
		mspec_checkpoint *c = scratch_open(path);
		if (!c)
			continue;
		mspec_views v = views_of(c, NULL);
		CU_ASSERT_EQUAL(v.count, cases[i].count);
		const mspec_matrix *found = NULL;
		for (size_t m = 0; m < v.count; m++)
			if (!strcmp(v.matrices[m].name, cases[i].name))
				found = &v.matrices[m];
		CU_ASSERT_PTR_NOT_NULL(found);
		if (found) {
			SAME(found->group, cases[i].group);
			CU_ASSERT_EQUAL(found->rows, cases[i].rows);
			CU_ASSERT_EQUAL(found->cols, cases[i].cols);
		}
		mspec_views_destroy(&v);
		mspec_close(&c);
	}
}

UNIT_SUITE(views, {"pytorch", test_pytorch}, {"stacks", test_stacks}, {"fused", test_fused},
	   {"gpt2_conv1d", test_gpt2_conv1d}, {"lora", test_lora}, {"keras", test_keras},
	   {"skipped", test_skipped}, {"unreadable", test_unreadable},
	   {"hostile_stack", test_hostile_stack}, {"filters", test_filters},
	   {"partition", test_partition}, {"read_block", test_read_block},
	   {"read_calls", test_read_calls}, {"read_bounds", test_read_bounds},
	   {"ownership", test_ownership}, {"out_of_memory", test_out_of_memory},
	   {"many", test_many}, {"real", test_real})
