/* The head: logits, cross-entropy and, at once, their gradients. */

SIMD_CLONES
static real OP(loss_exponentials)(real *logits, int64_t vocab, real *max)
{
	return OP(exponentials)(logits, vocab, vocab, max);
}

void OP(cross_entropy)(OP(run) *run, real *logits, const int32_t *targets, int64_t rows)
{
	const int64_t vocab = run->model->config.vocab;
	for (int64_t t = 0; t < rows; t++) {
		real *row = logits + t * vocab, max;
		if (targets[t] < 0) {
			memset(row, 0, (size_t)vocab * sizeof *row);
			continue;
		}
		const double logit = (double)row[targets[t]];
		const real sum = OP(loss_exponentials)(row, vocab, &max);
		run->loss_sum += log((double)sum) + (double)max - logit;
		run->loss_count++;
		if (!run->gradient)
			continue;
		OP(multiply)(row, vocab, (real)(run->loss_scale / (double)sum));
		row[targets[t]] -= (real)run->loss_scale;
	}
	if (run->gradient)
		OP(round)(run, logits, rows * vocab);
}

int64_t OP(head_rows)(const mspec_model *model, int64_t rows)
{
	enum { FEWEST = 64, ENTRIES = 1 << 18 };
	int64_t some = ENTRIES / model->config.vocab;
	some = some > FEWEST ? some : FEWEST;
	return some < rows ? some : rows;
}

void OP(head)(OP(run) *run, const real *x, real *dx)
{
	const int64_t vocab = run->model->config.vocab, hidden = run->model->config.hidden;
	const int64_t most = OP(head_rows)(run->model, run->rows);
	real *logits = run->workspace->logits;
	for (int64_t t = 0; t < run->rows; t += most) {
		int64_t rows = run->rows - t < most ? run->rows - t : most;
		OP(linear_forward)(run, run->model->head, 1, x + t * hidden, hidden, rows, logits);
		if (run->logits)
			memcpy(run->logits + t * vocab, logits,
			       (size_t)(rows * vocab) * sizeof *logits);
		if (run->targets)
			OP(cross_entropy)(run, logits, run->targets + t, rows);
		if (run->gradient)
			OP(linear_backward)(run, run->model->head, 1, x + t * hidden, hidden, logits,
			                    rows, dx + t * hidden, false);
	}
}
