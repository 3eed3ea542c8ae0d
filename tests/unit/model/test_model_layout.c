/* What models there are: presets, tensors, counts, checks, random start. */
#include "unit/model/fixture.h"

#include <stdlib.h>

static void test_presets(void)
{
	static const double millions[] = {0.1, 1, 10, 0.25, 2};
	const char *const *names = mspec_model_presets();
	size_t count = 0;
	for (; names[count]; count++) {
		mspec_model_config config;
		mspec_model *model;
		CU_ASSERT_EQUAL_FATAL(mspec_model_preset(&config, names[count]), MUON_OK);
		CU_ASSERT_EQUAL(mspec_model_config_check(&config, NULL), MUON_OK);
		CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, &config, NULL), MUON_OK);
		/* all but embedding and head, of the size that the name says */
		double size = (double)(mspec_model_parameter_count(model) -
		                       2 * config.vocab * config.hidden) /
			      1e6;
		CU_ASSERT_TRUE(size > 0.8 * millions[count] && size < 1.25 * millions[count]);
		mspec_model_destroy(&model);
	}
	CU_ASSERT_EQUAL(count, sizeof millions / sizeof *millions);
	mspec_model_config config;
	CU_ASSERT_EQUAL(mspec_model_preset(&config, "llama-1t"), MUON_E_USAGE);
}

/* Tensors follow each other without gaps, and names come once. */
static void check_tensors(const mspec_model *model)
{
	int64_t end = 0;
	size_t count = mspec_model_tensor_count(model);
	for (size_t i = 0; i < count; i++) {
		const mspec_model_tensor *t = mspec_model_tensor_at(model, i);
		CU_ASSERT_EQUAL(t->offset, end);
		CU_ASSERT_EQUAL(t->count, t->rank == 2 ? t->dims[0] * t->dims[1] : t->dims[0]);
		CU_ASSERT_EQUAL(t->rank == 1, t->role == MUON_ROLE_VECTOR);
		end += t->count;
		for (size_t j = 0; j < i; j++)
			CU_ASSERT_STRING_NOT_EQUAL(t->name, mspec_model_tensor_at(model, j)->name);
	}
	CU_ASSERT_EQUAL(mspec_model_parameter_count(model), end);
	CU_ASSERT_PTR_NULL(mspec_model_tensor_at(model, count));
}

typedef struct expected_tensor {
	const char *name;
	int64_t out, in;
	muon_role role;
	int layer;
} expected_tensor;

static void check_expected(const mspec_model *model, const expected_tensor *expected, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const mspec_model_tensor *found = NULL;
		for (size_t j = 0; j < mspec_model_tensor_count(model); j++)
			if (!strcmp(mspec_model_tensor_at(model, j)->name, expected[i].name))
				found = mspec_model_tensor_at(model, j);
		CU_ASSERT_PTR_NOT_NULL_FATAL(found);
		CU_ASSERT_EQUAL(found->dims[0], expected[i].out);
		CU_ASSERT_EQUAL(found->rank, expected[i].in ? 2 : 1);
		if (expected[i].in)
			CU_ASSERT_EQUAL(found->dims[1], expected[i].in);
		CU_ASSERT_EQUAL(found->role, expected[i].role);
		CU_ASSERT_EQUAL(found->layer, expected[i].layer);
	}
}

