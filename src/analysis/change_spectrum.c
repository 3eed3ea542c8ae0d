#include "analysis/change_spectrum.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

enum {
	BLOCK_BYTES = 128 << 10, /* of float64 differences at a time: they stay in the cache */
	DECOMPOSE = 128          /* short side up to which a decomposition takes no longer */
};

/* One change in hand. */
typedef struct difference {
	const mspec_change_source *source;
	const mspec_matrix *before, *after;
	int64_t rows, cols;  /* as stored */
	int64_t step;        /* lines at a time */
	bool by_cols;        /* lines are columns */
	void *raw;           /* stored elements of a block */
	double *old;         /* a block of the earlier matrix */
	double *new;         /* of the later one, then of the difference */
} difference;

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static bool is_estimated(const mspec_change_source *source, const mspec_matrix *m)
{
	double bytes = (double)m->rows * (double)m->cols * sizeof(float);
	return source->method == MSPEC_CHANGES_ESTIMATE && m->dtype != MUON_F64 &&
	       smaller(m->rows, m->cols) > DECOMPOSE &&
	       muon_krylov_workspace(m->stored_rows, m->stored_cols) != SIZE_MAX &&
	       (!(source->max_memory > 0) || 2 * bytes <= source->max_memory);
}

/* Lines of the stored matrix that are read at a time; with `gram`, as the Gram matrix wants them:
 * along the long side, and a multiple of its panel depth. */
static void choose_blocks(difference *d, bool gram)
{
	d->by_cols = gram && d->rows < d->cols;
	int64_t length = d->by_cols ? d->rows : d->cols, lines = d->by_cols ? d->cols : d->rows;
	int64_t depth = gram ? muon_gram_panel_depth(d->rows, d->cols) : 1;
	int64_t step = BLOCK_BYTES / (length * (int64_t)sizeof(double)) / depth * depth;
	d->step = smaller(step < depth ? depth : step, lines);
}

static size_t block_elements(const difference *d)
{
	return (size_t)d->step * (size_t)(d->by_cols ? d->rows : d->cols);
}

static size_t element_size(const difference *d)
{
	size_t a = muon_dtype_size(d->before->dtype), b = muon_dtype_size(d->after->dtype);
	return a > b ? a : b;
}

static void begin(difference *d, const mspec_change_source *source, const mspec_matrix *before,
		  const mspec_matrix *after, bool gram)
{
	*d = (difference){.source = source,
			  .before = before,
			  .after = after,
			  .rows = after->stored_rows,
			  .cols = after->stored_cols};
	choose_blocks(d, gram);
}

double mspec_change_spectrum_bytes(const mspec_change_source *source, const mspec_matrix *matrix)
{
	difference d;
	bool estimated = is_estimated(source, matrix);
	double whole = (double)matrix->rows * (double)matrix->cols * sizeof(float), bytes;
	double krylov =
	    (double)muon_krylov_workspace(matrix->stored_rows, matrix->stored_cols);
	if (source->method == MSPEC_CHANGES_NONE)
		return source->align ? whole + 8 * krylov : 0;
	begin(&d, source, matrix, matrix, !estimated);
	bytes = (double)block_elements(&d) * (2 * sizeof(double) + (double)element_size(&d));
	if (estimated || source->align)
		bytes += whole + 8 * krylov;
	if (!estimated)
		bytes += 8 * ((double)muon_gram_workspace(d.rows, d.cols) +
			      (double)muon_gram_singular_values_workspace(smaller(d.rows, d.cols)));
	return bytes;
}

/* ---- reading ------------------------------------------------------------------------------ */

static int allocate_blocks(difference *d)
{
	size_t count = block_elements(d);
	d->raw = muon_alloc_aligned(count, element_size(d));
	d->old = muon_alloc_aligned(count, sizeof *d->old);
	d->new = muon_alloc_aligned(count, sizeof *d->new);
	return d->raw && d->old && d->new ? MUON_OK : MUON_E_MEMORY;
}

static void release_blocks(difference *d)
{
	muon_free_aligned(d->raw);
	muon_free_aligned(d->old);
	muon_free_aligned(d->new);
}

