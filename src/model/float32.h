/* The operators in float32: names end in _f32. */
#ifndef MSPEC_MODEL_FLOAT32_H
#define MSPEC_MODEL_FLOAT32_H

#undef REAL_BITS
#define REAL_BITS 32
#include "model/template/operators.h"

#endif
