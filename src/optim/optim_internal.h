/* What the files of the optimizer share.
 *
 * All parameters in order make one flat list of entries. A parameter under Muon is a number of
 * blocks, the matrices that are orthogonalised, each contiguous in the list. A rank owns segments
 * of the list, which meet a parameter in pieces, and keeps the state of those alone. One process
 * owns everything: one piece a parameter.
 *
 * Arithmetic on entries is in float64, a chunk at a time, and rounded once where it is stored. */
#ifndef MUON_OPTIM_OPTIM_INTERNAL_H
#define MUON_OPTIM_OPTIM_INTERNAL_H

#include "base/memory.h"
#include "dist/communicator.h"
#include "dist/placement.h"

#include <muon/dist.h>

enum {
	MUON_OPTIM_CHUNK = 1024, /* entries that stay in the first-level cache */
	MUON_OPTIM_SPAN = 65536, /* entries that a worker takes at a time */
	MUON_OPTIM_THREADS = 64  /* at most: as many as OpenBLAS has buffers for */
};

/* Tensors of state. */
typedef enum muon_optim_kind {
	MUON_OPTIM_FIRST,  /* momentum; AdamW: exp_avg */
	MUON_OPTIM_SECOND, /* AdamW: exp_avg_sq */
	MUON_OPTIM_MASTER, /* of bf16 values */
	MUON_OPTIM_KINDS
} muon_optim_kind;

/* What is summed over entries, blocks and ranks for the statistics of a parameter. */
enum {
	MUON_OPTIM_GRADIENT, /* squares */
	MUON_OPTIM_MOMENTUM,
	MUON_OPTIM_UPDATE,
	MUON_OPTIM_WEIGHT,
	MUON_OPTIM_EFFECTIVE_LR, /* of the first block */
	MUON_OPTIM_BELOW,        /* singular values below the reach */
	MUON_OPTIM_SUMS
};
typedef double muon_optim_sums[MUON_OPTIM_SUMS];

typedef struct muon_optim_parameter {
	muon_parameter given; /* name and splits are copies */
	muon_rule rule;
	int64_t elements, begin;      /* its place in the flat list */
	int64_t rows, cols, matrices; /* before heads and splits; Muon only */
	muon_dtype state_dtype;       /* MUON_F32, or MUON_F64 for MUON_F64 values */
	double decay, lr_ratio;
	size_t first_block, block_count; /* Muon only */
	size_t first_piece, piece_count;
	char *state_name[MUON_OPTIM_KINDS]; /* NULL: it has no such state */
	muon_optim_sums sums;               /* of the last step */
	double orthogonality;
} muon_optim_parameter;

/* One way to orthogonalise: what equal shapes share. */
typedef struct muon_optim_plan {
	int64_t rows, cols;
	muon_dtype dtype; /* of input and output: MUON_F32 or MUON_F64 */
	int threads;
	muon_ns_plan *ns;
	size_t matrix_bytes;    /* of the input, a multiple of 64 */
	size_t workspace_bytes; /* of Newton-Schulz and the statistics */
} muon_optim_plan;

/* A matrix that is orthogonalised: rows x cols entries of a parameter from `begin` on. */
typedef struct muon_optim_block {
	size_t parameter;
	int64_t begin, rows, cols;
	double flops;
	double factor; /* on the orthogonalised matrix */
	size_t plan;
	size_t first_piece, last_piece; /* pieces of this rank that meet it, [first, last) */
	bool is_cut;                    /* others own a part of it */
	void *whole;      /* of a cut block that is ours in part: its input, from all owners */
	bool is_reported; /* what isn't a sum over entries is in this rank's statistics */
	muon_optim_sums sums;
	double orthogonality;
} muon_optim_block;

/* Entries of one parameter that this rank owns, contiguous. */
typedef struct muon_optim_piece {
	size_t parameter;
	int64_t begin, end;             /* entries of the parameter */
	size_t state[MUON_OPTIM_KINDS]; /* bytes into the state */
	int64_t local;                  /* entries of pieces before this one */
} muon_optim_piece;

