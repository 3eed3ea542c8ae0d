/* Plans by arithmetic, so that tests reach what the machine has no bf16 for. */
#ifndef MUON_KERNELS_NEWTON_SCHULZ_INTERNAL_H
#define MUON_KERNELS_NEWTON_SCHULZ_INTERNAL_H

#include "kernels/products.h"

#include <muon/kernels.h>

int muon_ns_plan_create_with(muon_ns_plan **out, int64_t rows, int64_t cols,
			     const muon_coefficients *coefficients, muon_arithmetic arithmetic,
			     muon_ns_form form);

#endif
