/* Gram matrix and entry statistics of a matrix that arrives in blocks: each panel of some hundred
 * rows (columns of a wide matrix) is converted, measured while in cache, and multiplied. */
#include <muon/kernels.h>

#include "base/pool.h"
#include "kernels/simd.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>

enum {
	DEPTH = 256,         /* where dsyrk runs as fast as dgemm */
	PANEL_MIN = 1 << 16, /* entries: narrow matrices get deeper panels */
	TILE = 2048,         /* entries converted and measured at a time; moments.c's block */
	SPREAD_MIN = 16,     /* lines whose sum rounds well enough as it is */
	SPREAD_TILE = 128,   /* columns: 256 lines of them stay in cache */
	STRIP = 512,         /* columns of G that one thread computes at a time */
	ALIGN = 8,           /* doubles in 64 bytes */
	LANES = 32
};

int64_t muon_gram_panel_depth(int64_t rows, int64_t cols)
{
	int64_t k = rows < cols ? rows : cols, longest = rows < cols ? cols : rows;
	if (k <= 0)
		return 0;
	int64_t depth = PANEL_MIN / k > DEPTH ? PANEL_MIN / k : DEPTH;
	return depth < longest ? depth : longest;
}

/* k*k doubles, rounded up so that what follows them is aligned as they are. */
static size_t square_size(int64_t k)
{
	size_t n = (size_t)k * (size_t)k;
	return n + (ALIGN - n % ALIGN) % ALIGN;
}

/* BLAS would add a panel of more than DEPTH lines to G in parts, small ones too, and round each
 * time: their products are added up in a square of their own. */
static bool has_part(int64_t k)
{
	return k < PANEL_MIN / DEPTH;
}

static size_t squares_size(int64_t k)
{
	return square_size(k) * (has_part(k) ? 2 : 1);
}

size_t muon_gram_workspace(int64_t rows, int64_t cols)
{
	int64_t k = rows < cols ? rows : cols;
	if (k <= 0)
		return 0;
	/* BLAS counts in int; with it k*k + k*depth doubles stay far below SIZE_MAX bytes */
	if (k > INT_MAX || (size_t)k > SIZE_MAX / sizeof(double) / 4 / (size_t)k)
		return SIZE_MAX;
	return squares_size(k) + (size_t)k * (size_t)muon_gram_panel_depth(rows, cols);
}

size_t muon_gram_entries_workspace(int64_t rows, int64_t cols)
{
	size_t size = muon_gram_workspace(rows, cols);
	return size == 0 || size == SIZE_MAX ? size
					     : size - squares_size(rows < cols ? rows : cols);
}

int muon_gram_init(muon_gram *gram, int64_t rows, int64_t cols, double scale, const double *gain,
		   bool gain_on_rows, double *workspace)
{
	if (rows <= 0 || cols <= 0 || !(scale > 0) || isinf(scale))
		return MUON_E_ARGUMENT;
	if (muon_gram_workspace(rows, cols) == SIZE_MAX || rows > INT64_MAX / cols)
		return MUON_E_TOO_LARGE;
	int64_t k = rows < cols ? rows : cols;
	*gram = (muon_gram){
	    .rows = rows,
	    .cols = cols,
	    .k = k,
	    .scale = scale,
	    .gain = gain,
	    .gain_on_rows = gain_on_rows,
	    .g = workspace,
	    .part = workspace && has_part(k) ? workspace + square_size(k) : NULL,
	    .panel = workspace ? workspace + squares_size(k) : NULL,
	};
	return MUON_OK;
}

int muon_gram_init_entries(muon_gram *gram, int64_t rows, int64_t cols, const double *gain,
			   bool gain_on_rows, double *workspace)
{
	int code = muon_gram_init(gram, rows, cols, 1, gain, gain_on_rows, NULL);
	if (code)
		return code;
	gram->entries_only = true;
	gram->panel = workspace;
	return MUON_OK;
}

double muon_gram_scale(double max_abs)
{
	/* the squares of these, times any count, are far inside float64 */
	if ((max_abs >= 0x1p-149 && max_abs < 0x1p128) || max_abs == 0 || !isfinite(max_abs))
		return 1;
	int exponent = ilogb(max_abs);
	return ldexp(1, exponent < -1023 ? 1023 : -exponent);
}

/* ---- one panel: `lines` rows of the block, `length` entries of each, packed ----------------- */

/* Statistics of a converted tile; entries that are not finite become 0. */
static void measure_tile(muon_gram *gram, double *x, size_t count)
{
	muon_moments *m = &gram->moments;
	int64_t left_out = m->nan + m->inf;
	muon_moments_add(m, x, count);
	if (m->nan + m->inf == left_out)
		return;
	for (size_t i = 0; i < count; i++)
		if (!isfinite(x[i]))
			x[i] = 0;
}

