/* The flat parameter array: which tensors a model has, in which order, and how they start. */
#include "model/model_internal.h"

#include "base/random.h"

#include <stdio.h>

/* ---- laying out --------------------------------------------------------------------------- */

enum { MOST_TENSORS = 1 << 20 }; /* the largest models that there are have a tenth */

/* A model being laid out; the first failure stays in `code`. */
typedef struct layout {
	mspec_model *model;
	int layer;     /* -1: of no layer */
	int64_t group; /* entries of the matrices up to here that read the same input */
	int code;
} layout;

static size_t tensor_capacity(const mspec_model_config *c)
{
	size_t beside_experts = 16; /* more than any layer has */
	size_t experts = c->family == MSPEC_FAMILY_DEEPSEEK ? (size_t)c->experts : 0;
	size_t of_layer = mspec_plus(beside_experts, mspec_times(3, experts));
	return mspec_plus(3, mspec_times((size_t)c->layers, of_layer));
}

/* Add tensor `part``name`; returns its index. */
static size_t add(layout *at, muon_role role, int rank, int64_t out, int64_t in, const char *part,
                  const char *name)
{
	mspec_model *model = at->model;
	mspec_model_tensor *tensor = &model->tensors[model->tensor_count];
	if (at->code)
		return 0;
	bool same_input = rank == 2 && at->group && tensor[-1].rank == 2 && tensor[-1].dims[1] == in;
	*tensor = (mspec_model_tensor){
	    .name = at->layer < 0 ? muon_arena_format(&model->arena, "%s%s", part, name)
	                          : muon_arena_format(&model->arena, "model.layers.%d.%s%s",
	                                              at->layer, part, name),
	    .rank = rank,
	    .dims = {out, in},
	    .offset = model->parameter_count,
	    .count = out * in,
	    .role = role,
	    .layer = at->layer,
	    .trained = true,
	};
	if (!tensor->name)
		at->code = MUON_E_MEMORY;
	else if (tensor->count > MSPEC_MOST_PARAMETERS - model->parameter_count)
		at->code = MUON_E_USAGE;
	else
		model->parameter_count += tensor->count;
	at->group = (same_input ? at->group : 0) + tensor->count;
	if (at->group > model->largest_group)
		model->largest_group = at->group;
	return model->tensor_count++;
}

static size_t add_matrix(layout *at, int64_t out, int64_t in, const char *name)
{
	return add(at, MUON_ROLE_HIDDEN, 2, out, in, "", name);
}

static size_t add_vector(layout *at, int64_t count, const char *name)
{
	return add(at, MUON_ROLE_VECTOR, 1, count, 1, "", name);
}

/* Gate, up and down of "`part`gate_proj.weight" and so on; returns the gate's index. */
static size_t add_mlp(layout *at, int64_t width, const char *part)
{
	const int64_t hidden = at->model->config.hidden;
	size_t gate = add(at, MUON_ROLE_HIDDEN, 2, width, hidden, part, "gate_proj.weight");
	add(at, MUON_ROLE_HIDDEN, 2, width, hidden, part, "up_proj.weight");
	add(at, MUON_ROLE_HIDDEN, 2, hidden, width, part, "down_proj.weight");
	return gate;
}

static void add_attention(layout *at, mspec_model_layer *layer)
{
	const mspec_model_config *c = &at->model->config;
	int64_t width = c->heads * c->head_dim, kv_width = c->kv_heads * c->head_dim;
	layer->q = add_matrix(at, width, c->hidden, "self_attn.q_proj.weight");
	layer->k = add_matrix(at, kv_width, c->hidden, "self_attn.k_proj.weight");
	layer->v = add_matrix(at, kv_width, c->hidden, "self_attn.v_proj.weight");
	layer->o = add_matrix(at, c->hidden, width, "self_attn.o_proj.weight");
}

static void add_mla(layout *at, mspec_model_layer *layer)
{
	const mspec_model_config *c = &at->model->config;
	layer->q = add_matrix(at, c->heads * (c->nope_dim + c->rope_dim), c->hidden,
	                      "self_attn.q_proj.weight");
	layer->kv_a = add_matrix(at, c->kv_rank + c->rope_dim, c->hidden,
	                         "self_attn.kv_a_proj_with_mqa.weight");
	layer->kv_a_norm = add_vector(at, c->kv_rank, "self_attn.kv_a_layernorm.weight");
	layer->kv_b = add_matrix(at, c->heads * (c->nope_dim + c->value_dim), c->kv_rank,
	                         "self_attn.kv_b_proj.weight");
	layer->o = add_matrix(at, c->hidden, c->heads * c->value_dim, "self_attn.o_proj.weight");
}

static void add_moe(layout *at, mspec_model_layer *layer)
{
	const mspec_model_config *c = &at->model->config;
	layer->is_moe = true;
	layer->router =
	    add(at, MUON_ROLE_ROUTER, 2, c->experts, c->hidden, "", "mlp.gate.weight");
	layer->router_bias = add_vector(at, c->experts, "mlp.gate.e_score_correction_bias");
	at->model->tensors[layer->router_bias].trained = false;
	if (c->shared_experts)
		layer->shared_gate =
		    add_mlp(at, c->shared_experts * c->expert_ffn, "mlp.shared_experts.");
	for (int64_t e = 0; e < c->experts; e++) {
		char part[64];
		snprintf(part, sizeof part, "mlp.experts.%lld.", (long long)e);
		size_t gate = add_mlp(at, c->expert_ffn, part);
		if (e == 0)
			layer->experts = gate;
	}
}

