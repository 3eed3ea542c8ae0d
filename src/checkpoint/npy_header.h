/* The header of an array in the .npy format: magic, version, length, a Python dict literal. */
#ifndef MUONSPEC_CHECKPOINT_NPY_HEADER_H
#define MUONSPEC_CHECKPOINT_NPY_HEADER_H

#include <muonspec/checkpoint.h>

#define MSPEC_NPY_PREFIX 12          /* bytes that tell the size of the header */
#define MSPEC_NPY_MAX_HEADER 1048576 /* NumPy itself stops at 10000 bytes unless told otherwise */

typedef struct mspec_npy_header {
	muon_dtype dtype; /* MUON_DTYPE_NONE for text, objects, structures, complex numbers, ... */
	char type_name[32]; /* "<f4", or a word where there is no number type */
	bool big_endian;
	bool fortran_order; /* elements in column-major order */
	int rank;           /* may be over MSPEC_MAX_RANK; dims has no more than that many */
	int64_t dims[MSPEC_MAX_RANK];
} mspec_npy_header;

/* Bytes from the start of the array to its data, judged by its first MSPEC_NPY_PREFIX bytes; 0, and
 * the reason in *problem (static text), if this is no .npy array. */
size_t mspec_npy_header_size(const unsigned char *prefix, const char **problem);

/* Parse a header of `size` bytes, prefix included. False, and the reason in *problem, if malformed.
 * A type that is no number is not malformed. */
bool mspec_npy_header_parse(const unsigned char *bytes, size_t size, mspec_npy_header *header,
                            const char **problem);

#endif
