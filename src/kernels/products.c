#include "kernels/products.h"

#include "base/pool.h"

#include <stdatomic.h>

enum {
	STRIP = 512, /* of a general product: large enough for BLAS to be at its rate */
	TILE = 384,  /* of a symmetric one */
	LEAF = 64,   /* what is computed whole on the diagonal of a symmetric product */
	LEAF_ONEDNN = 128,
	ROUND = 16, /* widths are multiples */
	MIRROR = 32
};

size_t muon_arithmetic_size(muon_arithmetic arithmetic)
{
	switch (arithmetic) {
	case MUON_ARITHMETIC_F64:
		return sizeof(double);
	case MUON_ARITHMETIC_BF16:
		return sizeof(uint16_t);
	default:
		return sizeof(float);
	}
}

bool muon_arithmetic_is_onednn(muon_arithmetic arithmetic)
{
	return arithmetic == MUON_ARITHMETIC_BF16 || arithmetic == MUON_ARITHMETIC_ONEDNN_F32;
}

/* ---- tiles: strips of a general product; squares of a symmetric one's lower half, those off the
 * diagonal, which take longer, first ---------------------------------------------------------- */

/* Width of near-equal parts of at most `most`, and two at least where there is work for two. */
static int even_width(int length, int most)
{
	int parts = (length + most - 1) / most;
	if (parts == 1 && length >= most / 2)
		parts = 2;
	const int width = (length + parts - 1) / parts;
	return (width + ROUND - 1) / ROUND * ROUND;
}

static int part_count(int length, int width)
{
	return (length + width - 1) / width;
}

static int part_size(int length, int width, int part)
{
	const int left = length - part * width;
	return left < width ? left : width;
}

static int longer(const muon_product *p)
{
	return p->rows > p->cols ? p->rows : p->cols;
}

static size_t tile_count(const muon_product *p)
{
	if (!p->symmetric)
		return (size_t)part_count(longer(p), even_width(longer(p), STRIP));
	const size_t parts = (size_t)part_count(p->rows, even_width(p->rows, TILE));
	return parts * (parts + 1) / 2;
}

static muon_block strip_at(const muon_product *p, int index)
{
	const int width = even_width(longer(p), STRIP), at = index * width;
	const int size = part_size(longer(p), width, index);
	if (p->rows > p->cols)
		return (muon_block){.row = at, .rows = size, .cols = p->cols};
	return (muon_block){.col = at, .rows = p->rows, .cols = size};
}

static muon_block tile_at(const muon_product *p, size_t index)
{
	if (!p->symmetric)
		return strip_at(p, (int)index);
	const int width = even_width(p->rows, TILE), parts = part_count(p->rows, width);
	const int below = parts * (parts - 1) / 2;
	int i = (int)index - below, j = i;
	if (i < 0) {
		i = 1;
		for (j = (int)index; j >= i; i++)
			j -= i;
	}
	return (muon_block){
	    .row = i * width,
	    .col = j * width,
	    .rows = part_size(p->rows, width, i),
	    .cols = part_size(p->rows, width, j),
	};
}

/* ---- blocks: a tile on the diagonal of a symmetric product is halved down to small squares, the
 * only ones that are computed on both sides of the diagonal ------------------------------------ */

typedef int block_fn(void *state, const muon_block *block);

static bool is_on_diagonal(const muon_product *p, const muon_block *tile)
{
	return p->symmetric && tile->row == tile->col;
}

static int walk_diagonal(int at, int size, int leaf, block_fn *fn, void *state)
{
	if (size <= leaf)
		return fn(state, &(muon_block){at, at, size, size, false});
	const int half = (size / 2 + ROUND - 1) / ROUND * ROUND;
	int code = walk_diagonal(at, half, leaf, fn, state);
	if (!code)
		code = fn(state, &(muon_block){at + half, at, size - half, half, false});
	return code ? code : walk_diagonal(at + half, size - half, leaf, fn, state);
}

static int walk_tile(const muon_product *p, bool onednn, const muon_block *tile, block_fn *fn,
		     void *state)
{
	if (!is_on_diagonal(p, tile))
		return fn(state, tile);
	const bool triangle = p->left == p->right && p->left_transposed != p->right_transposed;
	if (triangle && !onednn)
		return fn(state, &(muon_block){tile->row, tile->col, tile->rows, tile->cols, true});
	return walk_diagonal(tile->row, tile->rows, onednn ? LEAF_ONEDNN : LEAF, fn, state);
}

static int walk(const muon_product *p, bool onednn, block_fn *fn, void *state)
{
	int code = MUON_OK;
	for (size_t i = 0; !code && i < tile_count(p); i++) {
		const muon_block tile = tile_at(p, i);
		code = walk_tile(p, onednn, &tile, fn, state);
	}
	return code;
}

/* ---- flops ---------------------------------------------------------------------------------- */

typedef struct flop_count {
	double depth, flops;
} flop_count;