static void add_layer(layout *at, mspec_model_layer *layer)
{
	const mspec_model_config *c = &at->model->config;
	const bool is_deepseek = c->family == MSPEC_FAMILY_DEEPSEEK;
	layer->attention_norm = add_vector(at, c->hidden, "input_layernorm.weight");
	if (is_deepseek)
		add_mla(at, layer);
	else
		add_attention(at, layer);
	layer->mlp_norm = add_vector(at, c->hidden, "post_attention_layernorm.weight");
	if (is_deepseek && at->layer >= c->dense_layers)
		add_moe(at, layer);
	else
		layer->gate = add_mlp(at, c->ffn, "mlp.");
}

static int lay_out(mspec_model *model)
{
	const mspec_model_config *c = &model->config;
	layout at = {.model = model, .layer = -1};
	if (tensor_capacity(c) > MOST_TENSORS)
		return MUON_E_USAGE;
	model->tensors =
	    muon_arena_alloc(&model->arena, tensor_capacity(c), sizeof *model->tensors);
	model->layers =
	    muon_arena_alloc(&model->arena, (size_t)c->layers, sizeof *model->layers);
	if (!model->tensors || !model->layers)
		return MUON_E_MEMORY;
	model->embedding = add(&at, MUON_ROLE_EMBEDDING, 2, c->vocab, c->hidden, "",
	                       "model.embed_tokens.weight");
	for (at.layer = 0; at.layer < c->layers && !at.code; at.layer++)
		add_layer(&at, &model->layers[at.layer]);
	at.layer = -1;
	model->final_norm = add_vector(&at, c->hidden, "model.norm.weight");
	model->head = model->embedding;
	if (!c->tied_head)
		model->head =
		    add(&at, MUON_ROLE_HEAD, 2, c->vocab, c->hidden, "", "lm_head.weight");
	return at.code;
}

int mspec_model_create(mspec_model **out, const mspec_model_config *config, muon_error *err)
{
	*out = NULL;
	int code = mspec_model_config_check(config, err);
	if (code)
		return code;
	mspec_model *model = muon_alloc(1, sizeof *model);
	if (!model)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	model->config = *config;
	code = lay_out(model);
	if (code) {
		mspec_model_destroy(&model);
		return muon_fail(err, code, NULL,
		                 code == MUON_E_MEMORY ? "out of memory for the model's tensors"
		                                       : "the model is too large");
	}
	*out = model;
	return MUON_OK;
}

void mspec_model_destroy(mspec_model **model)
{
	if (!*model)
		return;
	muon_arena_release(&(*model)->arena);
	muon_free(*model);
	*model = NULL;
}

/* ---- what there is ------------------------------------------------------------------------ */

const mspec_model_config *mspec_model_config_of(const mspec_model *model)
{
	return &model->config;
}

size_t mspec_model_tensor_count(const mspec_model *model)
{
	return model->tensor_count;
}

const mspec_model_tensor *mspec_model_tensor_at(const mspec_model *model, size_t index)
{
	return index < model->tensor_count ? &model->tensors[index] : NULL;
}

int64_t mspec_model_parameter_count(const mspec_model *model)
{
	return model->parameter_count;
}

int64_t mspec_model_active_parameters(const mspec_model *model)
{
	const mspec_model_config *c = &model->config;
	int64_t active = 0;
	for (size_t i = 0; i < model->tensor_count; i++) {
		const mspec_model_tensor *t = &model->tensors[i];
		if (t->rank == 2 && i != model->embedding && i != model->head)
			active += t->count;
	}
	for (int64_t l = 0; l < c->layers; l++)
		if (model->layers[l].is_moe)
			active -= (c->experts - c->top_k) * 3 * c->expert_ffn * c->hidden;
	return active;
}

double mspec_model_token_flops(const mspec_model *model, int64_t length)
{
	const mspec_model_config *c = &model->config;
	const bool is_deepseek = c->family == MSPEC_FAMILY_DEEPSEEK;
	double weights = (double)mspec_model_active_parameters(model) +
			 (double)model->tensors[model->head].count;
	double keys = ((double)length + 1) / 2; /* that a token sees, on average */
	double dims = (double)(is_deepseek ? c->nope_dim + c->rope_dim + c->value_dim
	                                   : 2 * c->head_dim);
	return 6 * (weights + (double)c->layers * (double)c->heads * dims * keys);
}

void mspec_model_initialize(const mspec_model *model, uint64_t seed, float *parameters)
{
	muon_random random;
	muon_random_seed(&random, seed);
	for (size_t i = 0; i < model->tensor_count; i++) {
		const mspec_model_tensor *t = &model->tensors[i];
		for (int64_t j = 0; j < t->count; j++)
			parameters[t->offset + j] =
			    t->rank == 2 ? (float)(model->config.init_std * muon_random_normal(&random))
			                 : (t->trained ? 1.0f : 0.0f);
	}
}
