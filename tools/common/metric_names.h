/* The names of the registry's metrics. */
#ifndef MUONSPEC_TOOL_METRIC_NAMES_H
#define MUONSPEC_TOOL_METRIC_NAMES_H

/* mspec_metric_count() of them, then NULL. */
const char *const *metric_names(void);

#endif
