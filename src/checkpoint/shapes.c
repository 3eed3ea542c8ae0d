#include "checkpoint/shapes.h"

#include "checkpoint/names.h"

#include <string.h>

static bool has_any(const char *key, const char *const *words)
{
	for (; *words; words++)
		if (mspec_key_has(key, *words))
			return true;
	return false;
}

static bool ends_any(const char *key, const char *const *ends)
{
	for (; *ends; ends++)
		if (mspec_ends_with(key, *ends))
			return true;
	return false;
}

mspec_conventions mspec_find_conventions(const mspec_checkpoint *checkpoint)
{
	mspec_conventions c = {0};
	const char *layout = mspec_info(checkpoint)->layout;
	if (!strncmp(layout, "keras", 5) && layout[5] >= '1' && layout[5] <= '3')
		c.keras = layout[5] - '0';
	/* nanoGPT uses GPT-2's names with nn.Linear, so that only the shape tells */
	for (size_t i = 0; i < mspec_tensor_count(checkpoint) && !c.keras && !c.conv1d; i++) {
		const mspec_tensor *t = mspec_tensor_at(checkpoint, i);
		c.conv1d = t->rank == 2 && mspec_ends_with(t->name, "c_attn.weight") &&
			   t->dims[1] % 3 == 0 && t->dims[1] / 3 == t->dims[0];
	}
	return c;
}

static int64_t product(const int64_t *dims, int first, int end)
{
	int64_t p = 1;
	for (int i = first; i < end; i++)
		p *= dims[i];
	return p;
}

/* One matrix that fills the tensor. */
static mspec_shape whole(int64_t stored_rows, int64_t stored_cols, bool transposed)
{
	return (mspec_shape){
	    .transposed = transposed,
	    .stored_rows = stored_rows,
	    .block_count = 1,
	    .block_cols = stored_cols,
	    .row_stride = stored_cols,
	    .count = 1,
	};
}

/* Dimensions up to `split` are the rows as stored, the others the columns. */
static mspec_shape flatten(const mspec_tensor *t, int split, bool transposed)
{
	return whole(product(t->dims, 0, split), product(t->dims, split, t->rank), transposed);
}

static mspec_shape convolution(mspec_shape shape)
{
	shape.convolution = true;
	return shape;
}

/* The last two dimensions are a matrix, those before count matrices. */
static mspec_shape stack(const mspec_tensor *t, bool transposed)
{
	int leading = t->rank - 2;
	mspec_shape shape = whole(t->dims[leading], t->dims[leading + 1], transposed);
	shape.slicing = MSPEC_STACK;
	shape.count = product(t->dims, 0, leading);
	shape.step = t->dims[leading] * t->dims[leading + 1];
	shape.inner = leading > 1 ? product(t->dims, 1, leading) : 0;
	return shape;
}

/* Biases, masks and scales of more than one dimension look like matrices but map nothing. */
static const char *what_else(const mspec_conventions *c, const char *key)
{
	static const char *const biases[] = {".bias.", "_bias.", ".biases.", ".biases.parameters.",
					     NULL};
	static const char *const masks[] = {".mask.", "_mask.", NULL};
	static const char *const scales[] = {".scales.", ".weight_scale.", ".weight_scale_inv.",
					     NULL};
	static const char *const heads[] = {".query_dense.", ".key_dense.", ".value_dense.", NULL};
	if (ends_any(key, biases))
		return "bias";
	if (ends_any(key, masks))
		return "mask";
	if (ends_any(key, scales))
		return "scales of quantization";
	if (c->keras == 3 && ((mspec_ends_with(key, ".vars.1.") && has_any(key, heads)) ||
			      (mspec_ends_with(key, ".vars.2.") && mspec_key_has(key, "gru"))))
		return "bias";
	return NULL;
}

/* Does the tensor hold a matrix for each expert? Not where the name has the number of one. */
static bool is_expert_stack(const char *key)
{
	static const char *const words[] = {"expert", ".moe.",        "_moe.",
					    ".moe_",  ".switch_mlp.", NULL};
	const char *numbered = strstr(key, ".experts.");
	if (numbered && mspec_is_digit(numbered[9]))
		return false;
	return has_any(key, words);
}

/* ---- Keras: kernels are [in, out], kernel sizes first ------------------------------------- */

/* [kernel.., in, multiplier]: every channel has filters of its own. */
static bool is_depthwise(const mspec_conventions *c, const char *key)
{
	if (mspec_ends_with(key, ".pointwise_kernel."))
		return false;
	if (c->keras == 3 && mspec_key_has(key, "separable_conv"))
		return mspec_ends_with(key, ".vars.0.");
	return mspec_key_has(key, "depthwise");
}

/* Kernels of transposed convolutions are [kernel.., out, in]: a block out x in for every place of
 * the kernel. */
static mspec_shape keras_transposed_convolution(const mspec_tensor *t)
{
	int64_t out = t->dims[t->rank - 2], in = t->dims[t->rank - 1];
	mspec_shape shape = whole(out, in, false);
	shape.block_count = product(t->dims, 0, t->rank - 2);
	shape.block_stride = out * in;
	return convolution(shape);
}

/* Flax's ConvTranspose keeps its kernel as other convolutions do. */
static bool is_keras_transposed_convolution(const mspec_conventions *c, const char *key)
{
	if (!c->keras && mspec_key_has(key, "convtranspose"))
		return false;
	return mspec_key_has(key, "transpose") || mspec_key_has(key, "deconv");
}

