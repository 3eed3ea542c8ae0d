#include "metric/functions.h"

#include <string.h>

#define ENTRIES MSPEC_NEEDS_ENTRIES
#define SIGMA MSPEC_NEEDS_SIGMA
#define POWER_LAW MSPEC_NEEDS_POWER_LAW
#define GAIN MSPEC_NEEDS_GAIN

#define METRIC(name, unit, needs, formula, source, function)                                       \
	{#name, unit, needs, formula, source, function},
static const mspec_metric metrics[] = {
#include "metric/metric.def"
};
#undef METRIC

size_t mspec_metric_count(void)
{
	return sizeof metrics / sizeof *metrics;
}

const mspec_metric *mspec_metric_at(size_t index)
{
	return index < mspec_metric_count() ? &metrics[index] : NULL;
}

size_t mspec_metric_find(const char *name)
{
	for (size_t i = 0; i < mspec_metric_count(); i++)
		if (!strcmp(metrics[i].name, name))
			return i;
	return SIZE_MAX;
}
