/* forward: models loaded from files, run in windows, against the model run by hand; files that are
 * no model or no tokens. */
#include "base/memory.h"
#include "base/random.h"
#include "unit/analysis/model_file.h"
#include "unit/checkpoint/scratch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- what is run ------------------------------------------------------------------------- */

typedef struct material {
	mspec_model_config config;
	float *parameters;
	mspec_model *model;
	int32_t *tokens;
	int64_t count;
} material;

static void open_material(material *m, const mspec_model_config *config, int64_t count)
{
	muon_random random;
	m->config = *config;
	m->parameters = model_file_parameters(config, 3);
	CU_ASSERT_EQUAL_FATAL(mspec_model_create(&m->model, config, NULL), MUON_OK);
	m->tokens = muon_alloc((size_t)count, sizeof *m->tokens);
	m->count = count;
	muon_random_seed(&random, 5);
	for (int64_t i = 0; i < count; i++)
		m->tokens[i] = (int32_t)(muon_random_bits(&random) % (uint64_t)config->vocab);
}

static void close_material(material *m)
{
	muon_free(m->parameters);
	muon_free(m->tokens);
	mspec_model_destroy(&m->model);
}

static mspec_forward *run(const material *m, const mspec_forward_options *options)
{
	mspec_forward *forward = NULL;
	muon_error err = {0};
	CU_ASSERT_EQUAL_FATAL(mspec_forward_run_model(&forward, m->model, m->parameters, m->tokens,
	                                              m->count, options, &err),
	                      MUON_OK);
	return forward;
}

/* ---- loading ------------------------------------------------------------------------------- */

static void check_loaded(const mspec_model_config *config)
{
	const char *path = scratch_path("forward-loaded.h5");
	float *parameters = model_file_parameters(config, 9), *loaded;
	const model_file file = MODEL_FILE(config, parameters);
	mspec_model *model;
	model_file_write(path, &file);
	mspec_checkpoint *checkpoint = scratch_open(path);
	CU_ASSERT_EQUAL_FATAL(mspec_model_load(&model, &loaded, checkpoint, NULL), MUON_OK);
	const mspec_model_config *got = mspec_model_config_of(model);
	CU_ASSERT_EQUAL(got->family, config->family);
	CU_ASSERT_EQUAL(got->rope_theta, config->rope_theta);
	CU_ASSERT_EQUAL(got->norm_eps, config->norm_eps);
	CU_ASSERT_EQUAL(got->context, config->context);
	CU_ASSERT_EQUAL(got->routed_scale, config->routed_scale);
	CU_ASSERT_EQUAL(
	    memcmp(loaded, parameters, (size_t)mspec_model_parameter_count(model) * sizeof *loaded),
	    0);
	mspec_parameters_destroy(&loaded);
	mspec_model_destroy(&model);
	mspec_close(&checkpoint);
	muon_free(parameters);
}

static void test_loading(void)
{
	mspec_model_config llama = fixture_llama(), deepseek = fixture_deepseek();
	check_loaded(&llama);
	llama.tied_head = true;
	check_loaded(&llama);
	check_loaded(&deepseek);
}

/* Loading the file must fail so. */
static void refuse_file(const model_file *file, const char *where, const char *text)
{
	const char *path = scratch_path("forward-refused.h5");
	mspec_model *model;
	float *parameters;
	muon_error err = {0};
	model_file_write(path, file);
	mspec_checkpoint *checkpoint = scratch_open(path);
	CU_ASSERT_EQUAL(mspec_model_load(&model, &parameters, checkpoint, &err), MUON_E_FORMAT);
	CU_ASSERT_PTR_NULL(model);
	CU_ASSERT_PTR_NULL(parameters);
	bool told = strstr(err.message, text) && (!where || !strcmp(err.where, where));
	CU_ASSERT_TRUE(told);
	if (!told)
		printf("\n    %s: %s (%s)\n", err.where, err.message, file->json ? file->json : "");
	mspec_close(&checkpoint);
}

