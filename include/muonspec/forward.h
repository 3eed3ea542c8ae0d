/* Running a checkpoint's model on tokens: what its activations look like, in float32 and in bf16.
 */
#ifndef MUONSPEC_FORWARD_H
#define MUONSPEC_FORWARD_H

#include <muonspec/checkpoint.h>
#include <muonspec/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The configuration that a checkpoint states (mspec_checkpoint_info.config), in the keys of Hugging
 * Face's LlamaConfig, MistralConfig or DeepseekV3Config. MUON_E_FORMAT, saying what is missing or
 * not supported, or that the file has too few tensors for it. */
MUON_API int mspec_model_config_read(mspec_model_config *config, const mspec_checkpoint *checkpoint,
                                     muon_error *err);

/* The model of a checkpoint and its parameters as float32; the caller releases both
 * (mspec_model_destroy, mspec_parameters_destroy). MUON_E_FORMAT for a checkpoint that is no model
 * we can run: no configuration, a tensor missing or of another shape. MUON_E_READ, MUON_E_MEMORY.
 */
MUON_API int mspec_model_load(mspec_model **model, float **parameters, mspec_checkpoint *checkpoint,
                              muon_error *err);
MUON_API void mspec_parameters_destroy(float **parameters);

/* Tokens of the file at `path`, the first `limit` of them: a one-dimensional integer array in .npy;
 * for a vocabulary of 256 any other file byte by byte; else a text of numbers. The caller releases
 * them (mspec_tokens_destroy). MUON_E_OPEN, MUON_E_READ, MUON_E_FORMAT for tokens out of the
 * vocabulary or fewer than two, MUON_E_MEMORY. */
MUON_API int mspec_tokens_read(int32_t **tokens, int64_t *count, const char *path, int64_t vocab,
                               int64_t limit, muon_error *err);
MUON_API void mspec_tokens_destroy(int32_t **tokens);

/* A layer's activations, over all tokens. */
typedef struct mspec_forward_layer {
	double output_rms, output_max_abs; /* of the residual stream behind the layer */
	double max_attention_logit;        /* largest q.k/sqrt(d) within the mask */
	double share_logits_over_100;
	double
	    bf16_error; /* |y_bf16 - y|_F / |y|_F of the layer's output y; NaN in the float32 run */
} mspec_forward_layer;

/* A matrix' output y = W x, over all tokens that it saw. */
typedef struct mspec_forward_matrix {
	const char *name;
	double output_rms, output_max_abs; /* NaN: it saw none */
} mspec_forward_matrix;

typedef struct mspec_forward_run {
	bool bf16;           /* weights and the result of every operation rounded to bf16 */
	double loss;         /* nats a token; NaN where the model diverges */
	double logits_error; /* largest |difference| to the float32 run's; NaN there */
	mspec_forward_layer *layers;
	mspec_forward_matrix *matrices; /* of the layers, and the head */
	double *head_max_logits;        /* layers x heads */
} mspec_forward_run;

typedef struct mspec_forward_options {
	int64_t length;   /* tokens of a window; 0: the model's context, at most 2048 */
	int threads;      /* 0: one per processor */
	bool keep_logits; /* of the float32 run */
	/* Called from one thread at a time with the share done; return false to stop with
	 * MUON_E_INTERNAL. May be NULL. */
	bool (*progress)(void *state, double share);
	void *progress_state;
} mspec_forward_options;

typedef struct mspec_forward {
	const mspec_model_config *config; /* the model's */
	int64_t parameters, layers, heads, matrices;
	int64_t length, windows;   /* tokens of a window, windows run */
	int64_t tokens;            /* targets in them */
	int threads;               /* workers used */
	mspec_forward_run runs[2]; /* float32, bf16 */
	float *logits;             /* tokens x vocab, if kept; else NULL */
	double seconds;
	void *memory;
} mspec_forward;

/* Run the model, which must outlive the result, over the tokens in consecutive windows, each on its
 * own: token i + 1 is the target of token i, and the last window may be shorter. Same bits for any
 * number of threads. Makes BLAS single-threaded. MUON_E_MEMORY, MUON_E_ARGUMENT for fewer than two
 * tokens or tokens out of range. */
MUON_API int mspec_forward_run_model(mspec_forward **out, const mspec_model *model,
                                     const float *parameters, const int32_t *tokens, int64_t count,
                                     const mspec_forward_options *options, muon_error *err);
MUON_API void mspec_forward_destroy(mspec_forward **forward); /* NULL-safe */

/* Write the logits, which must have been kept, as the dataset /logits of an HDF5 file. The caller
 * gives a temporary name and renames. MUON_E_WRITE, MUON_E_MEMORY. */
MUON_API int mspec_forward_write_logits(const mspec_forward *forward, const char *path,
                                        muon_error *err);

#ifdef __cplusplus
}
#endif
#endif