static void fill_panel(muon_gram *gram, muon_dtype type, const unsigned char *src, size_t lines,
		       size_t length, size_t ld)
{
	size_t size = muon_dtype_size(type), total = lines * length, filled = 0, tile = 0;
	for (size_t i = 0; i < lines; i++) {
		const unsigned char *line = src + i * ld * size;
		for (size_t j = 0; j < length;) {
			size_t room = tile + TILE - filled, left = length - j;
			size_t piece = left < room ? left : room;
			muon_convert_f64(type, line + j * size, piece, gram->panel + filled);
			j += piece;
			filled += piece;
			if (filled == tile + TILE || filled == total) {
				measure_tile(gram, gram->panel + tile, filled - tile);
				tile = filled;
			}
		}
	}
}

static inline double sumsq(const double *restrict x, const double *restrict gain, bool per_entry,
			   size_t count)
{
	double lanes[LANES] = {0}, sum = 0;
	size_t whole = count - count % LANES;
	for (size_t i = 0; i < whole; i += LANES)
		for (size_t l = 0; l < LANES; l++) {
			double y = x[i + l] * gain[per_entry ? i + l : 0];
			lanes[l] += y * y;
		}
	for (size_t i = whole; i < count; i++) {
		double y = x[i] * gain[per_entry ? i : 0];
		lanes[i - whole] += y * y;
	}
	for (size_t l = 0; l < LANES; l++)
		sum += lanes[l];
	return sum;
}

SIMD_CLONES
static double sumsq_gains(const double *restrict x, const double *restrict gain, size_t count)
{
	return sumsq(x, gain, true, count);
}

SIMD_CLONES
static double sumsq_gain(const double *restrict x, const double *restrict gain, size_t count)
{
	return sumsq(x, gain, false, count);
}

/* The panel's first entry is entry (row, col) of A. */
static void add_gain(muon_gram *gram, size_t lines, size_t length, size_t row, size_t col)
{
	for (size_t i = 0; i < lines; i++) {
		const double *x = gram->panel + i * length;
		gram->gain_sumsq += gram->gain_on_rows ? sumsq_gain(x, gram->gain + row + i, length)
						       : sumsq_gains(x, gram->gain + col, length);
	}
}

/* ---- spreading: lines of the panel are replaced with their sums and differences, an orthogonal
 * transformation, which leaves the product as it is. Where many lines are equal, the terms of a sum
 * over lines are too, and round all in the same direction, an error that grows with their number;
 * the sums and differences of equal lines are one line and zeros. ------------------------------ */

/* Four lines times a Hadamard matrix of order 4, over 2. The sum, which may be by far the largest,
 * comes last, to be added when the small products already are a sum. */
SIMD_CLONES
static void spread_four(double *restrict a, double *restrict b, double *restrict c,
			double *restrict d, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		double ab = a[i] + b[i], a_b = a[i] - b[i], cd = c[i] + d[i], c_d = c[i] - d[i];
		a[i] = 0.5 * (a_b - c_d);
		b[i] = 0.5 * (ab - cd);
		c[i] = 0.5 * (a_b + c_d);
		d[i] = 0.5 * (ab + cd);
	}
}

/* `lines` of `width` entries, `step` apart: those that are a quarter of them apart, then, in each
 * quarter, again. A remainder of one to three lines stays as it is. */
static void spread(double *x, size_t lines, size_t width, size_t step)
{
	if (lines <= SPREAD_MIN)
		return;
	size_t quarter = lines / 4, far = quarter * step;
	bool gapless = step == width;
	for (size_t i = 0; i < (gapless ? 1 : quarter); i++) {
		double *a = x + i * step;
		spread_four(a, a + far, a + 2 * far, a + 3 * far, gapless ? far : width);
	}
	for (size_t i = 0; i < 4; i++)
		spread(x + i * far, quarter, width, step);
}

static void spread_panel(muon_gram *gram, size_t lines, size_t length)
{
	if (gram->rows < gram->cols) {
		for (size_t i = 0; i < lines; i++)
			spread(gram->panel + i * length, length, 1, 1);
		return;
	}
	for (size_t j = 0; j < length; j += SPREAD_TILE) {
		size_t width = length - j < SPREAD_TILE ? length - j : SPREAD_TILE;
		spread(gram->panel + j, lines, width, length);
	}
}

/* ---- product: G in strips of columns whose widths, hence bits, don't depend on the threads -- */

typedef struct product {
	double *g;           /* k x k */
	const double *panel; /* k x depth or, when `wide`, depth x k, column-major */
	int k, depth, width; /* width: columns of a strip */
	bool wide;
	double beta; /* 0 overwrites G, 1 adds to it */
} product;

