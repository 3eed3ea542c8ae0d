/* The registry of metrics: numbers computed from one matrix' spectrum. */
#ifndef MUONSPEC_METRIC_H
#define MUONSPEC_METRIC_H

#include <muonspec/spectrum.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a metric is computed from, beyond shape and type. */
enum mspec_metric_needs {
	MSPEC_NEEDS_ENTRIES = 1,   /* entry statistics only: no decomposition */
	MSPEC_NEEDS_SIGMA = 2,     /* singular values */
	MSPEC_NEEDS_POWER_LAW = 4, /* the power-law fit of them */
	MSPEC_NEEDS_GAIN = 8       /* the gain of the norm before the matrix, where known */
};

/* What metric functions get. `power_law` is NULL unless the metric needs it. */
typedef struct mspec_metric_input {
	const mspec_spectrum *spectrum;
	const mspec_power_law *power_law;
} mspec_metric_input;

/* A value, NaN where it is undefined; `note` (static text, or NULL) says why or warns. */
typedef struct mspec_metric_value {
	double value;
	const char *note;
} mspec_metric_value;

typedef struct mspec_metric {
	const char *name;
	const char *unit;    /* "1" for pure numbers, "weight" or "weight^2" after the entries, "count" */
	unsigned needs;      /* mspec_metric_needs */
	const char *formula;
	const char *source;
	mspec_metric_value (*value)(const mspec_metric_input *input);
} mspec_metric;

MUON_API size_t mspec_metric_count(void);
MUON_API const mspec_metric *mspec_metric_at(size_t index);
/* Index of the metric of that name, or SIZE_MAX. */
MUON_API size_t mspec_metric_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
