/* Blocks of products by BLAS, whose beta C isn't used: C = beta D needs a pass of its own, so that
 * D may as well be added when the block is still in cache. */
#include "kernels/products.h"

#include "kernels/bf16.h"

#include <cblas.h>

#define REAL float
#define NAME(x) x##_f32
#define GEMM cblas_sgemm
#define SYRK cblas_ssyrk
#define ROUND_BF16(x) muon_bf16_to_float(muon_bf16_from_float(x))
#include "kernels/products_blas_body.h"
#undef REAL
#undef NAME
#undef GEMM
#undef SYRK
#undef ROUND_BF16

#define REAL double
#define NAME(x) x##_f64
#define GEMM cblas_dgemm
#define SYRK cblas_dsyrk
#define ROUND_BF16(x) (x) /* not asked for */
#include "kernels/products_blas_body.h"
#undef REAL
#undef NAME
#undef GEMM
#undef SYRK
#undef ROUND_BF16

void muon_blas_block(const muon_product *product, const muon_buffer *buffers,
		     muon_arithmetic arithmetic, const muon_block *block)
{
	if (arithmetic == MUON_ARITHMETIC_F64)
		block_f64(product, buffers, block);
	else
		block_f32(product, buffers, block);
}

void muon_blas_finish(const muon_product *product, const muon_buffer *buffers,
		      muon_arithmetic arithmetic, const muon_block *tile)
{
	const bool rounded = arithmetic == MUON_ARITHMETIC_BF16_EMULATED;
	if (product->beta == 0 && product->diagonal == 0 && !rounded)
		return;
	if (arithmetic == MUON_ARITHMETIC_F64)
		finish_f64(product, buffers, rounded, tile);
	else
		finish_f32(product, buffers, rounded, tile);
}
