/* Distributed Muon and AdamW (Moonlight report, §2.3, algorithm 1): ZeRO-1 data parallelism.
 *
 * Every rank has all parameters and the gradient of its share of the batch; the optimizer's state
 * is cut over the ranks. A step is: reduce-scatter of gradients, local momentum, gather of the
 * matrices that this rank has a piece of, Newton-Schulz on whole matrices, local update,
 * all-gather of parameters. */
#ifndef MUON_DIST_H
#define MUON_DIST_H

#include <muon/optim.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- communicators ---------------------------------------------------------------------- */

typedef struct muon_comm muon_comm;

/* One process alone. */
MUON_API int muon_comm_create_self(muon_comm **out, muon_error *err);

/* All ranks of MPI_COMM_WORLD; starts MPI if the program has not (MPI_THREAD_FUNNELED: call what is
 * collective from one thread). MUON_E_UNSUPPORTED in a library built without MPI.
 *
 * No failure is a hang: a rank that is killed, exits without muon_comm_destroy or calls
 * muon_comm_abort takes the others down with a message of mpirun's; if it destroys its communicator
 * while others go on, their next operation fails with MUON_E_COMMUNICATION. So do all operations
 * after one that failed so. */
MUON_API int muon_comm_create_mpi(muon_comm **out, int *argc, char ***argv, muon_error *err);

/* Waits until all ranks do so. Ends MPI if muon_comm_create_mpi started it; MPI can't be started again
 * then. NULL-safe. */
MUON_API void muon_comm_destroy(muon_comm **comm);

/* Was this process started by mpirun (or another launcher that Open MPI knows)? */
MUON_API bool muon_comm_launched_by_mpi(void);
MUON_API bool muon_comm_has_mpi(void); /* built with MPI */

MUON_API int muon_comm_rank(const muon_comm *comm);
MUON_API int muon_comm_size(const muon_comm *comm);

MUON_API int muon_comm_barrier(muon_comm *comm, muon_error *err);
/* bytes of rank `root` to all. */
MUON_API int muon_comm_broadcast(muon_comm *comm, void *data, size_t bytes, int root,
                                 muon_error *err);
/* Elementwise over ranks, in place, the same bits on every rank: pairwise in the order of ranks,
 * ((0 + 1) + (2 + 3)) + ... */
MUON_API int muon_comm_sum(muon_comm *comm, double *values, size_t count, muon_error *err);
MUON_API int muon_comm_max(muon_comm *comm, double *values, size_t count, muon_error *err);
/* The worst (most negative) code of all ranks, so that they leave together. */
MUON_API int muon_comm_agree(muon_comm *comm, int code);
/* End all ranks with this exit status; does not return. */
MUON_API void muon_comm_abort(muon_comm *comm, int status);

/* Bytes that this rank has sent to others, by phase. */
typedef enum muon_phase {
	MUON_PHASE_REDUCE,     /* reduce-scatter of gradients */
	MUON_PHASE_GATHER,     /* of matrices that a cut goes through: Muon only */
	MUON_PHASE_ALL_GATHER, /* of parameters */
	MUON_PHASE_OTHER,      /* statistics, agreement, state */
	MUON_PHASE_COUNT
} muon_phase;
MUON_API uint64_t muon_comm_bytes_sent(const muon_comm *comm, muon_phase phase);

/* ---- placement -------------------------------------------------------------------------- */

typedef enum muon_placement {
	MUON_PLACEMENT_FLAT, /* one flat list of all entries, cut evenly (the report's) */
	MUON_PLACEMENT_WHOLE /* whole matrices by cost, longest first; AdamW's entries cut evenly */
} muon_placement;

/* A parameter to plan for, without buffers. */
typedef struct muon_planned {
	const char *name;
	int64_t rows, cols, count; /* count matrices of rows x cols */
	muon_rule rule;
} muon_planned;

/* What a placement costs, on paper. Traffic is bytes sent by all ranks together in one step. */
typedef struct muon_placement_costs {
	int64_t matrices, parameters;        /* under Muon */
	int64_t entries;                     /* all */
	int64_t gathered_matrices;           /* that a cut goes through */
	double reduce_bytes, gather_bytes, all_gather_bytes;
	double traffic_ratio;                /* over AdamW's reduce and all-gather */
	double state_bytes_mean, state_bytes_max; /* a rank */
	double adamw_state_bytes_mean;       /* the same if AdamW had everything */
	double flops_mean, flops_max;        /* Newton-Schulz of a rank; replicated work included */
} muon_placement_costs;

/* Cost of updating these float32 parameters on `ranks` ranks; gather precision MUON_F32 or MUON_BF16;
 * Newton-Schulz in its cheapest float32 form with Jordan's coefficients, ns_steps 0 being 5. The
 * planner is the one that the optimizer uses. MUON_E_ARGUMENT, MUON_E_TOO_LARGE for a matrix that
 * BLAS can't count, MUON_E_MEMORY. */
MUON_API int muon_placement_plan(muon_placement placement, const muon_planned *parameters,
                                 size_t count, int ranks, muon_dtype gather_dtype, int ns_steps,
                                 muon_placement_costs *costs);

/* ---- the distributed optimizer ---------------------------------------------------------- */

typedef struct muon_distributed_options {
	muon_placement placement;
	muon_dtype gather_dtype;  /* MUON_F32: the same bits as one rank; MUON_BF16: half the bytes */
	double gradient_factor;   /* the sum over ranks is multiplied with this: 1/ranks for a mean.
	                             0: 1 */
} muon_distributed_options;

/* As muon_optimizer_create, over all ranks of `comm`, which must outlive the optimizer. Parameters
 * must be the same on every rank (names and shapes are compared), their values too, which are not:
 * broadcast them first. Collective, as are step, save, load, set_statistics and qk_clip then: with
 * the same arguments on all ranks (MUON_E_ARGUMENT otherwise, on all). gradient buffers are read; each step sums them over ranks
 * in a fixed order. Values are float32 or bf16. */
MUON_API int muon_optimizer_create_distributed(muon_optimizer **out, const muon_options *options,
                                               const muon_parameter *parameters, size_t count,
                                               muon_comm *comm,
                                               const muon_distributed_options *distributed,
                                               muon_error *err);

#ifdef __cplusplus
}
#endif
#endif
