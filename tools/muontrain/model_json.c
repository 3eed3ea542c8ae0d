#include "model_json.h"

#include <jansson.h>

static json_t *shared_keys(const mspec_model_config *c, const char *type)
{
	return json_pack(
	    "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:b, s:s}", "model_type", type,
	    "vocab_size", (json_int_t)c->vocab, "hidden_size", (json_int_t)c->hidden,
	    "num_hidden_layers", (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads,
	    "intermediate_size", (json_int_t)c->ffn, "max_position_embeddings",
	    (json_int_t)c->context, "rope_theta", c->rope_theta, "rms_norm_eps", c->norm_eps,
	    "initializer_range", c->init_std, "tie_word_embeddings", (int)c->tied_head, "hidden_act",
	    "silu");
}

static json_t *llama_keys(const mspec_model_config *c)
{
	return json_pack("{s:I, s:I}", "num_key_value_heads", (json_int_t)c->kv_heads, "head_dim",
	                 (json_int_t)c->head_dim);
}

static json_t *deepseek_keys(const mspec_model_config *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:n, s:s, s:s, "
	                 "s:b, s:I, s:I}",
	                 "num_key_value_heads", (json_int_t)c->heads, "first_k_dense_replace",
	                 (json_int_t)c->dense_layers, "n_routed_experts", (json_int_t)c->experts,
	                 "n_shared_experts", (json_int_t)c->shared_experts, "num_experts_per_tok",
	                 (json_int_t)c->top_k, "moe_intermediate_size", (json_int_t)c->expert_ffn,
	                 "routed_scaling_factor", c->routed_scale, "kv_lora_rank",
	                 (json_int_t)c->kv_rank, "qk_nope_head_dim", (json_int_t)c->nope_dim,
	                 "qk_rope_head_dim", (json_int_t)c->rope_dim, "v_head_dim",
	                 (json_int_t)c->value_dim, "q_lora_rank", "scoring_func", "sigmoid",
	                 "topk_method", "noaux_tc", "norm_topk_prob", 1, "n_group", (json_int_t)1,
	                 "topk_group", (json_int_t)1);
}

char *model_json(const mspec_model_config *c)
{
	bool llama = c->family == MSPEC_FAMILY_LLAMA;
	json_t *all = shared_keys(c, llama ? "llama" : "deepseek_v3");
	json_t *more = llama ? llama_keys(c) : deepseek_keys(c);
	char *text = NULL;
	if (all && more && !json_object_update(all, more))
		text = json_dumps(all, JSON_ENSURE_ASCII | JSON_REAL_PRECISION(17) | JSON_COMPACT);
	json_decref(all);
	json_decref(more);
	return text;
}
