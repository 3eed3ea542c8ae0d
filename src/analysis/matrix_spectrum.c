#include "analysis/matrix_spectrum.h"

#include "base/memory.h"

#include <math.h>

/* Bytes of stored data that are read and fed to the kernels at a time: large enough to read
 * quickly, small enough that several workers stay within a small footprint. */
enum { BLOCK_BYTES = 8 << 20 };

/* The stored matrix by its long side: `lines` of them, each `length` entries. */
static bool is_wide(const mspec_matrix *m)
{
	return m->stored_rows < m->stored_cols;
}

static int64_t line_count(const mspec_matrix *m)
{
	return is_wide(m) ? m->stored_cols : m->stored_rows;
}

static int64_t line_length(const mspec_matrix *m)
{
	return is_wide(m) ? m->stored_rows : m->stored_cols;
}

/* Lines that are read at a time: a multiple of the kernels' panel depth and a function of the shape
 * alone, so that results don't depend on how many workers there are. */
static int64_t block_lines(const mspec_matrix *m)
{
	int64_t depth = muon_gram_panel_depth(m->stored_rows, m->stored_cols);
	int64_t count = BLOCK_BYTES / (line_length(m) * (int64_t)muon_dtype_size(m->dtype));
	count = count / depth * depth;
	if (count < depth)
		count = depth;
	return count < line_count(m) ? count : line_count(m);
}

/* ---- memory ------------------------------------------------------------------------------ */

/* What one matrix takes, in bytes or doubles. */
typedef struct scratch_sizes {
	size_t block, workspace, solver, sigma;
} scratch_sizes;

static scratch_sizes find_sizes(const mspec_spectrum_source *source, const mspec_matrix *m)
{
	size_t entries = (size_t)m->rows * (size_t)m->cols, size = muon_dtype_size(m->dtype);
	size_t row = (size_t)m->stored_cols * size;
	scratch_sizes s = {.block = (size_t)block_lines(m) * (size_t)line_length(m) * size,
	                   .workspace = muon_gram_entries_workspace(m->stored_rows, m->stored_cols)};
	if (!source->sigma)
		return s;
	s.sigma = (size_t)line_length(m);
	if (source->svd == MUON_SVD_GRAM) {
		s.workspace = muon_gram_workspace(m->stored_rows, m->stored_cols);
		s.solver = muon_gram_singular_values_workspace(line_length(m));
		return s;
	}
	/* gesdd reads whole stored rows, as many as there is room for */
	s.block = s.block > row ? s.block : row;
	s.workspace = s.workspace > entries ? s.workspace : entries;
	s.solver = muon_singular_values_gesdd_workspace(m->stored_rows, m->stored_cols);
	return s;
}

double mspec_matrix_spectrum_bytes(const mspec_spectrum_source *source, const mspec_matrix *matrix)
{
	scratch_sizes s = find_sizes(source, matrix);
	double doubles = (double)s.workspace + (double)s.solver + (double)s.sigma;
	return (double)s.block + doubles * sizeof(double);
}

/* The matrix in hand. */
typedef struct scratch {
	const mspec_spectrum_source *source;
	const mspec_matrix *matrix;
	void *block;       /* stored elements */
	size_t block_size; /* bytes */
	double *workspace; /* panel and, where wanted, Gram matrix; the whole matrix for gesdd */
	double *solver;
	double *sigma;
	double *gain;
} scratch;

static int scratch_allocate(scratch *s)
{
	scratch_sizes sizes = find_sizes(s->source, s->matrix);
	if (sizes.workspace == SIZE_MAX || sizes.solver == SIZE_MAX)
		return MUON_E_TOO_LARGE;
	s->block = muon_alloc_aligned(sizes.block, 1);
	s->block_size = sizes.block;
	s->workspace = muon_alloc_aligned(sizes.workspace, sizeof(double));
	s->solver = sizes.solver ? muon_alloc_aligned(sizes.solver, sizeof(double)) : NULL;
	s->sigma = sizes.sigma ? muon_alloc(sizes.sigma, sizeof(double)) : NULL;
	bool complete = s->block && s->workspace && (s->solver || !sizes.solver) &&
	                (s->sigma || !sizes.sigma);
	return complete ? MUON_OK : MUON_E_MEMORY;
}

