/* How large attention logits can get, from weights alone. */
#ifndef MUONSPEC_ANALYSIS_ATTENTION_BOUND_H
#define MUONSPEC_ANALYSIS_ATTENTION_BOUND_H

#include <muonspec/forward.h>

/* For each head of a layer, a bound on |q.k|/sqrt(d) over all inputs: the norm before attention
 * leaves |x|^2 <= hidden max(gain)^2, taken into the matrices; rotating parts are bounded by the
 * product of their spectral norms, MLA's other part by the spectral norm of the product Wq^T Wk.
 * `bounds` has config->heads entries. MUON_E_FORMAT for a tensor that is missing or of another
 * shape, MUON_E_READ, MUON_E_MEMORY. */
int mspec_attention_bounds(mspec_checkpoint *checkpoint, const mspec_model_config *config,
			   int64_t layer, double *bounds, muon_error *err);

/* Largest singular value of A^T B out of Gram matrices a = A A^T and b = B B^T (n x n, b NULL: that
 * of A alone), by power iteration; `work` has 3 n entries. */
double mspec_product_norm(const double *a, const double *b, int64_t n, double *work);

#endif
