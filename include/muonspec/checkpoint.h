/* Checkpoints: reading tensors from HDF5, safetensors, npz/npy and llama2.c files, and seeing them
 * as matrices.
 *
 * A checkpoint lists its tensors without reading their data. Names, sizes and counts in a file are
 * never trusted: a tensor that can't be read is listed with the reason. Malformed HDF5 can crash
 * libhdf5 itself; programs that open files of unknown origin should do so in a child process, as
 * the muonspec tool does. */
#ifndef MUONSPEC_CHECKPOINT_H
#define MUONSPEC_CHECKPOINT_H

#include <muon/kernels.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MSPEC_MAX_RANK 32

/* What a tensor is to the model, as far as its place in the file tells. */
typedef enum mspec_role {
	MSPEC_ROLE_PARAMETER,
	MSPEC_ROLE_OPTIMIZER,  /* momentum, moments: left out unless asked for */
	MSPEC_ROLE_ACTIVATION  /* recorded statistics, not weights */
} mspec_role;

typedef struct mspec_tensor {
	const char *name;      /* as the file has it, not escaped; HDF5: path without the leading "/" */
	muon_dtype dtype;      /* MUON_DTYPE_NONE when elements are not numbers that we know */
	const char *type_name; /* the file's own word for the type, for listings; never NULL */
	int rank;
	int64_t dims[MSPEC_MAX_RANK];
	int64_t elements;      /* product of dims; 0 with rank 0: the shape is not known */
	mspec_role role;
	int status;            /* MUON_OK, or the code with which mspec_read would fail */
	const char *problem;   /* why status is not MUON_OK, escaped; NULL otherwise */
	const char *alias_of;  /* name of the tensor that this is a second name of (HDF5 links), or
	                          NULL; reads the same data */
} mspec_tensor;

/* What the file says about itself. Strings are NULL and numbers NaN where it says nothing. */
typedef struct mspec_checkpoint_info {
	const char *path;
	const char *format;    /* "hdf5", "safetensors", "npz", "npy", "llama2.c" */
	const char *layout;    /* "muonspec", "keras1", "keras2", "keras3", "pytorch", "llama2.c",
	                          "custom" */
	const char *optimizer;
	const char *config;    /* JSON of the model's configuration: HDF5's root attribute `config`,
	                          config.json beside a safetensors file */
	double step, lr, weight_decay, tokens, loss;
} mspec_checkpoint_info;

/* Called before the library enters code that may hang or crash on a malformed file, with the
 * file's or tensor's name, and with NULL when it is back. */
typedef void (*mspec_watch_fn)(void *state, const char *what);

typedef struct mspec_open_options {
	int64_t max_tensor_bytes; /* tensors declared larger are listed as too large; 0: no limit */
	mspec_watch_fn watch;     /* may be NULL */
	void *watch_state;
} mspec_open_options;

typedef struct mspec_checkpoint mspec_checkpoint;

/* Open the checkpoint at `path` (a file; for safetensors also the *.index.json of a sharded one,
 * or a folder that holds one). `options` may be NULL. Tensors come in natural order of their names
 * ("layers.2" before "layers.10"); Keras files in the order of their layers.
 * MUON_E_OPEN, MUON_E_FORMAT, MUON_E_READ, MUON_E_MEMORY. */
MUON_API int mspec_open(mspec_checkpoint **out, const char *path, const mspec_open_options *options,
                        muon_error *err);

/* Release everything; *checkpoint becomes NULL. NULL-safe. */
MUON_API void mspec_close(mspec_checkpoint **checkpoint);

/* Valid until the checkpoint is closed. */
MUON_API const mspec_checkpoint_info *mspec_info(const mspec_checkpoint *checkpoint);
/* A root attribute of an HDF5 file: NaN, or NULL, where it is absent, of another type, or the format
 * has no attributes. Text lives as long as the checkpoint. */
MUON_API double mspec_attribute_number(const mspec_checkpoint *checkpoint, const char *name);
MUON_API const char *mspec_attribute_text(mspec_checkpoint *checkpoint, const char *name);

MUON_API size_t mspec_tensor_count(const mspec_checkpoint *checkpoint);
MUON_API const mspec_tensor *mspec_tensor_at(const mspec_checkpoint *checkpoint, size_t index);
/* Index of the tensor of this name; SIZE_MAX if there is none. */
MUON_API size_t mspec_find_tensor(const mspec_checkpoint *checkpoint, const char *name);