static void scratch_release(scratch *s)
{
	muon_free_aligned(s->block);
	muon_free_aligned(s->workspace);
	muon_free_aligned(s->solver);
	muon_free(s->sigma);
	muon_free(s->gain);
}

/* ---- reading ----------------------------------------------------------------------------- */

/* Lines [at, at + count) into the block. */
static int read_lines(scratch *s, int64_t at, int64_t count, muon_error *err)
{
	const mspec_matrix *m = s->matrix;
	bool wide = is_wide(m);
	pthread_mutex_lock(s->source->read_lock);
	int code = mspec_read_block(s->source->checkpoint, m, wide ? 0 : at,
	                            wide ? m->stored_rows : count, wide ? at : 0,
	                            wide ? count : m->stored_cols, s->block, err);
	pthread_mutex_unlock(s->source->read_lock);
	return code;
}

/* The gain of the norm before the matrix as float64; s->gain stays NULL where there is none, or
 * where it can't be read, which is no fault of the matrix. */
static int read_gain(scratch *s, bool *unreadable)
{
	const mspec_spectrum_source *from = s->source;
	size_t index = from->gain ? mspec_gain_tensor(from->checkpoint, s->matrix) : SIZE_MAX;
	if (index == SIZE_MAX)
		return MUON_OK;
	const mspec_tensor *t = mspec_tensor_at(from->checkpoint, index);
	muon_error ignored = {0};
	size_t count = (size_t)t->elements;
	void *raw = muon_alloc(count, muon_dtype_size(t->dtype));
	s->gain = muon_alloc(count, sizeof *s->gain);
	int code = raw && s->gain ? MUON_OK : MUON_E_MEMORY;
	if (!code) {
		pthread_mutex_lock(from->read_lock);
		code = mspec_read(from->checkpoint, index, 0, t->elements, raw, &ignored);
		pthread_mutex_unlock(from->read_lock);
	}
	if (!code)
		code = muon_convert_f64(t->dtype, raw, count, s->gain);
	muon_free(raw);
	if (code && code != MUON_E_MEMORY) {
		*unreadable = true;
		muon_free(s->gain);
		s->gain = NULL;
		code = MUON_OK;
	}
	return code;
}

/* Largest |x| of a float64 matrix, which alone can over- or underflow when squared. */
static int find_max_abs(scratch *s, double *max_abs, muon_error *err)
{
	int64_t lines = line_count(s->matrix), step = block_lines(s->matrix);
	*max_abs = 0;
	for (int64_t at = 0; at < lines; at += step) {
		int64_t n = lines - at < step ? lines - at : step;
		int code = read_lines(s, at, n, err);
		if (code)
			return code;
		const double *x = s->block;
		for (int64_t i = 0; i < n * line_length(s->matrix); i++)
			if (isfinite(x[i]) && fabs(x[i]) > *max_abs)
				*max_abs = fabs(x[i]);
	}
	return MUON_OK;
}

/* Read the whole matrix block by block into the Gram accumulation. */
static int accumulate(scratch *s, muon_gram *gram, void *progress_state, muon_error *err)
{
	const mspec_matrix *m = s->matrix;
	int64_t lines = line_count(m), step = block_lines(m);
	for (int64_t at = 0; at < lines; at += step) {
		int64_t n = lines - at < step ? lines - at : step;
		int code = read_lines(s, at, n, err);
		if (!code)
			code = is_wide(m)
			           ? muon_gram_add_cols(gram, m->dtype, s->block, at, n, n)
			           : muon_gram_add_rows(gram, m->dtype, s->block, at, n, m->stored_cols);
		if (code)
			return code;
		if (s->source->progress)
			s->source->progress(progress_state, (double)n / (double)lines);
	}
	return MUON_OK;
}

