/* Small decoder-only language models, forward and backward: dense Llama (RMSNorm, RoPE, SwiGLU) and
 * a DeepSeek-style mixture of experts (multi-head latent attention, shared and routed experts).
 *
 * A model's parameters are one flat float32 array, and so are its gradients; the tensors in it are
 * named as Hugging Face names them. One call works on one micro-batch with one thread, BLAS at one
 * thread, and adds nothing up across calls: several threads or ranks may each run one on the same
 * parameters, and the caller adds the gradients in a fixed order, so that results are the same bits
 * for any number of them. */
#ifndef MUONSPEC_MODEL_H
#define MUONSPEC_MODEL_H

#include <muon/optim.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what a model is --------------------------------------------------------------------- */

typedef enum mspec_family {
	MSPEC_FAMILY_LLAMA,   /* dense; grouped queries where kv_heads < heads */
	MSPEC_FAMILY_DEEPSEEK /* MLA, first dense_layers dense, then mixtures of experts */
} mspec_family;

typedef struct mspec_model_config {
	mspec_family family;
	int64_t vocab, hidden, layers, heads, kv_heads;
	int64_t head_dim;           /* of q and k; LLAMA */
	int64_t ffn;                /* width of a dense MLP */
	int64_t context;            /* longest sequence, in tokens */
	double rope_theta, norm_eps;
	bool tied_head;             /* the head is the embedding: no lm_head.weight */
	double init_std;            /* of every matrix' entries; output projections as the rest */
	/* DEEPSEEK */
	int64_t dense_layers;       /* first so many layers have a dense MLP */
	int64_t experts, shared_experts, top_k, expert_ffn;
	double routed_scale;        /* factor on the gates of the chosen experts, which are their
	                               scores over the sum of these; with top_k 1, their scores */
	int64_t kv_rank;            /* rank of the shared latent of keys and values */
	int64_t nope_dim, rope_dim, value_dim; /* of a head: not rotating, rotating, value */
} mspec_model_config;

/* The preset `name`: "llama-tiny", "llama-1m", "llama-10m", "moe-tiny", "moe-2m", byte vocabulary.
 * MUON_E_USAGE for another name. */
MUON_API int mspec_model_preset(mspec_model_config *config, const char *name);
MUON_API const char *const *mspec_model_presets(void); /* NULL-terminated */

/* MUON_E_USAGE, saying what is wrong, for sizes that make no model. */
MUON_API int mspec_model_config_check(const mspec_model_config *config, muon_error *err);

/* One tensor of the flat parameter array. */
typedef struct mspec_model_tensor {
	const char *name;      /* "model.layers.0.self_attn.q_proj.weight" */
	int rank;
	int64_t dims[2];       /* [out, in] */
	int64_t offset, count; /* entries in the flat array */
	muon_role role;
	int layer;             /* -1: of no layer */
	bool trained;          /* false: a buffer that is no parameter (the experts' balancing bias) */
} mspec_model_tensor;

typedef struct mspec_model mspec_model;

/* Lay out a model: tensors, offsets, tables. MUON_E_USAGE, MUON_E_MEMORY. */
MUON_API int mspec_model_create(mspec_model **out, const mspec_model_config *config,
                                muon_error *err);
MUON_API void mspec_model_destroy(mspec_model **model); /* NULL-safe */

MUON_API const mspec_model_config *mspec_model_config_of(const mspec_model *model);
MUON_API size_t mspec_model_tensor_count(const mspec_model *model);
MUON_API const mspec_model_tensor *mspec_model_tensor_at(const mspec_model *model, size_t index);
MUON_API int64_t mspec_model_parameter_count(const mspec_model *model); /* entries of the array */
/* Entries that a token meets outside embedding and head: N of C = 6 N D. Of routed experts, top_k. */
MUON_API int64_t mspec_model_active_parameters(const mspec_model *model);
/* Multiplications and additions of matrix products for one token, forward and backward: 6 a weight
 * (head included, embedding not) and attention's own, at sequence length `length`. */
MUON_API double mspec_model_token_flops(const mspec_model *model, int64_t length);

/* Random start: matrices N(0, init_std^2), norms 1, buffers 0. */
MUON_API void mspec_model_initialize(const mspec_model *model, uint64_t seed, float *parameters);

/* ---- running it ---------------------------------------------------------------------------- */

/* What the activations of a run looked like. All arrays are the caller's; NULL: not wanted. Sums,
 * maxima and counts are added to what is there (zero them first), so that micro-batches combine. */
typedef struct mspec_layer_record {
	double output_sumsq;        /* of the layer's output (the residual stream behind it) */
	double output_max_abs;
	double output_count;        /* entries */
	double max_attention_logit; /* largest q.k/sqrt(d) within the mask; start from -INFINITY */
	double logits_over_100;     /* how many of logit_count */
	double logit_count;
} mspec_layer_record;

typedef struct mspec_tensor_record { /* of y = W x, for the matrices of the layers and the head */
	double output_sumsq, output_max_abs, output_count;
} mspec_tensor_record;

typedef struct mspec_records {
	mspec_layer_record *layers;   /* one a layer */
	mspec_tensor_record *tensors; /* one a tensor of the model */
	double *head_max_logits;      /* layers x heads; start from -INFINITY */
	int64_t *expert_tokens;       /* layers x experts: tokens sent to each */
} mspec_records;

/* Activations of one micro-batch. About 512 tokens are the fastest where hidden is 128 or less:
 * what they leave behind stays in the processor's cache. */
typedef struct mspec_workspace mspec_workspace;
MUON_API int mspec_workspace_create(mspec_workspace **out, const mspec_model *model,
                                    int64_t sequences, int64_t length, bool backward,
                                    muon_error *err);
MUON_API void mspec_workspace_destroy(mspec_workspace **workspace); /* NULL-safe */

typedef struct mspec_pass {
	const float *parameters;
	const int32_t *tokens;  /* sequences x length */
	const int32_t *targets; /* sequences x length; -1: no loss there. NULL: no loss wanted */
	int64_t sequences, length; /* at most the workspace's */
	bool bf16;              /* round weights and the result of every operation to bf16, but not
	                           the router's scores */
	float *logits;          /* sequences x length x vocab, or NULL */
	float *layer_outputs;   /* layers x sequences x length x hidden: the residual stream behind each
	                           layer; or NULL */
	float *gradient;        /* flat, overwritten with the gradient of loss_scale * (sum of the
	                           losses of all targets); NULL: forward only */
	double loss_scale;
	mspec_records *records; /* or NULL */
	double loss_sum;        /* out: nats, over all targets */
	int64_t loss_count;     /* out */
} mspec_pass;

/* Run the model. MUON_E_ARGUMENT for a token out of range. A diverged model gives NaN losses, not
 * an error. Allocates nothing. */
MUON_API int mspec_model_run(const mspec_model *model, mspec_workspace *workspace,
                             mspec_pass *pass);

/* Balance the experts after a step (DeepSeek-V3, arXiv 2412.19437, §2.1.2): each expert's bias moves
 * by `speed` towards the mean load (0.001 there; a run of hundreds of steps wants 0.01);
 * `expert_tokens` (layers x experts) is the load of the whole batch. */
MUON_API void mspec_model_balance(const mspec_model *model, float *parameters,
                                  const int64_t *expert_tokens, double speed);

#ifdef __cplusplus
}
#endif
#endif
