#include "optim/exchanges.h"

#include "base/clock.h"
#include "kernels/simd.h"

#include <string.h>

enum {
	ROUND = 1 << 20, /* entries that all ranks together send a rank at a time */
	WIDEST = 4       /* bytes of an entry under way */
};

typedef struct transfer {
	size_t *offset, *bytes; /* one a rank */
} transfer;

struct muon_optim_exchanges {
	int ranks, rank;
	int64_t window; /* entries of each rank in a round */
	int64_t rounds;
	char *send, *receive; /* `window` entries of each rank */
	transfer out, in;
	size_t *no_offset;
	muon_optim_cursor *cursors;
	float *rows; /* a chunk from each rank, to be summed */

	size_t *cut; /* own blocks that a cut goes through, ascending */
	size_t cut_count;
	char *gather_send, *gather_receive;
	transfer gather_out, gather_in;
};

/* ---- cursors -------------------------------------------------------------------------------- */

muon_optim_cursor muon_optim_cursor_at(const muon_optimizer *o, int rank, int64_t begin,
				       int64_t end)
{
	size_t first, last;
	muon_ownership_find(&o->ownership, begin, end, &first, &last);
	return (muon_optim_cursor){.rank = rank, .segment = first, .at = begin, .end = end};
}

bool muon_optim_next_run(const muon_optimizer *o, muon_optim_cursor *c, int64_t most,
			 muon_optim_run *run)
{
	const muon_ownership *all = &o->ownership;
	while (c->segment < all->count && (all->segments[c->segment].rank != c->rank ||
					   all->segments[c->segment].end <= c->at))
		c->segment++;
	if (most <= 0 || c->segment == all->count || all->segments[c->segment].begin >= c->end)
		return false;
	const muon_segment *segment = &all->segments[c->segment];
	if (c->at < segment->begin)
		c->at = segment->begin;
	const muon_optim_parameter *p = &o->parameters[c->parameter];
	while (p->begin + p->elements <= c->at)
		p = &o->parameters[++c->parameter];
	int64_t end = p->begin + p->elements;
	end = end < segment->end ? end : segment->end;
	end = end < c->end ? end : c->end;
	end = end < c->at + most ? end : c->at + most;
	if (c->at >= end)
		return false;
	*run = (muon_optim_run){c->parameter, c->at - p->begin, end - c->at};
	c->at = end;
	return true;
}

static void start_cursors(const muon_optimizer *o)
{
	struct muon_optim_exchanges *e = o->exchanges;
	for (int r = 0; r < e->ranks; r++)
		e->cursors[r] = muon_optim_cursor_at(o, r, 0, o->entries);
}

static int64_t most_entries(const muon_optimizer *o, int ranks)
{
	int64_t most = 1;
	for (int r = 0; r < ranks; r++) {
		int64_t entries = 0;
		for (size_t s = 0; s < o->ownership.count; s++)
			if (o->ownership.segments[s].rank == r)
				entries +=
				    o->ownership.segments[s].end - o->ownership.segments[s].begin;
		most = entries > most ? entries : most;
	}
	return most;
}

/* ---- one window of a rank, packed and unpacked ---------------------------------------------- */

typedef enum source { GRADIENTS, VALUES } source;

static size_t entry_size(const muon_parameter *p, source what)
{
	return muon_dtype_size(what == VALUES ? p->dtype : p->gradient_dtype);
}

/* Copy the next window of the rank to `to`, or only count it where that is NULL; its bytes. */
static size_t pack(const muon_optimizer *o, muon_optim_cursor *cursor, source what, char *to)
{
	muon_optim_run run;
	size_t used = 0;
	for (int64_t left = o->exchanges->window; muon_optim_next_run(o, cursor, left, &run);
	     left -= run.count) {
		const muon_parameter *p = &o->parameters[run.parameter].given;
		const size_t size = entry_size(p, what), bytes = (size_t)run.count * size;
		const char *from = what == VALUES ? p->values : p->gradient;
		if (to)
			memcpy(to + used, from + (size_t)run.begin * size, bytes);
		used += bytes;
	}
	return used;
}

static void unpack_values(const muon_optimizer *o, muon_optim_cursor *cursor, const char *from)
{
	muon_optim_run run;
	for (int64_t left = o->exchanges->window; muon_optim_next_run(o, cursor, left, &run);
	     left -= run.count) {
		const muon_parameter *p = &o->parameters[run.parameter].given;
		const size_t size = entry_size(p, VALUES), bytes = (size_t)run.count * size;
		memcpy((char *)p->values + (size_t)run.begin * size, from, bytes);
		from += bytes;
	}
}

