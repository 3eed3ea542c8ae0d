/* Matrix products of an iteration on matrices that stay in a few buffers. A product is cut into
 * tiles, which are computed by one or more threads; the tiles depend on the shape alone, and each
 * is computed by one thread, so that the bits don't depend on the threads. A product that is known
 * to be symmetric is computed below its diagonal and mirrored. */
#ifndef MUON_KERNELS_PRODUCTS_H
#define MUON_KERNELS_PRODUCTS_H

#include <muon/error.h>
#include <stdbool.h>
#include <stdint.h>

struct muon_onednn;

/* What entries are kept as, and what multiplies them. */
typedef enum muon_arithmetic {
	MUON_ARITHMETIC_F64,           /* BLAS */
	MUON_ARITHMETIC_F32,           /* BLAS */
	MUON_ARITHMETIC_BF16_EMULATED, /* float32, each product rounded to bf16; BLAS */
	MUON_ARITHMETIC_BF16,          /* oneDNN; accumulated in float32 */
	MUON_ARITHMETIC_ONEDNN_F32     /* oneDNN */
} muon_arithmetic;

size_t muon_arithmetic_size(muon_arithmetic arithmetic); /* bytes of an entry */
bool muon_arithmetic_is_onednn(muon_arithmetic arithmetic);

/* A row-major matrix. */
typedef struct muon_buffer {
	void *entries;
	int64_t ld; /* entries from one row to the next */
} muon_buffer;

/* C = alpha op(A) op(B) + beta D + diagonal I, C rows x cols, op(A) rows x depth. A, B, C and D are
 * indices of buffers; op() transposes where told to. C is none of A, B, D. */
typedef struct muon_product {
	int rows, cols, depth;
	int left, right, out, addend; /* A, B, C, D; D is not read where beta = 0 */
	bool left_transposed, right_transposed;
	bool symmetric; /* the result is known to be; rows = cols */
	double alpha, beta, diagonal;
} muon_product;

/* A part of C. */
typedef struct muon_block {
	int row, col, rows, cols;
	bool triangle; /* of op(A) op(A)^T, on the diagonal: the lower triangle alone is computed */
} muon_block;

/* How to compute: with an engine that is prepared for the product where oneDNN is to do it. */
typedef struct muon_multiplier {
	muon_arithmetic arithmetic;
	struct muon_onednn *onednn;
	int threads;
} muon_multiplier;

/* Compute one product. `scratch` holds muon_multiplier_scratch bytes and is aligned to 64, as the
 * buffers of oneDNN should be. MUON_E_MEMORY or MUON_E_INTERNAL where oneDNN fails. */
int muon_product_run(const muon_multiplier *multiplier, const muon_product *product,
		     const muon_buffer *buffers, void *scratch);
size_t muon_multiplier_scratch(const muon_multiplier *multiplier);

/* Make ready for a product of buffers with these leading dimensions. MUON_E_UNSUPPORTED,
 * MUON_E_MEMORY. */
int muon_product_prepare(const muon_multiplier *multiplier, const muon_product *product,
			 const int64_t *ld);

/* Multiplications and additions that are really done, those of scaled addition left out. */
double muon_product_flops(const muon_product *product, muon_arithmetic arithmetic);

/* ---- by BLAS: a block, then what is added to a tile of them and its rounding ---------------- */

void muon_blas_block(const muon_product *product, const muon_buffer *buffers,
		     muon_arithmetic arithmetic, const muon_block *block);
void muon_blas_finish(const muon_product *product, const muon_buffer *buffers,
		      muon_arithmetic arithmetic, const muon_block *tile);

/* ---- by oneDNN: primitives for blocks, made beforehand -------------------------------------- */

/* Can oneDNN multiply this here? When not, *why (if not NULL) says what is missing. */
bool muon_onednn_available(muon_arithmetic arithmetic, const char **why);
int muon_onednn_create(struct muon_onednn **out, muon_arithmetic arithmetic);
void muon_onednn_destroy(struct muon_onednn *onednn);
int muon_onednn_prepare(struct muon_onednn *onednn, const muon_product *product, const int64_t *ld,
			const muon_block *block);
size_t muon_onednn_scratch(const struct muon_onednn *onednn); /* bytes, for one thread */
int muon_onednn_block(const struct muon_onednn *onednn, const muon_product *product,
		      const muon_buffer *buffers, const muon_block *block, void *scratch);

#endif
