/* Which norm feeds a weight, by the names of the models whose structure they tell. */
#include "base/text.h"
#include "checkpoint/names.h"
#include "checkpoint/reader.h"

#include <stdio.h>
#include <string.h>

/* `weight` and `gain` follow the same prefix; '#' stands for a number. A weight may have several
 * lines, the first gain that exists counts. */
static const struct {
	const char *weight, *gain;
} feeds[] = {
    /* Llama, Qwen, Mistral, Phi-3; DeepSeek and Moonlight */
    {"self_attn.q_proj.weight", "input_layernorm.weight"},
    {"self_attn.k_proj.weight", "input_layernorm.weight"},
    {"self_attn.v_proj.weight", "input_layernorm.weight"},
    {"self_attn.qkv_proj.weight", "input_layernorm.weight"},
    {"self_attn.q_a_proj.weight", "input_layernorm.weight"},
    {"self_attn.kv_a_proj_with_mqa.weight", "input_layernorm.weight"},
    {"self_attn.q_b_proj.weight", "self_attn.q_a_layernorm.weight"},
    {"self_attn.kv_b_proj.weight", "self_attn.kv_a_layernorm.weight"},
    {"mlp.gate_proj.weight", "post_attention_layernorm.weight"},
    {"mlp.up_proj.weight", "post_attention_layernorm.weight"},
    {"mlp.gate_up_proj.weight", "post_attention_layernorm.weight"},
    {"mlp.gate.weight", "post_attention_layernorm.weight"},
    {"mlp.experts.#.gate_proj.weight", "post_attention_layernorm.weight"},
    {"mlp.experts.#.up_proj.weight", "post_attention_layernorm.weight"},
    {"mlp.shared_experts.gate_proj.weight", "post_attention_layernorm.weight"},
    {"mlp.shared_experts.up_proj.weight", "post_attention_layernorm.weight"},
    {"mlp.shared_expert.gate_proj.weight", "post_attention_layernorm.weight"},
    {"mlp.shared_expert.up_proj.weight", "post_attention_layernorm.weight"},
    {"mlp.shared_expert_gate.weight", "post_attention_layernorm.weight"},
    {"block_sparse_moe.gate.weight", "post_attention_layernorm.weight"},
    {"block_sparse_moe.experts.#.w1.weight", "post_attention_layernorm.weight"},
    {"block_sparse_moe.experts.#.w3.weight", "post_attention_layernorm.weight"},
    {"lm_head.weight", "model.norm.weight"},
    {"lm_head.weight", "norm.weight"},
    /* Meta's Llama and llama2.c; DeepSeek's own names */
    {"attention.wq.weight", "attention_norm.weight"},
    {"attention.wk.weight", "attention_norm.weight"},
    {"attention.wv.weight", "attention_norm.weight"},
    {"feed_forward.w1.weight", "ffn_norm.weight"},
    {"feed_forward.w3.weight", "ffn_norm.weight"},
    {"output.weight", "norm.weight"},
    {"attn.wq.weight", "attn_norm.weight"},
    {"attn.wq_a.weight", "attn_norm.weight"},
    {"attn.wkv_a.weight", "attn_norm.weight"},
    {"attn.wq_b.weight", "attn.q_norm.weight"},
    {"attn.wkv_b.weight", "attn.kv_norm.weight"},
    {"ffn.w1.weight", "ffn_norm.weight"},
    {"ffn.w3.weight", "ffn_norm.weight"},
    {"ffn.gate.weight", "ffn_norm.weight"},
    {"ffn.experts.#.w1.weight", "ffn_norm.weight"},
    {"ffn.experts.#.w3.weight", "ffn_norm.weight"},
    {"ffn.shared_experts.w1.weight", "ffn_norm.weight"},
    {"ffn.shared_experts.w3.weight", "ffn_norm.weight"},
    {"head.weight", "norm.weight"},
    /* GPT-2 and GPT-NeoX */
    {"attn.c_attn.weight", "ln_1.weight"},
    {"mlp.c_fc.weight", "ln_2.weight"},
    {"lm_head.weight", "transformer.ln_f.weight"},
    {"lm_head.weight", "ln_f.weight"},
    {"attention.query_key_value.weight", "input_layernorm.weight"},
    {"mlp.dense_h_to_4h.weight", "post_attention_layernorm.weight"},
    {"embed_out.weight", "gpt_neox.final_layer_norm.weight"},
};

/* Length of the prefix before `pattern` at the end of the name, SIZE_MAX if it isn't there. */
static size_t prefix_before(const char *name, size_t at, const char *pattern)
{
	for (size_t p = strlen(pattern); p; p--) {
		if (!at)
			return SIZE_MAX;
		char c = name[--at];
		if (pattern[p - 1] != '#') {
			if (c != pattern[p - 1])
				return SIZE_MAX;
			continue;
		}
		if (!mspec_is_digit(c))
			return SIZE_MAX;
		while (at && mspec_is_digit(name[at - 1]))
			at--;
	}
	return !at || name[at - 1] == '.' ? at : SIZE_MAX;
}

/* Tensors are sorted by (order, name). */
static size_t find_tensor(const mspec_checkpoint *checkpoint, int64_t order, const char *name)
{
	size_t low = 0, high = checkpoint->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const mspec_entry *entry = &checkpoint->entries[middle];
		int side = order != entry->order ? (order < entry->order ? -1 : 1)
						 : muon_natural_compare(name, entry->tensor.name);
		if (!side)
			return middle;
		if (side < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return SIZE_MAX;
}

/* The tensor called `prefix_length` bytes of `like` followed by `tail`. */
static size_t find_sibling(const mspec_checkpoint *checkpoint, size_t like, size_t prefix_length,
			   const char *tail)
{
	char name[1024];
	const mspec_entry *entry = &checkpoint->entries[like];
	if (prefix_length + strlen(tail) >= sizeof name)
		return SIZE_MAX; /* no real model has such names */
	memcpy(name, entry->tensor.name, prefix_length);
	memcpy(name + prefix_length, tail, strlen(tail) + 1);
	return find_tensor(checkpoint, entry->order, name);
}

size_t mspec_gain_tensor(const mspec_checkpoint *checkpoint, const mspec_matrix *matrix)
{
	const mspec_tensor *weight = mspec_tensor_at(checkpoint, matrix->tensor);
	if (weight->role != MSPEC_ROLE_PARAMETER)
		return SIZE_MAX;
	size_t length = strlen(weight->name);
	for (size_t i = 0; i < sizeof feeds / sizeof *feeds; i++) {
		size_t prefix = prefix_before(weight->name, length, feeds[i].weight);
		if (prefix == SIZE_MAX)
			continue;
		size_t found = find_sibling(checkpoint, matrix->tensor, prefix, feeds[i].gain);
		if (found == SIZE_MAX)
			continue;
		/* Gemma 2 scales by 1 + g, OLMo 2 puts its norms after the weights: both show here
		 */
		if (find_sibling(checkpoint, matrix->tensor, prefix,
				 "post_feedforward_layernorm.weight") != SIZE_MAX)
			return SIZE_MAX;
		const mspec_tensor *gain = mspec_tensor_at(checkpoint, found);
		bool fits = gain->rank == 1 && gain->dims[0] == matrix->cols && !gain->status &&
			    gain->role == MSPEC_ROLE_PARAMETER && muon_dtype_is_float(gain->dtype);
		return fits ? found : SIZE_MAX;
	}
	return SIZE_MAX;
}
