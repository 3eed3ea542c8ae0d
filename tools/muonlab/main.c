#include "inspect.h"
#include "lab_options.h"

#include "common/messages.h"
#include "common/metric_names.h"
#include "common/nearest.h"
#include "common/program_documents.h"

#include "base/text.h"

#include <signal.h>
#include <string.h>

enum { RUN = 1, FIT = 2, INSPECT = 4, ALL = 7 };

#define FIELD(name) offsetof(cli_options, name)

static const option_row rows[] = {
    {"out", 'o', OPTION_TEXT, RUN, FIELD(out), "DIR",
     "folder of the results (default: the plan's own)"},
    {"runs", 'r', OPTION_TEXT, RUN, FIELD(runs), "DIR",
     "folder of logs and checkpoints (default: build/lab)"},
    {"jobs", 'j', OPTION_INTEGER, RUN, FIELD(jobs), "N",
     "trainings at a time, one thread each (default: one per processor)"},
    {"scale", 0, OPTION_NUMBER, RUN, FIELD(scale), "X",
     "run the plan X times as large, as its `scale` says; results go to scale-X in the folder"},
    {"only", 0, OPTION_LIST, RUN, FIELD(only), "GLOB",
     "only runs whose name matches (may be repeated)"},
    {"list", 'l', OPTION_FLAG, RUN, FIELD(list), NULL,
     "list the runs and what is done; run nothing"},
    {"muontrain", 0, OPTION_TEXT, RUN, FIELD(muontrain), "PROGRAM",
     "the trainer (default: muontrain beside this program)"},
    {"report", 0, OPTION_FLAG, FIT, FIELD(report), NULL,
     "what the Moonlight report's own scaling laws say at chosen computes"},
    {"level", 0, OPTION_SHARE, FIT, FIELD(level), "P", "level of the intervals (default: 0.95)"},
    {"no-plot", 0, OPTION_FLAG, FIT, FIELD(no_plot), NULL, "don't run gnuplot on plot.gp"},
    {"metrics", 'm', OPTION_TEXT, INSPECT, FIELD(metrics), "LIST",
     "also spectra.csv, with these metrics of every matrix"},
    {"steps", 0, OPTION_TEXT, INSPECT, FIELD(steps), "LIST",
     "spectra only of the checkpoints after these steps, such as 0,10,100, and of the last"},
    {"progress", 0, OPTION_CHOICE, RUN, FIELD(progress), "auto|always|never",
     "progress on standard error (default: on a terminal)"},
    {"quiet", 'q', OPTION_FLAG, ALL, FIELD(quiet), NULL, "no messages but errors"},
    {"help", 'h', OPTION_FLAG, ALL, FIELD(help), NULL, "this text"},
    {"version", 0, OPTION_FLAG, ALL, FIELD(version), NULL, "version"},
};

typedef struct verb_row {
	command command;
	int (*run)(const cli_options *options, muon_error *err);
} verb_row;

#define COMMAND(word, bit, about, usage, least, most)                                              \
	{.program = "muonlab", .verb = word, .summary = about, .arguments = usage,                 \
	 .min_arguments = least, .max_arguments = most, .rows = rows,                              \
	 .count = sizeof rows / sizeof *rows, .verb_bit = bit}

static const verb_row verbs[] = {
    {COMMAND("run", RUN,
             "Run the trainings of a plan that have no result yet; interrupted, it goes on "
             "where it was",
             "PLAN", 1, 1),
     run_run},
    {COMMAND("fit", FIT, "The figures of an experiment, from the results in its folder", "DIR", 0,
             1),
     run_fit},
    {COMMAND("inspect", INSPECT, "Describe a run's checkpoints in tables beside them", "RUN", 1, 1),
     run_inspect},
};

enum { VERBS = sizeof verbs / sizeof *verbs };

int run_inspect(const cli_options *options, muon_error *err)
{
	return inspect_run(options->arguments[0], options->metrics, options->steps, err);
}

static void print_usage(FILE *to)
{
	fputs("usage: muonlab VERB [options] ...\n\n"
	      "Experiments on small language models: grids of trainings and what they show.\n\n"
	      "Verbs:\n",
	      to);
	for (size_t i = 0; i < VERBS; i++)
		fprintf(to, "  %-9s %s\n", verbs[i].command.verb, verbs[i].command.summary);
	fputs("\n'muonlab VERB --help' lists a verb's options. Plans are in "
	      "notebooks-data/*/plan.json.\n",
	      to);
}

static int report_failure(const char *verb, const muon_error *err, int code)
{
	bool elsewhere = *err->where && strcmp(err->where, verb) != 0;
	fprintf(stderr, "muonlab %s: %s%s%s\n", verb, elsewhere ? err->where : "",
	        elsewhere ? ": " : "", err->code ? err->message : muon_error_text(code));
	return muon_exit_status(code);
}

static int run_verb(const verb_row *verb, int argc, char **argv)
{
	cli_options options = {.scale = 1, .level = 0.95};
	muon_error err = {0};
	const command *c = &verb->command;
	int code = parse_command(c, &options, argc, argv, &options.arguments,
	                         &options.argument_count, &err);
	if (!code && options.help) {
		print_command_help(stdout, c);
		return flush_results("muonlab");
	}
	if (!code && options.version) {
		printf("muonlab %s\n", muon_version());
		return flush_results("muonlab");
	}
	if (!code)
		code = check_arguments(c, options.arguments, options.argument_count, &err);
	if (code) /* of options no more is said than what is wrong */
		*err.where = 0;
	if (!code)
		code = verb->run(&options, &err);
	int flushed = flush_results("muonlab");
	release_lists(c, &options);
	return code ? report_failure(c->verb, &err, code) : flushed;
}

static const char *const *words_of(const option_row *row)
{
	return strcmp(row->name, "metrics") ? NULL : metric_names();
}

static bool print_as_document(const char *option)
{
	command commands[VERBS];
	for (size_t i = 0; i < VERBS; i++)
		commands[i] = verbs[i].command;
	const program_tables tables = {"muonlab", commands, VERBS, words_of};
	return print_document(stdout, &tables, option);
}

static int unknown_verb(const char *word)
{
	const char *names[VERBS], *kind = *word == '-' ? "option" : "verb";
	char shown[128];
	for (size_t i = 0; i < VERBS; i++)
		names[i] = verbs[i].command.verb;
	const char *near = *word == '-' ? NULL : nearest(word, names, VERBS);
	muon_escape(shown, sizeof shown, word);
	if (near)
		fprintf(stderr, "muonlab: unknown verb '%s'; did you mean '%s'?\n", shown, near);
	else
		fprintf(stderr, "muonlab: unknown %s '%s'; see 'muonlab --help'\n", kind, shown);
	return muon_exit_status(MUON_E_USAGE);
}

int main(int argc, char **argv)
{
	open_standard_files();
	signal(SIGPIPE, SIG_IGN); /* writing fails instead, and says so */
	if (argc < 2) {
		print_usage(stderr);
		return muon_exit_status(MUON_E_USAGE);
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_usage(stdout);
		return flush_results("muonlab");
	}
	if (!strcmp(argv[1], "--version")) {
		printf("muonlab %s\n", muon_version());
		return flush_results("muonlab");
	}
	if (print_as_document(argv[1]))
		return flush_results("muonlab");
	for (size_t i = 0; i < VERBS; i++)
		if (!strcmp(argv[1], verbs[i].command.verb))
			return run_verb(&verbs[i], argc - 1, argv + 1);
	return unknown_verb(argv[1]);
}
