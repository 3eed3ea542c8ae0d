/* A training's checkpoint, written and read: parameters, optimizer state, activation records and
 * what is needed to go on with the same bits. */
#ifndef MUONSPEC_TRAINING_H
#define MUONSPEC_TRAINING_H

#include <muon/dist.h>
#include <muonspec/checkpoint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor to write or to fill, at a dotted name ("model.norm.weight"; "activations/output_rms"). */
typedef struct mspec_training_tensor {
	const char *name;
	muon_dtype dtype;
	int rank;
	int64_t dims[2];
	void *data;
} mspec_training_tensor;

typedef struct mspec_training_number {
	const char *name;
	double value;
} mspec_training_number;

typedef struct mspec_training_text {
	const char *name, *value;
} mspec_training_text;

/* Root attributes: `muonspec_format` comes by itself; step, optimizer, lr, weight_decay, tokens, loss,
 * config (JSON) and whatever else belongs there are given. */
typedef struct mspec_training {
	const mspec_training_tensor *tensors;
	size_t tensor_count;
	const mspec_training_number *numbers;
	size_t number_count;
	const mspec_training_text *texts;
	size_t text_count;
	muon_optimizer *optimizer; /* its state goes under optimizer/; NULL: none */
	muon_comm *comm;           /* of a distributed optimizer: all ranks call, rank 0 writes; or NULL */
} mspec_training;

/* Write a checkpoint to `path` (HDF5) under a temporary name, then rename. MUON_E_WRITE: what was at
 * `path` before is still there. The optimizer's state tensor "NAME" becomes "optimizer/NAME", its
 * count of steps the attribute `optimizer_steps`. */
MUON_API int mspec_training_save(const char *path, const mspec_training *training, muon_error *err);

/* Read it back: every tensor of `tensors` is filled (MUON_E_FORMAT naming one that is missing, or of
 * another shape or type), numbers by name into `values` (NaN where the file has none), the
 * optimizer's state if an optimizer is given; texts are not looked at. With a comm rank 0 reads and
 * the others get a copy. After a failure tensors may be filled in part, the optimizer is as
 * before. */
MUON_API int mspec_training_load(const char *path, const mspec_training *training, double *values,
                                 muon_error *err);

/* Write a checkpoint again without its optimizer's state, which only the newest of a run needs. Same
 * care as in saving; a file without state is left alone. */
MUON_API int mspec_training_strip(const char *path, muon_error *err);

#ifdef __cplusplus
}
#endif
#endif