static void test_no_model(void)
{
	const mspec_model_config config = fixture_llama();
	float *parameters = model_file_parameters(&config, 9);
	model_file file = MODEL_FILE(&config, parameters);
	file.json = "";
	refuse_file(&file, NULL, "does not say what model it is");
	file.json = "[1, 2]";
	refuse_file(&file, NULL, "not a JSON object");
	file.json = "{\"vocab_size\": 37,";
	refuse_file(&file, NULL, "not a JSON object");
	file.json = NULL;
	file.without = "model.layers.1.mlp.up_proj.weight";
	refuse_file(&file, file.without, "missing");
	file.without = NULL;
	mspec_model_config other = config;
	other.head_dim = 4;
	file.json = model_file_json(&other);
	refuse_file(&file, "model.layers.0.self_attn.q_proj.weight", "another shape");
	muon_free(parameters);
}

/* A configuration with one key changed, added or left out must be refused, naming it. */
typedef struct refusal {
	const char *key, *value; /* value NULL: the key is left out */
	const char *message;
} refusal;

static void change_key(char *json, size_t capacity, const mspec_model_config *config,
                       const refusal *r)
{
	char key[64];
	snprintf(key, sizeof key, "\"%s\":", r->key);
	snprintf(json, capacity, "%s", model_file_json(config));
	char *at = strstr(json, key);
	if (at) { /* no value has a comma */
		char *end = at + strcspn(at, ",}");
		if (*end == ',')
			end += 2;
		else
			at -= 2; /* the comma before the last key */
		memmove(at, end, strlen(end) + 1);
	}
	size_t length = strlen(json);
	if (r->value)
		snprintf(json + length - 1, capacity - length + 1, ", \"%s\": %s}", r->key,
		         r->value);
}

static void refuse_keys(const mspec_model_config *config, const refusal *refusals, size_t count)
{
	float *parameters = model_file_parameters(config, 9);
	model_file file = MODEL_FILE(config, parameters);
	for (size_t i = 0; i < count; i++) {
		char json[4096];
		change_key(json, sizeof json, config, &refusals[i]);
		file.json = json;
		refuse_file(&file, NULL, refusals[i].message);
	}
	muon_free(parameters);
}

static void test_bad_configurations(void)
{
	static const refusal llama[] = {
	    {"hidden_size", NULL, "hidden_size is missing"},
	    {"hidden_size", "\"20\"", "hidden_size is not a number"},
	    {"hidden_size", "20.5", "hidden_size is not a sensible whole number"},
	    {"hidden_size", "-20", "hidden is -20"},
	    {"hidden_size", "1e300", "hidden_size is not a sensible"},
	    {"num_attention_heads", "0", "heads is 0"},
	    {"num_hidden_layers", "1000000", "too few for the layers"},
	    {"num_key_value_heads", "3", "can't be shared out"},
	    {"head_dim", "5", "rotary positions turn pairs"},
	    {"rms_norm_eps", "-1", "norm_eps"},
	    {"model_type", "\"gpt2\"", "model_type is none of"},
	    {"model_type", "7", "model_type is none of"},
	    {"model_type", "\"deepseek_v3\"", "first_k_dense_replace is missing"},
	    {"hidden_act", "\"gelu\"", "hidden_act"},
	    {"attention_bias", "true", "attention_bias is set"},
	    {"rope_scaling", "{\"factor\": 8}", "rope_scaling is set"},
	    {"rope_parameters", "{\"rope_type\": \"yarn\"}", "rope_type"},
	};
	static const refusal deepseek[] = {
	    {"n_routed_experts", "16777216", "too few for the layers"},
	    {"num_experts_per_tok", "7", "top_k is 7"},
	    {"q_lora_rank", "12", "q_lora_rank is set"},
	    {"v_head_dim", NULL, "v_head_dim is missing"},
	    {"n_group", "8", "n_group is not 1"},
	    {"moe_layer_freq", "2", "moe_layer_freq is not 1"},
	    {"scoring_func", "\"softmax\"", "scoring_func"},
	    {"norm_topk_prob", "false", "norm_topk_prob is false"},
	    {"rope_interleave", "false", "rope_interleave is false"},
	};
	const mspec_model_config small = fixture_llama(), mixed = fixture_deepseek();
	refuse_keys(&small, llama, sizeof llama / sizeof *llama);
	refuse_keys(&mixed, deepseek, sizeof deepseek / sizeof *deepseek);
}

