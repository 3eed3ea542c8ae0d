#include "metric_list.h"

#include "common/metric_names.h"
#include "common/nearest.h"

#include "base/memory.h"
#include "base/text.h"

#include <string.h>

int metric_named(const char *name, size_t length, size_t *index, muon_error *err)
{
	char word[64], shown[128];
	snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : sizeof word - 1), name);
	*index = mspec_metric_find(word);
	if (*index != SIZE_MAX)
		return MUON_OK;
	const char *near = nearest(word, metric_names(), mspec_metric_count());
	muon_escape(shown, sizeof shown, word);
	return near ? muon_fail(err, MUON_E_USAGE, NULL, "unknown metric '%s'; did you mean '%s'?",
	                        shown, near)
	            : muon_fail(err, MUON_E_USAGE, NULL,
	                        "unknown metric '%s'; 'muonspec metrics' lists them", shown);
}

/* Add the metrics that the list names, each once, to `chosen`, which has room for all. */
static int choose_metrics(const char *list, size_t *chosen, size_t *count, muon_error *err)
{
	while (*list) {
		size_t length = strcspn(list, ","), index, i = 0;
		int code = metric_named(list, length, &index, err);
		if (code)
			return code;
		while (i < *count && chosen[i] != index)
			i++;
		if (i == *count)
			chosen[(*count)++] = index;
		list += length + (list[length] == ',');
	}
	return *count ? MUON_OK : muon_fail(err, MUON_E_USAGE, NULL, "--metrics names no metric");
}

int metric_list(const char *list, size_t **metrics, size_t *count, muon_error *err)
{
	size_t all = mspec_metric_count(), *chosen = muon_alloc(all, sizeof *chosen);
	*metrics = NULL;
	*count = 0;
	if (!chosen)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	for (; !list && *count < all; ++*count)
		chosen[*count] = *count;
	int code = list ? choose_metrics(list, chosen, count, err) : MUON_OK;
	if (code)
		muon_free(chosen);
	else
		*metrics = chosen;
	return code;
}
