/* Sizes of models: the presets, and which sizes make a model. */
#include "model/model_internal.h"

#include <math.h>
#include <string.h>

/* ---- presets ------------------------------------------------------------------------------ */

typedef struct preset {
	const char *name;
	mspec_model_config config;
} preset;

/* clang-format off */
#define BYTE_MODEL .vocab = 256, .rope_theta = 10000, .norm_eps = 1e-5
static const preset presets[] = {
    {"llama-tiny", {.family = MSPEC_FAMILY_LLAMA, BYTE_MODEL, .hidden = 64, .layers = 2, .heads = 4,
                    .kv_heads = 4, .head_dim = 16, .ffn = 176, .context = 128, .init_std = 0.05}},
    {"llama-1m", {.family = MSPEC_FAMILY_LLAMA, BYTE_MODEL, .hidden = 128, .layers = 5, .heads = 4,
                  .kv_heads = 4, .head_dim = 32, .ffn = 352, .context = 256, .init_std = 0.035}},
    {"llama-10m", {.family = MSPEC_FAMILY_LLAMA, BYTE_MODEL, .hidden = 384, .layers = 6, .heads = 6,
                   .kv_heads = 6, .head_dim = 64, .ffn = 1024, .context = 256, .init_std = 0.02}},
    {"moe-tiny", {.family = MSPEC_FAMILY_DEEPSEEK, BYTE_MODEL, .hidden = 64, .layers = 3, .heads = 4,
                  .ffn = 176, .context = 128, .init_std = 0.05, .dense_layers = 1, .experts = 8,
                  .shared_experts = 1, .top_k = 2, .expert_ffn = 48, .routed_scale = 1.414,
                  .kv_rank = 32, .nope_dim = 16, .rope_dim = 8, .value_dim = 16}},
    {"moe-2m", {.family = MSPEC_FAMILY_DEEPSEEK, BYTE_MODEL, .hidden = 128, .layers = 4, .heads = 8,
                .ffn = 352, .context = 256, .init_std = 0.035, .dense_layers = 1, .experts = 16,
                .shared_experts = 1, .top_k = 4, .expert_ffn = 80, .routed_scale = 2,
                .kv_rank = 64, .nope_dim = 24, .rope_dim = 8, .value_dim = 24}},
};
/* clang-format on */

enum { PRESETS = sizeof presets / sizeof *presets };

int mspec_model_preset(mspec_model_config *config, const char *name)
{
	for (size_t i = 0; i < PRESETS; i++)
		if (!strcmp(presets[i].name, name)) {
			*config = presets[i].config;
			return MUON_OK;
		}
	return MUON_E_USAGE;
}

const char *const *mspec_model_presets(void)
{
	static const char *const names[] = {"llama-tiny", "llama-1m", "llama-10m",
	                                    "moe-tiny",   "moe-2m",   NULL};
	return names;
}

/* ---- checks ------------------------------------------------------------------------------- */

enum { LARGEST = 1 << 24 }; /* of any width: sums of a few still fit BLAS' int */

typedef struct size_row {
	const char *name;
	int64_t value, least;
} size_row;

static int check_sizes(const size_row *rows, size_t count, muon_error *err)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].value < rows[i].least || rows[i].value > LARGEST)
			return muon_fail(err, MUON_E_USAGE, NULL, "%s is %lld, not %lld to %d",
			                 rows[i].name, (long long)rows[i].value,
			                 (long long)rows[i].least, (int)LARGEST);
	return MUON_OK;
}

static int check_product(const char *what, int64_t a, int64_t b, muon_error *err)
{
	if (a * b > LARGEST)
		return muon_fail(err, MUON_E_USAGE, NULL, "%s together are %lld, over %d", what,
		                 (long long)(a * b), (int)LARGEST);
	return MUON_OK;
}

static int check_even(const char *what, int64_t value, muon_error *err)
{
	if (value % 2)
		return muon_fail(err, MUON_E_USAGE, NULL,
		                 "%s is %lld, but rotary positions turn pairs", what,
		                 (long long)value);
	return MUON_OK;
}

