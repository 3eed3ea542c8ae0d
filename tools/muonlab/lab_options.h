/* The command line of muonlab. */
#ifndef MUONLAB_LAB_OPTIONS_H
#define MUONLAB_LAB_OPTIONS_H

#include "common/option_table.h"

typedef struct cli_options {
	const char *out, *runs, *muontrain, *metrics, *steps;
	text_list only;
	int64_t jobs; /* 0: one a processor */
	double scale, level;
	bool list, report, no_plot, quiet, help, version;
	int progress; /* when */
	char **arguments;
	int argument_count;
} cli_options;

int run_run(const cli_options *options, muon_error *err);
int run_fit(const cli_options *options, muon_error *err);
int run_inspect(const cli_options *options, muon_error *err);

#endif
