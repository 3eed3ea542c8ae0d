#include "baseline_output.h"
#include "gate_input.h"
#include "verbs.h"

#include "common/messages.h"
#include "common/output_file.h"

#include "base/memory.h"
#include "base/output.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* The baseline that is to be replaced; an update is asked for, never an accident. */
static int find_before(mspec_measurement **before, const tool_options *options, muon_error *err)
{
	struct stat st;
	bool there = !stat(options->output, &st);
	if (options->update)
		return mspec_baseline_load(before, options->output, err);
	return there && S_ISREG(st.st_mode)
	           ? muon_fail(err, MUON_E_USAGE, options->output,
	                       "exists; --update replaces it and shows what changes")
	           : MUON_OK;
}

static int write_baseline(const char *temporary, const mspec_measurement *m,
                          const tool_options *options, muon_error *err)
{
	FILE *file = fopen(temporary, "w");
	if (!file)
		return muon_fail(err, MUON_E_WRITE, options->output, "%s", strerror(errno));
	int code = baseline_json(file, m, err);
	bool failed = ferror(file) != 0;
	failed |= fclose(file) != 0;
	if (failed && !code)
		code = muon_fail(err, MUON_E_WRITE, options->output, "%s", strerror(errno));
	return code ? code : muon_output_commit(temporary, options->output, err);
}

static void warn_about_status(const mspec_measurement *m, const tool_options *options)
{
	char name[256], status[128];
	for (size_t i = 0; i < m->count && !options->quiet; i++)
		if (strcmp(m->subjects[i].status, "ok"))
			fprintf(messages(), "muonspec baseline: %s: %s; check fails on it unless allowed\n",
			        muon_escape(name, sizeof name, m->subjects[i].name),
			        muon_escape(status, sizeof status, m->subjects[i].status));
}

static int measure_and_write(const mspec_measurement *before, const char *temporary,
                             const tool_options *options, muon_error *err)
{
	mspec_measurement *m;
	int code = measure_gates(&m, options, before, NULL, err);
	if (!code)
		code = refuse_to_overwrite(m, options, err);
	if (!code && !count_subjects(m, MSPEC_SUBJECT_MATRIX))
		code = muon_fail(err, MUON_E_FORMAT, options->arguments[0],
		                 "no matrices: such a baseline would check nothing");
	if (!code)
		code = write_baseline(temporary, m, options, err);
	if (!code) {
		warn_about_status(m, options);
		code = baseline_table(m, before, options, err);
	}
	mspec_measurement_destroy(&m);
	return code;
}

int run_baseline(const tool_options *options, muon_error *err)
{
	mspec_measurement *before = NULL;
	char *temporary = NULL;
	if (!options->output)
		return muon_fail(err, MUON_E_USAGE, NULL, "needs -o FILE, the baseline to write");
	int code = find_before(&before, options, err);
	if (!code)
		code = output_file_claim(&temporary, options->output, err);
	if (!code)
		code = measure_and_write(before, temporary, options, err);
	if (code && temporary)
		muon_output_discard(temporary, options->output);
	muon_free(temporary);
	mspec_measurement_destroy(&before);
	return code;
}
