/* What ranks send each other in a step. With one process there is nothing to send and o->exchanges
 * is NULL; every function returns at once then. All are collective. */
#ifndef MUON_OPTIM_EXCHANGES_H
#define MUON_OPTIM_EXCHANGES_H

#include "optim/optim_internal.h"

/* After pieces and plans, which it completes: what cut blocks are gathered in is theirs. */
int muon_optim_make_exchanges(muon_optimizer *o, muon_error *err);
void muon_optim_release_exchanges(muon_optimizer *o);

/* Gradients of own entries, summed over ranks in float32, pairwise in the order of ranks, into
 * o->reduced. */
int muon_optim_reduce(muon_optimizer *o, muon_error *err);
/* The missing parts of own blocks that a cut goes through, into block->whole. */
int muon_optim_gather(muon_optimizer *o, muon_error *err);
/* Values of all entries from their owners. */
int muon_optim_all_gather(muon_optimizer *o, muon_error *err);

/* ---- entries of a rank, in order: what state.c walks, too ---------------------------------- */

/* Contiguous entries of one parameter that one rank owns. */
typedef struct muon_optim_run {
	size_t parameter;
	int64_t begin, count; /* entries of the parameter */
} muon_optim_run;

/* A place in a rank's entries. */
typedef struct muon_optim_cursor {
	int rank;
	size_t segment, parameter;
	int64_t at, end; /* of the flat list: what is left is in [at, end) */
} muon_optim_cursor;

/* Start at the rank's first entry in [begin, end) of the flat list. */
muon_optim_cursor muon_optim_cursor_at(const muon_optimizer *o, int rank, int64_t begin,
				       int64_t end);
/* The next run of at most so many entries; false at the end. */
bool muon_optim_next_run(const muon_optimizer *o, muon_optim_cursor *cursor, int64_t most,
			 muon_optim_run *run);

#endif