typedef enum muon_optim_verdict {
	MUON_OPTIM_GOOD,
	MUON_OPTIM_BAD_GRADIENT,
	MUON_OPTIM_BAD_MOMENT /* would overflow */
} muon_optim_verdict;

/* What one worker checks, or updates by AdamW, at a time: entries of a piece. */
typedef struct muon_optim_span {
	size_t piece;
	int64_t begin, end; /* entries of the parameter */
	muon_optim_verdict verdict;
	double largest, squares[2]; /* of the gradient: gradient_clip.c */
	muon_optim_sums sums;
} muon_optim_span;

typedef struct muon_optim_worker {
	char *workspace;
	double momentum, newton_schulz, update; /* seconds */
	int code;                               /* of the block that failed */
	size_t failed;
} muon_optim_worker;

struct muon_optim_exchanges; /* exchanges.c */

struct muon_optimizer {
	muon_options options;
	muon_coefficients coefficients;
	muon_distributed_options distributed;
	muon_comm *comm; /* NULL: one process */
	int threads;
	double reach;

	muon_optim_parameter *parameters;
	size_t count;
	int64_t entries;
	muon_ownership ownership;
	struct muon_optim_exchanges *exchanges; /* NULL: nothing to exchange */

	muon_optim_block *blocks;
	size_t block_count;
	muon_optim_piece *pieces;
	size_t piece_count;
	muon_optim_span *spans;
	size_t span_count;
	size_t *adamw_spans; /* indices */
	size_t adamw_span_count;

	muon_optim_plan *plans;
	size_t plan_count;
	size_t *order; /* blocks that this rank orthogonalises, dearest first */
	size_t order_count;
	size_t alone_count; /* the first so many get all threads, one after the other */
	muon_optim_worker *workers;
	int worker_count;

	char *state;
	size_t state_bytes; /* without what aligns it */
	size_t state_size;
	float *reduced;  /* own entries' gradients, summed over ranks; NULL: read the caller's */
	double *figures; /* what ranks add up for the statistics; NULL: one process */

	int64_t steps;
	bool is_broken; /* a step ended half-way */
	double lr;      /* of the step in progress */
	double clip;    /* factor on its gradients; 1: not clipped */
	double bias1, bias2;
	bool has_statistics;
	unsigned measured; /* MUON_STATISTICS_* of the last step */
	muon_step_seconds seconds;
	muon_arena arena; /* names and other small things */
};

/* ---- creation, in this order ------------------------------------------------------------- */

/* optim_options.c */
int muon_optim_set_options(muon_optimizer *o, const muon_options *options, muon_error *err);
/* optim_parameters.c: check, copy, route */
int muon_optim_set_parameters(muon_optimizer *o, const muon_parameter *parameters, size_t count,
			      muon_error *err);
/* optim_blocks.c */
int muon_optim_make_blocks(muon_optimizer *o, muon_error *err);
/* optim_pieces.c: who owns what, and the state of what is owned */
int muon_optim_make_pieces(muon_optimizer *o, muon_error *err);
/* optim_plans.c: plans, order of the blocks, workspaces and what cut blocks are gathered in */
int muon_optim_make_plans(muon_optimizer *o, muon_error *err);
void muon_optim_release_plans(muon_optimizer *o);
/* Room for workers that compute these statistics; what was there stays on failure. */
int muon_optim_make_workers(muon_optimizer *o, unsigned statistics, muon_error *err);

int muon_optim_out_of_memory(const char *where, muon_error *err);
/* MUON_E_USAGE where there is none: its creation has failed. */
int muon_optim_need(const muon_optimizer *o, muon_error *err);

/* ---- what ranks agree on: agreement.c; with one process there is nobody to ask ------------- */

/* The worst code of all ranks; those that did not fail say that another did. */
int muon_optim_agree(const muon_optimizer *o, int code, muon_error *err);
/* The same, and MUON_E_ARGUMENT unless all ranks have the same x, which is finite or comes with a
 * code. */
int muon_optim_agree_on(const muon_optimizer *o, int code, double x, const char *what,
			muon_error *err);
