/* How the matrices of one tensor lie in it, judged by its name, its shape and the conventions of
 * the framework that wrote it. */
#ifndef MUONSPEC_CHECKPOINT_SHAPES_H
#define MUONSPEC_CHECKPOINT_SHAPES_H

#include <muonspec/checkpoint.h>

/* What holds for a whole checkpoint. */
typedef struct mspec_conventions {
	int keras;   /* 1, 2, 3: weights are [in, out]; 0: [out, in] */
	bool conv1d; /* GPT-2's "Conv1D" layers: [in, out] in a file of [out, in] */
} mspec_conventions;

typedef enum mspec_slicing {
	MSPEC_WHOLE,
	MSPEC_QKV,  /* three matrices: q, k, v */
	MSPEC_STACK /* matrices along the leading dimension, or two of them */
} mspec_slicing;

/* `count` matrices, each `step` elements after the one before; the rest as in mspec_matrix. */
typedef struct mspec_shape {
	const char *other; /* what the tensor is if not a matrix, by its name ("bias"); or NULL */
	bool convolution;
	bool transposed;
	int64_t stored_rows, block_count, block_cols, block_stride, row_stride;
	mspec_slicing slicing;
	int64_t count, step;
	int64_t inner; /* matrices per entry of the first of two stacked dimensions; 0: one */
} mspec_shape;

mspec_conventions mspec_find_conventions(const mspec_checkpoint *checkpoint);

/* The matrices of a tensor of rank 2 to 5 without zero dimensions; `key` is its mspec_name_key. */
mspec_shape mspec_find_shape(const mspec_conventions *conventions, const mspec_tensor *tensor,
			     const char *key);

#endif
