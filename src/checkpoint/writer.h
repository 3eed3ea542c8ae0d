/* Writers of checkpoints, one per format: a dataset is declared, then its elements are appended in
 * row-major order. Nothing here knows temporary names; see base/output.h. */
#ifndef MUONSPEC_CHECKPOINT_WRITER_H
#define MUONSPEC_CHECKPOINT_WRITER_H

#include <muonspec/checkpoint.h>

/* Value of the root attribute `muonspec_format` of the layout that we write. */
#define MSPEC_FORMAT_VERSION 1

/* ---- HDF5 (hdf5.c): any order of calls, datasets one after another ---------------------- */

typedef struct mspec_hdf5_writer mspec_hdf5_writer;
int mspec_hdf5_create(mspec_hdf5_writer **out, const char *path, muon_error *err);
/* The same with `reserved` bytes (0, or a power of two from 512 on) before the HDF5 data, which are
 * the caller's (HDF5's user block). */
int mspec_hdf5_create_after(mspec_hdf5_writer **out, const char *path, size_t reserved,
                            muon_error *err);
/* Open a file that this writer has made, to add to it. MUON_E_WRITE. */
int mspec_hdf5_reopen(mspec_hdf5_writer **out, const char *path, muon_error *err);

/* Compress (deflate) the 1-d datasets of 64 elements or more that come after, as tables of results
 * want it; weights hardly gain by it. */
void mspec_hdf5_compress(mspec_hdf5_writer *writer);

/* Declare a dataset; groups in its name ("a/b") are made. bf16 is written as the custom float
 * type, 8-bit floats as uint8 with a `dtype` attribute, bool as h5py's enum. */
int mspec_hdf5_dataset(mspec_hdf5_writer *writer, const char *name, muon_dtype dtype, int rank,
                       const int64_t *dims, muon_error *err);
/* The next `count` elements of the dataset declared last. */
int mspec_hdf5_append(mspec_hdf5_writer *writer, const void *elements, int64_t count,
                      muon_error *err);
/* A whole 1-d dataset of variable-length UTF-8 strings. */
int mspec_hdf5_strings(mspec_hdf5_writer *writer, const char *name, const char *const *strings,
                       size_t count, muon_error *err);
/* Take the dataset or group out, if it is there; its bytes stay unused in the file. */
int mspec_hdf5_remove(mspec_hdf5_writer *writer, const char *name, muon_error *err);
/* Attributes of the dataset or group `object`, or of the root for NULL. */
int mspec_hdf5_attribute_text(mspec_hdf5_writer *writer, const char *object, const char *name,
                              const char *value, muon_error *err);
int mspec_hdf5_attribute_number(mspec_hdf5_writer *writer, const char *object, const char *name,
                                double value, muon_error *err); /* int64 if it is whole */
/* Give the root the texts and numbers that are attributes of another HDF5 file's root. */
int mspec_hdf5_copy_attributes(mspec_hdf5_writer *writer, mspec_checkpoint *from, muon_error *err);
/* Complete the file; MUON_E_WRITE when anything failed. *writer becomes NULL either way. */
int mspec_hdf5_finish(mspec_hdf5_writer **writer, muon_error *err);
/* Give up; leaves whatever was written for the caller to unlink. NULL-safe. */
void mspec_hdf5_abandon(mspec_hdf5_writer **writer);

/* ---- safetensors (safetensors_writer.c): the header comes first, so all tensors are declared at
 * creation and their data is appended in that order -------------------------------------- */

typedef struct mspec_safetensors_writer mspec_safetensors_writer;
typedef struct mspec_declared {
	const char *name;
	muon_dtype dtype;
	int rank;
	const int64_t *dims;
} mspec_declared;
/* `metadata` is key, value, key, value, ..., NULL. */
int mspec_safetensors_create(mspec_safetensors_writer **out, const char *path,
                             const mspec_declared *tensors, size_t count,
                             const char *const *metadata, muon_error *err);
int mspec_safetensors_append(mspec_safetensors_writer *writer, const void *bytes, size_t count,
                             muon_error *err);
int mspec_safetensors_finish(mspec_safetensors_writer **writer, muon_error *err);
void mspec_safetensors_abandon(mspec_safetensors_writer **writer);

#endif
