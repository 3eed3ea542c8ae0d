/* A model's configuration from the JSON that its checkpoint carries. */
#include <muonspec/forward.h>

#include <jansson.h>
#include <math.h>
#include <string.h>

/* A configuration being read; the first problem ends it. */
typedef struct reading {
	const json_t *json;
	const char *path;
	muon_error *err;
	int code;
} reading;

static void refuse(reading *r, const char *key, const char *what)
{
	if (!r->code)
		r->code =
		    muon_fail(r->err, MUON_E_FORMAT, r->path, "configuration: %s %s", key, what);
}

/* The value of a key that is there and not null. */
static const json_t *stated(const reading *r, const char *key)
{
	const json_t *value = json_object_get(r->json, key);
	return json_is_null(value) ? NULL : value;
}

/* `absent` NaN: the key is needed. */
static double number(reading *r, const char *key, double absent)
{
	const json_t *value = stated(r, key);
	if (!value) {
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
	const double most = 1e9; /* mspec_model_config_check allows less */
	double value = number(r, key, absent);
	if (r->code)
		return 0;
	if (!(fabs(value) <= most) || value != floor(value)) {
		refuse(r, key, "is not a sensible whole number");
		return 0;
	}
	return (int64_t)value;
}

/* ---- what we don't have ------------------------------------------------------------------- */

/* A feature that changes the arithmetic. */
static void refuse_if_set(reading *r, const char *key)
{
	const json_t *value = stated(r, key);
	if (value && !json_is_false(value))
		refuse(r, key, "is set, which is not supported");
}

static void refuse_if_false(reading *r, const char *key)
{
	if (json_is_false(stated(r, key)))
		refuse(r, key, "is false, which is not supported");
}

/* A choice, where it is stated, of which only one is supported. */
static void refuse_unless(reading *r, const char *key, const char *supported)
{
	const json_t *value = stated(r, key);
	const char *text = json_string_value(value);
	if (value && !(text && !strcmp(text, supported)))
		refuse(r, key, "has a value that is not supported");
}

static void read_rope(reading *r, mspec_model_config *c)
{
	/* transformers 5 has one object for what were two keys */
	const json_t *parameters = stated(r, "rope_parameters"), *outer = r->json;
	refuse_if_set(r, "rope_scaling");
	if (json_is_object(parameters))
		r->json = parameters;
	refuse_unless(r, "rope_type", "default");
	c->rope_theta = number(r, "rope_theta", 10000);
	r->json = outer;
}

/* ---- families ------------------------------------------------------------------------------ */

static void read_llama(reading *r, mspec_model_config *c)
{
	c->family = MSPEC_FAMILY_LLAMA;
	c->kv_heads = whole(r, "num_key_value_heads", (double)c->heads);
	c->head_dim = whole(r, "head_dim", c->heads > 0 ? (double)(c->hidden / c->heads) : 0);
	refuse_if_set(r, "attention_bias");
	refuse_if_set(r, "mlp_bias");
}

/* A window of attention is none in sequences that are no longer. */
static void read_mistral(reading *r, mspec_model_config *c)
{
	read_llama(r, c);
	int64_t window = whole(r, "sliding_window", (double)c->context);
	c->context = window < c->context ? window : c->context;
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
	refuse_if_set(r, "attention_bias");
	refuse_unless(r, "scoring_func", "sigmoid");
	refuse_unless(r, "topk_method", "noaux_tc");
	refuse_if_false(r, "norm_topk_prob");
	refuse_if_false(r, "rope_interleave");
	if (whole(r, "n_group", 1) != 1)
		refuse(r, "n_group", "is not 1, which is not supported");
	if (whole(r, "moe_layer_freq", 1) != 1)
		refuse(r, "moe_layer_freq", "is not 1, which is not supported");
}

static void read_family(reading *r, mspec_model_config *c)
{
	const json_t *type = stated(r, "model_type");
	const char *name = type ? json_string_value(type) : "llama";
	if (name && !strcmp(name, "llama"))
		read_llama(r, c);
	else if (name && !strcmp(name, "mistral"))
		read_mistral(r, c);
	else if (name && !strcmp(name, "deepseek_v3"))
		read_deepseek(r, c);
	else
		refuse(r, "model_type", "is none of llama, mistral, deepseek_v3");
}

static void read_config(reading *r, mspec_model_config *c)
{
	c->vocab = whole(r, "vocab_size", NAN);
	c->hidden = whole(r, "hidden_size", NAN);
	c->layers = whole(r, "num_hidden_layers", NAN);
	c->heads = whole(r, "num_attention_heads", NAN);
	c->ffn = whole(r, "intermediate_size", NAN);
	c->context = whole(r, "max_position_embeddings", NAN);
	c->norm_eps = number(r, "rms_norm_eps", 1e-6);
	c->init_std = number(r, "initializer_range", 0.02);
	c->tied_head = json_is_true(stated(r, "tie_word_embeddings"));
	refuse_unless(r, "hidden_act", "silu");
	read_rope(r, c);
	read_family(r, c);
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Sizes that the file can't have, before anybody allocates by them. */
static int check_against_file(const mspec_model_config *c, const mspec_checkpoint *checkpoint,
                              muon_error *err)
{
	enum { A_LAYER = 8, AN_EXPERT = 3 }; /* tensors that each has at least */
	size_t tensors = mspec_tensor_count(checkpoint);
	int64_t needed = c->layers * A_LAYER, mixed = c->layers - c->dense_layers;
	if (c->family == MSPEC_FAMILY_DEEPSEEK)
		needed += (mixed > 0 ? mixed : 1) * c->experts * AN_EXPERT;
	if ((size_t)needed <= tensors)
		return MUON_OK;
	return muon_fail(err, MUON_E_FORMAT, mspec_info(checkpoint)->path,
	                 "has %zu tensors, too few for the layers and experts of its configuration",
	                 tensors);
}

static int check(const mspec_model_config *c, const mspec_checkpoint *checkpoint, muon_error *err)
{
	muon_error reason = {0};
	if (mspec_model_config_check(c, &reason))
		return muon_fail(err, MUON_E_FORMAT, mspec_info(checkpoint)->path,
		                 "configuration: %s", reason.message);
	return check_against_file(c, checkpoint, err);
}

int mspec_model_config_read(mspec_model_config *config, const mspec_checkpoint *checkpoint,
                            muon_error *err)
{
	const mspec_checkpoint_info *info = mspec_info(checkpoint);
	*config = (mspec_model_config){0};
	if (!info->config)
		return muon_fail(err, MUON_E_FORMAT, info->path,
		                 "does not say what model it is: it has no attribute 'config', and "
		                 "there is no config.json beside it");
	json_error_t reason;
	json_t *json = json_loads(info->config, JSON_REJECT_DUPLICATES, &reason);
	reading r = {.json = json, .path = info->path, .err = err};
	if (json_is_object(json))
		read_config(&r, config);
	else
		r.code = muon_fail(err, MUON_E_FORMAT, info->path,
		                   "the model's configuration is not a JSON object");
	json_decref(json);
	return r.code ? r.code : check(config, checkpoint, err);
}
