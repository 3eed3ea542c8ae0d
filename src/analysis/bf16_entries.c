#include "analysis/bf16_entries.h"

#include "base/memory.h"

#include <math.h>

enum { BLOCK_ENTRIES = 1 << 18, LEAST_NORMAL = -126, MANTISSA_BITS = 7 };

/* floor(log2 |w|) of a w that is not 0 */
static int binade_of(double w)
{
	int exponent;
	frexp(w, &exponent); /* |w| in [2^(exponent - 1), 2^exponent) */
	return exponent - 1;
}

double mspec_half_bf16_step(double w)
{
	int binade = w == 0 ? LEAST_NORMAL : binade_of(w);
	return ldexp(1, (binade < LEAST_NORMAL ? LEAST_NORMAL : binade) - MANTISSA_BITS - 1);
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
	int b = binade_of(w) - MSPEC_FIRST_BINADE;
	b = b < 0 ? 0 : b;
	e->binades[b < MSPEC_BINADES ? b : MSPEC_BINADES - 1]++;
}

static void add_entries(mspec_bf16_entries *e, const double *w, int64_t count,
                        const mspec_update_model *model)
{
	muon_moments_add(&e->moments, w, (size_t)count);
	for (int64_t i = 0; i < count; i++) {
		if (!isfinite(w[i]))
			continue;
		if (w[i] != 0)
			count_binade(e, w[i]);
		if (model)
			e->expected_lost += mspec_loss_probability(model, w[i]);
	}
}

static void compare_entries(mspec_bf16_entries *e, const double *earlier, const double *w,
                            int64_t count)
{
	for (int64_t i = 0; i < count; i++) {
		double change = w[i] - earlier[i];
		if (!isfinite(change))
			continue;
		e->compared++;
		e->unchanged += change == 0;
		e->lost += fabs(change) < mspec_half_bf16_step(earlier[i]);
		e->earlier_sumsq += earlier[i] * earlier[i];
	}
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Buffers for rows x cols entries of both matrices. */
typedef struct blocks {
	int64_t rows, cols;
	void *raw;
	double *w, *earlier;
	pthread_mutex_t *lock;
} blocks;

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static bool allocate(blocks *b, const mspec_matrix *m, bool both)
{
	b->cols = least(m->stored_cols, BLOCK_ENTRIES);
	b->rows = least(m->stored_rows, BLOCK_ENTRIES / b->cols);
	size_t entries = (size_t)(b->rows * b->cols);
	b->raw = muon_alloc_aligned(entries, sizeof(double));
	b->w = muon_alloc_aligned(entries, sizeof(double));
	b->earlier = both ? muon_alloc_aligned(entries, sizeof(double)) : NULL;
	return b->raw && b->w && (b->earlier || !both);
}

/* A rectangle of a stored matrix. */
typedef struct part {
	int64_t row, rows, col, cols;
} part;

static int read_part(blocks *b, const mspec_entries_source *source, const part *p, double *to,
                     muon_error *err)
{
	pthread_mutex_lock(b->lock);
	int code = mspec_read_block(source->checkpoint, source->matrix, p->row, p->rows, p->col,
	                            p->cols, b->raw, err);
	pthread_mutex_unlock(b->lock);
	return code ? code
	            : muon_convert_f64(source->matrix->dtype, b->raw, (size_t)(p->rows * p->cols),
	                               to);
}

int mspec_bf16_entries_gather(mspec_bf16_entries *entries, const mspec_entries_source *source,
                              const mspec_entries_source *earlier, const mspec_update_model *model,
                              pthread_mutex_t *lock, muon_error *err)
{
	const mspec_matrix *m = source->matrix;
	blocks b = {.lock = lock};
	part p = {0};
	*entries = (mspec_bf16_entries){0};
	int code = allocate(&b, m, earlier != NULL)
	               ? MUON_OK
	               : muon_fail(err, MUON_E_MEMORY, m->name, "out of memory");
	for (p.row = 0; p.row < m->stored_rows && !code; p.row += p.rows)
		for (p.col = 0; p.col < m->stored_cols && !code; p.col += p.cols) {
			p.rows = least(m->stored_rows - p.row, b.rows);
			p.cols = least(m->stored_cols - p.col, b.cols);
			code = read_part(&b, source, &p, b.w, err);
			if (!code)
				add_entries(entries, b.w, p.rows * p.cols, model);
			if (!code && earlier)
				code = read_part(&b, earlier, &p, b.earlier, err);
			if (!code && earlier)
				compare_entries(entries, b.earlier, b.w, p.rows * p.cols);
		}
	muon_free_aligned(b.raw);
	muon_free_aligned(b.w);
	muon_free_aligned(b.earlier);
	return code;
}
