/* The command line of muonspec: its options, and which verb takes which. */
#ifndef MUONSPEC_TOOL_OPTIONS_H
#define MUONSPEC_TOOL_OPTIONS_H

#include "common/option_table.h"

#include <muonspec/report.h>

typedef struct tool_options {
	int format; /* output_format */
	const char *output; /* file to write: of --output, or what convert makes */
	text_list include, exclude;
	const char *metrics; /* comma-separated, as given */
	const char *sort;
	const char *groups_file;
	bool include_optimizer, all, strict, quiet, help, version;
	int verbose;
	int svd;      /* muon_svd_method */
	int progress; /* when */
	int color;    /* when */
	int64_t threads, top, width;
	int64_t max_memory; /* bytes */
	double open_timeout; /* seconds */
	char **arguments;
	int argument_count;
} tool_options;

/* Verbs as bits, to say which options they take. */
enum verb_bit { VERB_LS = 1, VERB_ANALYZE = 2, VERB_METRICS = 4, VERB_CONVERT = 8, VERB_ALL = 15 };

typedef struct verb_spec {
	const char *name;
	unsigned bit;
	const char *arguments; /* for the usage line */
	const char *summary;
	int min_arguments, max_arguments;
	bool reads_files; /* runs in a supervised child */
	int (*run)(const tool_options *options, muon_error *err); /* returns a MUON_ code */
} verb_spec;

/* Fill `options` from argv (argv[0] is the verb). MUON_E_USAGE, saying what is wrong. Release them
 * also after a failure. */
int parse_options(tool_options *options, const verb_spec *verb, int argc, char **argv, muon_error *err);
void release_options(tool_options *options);

void print_help(FILE *to, const verb_spec *verb); /* of one verb */
void print_usage(FILE *to, const verb_spec *verbs, size_t count);

#endif