/* Lines [at, at + count) of one of the two as float64. */
static int read_lines(const difference *d, mspec_checkpoint *checkpoint, const mspec_matrix *m,
		      int64_t at, int64_t count, double *values)
{
	bool c = d->by_cols;
	pthread_mutex_lock(d->source->read_lock);
	int code = mspec_read_block(checkpoint, m, c ? 0 : at, c ? d->rows : count, c ? at : 0,
				    c ? count : d->cols, d->raw, NULL);
	pthread_mutex_unlock(d->source->read_lock);
	size_t elements = (size_t)count * (size_t)(c ? d->rows : d->cols);
	return code ? code : muon_convert_f64(m->dtype, d->raw, elements, values);
}

/* The differences of lines [at, at + count) into d->new. */
static int read_difference(const difference *d, int64_t at, int64_t count)
{
	int code = read_lines(d, d->source->before, d->before, at, count, d->old);
	if (!code)
		code = read_lines(d, d->source->after, d->after, at, count, d->new);
	if (code)
		return code;
	size_t elements = (size_t)count * (size_t)(d->by_cols ? d->rows : d->cols);
	for (size_t i = 0; i < elements; i++)
		d->new[i] -= d->old[i];
	return MUON_OK;
}

/* Rows [at, at + count) of a float32 matrix, as they are. */
static int read_rows(const difference *d, mspec_checkpoint *checkpoint, const mspec_matrix *m,
		     int64_t at, int64_t count, void *values)
{
	pthread_mutex_lock(d->source->read_lock);
	int code = mspec_read_block(checkpoint, m, at, count, 0, d->cols, values, NULL);
	pthread_mutex_unlock(d->source->read_lock);
	return code;
}

/* The change of float32 matrices without a way through float64, which would make no difference. */
static int load_f32_change(const difference *d, float *out)
{
	const float *old = d->raw;
	for (int64_t at = 0; at < d->rows; at += d->step) {
		int64_t count = smaller(d->step, d->rows - at);
		float *to = out + at * d->cols;
		int code = read_rows(d, d->source->before, d->before, at, count, d->raw);
		if (!code)
			code = read_rows(d, d->source->after, d->after, at, count, to);
		if (code)
			return code;
		for (int64_t i = 0; i < count * d->cols; i++)
			to[i] -= old[i];
	}
	return MUON_OK;
}

typedef enum which_matrix { THE_CHANGE, THE_EARLIER, THE_LATER } which_matrix;

/* All entries of one of the three as float32, in stored order; d reads rows. */
static int load(const difference *d, which_matrix which, float *out)
{
	if (which == THE_CHANGE && d->before->dtype == MUON_F32 && d->after->dtype == MUON_F32)
		return load_f32_change(d, out);
	for (int64_t at = 0; at < d->rows; at += d->step) {
		int64_t count = smaller(d->step, d->rows - at);
		int code = which == THE_CHANGE ? read_difference(d, at, count)
			   : which == THE_EARLIER
			       ? read_lines(d, d->source->before, d->before, at, count, d->new)
			       : read_lines(d, d->source->after, d->after, at, count, d->new);
		if (code)
			return code;
		float *to = out + at * d->cols;
		for (int64_t i = 0; i < count * d->cols; i++)
			to[i] = (float)d->new[i];
	}
	return MUON_OK;
}

/* ---- the spectrum ------------------------------------------------------------------------- */

void mspec_change_scratch_release(mspec_change_scratch *scratch)
{
	muon_free_aligned(scratch->memory);
	*scratch = (mspec_change_scratch){0};
}

/* At least so many bytes, which may hold anything. */
static void *scratch_of(mspec_change_scratch *scratch, size_t bytes)
{
	if (scratch->bytes < bytes) {
		mspec_change_scratch_release(scratch);
		scratch->memory = muon_alloc_aligned(bytes, 1);
		scratch->bytes = scratch->memory ? bytes : 0;
	}
	return scratch->memory;
}

