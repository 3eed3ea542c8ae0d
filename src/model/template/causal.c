/* Causal attention on top of matrix products: a head's logits in blocks of rows, each as wide as its
 * last row sees, so that little beyond the triangle is computed or kept. */

enum { OP(BLOCK) = 64 };

/* Entries of the blocks of one head whose rows end before row `rows` of a sequence; rows is a
 * multiple of BLOCK or the length. */
static size_t OP(triangle)(int64_t rows)
{
	size_t whole = (size_t)(rows / OP(BLOCK)), rest = (size_t)(rows % OP(BLOCK));
	return whole * (whole + 1) / 2 * OP(BLOCK) * OP(BLOCK) + rest * (size_t)rows;
}

size_t OP(attention_scratch_size)(const mspec_batch *batch)
{
	size_t length = (size_t)batch->length, block = OP(BLOCK);
	return mspec_times(length < block ? length : block, length);
}

size_t OP(attention_weights_size)(const mspec_batch *batch, int64_t heads)
{
	if (!batch->backward)
		return OP(attention_scratch_size)(batch);
	size_t all_heads = mspec_times((size_t)batch->sequences, (size_t)heads);
	return mspec_times(all_heads, OP(triangle)(batch->length));
}

/* Rows [first, first + rows) of one query head of one sequence, and all that they see. */
typedef struct OP(tile) {
	int64_t sequence, head, kv_head;
	int64_t first, rows, width; /* width = first + rows */
	real *weights;              /* rows x width */
} OP(tile);

static OP(tile) OP(tile_at)(const OP(run) *run, const OP(attention) *a, int64_t sequence,
                            int64_t head, int64_t first)
{
	int64_t left = run->batch.length - first, rows = left < OP(BLOCK) ? left : OP(BLOCK);
	size_t before = 0;
	if (run->batch.backward)
		before = (size_t)(sequence * a->heads + head) * OP(triangle)(run->batch.length) +
			 OP(triangle)(first);
	return (OP(tile)){
	    .sequence = sequence,
	    .head = head,
	    .kv_head = head * a->kv_heads / a->heads,
	    .first = first,
	    .rows = rows,
	    .width = first + rows,
	    .weights = a->weights + before,
	};
}

/* Entry 0 of a head at position `row` of a sequence. */
static real *OP(head_at)(const OP(run) *run, const OP(heads) *x, int64_t sequence, int64_t head,
                         int64_t row)
{
	return x->at + (sequence * run->batch.length + row) * x->ld + head * x->step;
}

/* ---- forward ------------------------------------------------------------------------------ */

/* Logits to weights, row by row: the part behind the diagonal becomes 0. */
SIMD_CLONES
static void OP(softmax)(real *restrict logits, int64_t first, int64_t rows, int64_t width)
{
	for (int64_t r = 0; r < rows; r++, logits += width) {
		real max;
		real sum = OP(exponentials)(logits, first + r + 1, width, &max);
		real scale = 1 / sum;
		for (int64_t i = 0; i < width; i++)
			logits[i] *= scale;
	}
}

/* Update the largest of the logits and how many are over 100. A NaN is neither. */
SIMD_CLONES
static void OP(survey_logits)(const real *x, int64_t count, double *most, double *over)
{
	real lanes[OP(LANES)];
	int32_t many[OP(LANES)] = {0};
	int64_t whole = count - count % OP(LANES);
	for (int64_t l = 0; l < OP(LANES); l++)
		lanes[l] = (real)-INFINITY;
	for (int64_t i = 0; i < whole; i += OP(LANES))
		for (int64_t l = 0; l < OP(LANES); l++) {
			lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
			many[l] += x[i + l] > 100;
		}
	for (int64_t i = whole; i < count; i++) {
		lanes[i - whole] = x[i] > lanes[i - whole] ? x[i] : lanes[i - whole];
		many[i - whole] += x[i] > 100;
	}
	for (int64_t l = 0; l < OP(LANES); l++) {
		*most = (double)lanes[l] > *most ? (double)lanes[l] : *most;
		*over += many[l];
	}
}

static void OP(record_logits)(const OP(run) *run, const OP(attention) *a, const OP(tile) *tile)
{
	double most = -INFINITY, over = 0;
	if (!run->records || !(run->records->layers || run->records->head_max_logits))
		return;
	for (int64_t r = 0; r < tile->rows; r++)
		OP(survey_logits)(tile->weights + r * tile->width, tile->first + r + 1, &most,
		                  &over);
	double count = (double)tile->rows * ((double)tile->first + ((double)tile->rows + 1) / 2);
	if (run->records->layers) {
		mspec_layer_record *record = &run->records->layers[a->layer];
		record->max_attention_logit = fmax(record->max_attention_logit, most);
		record->logits_over_100 += over;
		record->logit_count += count;
	}
	if (run->records->head_max_logits) {
		double *head = &run->records->head_max_logits[a->layer * a->heads + tile->head];
		*head = fmax(*head, most);
	}
}