/* Keys that may be absent, null or stated otherwise. */
static void test_other_configurations(void)
{
	static const refusal same[] = {
	    {"model_type", NULL, ""},
	    {"num_key_value_heads", "2", ""},
	    {"rope_scaling", "null", ""},
	    {"attention_bias", "false", ""},
	    {"hidden_act", "\"silu\"", ""},
	    {"rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 50.0}", ""},
	};
	const mspec_model_config config = fixture_llama();
	float *parameters = model_file_parameters(&config, 9);
	model_file file = MODEL_FILE(&config, parameters);
	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		char json[4096];
		const char *path = scratch_path("forward-other.h5");
		mspec_model_config got;
		change_key(json, sizeof json, &config, &same[i]);
		file.json = json;
		model_file_write(path, &file);
		mspec_checkpoint *checkpoint = scratch_open(path);
		CU_ASSERT_EQUAL(mspec_model_config_read(&got, checkpoint, NULL), MUON_OK);
		CU_ASSERT_EQUAL(got.kv_heads, 2);
		CU_ASSERT_EQUAL(got.rope_theta, 50);
		mspec_close(&checkpoint);
	}
	muon_free(parameters);
}

/* ---- running ------------------------------------------------------------------------------- */

/* One window by hand. */
typedef struct by_hand {
	mspec_layer_record layers[4];
	double heads[16], loss;
	float *outputs, *logits;
} by_hand;

static void run_window(const material *m, int64_t first, int64_t length, bool bf16, by_hand *found)
{
	mspec_workspace *workspace;
	mspec_records records = {.layers = found->layers, .head_max_logits = found->heads};
	mspec_pass pass = {.parameters = m->parameters,
	                   .tokens = m->tokens + first,
	                   .targets = m->tokens + first + 1,
	                   .sequences = 1,
	                   .length = length,
	                   .bf16 = bf16,
	                   .logits = found->logits,
	                   .layer_outputs = found->outputs,
	                   .records = &records};
	CU_ASSERT_EQUAL_FATAL(mspec_workspace_create(&workspace, m->model, 1, length, false, NULL),
	                      MUON_OK);
	CU_ASSERT_EQUAL(mspec_model_run(m->model, workspace, &pass), MUON_OK);
	found->loss += pass.loss_sum;
	mspec_workspace_destroy(&workspace);
}

static void check_run(const material *m, const mspec_forward *f, int r, by_hand *whole)
{
	const mspec_forward_run *got = &f->runs[r];
	for (int64_t l = 0; l < f->layers; l++) {
		const mspec_layer_record *want = &whole->layers[l];
		UNIT_CLOSE(got->layers[l].output_rms, sqrt(want->output_sumsq / want->output_count),
		           1e-6);
		UNIT_CLOSE(got->layers[l].output_max_abs, want->output_max_abs, 1e-5);
		UNIT_CLOSE(got->layers[l].max_attention_logit, want->max_attention_logit, 1e-5);
		UNIT_CLOSE(got->layers[l].share_logits_over_100 + 1,
		           want->logits_over_100 / want->logit_count + 1, 1e-12);
	}
	for (int64_t h = 0; h < f->layers * f->heads; h++)
		UNIT_CLOSE(got->head_max_logits[h], whole->heads[h], 1e-5);
	UNIT_CLOSE(got->loss, whole->loss / (double)(m->count - 1), 1e-6);
}