static int estimate(difference *d, mspec_change_scratch *scratch, mspec_change *change)
{
	muon_krylov result;
	size_t doubles = muon_krylov_workspace(d->rows, d->cols);
	double *work = scratch_of(scratch, doubles * sizeof *work +
					       (size_t)(d->rows * d->cols) * sizeof(float));
	float *entries = work ? (float *)(work + doubles) : NULL;
	int code = work ? allocate_blocks(d) : MUON_E_MEMORY;
	if (!code)
		code = load(d, THE_CHANGE, entries);
	if (!code)
		code = muon_krylov_spectrum(&result, d->rows, d->cols, entries, d->cols, 0, NULL,
					    NULL, work);
	if (!code) {
		change->estimated = true;
		change->sumsq = result.sumsq;
		change->spectral_norm = result.sigma_first;
		change->svd_entropy = result.entropy;
	}
	return code;
}

/* Largest |difference|: what float64 entries are scaled by before they are squared. */
static int find_scale(const difference *d, double *scale)
{
	double largest = 0;
	int64_t lines = d->by_cols ? d->cols : d->rows;
	for (int64_t at = 0; at < lines; at += d->step) {
		int64_t count = smaller(d->step, lines - at);
		int code = read_difference(d, at, count);
		if (code)
			return code;
		for (int64_t i = 0; i < count * (d->by_cols ? d->rows : d->cols); i++)
			if (isfinite(d->new[i]) && fabs(d->new[i]) > largest)
				largest = fabs(d->new[i]);
	}
	*scale = muon_gram_scale(largest);
	return MUON_OK;
}

static int accumulate(const difference *d, muon_gram *gram)
{
	int64_t lines = d->by_cols ? d->cols : d->rows;
	for (int64_t at = 0; at < lines; at += d->step) {
		int64_t count = smaller(d->step, lines - at);
		int code = read_difference(d, at, count);
		if (!code)
			code = d->by_cols
				   ? muon_gram_add_cols(gram, MUON_F64, d->new, at, count, count)
				   : muon_gram_add_rows(gram, MUON_F64, d->new, at, count, d->cols);
		if (code)
			return code;
	}
	return gram->moments.nan || gram->moments.inf ? MUON_E_NONFINITE : MUON_OK;
}

static void take_values(mspec_change *change, const double *sigma, int64_t count)
{
	double entropy = 0, sum = 0;
	change->spectral_norm = sigma[0];
	for (int64_t i = 0; i < count; i++)
		sum += sigma[i] / sigma[0] * (sigma[i] / sigma[0]);
	for (int64_t i = 0; i < count; i++) {
		double p = sigma[i] / sigma[0] * (sigma[i] / sigma[0]) / sum;
		entropy -= p > 0 ? p * log(p) : 0;
	}
	change->svd_entropy = sigma[0] > 0 && count > 1 ? entropy / log((double)count) : NAN;
}

static int decompose(difference *d, mspec_change *change)
{
	int64_t k = smaller(d->rows, d->cols);
	size_t gram_size = muon_gram_workspace(d->rows, d->cols);
	size_t solver_size = muon_gram_singular_values_workspace(k);
	if (gram_size == SIZE_MAX || solver_size == SIZE_MAX)
		return MUON_E_TOO_LARGE;
	double *workspace = muon_alloc_aligned(gram_size, sizeof *workspace);
	double *solver = muon_alloc_aligned(solver_size, sizeof *solver);
	double *sigma = muon_alloc((size_t)k, sizeof *sigma), floor, scale = 1;
	int code = workspace && solver && sigma ? allocate_blocks(d) : MUON_E_MEMORY;
	muon_gram gram;
	if (!code && (d->before->dtype == MUON_F64 || d->after->dtype == MUON_F64))
		code = find_scale(d, &scale);
	if (!code)
		code = muon_gram_init(&gram, d->rows, d->cols, scale, NULL, false, workspace);
	if (!code)
		code = accumulate(d, &gram);
	if (!code)
		code = muon_gram_singular_values(&gram, sigma, &floor, solver);
	if (!code) {
		change->sumsq = gram.moments.sumsq;
		take_values(change, sigma, k);
	}
	muon_free_aligned(workspace);
	muon_free_aligned(solver);
	muon_free(sigma);
	return code;
}

