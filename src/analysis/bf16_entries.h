/* What bf16 would do to a matrix' entries: which binades they lie in, and how many updates would be
 * lost. */
#ifndef MUONSPEC_ANALYSIS_BF16_ENTRIES_H
#define MUONSPEC_ANALYSIS_BF16_ENTRIES_H

#include <muonspec/checkpoint.h>
#include <pthread.h>

/* Binade b holds 2^(b + FIRST_BINADE) <= |x| < 2^(b + FIRST_BINADE + 1); smaller and larger entries
 * are counted in the first and the last. */
enum { MSPEC_FIRST_BINADE = -133, MSPEC_BINADES = 261 };

/* An update that is one entry's random draw: -lr (update_rms z + weight_decay W), z standard
 * normal. */
typedef struct mspec_update_model {
	double lr, update_rms, weight_decay;
} mspec_update_model;

typedef struct mspec_bf16_entries {
	muon_moments moments;
	int64_t binades[MSPEC_BINADES]; /* of the finite entries that are not 0 */
	double expected_lost; /* with an update model: sum of each finite entry's probability */
	/* with the matrix of an earlier checkpoint */
	int64_t compared; /* entries finite in both */
	int64_t lost; /* those that changed by less than half a bf16 step at their earlier value,
	                 or not at all */
	int64_t unchanged;    /* of the lost: not at all */
	double earlier_sumsq; /* of the compared entries */
} mspec_bf16_entries;

/* A matrix and where it is read from. */
typedef struct mspec_entries_source {
	mspec_checkpoint *checkpoint;
	const mspec_matrix *matrix;
} mspec_entries_source;

/* Half of bf16's step at w: a smaller change of w is lost when it is rounded to nearest. */
double mspec_half_bf16_step(double w);

/* Probability that the model's update of w is under half a step. */
double mspec_loss_probability(const mspec_update_model *model, double w);

/* Gather over `source`; `earlier`, of the same stored shape, and `model` may be NULL. Reads under
 * `lock`. MUON_E_READ, MUON_E_MEMORY. */
int mspec_bf16_entries_gather(mspec_bf16_entries *entries, const mspec_entries_source *source,
                              const mspec_entries_source *earlier, const mspec_update_model *model,
                              pthread_mutex_t *lock, muon_error *err);

#endif
