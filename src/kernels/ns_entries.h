/* Entries on their way into a Newton-Schulz iteration and out of it. */
#ifndef MUON_KERNELS_NS_ENTRIES_H
#define MUON_KERNELS_NS_ENTRIES_H

#include "kernels/products.h"

/* A matrix of the caller's: rows x cols float32, or float64 for MUON_ARITHMETIC_F64. */
typedef struct muon_ns_matrix {
	int64_t rows, cols, ld;
	const void *entries;
} muon_ns_matrix;

/* |M|_F as norm / scale, where scale is a power of two, 1 but for float64 entries whose squares
 * would over- or underflow. MUON_E_NONFINITE for NaN or Inf in M. */
int muon_ns_norm(const muon_ns_matrix *m, muon_arithmetic arithmetic, double *norm, double *scale);

/* to = M * scale * factor, the product formed in float64 entry by entry; `to` has the type of the
 * arithmetic, and may be M itself if it has M's leading dimension. */
void muon_ns_load(const muon_ns_matrix *m, muon_arithmetic arithmetic, double scale, double factor,
		  const muon_buffer *to);

/* Write the iteration's rows x cols entries to `to`, which has the caller's type. */
void muon_ns_store(const muon_buffer *from, muon_arithmetic arithmetic, int64_t rows, int64_t cols,
		   const muon_buffer *to);

#endif
