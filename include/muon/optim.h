/* libmuon's optimizer: Muon for hidden matrices, AdamW for everything else.
 *
 * Parameters and gradients stay in the caller's buffers; the optimizer keeps the state. A complete
 * program:
 *
 *     #include <muon/optim.h>
 *     #include <stdio.h>
 *
 *     enum { OUT = 2, IN = 3, STEPS = 200 };
 *
 *     int main(void)
 *     {
 *     	const float target[OUT][IN] = {{1, -2, 3}, {0, 1, 1}};
 *     	float w[OUT][IN] = {{0}}, w_gradient[OUT][IN], b[OUT] = {0}, b_gradient[OUT];
 *     	const muon_parameter parameters[] = {
 *     	    {.name = "layer.weight", .rank = 2, .dims = {OUT, IN}, .dtype = MUON_F32,
 *     	     .values = w, .gradient_dtype = MUON_F32, .gradient = w_gradient},
 *     	    {.name = "layer.bias", .rank = 1, .dims = {OUT}, .dtype = MUON_F32,
 *     	     .values = b, .gradient_dtype = MUON_F32, .gradient = b_gradient},
 *     	};
 *     	const muon_schedule schedule = {
 *     	    .kind = MUON_SCHEDULE_COSINE, .lr = 0.5, .steps = STEPS, .warmup_steps = 10};
 *     	muon_options options = MUON_OPTIONS_INIT;
 *     	muon_optimizer *optimizer;
 *     	muon_error err = {0};
 *     	options.weight_decay = options.adamw_weight_decay = 0;
 *     	int code = muon_optimizer_create(&optimizer, &options, parameters, 2, &err);
 *     	for (int step = 0; !code && step < STEPS; step++) {
 *     		for (int i = 0; i < OUT; i++) {
 *     			b_gradient[i] = b[i] - 1;
 *     			for (int j = 0; j < IN; j++)
 *     				w_gradient[i][j] = w[i][j] - target[i][j];
 *     		}
 *     		code = muon_optimizer_step(optimizer, muon_schedule_lr(&schedule, step), &err);
 *     	}
 *     	if (code)
 *     		fprintf(stderr, "%s: %s\n", err.where, err.message);
 *     	else
 *     		printf("%.2f %.2f %.2f, %.2f\n", w[0][0], w[0][1], w[0][2], b[0]);
 *     	muon_optimizer_destroy(&optimizer);
 *     	return muon_exit_status(code);
 *     }
 */
#ifndef MUON_OPTIM_H
#define MUON_OPTIM_H

#include <muon/kernels.h>

