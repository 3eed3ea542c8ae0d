/* Entrywise operations, sums over a row, and the records. */

enum { OP(LANES) = 32 }; /* independent sums: enough registers to hide an addition's latency */

/* rows x cols zeros with leading dimension ld. */
static void OP(zero_rows)(real *x, int64_t rows, int64_t cols, int64_t ld)
{
	if (ld == cols)
		memset(x, 0, (size_t)(rows * cols) * sizeof *x);
	else
		for (int64_t t = 0; t < rows; t++)
			memset(x + t * ld, 0, (size_t)cols * sizeof *x);
}

/* C = alpha op(A) op(B), or that added to C: BLAS' gemm, row-major. OpenBLAS is slower at writing
 * zeros than memset. */
static void OP(gemm)(CBLAS_TRANSPOSE trans_a, CBLAS_TRANSPOSE trans_b, int64_t m, int64_t n,
                     int64_t k, real alpha, const real *a, int64_t lda, const real *b, int64_t ldb,
                     bool add, real *c, int64_t ldc)
{
	if (!add)
		OP(zero_rows)(c, m, n, ldc);
	CBLAS_GEMM(CblasRowMajor, trans_a, trans_b, (int)m, (int)n, (int)k, alpha, a, (int)lda, b,
	           (int)ldb, 1, c, (int)ldc);
}

/* a . b, in a fixed order. */
static inline real OP(dot)(const real *restrict a, const real *restrict b, int64_t count)
{
	real lanes[OP(LANES)] = {0}, sum = 0;
	int64_t whole = count - count % OP(LANES);
	for (int64_t i = 0; i < whole; i += OP(LANES))
		for (int64_t l = 0; l < OP(LANES); l++)
			lanes[l] += a[i + l] * b[i + l];
	for (int64_t i = whole; i < count; i++)
		lanes[i - whole] += a[i] * b[i];
	for (int64_t l = 0; l < OP(LANES); l++)
		sum += lanes[l];
	return sum;
}

/* x[i] becomes e^(x[i] - max) for i < seen, 0 from there to `width`; *max is the largest of the
 * seen. Returns the sum. Loops end at a multiple of LANES, if there is one between seen and width. */
static inline real OP(exponentials)(real *restrict x, int64_t seen, int64_t width, real *max)
{
	real lanes[OP(LANES)], most = x[0], sum = 0;
	int64_t end = (seen + OP(LANES) - 1) / OP(LANES) * OP(LANES);
	end = end < width ? end : width;
	int64_t whole = end - end % OP(LANES);
	for (int64_t i = seen; i < end; i++)
		x[i] = (real)-INFINITY;
	for (int64_t l = 0; l < OP(LANES); l++)
		lanes[l] = most;
	for (int64_t i = 0; i < whole; i += OP(LANES))
		for (int64_t l = 0; l < OP(LANES); l++)
			lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
	for (int64_t i = whole; i < end; i++)
		most = x[i] > most ? x[i] : most;
	for (int64_t l = 0; l < OP(LANES); l++)
		most = lanes[l] > most ? lanes[l] : most;
	for (int64_t l = 0; l < OP(LANES); l++)
		lanes[l] = 0;
	for (int64_t i = 0; i < whole; i += OP(LANES))
		for (int64_t l = 0; l < OP(LANES); l++) {
			x[i + l] = OP(exp)(x[i + l] - most);
			lanes[l] += x[i + l];
		}
	for (int64_t i = whole; i < end; i++) {
		x[i] = OP(exp)(x[i] - most);
		sum += x[i];
	}
	for (int64_t l = 0; l < OP(LANES); l++)
		sum += lanes[l];
	for (int64_t i = end; i < width; i++)
		x[i] = 0;
	*max = most;
	return sum;
}

#if REAL_BITS == 32
SIMD_CLONES
static void mspec_to_bf16_f32(const float *x, float *rounded, int64_t count)
{
	for (int64_t i = 0; i < count; i++) {
		uint32_t bits;
		memcpy(&bits, &x[i], sizeof bits);
		uint32_t nearest = bits + 0x7fff + ((bits >> 16) & 1);
		uint32_t quiet = bits | 0x400000; /* a NaN stays one without its low half */
		bool is_nan = (int32_t)(bits & 0x7fffffff) > 0x7f800000;
		bits = (is_nan ? quiet : nearest) & 0xffff0000;
		memcpy(&rounded[i], &bits, sizeof bits);
	}
}
#else
static void mspec_to_bf16_f64(const double *x, double *rounded, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		rounded[i] = muon_round_bf16(x[i]);
}
#endif

