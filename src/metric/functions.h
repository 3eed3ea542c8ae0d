/* The metric functions of metric.def, and what they share. */
#ifndef MUONSPEC_METRIC_FUNCTIONS_H
#define MUONSPEC_METRIC_FUNCTIONS_H

#include <math.h>
#include <muonspec/metric.h>

#define METRIC(name, unit, needs, formula, source, function)                                       \
	mspec_metric_value function(const mspec_metric_input *input);
#include "metric/metric.def"
#undef METRIC

#define MSPEC_NOTE_ZERO "zero matrix"
#define MSPEC_NOTE_RANGE "squares of the entries leave the range of float64"

static inline mspec_metric_value mspec_value(double value)
{
	return (mspec_metric_value){value, NULL};
}

static inline mspec_metric_value mspec_value_note(double value, const char *note)
{
	return (mspec_metric_value){value, note};
}

static inline mspec_metric_value mspec_undefined(const char *note)
{
	return (mspec_metric_value){NAN, note};
}

/* Why metrics of the entries, or of the singular values, are undefined; NULL if they are not. */
const char *mspec_entries_missing(const mspec_spectrum *spectrum);
const char *mspec_sigma_missing(const mspec_spectrum *spectrum);

/* As mspec_sigma_missing, for metrics that need a singular value other than noise. */
const char *mspec_sigma_missing_or_zero(const mspec_spectrum *spectrum);

/* Number of singular values above sigma_floor: the others are noise, and taken as 0 in sums. */
int64_t mspec_sigma_above_floor(const mspec_spectrum *spectrum);

/* Population standard deviation; 0 for entries that are constant but for rounding, NaN when their
 * squares leave the range of float64. */
double mspec_entry_std(const muon_moments *moments);

#endif