/* ---- reduce-scatter ------------------------------------------------------------------------- */

SIMD_CLONES
static void add_row(float *restrict a, const float *restrict b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		a[i] += b[i];
}

/* ((0 + 1) + (2 + 3)) + ..., in float32 as a caller's own sum of micro-batches would be. */
static void sum_rows(float *rows, int ranks, size_t count)
{
	for (int apart = 1; apart < ranks; apart *= 2)
		for (int r = 0; r + apart < ranks; r += 2 * apart)
			add_row(rows + (size_t)r * MUON_OPTIM_CHUNK,
				rows + (size_t)(r + apart) * MUON_OPTIM_CHUNK, count);
}

/* Sum a chunk whose entries of rank r are at from + r * stride. */
static void sum_chunk(const muon_optimizer *o, muon_dtype dtype, const char *from, size_t stride,
		      size_t count, float *to)
{
	double x[MUON_OPTIM_CHUNK];
	struct muon_optim_exchanges *e = o->exchanges;
	for (int r = 0; r < e->ranks; r++) {
		muon_convert_f64(dtype, from + (size_t)r * stride, count, x);
		muon_optim_store(MUON_F32, x, count, e->rows + (size_t)r * MUON_OPTIM_CHUNK);
	}
	sum_rows(e->rows, e->ranks, count);
	muon_convert_f64(MUON_F32, e->rows, count, x);
	for (size_t i = 0; i < count; i++)
		x[i] *= o->distributed.gradient_factor;
	muon_optim_store(MUON_F32, x, count, to);
}

static float *sum_window(const muon_optimizer *o, muon_optim_cursor *cursor, size_t stride,
			 float *to)
{
	muon_optim_run run;
	const struct muon_optim_exchanges *e = o->exchanges;
	const char *from = e->receive;
	for (int64_t left = e->window; muon_optim_next_run(o, cursor, left, &run);
	     left -= run.count) {
		const muon_parameter *p = &o->parameters[run.parameter].given;
		const size_t size = muon_dtype_size(p->gradient_dtype);
		for (int64_t at = 0; at < run.count; at += MUON_OPTIM_CHUNK) {
			const size_t count = muon_optim_chunk(at, run.count);
			sum_chunk(o, p->gradient_dtype, from, stride, count, to);
			from += count * size;
			to += count;
		}
	}
	return to;
}

int muon_optim_reduce(muon_optimizer *o, muon_error *err)
{
	struct muon_optim_exchanges *e = o->exchanges;
	if (!e)
		return MUON_OK;
	const size_t stride = (size_t)e->window * WIDEST;
	float *to = o->reduced;
	int code = MUON_OK;
	start_cursors(o);
	for (int64_t i = 0; !code && i < e->rounds; i++) {
		muon_optim_cursor own = e->cursors[e->rank];
		for (int r = 0; r < e->ranks; r++) {
			e->out.offset[r] = e->in.offset[r] = (size_t)r * stride;
			e->out.bytes[r] =
			    pack(o, &e->cursors[r], GRADIENTS, e->send + e->out.offset[r]);
		}
		for (int r = 0; r < e->ranks; r++)
			e->in.bytes[r] = e->out.bytes[e->rank];
		const muon_exchange exchange = {e->send,    e->out.offset, e->out.bytes,
						e->receive, e->in.offset,  e->in.bytes};
		code = muon_comm_exchange(o->comm, MUON_PHASE_REDUCE, &exchange, err);
		if (!code)
			to = sum_window(o, &own, stride, to);
	}
	return code;
}

/* ---- all-gather ----------------------------------------------------------------------------- */