/* One number of many, for that. */
double muon_optim_hash(const double *x, size_t count);
/* MUON_E_USAGE unless all ranks have the same options and parameters. */
int muon_optim_compare_ranks(const muon_optimizer *o, muon_error *err);
/* The first parameter that any rank found bad. */
int muon_optim_agree_verdict(const muon_optimizer *o, size_t *parameter,
			     muon_optim_verdict *verdict, muon_error *err);

/* ---- entries: optim_entries.c ------------------------------------------------------------ */

/* State of a piece from entry `at` of its parameter on. */
void *muon_optim_state(const muon_optimizer *o, const muon_optim_piece *piece, muon_optim_kind kind,
		       int64_t at);

/* The gradient over all ranks, in the state's precision: at most a chunk. */
void muon_optim_load_gradient(const muon_optimizer *o, const muon_optim_piece *piece, int64_t at,
			      size_t count, double *g);
/* As the step uses it, from that. */
void muon_optim_clip_gradient(const muon_optimizer *o, const muon_optim_piece *piece,
			      size_t count, double *g);

/* Of the entries up to `end`, how many the chunk at `at` has. */
static inline size_t muon_optim_chunk(int64_t at, int64_t end)
{
	return (size_t)(end - at < MUON_OPTIM_CHUNK ? end - at : MUON_OPTIM_CHUNK);
}

/* x <- factor x */
void muon_optim_multiply(double *x, double factor, size_t count);
/* Round to what `type` (MUON_F32, MUON_F64) holds; Inf where it overflows. */
void muon_optim_round(muon_dtype type, double *x, size_t count);
/* Store numbers as `type`: MUON_F64, MUON_F32 or MUON_BF16. */
void muon_optim_store(muon_dtype type, const double *x, size_t count, void *to);
bool muon_optim_is_finite(const double *x, size_t count);
/* In a fixed order. */
double muon_optim_sum_of_squares(const double *x, size_t count);

/* W <- (1 - lr decay) W - lr update, at most a chunk, in the master where there is one, then in the
 * values. Adds to the sums of squares of update and weights. */
void muon_optim_move(const muon_optimizer *o, const muon_optim_piece *piece, int64_t at,
		     size_t count, double lr, const double *update, double *sums);

/* ---- steps ------------------------------------------------------------------------------- */

/* muon_step.c: the momentum m and what is orthogonalised, u, that follow from gradient g, as they
 * are stored in `type`. */
void muon_optim_next_momentum(const muon_optimizer *o, muon_dtype type, const double *g, double *m,
			      double *u, size_t count);
/* Momentum of the blocks that a cut goes through, into block->whole. */
void muon_optim_step_cut_momentum(muon_optimizer *o);
/* Momentum of the others, then Newton-Schulz and update of all. */
int muon_optim_step_muon(muon_optimizer *o, muon_error *err);

/* adamw_step.c: the same for the moments m and v. */
void muon_optim_next_moments(const muon_optimizer *o, muon_dtype type, const double *g, double *m,
			     double *v, size_t count);
void muon_optim_step_adamw(muon_optimizer *o);

/* gradient_clip.c: the step's factor on gradients, o->clip, where there is a limit to their norm.
 * MUON_E_COMMUNICATION. */
int muon_optim_find_clip(muon_optimizer *o, muon_error *err);

/* gradient_check.c: refuse gradients that are not finite, and moments that would not be. */
int muon_optim_check(muon_optimizer *o, muon_error *err);

/* block_statistics.c: on the orthogonalised matrix of this shape */
double muon_optim_factor(const muon_optimizer *o, int64_t rows, int64_t cols);
/* parameter_statistics.c: those of spans and blocks as those of whole parameters */
int muon_optim_gather_statistics(muon_optimizer *o, muon_error *err);

/* optim_entries.c: bf16 values of own entries and their masters, the one from the other */
typedef enum muon_optim_way { MUON_OPTIM_TO_VALUES, MUON_OPTIM_FROM_VALUES } muon_optim_way;
void muon_optim_copy_masters(muon_optimizer *o, muon_optim_way way);

#endif
