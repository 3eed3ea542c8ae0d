#include "check_output.h"

#include "common/csv_output.h"

int check_csv(const check_result *result, muon_error *err)
{
	int code = MUON_OK;
	puts("verdict,name,group,metric,cause,baseline,value,limit,reason");
	for (size_t i = 0; i < result->report->count && !code; i++) {
		const mspec_gate *g = &result->report->gates[i];
		csv_text(g->failed ? "failed" : "ok");
		csv_text(g->name);
		csv_text(g->group);
		csv_text(g->metric);
		csv_text(mspec_gate_cause_name(g->cause));
		csv_number(g->baseline);
		csv_number(g->value);
		csv_number(g->limit);
		csv_list(&g->reason, 1); /* escaped already */
		code = csv_end(err);
	}
	return code;
}
