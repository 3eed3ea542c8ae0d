/* SwiGLU (Shazeer 2020): y = down (silu(gate x) * up x), silu(g) = g sigmoid(g). */

SIMD_CLONES
static void OP(gated)(const real *restrict gate_up, int64_t rows, int64_t width, real *restrict y)
{
	for (int64_t t = 0; t < rows; t++, gate_up += 2 * width, y += width)
		for (int64_t i = 0; i < width; i++) {
			real g = gate_up[i], u = gate_up[width + i];
			y[i] = g * OP(sigmoid)(g) * u;
		}
}

/* With s = sigmoid(g): d silu/dg = s (1 + g (1 - s)). y is left in dy. */
SIMD_CLONES
static void OP(gated_gradients)(const real *restrict gate_up, int64_t rows, int64_t width,
                                real *restrict dy, real *restrict d_gate_up)
{
	for (int64_t t = 0; t < rows; t++) {
		for (int64_t i = 0; i < width; i++) {
			real g = gate_up[i], u = gate_up[width + i], d = dy[i];
			real s = OP(sigmoid)(g);
			d_gate_up[i] = d * u * s * (1 + g * (1 - s));
			d_gate_up[width + i] = d * g * s;
			dy[i] = g * s * u;
		}
		gate_up += 2 * width;
		d_gate_up += 2 * width;
		dy += width;
	}
}

void OP(swiglu_forward)(const OP(run) *run, const real *gate_up, int64_t rows, int64_t width,
                        real *y)
{
	OP(gated)(gate_up, rows, width, y);
	OP(round)(run, y, rows * width);
}

void OP(swiglu_backward)(const OP(run) *run, const real *gate_up, int64_t rows, int64_t width,
                         real *dy, real *d_gate_up)
{
	OP(gated_gradients)(gate_up, rows, width, dy, d_gate_up);
	OP(round)(run, d_gate_up, rows * 2 * width);
	OP(round)(run, dy, rows * width);
}

void OP(swiglu_mlp_forward)(const OP(run) *run, size_t gate, const real *x, int64_t rows, real *y,
                            real *kept, real *act)
{
	const int64_t hidden = run->model->tensors[gate].dims[1];
	const int64_t width = run->model->tensors[gate].dims[0];
	OP(linear_forward)(run, gate, 2, x, hidden, rows, kept);
	OP(swiglu_forward)(run, kept, rows, width, act);
	OP(linear_forward)(run, gate + 2, 1, act, width, rows, y);
}

void OP(swiglu_mlp_backward)(const OP(run) *run, size_t gate, const real *x, int64_t rows,
                             const real *dy, real *dx, bool add, const real *kept, real *scratch)
{
	const int64_t hidden = run->model->tensors[gate].dims[1];
	const int64_t width = run->model->tensors[gate].dims[0];
	real *act = scratch, *d_gate_up = scratch + rows * width; /* act: its gradient first */
	OP(linear_backward)(run, gate + 2, 1, NULL, width, dy, rows, act, false);
	OP(swiglu_backward)(run, kept, rows, width, act, d_gate_up);
	OP(linear_backward)(run, gate + 2, 1, act, width, dy, rows, NULL, false);
	OP(linear_backward)(run, gate, 2, x, hidden, d_gate_up, rows, dx, add);
}

/* ---- the block ---------------------------------------------------------------------------- */

static size_t OP(mlp_kept)(const mspec_model *model, int64_t layer, const mspec_batch *batch)
{
	(void)layer;
	return mspec_times(mspec_batch_rows(batch), (size_t)(2 * model->config.ffn));
}

static size_t OP(mlp_scratch)(const mspec_model *model, int64_t layer, const mspec_batch *batch)
{
	(void)layer;
	return mspec_times(mspec_batch_rows(batch),
	                   (size_t)(model->config.ffn * (batch->backward ? 3 : 1)));
}

static void OP(mlp_forward)(OP(run) *run, int64_t layer, const real *x, real *y, real *kept)
{
	OP(swiglu_mlp_forward)(run, run->model->layers[layer].gate, x, run->rows, y, kept,
	                       run->scratch);
}

static void OP(mlp_backward)(OP(run) *run, int64_t layer, const real *x, const real *dy, real *dx,
                             real *kept)
{
	OP(swiglu_mlp_backward)(run, run->model->layers[layer].gate, x, run->rows, dy, dx, false, kept,
	                        run->scratch);
}

const OP(block) OP(mlp_block) = {
    .kept = OP(mlp_kept),
    .scratch = OP(mlp_scratch),
    .forward = OP(mlp_forward),
    .backward = OP(mlp_backward),
};