/* Figures of both arithmetics against runs of single windows, their errors too. */
static void check_windows(const mspec_model_config *config, int64_t length)
{
	enum { TOKENS = 190 };
	material m;
	open_material(&m, config, TOKENS);
	mspec_forward *f =
	    run(&m, &(mspec_forward_options){.length = length, .threads = 2, .keep_logits = true});
	CU_ASSERT_EQUAL(f->tokens, TOKENS - 1);
	CU_ASSERT_EQUAL(f->windows, (TOKENS - 1 + length - 1) / length);
	by_hand whole[2] = {0};
	double error_sq[4] = {0}, norm_sq[4] = {0}, largest = 0, logits_off = 0;
	for (int i = 0; i < 16; i++)
		whole[0].heads[i] = whole[1].heads[i] = -INFINITY;
	for (int i = 0; i < 4; i++)
		whole[0].layers[i].max_attention_logit = whole[1].layers[i].max_attention_logit =
		    -INFINITY;
	size_t width = (size_t)(length * config->hidden), vocab = (size_t)config->vocab;
	for (int r = 0; r < 2; r++) {
		whole[r].outputs = muon_alloc(width * (size_t)config->layers, sizeof(float));
		whole[r].logits = muon_alloc((size_t)length * vocab, sizeof(float));
	}
	for (int64_t first = 0; first < TOKENS - 1; first += length) {
		int64_t rows = TOKENS - 1 - first < length ? TOKENS - 1 - first : length;
		for (int r = 0; r < 2; r++)
			run_window(&m, first, rows, r, &whole[r]);
		for (int64_t l = 0; l < config->layers; l++)
			for (int64_t i = 0; i < rows * config->hidden; i++) {
				int64_t at = l * rows * config->hidden + i;
				double a = whole[0].outputs[at], b = whole[1].outputs[at];
				error_sq[l] += (b - a) * (b - a);
				norm_sq[l] += a * a;
			}
		for (int64_t i = 0; i < rows * (int64_t)vocab; i++) {
			double a = whole[0].logits[i], b = whole[1].logits[i];
			largest = fmax(largest, fabs(a - b));
			logits_off =
			    fmax(logits_off, fabs(a - f->logits[first * (int64_t)vocab + i]));
		}
	}
	for (int r = 0; r < 2; r++)
		check_run(&m, f, r, &whole[r]);
	for (int64_t l = 0; l < config->layers; l++) {
		double want = sqrt(error_sq[l] / norm_sq[l]);
		CU_ASSERT_TRUE(want > 1e-4 && want < 0.1);
		UNIT_CLOSE(f->runs[1].layers[l].bf16_error, want, 1e-3);
		CU_ASSERT_TRUE(isnan(f->runs[0].layers[l].bf16_error));
	}
	UNIT_CLOSE(f->runs[1].logits_error, largest, 1e-3);
	CU_ASSERT_TRUE(logits_off < 1e-5);
	for (int r = 0; r < 2; r++) {
		muon_free(whole[r].outputs);
		muon_free(whole[r].logits);
	}
	mspec_forward_destroy(&f);
	close_material(&m);
}

static void test_windows(void)
{
	const mspec_model_config llama = fixture_llama();
	check_windows(&llama, 32);
	check_windows(&llama, 63);
	check_windows(&llama, 80);
}

/* bf16 may send a token to other experts, which no tolerance on single values covers. */
static void test_experts(void)
{
	const mspec_model_config config = fixture_deepseek();
	material m;
	open_material(&m, &config, 100);
	mspec_forward *f = run(&m, &(mspec_forward_options){.length = 50});
	by_hand whole = {0};
	for (int i = 0; i < 16; i++)
		whole.heads[i] = -INFINITY;
	for (int i = 0; i < 4; i++)
		whole.layers[i].max_attention_logit = -INFINITY;
	run_window(&m, 0, 50, false, &whole);
	run_window(&m, 50, 49, false, &whole);
	check_run(&m, f, 0, &whole);
	CU_ASSERT_TRUE(isfinite(f->runs[1].loss));
	bool named = false;
	for (int64_t i = 0; i < f->matrices; i++)
		named |= !strcmp(f->runs[0].matrices[i].name,
		                 "model.layers.1.mlp.experts.5.down_proj.weight");
	CU_ASSERT_TRUE(named);
	mspec_forward_destroy(&f);
	close_material(&m);
}