static void OP(tile_forward)(const OP(run) *run, const OP(attention) *a, const OP(tile) *t)
{
	const real *q = OP(head_at)(run, &a->q, t->sequence, t->head, t->first);
	const real *k = OP(head_at)(run, &a->k, t->sequence, t->kv_head, 0);
	const real *v = OP(head_at)(run, &a->v, t->sequence, t->kv_head, 0);
	real *out = OP(head_at)(run, &a->out, t->sequence, t->head, t->first);
	const real scale = (real)(1 / sqrt((double)a->qk_dim));
	OP(gemm)(CblasNoTrans, CblasTrans, t->rows, t->width, a->qk_dim, scale, q, a->q.ld, k,
	         a->k.ld, false, t->weights, t->width);
	OP(round)(run, t->weights, t->rows * t->width);
	OP(record_logits)(run, a, t);
	OP(softmax)(t->weights, t->first, t->rows, t->width);
	OP(round)(run, t->weights, t->rows * t->width);
	OP(gemm)(CblasNoTrans, CblasNoTrans, t->rows, a->value_dim, t->width, 1, t->weights,
	         t->width, v, a->v.ld, false, out, a->out.ld);
	OP(round_rows)(run, out, t->rows, a->value_dim, a->out.ld);
}

void OP(causal_forward)(const OP(run) *run, const OP(attention) *attention)
{
	for (int64_t s = 0; s < run->batch.sequences; s++)
		for (int64_t h = 0; h < attention->heads; h++)
			for (int64_t i = 0; i < run->batch.length; i += OP(BLOCK)) {
				OP(tile) tile = OP(tile_at)(run, attention, s, h, i);
				OP(tile_forward)(run, attention, &tile);
			}
}

/* ---- backward ----------------------------------------------------------------------------- */

/* Gradient of the logits, in place of that of the weights w: w (dw - w . dw), row by row. */
SIMD_CLONES
static void OP(softmax_gradient)(const real *restrict w, real *restrict dw, int64_t rows,
                                 int64_t width)
{
	for (int64_t r = 0; r < rows; r++, w += width, dw += width) {
		real mean = OP(dot)(w, dw, width);
		for (int64_t i = 0; i < width; i++)
			dw[i] = w[i] * (dw[i] - mean);
	}
}

typedef struct OP(attention_gradients) {
	OP(heads) dout, dq, dk, dv;
	real *scratch;
} OP(attention_gradients);

/* dk and dv are overwritten, or added to if `add`. */
static void OP(tile_backward)(const OP(run) *run, const OP(attention) *a, const OP(tile) *t,
                              const OP(attention_gradients) *g, bool add)
{
	const real *q = OP(head_at)(run, &a->q, t->sequence, t->head, t->first);
	const real *k = OP(head_at)(run, &a->k, t->sequence, t->kv_head, 0);
	const real *v = OP(head_at)(run, &a->v, t->sequence, t->kv_head, 0);
	const real *dout = OP(head_at)(run, &g->dout, t->sequence, t->head, t->first);
	real *dq = OP(head_at)(run, &g->dq, t->sequence, t->head, t->first);
	real *dk = OP(head_at)(run, &g->dk, t->sequence, t->kv_head, 0);
	real *dv = OP(head_at)(run, &g->dv, t->sequence, t->kv_head, 0);
	const real scale = (real)(1 / sqrt((double)a->qk_dim));
	const int64_t rows = t->rows, width = t->width;
	OP(gemm)(CblasTrans, CblasNoTrans, width, a->value_dim, rows, 1, t->weights, width, dout,
	         g->dout.ld, add, dv, g->dv.ld);
	OP(gemm)(CblasNoTrans, CblasTrans, rows, width, a->value_dim, 1, dout, g->dout.ld, v,
	         a->v.ld, false, g->scratch, width);
	OP(round)(run, g->scratch, rows * width);
	OP(softmax_gradient)(t->weights, g->scratch, rows, width);
	OP(round)(run, g->scratch, rows * width);
	OP(gemm)(CblasNoTrans, CblasNoTrans, rows, a->qk_dim, width, scale, g->scratch, width, k,
	         a->k.ld, false, dq, g->dq.ld);
	OP(round_rows)(run, dq, rows, a->qk_dim, g->dq.ld);
	OP(gemm)(CblasTrans, CblasNoTrans, width, a->qk_dim, rows, scale, g->scratch, width, q,
	         a->q.ld, add, dk, g->dk.ld);
}

/* A key head's gradient, from all query heads that read it. The last rows see the whole sequence, so
 * they come first and overwrite. */
static void OP(kv_head_backward)(const OP(run) *run, const OP(attention) *a, int64_t sequence,
                                 int64_t kv_head, const OP(attention_gradients) *g)
{
	const int64_t shared = a->heads / a->kv_heads, length = run->batch.length;
	bool add = false;
	for (int64_t h = kv_head * shared; h < (kv_head + 1) * shared; h++)
		for (int64_t i = (length - 1) / OP(BLOCK) * OP(BLOCK); i >= 0; i -= OP(BLOCK)) {
			OP(tile) tile = OP(tile_at)(run, a, sequence, h, i);
			OP(tile_backward)(run, a, &tile, g, add);
			add = true;
		}
	OP(round_rows)(run, OP(head_at)(run, &g->dk, sequence, kv_head, 0), length, a->qk_dim,
	               g->dk.ld);
	OP(round_rows)(run, OP(head_at)(run, &g->dv, sequence, kv_head, 0), length, a->value_dim,
	               g->dv.ld);
}

void OP(causal_backward)(const OP(run) *run, const OP(attention) *attention, OP(heads) dout,
                         OP(heads) dq, OP(heads) dk, OP(heads) dv, real *scratch)
{
	OP(attention_gradients) gradients = {dout, dq, dk, dv, scratch};
	for (int64_t s = 0; s < run->batch.sequences; s++)
		for (int64_t g = 0; g < attention->kv_heads; g++)
			OP(kv_head_backward)(run, attention, s, g, &gradients);
}
