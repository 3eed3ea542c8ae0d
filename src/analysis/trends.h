/* Growth over steps, and when it leads across a limit. */
#ifndef MUONSPEC_ANALYSIS_TRENDS_H
#define MUONSPEC_ANALYSIS_TRENDS_H

#include "base/memory.h"

#include <muonspec/run.h>

/* How sure intervals are, and quantiles of Student's t that were needed last: most series of a run
 * are as long as each other. Zero but for the level. */
typedef struct mspec_trend_rules {
	double level;
	struct {
		double p, freedom, t;
	} known[2];
} mspec_trend_rules;

/* Fit value ~ step^exponent to the series, and find where it crosses `limit` (NaN: none asked for):
 * between steps where it has, by Fieller's theorem where it will. Intervals hold with
 * probability rules->level. trend->note says what the data don't support. MUON_E_MEMORY. */
int mspec_trend_fit(mspec_trend *trend, const mspec_series *series, double limit,
		    mspec_trend_rules *rules, muon_arena *arena);

#endif