static int check_llama(const mspec_model_config *c, muon_error *err)
{
	const size_row sizes[] = {{"kv_heads", c->kv_heads, 1}, {"head_dim", c->head_dim, 1}};
	int code = check_sizes(sizes, sizeof sizes / sizeof *sizes, err);
	if (!code)
		code = check_even("head_dim", c->head_dim, err);
	if (!code)
		code = check_product("heads * head_dim", c->heads, c->head_dim, err);
	if (!code && c->heads % c->kv_heads)
		code = muon_fail(err, MUON_E_USAGE, NULL,
		                 "%lld heads can't be shared out among %lld kv_heads",
		                 (long long)c->heads, (long long)c->kv_heads);
	return code;
}

static int check_deepseek(const mspec_model_config *c, muon_error *err)
{
	const size_row sizes[] = {
	    {"dense_layers", c->dense_layers, 0}, {"experts", c->experts, 1},
	    {"top_k", c->top_k, 1},               {"shared_experts", c->shared_experts, 0},
	    {"expert_ffn", c->expert_ffn, 1},     {"kv_rank", c->kv_rank, 1},
	    {"nope_dim", c->nope_dim, 1},         {"rope_dim", c->rope_dim, 2},
	    {"value_dim", c->value_dim, 1}};
	int code = check_sizes(sizes, sizeof sizes / sizeof *sizes, err);
	if (!code)
		code = check_even("rope_dim", c->rope_dim, err);
	if (!code)
		code = check_product("heads * (nope_dim + rope_dim)", c->heads,
		                     c->nope_dim + c->rope_dim, err);
	if (!code)
		code = check_product("heads * (nope_dim + value_dim)", c->heads,
		                     c->nope_dim + c->value_dim, err);
	if (!code)
		code = check_product("shared_experts * expert_ffn", c->shared_experts,
		                     c->expert_ffn, err);
	if (!code && c->dense_layers > c->layers)
		code = muon_fail(err, MUON_E_USAGE, NULL,
		                 "dense_layers is %lld, but there are %lld layers",
		                 (long long)c->dense_layers, (long long)c->layers);
	if (!code && c->top_k > c->experts)
		code = muon_fail(err, MUON_E_USAGE, NULL, "top_k is %lld, but there are %lld experts",
		                 (long long)c->top_k, (long long)c->experts);
	if (!code && !isfinite(c->routed_scale))
		code = muon_fail(err, MUON_E_USAGE, NULL, "routed_scale is not a number");
	return code;
}

int mspec_model_config_check(const mspec_model_config *c, muon_error *err)
{
	const size_row sizes[] = {{"vocab", c->vocab, 1},   {"hidden", c->hidden, 1},
	                          {"layers", c->layers, 1}, {"heads", c->heads, 1},
	                          {"ffn", c->ffn, 1},       {"context", c->context, 1}};
	int code = check_sizes(sizes, sizeof sizes / sizeof *sizes, err);
	if (code)
		return code;
	if (!(c->rope_theta > 0) || !isfinite(c->rope_theta))
		return muon_fail(err, MUON_E_USAGE, NULL, "rope_theta is %g, not above 0",
		                 c->rope_theta);
	if (!(c->norm_eps >= 0) || !isfinite(c->norm_eps))
		return muon_fail(err, MUON_E_USAGE, NULL, "norm_eps is %g, below 0", c->norm_eps);
	if (!(c->init_std >= 0) || !isfinite(c->init_std))
		return muon_fail(err, MUON_E_USAGE, NULL, "init_std is %g, below 0", c->init_std);
	switch (c->family) {
	case MSPEC_FAMILY_LLAMA:
		return check_llama(c, err);
	case MSPEC_FAMILY_DEEPSEEK:
		return check_deepseek(c, err);
	}
	return muon_fail(err, MUON_E_USAGE, NULL, "no such family of models");
}
