/* What is measured of a matrix while it is there. */
#ifndef MUON_OPTIM_BLOCK_STATISTICS_H
#define MUON_OPTIM_BLOCK_STATISTICS_H

#include "optim/optim_internal.h"

/* Workspace that the statistics of a rows x cols block need, bytes. */
size_t muon_optim_statistics_workspace(unsigned statistics, int64_t rows, int64_t cols,
				       muon_dtype dtype);

/* Of the matrix that will be orthogonalised, if it is asked for. */
int muon_optim_count_below_reach(const muon_optimizer *o, muon_optim_block *b, const void *matrix,
				 void *workspace);

/* Of the orthogonalised matrix: its factor, and how orthogonal it is if that is asked for. */
void muon_optim_measure_block(const muon_optimizer *o, muon_optim_block *b, const void *matrix,
			      void *workspace);

#endif
