#include "check_output.h"
#include "gate_input.h"
#include "verbs.h"

#include "common/output_file.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/output.h"

#include <errno.h>
#include <string.h>

/* ---- rules -------------------------------------------------------------------------------- */

/* The file's and the command line's. */
static int add_allowances(mspec_gate_rules *rules, mspec_allowance allowance, const text_list *list,
                          muon_arena *memory, muon_error *err)
{
	size_t count = rules->allow_count[allowance];
	const char **all = muon_arena_alloc(memory, count + list->count + 1, sizeof *all);
	if (!all)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	if (count)
		memcpy(all, rules->allow[allowance], count * sizeof *all);
	if (list->count)
		memcpy(all + count, list->items, list->count * sizeof *all);
	rules->allow[allowance] = all;
	rules->allow_count[allowance] = count + list->count;
	return MUON_OK;
}

static int read_rules(mspec_gate_rules *rules, const tool_options *options, muon_arena *memory,
                      muon_error *err)
{
	const text_list *const lists[MSPEC_ALLOWANCES] = {
	    [MSPEC_ALLOW_MISSING] = &options->allow_missing,
	    [MSPEC_ALLOW_NEW] = &options->allow_new,
	    [MSPEC_ALLOW_UNDEFINED] = &options->allow_undefined,
	    [MSPEC_ALLOW_NOT_OK] = &options->allow_not_ok};
	int code = options->rules ? mspec_rules_load(rules, options->rules, err) : MUON_OK;
	for (int a = 0; a < MSPEC_ALLOWANCES && !code; a++)
		code = add_allowances(rules, (mspec_allowance)a, lists[a], memory, err);
	return code;
}

/* ---- results ------------------------------------------------------------------------------ */

static int print(const check_result *result, muon_error *err)
{
	switch (result->options->format) {
	case FORMAT_JSON:
		return check_json(result, err);
	case FORMAT_JSONL:
		return check_jsonl(result, err);
	case FORMAT_CSV:
		return check_csv(result, err);
	case FORMAT_JUNIT:
		return check_junit(stdout, result, err);
	case FORMAT_GITHUB:
		return check_github(result, err);
	default:
		return check_table(result, err);
	}
}

static int write_junit(const char *temporary, const check_result *result, muon_error *err)
{
	const char *path = result->options->output;
	FILE *file = fopen(temporary, "w");
	if (!file)
		return muon_fail(err, MUON_E_WRITE, path, "%s", strerror(errno));
	int code = check_junit(file, result, err);
	bool failed = ferror(file) != 0;
	failed |= fclose(file) != 0;
	if (failed && !code)
		code = muon_fail(err, MUON_E_WRITE, path, "%s", strerror(errno));
	return code ? code : muon_output_commit(temporary, path, err);
}

static int report(const check_result *result, const char *temporary, muon_error *err)
{
	int code = temporary ? refuse_to_overwrite(result->now, result->options, err) : MUON_OK;
	if (!code && temporary)
		code = write_junit(temporary, result, err);
	if (!code)
		code = print(result, err);
	return !code && result->report->failed ? VERDICT : code;
}

/* ---- the verb ----------------------------------------------------------------------------- */

static int check_with(const mspec_measurement *baseline, const mspec_gate_rules *rules,
                      const char *temporary, const tool_options *options, muon_error *err)
{
	double started = muon_seconds();
	mspec_measurement *now;
	mspec_gate_report *gates = NULL;
	int code = measure_gates(&now, options, baseline, rules, err);
	if (!code)
		code = mspec_gate_check(&gates, now, baseline, rules, err);
	if (!code)
		code = report(&(check_result){gates, now, options, muon_seconds() - started}, temporary,
		              err);
	mspec_gate_report_destroy(&gates);
	mspec_measurement_destroy(&now);
	return code;
}

int run_check(const tool_options *options, muon_error *err)
{
	mspec_measurement *baseline = NULL;
	mspec_gate_rules rules = {0};
	muon_arena memory = {0};
	char *temporary = NULL;
	if (!options->baseline && !options->rules)
		return muon_fail(err, MUON_E_USAGE, NULL, "needs --baseline FILE, --rules FILE or both");
	int code = read_rules(&rules, options, &memory, err);
	if (!code && options->baseline)
		code = mspec_baseline_load(&baseline, options->baseline, err);
	if (!code && options->output)
		code = output_file_claim(&temporary, options->output, err);
	if (!code)
		code = check_with(baseline, &rules, temporary, options, err);
	if (code < 0 && temporary)
		muon_output_discard(temporary, options->output);
	muon_free(temporary);
	mspec_measurement_destroy(&baseline);
	mspec_gate_rules_release(&rules);
	muon_arena_release(&memory);
	return code;
}