static bool same_run(const mspec_forward *a, const mspec_forward *b, int r)
{
	const mspec_forward_run *x = &a->runs[r], *y = &b->runs[r];
	bool same = !memcmp(&x->loss, &y->loss, sizeof x->loss) &&
	            !memcmp(&x->logits_error, &y->logits_error, sizeof x->loss) &&
	            !memcmp(x->layers, y->layers, (size_t)a->layers * sizeof *x->layers) &&
	            !memcmp(x->head_max_logits, y->head_max_logits,
	                    (size_t)(a->layers * a->heads) * sizeof(double));
	for (int64_t i = 0; same && i < a->matrices; i++)
		same =
		    !memcmp(&x->matrices[i].output_rms, &y->matrices[i].output_rms, sizeof(double));
	return same;
}

static void test_threads(void)
{
	const mspec_model_config config = fixture_llama();
	material m;
	open_material(&m, &config, 9000); /* several tasks */
	mspec_forward *one = run(&m, &(mspec_forward_options){.threads = 1});
	mspec_forward *three = run(&m, &(mspec_forward_options){.threads = 3});
	CU_ASSERT_EQUAL(one->threads, 1);
	CU_ASSERT_EQUAL(three->threads, 3);
	CU_ASSERT_EQUAL(one->length, config.context);
	CU_ASSERT_TRUE(same_run(one, three, 0) && same_run(one, three, 1));
	mspec_forward_destroy(&one);
	mspec_forward_destroy(&three);
	close_material(&m);
}

static bool stop_at_once(void *state, double share)
{
	*(double *)state = share;
	return false;
}

static void test_refused_runs(void)
{
	const mspec_model_config config = fixture_llama();
	material m;
	mspec_forward *f;
	double share = 0;
	const mspec_forward_options plain = {0};
	const mspec_forward_options stopping = {
	    .threads = 1, .progress = stop_at_once, .progress_state = &share};
	open_material(&m, &config, 9000);
	CU_ASSERT_EQUAL(
	    mspec_forward_run_model(&f, m.model, m.parameters, m.tokens, 1, &plain, NULL),
	    MUON_E_ARGUMENT);
	CU_ASSERT_PTR_NULL(f);
	CU_ASSERT_EQUAL(
	    mspec_forward_run_model(&f, m.model, m.parameters, m.tokens, m.count, &stopping, NULL),
	    MUON_E_INTERNAL);
	CU_ASSERT_TRUE(share > 0 && share < 1);
	m.tokens[77] = (int32_t)config.vocab;
	CU_ASSERT_EQUAL(
	    mspec_forward_run_model(&f, m.model, m.parameters, m.tokens, 100, &plain, NULL),
	    MUON_E_ARGUMENT);
	close_material(&m);
}

/* A model that diverges has figures all the same. */
static void test_not_finite(void)
{
	const mspec_model_config config = fixture_llama();
	material m;
	open_material(&m, &config, 50);
	model_file_tensor(&config, m.parameters, "model.layers.1.mlp.up_proj.weight")[3] = NAN;
	mspec_forward *f = run(&m, &(mspec_forward_options){0});
	CU_ASSERT_TRUE(isfinite(f->runs[0].layers[0].output_rms));
	CU_ASSERT_TRUE(isnan(f->runs[0].layers[1].output_rms));
	CU_ASSERT_TRUE(isnan(f->runs[0].loss) && isnan(f->runs[1].loss));
	CU_ASSERT_TRUE(isnan(f->runs[1].logits_error));
	mspec_forward_destroy(&f);
	close_material(&m);
}

