/* Activations over the steps of a run: what its training recorded of each layer, or else what
 * `muonspec forward --store` measured. */
#ifndef MUONSPEC_TOOL_RECORDED_H
#define MUONSPEC_TOOL_RECORDED_H

#include "subject.h"

enum { MOST_STATISTICS = 9 };

typedef struct recorded_statistics {
	const char *metrics[MOST_STATISTICS]; /* as series have them: "recorded_output_rms" */
	int count;
} recorded_statistics;

/* Those of any side, in the tracks' order; one that was recorded goes before the same measured. */
recorded_statistics recorded_of(const subject *s);

/* Is the series one of them? */
bool is_recorded_series(const recorded_statistics *r, const mspec_series *series);

/* In words: "largest attention logit"; the metric itself where there are none. */
const char *recorded_words(const char *metric);

/* Over the layers at one step. */
typedef struct recorded_range {
	size_t count; /* 0: nothing is known of this step */
	double mean, low, high;
	const char *highest; /* name of the layer */
} recorded_range;
recorded_range recorded_at(const mspec_track *track, const char *metric, double step);

#endif
