/* y = x W^T for a group of weights that read the same input. */

/* Rows of the group's matrix, which is `count` matrices one under the other. */
static int64_t OP(group_rows)(const OP(run) *run, size_t first, size_t count)
{
	int64_t rows = 0;
	for (size_t i = first; i < first + count; i++)
		rows += run->model->tensors[i].dims[0];
	return rows;
}

const real *OP(weights)(const OP(run) *run, size_t first, size_t count)
{
	const mspec_model_tensor *tensor = &run->model->tensors[first];
	const real *weights = run->parameters + tensor->offset;
	if (!run->bf16)
		return weights;
	OP(to_bf16)(weights, run->rounded, OP(group_rows)(run, first, count) * tensor->dims[1]);
	return run->rounded;
}

static void OP(product)(const OP(run) *run, size_t first, size_t count, const real *x, int64_t ldx,
                        int64_t rows, real *y)
{
	int64_t out = OP(group_rows)(run, first, count), in = run->model->tensors[first].dims[1];
	OP(gemm)(CblasNoTrans, CblasTrans, rows, out, in, 1, x, ldx, OP(weights)(run, first, count),
	         in, false, y, out);
}

static void OP(record_group)(const OP(run) *run, size_t first, size_t count, const real *y,
                             int64_t rows)
{
	int64_t out = OP(group_rows)(run, first, count);
	for (size_t i = first; i < first + count; i++) {
		int64_t cols = run->model->tensors[i].dims[0];
		OP(record_output)(run, i, y, rows, cols, out);
		y += cols;
	}
}

void OP(linear_forward)(const OP(run) *run, size_t first, size_t count, const real *x, int64_t ldx,
                        int64_t rows, real *y)
{
	if (rows == 0)
		return;
	OP(product)(run, first, count, x, ldx, rows, y);
	OP(round)(run, y, rows * OP(group_rows)(run, first, count));
	OP(record_group)(run, first, count, y, rows);
}

void OP(linear_unrounded)(const OP(run) *run, size_t first, size_t count, const real *x,
                          int64_t ldx, int64_t rows, real *y)
{
	OP(product)(run, first, count, x, ldx, rows, y);
	OP(record_group)(run, first, count, y, rows);
}

void OP(linear_backward)(const OP(run) *run, size_t first, size_t count, const real *x, int64_t ldx,
                         const real *dy, int64_t rows, real *dx, bool add)
{
	const mspec_model_tensor *tensor = &run->model->tensors[first];
	int64_t out = OP(group_rows)(run, first, count), in = tensor->dims[1];
	if (rows == 0)
		return;
	if (x)
		OP(gemm)(CblasTrans, CblasNoTrans, out, in, rows, 1, dy, out, x, ldx, true,
		         run->gradient + tensor->offset, in);
	if (!dx)
		return;
	OP(gemm)(CblasNoTrans, CblasNoTrans, rows, in, out, 1, dy, out,
	         OP(weights)(run, first, count), in, add, dx, ldx);
	OP(round_rows)(run, dx, rows, in, ldx);
}
