#include "analysis/bf16_entries.h"

#include "base/memory.h"

#include <math.h>

enum { BLOCK_ENTRIES = 1 << 18, LEAST_NORMAL = -126, MANTISSA_BITS = 7 };

/* floor(log2 |w|), at least bf16's least normal exponent. */
static int bf16_exponent(double w)
{
	int exponent;
	frexp(w, &exponent); /* |w| in [2^(exponent-1), 2^exponent) */
	exponent--;
	return w == 0 || exponent < LEAST_NORMAL ? LEAST_NORMAL : exponent;
}

double mspec_half_bf16_step(double w)
{
	return ldexp(1, bf16_exponent(w) - MANTISSA_BITS - 1);
}

double mspec_loss_probability(const mspec_update_model *model, double w)
{
	double half = mspec_half_bf16_step(w);
	double drift = model->lr * model->weight_decay * w, spread = model->lr * model->update_rms;
	if (!(spread > 0))
		return fabs(drift) < half;
	double scale = 1 / (spread * sqrt(2));
	return 0.5 * (erf((half - drift) * scale) - erf((-half - drift) * scale));
}

static void count_binade(mspec_bf16_entries *e, double w)
{
	int exponent;
	if (w == 0) {
		e->zeros++;
		return;
	}
	frexp(w, &exponent);
	int b = exponent - 1 - MSPEC_FIRST_BINADE;
	b = b < 0 ? 0 : b;
	e->binades[b < MSPEC_BINADES ? b : MSPEC_BINADES - 1]++;
}

static void add_entries(mspec_bf16_entries *e, const double *w, int64_t count,
			const mspec_update_model *model)
{
	for (int64_t i = 0; i < count; i++) {
		if (!isfinite(w[i])) {
			e->nonfinite++;
			continue;
		}
		e->count++;
		e->sumsq += w[i] * w[i];
		e->max_abs = fmax(e->max_abs, fabs(w[i]));
		count_binade(e, w[i]);
		if (model)
			e->expected_lost += mspec_loss_probability(model, w[i]);
	}
}

static void compare_entries(mspec_bf16_entries *e, const double *w, const double *later,
			    int64_t count)
{
	for (int64_t i = 0; i < count; i++) {
		double delta = later[i] - w[i];
		if (!isfinite(delta))
			continue;
		e->compared++;
		e->unchanged += delta == 0;
		e->lost += fabs(delta) < mspec_half_bf16_step(w[i]);
		e->delta_sumsq += delta * delta;
	}
}

/* Buffers for a block of rows of both matrices. */
typedef struct blocks {
	void *raw;
	double *w, *later;
	int64_t rows; /* a block has so many */
} blocks;

static int read_rows(blocks *b, mspec_checkpoint *checkpoint, const mspec_matrix *m, int64_t row,
		     int64_t rows, double *to, muon_error *err)
{
	int code = mspec_read_block(checkpoint, m, row, rows, 0, m->stored_cols, b->raw, err);
	return code ? code
		    : muon_convert_f64(m->dtype, b->raw, (size_t)(rows * m->stored_cols), to);
}

static bool allocate(blocks *b, const mspec_matrix *m, bool both)
{
	b->rows = BLOCK_ENTRIES / m->stored_cols;
	b->rows = b->rows < 1 ? 1 : b->rows > m->stored_rows ? m->stored_rows : b->rows;
	size_t entries = (size_t)b->rows * (size_t)m->stored_cols;
	b->raw = muon_alloc_aligned(entries, sizeof(double));
	b->w = muon_alloc_aligned(entries, sizeof(double));
	b->later = both ? muon_alloc_aligned(entries, sizeof(double)) : NULL;
	return b->raw && b->w && (b->later || !both);
}

int mspec_bf16_entries_gather(mspec_bf16_entries *entries, mspec_checkpoint *checkpoint,
			      const mspec_matrix *matrix, mspec_checkpoint *later_checkpoint,
			      const mspec_matrix *later, const mspec_update_model *model,
			      muon_error *err)
{
	blocks b = {0};
	*entries = (mspec_bf16_entries){0};
	int code = allocate(&b, matrix, later != NULL)
		       ? MUON_OK
		       : muon_fail(err, MUON_E_MEMORY, matrix->name, "out of memory");
	for (int64_t row = 0, n; row < matrix->stored_rows && !code; row += n) {
		n = matrix->stored_rows - row < b.rows ? matrix->stored_rows - row : b.rows;
		int64_t count = n * matrix->stored_cols;
		code = read_rows(&b, checkpoint, matrix, row, n, b.w, err);
		if (!code)
			add_entries(entries, b.w, count, model);
		if (!code && later)
			code = read_rows(&b, later_checkpoint, later, row, n, b.later, err);
		if (!code && later)
			compare_entries(entries, b.w, b.later, count);
	}
	muon_free_aligned(b.raw);
	muon_free_aligned(b.w);
	muon_free_aligned(b.later);
	return code;
}
