/* What this rank owns, and the state of it. */
#include "optim/optim_internal.h"

#include <string.h>

/* ---- who owns what -------------------------------------------------------------------------- */

/* Cost of orthogonalising, the same on all ranks whatever their machines' precisions. */
static int ns_cost(const muon_optimizer *o, const muon_optim_block *b, double *cost)
{
	muon_ns_plan *plan;
	const int code = muon_ns_plan_create(&plan, b->rows, b->cols, &o->coefficients,
					     MUON_PRECISION_F32, MUON_NS_AUTO);
	if (code)
		return code;
	*cost = muon_ns_flops(plan);
	muon_ns_plan_destroy(&plan);
	return MUON_OK;
}

static int write_items(const muon_optimizer *o, muon_item *items)
{
	for (size_t i = 0; i < o->count; i++) {
		const muon_optim_parameter *p = &o->parameters[i];
		if (p->rule == MUON_RULE_ADAMW)
			*items++ = (muon_item){p->begin, p->begin + p->elements, 0, p->rule};
		for (size_t k = 0; k < p->block_count; k++) {
			const muon_optim_block *b = &o->blocks[p->first_block + k];
			const int64_t begin = p->begin + b->begin;
			double cost = 0;
			int code = o->comm ? ns_cost(o, b, &cost) : MUON_OK;
			if (code)
				return code;
			*items++ = (muon_item){begin, begin + b->rows * b->cols, cost, p->rule};
		}
	}
	return MUON_OK;
}

static int cut_list(muon_optimizer *o, muon_error *err)
{
	const size_t count = o->count + o->block_count; /* at most */
	muon_item *items = muon_alloc(count, sizeof *items);
	if (!items)
		return muon_optim_out_of_memory(NULL, err);
	size_t used = o->block_count;
	for (size_t i = 0; i < o->count; i++)
		used += o->parameters[i].rule == MUON_RULE_ADAMW;
	int code = write_items(o, items);
	if (!code)
		code = muon_ownership_create(&o->ownership, o->distributed.placement, items, used,
					     o->comm ? o->comm->size : 1);
	muon_free(items);
	return code ? muon_fail(err, code, NULL, "parameters can't be placed on ranks: %s",
				muon_error_text(code))
		    : MUON_OK;
}

/* ---- pieces and their state ----------------------------------------------------------------- */

/* Call `fn` for each piece of this rank, in order. */
typedef void piece_fn(muon_optimizer *o, size_t parameter, int64_t begin, int64_t end);

static void walk_pieces(muon_optimizer *o, piece_fn *fn)
{
	const int rank = o->comm ? o->comm->rank : 0;
	size_t i = 0;
	for (size_t s = 0; s < o->ownership.count; s++) {
		const muon_segment *segment = &o->ownership.segments[s];
		if (segment->rank != rank)
			continue;
		while (i < o->count &&
		       o->parameters[i].begin + o->parameters[i].elements <= segment->begin)
			i++;
		for (size_t k = i; k < o->count && o->parameters[k].begin < segment->end; k++) {
			const muon_optim_parameter *p = &o->parameters[k];
			const int64_t begin = segment->begin - p->begin,
				      end = segment->end - p->begin;
			fn(o, k, begin > 0 ? begin : 0, end < p->elements ? end : p->elements);
		}
	}
}

static void count_piece(muon_optimizer *o, size_t parameter, int64_t begin, int64_t end)
{
	(void)parameter;
	const size_t spans = (size_t)((end - begin + MUON_OPTIM_SPAN - 1) / MUON_OPTIM_SPAN);
	o->piece_count++;
	o->span_count += spans;
	if (o->parameters[parameter].rule == MUON_RULE_ADAMW)
		o->adamw_span_count += spans;
}