static void test_logits_file(void)
{
	const mspec_model_config config = fixture_llama();
	const char *path = scratch_path("forward-logits.h5");
	material m;
	open_material(&m, &config, 40);
	mspec_forward *f = run(&m, &(mspec_forward_options){.keep_logits = true});
	CU_ASSERT_EQUAL(mspec_forward_write_logits(f, path, NULL), MUON_OK);
	mspec_checkpoint *written = scratch_open(path);
	scratch_content(written, "logits", f->logits,
	                (size_t)(f->tokens * config.vocab) * sizeof *f->logits);
	CU_ASSERT_EQUAL(
	    mspec_forward_write_logits(f, scratch_path("no-such-folder/logits.h5"), NULL),
	    MUON_E_WRITE);
	mspec_close(&written);
	mspec_forward_destroy(&f);
	close_material(&m);
}

/* ---- tokens -------------------------------------------------------------------------------- */

static void check_tokens(const void *bytes, size_t size, int64_t vocab, int64_t limit,
                         const int32_t *want, int64_t count)
{
	const char *path = scratch_path("tokens");
	int32_t *tokens;
	int64_t got;
	scratch_write(path, bytes, size);
	CU_ASSERT_EQUAL(mspec_tokens_read(&tokens, &got, path, vocab, limit, NULL), MUON_OK);
	CU_ASSERT_EQUAL(got, count);
	if (got == count)
		CU_ASSERT_EQUAL(memcmp(tokens, want, (size_t)count * sizeof *tokens), 0);
	mspec_tokens_destroy(&tokens);
}

static void refuse_tokens(const void *bytes, size_t size, int64_t vocab, const char *text)
{
	const char *path = scratch_path("tokens");
	int32_t *tokens;
	int64_t count;
	muon_error err = {0};
	scratch_write(path, bytes, size);
	CU_ASSERT_EQUAL(mspec_tokens_read(&tokens, &count, path, vocab, 1000, &err), MUON_E_FORMAT);
	CU_ASSERT_PTR_NULL(tokens);
	bool told = strstr(err.message, text) != NULL;
	CU_ASSERT_TRUE(told);
	if (!told)
		printf("\n    %s: %s\n", err.where, err.message);
}