/* All entries as float64 into s->workspace, in stored order, for gesdd. */
static int load_f64(scratch *s, muon_error *err)
{
	const mspec_matrix *m = s->matrix;
	size_t row = (size_t)m->stored_cols * muon_dtype_size(m->dtype);
	int64_t step = (int64_t)(s->block_size / row);
	for (int64_t at = 0; at < m->stored_rows; at += step) {
		int64_t n = m->stored_rows - at < step ? m->stored_rows - at : step;
		pthread_mutex_lock(s->source->read_lock);
		int code = mspec_read_block(s->source->checkpoint, m, at, n, 0, m->stored_cols,
		                            s->block, err);
		pthread_mutex_unlock(s->source->read_lock);
		if (!code)
			code = muon_convert_f64(m->dtype, s->block, (size_t)(n * m->stored_cols),
			                        s->workspace + at * m->stored_cols);
		if (code)
			return code;
	}
	return MUON_OK;
}

/* ---- the whole --------------------------------------------------------------------------- */

static int decompose(scratch *s, muon_gram *gram, mspec_spectrum *spectrum, muon_error *err)
{
	const mspec_matrix *m = s->matrix;
	int code;
	if (s->source->svd == MUON_SVD_GESDD) {
		code = load_f64(s, err);
		if (!code)
			code = muon_singular_values_gesdd(m->stored_rows, m->stored_cols, s->workspace,
			                                  s->sigma, &spectrum->sigma_floor, s->solver);
	} else {
		code = muon_gram_singular_values(gram, s->sigma, &spectrum->sigma_floor, s->solver);
	}
	if (!code)
		spectrum->sigma = s->sigma;
	return code;
}

static int compute(scratch *s, int threads, void *progress_state, mspec_spectrum *spectrum,
                   muon_error *err)
{
	const mspec_matrix *m = s->matrix;
	bool gram_values = s->source->sigma && s->source->svd == MUON_SVD_GRAM;
	double scale = 1;
	bool gain_unreadable = false;
	muon_gram gram;
	int code = scratch_allocate(s);
	if (!code)
		code = read_gain(s, &gain_unreadable);
	if (!code && m->dtype == MUON_F64 && gram_values) {
		double max_abs;
		code = find_max_abs(s, &max_abs, err);
		if (!code)
			scale = muon_gram_scale(max_abs);
	}
	if (!code)
		code = gram_values
		           ? muon_gram_init(&gram, m->stored_rows, m->stored_cols, scale, s->gain,
		                            m->transposed, s->workspace)
		           : muon_gram_init_entries(&gram, m->stored_rows, m->stored_cols, s->gain,
		                                    m->transposed, s->workspace);
	if (!code) {
		gram.threads = threads;
		code = accumulate(s, &gram, progress_state, err);
	}
	if (code)
		return code;
	spectrum->moments = gram.moments;
	spectrum->has_gain = s->gain || gain_unreadable;
	spectrum->gain_sumsq = gain_unreadable ? NAN : gram.gain_sumsq;
	if (gram.moments.nan || gram.moments.inf)
		return MUON_E_NONFINITE;
	return s->source->sigma ? decompose(s, &gram, spectrum, err) : MUON_OK;
}

int mspec_matrix_spectrum(const mspec_spectrum_source *source, const mspec_matrix *matrix,
                          int threads, void *progress_state, mspec_spectrum *spectrum,
                          double **sigma, muon_error *err)
{
	scratch s = {.source = source, .matrix = matrix};
	*spectrum = (mspec_spectrum){.rows = matrix->rows,
	                             .cols = matrix->cols,
	                             .dtype = matrix->dtype,
	                             .count = line_length(matrix),
	                             .sigma_floor = NAN,
	                             .method = source->svd};
	int code = compute(&s, threads, progress_state, spectrum, err);
	*sigma = NULL;
	if (spectrum->sigma) {
		*sigma = s.sigma;
		s.sigma = NULL;
	}
	scratch_release(&s);
	return code;
}
