/* The operators in float64, for gradient checks: names end in _f64. */
#ifndef MSPEC_MODEL_FLOAT64_H
#define MSPEC_MODEL_FLOAT64_H

#undef REAL_BITS
#define REAL_BITS 64
#include "model/template/operators.h"

#endif
