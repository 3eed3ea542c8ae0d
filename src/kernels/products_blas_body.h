/* Blocks of products in the type REAL; products_blas.c includes this once for each, with GEMM,
 * SYRK, ROUND_BF16 and NAME defined. */

static const REAL *NAME(left)(const muon_product *p, const muon_buffer *buffers, int row)
{
	const muon_buffer *b = &buffers[p->left];
	return (const REAL *)b->entries + (p->left_transposed ? row : row * b->ld);
}

static const REAL *NAME(right)(const muon_product *p, const muon_buffer *buffers, int col)
{
	const muon_buffer *b = &buffers[p->right];
	return (const REAL *)b->entries + (p->right_transposed ? col * b->ld : col);
}

static void NAME(block)(const muon_product *p, const muon_buffer *buffers, const muon_block *block)
{
	const muon_buffer *c = &buffers[p->out];
	const int ld_left = (int)buffers[p->left].ld, ld_right = (int)buffers[p->right].ld;
	REAL *out = (REAL *)c->entries + block->row * c->ld + block->col;
	const CBLAS_TRANSPOSE op_left = p->left_transposed ? CblasTrans : CblasNoTrans;
	const CBLAS_TRANSPOSE op_right = p->right_transposed ? CblasTrans : CblasNoTrans;
	if (block->triangle)
		SYRK(CblasRowMajor, CblasLower, op_left, block->rows, p->depth, (REAL)p->alpha,
		     NAME(left)(p, buffers, block->row), ld_left, 0, out, (int)c->ld);
	else
		GEMM(CblasRowMajor, op_left, op_right, block->rows, block->cols, p->depth,
		     (REAL)p->alpha, NAME(left)(p, buffers, block->row), ld_left,
		     NAME(right)(p, buffers, block->col), ld_right, 0, out, (int)c->ld);
}

static void NAME(finish)(const muon_product *p, const muon_buffer *buffers, bool rounded,
			 const muon_block *tile)
{
	const muon_buffer *c = &buffers[p->out], *d = p->beta != 0 ? &buffers[p->addend] : NULL;
	for (int i = tile->row; i < tile->row + tile->rows; i++) {
		REAL *restrict out = (REAL *)c->entries + i * c->ld;
		int end = tile->col + tile->cols;
		if (p->symmetric && end > i + 1)
			end = i + 1;
		if (d) {
			const REAL *restrict addend = (const REAL *)d->entries + i * d->ld;
			for (int j = tile->col; j < end; j++)
				out[j] += (REAL)p->beta * addend[j];
		}
		if (p->diagonal != 0 && tile->col <= i && i < end)
			out[i] += (REAL)p->diagonal;
		if (rounded)
			for (int j = tile->col; j < end; j++)
				out[j] = ROUND_BF16(out[j]);
	}
}
