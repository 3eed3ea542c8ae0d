/* Metrics named on the command line. */
#ifndef MUONSPEC_TOOL_METRIC_LIST_H
#define MUONSPEC_TOOL_METRIC_LIST_H

#include "options.h"

/* Registry index of the metric called `name` (`length` bytes), or MUON_E_USAGE with the nearest
 * name. */
int metric_named(const char *name, size_t length, size_t *index, muon_error *err);

/* The indices that a comma-separated list names, without repetitions; all metrics for NULL. There
 * is room for all. Release with muon_free. */
int metric_list(const char *list, size_t **metrics, size_t *count, muon_error *err);

#endif
