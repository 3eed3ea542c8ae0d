/* How large attention logits can get, from weights alone. */
#ifndef MUONSPEC_ANALYSIS_ATTENTION_BOUND_H
#define MUONSPEC_ANALYSIS_ATTENTION_BOUND_H

#include <muonspec/forward.h>

/* For each head of a layer, a bound on |q.k|/sqrt(d) over all inputs and positions. The norm before
 * the matrices leaves |x|^2 <= hidden, its gain is taken into them. What rotates is bounded by the
 * product of the two spectral norms, as a rotation between them may turn any direction into any
 * other; MLA's part that doesn't by the spectral norm of the product Wq^T Wk, its latent having a
 * norm of its own. Approached from below, to about 1e-9.
 * `bounds` has config->heads entries. MUON_E_FORMAT for a tensor that is missing or of another
 * shape, MUON_E_NONFINITE, MUON_E_READ, MUON_E_MEMORY. */
int mspec_attention_bounds(mspec_checkpoint *checkpoint, const mspec_model_config *config,
                           int64_t layer, double *bounds, muon_error *err);

/* Largest singular value of A^T B out of the Gram matrices a = A A^T and b = B B^T (n x n; b NULL:
 * that of A alone), by power iteration; `work` has 3 n entries. */
double mspec_product_norm(const double *a, const double *b, int64_t n, double *work);

#endif
