/* A training under way. */
#ifndef MUONTRAIN_TRAINER_H
#define MUONTRAIN_TRAINER_H

#include "corpus.h"
#include "micro_batches.h"
#include "run_log.h"
#include "train_options.h"

#include "common/progress.h"

/* Sequences of which this rank computes a share. */
typedef struct sequence_set {
	int64_t all, first, count; /* in sequences; this rank's are [first, first + count) */
	int32_t *tokens, *targets; /* count x length */
} sequence_set;

typedef struct trainer {
	train_options *options; /* resolved */
	mspec_model_config config;
	mspec_model *model;
	float *parameters, *gradient; /* flat */
	muon_comm *comm;              /* NULL: one process */
	int rank, ranks, threads;
	corpus corpus;
	micro_batches *batches;
	sequence_set batch, held_out;
	muon_optimizer *optimizer;
	muon_schedule schedule;
	char *described, *config_json; /* for checkpoints */
	run_log log;                   /* rank 0 */
	int64_t step;                  /* done */
	int64_t evaluated;             /* the step that `records` and `held_out_loss` are of; -1 */
	batch_sums *records;           /* of all ranks; until the next batch is run */
	double held_out_loss;
	log_row row;                   /* of the last step */
	int64_t state_step;            /* of the checkpoint that holds the optimizer's state; -1 */
	int64_t saved_step;            /* of the newest checkpoint; -1 */
	/* since this process began */
	int64_t started_at;
	double step_seconds, optimizer_seconds;
	double processor_seconds;      /* of the steps, of all threads of this rank */
	double sgemm_rate;             /* GFLOP/s on all threads of all ranks; 0: not measured */
	double sgemm_processor_rate;   /* the same by processor time, of this rank */
	progress_line progress;
} trainer;

/* Where a training begins, besides at random. */
typedef struct train_start {
	const char *resume;     /* checkpoint to go on from; NULL */
	int64_t step;           /* of it */
	uint64_t corpus_hash;   /* that it was trained on */
	const float *parameters; /* of --init-from; NULL */
} train_start;

/* ---- train_setup.c ------------------------------------------------------------------------- */

/* Everything that training needs, up to the first step. `options` and `comm` must outlive it.
 * Release also after a failure. */
int trainer_open(trainer *t, train_options *options, const mspec_model_config *config,
                 const train_start *start, muon_comm *comm, muon_error *err);
void trainer_close(trainer *t);

/* ---- train_steps.c ------------------------------------------------------------------------- */

/* Train until the last step, or until a signal: *stopped is its number, else 0. The last good
 * checkpoint stays whatever fails. MUON_E_NONFINITE for a training that has diverged. */
int trainer_run(trainer *t, int *stopped, muon_error *err);

/* ---- train_clip.c -------------------------------------------------------------------------- */

/* QK-clip of every layer, whose heads' largest logits in the step just done these are (layers x
 * heads). */
int trainer_clip(trainer *t, const double *head_max_logits, muon_error *err);

/* ---- train_evaluate.c ---------------------------------------------------------------------- */

/* The held-out loss, and activations on that text, of the parameters as they are. */
int trainer_evaluate(trainer *t, muon_error *err);

/* ---- train_save.c -------------------------------------------------------------------------- */

/* Is a checkpoint due after this step? */
bool trainer_saves_after(const trainer *t, int64_t step);
/* MUON_E_USAGE for a list of steps that is none. */
int check_checkpoint_steps(const char *list, muon_error *err);
int trainer_save(trainer *t, muon_error *err);
int trainer_load(trainer *t, const train_start *start, muon_error *err);

/* ---- train_report.c ------------------------------------------------------------------------ */

/* To standard error: what will be done and what it will cost. Measures sgemm. */
void report_start(trainer *t);
void report_evaluation(trainer *t);
void report_step(trainer *t);
/* To standard output. */
int report_end(const trainer *t, muon_error *err);

#endif