static int count_flops(void *state, const muon_block *block)
{
	flop_count *count = state;
	const double rows = block->rows, cols = block->cols;
	count->flops += count->depth * rows * (block->triangle ? cols + 1 : 2 * cols);
	return MUON_OK;
}

double muon_product_flops(const muon_product *product, muon_arithmetic arithmetic)
{
	flop_count count = {.depth = product->depth};
	walk(product, muon_arithmetic_is_onednn(arithmetic), count_flops, &count);
	return count.flops;
}

/* ---- preparing ------------------------------------------------------------------------------ */

typedef struct preparation {
	struct muon_onednn *onednn;
	const muon_product *product;
	const int64_t *ld;
} preparation;

static int prepare_block(void *state, const muon_block *block)
{
	const preparation *p = state;
	return muon_onednn_prepare(p->onednn, p->product, p->ld, block);
}

int muon_product_prepare(const muon_multiplier *multiplier, const muon_product *product,
			 const int64_t *ld)
{
	if (!multiplier->onednn)
		return MUON_OK;
	preparation p = {multiplier->onednn, product, ld};
	return walk(product, true, prepare_block, &p);
}

size_t muon_multiplier_scratch(const muon_multiplier *multiplier)
{
	if (!multiplier->onednn)
		return 0;
	return muon_onednn_scratch(multiplier->onednn) * (size_t)multiplier->threads;
}

/* ---- mirroring, in squares that stay in cache ----------------------------------------------- */

#define MIRROR_SQUARE(name, type)                                                                  \
	static void name(type *restrict c, size_t ld, const muon_block *square)                    \
	{                                                                                          \
		const size_t row = (size_t)square->row, col = (size_t)square->col;                 \
		for (size_t j = col; j < col + (size_t)square->cols; j++)                          \
			for (size_t i = row > j ? row : j + 1; i < row + (size_t)square->rows;     \
			     i++)                                                                  \
				c[j * ld + i] = c[i * ld + j];                                     \
	}
MIRROR_SQUARE(mirror_2, uint16_t)
MIRROR_SQUARE(mirror_4, uint32_t)
MIRROR_SQUARE(mirror_8, uint64_t)
#undef MIRROR_SQUARE

static void mirror_square(size_t size, const muon_buffer *out, const muon_block *square)
{
	const size_t ld = (size_t)out->ld;
	if (size == 2)
		mirror_2(out->entries, ld, square);
	else if (size == 4)
		mirror_4(out->entries, ld, square);
	else
		mirror_8(out->entries, ld, square);
}

/* Copy what the tile has below the diagonal to above it. */
static void mirror(size_t size, const muon_buffer *out, const muon_block *tile)
{
	for (int i = 0; i < tile->rows; i += MIRROR)
		for (int j = 0; j < tile->cols; j += MIRROR) {
			const muon_block square = {
			    .row = tile->row + i,
			    .col = tile->col + j,
			    .rows = part_size(tile->rows, MIRROR, i / MIRROR),
			    .cols = part_size(tile->cols, MIRROR, j / MIRROR),
			};
			if (square.col <= square.row)
				mirror_square(size, out, &square);
		}
}

/* ---- computing ------------------------------------------------------------------------------ */

typedef struct run {
	const muon_multiplier *multiplier;
	const muon_product *product;
	const muon_buffer *buffers;
	char *scratch;
	atomic_int code;
} run;

typedef struct worker_run {
	const run *run;
	void *scratch;
} worker_run;

static int compute_block(void *state, const muon_block *block)
{
	const worker_run *w = state;
	const run *r = w->run;
	if (r->multiplier->onednn)
		return muon_onednn_block(r->multiplier->onednn, r->product, r->buffers, block,
					 w->scratch);
	muon_blas_block(r->product, r->buffers, r->multiplier->arithmetic, block);
	return MUON_OK;
}

static bool compute_tile(void *state, size_t index, int worker)
{
	run *r = state;
	const muon_multiplier *m = r->multiplier;
	const muon_block tile = tile_at(r->product, index);
	worker_run w = {r, r->scratch};
	if (m->onednn)
		w.scratch = r->scratch + (size_t)worker * muon_onednn_scratch(m->onednn);
	int code = walk_tile(r->product, m->onednn != NULL, &tile, compute_block, &w);
	if (code) {
		r->code = code;
		return false;
	}
	if (!m->onednn)
		muon_blas_finish(r->product, r->buffers, m->arithmetic, &tile);
	if (r->product->symmetric)
		mirror(muon_arithmetic_size(m->arithmetic), &r->buffers[r->product->out], &tile);
	return true;
}

int muon_product_run(const muon_multiplier *multiplier, const muon_product *product,
		     const muon_buffer *buffers, void *scratch)
{
	run r = {
	    .multiplier = multiplier, .product = product, .buffers = buffers, .scratch = scratch};
	muon_pool_run(multiplier->threads, tile_count(product), compute_tile, &r);
	return r.code;
}
