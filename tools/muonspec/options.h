/* The command line of muonspec: its options, and which verb takes which. */
#ifndef MUONSPEC_TOOL_OPTIONS_H
#define MUONSPEC_TOOL_OPTIONS_H

#include "common/option_table.h"

#include <muonspec/report.h>

typedef struct tool_options {
	int format; /* output_format */
	const char *output; /* file to write: of --output, or what convert makes */
	text_list include, exclude;
	text_list limits;   /* of risks: "KIND=WATCH,RISK"; of track: "METRIC=VALUE" */
	text_list labels;   /* of compare's two sides */
	const char *baseline, *rules, *against; /* of check */
	text_list allow_missing, allow_new, allow_undefined, allow_not_ok;
	bool update;
	bool store;             /* of forward, in the default place */
	const char *store_file; /* or there */
	const char *tokens; /* file to run the model on */
	const char *metrics; /* comma-separated, as given */
	const char *sort;
	const char *groups_file;
	bool include_optimizer, all, strict, quiet, help, version;
	int verbose;
	int svd;      /* muon_svd_method */
	int progress; /* when */
	int color;    /* when */
	int changes;  /* mspec_change_method */
	int pairing;  /* mspec_pairing */
	int figure_format; /* picture_kind */
	bool keep_script;
	const char *step_regex;
	bool watch, no_store;
	double interval, idle; /* seconds; idle NaN: for ever */
	int64_t align;
	int fail_on;  /* mspec_verdict - MSPEC_VERDICT_WATCH; -1: never */
	int64_t threads, top, width;
	int64_t length, max_tokens;
	int64_t max_memory; /* bytes */
	double open_timeout; /* seconds */
	double lr, weight_decay, update_rms; /* NaN: not given */
	char **arguments;
	int argument_count;
} tool_options;

/* Verbs as bits, to say which options they take. */
enum verb_bit {
	VERB_LS = 1,
	VERB_ANALYZE = 2,
	VERB_METRICS = 4,
	VERB_CONVERT = 8,
	VERB_RISK = 16,
	VERB_FORWARD = 32,
	VERB_TRACK = 64,
	VERB_COMPARE = 128,
	VERB_PLOT = 1024,
	VERB_REPORT = 2048,
	VERB_FIGURES = VERB_PLOT | VERB_REPORT,
	VERB_BASELINE = 256,
	VERB_CHECK = 512,
	VERB_GATES = VERB_BASELINE | VERB_CHECK,
	VERB_RUNS = VERB_TRACK | VERB_COMPARE,
	VERB_MATRICES = VERB_LS | VERB_ANALYZE | VERB_RISK | VERB_RUNS,
	VERB_REPORTS = VERB_MATRICES | VERB_FORWARD,
	VERB_ALL = 0xffff
};

enum { VERDICT = 1 };

typedef struct verb_spec {
	const char *name;
	unsigned bit;
	const char *arguments; /* for the usage line */
	const char *summary;
	int min_arguments, max_arguments;
	bool reads_files; /* runs in a supervised child */
	/* Returns a MUON_ code, or VERDICT: done, and what was found sets exit status 1. */
	int (*run)(const tool_options *options, muon_error *err);
} verb_spec;

/* Fill `options` from argv (argv[0] is the verb). MUON_E_USAGE, saying what is wrong. Release them
 * also after a failure. */
int parse_options(tool_options *options, const verb_spec *verb, int argc, char **argv, muon_error *err);
void release_options(tool_options *options);

command command_of(const verb_spec *verb);
void print_help(FILE *to, const verb_spec *verb); /* of one verb */
void print_usage(FILE *to, const verb_spec *verbs, size_t count);

#endif
