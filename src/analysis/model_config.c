/* A model's configuration from the JSON that its checkpoint carries. */
#include <jansson.h>
#include <math.h>
#include <muonspec/forward.h>
#include <string.h>

/* A configuration being read; the first problem ends it. */
typedef struct reading {
	const json_t *json;
	const char *where;
	int code;
	muon_error *err;
} reading;

static void refuse(reading *r, const char *key, const char *what)
{
	if (!r->code)
		r->code =
		    muon_fail(r->err, MUON_E_FORMAT, r->where, "configuration: %s %s", key, what);
}

static double number(reading *r, const char *key, double absent)
{
	const json_t *value = json_object_get(r->json, key);
	if (!value || json_is_null(value)) {
		if (isnan(absent))
			refuse(r, key, "is missing");
		return absent;
	}
	if (!json_is_number(value))
		refuse(r, key, "is not a number");
	return json_number_value(value);
}

static int64_t whole(reading *r, const char *key, double absent)
{
	double value = number(r, key, absent);
	if (isnan(value))
		return 0;
	if (value != floor(value) || fabs(value) > 1e9)
		refuse(r, key, "is not a sensible whole number");
	return fabs(value) <= 1e9 ? (int64_t)value : 0;
}

/* A feature that changes the arithmetic in a way that we don't have. */
static void refuse_if_set(reading *r, const char *key)
{
	const json_t *value = json_object_get(r->json, key);
	if (value && !json_is_null(value) && !json_is_false(value))
		refuse(r, key, "is set, which is not supported");
}

static void read_llama(reading *r, mspec_model_config *c)
{
	c->family = MSPEC_FAMILY_LLAMA;
	c->kv_heads = whole(r, "num_key_value_heads", (double)c->heads);
	c->head_dim = whole(r, "head_dim", c->heads > 0 ? (double)(c->hidden / c->heads) : 0);
	refuse_if_set(r, "attention_bias");
	refuse_if_set(r, "mlp_bias");
	refuse_if_set(r, "rope_scaling");
}

static void read_deepseek(reading *r, mspec_model_config *c)
{
	c->family = MSPEC_FAMILY_DEEPSEEK;
	c->kv_heads = c->heads;
	c->dense_layers = whole(r, "first_k_dense_replace", NAN);
	c->experts = whole(r, "n_routed_experts", NAN);
	c->shared_experts = whole(r, "n_shared_experts", NAN);
	c->top_k = whole(r, "num_experts_per_tok", NAN);
	c->expert_ffn = whole(r, "moe_intermediate_size", NAN);
	c->routed_scale = number(r, "routed_scaling_factor", 1);
	c->kv_rank = whole(r, "kv_lora_rank", NAN);
	c->nope_dim = whole(r, "qk_nope_head_dim", NAN);
	c->rope_dim = whole(r, "qk_rope_head_dim", NAN);
	c->value_dim = whole(r, "v_head_dim", NAN);
	refuse_if_set(r, "q_lora_rank");
	refuse_if_set(r, "rope_scaling");
	if (whole(r, "n_group", 1) > 1)
		refuse(r, "n_group", "is over 1, which is not supported");
}

static void read_config(reading *r, mspec_model_config *c)
{
	const char *type = json_string_value(json_object_get(r->json, "model_type"));
	const json_t *tied = json_object_get(r->json, "tie_word_embeddings");
	c->vocab = whole(r, "vocab_size", NAN);
	c->hidden = whole(r, "hidden_size", NAN);
	c->layers = whole(r, "num_hidden_layers", NAN);
	c->heads = whole(r, "num_attention_heads", NAN);
	c->ffn = whole(r, "intermediate_size", NAN);
	c->context = whole(r, "max_position_embeddings", NAN);
	c->rope_theta = number(r, "rope_theta", 10000);
	c->norm_eps = number(r, "rms_norm_eps", 1e-6);
	c->init_std = number(r, "initializer_range", 0.02);
	c->tied_head = json_is_true(tied);
	if (type && !strncmp(type, "deepseek", strlen("deepseek")))
		read_deepseek(r, c);
	else if (!type || !strcmp(type, "llama") || !strcmp(type, "mistral"))
		read_llama(r, c);
	else
		refuse(r, "model_type", "is neither llama nor deepseek_v3");
}

int mspec_model_config_read(mspec_model_config *config, const mspec_checkpoint_info *checkpoint,
			    muon_error *err)
{
	*config = (mspec_model_config){0};
	if (!checkpoint->config)
		return muon_fail(err, MUON_E_FORMAT, checkpoint->path,
				 "does not say what model it is: no attribute config, and no "
				 "config.json beside it");
	json_error_t reason;
	json_t *json = json_loads(checkpoint->config, JSON_REJECT_DUPLICATES, &reason);
	reading r = {json, checkpoint->path, MUON_OK, err};
	if (!json_is_object(json))
		r.code = muon_fail(err, MUON_E_FORMAT, checkpoint->path,
				   "the model's configuration is not a JSON object");
	else
		read_config(&r, config);
	json_decref(json);
	return r.code ? r.code : mspec_model_config_check(config, err);
}