static bool multiply_strip(void *state, size_t strip, int worker)
{
	(void)worker;
	const product *p = state;
	const int k = p->k, depth = p->depth, first = (int)strip * p->width;
	const int width = k - first < p->width ? k - first : p->width, below = k - first - width;
	const int ld = p->wide ? depth : k;
	const size_t step = p->wide ? (size_t)depth : 1; /* from one of the k lines to the next */
	const double *left = p->panel + (size_t)first * step;
	double *diagonal = p->g + (size_t)first * (size_t)k + first;
	CBLAS_TRANSPOSE inner = p->wide ? CblasTrans : CblasNoTrans;
	CBLAS_TRANSPOSE outer = p->wide ? CblasNoTrans : CblasTrans;
	cblas_dsyrk(CblasColMajor, CblasLower, inner, width, depth, 1, left, ld, p->beta, diagonal,
		    k);
	if (below > 0)
		cblas_dgemm(CblasColMajor, inner, outer, below, width, depth, 1,
			    left + (size_t)width * step, ld, left, ld, p->beta, diagonal + width,
			    k);
	return true;
}

static void multiply_panel(muon_gram *gram, size_t depth, bool is_first)
{
	int k = (int)gram->k, strips = (k + STRIP - 1) / STRIP, even = (k + strips - 1) / strips;
	const bool apart = gram->part && !is_first;
	product p = {
	    .g = apart ? gram->part : gram->g,
	    .panel = gram->panel,
	    .k = k,
	    .depth = (int)depth,
	    .width = (even + ALIGN - 1) / ALIGN * ALIGN,
	    .wide = gram->rows < gram->cols,
	    .beta = is_first || apart ? 0 : 1,
	};
	muon_pool_run(gram->threads, (size_t)((k + p.width - 1) / p.width), multiply_strip, &p);
	for (size_t j = 0; apart && j < (size_t)k; j++)
		for (size_t i = j; i < (size_t)k; i++)
			gram->g[j * (size_t)k + i] += gram->part[j * (size_t)k + i];
}

/* `lines` rows of `length` entries, the first of them entry (row, col) of A. */
static void add_panel(muon_gram *gram, muon_dtype type, const unsigned char *src, size_t lines,
		      size_t length, size_t ld, size_t row, size_t col)
{
	bool is_first = row == 0 && col == 0;
	fill_panel(gram, type, src, lines, length, ld);
	if (gram->gain)
		add_gain(gram, lines, length, row, col);
	if (gram->entries_only)
		return;
	if (gram->scale != 1)
		for (size_t i = 0; i < lines * length; i++)
			gram->panel[i] *= gram->scale;
	spread_panel(gram, lines, length);
	/* to BLAS, which counts in columns, the row-major panel is its own transpose */
	multiply_panel(gram, gram->rows < gram->cols ? length : lines, is_first);
}

/* Is [first, first + count) what comes next of `longest` rows or columns of k entries? */
static bool is_next(const muon_gram *gram, int64_t longest, int64_t first, int64_t count)
{
	const muon_moments *m = &gram->moments;
	return first >= 0 && count >= 0 && first <= longest && count <= longest - first &&
	       m->count + m->nan + m->inf == first * gram->k;
}

int muon_gram_add_rows(muon_gram *gram, muon_dtype type, const void *block, int64_t first,
		       int64_t count, int64_t ld)
{
	if (gram->rows < gram->cols || ld < gram->cols || !muon_dtype_size(type) ||
	    !is_next(gram, gram->rows, first, count))
		return MUON_E_ARGUMENT;
	const unsigned char *src = block;
	size_t size = muon_dtype_size(type);
	int64_t depth = muon_gram_panel_depth(gram->rows, gram->cols);
	for (int64_t i = 0; i < count; i += depth) {
		int64_t lines = count - i < depth ? count - i : depth;
		add_panel(gram, type, src + (size_t)i * (size_t)ld * size, (size_t)lines,
			  (size_t)gram->cols, (size_t)ld, (size_t)(first + i), 0);
	}
	return MUON_OK;
}

int muon_gram_add_cols(muon_gram *gram, muon_dtype type, const void *block, int64_t first,
		       int64_t count, int64_t ld)
{
	if (gram->rows >= gram->cols || ld < count || !muon_dtype_size(type) ||
	    !is_next(gram, gram->cols, first, count))
		return MUON_E_ARGUMENT;
	const unsigned char *src = block;
	size_t size = muon_dtype_size(type);
	int64_t depth = muon_gram_panel_depth(gram->rows, gram->cols);
	for (int64_t j = 0; j < count; j += depth) {
		int64_t length = count - j < depth ? count - j : depth;
		add_panel(gram, type, src + (size_t)j * size, (size_t)gram->rows, (size_t)length,
			  (size_t)ld, 0, (size_t)(first + j));
	}
	return MUON_OK;
}