void OP(round)(const OP(run) *run, real *x, int64_t count)
{
	if (run->bf16)
		OP(to_bf16)(x, x, count);
}

void OP(round_rows)(const OP(run) *run, real *x, int64_t rows, int64_t cols, int64_t ld)
{
	if (!run->bf16)
		return;
	if (ld == cols)
		OP(to_bf16)(x, x, rows * cols);
	else
		for (int64_t t = 0; t < rows; t++)
			OP(to_bf16)(x + t * ld, x + t * ld, cols);
}

SIMD_CLONES
static void OP(sum)(const real *a, const real *b, real *sum, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		sum[i] = a[i] + b[i];
}

void OP(add)(const OP(run) *run, const real *a, const real *b, real *sum, int64_t count)
{
	OP(sum)(a, b, sum, count);
	OP(round)(run, sum, count);
}

SIMD_CLONES
static void OP(multiply)(real *x, int64_t count, real factor)
{
	for (int64_t i = 0; i < count; i++)
		x[i] *= factor;
}

/* ---- records ------------------------------------------------------------------------------ */

SIMD_CLONES
static double OP(sum_of_squares)(const real *x, int64_t count)
{
	double lanes[OP(LANES)] = {0}, sum = 0;
	int64_t whole = count - count % OP(LANES);
	for (int64_t i = 0; i < whole; i += OP(LANES))
		for (int64_t l = 0; l < OP(LANES); l++)
			lanes[l] += (double)x[i + l] * (double)x[i + l];
	for (int64_t i = whole; i < count; i++)
		lanes[i - whole] += (double)x[i] * (double)x[i];
	for (int64_t l = 0; l < OP(LANES); l++)
		sum += lanes[l];
	return sum;
}

/* The largest |x|; NaN counts for nothing, as it shows in the sum of squares. */
SIMD_CLONES
static double OP(largest)(const real *x, int64_t count)
{
	real lanes[OP(LANES)] = {0}, most = 0;
	int64_t whole = count - count % OP(LANES);
	for (int64_t i = 0; i < whole; i += OP(LANES))
		for (int64_t l = 0; l < OP(LANES); l++) {
			real size = x[i + l] < 0 ? -x[i + l] : x[i + l];
			lanes[l] = size > lanes[l] ? size : lanes[l];
		}
	for (int64_t i = whole; i < count; i++) {
		real size = x[i] < 0 ? -x[i] : x[i];
		lanes[i - whole] = size > lanes[i - whole] ? size : lanes[i - whole];
	}
	for (int64_t l = 0; l < OP(LANES); l++)
		most = lanes[l] > most ? lanes[l] : most;
	return (double)most;
}

static void OP(record)(double *sumsq, double *max_abs, double *count, const real *y, int64_t rows,
                       int64_t cols, int64_t ld)
{
	for (int64_t t = 0; t < rows; t++) {
		*sumsq += OP(sum_of_squares)(y + t * ld, cols);
		*max_abs = fmax(*max_abs, OP(largest)(y + t * ld, cols));
	}
	*count += (double)rows * (double)cols;
}

void OP(record_output)(const OP(run) *run, size_t tensor, const real *y, int64_t rows, int64_t cols,
                       int64_t ld)
{
	if (!run->records || !run->records->tensors)
		return;
	mspec_tensor_record *r = &run->records->tensors[tensor];
	OP(record)(&r->output_sumsq, &r->output_max_abs, &r->output_count, y, rows, cols, ld);
}

void OP(record_layer)(const OP(run) *run, int64_t layer, const real *output)
{
	if (!run->records || !run->records->layers)
		return;
	mspec_layer_record *r = &run->records->layers[layer];
	int64_t hidden = run->model->config.hidden;
	OP(record)(&r->output_sumsq, &r->output_max_abs, &r->output_count, output, run->rows, hidden,
	           hidden);
}