#ifdef __cplusplus
extern "C" {
#endif

struct muon_comm; /* see muon/dist.h */

/* ---- parameters ------------------------------------------------------------------------- */

enum { MUON_MAX_RANK = 8 };

/* What a parameter is to the model; decides who updates it (see muon_route). */
typedef enum muon_role {
	MUON_ROLE_AUTO,      /* decided from name and shape */
	MUON_ROLE_HIDDEN,    /* a hidden matrix, a stack of them, or a convolution: Muon */
	MUON_ROLE_ROUTER,    /* the gate of a mixture of experts: Muon unless options say AdamW */
	MUON_ROLE_EMBEDDING, /* AdamW */
	MUON_ROLE_HEAD,      /* AdamW */
	MUON_ROLE_VECTOR     /* norms, biases, scalars: AdamW */
} muon_role;

typedef enum muon_rule { MUON_RULE_MUON, MUON_RULE_ADAMW } muon_rule;

/* How a tensor of rank >= 3 is a set of matrices. */
typedef enum muon_stack {
	MUON_STACK_AUTO,        /* rank 3: EXPERTS (say so of a 1-D convolution that it is one);
	                           rank 4 and 5: CONVOLUTION */
	MUON_STACK_EXPERTS,     /* [E, out, in]: E independent matrices (leading dims multiplied) */
	MUON_STACK_CONVOLUTION  /* [out, in, kh, kw]: one matrix out x (in kh kw) */
} muon_stack;

/* A parameter, its gradient and its place in the model. The buffers must outlive the optimizer;
 * the description itself, strings included, is copied. */
typedef struct muon_parameter {
	const char *name;
	int rank;
	int64_t dims[MUON_MAX_RANK]; /* row-major, [out, in] */
	muon_dtype dtype;            /* of values: MUON_F32; MUON_BF16, with a float32 master that
	                                the optimizer makes of them at creation, and keeps; MUON_F64
	                                for reference, orthogonalised in float64 always */
	void *values;
	muon_dtype gradient_dtype;   /* MUON_F32 or MUON_BF16; MUON_F64 with MUON_F64 values */
	const void *gradient;        /* same shape; never written to; apart from all values */
	muon_role role;
	muon_stack stack;
	int heads;                   /* > 1: each matrix is so many equal blocks of rows,
	                                orthogonalised one by one (per-head Muon); under AdamW
	                                without meaning, as splits are */
	const int64_t *splits;       /* a fused matrix is blocks of so many rows (q, k, v), and
	                                `heads` does not apply; NULL: not fused */
	int split_count;
	bool no_decay;               /* leave out weight decay */
} muon_parameter;

/* Who updates a parameter: role if given, else by name (embeddings, heads, routers under the names
 * of Llama, GPT-2, NeoX, DeepSeek, BERT) and rank (< 2: AdamW). `router` is the rule for routers. */
MUON_API muon_rule muon_route(const char *name, int rank, const int64_t *dims, muon_role role,
                              muon_rule router);

/* ---- options ---------------------------------------------------------------------------- */

/* The factor on the orthogonalised block O [A = out, B = in] of an update (reference in
 * brackets). The block is the matrix that was orthogonalised: flattened, split, per head. */
typedef enum muon_scale {
	MUON_SCALE_MATCH_RMS_ADAMW, /* update_rms sqrt(max(A, B)) [Moonlight report, eq. 4] */
	MUON_SCALE_ORIGINAL,        /* sqrt(max(1, A/B)) [Jordan et al. 2024] */
	MUON_SCALE_SPECTRAL_NORM,   /* sqrt(A/B) [Yang et al. 2023] */
	MUON_SCALE_NONE,            /* 1 */
	MUON_SCALE_UPDATE_NORM,     /* update_rms / RMS(O) [Moonlight report §3.1, ablation] */
	MUON_SCALE_FIXED            /* update_rms sqrt(fixed_width) [Moonlight report §3.1, baseline] */
} muon_scale;

typedef enum muon_momentum_kind {
	MUON_MOMENTUM_CLASSICAL, /* M = mu M + g, Nesterov: g + mu M */
	MUON_MOMENTUM_EMA        /* M = mu M + (1 - mu) g, Nesterov: (1 - mu) g + mu M */
} muon_momentum_kind;

/* What muon_optimizer_statistics holds after a step; the cheap ones are always there. */
enum {
	MUON_STATISTICS_ORTHOGONALITY = 1, /* one more symmetric product a matrix */
	MUON_STATISTICS_REACH = 2          /* singular values of every momentum: slow, for diagnosis */
};

typedef struct muon_options {
	/* Muon */
	double momentum;                 /* mu in [0, 1) */
	muon_momentum_kind momentum_kind;
	bool nesterov;
	double weight_decay;             /* decoupled, on the base learning rate: W <- (1 - lr wd) W */
	muon_scale scale;
	double update_rms;               /* 0.2 */
	double fixed_width;              /* of MUON_SCALE_FIXED */
	const char *coefficients;        /* a table's name, or NULL for custom_coefficients */
	const muon_coefficients *custom_coefficients;
	int ns_steps;                    /* 0: as many as the table's authors use */
	muon_precision ns_precision;
	muon_ns_form ns_form;
	muon_rule router;                /* who updates routers */
	/* AdamW, as in PyTorch: eps is added after bias correction */
	bool all_adamw;                  /* every parameter by AdamW: the baseline */
	double adamw_lr_ratio;           /* AdamW's learning rate over Muon's, for the parameters that
	                                    it has beside Muon; 1 */
	double beta1, beta2, eps;
	double adamw_weight_decay;
	/* both */
	double clip_norm;                /* > 0: a gradient whose norm over all parameters, |g|, is
	                                    larger is multiplied with clip_norm / (|g| + 1e-6) first
	                                    [Pascanu et al. 2013, as PyTorch's clip_grad_norm_] */
	int threads;                     /* workers over matrices, at most 64; 0: one per
	                                    processor */
	unsigned statistics;             /* MUON_STATISTICS_* */
} muon_options;

/* The Moonlight report's settings. */
#define MUON_OPTIONS_INIT                                                                          \
	{                                                                                          \
		.momentum = 0.95, .nesterov = true, .weight_decay = 0.1, .update_rms = 0.2,        \
		.coefficients = "jordan", .adamw_lr_ratio = 1, .beta1 = 0.9, .beta2 = 0.95,        \
		.eps = 1e-8, .adamw_weight_decay = 0.1                                             \
	}

/* ---- the optimizer ---------------------------------------------------------------------- */

typedef struct muon_optimizer muon_optimizer;

/* Make an optimizer over `count` parameters. Everything that steps need is allocated here. Steps
 * set BLAS to one thread in this process: the optimizer's own are over matrices.
 * MUON_E_USAGE for options or parameters that make no sense (empty or repeated names, shapes that
 * don't fit `heads` or `splits`, a NULL buffer, values that overlap a gradient or another's values:
 * tied weights are one parameter), naming the parameter; MUON_E_UNSUPPORTED for a precision that isn't there;
 * MUON_E_MEMORY. */
MUON_API int muon_optimizer_create(muon_optimizer **out, const muon_options *options,
                                   const muon_parameter *parameters, size_t count,
                                   muon_error *err);
/* NULL-safe; *optimizer becomes NULL. */
MUON_API void muon_optimizer_destroy(muon_optimizer **optimizer);

/* One step with learning rate lr (see muon_schedule_lr). A NaN or Inf in a gradient, or a moment
 * that would overflow, is MUON_E_NONFINITE with the parameter's name: nothing has been changed
 * then, nor for MUON_E_ARGUMENT (lr is negative, not finite, or not the same on all ranks). A step
 * so large that weights overflow is not refused: the next gradient will tell. After any other code the step may
 * have ended half-way, and further ones are refused until a state is loaded. Same bits for any
 * number of threads. Allocates nothing, but for the records that oneDNN keeps where it multiplies. */
MUON_API int muon_optimizer_step(muon_optimizer *optimizer, double lr, muon_error *err);

MUON_API int64_t muon_optimizer_steps(const muon_optimizer *optimizer); /* done so far */
MUON_API muon_rule muon_optimizer_rule(const muon_optimizer *optimizer, size_t parameter);
/* Bytes of state (momentum, moments, masters) that this process keeps. */
MUON_API size_t muon_optimizer_state_bytes(const muon_optimizer *optimizer);
/* Change MUON_STATISTICS_* for the next steps. */
MUON_API int muon_optimizer_set_statistics(muon_optimizer *optimizer, unsigned statistics,
                                           muon_error *err);

/* What the last step did to a parameter. NaN: not applicable, or not asked for. */
typedef struct muon_statistics {
	double update_rms;          /* RMS of what lr multiplies: scale * O, or mh/(sqrt(vh) + eps) */
	double weight_rms;          /* after the step, of the values as stored */
	double gradient_rms;        /* before clipping */
	double effective_lr;        /* lr times the scale factor; of the first block */
	double momentum_norm;       /* |M|_F; AdamW: |m|_F */
	double orthogonality_error; /* |O O^T - I|_F / sqrt(k); the worst block */
	double below_reach;         /* share of the singular values of what is orthogonalised
	                               (momentum with Nesterov's mix) that are below the iteration's
	                               reach */
} muon_statistics;
/* MUON_E_ARGUMENT for an index out of range; before the first step everything is NaN. In a
 * distributed run the figures are of the whole parameter, on every rank. */
MUON_API int muon_optimizer_statistics(const muon_optimizer *optimizer, size_t parameter,
                                       muon_statistics *statistics);

/* Seconds of the last step by phase. */
typedef struct muon_step_seconds {
	double check, reduce, momentum, gather, newton_schulz, update, all_gather, total;
} muon_step_seconds;
MUON_API void muon_optimizer_seconds(const muon_optimizer *optimizer, muon_step_seconds *seconds);

/* ---- state ------------------------------------------------------------------------------ */

/* A tensor of the state: "<parameter>/momentum", "<parameter>/exp_avg", "<parameter>/exp_avg_sq",
 * "<parameter>/master", each of its parameter's shape. */
typedef struct muon_state_tensor {
	const char *name;
	muon_dtype dtype;
	int rank;
	const int64_t *dims;
	int64_t elements;
	void *data;
} muon_state_tensor;

/* Called for one tensor: to keep tensor->data, or to fill it. */
typedef int (*muon_state_fn)(void *context, const muon_state_tensor *tensor, muon_error *err);

/* Hand out the state, tensor by tensor, in the order of the parameters. In a distributed run all
 * ranks call it, and `put` is called on rank 0 alone, with whole tensors. Together with
 * muon_optimizer_steps and the values of parameters without a master, which are the caller's, this
 * is all that a run needs to go on with the same bits, on any number of ranks. mspec_training_save of muonspec/training.h writes it into a checkpoint. */
MUON_API int muon_optimizer_save(muon_optimizer *optimizer, muon_state_fn put, void *context,
                                 muon_error *err);
/* The way back: `get` fills every tensor (called on rank 0 alone); `steps` is the same on all
 * ranks. tensor->name and its shape are what the optimizer has: compare them with what was saved,
 * for a state of other parameters is not noticed otherwise. On failure the optimizer is as
 * before; MUON_E_NONFINITE for NaN or Inf in a tensor, MUON_E_FORMAT for a negative second moment.
 * bf16 values are set from their masters. */
MUON_API int muon_optimizer_load(muon_optimizer *optimizer, muon_state_fn get, void *context,
                                 int64_t steps, muon_error *err);

/* ---- learning-rate schedules ------------------------------------------------------------ */

typedef enum muon_schedule_kind {
	MUON_SCHEDULE_CONSTANT, /* warm-up, then lr */
	MUON_SCHEDULE_COSINE,   /* warm-up, then half a cosine down to final_lr */
	MUON_SCHEDULE_WSD       /* warm-up, stable, then linear decay to final_lr */
} muon_schedule_kind;

typedef struct muon_schedule {
	muon_schedule_kind kind;
	double lr, final_lr;
	int64_t steps;        /* of the whole run */
	int64_t warmup_steps; /* linear from lr / warmup_steps */
	int64_t decay_steps;  /* of WSD: the last so many */
} muon_schedule;

/* Learning rate of step 0, 1, ... steps - 1. It would reach final_lr at `steps`, so that no step is
 * spent at 0. */
MUON_API double muon_schedule_lr(const muon_schedule *schedule, int64_t step);

/* ---- QK-clip ---------------------------------------------------------------------------- */

/* The query and key projections of one attention layer, as indices of parameters. */
typedef struct muon_qk_layer {
	size_t query;          /* [heads (nope + rope), in]; without MLA nope is the whole head */
	size_t key;            /* [kv_heads head_dim, in]; with MLA: kv_b [heads (nope + v), rank] */
	int heads, kv_heads;   /* kv_heads < heads: grouped queries */
	int64_t head_dim;      /* rows of a query head: nope + rope */
	int64_t rope_dim;      /* MLA: rows of a query head that rotate; their key is shared and left
	                          alone. 0 without MLA */
	int64_t value_dim;     /* MLA: value rows of a head in kv_b, behind its nope rows; else 0 */
} muon_qk_layer;

/* QK-clip (Kimi K2, arXiv 2507.20534): after a step, for each head whose largest logit max_logits[h]
 * is above `threshold`, scale its queries by g^alpha and keys by g^(1-alpha), g = threshold/max
 * (MLA: rotating query rows by g, their shared key not at all). With grouped queries the shared key
 * head is scaled for the largest logit of its group and each query head makes up the rest. Masters
 * of bf16 parameters are scaled too. Negative and NaN logits clip nothing; an infinite one is
 * MUON_E_NONFINITE. *clipped (may be NULL) receives how many heads were. Distributed: each rank
 * brings the largest logits that it has seen, and the rest is the same on all. MUON_E_USAGE where a parameter is not a matrix of
 * such heads, MUON_E_ARGUMENT; nothing has been changed then. */
MUON_API int muon_optimizer_qk_clip(muon_optimizer *optimizer, const muon_qk_layer *layer,
                                    const double *max_logits, double threshold, double alpha,
                                    int *clipped, muon_error *err);

#ifdef __cplusplus
}
#endif
#endif
