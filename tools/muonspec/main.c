#include "supervise.h"
#include "verbs.h"

#include "common/messages.h"
#include "common/metric_names.h"
#include "common/nearest.h"
#include "common/output_file.h"
#include "common/program_documents.h"

#include "base/memory.h"
#include "base/text.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const verb_spec verbs[] = {
    {"ls", VERB_LS, "CKPT", "Every tensor: shape, type, the matrices it holds, or why not", 1,
     1, true, run_ls},
    {"analyze", VERB_ANALYZE, "CKPT", "Spectra and metrics of every matrix, with group summaries",
     1, 1, true, run_analyze},
    {"metrics", VERB_METRICS, "", "The metrics: name, unit, formula, source", 0, 0, false,
     run_metrics},
    {"convert", VERB_CONVERT, "FROM TO", "Copy a checkpoint to HDF5 or safetensors, same bits", 2,
     2, true, run_convert},
    {"track", VERB_TRACK, "RUN...", "A run over its steps: growth, changes, limits to be crossed",
     1, INT_MAX, true, run_track},
    {"compare", VERB_COMPARE, "A B", "Two checkpoints or runs, paired by matrix and step", 2, 2,
     true, run_compare},
    {"risk", VERB_RISK, "CKPT|RUN", "Verdicts on what bf16 puts at risk; the last two are compared",
     1, INT_MAX, true, run_risk},
    {"forward", VERB_FORWARD, "CKPT", "Activations, logits and loss on tokens, in float32 and bf16",
     1, 1, true, run_forward},
    {"plot", VERB_PLOT, "X [Y]", "Figures of a checkpoint, a run, or two of them, by gnuplot", 1, 2,
     true, run_plot},
    {"report", VERB_REPORT, "X [Y]", "One HTML page about a checkpoint, a run, or two of them", 1, 2,
     true, run_report},
    {"baseline", VERB_BASELINE, "X...", "Record a checkpoint's, run's or comparison's values", 1,
     INT_MAX, true, run_baseline},
    {"check", VERB_CHECK, "X...", "Gates: values against a baseline and limits, for CI", 1, INT_MAX,
     true, run_check},
};

enum { VERBS = sizeof verbs / sizeof *verbs };

static const verb_spec *find_verb(const char *name)
{
	for (size_t i = 0; i < VERBS; i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static int unknown_verb(const char *name)
{
	static const char *const global[] = {"--help", "--version"};
	const char *names[VERBS];
	char shown[128];
	bool option = *name == '-';
	for (size_t i = 0; i < VERBS; i++)
		names[i] = verbs[i].name;
	const char *near = option ? nearest(name, global, sizeof global / sizeof *global)
	                          : nearest(name, names, VERBS);
	const char *kind = option ? "option" : "verb";
	muon_escape(shown, sizeof shown, name);
	if (near)
		fprintf(stderr, "muonspec: unknown %s '%s'; did you mean '%s'?\n", kind, shown, near);
	else
		fprintf(stderr, "muonspec: unknown %s '%s'; see 'muonspec --help'\n", kind, shown);
	return muon_exit_status(MUON_E_USAGE);
}

static int print_version(void)
{
	printf("muonspec %s\n", muon_version());
	return flush_results("muonspec");
}

static int print_topic(const verb_spec *verb)
{
	if (verb)
		print_help(stdout, verb);
	else
		print_usage(stdout, verbs, VERBS);
	return flush_results("muonspec");
}

static const char *const *words_of(const option_row *row)
{
	return strcmp(row->name, "metrics") && strcmp(row->name, "sort") ? NULL : metric_names();
}

static bool print_as_document(const char *option)
{
	command commands[VERBS];
	for (size_t i = 0; i < VERBS; i++)
		commands[i] = command_of(&verbs[i]);
	const program_tables tables = {"muonspec", commands, VERBS, words_of};
	return print_document(stdout, &tables, option);
}

static int run_options(const verb_spec *verb, tool_options *options)
{
	if (options->help)
		return print_topic(verb);
	if (options->version)
		return print_version();
	const char *output = verb->bit == VERB_CONVERT ? options->arguments[1] : options->output;
	char *resolved = output ? output_file_resolve(output) : NULL;
	if (output && !resolved) {
		fprintf(stderr, "muonspec %s: out of memory\n", verb->name);
		return muon_exit_status(MUON_E_MEMORY);
	}
	options->output = resolved;
	/* MUONSPEC_NO_CHILD keeps everything in one process, for debuggers and valgrind */
	int status = verb->reads_files && !getenv("MUONSPEC_NO_CHILD") ? supervise(verb, options)
	                                                               : run_verb(verb, options);
	options->output = NULL;
	muon_free(resolved);
	return status;
}

static int run(const verb_spec *verb, int argc, char **argv)
{
	tool_options options;
	muon_error err = {0};
	int status;
	if (parse_options(&options, verb, argc, argv, &err)) {
		fprintf(stderr, "muonspec %s: %s\n", verb->name, err.message);
		status = muon_exit_status(err.code);
	} else {
		status = run_options(verb, &options);
	}
	release_options(&options);
	return status;
}

int main(int argc, char **argv)
{
	open_standard_files();
	signal(SIGPIPE, SIG_IGN); /* writing fails instead, and says so */
	if (argc < 2) {
		print_usage(stderr, verbs, VERBS);
		return muon_exit_status(MUON_E_USAGE);
	}
	const char *word = argv[1];
	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
		const verb_spec *topic = argc > 2 ? find_verb(argv[2]) : NULL;
		if (argc > 2 && !topic)
			return unknown_verb(argv[2]);
		return print_topic(topic);
	}
	if (!strcmp(word, "--version"))
		return print_version();
	if (print_as_document(word))
		return flush_results("muonspec");
	const verb_spec *verb = find_verb(word);
	return verb ? run(verb, argc - 1, argv + 1) : unknown_verb(word);
}
