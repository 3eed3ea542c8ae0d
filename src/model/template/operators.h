/* Operators of the models, forward and backward, in float32 or float64. Included by float32.h and
 * float64.h, which set REAL_BITS; the bodies are the .c files of this folder, which src/model's
 * float32.c and float64.c include.
 *
 * Conventions
 *   - Activations are row-major, one row a token, tokens of a sequence one after the other: x is
 *     rows x width without gaps unless a leading dimension is given; rows = sequences * length.
 *     Position of row t: t % length.
 *   - A weight is [out, in], row-major: y = x W^T.
 *   - Gradients of weights are added to run->gradient, which starts as zeros; gradients of
 *     activations (dx, dy) overwrite, unless the operator says "adds".
 *   - With run->bf16 an operator's weights and its result are rounded (OP(round)); sums inside it,
 *     and weights' gradients, are not. A gradient to which several operators add is rounded after
 *     each.
 *   - Operators allocate nothing and can't fail. `kept` is memory that a block's forward writes and
 *     its backward reads; `run->scratch` is a block's until it returns. */
#include "model/model_internal.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#undef real
#undef OP
#undef CBLAS_GEMM
#if REAL_BITS == 32
#define real float
#define OP(name) mspec_##name##_f32
#define CBLAS_GEMM cblas_sgemm
#else
#define real double
#define OP(name) mspec_##name##_f64
#define CBLAS_GEMM cblas_dgemm
#endif
#include "model/template/exponential.h"

/* ---- a run -------------------------------------------------------------------------------- */

/* What a layer keeps for backward; of layers without it, all have the same. */
typedef struct OP(layer_memory) {
	real *input, *middle;              /* rows x hidden: the stream before the layer, and between
	                                      its blocks */
	real *attention_rstd, *mlp_rstd;   /* rows: of the norms */
	real *attention, *mlp;             /* `kept` of the blocks */
} OP(layer_memory);

typedef struct OP(workspace) {
	const mspec_model *model;
	mspec_batch batch;         /* the largest that it is made for */
	real *memory;              /* what everything below is part of */
	OP(layer_memory) *layers;
	real *output, *final_rstd; /* rows x hidden, rows: the last layer's output, and its norm */
	real *normed;              /* rows x hidden: a norm's output, or recomputed */
	real *change;              /* rows x hidden: a block's output, or gradient of a norm's output */
	real *d_stream;            /* rows x hidden: gradient of the residual stream */
	real *logits;              /* head_rows x vocab */
	real *cosine, *sine;       /* length x rotating dimensions / 2 */
	real *rounded;             /* model->largest_group: weights in bf16 */
	real *scratch;             /* the largest that a block asks for */
} OP(workspace);

/* One call of the model, in this arithmetic; see mspec_pass. */
typedef struct OP(run) {
	const mspec_model *model;
	const OP(workspace) *workspace;
	const real *parameters;
	real *gradient; /* NULL: forward only */
	const int32_t *tokens, *targets;
	mspec_batch batch;
	int64_t rows; /* batch.sequences * batch.length */
	bool bf16;
	real *logits, *layer_outputs;
	double loss_scale;
	mspec_records *records;
	double loss_sum;
	int64_t loss_count;
	const real *cosine, *sine; /* the workspace's, as the next two */
	real *rounded, *scratch;
} OP(run);

/* ---- blocks ------------------------------------------------------------------------------- */

/* Half a layer: the residual stream x becomes x + f(norm(x)), and a block is f. Sizes are in reals;
 * integers may be kept there too (the memory has no type of its own). */
typedef struct OP(block) {
	/* What one layer keeps from forward to backward. Without batch->backward: what forward itself
	 * needs, which is no more; all layers then use the same memory. */
	size_t (*kept)(const mspec_model *model, int64_t layer, const mspec_batch *batch);
	/* The most that forward or backward use of run->scratch. */
	size_t (*scratch)(const mspec_model *model, int64_t layer, const mspec_batch *batch);
	/* x: rows x hidden, the norm's output; y: rows x hidden, overwritten. */
	void (*forward)(OP(run) *run, int64_t layer, const real *x, real *y, real *kept);
	/* x as in forward; dy, dx: rows x hidden, dx overwritten. */
	void (*backward)(OP(run) *run, int64_t layer, const real *x, const real *dy, real *dx,
	                 real *kept);
} OP(block);

