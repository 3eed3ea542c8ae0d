/* Parameters as the matrices that are orthogonalised: each matrix of a stack, or each of its heads
 * or splits. */
#include "optim/optim_internal.h"

static size_t blocks_per_matrix(const muon_parameter *p)
{
	if (p->splits)
		return (size_t)p->split_count;
	return p->heads > 1 ? (size_t)p->heads : 1;
}

static int count_blocks(muon_optimizer *o, muon_error *err)
{
	for (size_t i = 0; i < o->count; i++) {
		muon_optim_parameter *p = &o->parameters[i];
		if (p->rule != MUON_RULE_MUON)
			continue;
		p->first_block = o->block_count;
		p->block_count = (size_t)p->matrices * blocks_per_matrix(&p->given);
		o->block_count += p->block_count;
	}
	if (!o->block_count)
		return MUON_OK;
	o->blocks = muon_alloc(o->block_count, sizeof *o->blocks);
	return o->blocks ? MUON_OK : muon_optim_out_of_memory(NULL, err);
}

static void set_blocks(muon_optimizer *o, size_t index)
{
	const muon_optim_parameter *p = &o->parameters[index];
	const size_t each = blocks_per_matrix(&p->given);
	int64_t begin = 0;
	for (size_t i = 0; i < p->block_count; i++) {
		muon_optim_block *b = &o->blocks[p->first_block + i];
		const int64_t rows =
		    p->given.splits ? p->given.splits[i % each] : p->rows / (int64_t)each;
		*b = (muon_optim_block){
		    .parameter = index,
		    .begin = begin,
		    .rows = rows,
		    .cols = p->cols,
		    .factor = muon_optim_factor(o, rows, p->cols),
		};
		begin += rows * p->cols;
	}
}

int muon_optim_make_blocks(muon_optimizer *o, muon_error *err)
{
	int code = count_blocks(o, err);
	for (size_t i = 0; !code && i < o->count; i++)
		if (o->parameters[i].rule == MUON_RULE_MUON)
			set_blocks(o, i);
	return code;
}
