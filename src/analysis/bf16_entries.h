/* What bf16 would do to a matrix' entries: which binades they lie in, and how many updates would be
 * lost. */
#ifndef MUONSPEC_ANALYSIS_BF16_ENTRIES_H
#define MUONSPEC_ANALYSIS_BF16_ENTRIES_H

#include <muonspec/checkpoint.h>

/* Binade b holds 2^(b + FIRST_BINADE) <= |x| < 2^(b + FIRST_BINADE + 1); smaller and larger entries
 * are counted in the first and the last. */
enum { MSPEC_FIRST_BINADE = -133, MSPEC_BINADES = 261 };

/* An update that is one entry's random draw: Delta = -lr (update_rms z + weight_decay W), z
 * standard normal. */
typedef struct mspec_update_model {
	double lr, update_rms, weight_decay;
} mspec_update_model;

typedef struct mspec_bf16_entries {
	int64_t count, nonfinite, zeros;
	double sumsq, max_abs;
	int64_t binades[MSPEC_BINADES];
	int64_t compared, lost; /* with a later matrix: entries finite in both, and those of them
				   whose change is under half a bf16 step, none at all included */
	int64_t unchanged;      /* of the lost: those that did not change at all */
	double delta_sumsq;
	double expected_lost; /* with an update model: sum of each entry's probability */
} mspec_bf16_entries;

/* Half of bf16's step at w: a smaller change of w is lost when it is rounded to nearest. */
double mspec_half_bf16_step(double w);

/* Probability that the model's update of w is under half a step. */
double mspec_loss_probability(const mspec_update_model *model, double w);

/* Gather over `matrix` of `checkpoint`; `later` (of the same shape, in its own checkpoint) and
 * `model` may be NULL. MUON_E_READ, MUON_E_MEMORY. */
int mspec_bf16_entries_gather(mspec_bf16_entries *entries, mspec_checkpoint *checkpoint,
			      const mspec_matrix *matrix, mspec_checkpoint *later_checkpoint,
			      const mspec_matrix *later, const mspec_update_model *model,
			      muon_error *err);

#endif