/* Is the file at `path` one of those that the checkpoint is read from (the file itself, a shard, its
 * index, a file that an HDF5 file refers to), whatever it is called here? False for none. */
MUON_API bool mspec_uses_file(const mspec_checkpoint *checkpoint, const char *path);

/* Read `count` elements of a tensor from element `first` on (row-major order) into `buffer`, in
 * the tensor's own type and native byte order. Not thread-safe on one checkpoint: callers that
 * share it hold a lock. MUON_E_READ, MUON_E_TOO_LARGE, MUON_E_MEMORY. */
MUON_API int mspec_read(mspec_checkpoint *checkpoint, size_t index, int64_t first, int64_t count,
                        void *buffer, muon_error *err);

/* ---- matrices --------------------------------------------------------------------------- */

/* One matrix inside a tensor. In storage it is `block_count` blocks of stored_rows x block_cols
 * elements side by side; block b's row i starts at element
 * offset + b * block_stride + i * row_stride. Almost always there is one block. */
typedef struct mspec_matrix {
	const char *name;      /* tensor name, plus "[slice]" where the tensor holds several */
	const char *slice;     /* "3" for an expert, "q" for a part of a fused qkv; NULL if whole */
	size_t tensor;         /* index into the checkpoint */
	const char *group;     /* "AttnQO", ...; see mspec_groups */
	muon_dtype dtype;
	int64_t rows, cols;    /* out, in */
	bool transposed;       /* stored as [in, out] */
	int64_t stored_rows, stored_cols; /* stored_cols = block_count * block_cols */
	int64_t block_count, block_cols, block_stride;
	int64_t offset, row_stride; /* elements */
} mspec_matrix;

/* A tensor that holds no matrix to analyse. */
typedef struct mspec_skip {
	size_t tensor;
	const char *reason;
} mspec_skip;

typedef struct mspec_view_options {
	const char *const *include; /* globs on tensor or matrix names; none: everything */
	size_t include_count;
	const char *const *exclude;
	size_t exclude_count;
	bool include_optimizer;
	const char *groups_file;    /* rules that go before the built-in ones; NULL: none */
} mspec_view_options;

/* The matrices of a checkpoint: every tensor is in `matrices` or in `skipped`. */
typedef struct mspec_views {
	mspec_matrix *matrices;
	size_t count;
	mspec_skip *skipped;
	size_t skipped_count;
	void *memory; /* owns all of the above */
} mspec_views;

/* See the checkpoint's tensors as matrices, in checkpoint order. Reads no data. `options` may be
 * NULL. MUON_E_USAGE for a bad groups file, MUON_E_MEMORY. */
MUON_API int mspec_views_create(mspec_views *views, const mspec_checkpoint *checkpoint,
                                const mspec_view_options *options, muon_error *err);
MUON_API void mspec_views_destroy(mspec_views *views);

/* Read rows [row, row + row_count) and columns [col, col + col_count) of the matrix as stored
 * (stored_rows x stored_cols) into `buffer`, row_count x col_count, contiguous. */
MUON_API int mspec_read_block(mspec_checkpoint *checkpoint, const mspec_matrix *matrix, int64_t row,
                              int64_t row_count, int64_t col, int64_t col_count, void *buffer,
                              muon_error *err);

/* Names of the groups in the order in which reports list them, NULL-terminated. */
MUON_API const char *const *mspec_groups(void);

/* Tensor index of the gain vector of the norm that feeds this matrix (its length equals cols), or
 * SIZE_MAX where the names don't tell. */
MUON_API size_t mspec_gain_tensor(const mspec_checkpoint *checkpoint, const mspec_matrix *matrix);

/* ---- writing ---------------------------------------------------------------------------- */

/* Copy every tensor of `from` into a new file at `path`, same bits; the ending of the name chooses
 * the format (.h5, .hdf5: HDF5; .safetensors). The file must be given a temporary name by the
 * caller, who renames it once this has returned MUON_OK. `format_name` is "hdf5" or
 * "safetensors". Tensors that can't be read make it fail. `progress` (may be NULL) is called with
 * bytes done and in all. */
typedef void (*mspec_progress_fn)(void *state, double done, double total, const char *what);
MUON_API int mspec_convert(mspec_checkpoint *from, const char *path, const char *format_name,
                           mspec_progress_fn progress, void *progress_state, muon_error *err);

#ifdef __cplusplus
}
#endif
#endif