static void add_state(muon_optimizer *o, muon_optim_piece *piece)
{
	const size_t alignment = 64;
	const muon_optim_parameter *p = &o->parameters[piece->parameter];
	const size_t bytes = (size_t)(piece->end - piece->begin) * muon_dtype_size(p->state_dtype);
	for (int k = 0; k < MUON_OPTIM_KINDS; k++) {
		if (!p->state_name[k])
			continue;
		piece->state[k] = o->state_size;
		o->state_bytes += bytes;
		o->state_size += (bytes + alignment - 1) / alignment * alignment;
	}
}

static void add_spans(muon_optimizer *o, size_t piece)
{
	const muon_optim_piece *p = &o->pieces[piece];
	for (int64_t at = p->begin; at < p->end; at += MUON_OPTIM_SPAN) {
		const int64_t end = at + MUON_OPTIM_SPAN;
		if (o->parameters[p->parameter].rule == MUON_RULE_ADAMW)
			o->adamw_spans[o->adamw_span_count++] = o->span_count;
		o->spans[o->span_count++] = (muon_optim_span){
		    .piece = piece, .begin = at, .end = end < p->end ? end : p->end};
	}
}

static void add_piece(muon_optimizer *o, size_t parameter, int64_t begin, int64_t end)
{
	const size_t index = o->piece_count++;
	muon_optim_piece *piece = &o->pieces[index];
	const muon_optim_piece *before = index ? piece - 1 : NULL;
	muon_optim_parameter *p = &o->parameters[parameter];
	*piece = (muon_optim_piece){.parameter = parameter, .begin = begin, .end = end};
	if (before)
		piece->local = before->local + before->end - before->begin;
	if (!p->piece_count++)
		p->first_piece = index;
	add_state(o, piece);
	add_spans(o, index);
}

/* The pieces of this rank that meet a block; whether they are all of it. */
static void find_pieces(const muon_optimizer *o, muon_optim_block *b)
{
	const muon_optim_parameter *p = &o->parameters[b->parameter];
	const int64_t end = b->begin + b->rows * b->cols;
	size_t first = p->first_piece, last = p->first_piece + p->piece_count;
	while (first < last && o->pieces[first].end <= b->begin)
		first++;
	while (last > first && o->pieces[last - 1].begin >= end)
		last--;
	b->first_piece = first;
	b->last_piece = last;
	b->is_reported = first < last && o->pieces[first].begin <= b->begin;
	int64_t own = 0;
	for (size_t i = first; i < last; i++) {
		const muon_optim_piece *piece = &o->pieces[i];
		own += (piece->end < end ? piece->end : end) -
		       (piece->begin > b->begin ? piece->begin : b->begin);
	}
	b->is_cut = own < b->rows * b->cols;
}

static bool allocate_lists(muon_optimizer *o)
{
	o->pieces = muon_alloc(o->piece_count, sizeof *o->pieces);
	o->spans = muon_alloc(o->span_count, sizeof *o->spans);
	o->adamw_spans = muon_alloc(o->adamw_span_count, sizeof *o->adamw_spans);
	return o->pieces && o->spans && o->adamw_spans;
}

static bool allocate_state(muon_optimizer *o)
{
	o->state = muon_alloc_aligned(o->state_size, 1);
	if (o->state)
		memset(o->state, 0, o->state_size);
	return o->state != NULL;
}

int muon_optim_make_pieces(muon_optimizer *o, muon_error *err)
{
	int code = cut_list(o, err);
	if (code)
		return code;
	walk_pieces(o, count_piece);
	if (!allocate_lists(o))
		return muon_optim_out_of_memory(NULL, err);
	o->piece_count = o->span_count = o->adamw_span_count = 0;
	walk_pieces(o, add_piece);
	if (!allocate_state(o))
		return muon_fail(err, MUON_E_MEMORY, NULL,
				 "out of memory: the optimizer's state takes %zu bytes",
				 o->state_size);
	for (size_t i = 0; i < o->block_count; i++)
		find_pieces(o, &o->blocks[i]);
	muon_optim_copy_masters(o, MUON_OPTIM_FROM_VALUES);
	return MUON_OK;
}
