#include "metric_list.h"
#include "verbs.h"

#include "common/csv_output.h"
#include "common/json_output.h"
#include "common/screen.h"

#include "base/memory.h"

static void print_table(const size_t *metrics, size_t count, bool colors)
{
	for (size_t i = 0; i < count; i++) {
		const mspec_metric *m = mspec_metric_at(metrics[i]);
		printf("%s%s%s  [%s]\n    %s\n    %s\n", colors ? "\033[1m" : "", m->name,
		       colors ? "\033[0m" : "", m->unit, m->formula, m->source);
	}
}

static json_t *metric_object(const mspec_metric *m)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "name", m->name, "unit", m->unit, "formula",
	                 m->formula, "source", m->source);
}

static int print_json(const size_t *metrics, size_t count, muon_error *err)
{
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_add(list, metric_object(mspec_metric_at(metrics[i])));
	return json_print(json_pack("{s:s, s:o, s:o}", "schema", "muonspec/metrics/1", "tool",
	                            json_tool(1), "metrics", list),
	                  false, err);
}

static int print_csv(const size_t *metrics, size_t count, muon_error *err)
{
	int code = MUON_OK;
	puts("name,unit,formula,source");
	for (size_t i = 0; i < count && !code; i++) {
		const mspec_metric *m = mspec_metric_at(metrics[i]);
		csv_text(m->name);
		csv_text(m->unit);
		csv_text(m->formula);
		csv_text(m->source);
		code = csv_end(err);
	}
	return code;
}

static int print(const size_t *metrics, size_t count, const tool_options *options, muon_error *err)
{
	int code = MUON_OK;
	switch (options->format) {
	case FORMAT_JSON:
		return print_json(metrics, count, err);
	case FORMAT_JSONL:
		for (size_t i = 0; i < count && !code; i++)
			code = json_print(metric_object(mspec_metric_at(metrics[i])), true, err);
		return code;
	case FORMAT_CSV:
		return print_csv(metrics, count, err);
	default:
		print_table(metrics, count, screen_colors(options->color));
		return MUON_OK;
	}
}

int run_metrics(const tool_options *options, muon_error *err)
{
	size_t *metrics, count;
	int code = metric_list(options->metrics, &metrics, &count, err);
	if (!code)
		code = print(metrics, count, options, err);
	muon_free(metrics);
	return code;
}