/* Keras 1 could keep kernels as [out, in, h, w] or [h, w, in, out] and did not say which. */
static bool kernel_size_is_first(const int64_t *dims)
{
	bool first = dims[0] == dims[1] && dims[0] % 2 && dims[0] <= 15;
	bool last = dims[2] == dims[3];
	return first && (!last || dims[0] < dims[2]);
}

static mspec_shape keras_convolution(const mspec_conventions *c, const mspec_tensor *t,
				     const char *key)
{
	if (c->keras == 1 && t->rank == 4 && !kernel_size_is_first(t->dims))
		return convolution(flatten(t, 1, false));
	if (is_depthwise(c, key))
		return convolution(flatten(t, t->rank - 2, true));
	if (is_keras_transposed_convolution(c, key))
		return keras_transposed_convolution(t);
	return convolution(flatten(t, t->rank - 1, true));
}

/* An embedding's table is [vocabulary, dim] as everywhere else. Keras 3 names its variables by
 * numbers, so that there only the layer tells. */
static bool is_keras_embedding(const mspec_conventions *c, const char *key)
{
	static const char *const others[] = {"dense", "attention", NULL};
	if (mspec_ends_with(key, ".embeddings."))
		return true;
	return mspec_key_has(key, "embed") && !mspec_ends_with(key, "kernel.") &&
	       (c->keras != 3 || !has_any(key, others));
}

static mspec_shape keras_shape(const mspec_conventions *c, const mspec_tensor *t, const char *key)
{
	/* multi-head attention keeps heads as a dimension: [in, heads, size] */
	static const char *const inputs[] = {
	    ".query.", ".key.", ".value.", ".query_dense.", ".key_dense.", ".value_dense.", NULL};
	if (t->rank == 2)
		return flatten(t, 1, !is_keras_embedding(c, key));
	if (t->rank >= 4)
		return keras_convolution(c, t, key);
	if (is_expert_stack(key))
		return stack(t, true);
	if (has_any(key, inputs))
		return flatten(t, 1, true);
	if (mspec_key_has(key, "conv"))
		return keras_convolution(c, t, key);
	return flatten(t, 2, true); /* attention's output, [heads, size, out], and the like */
}

/* ---- PyTorch and all others: [out, in] ------------------------------------------------------ */

/* q, k and v one after the other along the rows. Names that mean other orders in some models
 * (query_key_value; qkv_proj outside self_attn; InternLM2's wqkv) are not among them. */
static bool is_fused_rows(const mspec_tensor *t, const char *key)
{
	static const char *const ends[] = {".in_proj_weight.",
					   ".c_attn.weight.",
					   ".qkv.weight.",
					   ".to_qkv.weight.",
					   ".self_attn.qkv_proj.weight.",
					   NULL};
	return t->dims[0] % 3 == 0 && t->dims[0] / 3 == t->dims[1] &&
	       (ends_any(key, ends) || mspec_ends_with(t->name, "Wqkv.weight"));
}

static bool is_gpt2_conv1d(const char *key)
{
	static const char *const ends[] = {".c_attn.weight.", ".c_proj.weight.", ".c_fc.weight.",
					   ".q_attn.weight.", NULL};
	return ends_any(key, ends);
}

static mspec_shape matrix_shape(const mspec_conventions *c, const mspec_tensor *t, const char *key)
{
	mspec_shape shape = flatten(t, 1, false);
	if (c->conv1d && is_gpt2_conv1d(key)) {
		shape.transposed = true;
		if (mspec_ends_with(key, ".c_attn.weight.") && t->dims[1] / 3 == t->dims[0] &&
		    t->dims[1] % 3 == 0) {
			shape.block_cols = t->dims[0];
			shape.slicing = MSPEC_QKV;
			shape.count = 3;
			shape.step = t->dims[0];
		}
	} else if (is_fused_rows(t, key)) {
		shape.stored_rows = t->dims[1];
		shape.slicing = MSPEC_QKV;
		shape.count = 3;
		shape.step = t->dims[1] * t->dims[1];
	} else {
		/* MLX; PEFT writes lora_A and lora_B, [out, in] */
		shape.transposed = mspec_ends_with(t->name, ".lora_a") ||
				   mspec_ends_with(t->name, ".lora_b");
	}
	return shape;
}

/* A convolution along one axis, [out, in, size], or a stack of matrices? */
static bool is_convolution_1d(const mspec_tensor *t, const char *key)
{
	int64_t out = t->dims[0], in = t->dims[1], size = t->dims[2];
	return mspec_key_has(key, "conv") || (size <= 15 && size < out && (size <= in || in == 1));
}

static mspec_shape plain_shape(const mspec_conventions *c, const mspec_tensor *t, const char *key)
{
	if (t->rank == 2)
		return matrix_shape(c, t, key);
	if (t->rank <= 4 && is_expert_stack(key))
		return stack(t, false);
	if (t->rank >= 4 || is_convolution_1d(t, key))
		return convolution(flatten(t, 1, false));
	if (t->dims[0] == 1) /* position embeddings of vision models: [1, places, dim] */
		return whole(t->dims[1], t->dims[2], false);
	return stack(t, false);
}

mspec_shape mspec_find_shape(const mspec_conventions *conventions, const mspec_tensor *tensor,
			     const char *key)
{
	const char *other = what_else(conventions, key);
	if (other)
		return (mspec_shape){.other = other};
	/* nobody but Keras and Flax calls a weight "kernel", whatever the file says of itself */
	if (conventions->keras || mspec_ends_with(key, "kernel."))
		return keras_shape(conventions, tensor, key);
	return plain_shape(conventions, tensor, key);
}