static void test_llama(void)
{
	static const expected_tensor expected[] = {
	    {"model.embed_tokens.weight", 37, 20, MUON_ROLE_EMBEDDING, -1},
	    {"model.layers.0.input_layernorm.weight", 20, 0, MUON_ROLE_VECTOR, 0},
	    {"model.layers.0.self_attn.q_proj.weight", 24, 20, MUON_ROLE_HIDDEN, 0},
	    {"model.layers.1.self_attn.k_proj.weight", 12, 20, MUON_ROLE_HIDDEN, 1},
	    {"model.layers.1.self_attn.v_proj.weight", 12, 20, MUON_ROLE_HIDDEN, 1},
	    {"model.layers.1.self_attn.o_proj.weight", 20, 24, MUON_ROLE_HIDDEN, 1},
	    {"model.layers.1.post_attention_layernorm.weight", 20, 0, MUON_ROLE_VECTOR, 1},
	    {"model.layers.1.mlp.gate_proj.weight", 28, 20, MUON_ROLE_HIDDEN, 1},
	    {"model.layers.1.mlp.up_proj.weight", 28, 20, MUON_ROLE_HIDDEN, 1},
	    {"model.layers.1.mlp.down_proj.weight", 20, 28, MUON_ROLE_HIDDEN, 1},
	    {"model.norm.weight", 20, 0, MUON_ROLE_VECTOR, -1},
	    {"lm_head.weight", 37, 20, MUON_ROLE_HEAD, -1},
	};
	mspec_model_config config = fixture_llama();
	mspec_model *model;
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, &config, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_model_tensor_count(model), 2 * 9 + 3);
	check_tensors(model);
	check_expected(model, expected, sizeof expected / sizeof *expected);
	const int64_t layer = (24 + 12 + 12 + 24) * 20 + 3 * 28 * 20;
	CU_ASSERT_EQUAL(mspec_model_active_parameters(model), 2 * layer);
	CU_ASSERT_EQUAL(mspec_model_config_of(model)->ffn, 28);
	/* at length 3 a token sees 2 keys; each costs q.k and its share of the output */
	UNIT_CLOSE(mspec_model_token_flops(model, 3),
	           6.0 * (double)(2 * layer + 37 * 20) + 3.0 * 2 * 2 * 4 * (6 + 6) * 2, 1e-15);
	mspec_model_destroy(&model);
	mspec_model_destroy(&model);
	config.tied_head = true;
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, &config, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_model_tensor_count(model), 2 * 9 + 2);
	CU_ASSERT_EQUAL(mspec_model_active_parameters(model), 2 * layer);
	mspec_model_destroy(&model);
}

/* Moonlight-16B-A3B: 15.29B parameters and 2.24B active ones, as the report counts them. */
static void test_moonlight(void)
{
	static const expected_tensor expected[] = {
	    {"model.layers.26.self_attn.q_proj.weight", 3072, 2048, MUON_ROLE_HIDDEN, 26},
	    {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", 576, 2048, MUON_ROLE_HIDDEN, 0},
	    {"model.layers.0.self_attn.kv_a_layernorm.weight", 512, 0, MUON_ROLE_VECTOR, 0},
	    {"model.layers.0.self_attn.kv_b_proj.weight", 4096, 512, MUON_ROLE_HIDDEN, 0},
	    {"model.layers.0.self_attn.o_proj.weight", 2048, 2048, MUON_ROLE_HIDDEN, 0},
	    {"model.layers.0.mlp.gate_proj.weight", 11264, 2048, MUON_ROLE_HIDDEN, 0},
	    {"model.layers.1.mlp.gate.weight", 64, 2048, MUON_ROLE_ROUTER, 1},
	    {"model.layers.1.mlp.gate.e_score_correction_bias", 64, 0, MUON_ROLE_VECTOR, 1},
	    {"model.layers.1.mlp.shared_experts.up_proj.weight", 2816, 2048, MUON_ROLE_HIDDEN, 1},
	    {"model.layers.26.mlp.experts.63.down_proj.weight", 2048, 1408, MUON_ROLE_HIDDEN, 26},
	};
	const mspec_model_config config = {
	    .family = MSPEC_FAMILY_DEEPSEEK, .vocab = 163840, .hidden = 2048, .layers = 27,
	    .heads = 16, .ffn = 11264, .context = 8192, .rope_theta = 50000, .norm_eps = 1e-5,
	    .dense_layers = 1, .experts = 64, .shared_experts = 2, .top_k = 6, .expert_ffn = 1408,
	    .routed_scale = 2.446, .kv_rank = 512, .nope_dim = 128, .rope_dim = 64,
	    .value_dim = 128, .init_std = 0.02};
	mspec_model *model;
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, &config, NULL), MUON_OK);
	int64_t hidden = 0;
	size_t matrices = 0, untrained = 0;
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++) {
		const mspec_model_tensor *t = mspec_model_tensor_at(model, i);
		bool inside = t->rank == 2 && t->layer >= 0;
		matrices += inside;
		hidden += inside ? t->count : 0;
		untrained += !t->trained;
	}
	CU_ASSERT_EQUAL(matrices, 5207);
	CU_ASSERT_EQUAL(hidden, 15288893440);
	CU_ASSERT_EQUAL(mspec_model_active_parameters(model), 2243559424);
	CU_ASSERT_EQUAL(untrained, 26);
	check_expected(model, expected, sizeof expected / sizeof *expected);
	mspec_model_destroy(&model);
}

/* ---- checks ------------------------------------------------------------------------------- */

static void check_refused(const mspec_model_config *config, const char *what)
{
	muon_error err = {0};
	mspec_model *model;
	CU_ASSERT_EQUAL(mspec_model_create(&model, config, &err), MUON_E_USAGE);
	CU_ASSERT_PTR_NULL(model);
	CU_ASSERT_EQUAL(err.code, MUON_E_USAGE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, what));
}