extern const OP(block) OP(attention_block); /* attention.c: LLAMA */
extern const OP(block) OP(mlp_block);       /* mlp.c: dense SwiGLU */
extern const OP(block) OP(mla_block);       /* mla.c: DEEPSEEK */
extern const OP(block) OP(moe_block);       /* moe.c: DEEPSEEK, layers from dense_layers on */

/* ---- vector ------------------------------------------------------------------------------- */

/* Round x to bf16, nearest, ties to even, if the run is a bf16 one. */
void OP(round)(const OP(run) *run, real *x, int64_t count);

/* The same of rows x cols entries with leading dimension ld. */
void OP(round_rows)(const OP(run) *run, real *x, int64_t rows, int64_t cols, int64_t ld);

/* sum = a + b, rounded; it may be a or b itself. */
void OP(add)(const OP(run) *run, const real *a, const real *b, real *sum, int64_t count);

/* Add the sum of squares, largest size and number of y (rows x cols, leading dimension ld) to the
 * record of `tensor`, if the run keeps records. */
void OP(record_output)(const OP(run) *run, size_t tensor, const real *y, int64_t rows, int64_t cols,
                       int64_t ld);

/* The same of a layer's output (rows x hidden) for the layer's record. */
void OP(record_layer)(const OP(run) *run, int64_t layer, const real *output);

/* ---- linear ------------------------------------------------------------------------------- */

/* Weights of the `count` consecutive tensors from `first`, a group: the parameters themselves or, in
 * bf16, a rounded copy that lasts until the next call. */
const real *OP(weights)(const OP(run) *run, size_t first, size_t count);

/* y = x W^T, W being the rows of `count` consecutive tensors from `first` that have the same `in`:
 * x is rows x in with leading dimension ldx, y is rows x (sum of outs), without gaps. Rounded,
 * recorded for each tensor. */
void OP(linear_forward)(const OP(run) *run, size_t first, size_t count, const real *x, int64_t ldx,
                        int64_t rows, real *y);

/* The same, not rounded: for the router, which works in float32 in bf16 models too. */
void OP(linear_unrounded)(const OP(run) *run, size_t first, size_t count, const real *x,
                          int64_t ldx, int64_t rows, real *y);

/* dx = dy W (overwritten, or added to if `add`), rounded; W's gradient += dy^T x. dy is rows x (sum
 * of outs) without gaps, x and dx have leading dimension ldx. dx or x NULL: only the other is wanted,
 * the gradient of the weights or that of the input. */
void OP(linear_backward)(const OP(run) *run, size_t first, size_t count, const real *x, int64_t ldx,
                         const real *dy, int64_t rows, real *dx, bool add);

/* ---- norm --------------------------------------------------------------------------------- */

/* y = x rstd gain, rstd = 1/sqrt(mean x^2 + norm_eps) of each row, which goes into `rstd`. x has
 * leading dimension ldx; y (rows x cols, cols = the gain's entries) has no gaps. */
void OP(norm_forward)(const OP(run) *run, size_t gain, const real *x, int64_t ldx, int64_t rows,
                      real *y, real *rstd);

/* y again, from rstd, as forward computed it. */
void OP(norm_repeat)(const OP(run) *run, size_t gain, const real *x, int64_t ldx, int64_t rows,
                     const real *rstd, real *y);

/* Adds to dx (leading dimension ldx) and rounds it; the gain's gradient too. */
void OP(norm_backward)(const OP(run) *run, size_t gain, const real *x, int64_t ldx, int64_t rows,
                       const real *rstd, const real *dy, real *dx);

/* ---- rotary positions --------------------------------------------------------------------- */

/* Turn `dim` entries of each of `heads` heads of each row in place by the angles of the row's
 * position, with `back` by their negatives, which is the backward pass; rounded. Entry i of head h
 * of row t is x[t * ld + h * step + i]. Pairs are (i, i + dim/2), as Hugging Face's Llama has
 * them, or with `neighbours` (2i, 2i + 1), as its DeepSeek weights are laid out. */
