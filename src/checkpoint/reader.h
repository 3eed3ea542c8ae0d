/* What a checkpoint format provides, and the checkpoint that all formats share. A format is one
 * file with one `const mspec_reader`; checkpoint.c lists them. */
#ifndef MUONSPEC_CHECKPOINT_READER_H
#define MUONSPEC_CHECKPOINT_READER_H

#include "base/memory.h"

#include <muonspec/checkpoint.h>

typedef struct mspec_reader {
	const char *format;
	/* Is the file (open at `fd`, `path` for its name) of this format? Judged by content. */
	bool (*sniff)(int fd, const char *path);
	/* List the tensors with mspec_add_tensor, fill checkpoint->info, keep own state in
	 * checkpoint->file. On failure the caller calls close. */
	int (*open)(mspec_checkpoint *checkpoint, muon_error *err);
	/* mspec_read with arguments already checked against the tensor's size and status. */
	int (*read)(mspec_checkpoint *checkpoint, size_t index, int64_t first, int64_t count,
	            void *buffer, muon_error *err);
	void (*close)(mspec_checkpoint *checkpoint); /* also after a failed open, with any state */
} mspec_reader;

extern const mspec_reader mspec_reader_hdf5, mspec_reader_safetensors, mspec_reader_npz;

typedef struct mspec_entry {
	mspec_tensor tensor;
	int64_t order; /* tensors are sorted by this first, then naturally by name */
	void *source;  /* the reader's own: where the data is */
	const char *alias; /* tensor that this is a second name of (HDF5 links), or NULL; then its
	                      status is not MUON_OK, so that it isn't counted twice */
} mspec_entry;

struct mspec_checkpoint {
	const mspec_reader *reader;
	void *file;
	mspec_checkpoint_info info;
	mspec_open_options options;
	mspec_entry *entries;
	size_t count, capacity;
	muon_arena arena; /* names and reader state that live as long as the checkpoint */
};

/* A new tensor at the end of the list, or NULL when out of memory. The name is copied. `elements`
 * is computed from dims; a product that overflows, a negative size or a size over
 * max_tensor_bytes becomes the tensor's status. An earlier bad status (set afterwards by the
 * reader) is the reader's business. The pointer is valid until the next call. */
mspec_entry *mspec_add_tensor(mspec_checkpoint *checkpoint, const char *name, muon_dtype dtype,
                              const char *type_name, int rank, const int64_t *dims);

/* Mark a tensor as one that can't be read, with the reason (escaped, copied). */
void mspec_set_problem(mspec_checkpoint *checkpoint, mspec_entry *entry, int code,
                       const char *problem);

/* Tell the watcher what is being read; NULL when done. */
void mspec_watch(const mspec_checkpoint *checkpoint, const char *what);

/* Read exactly `bytes` at `offset`; MUON_E_READ with the reason otherwise. */
int mspec_read_at(int fd, void *buffer, size_t bytes, int64_t offset, const char *where,
                  muon_error *err);

/* Reverse the bytes of each of `count` elements. */
void mspec_swap_bytes(void *elements, size_t count, size_t size);

/* The type called `label` in the metadata of a file, e.g. "bfloat16", "float8_e4m3fn";
 * MUON_DTYPE_NONE if unknown. */
muon_dtype mspec_dtype_from_label(const char *label);

/* The role that a tensor's name gives it in a format without groups for that: "optimizer/..." or
 * "optimizer...." anywhere, "activations/..." in our own layout. */
mspec_role mspec_role_from_name(const char *name, const char *layout);

#endif
