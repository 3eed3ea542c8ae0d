#include "metric_names.h"

#include <muonspec/metric.h>

enum { MOST_METRICS = 128 };

const char *const *metric_names(void)
{
	static const char *names[MOST_METRICS + 1];
	for (size_t i = 0; i < mspec_metric_count() && i < MOST_METRICS; i++)
		names[i] = mspec_metric_at(i)->name;
	return names;
}
