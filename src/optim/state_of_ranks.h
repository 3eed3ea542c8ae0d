/* Whole tensors of a state that is cut over ranks: collected on rank 0, and spread from it. */
#ifndef MUON_OPTIM_STATE_OF_RANKS_H
#define MUON_OPTIM_STATE_OF_RANKS_H

#include "optim/optim_internal.h"

typedef struct muon_optim_pieces_io {
	char *whole;           /* the largest tensor; for saving on rank 0 alone */
	char *send, *received; /* pieces on their way, as many bytes */
	size_t *offset, *out, *in, *no_offset;
} muon_optim_pieces_io;

/* Room for tensors of up to `bytes`. All ranks succeed or none; close in either case. */
int muon_optim_open_io(const muon_optimizer *o, muon_optim_pieces_io *io, size_t bytes,
		       muon_error *err);
void muon_optim_close_io(muon_optim_pieces_io *io);

/* io->whole on rank 0 from the pieces of all. */
int muon_optim_collect(const muon_optimizer *o, muon_optim_pieces_io *io,
		       const muon_optim_parameter *p, muon_optim_kind kind, muon_error *err);
/* Own pieces in a state, from io->whole of rank 0, which all have then. */
int muon_optim_spread(const muon_optimizer *o, muon_optim_pieces_io *io,
		      const muon_optim_parameter *p, muon_optim_kind kind, char *state,
		      muon_error *err);

#endif