void OP(rope)(const OP(run) *run, real *x, int64_t ld, int64_t step, int64_t heads, int64_t dim,
              bool neighbours, bool back);

/* ---- causal attention --------------------------------------------------------------------- */

/* Queries, keys, values or outputs of all heads: entry i of head h of row t is
 * at[t * ld + h * step + i]. */
typedef struct OP(heads) {
	real *at;
	int64_t ld, step;
} OP(heads);

typedef struct OP(attention) {
	int64_t layer;           /* for the records */
	int64_t heads, kv_heads; /* query head h reads key head h * kv_heads / heads */
	int64_t qk_dim, value_dim;
	OP(heads) q, k, v, out;
	real *weights; /* softmaxed logits: attention_weights_size reals, kept for backward */
} OP(attention);

/* Reals of attention.weights: the lower triangle of each head in blocks of rows; without
 * batch->backward, one such block. */
size_t OP(attention_weights_size)(const mspec_batch *batch, int64_t heads);

/* out = softmax(q k^T / sqrt(qk_dim), causal) v of each sequence. In bf16 logits, weights and out are
 * rounded. Records the layer's logits. */
void OP(causal_forward)(const OP(run) *run, const OP(attention) *attention);

/* Gradients of q, k and v from that of out, overwritten, rounded; of a key head that several query
 * heads read, the sum. `scratch`: attention_scratch_size reals. */
void OP(causal_backward)(const OP(run) *run, const OP(attention) *attention, OP(heads) dout,
                         OP(heads) dq, OP(heads) dk, OP(heads) dv, real *scratch);
size_t OP(attention_scratch_size)(const mspec_batch *batch);

/* ---- SwiGLU ------------------------------------------------------------------------------- */

/* y = silu(gate) * up, rounded; gate_up is rows x 2 width, gate first; y rows x width. */
void OP(swiglu_forward)(const OP(run) *run, const real *gate_up, int64_t rows, int64_t width,
                        real *y);

/* d_gate_up from dy, rounded; and y once more, as forward computed it, into dy. */
void OP(swiglu_backward)(const OP(run) *run, const real *gate_up, int64_t rows, int64_t width,
                         real *dy, real *d_gate_up);

/* A dense SwiGLU MLP on `rows` rows of x: gate, up and down are tensors gate, gate + 1, gate + 2 of
 * the same width. kept: rows x 2 width; act (scratch): rows x width. Used for the shared experts and
 * each routed one too. */
void OP(swiglu_mlp_forward)(const OP(run) *run, size_t gate, const real *x, int64_t rows, real *y,
                            real *kept, real *act);
/* scratch: rows x 3 width. dx is overwritten, or added to if `add`. */
void OP(swiglu_mlp_backward)(const OP(run) *run, size_t gate, const real *x, int64_t rows,
                             const real *dy, real *dx, bool add, const real *kept, real *scratch);

/* ---- loss --------------------------------------------------------------------------------- */

/* Rows whose logits the head computes at a time, so that a large vocabulary needs little memory. */
int64_t OP(head_rows)(const mspec_model *model, int64_t rows);

/* Add the cross-entropy of each row's target (none where it is -1) to run->loss_sum and loss_count;
 * in a run with a gradient, logits (rows x vocab) become its gradient times run->loss_scale, rounded;
 * otherwise they are destroyed. */
void OP(cross_entropy)(OP(run) *run, real *logits, const int32_t *targets, int64_t rows);

/* Logits, loss, and with a gradient the head's own and dx, that of its input x (rows x hidden). */
void OP(head)(OP(run) *run, const real *x, real *dx);

/* ---- the whole model ---------------------------------------------------------------------- */

/* MUON_E_MEMORY. */
int OP(workspace_init)(OP(workspace) *workspace, const mspec_model *model, const mspec_batch *batch);
void OP(workspace_release)(OP(workspace) *workspace);

/* Run the model: model, workspace and what mspec_pass has are set by the caller, the rest here.
 * MUON_E_ARGUMENT as mspec_model_run. */
int OP(model_run)(OP(run) *run);