#define REFUSED(start, field, value, what)                                                         \
	do {                                                                                       \
		mspec_model_config changed = (start);                                              \
		changed.field = (value);                                                           \
		check_refused(&changed, what);                                                     \
	} while (0)

static void test_checks(void)
{
	const mspec_model_config llama = fixture_llama();
	mspec_model_config moe;
	CU_ASSERT_EQUAL_FATAL(mspec_model_preset(&moe, "moe-tiny"), MUON_OK);
	REFUSED(llama, vocab, 0, "vocab");
	REFUSED(llama, hidden, -1, "hidden");
	REFUSED(llama, layers, 0, "layers");
	REFUSED(llama, heads, 0, "heads");
	REFUSED(llama, kv_heads, 0, "kv_heads");
	REFUSED(llama, kv_heads, 3, "kv_heads");
	REFUSED(llama, kv_heads, 8, "kv_heads");
	REFUSED(llama, head_dim, 7, "pairs");
	REFUSED(llama, head_dim, (int64_t)1 << 60, "head_dim");
	REFUSED(llama, head_dim, (int64_t)1 << 23, "heads * head_dim");
	REFUSED(llama, ffn, 0, "ffn");
	REFUSED(llama, context, 0, "context");
	REFUSED(llama, rope_theta, 0, "rope_theta");
	REFUSED(llama, rope_theta, INFINITY, "rope_theta");
	REFUSED(llama, norm_eps, -1e-5, "norm_eps");
	REFUSED(llama, norm_eps, NAN, "norm_eps");
	REFUSED(llama, init_std, -0.1, "init_std");
	REFUSED(llama, family, (mspec_family)7, "family");
	REFUSED(moe, dense_layers, -1, "dense_layers");
	REFUSED(moe, dense_layers, 4, "dense_layers");
	REFUSED(moe, experts, 0, "experts");
	REFUSED(moe, top_k, 0, "top_k");
	REFUSED(moe, top_k, 9, "top_k");
	REFUSED(moe, shared_experts, -1, "shared_experts");
	REFUSED(moe, expert_ffn, 0, "expert_ffn");
	REFUSED(moe, kv_rank, 0, "kv_rank");
	REFUSED(moe, nope_dim, 0, "nope_dim");
	REFUSED(moe, rope_dim, 0, "rope_dim");
	REFUSED(moe, rope_dim, 5, "pairs");
	REFUSED(moe, value_dim, 0, "value_dim");
	REFUSED(moe, routed_scale, NAN, "routed_scale");
	mspec_model_config huge = llama;
	huge.vocab = huge.hidden = huge.ffn = 1 << 24;
	check_refused(&huge, "too large");
	huge = llama;
	huge.layers = 1 << 24; /* of few entries each */
	check_refused(&huge, "too large");
	huge = moe;
	huge.experts = 1 << 24;
	check_refused(&huge, "too large");
}

/* ---- start -------------------------------------------------------------------------------- */

static void test_initialize(void)
{
	mspec_model_config config;
	mspec_model *model;
	CU_ASSERT_EQUAL_FATAL(mspec_model_preset(&config, "moe-tiny"), MUON_OK);
	config.init_std = 0.07;
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, &config, NULL), MUON_OK);
	const size_t count = (size_t)mspec_model_parameter_count(model);
	float *first = muon_alloc(count, sizeof *first), *second = muon_alloc(count, sizeof *second);
	CU_ASSERT_TRUE_FATAL(first && second);
	mspec_model_initialize(model, 9, first);
	for (size_t i = 0; i < mspec_model_tensor_count(model); i++) {
		const mspec_model_tensor *t = mspec_model_tensor_at(model, i);
		const double n = (double)t->count;
		double sum = 0, sumsq = 0;
		for (int64_t j = 0; j < t->count; j++) {
			double x = (double)first[t->offset + j];
			sum += x;
			sumsq += x * x;
		}
		if (t->rank == 2) { /* within five standard errors */
			CU_ASSERT_TRUE(fabs(sum / n) < 5 * 0.07 / sqrt(n));
			UNIT_CLOSE(sqrt(sumsq / n), 0.07, 5 / sqrt(2 * n));
		} else {
			CU_ASSERT_EQUAL(sum, t->trained ? n : 0);
			CU_ASSERT_EQUAL(sumsq, t->trained ? n : 0);
		}
	}
	mspec_model_initialize(model, 9, second);
	CU_ASSERT_EQUAL(memcmp(first, second, count * sizeof *first), 0);
	mspec_model_initialize(model, 10, second);
	CU_ASSERT_NOT_EQUAL(memcmp(first, second, count * sizeof *first), 0);
	muon_free(first);
	muon_free(second);
	mspec_model_destroy(&model);
}

