/* What a checkpoint format provides, and the checkpoint that all formats share. A format is one
 * file with one `const mspec_reader`; checkpoint.c lists them. */
#ifndef MUONSPEC_CHECKPOINT_READER_H
#define MUONSPEC_CHECKPOINT_READER_H

#include "base/memory.h"

#include <muonspec/checkpoint.h>
#include <sys/types.h>

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
	/* Root attributes; NULL in a format that has none. */
	double (*number)(const mspec_checkpoint *checkpoint, const char *name);
	const char *(*text)(mspec_checkpoint *checkpoint, const char *name);
} mspec_reader;

extern const mspec_reader mspec_reader_hdf5, mspec_reader_safetensors, mspec_reader_npz,
    mspec_reader_llama2c;

typedef struct mspec_entry {
	mspec_tensor tensor;
	int64_t order; /* tensors are sorted by this first, then naturally by name */
	void *source;  /* the reader's own: where the data is */
	const char *link; /* of a tensor with alias_of: "hard", "soft", "external" */
} mspec_entry;

/* A file that the checkpoint is read from. */
typedef struct mspec_file_id {
	dev_t device;
	ino_t number;
	struct mspec_file_id *next;
} mspec_file_id;

struct mspec_checkpoint {
	const mspec_reader *reader;
	void *file;
	mspec_checkpoint_info info;
	mspec_open_options options;
	mspec_entry *entries;
	size_t count, capacity;
	mspec_file_id *files;
	bool files_failed; /* out of memory for them */
	bool listed;       /* open is done: its files are known */
	muon_arena arena; /* names and reader state that live as long as the checkpoint */
};

/* A new tensor at the end of the list, or NULL when out of memory. The name is copied. `elements`
 * is computed from dims; a product that overflows, a negative size or a size over max_tensor_bytes
 * becomes the tensor's status, which the reader may replace by what it finds wrong. The pointer is
 * valid until the next call. */
mspec_entry *mspec_add_tensor(mspec_checkpoint *checkpoint, const char *name, muon_dtype dtype,
                              const char *type_name, int rank, const int64_t *dims);

/* The same for what has no type and shape that could be told. */
mspec_entry *mspec_add_shapeless(mspec_checkpoint *checkpoint, const char *name,
                                 const char *type_name);

/* Elements of an array of these sizes, 0 if any is 0; -1 if one is negative or so many elements of
 * `size` bytes can't be. */
int64_t mspec_count_elements(int rank, const int64_t *dims, size_t size);

/* Mark a tensor as one that can't be read, with the reason (escaped, copied). */
void mspec_set_problem(mspec_checkpoint *checkpoint, mspec_entry *entry, int code,
                       const char *problem);

/* While opening: the checkpoint is read from the file at `path` too. */
void mspec_note_file(mspec_checkpoint *checkpoint, const char *path);

/* Tell the watcher what is being read; NULL when done. */
void mspec_watch(const mspec_checkpoint *checkpoint, const char *what);

/* Tell the watcher that a long reading of `what` goes on well: its time starts again. */
void mspec_watch_again(const mspec_checkpoint *checkpoint, const char *what);

/* Record that memory ran out; returns MUON_E_MEMORY. */
int mspec_out_of_memory(const char *where, muon_error *err);

/* MUON_E_FORMAT if the file only stands for one that Git LFS has not fetched. */
int mspec_refuse_lfs_pointer(int fd, const char *where, muon_error *err);

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

/* Give every tensor listed so far the role that its name and the checkpoint's layout tell. */
void mspec_set_roles(mspec_checkpoint *checkpoint);

#endif
