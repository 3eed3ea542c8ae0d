/* What bf16 puts at risk in a checkpoint or a run: one verdict for each kind of risk and matrix or
 * layer, with the reason. */
#ifndef MUONSPEC_RISK_H
#define MUONSPEC_RISK_H

#include <muonspec/checkpoint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* kind, name, unit of its value, is a larger value worse, when to watch, when it is a risk, what
 * the value is */
#define MSPEC_RISK_TABLE(X)                                                                        \
	X(MSPEC_RISK_RANGE, "range", "powers of two", false, 16, 4,                                \
	  "head-room between the largest value and bf16's largest, in powers of two")              \
	X(MSPEC_RISK_PRECISION, "precision", "ratio", true, 0.25, 1,                               \
	  "half a bf16 step at the RMS, over the increment that must still be seen there")         \
	X(MSPEC_RISK_LOST_UPDATES, "lost_updates", "share", true, 0.25, 0.5,                       \
	  "share of entries whose change is under half a bf16 step")                               \
	X(MSPEC_RISK_ATTENTION_LOGITS, "attention_logits", "logit", true, 50, 100,                 \
	  "largest attention logit recorded, or the bound from weights")                           \
	X(MSPEC_RISK_GROWTH, "growth", "ratio", true, 1.5, 3,                                      \
	  "RMS of weights over the equilibrium that learning rate and decay imply")

#define MSPEC_RISK_ENUM(kind, name, unit, larger, watch, risk, meaning) kind,
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

typedef struct mspec_risk_limits {
	double watch, risk;
} mspec_risk_limits;
/* The limits that hold unless others are given. */
MUON_API mspec_risk_limits mspec_risk_default_limits(mspec_risk_kind kind);

typedef struct mspec_risk {
	const char *name;  /* matrix, or "layers.3" for what concerns a layer's outputs */
	const char *group; /* NULL for layers */
	mspec_risk_kind kind;
	double value, threshold; /* the limit that was crossed, or the nearest one not crossed */
	mspec_verdict verdict;
	const char *reason; /* one sentence */
} mspec_risk;

/* A kind of risk that could not be judged, and what would make it possible. */
typedef struct mspec_unjudged {
	mspec_risk_kind kind;
	const char *reason;
} mspec_unjudged;

typedef struct mspec_binades { /* entries of all matrices by floor(log2 |x|) */
	int first;
	size_t count;
	double *share;
} mspec_binades;

/* How the training moves weights; NaN: what the checkpoint says, or unknown. */
typedef struct mspec_risk_options {
	mspec_view_options view;
	mspec_risk_limits limits[MSPEC_RISK_KINDS]; /* NaN: default */
	double lr, weight_decay;
	double update_rms; /* NaN: 0.2, that of Muon's matched update and about AdamW's */
} mspec_risk_options;

typedef struct mspec_risk_report {
	mspec_risk *risks;
	size_t count;
	mspec_unjudged *unjudged;
	size_t unjudged_count;
	mspec_binades binades;
	double lr, weight_decay, update_rms; /* used; NaN: unknown */
	mspec_verdict verdict;               /* the worst */
	void *memory;
} mspec_risk_report;

/* Judge an open checkpoint; `later`, if not NULL, is a later checkpoint of the same run (matrices
 * are matched by name), and then it is `later` that is judged and lost updates are those between
 * the two. Bad tensors are left out, their number is in `unjudged`. MUON_E_READ, MUON_E_MEMORY. */
MUON_API int mspec_risk_judge(mspec_risk_report **out, mspec_checkpoint *checkpoint,
			      mspec_checkpoint *later, const mspec_risk_options *options,
			      muon_error *err);
MUON_API void mspec_risk_destroy(mspec_risk_report **report);

#ifdef __cplusplus
}
#endif
#endif