int muon_optim_all_gather(muon_optimizer *o, muon_error *err)
{
	struct muon_optim_exchanges *e = o->exchanges;
	if (!e)
		return MUON_OK;
	const size_t stride = (size_t)e->window * WIDEST;
	int code = MUON_OK;
	start_cursors(o);
	for (int64_t i = 0; !code && i < e->rounds; i++) {
		muon_optim_cursor own = e->cursors[e->rank];
		const size_t bytes = pack(o, &own, VALUES, e->send);
		for (int r = 0; r < e->ranks; r++) {
			muon_optim_cursor theirs = e->cursors[r];
			e->out.bytes[r] = bytes;
			e->in.offset[r] = (size_t)r * stride;
			e->in.bytes[r] = pack(o, &theirs, VALUES, NULL);
		}
		const muon_exchange exchange = {e->send,    e->no_offset, e->out.bytes,
						e->receive, e->in.offset, e->in.bytes};
		code = muon_comm_exchange(o->comm, MUON_PHASE_ALL_GATHER, &exchange, err);
		for (int r = 0; !code && r < e->ranks; r++)
			unpack_values(o, &e->cursors[r], e->receive + e->in.offset[r]);
	}
	return code;
}

/* ---- gather of matrices that a cut goes through --------------------------------------------- */

static muon_optim_cursor block_cursor(const muon_optimizer *o, const muon_optim_block *b, int rank)
{
	const int64_t begin = o->parameters[b->parameter].begin + b->begin;
	muon_optim_cursor cursor = muon_optim_cursor_at(o, rank, begin, begin + b->rows * b->cols);
	cursor.parameter = b->parameter;
	return cursor;
}

static int64_t entries_of(const muon_optimizer *o, const muon_optim_block *b, int rank)
{
	muon_optim_cursor cursor = block_cursor(o, b, rank);
	muon_optim_run run;
	int64_t entries = 0;
	while (muon_optim_next_run(o, &cursor, b->rows * b->cols, &run))
		entries += run.count;
	return entries;
}

typedef enum direction { OUT, IN } direction;

/* Between the rank's parts of the block's whole matrix and bytes under way; bytes passed. Rounds
 * what is packed, so that the matrix is the same on all ranks. */
static size_t copy_parts(const muon_optimizer *o, const muon_optim_block *b, int rank,
			 direction way, char *bytes)
{
	double x[MUON_OPTIM_CHUNK];
	const muon_dtype whole_dtype = o->plans[b->plan].dtype, dtype = o->distributed.gather_dtype;
	muon_optim_cursor cursor = block_cursor(o, b, rank);
	muon_optim_run run;
	size_t used = 0;
	while (muon_optim_next_run(o, &cursor, MUON_OPTIM_CHUNK, &run)) {
		const size_t count = (size_t)run.count;
		char *whole = (char *)b->whole +
			      (size_t)(run.begin - b->begin) * muon_dtype_size(whole_dtype);
		if (way == OUT) {
			muon_convert_f64(whole_dtype, whole, count, x);
			muon_optim_store(dtype, x, count, bytes + used);
		}
		muon_convert_f64(dtype, bytes + used, count, x);
		muon_optim_store(whole_dtype, x, count, whole);
		used += count * muon_dtype_size(dtype);
	}
	return used;
}

/* All that passes between this rank and another, block by block. */
static void copy_for(const muon_optimizer *o, int other, direction way)
{
	const struct muon_optim_exchanges *e = o->exchanges;
	char *bytes = way == OUT ? e->gather_send + e->gather_out.offset[other]
				 : e->gather_receive + e->gather_in.offset[other];
	for (size_t i = 0; i < e->cut_count; i++) {
		const muon_optim_block *b = &o->blocks[e->cut[i]];
		if (entries_of(o, b, other))
			bytes += copy_parts(o, b, way == OUT ? e->rank : other, way, bytes);
	}
}

int muon_optim_gather(muon_optimizer *o, muon_error *err)
{
	struct muon_optim_exchanges *e = o->exchanges;
	if (!e)
		return MUON_OK;
	for (int r = 0; r < e->ranks; r++)
		if (r != e->rank)
			copy_for(o, r, OUT);
	const muon_exchange exchange = {
	    e->gather_send,    e->gather_out.offset, e->gather_out.bytes,
	    e->gather_receive, e->gather_in.offset,  e->gather_in.bytes,
	};
	int code = muon_comm_exchange(o->comm, MUON_PHASE_GATHER, &exchange, err);
	for (int r = 0; !code && r < e->ranks; r++)
		if (r != e->rank)
			copy_for(o, r, IN);
	return code;
}

/* ---- setting up ----------------------------------------------------------------------------- */

static bool make_transfer(transfer *t, int ranks)
{
	t->offset = muon_alloc((size_t)ranks, sizeof *t->offset);
	t->bytes = muon_alloc((size_t)ranks, sizeof *t->bytes);
	return t->offset && t->bytes;
}

static void release_transfer(transfer *t)
{
	muon_free(t->offset);
	muon_free(t->bytes);
}