/* ---- memory ------------------------------------------------------------------------------- */

static int create_both(mspec_model_config config, muon_error *err)
{
	mspec_model *model;
	mspec_workspace *workspace = NULL;
	int code = mspec_model_create(&model, &config, err);
	if (!code)
		code = mspec_workspace_create(&workspace, model, 2, 5, true, err);
	CU_ASSERT_EQUAL(code != MUON_OK, workspace == NULL);
	mspec_workspace_destroy(&workspace);
	mspec_model_destroy(&model);
	return code;
}

static void check_out_of_memory(mspec_model_config config)
{
	int left = 0, failures = 0, code = MUON_E_MEMORY;
	const muon_allocator allocator = unit_failing_allocator(&left);
	for (int k = 0; k < 100 && code; k++) {
		muon_error err = {0};
		left = k;
		muon_set_allocator(&allocator);
		code = create_both(config, &err);
		muon_set_allocator(NULL);
		CU_ASSERT_TRUE(code == MUON_OK || code == MUON_E_MEMORY);
		CU_ASSERT_EQUAL(err.code, code);
		failures += code != MUON_OK;
	}
	CU_ASSERT_EQUAL(code, MUON_OK);
	CU_ASSERT_TRUE(failures >= 5);
}

static void test_out_of_memory(void)
{
	check_out_of_memory(fixture_llama());
	check_out_of_memory(fixture_deepseek());
}

/* An allocator that has 64 MiB at most a block, and remembers the largest asked for. */
static void *small_resize(void *state, void *block, size_t bytes)
{
	size_t *largest = state;
	*largest = bytes > *largest ? bytes : *largest;
	return bytes >> 26 ? NULL : realloc(block, bytes);
}

/* Bytes asked for, for `sequences` of the whole context of 2^24 tokens. */
static size_t ask_for_memory(int64_t heads, int64_t sequences)
{
	mspec_model_config config = fixture_llama();
	mspec_model *model;
	mspec_workspace *workspace;
	size_t largest = 0;
	const muon_allocator allocator = {small_resize, unit_release, &largest};
	config.context = 1 << 24;
	config.heads = config.kv_heads = heads;
	config.head_dim = 2;
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, &config, NULL), MUON_OK);
	muon_set_allocator(&allocator);
	CU_ASSERT_EQUAL(mspec_workspace_create(&workspace, model, sequences, 1 << 24, true, NULL),
	                MUON_E_MEMORY);
	muon_set_allocator(NULL);
	CU_ASSERT_PTR_NULL(workspace);
	mspec_model_destroy(&model);
	return largest;
}

/* Sizes that overflow are not small ones: nothing is asked for. */
static void test_overflow(void)
{
	CU_ASSERT_TRUE(ask_for_memory(4, 1) > (size_t)1 << 50);
	CU_ASSERT_TRUE(ask_for_memory(1 << 20, 127) < (size_t)1 << 20);
	const mspec_model_config config = fixture_llama();
	mspec_model *model;
	mspec_workspace *workspace;
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, &config, NULL), MUON_OK);
	static const int64_t bad[][2] = {
	    {1, 0}, {0, 1}, {-1, 1}, {1, 81}, {INT64_MAX, 80}, {((int64_t)1 << 31) / 80 + 1, 80}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		muon_error err = {0};
		CU_ASSERT_EQUAL(mspec_workspace_create(&workspace, model, bad[i][0], bad[i][1],
		                                       true, &err),
		                MUON_E_ARGUMENT);
		CU_ASSERT_EQUAL(err.code, MUON_E_ARGUMENT);
	}
	mspec_model_destroy(&model);
	/* rows fit an int, each one's choices of experts do not */
	const mspec_model_config deepseek = fixture_deepseek();
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&model, &deepseek, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_workspace_create(&workspace, model, 1 << 30, 1, true, NULL),
	                MUON_E_ARGUMENT);
	mspec_model_destroy(&model);
}

UNIT_SUITE(model_layout, {"presets", test_presets}, {"Llama", test_llama},
           {"Moonlight", test_moonlight}, {"checks", test_checks}, {"start", test_initialize},
           {"out of memory", test_out_of_memory}, {"overflow", test_overflow})