/* ---- alignment ---------------------------------------------------------------------------- */

/* Mean squared cosine of the principal angles between two spaces: the columns of a and b, both
 * size x count, row-major, orthonormal. */
static double mean_overlap(const float *a, const float *b, int64_t size, int count)
{
	double sum = 0;
	for (int i = 0; i < count; i++)
		for (int j = 0; j < count; j++) {
			double dot = 0;
			for (int64_t r = 0; r < size; r++)
				dot += (double)a[r * count + i] * (double)b[r * count + j];
			sum += dot * dot;
		}
	return sum / count;
}

static int find_vectors(const difference *d, which_matrix which, int count, float *entries,
			float *left, float *right, double *work, int *found)
{
	muon_krylov result;
	int code = load(d, which, entries);
	if (!code)
		code = muon_krylov_spectrum(&result, d->rows, d->cols, entries, d->cols, count,
					    left, right, work);
	if (!code)
		*found = result.vectors;
	return code;
}

/* d reads rows, and its blocks are there. */
static int align(const difference *d, mspec_change *change)
{
	int most = (int)smaller(smaller(d->rows, d->cols), d->source->align), a = 0, b = 0;
	size_t vectors = (size_t)(d->rows + d->cols) * (size_t)most;
	size_t krylov = muon_krylov_workspace(d->rows, d->cols);
	if (krylov == SIZE_MAX)
		return MUON_E_TOO_LARGE;
	float *entries = muon_alloc_aligned((size_t)(d->rows * d->cols), sizeof *entries);
	float *old = muon_alloc(vectors, sizeof *old), *new = muon_alloc(vectors, sizeof *new);
	double *work = muon_alloc_aligned(krylov, sizeof *work);
	int64_t left = d->rows * most;
	int code = entries && old && new && work ? MUON_OK : MUON_E_MEMORY;
	if (!code)
		code = find_vectors(d, THE_EARLIER, most, entries, old, old + left, work, &a);
	if (!code)
		code = find_vectors(d, THE_LATER, most, entries, new, new + left, work, &b);
	if (!code && a == most && b == most) {
		double first = mean_overlap(old, new, d->rows, most);
		double second = mean_overlap(old + left, new + left, d->cols, most);
		change->align_out = d->after->transposed ? second : first;
		change->align_in = d->after->transposed ? first : second;
	}
	muon_free_aligned(entries);
	muon_free(old);
	muon_free(new);
	muon_free_aligned(work);
	return code;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int find_change(const mspec_change_source *source, const mspec_matrix *before,
		       const mspec_matrix *after, mspec_change_scratch *scratch,
		       mspec_change *change)
{
	difference d;
	int code = MUON_OK;
	if (before->stored_rows != after->stored_rows || before->stored_cols != after->stored_cols ||
	    before->transposed != after->transposed)
		return MUON_E_UNSUPPORTED;
	if (source->max_memory > 0 &&
	    mspec_change_spectrum_bytes(source, after) > source->max_memory)
		return MUON_E_TOO_LARGE;
	if (source->method != MSPEC_CHANGES_NONE) {
		bool estimated = is_estimated(source, after) && before->dtype != MUON_F64;
		begin(&d, source, before, after, !estimated);
		code = estimated ? estimate(&d, scratch, change) : decompose(&d, change);
		release_blocks(&d);
	}
	if (!code && source->align) {
		begin(&d, source, before, after, false);
		code = allocate_blocks(&d);
		if (!code)
			code = align(&d, change);
		release_blocks(&d);
	}
	return code;
}

int mspec_change_spectrum(const mspec_change_source *source, const mspec_matrix *before,
			  const mspec_matrix *after, mspec_change_scratch *scratch,
			  mspec_change *change)
{
	const mspec_change unknown = {.sumsq = NAN,
				      .spectral_norm = NAN,
				      .svd_entropy = NAN,
				      .align_out = NAN,
				      .align_in = NAN};
	*change = unknown;
	int code = find_change(source, before, after, scratch, change);
	if (code)
		*change = unknown;
	change->known = true;
	return change->code = code;
}
