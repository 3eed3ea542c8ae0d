/* The products that a Newton-Schulz iteration consists of, for one shape, in order. */
#ifndef MUON_KERNELS_NS_PROGRAM_H
#define MUON_KERNELS_NS_PROGRAM_H

#include "kernels/products.h"

#include <muon/kernels.h>

/* Buffers: two of the matrix' shape, by turns X and the next X, and four of its short side
 * squared. */
enum { NS_X, NS_Y, NS_SQUARES, NS_BUFFERS = NS_SQUARES + 4 };

enum { NS_MAX_PRODUCTS = 6 * MUON_NS_MAX_STEPS };

typedef struct muon_ns_program {
	int result; /* buffer of the last X; the first is NS_X */
	bool used[NS_BUFFERS];
	double flops;
	int count;
	muon_product products[NS_MAX_PRODUCTS];
} muon_ns_program;

/* Write the products of `form`, which is not AUTO, into *program. */
void muon_ns_program_write(muon_ns_program *program, int rows, int cols,
			   const muon_coefficients *coefficients, muon_arithmetic arithmetic,
			   muon_ns_form form);

#endif
