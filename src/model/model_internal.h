/* What a laid-out model is, for the files of this layer. Nothing here depends on the arithmetic;
 * template/operators.h does. */
#ifndef MSPEC_MODEL_INTERNAL_H
#define MSPEC_MODEL_INTERNAL_H

#include "base/memory.h"

#include <muonspec/model.h>

#define MSPEC_MOST_PARAMETERS ((int64_t)1 << 48)

/* Indices of one layer's tensors. Tensors that read the same input follow each other without a gap
 * in the flat array ("a group"), so that one matrix product computes them all: q, k, v; q and kv_a
 * of MLA; gate, up of each MLP, whose down is the tensor after them. */
typedef struct mspec_model_layer {
	size_t attention_norm;
	size_t q, k, v, o;               /* LLAMA; MLA has q and o too */
	size_t kv_a, kv_a_norm, kv_b;    /* MLA: kv_a is [kv_rank + rope_dim, hidden], kv_b is
	                                    [heads (nope_dim + value_dim), kv_rank] */
	size_t mlp_norm;
	bool is_moe;
	size_t gate;                     /* of a dense MLP; up and down are the next two */
	size_t router, router_bias;      /* [experts, hidden]; [experts], not trained */
	size_t shared_gate;              /* gate, up, down of the shared experts, as one MLP of width
	                                    shared_experts * expert_ffn */
	size_t experts;                  /* gate of expert 0; that of expert e: experts + 3 e */
} mspec_model_layer;

struct mspec_model {
	mspec_model_config config;
	mspec_model_tensor *tensors;
	size_t tensor_count;
	int64_t parameter_count;
	size_t embedding, final_norm;
	size_t head;                     /* the embedding, if tied */
	mspec_model_layer *layers;
	int64_t largest_group;           /* entries of the largest group, at most */
	muon_arena arena;                /* tensors, their names, layers */
};

/* The tokens a workspace is made for, or a run works on. */
typedef struct mspec_batch {
	int64_t sequences, length;
	bool backward; /* is what backward needs kept? */
} mspec_batch;

/* Sizes saturate at SIZE_MAX, which no allocation grants. */
static inline size_t mspec_plus(size_t a, size_t b)
{
	return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

static inline size_t mspec_times(size_t a, size_t b)
{
	return b && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

/* Entries of a query that rotate. */
static inline int64_t mspec_rotating_dims(const mspec_model_config *config)
{
	return config->family == MSPEC_FAMILY_DEEPSEEK ? config->rope_dim : config->head_dim;
}

/* Rows of activations: one a token. */
static inline size_t mspec_batch_rows(const mspec_batch *batch)
{
	return mspec_times((size_t)batch->sequences, (size_t)batch->length);
}

#endif
