/* The operators and the model in float32. */
#include "model/float32.h"

#include "kernels/simd.h"

#include "model/template/vector.c"

#include "model/template/linear.c"
#include "model/template/norm.c"
#include "model/template/rope.c"

#include "model/template/causal.c"

#include "model/template/attention.c"
#include "model/template/mla.c"
#include "model/template/mlp.c"
#include "model/template/moe.c"

#include "model/template/loss.c"

#include "model/template/whole.c"
