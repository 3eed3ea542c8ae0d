/* A batch on several threads: cut into micro-batches of equal size, each run by one thread, and
 * what they give added up in pairs, ((0 + 1) + (2 + 3)) + ..., whichever thread is ready first. The
 * optimizer adds up ranks in the same way, so a rank whose share is a whole subtree changes no
 * bits. */
#ifndef MUONTRAIN_MICRO_BATCHES_H
#define MUONTRAIN_MICRO_BATCHES_H

#include <muon/dist.h>
#include <muonspec/model.h>

/* What one or more micro-batches gave. */
typedef struct batch_sums {
	double loss, targets; /* sum of losses, and of how many */
	mspec_records records;
} batch_sums;

typedef struct micro_batches micro_batches;

/* For micro-batches of `sequences` x `length` tokens on `threads` threads, at most `count` of them
 * at a time in this rank; fewer threads if there is no memory for more. `gradient` (NULL: forward
 * only) receives the sum over this rank's. */
int micro_batches_create(micro_batches **out, const mspec_model *model, int64_t sequences,
                         int64_t length, size_t count, int threads, float *gradient,
                         muon_error *err);
void micro_batches_destroy(micro_batches **batches);

typedef struct batch_work {
	const float *parameters;
	const int32_t *tokens, *targets; /* sequences x length, of this rank */
	int64_t sequences;               /* a last micro-batch may be smaller */
	bool bf16, backward;
	bool full_records; /* else the experts' loads alone, */
	bool head_logits;  /* and the heads' largest logits if asked for */
	double loss_scale;
} batch_work;

/* Run them; the sums are those of this rank and live until the next call. MUON_E_MEMORY, and what
 * mspec_model_run can return. */
int micro_batches_run(micro_batches *batches, const batch_work *work, batch_sums **sums,
                      muon_error *err);

/* Add up over the ranks, in place. */
int batch_sums_over_ranks(const mspec_model *model, muon_comm *comm, batch_sums *sums,
                          muon_error *err);

/* The share [*first, *end) of `count` micro-batches that rank `rank` of `ranks` has: for a power of
 * two ranks a subtree of the sum over all. */
void rank_share(size_t count, int rank, int ranks, size_t *first, size_t *end);

#endif
