/* RMSNorm (Zhang and Sennrich 2019): y = x / sqrt(mean x^2 + eps) * gain. */

SIMD_CLONES
static void OP(inverse_rms)(const real *x, int64_t ldx, int64_t rows, int64_t cols, double eps,
                            real *rstd)
{
	for (int64_t t = 0; t < rows; t++) {
		const real *row = x + t * ldx;
		rstd[t] = (real)(1 / sqrt((double)OP(dot)(row, row, cols) / (double)cols + eps));
	}
}

SIMD_CLONES
static void OP(normalize)(const real *restrict x, int64_t ldx, int64_t rows, int64_t cols,
                          const real *restrict rstd, const real *restrict gain, real *restrict y)
{
	for (int64_t t = 0; t < rows; t++)
		for (int64_t i = 0; i < cols; i++)
			y[t * cols + i] = x[t * ldx + i] * rstd[t] * gain[i];
}

void OP(norm_forward)(const OP(run) *run, size_t gain, const real *x, int64_t ldx, int64_t rows,
                      real *y, real *rstd)
{
	int64_t cols = run->model->tensors[gain].count;
	OP(inverse_rms)(x, ldx, rows, cols, run->model->config.norm_eps, rstd);
	OP(norm_repeat)(run, gain, x, ldx, rows, rstd, y);
}

void OP(norm_repeat)(const OP(run) *run, size_t gain, const real *x, int64_t ldx, int64_t rows,
                     const real *rstd, real *y)
{
	int64_t cols = run->model->tensors[gain].count;
	OP(normalize)(x, ldx, rows, cols, rstd, OP(weights)(run, gain, 1), y);
	OP(round)(run, y, rows * cols);
}

/* With n = x rstd and h = gain dy: dx = rstd (h - n mean(n h)), d_gain = sum of n dy. */
SIMD_CLONES
static void OP(norm_gradients)(const real *restrict x, int64_t ldx, int64_t rows, int64_t cols,
                               const real *restrict rstd, const real *restrict gain,
                               const real *restrict dy, real *restrict dx, real *restrict d_gain)
{
	for (int64_t t = 0; t < rows; t++, x += ldx, dx += ldx, dy += cols) {
		real lanes[OP(LANES)] = {0}, sum = 0;
		int64_t whole = cols - cols % OP(LANES);
		for (int64_t i = 0; i < whole; i += OP(LANES))
			for (int64_t l = 0; l < OP(LANES); l++)
				lanes[l] += x[i + l] * gain[i + l] * dy[i + l];
		for (int64_t i = whole; i < cols; i++)
			lanes[i - whole] += x[i] * gain[i] * dy[i];
		for (int64_t l = 0; l < OP(LANES); l++)
			sum += lanes[l];
		real r = rstd[t], share = sum * r * r / (real)cols;
		for (int64_t i = 0; i < cols; i++) {
			dx[i] += r * (gain[i] * dy[i] - x[i] * share);
			d_gain[i] += x[i] * r * dy[i];
		}
	}
}

void OP(norm_backward)(const OP(run) *run, size_t gain, const real *x, int64_t ldx, int64_t rows,
                       const real *rstd, const real *dy, real *dx)
{
	const mspec_model_tensor *tensor = &run->model->tensors[gain];
	OP(norm_gradients)(x, ldx, rows, tensor->count, rstd, OP(weights)(run, gain, 1), dy, dx,
	                   run->gradient + tensor->offset);
	OP(round_rows)(run, dx, rows, tensor->count, ldx);
}
