/* What bf16 puts at risk in a checkpoint or a run: one verdict for each kind of risk and matrix or
 * layer, with the reason. */
#ifndef MUONSPEC_RISK_H
#define MUONSPEC_RISK_H

#include <muonspec/forward.h>

#ifdef __cplusplus
extern "C" {
#endif

/* kind, name, is a larger value worse, when to watch, when it is a risk, what the value is */
#define MSPEC_RISK_TABLE(X)                                                                        \
	X(MSPEC_RISK_RANGE, "range", false, 16, 4,                                                 \
	  "head-room of the largest value below bf16's largest, in powers of two")                 \
	X(MSPEC_RISK_PRECISION, "precision", true, 0.25, 1,                                        \
	  "half a bf16 step at the RMS, over the increment that must still be seen there")         \
	X(MSPEC_RISK_LOST_UPDATES, "lost_updates", true, 0.25, 0.5,                                \
	  "share of entries whose change is under half a bf16 step")                               \
	X(MSPEC_RISK_ATTENTION_LOGITS, "attention_logits", true, 50, 100,                          \
	  "largest attention logit recorded, or the bound from the weights")                       \
	X(MSPEC_RISK_GROWTH, "growth", true, 1.5, 3,                                               \
	  "RMS of the weights over the equilibrium that learning rate and decay imply")

#define MSPEC_RISK_ENUM(kind, name, larger, watch, risk, meaning) kind,
typedef enum mspec_risk_kind { MSPEC_RISK_TABLE(MSPEC_RISK_ENUM) MSPEC_RISK_KINDS } mspec_risk_kind;
#undef MSPEC_RISK_ENUM

typedef enum mspec_verdict {
	MSPEC_VERDICT_OK,
	MSPEC_VERDICT_WATCH,
	MSPEC_VERDICT_RISK
} mspec_verdict;

MUON_API const char *mspec_verdict_name(mspec_verdict verdict); /* "ok", "watch", "risk" */
MUON_API const char *mspec_risk_kind_name(mspec_risk_kind kind);
MUON_API const char *mspec_risk_kind_meaning(mspec_risk_kind kind);
MUON_API bool mspec_risk_larger_is_worse(mspec_risk_kind kind);

/* A value at a limit has crossed it. */
typedef struct mspec_risk_limits {
	double watch, risk;
} mspec_risk_limits;
/* The limits that hold unless others are given. */
MUON_API mspec_risk_limits mspec_risk_default_limits(mspec_risk_kind kind);

typedef struct mspec_risk {
	const char *name;  /* matrix, or "layers.3" for what concerns a layer's outputs */
	const char *group; /* NULL for layers */
	mspec_risk_kind kind;
	double value;     /* NaN: undefined, and the reason says why */
	double threshold; /* the limit that was crossed, or the nearest one not crossed */
	mspec_verdict verdict;
	const char *reason; /* one sentence; bytes from files are escaped */
} mspec_risk;

/* What could not be judged of a kind, and what would make it possible. */
typedef struct mspec_unjudged {
	mspec_risk_kind kind;
	const char *reason; /* bytes from files are escaped */
} mspec_unjudged;

/* Share of the finite entries of all matrices in 2^b <= |x| < 2^(b + 1), b = first, first + 1, ...
 */
typedef struct mspec_binades {
	int first;
	size_t count;
	double *share;
	double zeros; /* share of entries that are 0; NaN: there are no entries */
} mspec_binades;

/* How large the weights of a layer let attention logits get. */
typedef struct mspec_attention_layer {
	int64_t layer;
	const double *head_bounds; /* one a head; NULL: not known */
	double recorded;           /* largest logit that was recorded or measured; NaN: none */
} mspec_attention_layer;

/* How the training moves weights; NaN: what the checkpoint says, or unknown. */
typedef struct mspec_risk_options {
	mspec_view_options view;
	mspec_risk_limits limits[MSPEC_RISK_KINDS]; /* NaN: default */
	double lr, weight_decay;
	double update_rms; /* of what lr multiplies; NaN: what the checkpoint says, else 0.2, that of
	                      Muon's matched update and about AdamW's */
	const mspec_forward *measured; /* activations of the checkpoint's model, which take the place
	                                  of those that it recorded; NULL: none */
	const char *store; /* file with what `muonspec forward --store` measured, used where the
	                      checkpoint recorded no activations and `measured` is NULL; may be NULL */
	int threads;       /* 0: one per processor; at most 64 are used */
	bool strict;       /* the first matrix that can't be read or holds NaN or Inf is an error */
	/* Called from one thread at a time with entries done and in all and the matrix finished
	 * last; return false to stop with MUON_E_INTERNAL. May be NULL. */
	bool (*progress)(void *state, double done, double total, const char *name);
	void *progress_state;
} mspec_risk_options;

typedef struct mspec_risk_report {
	const mspec_checkpoint_info *checkpoint, *earlier; /* earlier may be NULL */
	mspec_risk *risks; /* matrices in checkpoint order, then layers */
	size_t count;
	mspec_unjudged *unjudged;
	size_t unjudged_count;
	mspec_binades binades;
	mspec_attention_layer *attention;
	size_t attention_count;
	int64_t heads;                       /* of a layer; 0 where bounds are not known */
	double lr, weight_decay, update_rms; /* used; NaN: unknown */
	mspec_verdict verdict;               /* the worst */
	int threads;                         /* workers used */
	void *memory;
} mspec_risk_report;

/* Judge an open checkpoint. `earlier`, if not NULL, is an earlier checkpoint of the same run: lost
 * updates and growth are then those between the two, matrices being matched by name and shape. A
 * matrix with NaN or Inf is a risk of range; one that can't be read is in `unjudged`. Both
 * checkpoints must stay open while the report is used. Same report for any number of threads.
 * MUON_E_MEMORY, MUON_E_USAGE for a bad groups file; with `strict`, what is wrong with a matrix. */
MUON_API int mspec_risk_judge(mspec_risk_report **out, mspec_checkpoint *checkpoint,
                              mspec_checkpoint *earlier, const mspec_risk_options *options,
                              muon_error *err);
MUON_API void mspec_risk_destroy(mspec_risk_report **report); /* NULL-safe */

/* RMS at which weights settle under W <- (1 - lr decay) W - lr u with successive u uncorrelated and
 * of RMS update_rms: update_rms sqrt(lr / (2 decay - lr decay^2)), the fixed point of E[W^2]. For
 * the usual 0.2 and small lr decay, 0.2 sqrt(lr / (2 decay)). */
MUON_API double mspec_equilibrium_rms(double lr, double weight_decay, double update_rms);

#ifdef __cplusplus
}
#endif
#endif
