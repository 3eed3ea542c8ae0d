/* The input is a baseline, and rules. What is accepted must be fit to check with: against itself a
 * baseline fails only where something in it is not ok or nothing can be compared. */
#include "fuzz/input.h"

#include "analysis/gate.h"

static void check_report(const mspec_measurement *now, const mspec_measurement *baseline,
                         const mspec_gate_rules *rules)
{
	mspec_gate_report *report;
	muon_error err = {0};
	size_t failed = 0;
	int code = mspec_gate_check(&report, now, baseline, rules, &err);
	if (code) {
		check_error(code, &err);
		require(!report, "no report after a failure");
		return;
	}
	require(report->count, "no report is empty");
	for (size_t i = 0; i < report->count; i++) {
		const mspec_gate *g = &report->gates[i];
		require(g->name && g->metric && g->reason, "texts of a gate");
		require((unsigned)g->cause < MSPEC_CAUSES, "cause");
		failed += g->failed;
		if (g->failed && baseline && !rules->count)
			require(g->cause == MSPEC_CAUSE_STATUS || g->cause == MSPEC_CAUSE_NOTHING,
			        "a baseline passes against itself");
	}
	require(failed == report->failed, "failures are counted");
	mspec_gate_report_destroy(&report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char example[] =
	    "{\"schema\": \"muonspec/baseline/1\", \"of\": \"run\", \"metrics\": [\"rms\"], "
	    "\"matrices\": [{\"name\": \"a\", \"group\": \"Dense\", \"metrics\": {\"rms\": 1}, "
	    "\"risks\": {\"risk.growth\": {\"value\": 2, \"verdict\": \"watch\"}}}]}";
	const mspec_gate_rules none = {0};
	mspec_measurement *baseline, *plain;
	mspec_gate_rules rules;
	muon_error err = {0};
	const char *text = (const char *)data;
	int code = mspec_baseline_parse(&baseline, text, size, "input", &err);
	require(!code == !!baseline, "a baseline or an error");
	if (code)
		check_error(code, &err);
	else
		check_report(baseline, baseline, &none);
	mspec_measurement_destroy(&baseline);

	muon_error_clear(&err);
	require(!mspec_baseline_parse(&plain, example, strlen(example), "example", NULL), "example");
	code = mspec_rules_parse(&rules, text, size, "input", &err);
	if (code)
		check_error(code, &err);
	else
		check_report(plain, plain, &rules);
	if (!code)
		check_report(plain, NULL, &rules);
	mspec_gate_rules_release(&rules);
	mspec_measurement_destroy(&plain);
	return 0;
}
