/* What the safetensors reader and writer share. */
#ifndef MUONSPEC_CHECKPOINT_SAFETENSORS_H
#define MUONSPEC_CHECKPOINT_SAFETENSORS_H

#include <muon/kernels.h>

/* Bytes of a header: that of a checkpoint of 250,000 tensors. */
#define MSPEC_SAFETENSORS_MAX_HEADER 33554432

/* The data is read and written as it is in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data is little-endian");

/* What the format calls each type. */
extern const char *const mspec_safetensors_types[MUON_DTYPE_COUNT];

#endif