/* An .npy file of `count` 32-bit elements. */
static size_t npy(char *bytes, const char *type, const char *shape, const int32_t *values,
                  size_t count)
{
	memcpy(bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
	int used = snprintf(bytes + 10, 119,
	                    "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", type, shape);
	memset(bytes + 10 + used, ' ', 118 - (size_t)used);
	bytes[127] = '\n';
	memcpy(bytes + 128, values, 4 * count);
	return 128 + 4 * count;
}

static void test_tokens(void)
{
	static const int32_t numbers[] = {3, 511, 0, 12}, bytes[] = {'3', ' ', 255, 0};
	char file[256];
	check_tokens("3 511\n\t0  12\n", 13, 512, 1000, numbers, 4);
	check_tokens("3 511\n\t0  12", 12, 512, 3, numbers, 3);
	check_tokens("3 \xff\0", 4, 256, 1000, bytes, 4);
	check_tokens("3 \xff\0", 4, 256, 2, bytes, 2);
	check_tokens(file, npy(file, "<i4", "(4,)", numbers, 4), 512, 1000, numbers, 4);
	check_tokens(file, npy(file, "<u4", "(4,)", numbers, 4), 512, 3, numbers, 3);
}

static void test_bad_tokens(void)
{
	static const int32_t numbers[] = {3, 511, -1, 12};
	char file[256];
	refuse_tokens("", 0, 512, "has 0 tokens");
	refuse_tokens("7", 1, 512, "has 1 tokens");
	refuse_tokens("x", 1, 256, "has 1 tokens");
	refuse_tokens("1 2 three", 9, 512, "token 2, 'three', is not a whole number");
	refuse_tokens("1 2.5 3", 7, 512, "'2.5'");
	refuse_tokens("1 2\0 3", 6, 512, "token 1, '2', is not");
	refuse_tokens("1 \x1b[31m", 7, 512, "'\\x1b[31m'");
	refuse_tokens("1 512", 5, 512, "token 1 is 512, and the model's vocabulary has 512");
	refuse_tokens("1 -1", 4, 512, "token 1 is -1");
	refuse_tokens("1 99999999999999999999999999999", 31, 512, "vocabulary");
	refuse_tokens("1 999999999999999999999999999999999999999", 41, 512, "vocabulary");
	refuse_tokens(file, npy(file, "<i4", "(4,)", numbers, 4), 512, "token 2 is -1");
	refuse_tokens(file, npy(file, "<f4", "(4,)", numbers, 4), 512, "array of integers");
	refuse_tokens(file, npy(file, "<i4", "(2, 2)", numbers, 4), 512, "one-dimensional");
	int32_t *tokens;
	int64_t count;
	CU_ASSERT_EQUAL(mspec_tokens_read(&tokens, &count, scratch_path("none"), 9, 9, NULL),
	                MUON_E_OPEN);
	CU_ASSERT_EQUAL(
	    mspec_tokens_read(&tokens, &count, scratch_path_in("folder", ""), 9, 9, NULL),
	    MUON_E_READ);
}

/* ---- memory -------------------------------------------------------------------------------- */

static int load_and_run(mspec_checkpoint *checkpoint, const char *token_path)
{
	mspec_model *model = NULL;
	float *parameters = NULL;
	int32_t *tokens = NULL;
	int64_t count = 0;
	mspec_forward *f = NULL;
	int code = mspec_model_load(&model, &parameters, checkpoint, NULL);
	if (!code)
		code = mspec_tokens_read(&tokens, &count, token_path, 37, 100, NULL);
	if (!code)
		code = mspec_forward_run_model(
		    &f, model, parameters, tokens, count,
		    &(mspec_forward_options){.threads = 1, .keep_logits = true}, NULL);
	mspec_forward_destroy(&f);
	mspec_tokens_destroy(&tokens);
	mspec_parameters_destroy(&parameters);
	mspec_model_destroy(&model);
	return code;
}

static void test_exhausted_memory(void)
{
	const mspec_model_config config = fixture_llama();
	char path[512], token_path[512];
	snprintf(path, sizeof path, "%s", scratch_path("forward-memory.h5"));
	snprintf(token_path, sizeof token_path, "%s", scratch_path("forward-memory-tokens"));
	float *parameters = model_file_parameters(&config, 9);
	const model_file file = MODEL_FILE(&config, parameters);
	model_file_write(path, &file);
	scratch_write(token_path, "1 2 3 4 5", 9);
	mspec_checkpoint *checkpoint = scratch_open(path);
	int left;
	const muon_allocator allocator = unit_failing_allocator(&left);
	int code = MUON_E_MEMORY;
	for (int k = 0; k < 5000 && code; k++) {
		left = k;
		muon_set_allocator(&allocator);
		code = load_and_run(checkpoint, token_path);
		muon_set_allocator(NULL);
		CU_ASSERT_TRUE(code == MUON_OK || code == MUON_E_MEMORY);
	}
	CU_ASSERT_EQUAL(code, MUON_OK);
	mspec_close(&checkpoint);
	muon_free(parameters);
}

UNIT_SUITE(forward, {"loading", test_loading}, {"no_model", test_no_model},
           {"bad_configurations", test_bad_configurations},
           {"other_configurations", test_other_configurations}, {"windows", test_windows},
           {"experts", test_experts}, {"threads", test_threads},
           {"refused_runs", test_refused_runs}, {"not_finite", test_not_finite},
           {"logits_file", test_logits_file}, {"tokens", test_tokens},
           {"bad_tokens", test_bad_tokens}, {"exhausted_memory", test_exhausted_memory})