static bool find_cut_blocks(muon_optimizer *o)
{
	struct muon_optim_exchanges *e = o->exchanges;
	e->cut = muon_alloc(o->block_count, sizeof *e->cut);
	for (size_t i = 0; e->cut && i < o->block_count; i++)
		if (o->blocks[i].is_cut && o->blocks[i].first_piece < o->blocks[i].last_piece)
			e->cut[e->cut_count++] = i;
	return e->cut != NULL;
}

/* Where what passes between this rank and each other begins, and how much it is. */
static bool lay_out_gather(muon_optimizer *o)
{
	struct muon_optim_exchanges *e = o->exchanges;
	const size_t size = muon_dtype_size(o->distributed.gather_dtype);
	size_t out = 0, in = 0;
	for (int r = 0; r < e->ranks; r++) {
		e->gather_out.offset[r] = out;
		e->gather_in.offset[r] = in;
		for (size_t i = 0; r != e->rank && i < e->cut_count; i++) {
			const muon_optim_block *b = &o->blocks[e->cut[i]];
			const size_t theirs = (size_t)entries_of(o, b, r) * size;
			in += theirs;
			out += theirs ? (size_t)entries_of(o, b, e->rank) * size : 0;
		}
		e->gather_out.bytes[r] = out - e->gather_out.offset[r];
		e->gather_in.bytes[r] = in - e->gather_in.offset[r];
	}
	e->gather_send = muon_alloc_aligned(out, 1);
	e->gather_receive = muon_alloc_aligned(in, 1);
	return e->gather_send && e->gather_receive;
}

static bool allocate_rounds(muon_optimizer *o)
{
	struct muon_optim_exchanges *e = o->exchanges;
	const int64_t most = most_entries(o, e->ranks), window = ROUND / e->ranks + 1;
	const size_t ranks = (size_t)e->ranks;
	e->window = window < most ? window : most;
	e->rounds = (most + e->window - 1) / e->window;
	const size_t bytes = ranks * (size_t)e->window * WIDEST;
	const muon_optim_piece *last = o->piece_count ? &o->pieces[o->piece_count - 1] : NULL;
	const int64_t own = last ? last->local + last->end - last->begin : 0;
	e->send = muon_alloc_aligned(bytes, 1);
	e->receive = muon_alloc_aligned(bytes, 1);
	e->no_offset = muon_alloc(ranks, sizeof *e->no_offset);
	e->cursors = muon_alloc(ranks, sizeof *e->cursors);
	e->rows = muon_alloc(ranks * MUON_OPTIM_CHUNK, sizeof *e->rows);
	o->reduced = muon_alloc((size_t)own, sizeof *o->reduced);
	return e->send && e->receive && e->no_offset && e->cursors && e->rows && o->reduced;
}

static bool allocate_all(muon_optimizer *o)
{
	struct muon_optim_exchanges *e = o->exchanges;
	return make_transfer(&e->out, e->ranks) && make_transfer(&e->in, e->ranks) &&
	       make_transfer(&e->gather_out, e->ranks) && make_transfer(&e->gather_in, e->ranks) &&
	       allocate_rounds(o) && find_cut_blocks(o) && lay_out_gather(o);
}

int muon_optim_make_exchanges(muon_optimizer *o, muon_error *err)
{
	if (!o->comm || o->comm->size < 2)
		return MUON_OK;
	struct muon_optim_exchanges *e = o->exchanges = muon_alloc(1, sizeof *e);
	if (!e)
		return muon_optim_out_of_memory(NULL, err);
	e->ranks = o->comm->size;
	e->rank = o->comm->rank;
	return allocate_all(o) ? MUON_OK : muon_optim_out_of_memory(NULL, err);
}

void muon_optim_release_exchanges(muon_optimizer *o)
{
	struct muon_optim_exchanges *e = o->exchanges;
	muon_free(o->reduced);
	if (!e)
		return;
	release_transfer(&e->out);
	release_transfer(&e->in);
	release_transfer(&e->gather_out);
	release_transfer(&e->gather_in);
	muon_free_aligned(e->send);
	muon_free_aligned(e->receive);
	muon_free_aligned(e->gather_send);
	muon_free_aligned(e->gather_receive);
	muon_free(e->no_offset);
	muon_free(e->cursors);
	muon_free(e->rows);
	muon_free(e->cut);
	muon_free(e);
}
