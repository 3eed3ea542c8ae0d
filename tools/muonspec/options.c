#include "options.h"

#include "check_output.h"

#include <math.h>
#include <unistd.h>

#define FIELD(name) offsetof(tool_options, name)

static const option_row option_rows[] = {
    {"format", 'f', OPTION_CHOICE, VERB_REPORTS | VERB_METRICS, FIELD(format),
     "table|json|jsonl|csv", "how to print results (default: table)"},
    {"format", 'f', OPTION_CHOICE, VERB_PLOT, FIELD(figure_format), "svg|png|pdf",
     "of the figures (default: svg)"},
    {"output", 'o', OPTION_TEXT, VERB_PLOT, FIELD(output), "DIR",
     "folder for the figures, needed; made if it is not there"},
    {"output", 'o', OPTION_TEXT, VERB_REPORT, FIELD(output), "FILE", "the page, needed"},
    {"keep-script", 0, OPTION_FLAG, VERB_PLOT, FIELD(keep_script), NULL,
     "also keep each figure's gnuplot script and data, to restyle it"},
    {"output", 'o', OPTION_TEXT, VERB_ANALYZE, FIELD(output), "FILE",
     "also write all singular values and metrics to this HDF5 file"},
    {"output", 'o', OPTION_TEXT, VERB_FORWARD, FIELD(output), "FILE",
     "also write the logits of the float32 run to this HDF5 file"},
    {"output", 'o', OPTION_TEXT, VERB_TRACK, FIELD(output), "FILE",
     "keep results there, so that the next call computes only what is new (default: "
     "RUN.spectra.h5 beside the run, else in $XDG_CACHE_HOME/muonspec)"},
    {"format", 'f', OPTION_CHOICE, VERB_CHECK, FIELD(format),
     "table|json|jsonl|csv|junit|github",
     "how to print results (default: table); junit is XML, github annotates a workflow's run"},
    {"output", 'o', OPTION_TEXT, VERB_BASELINE, FIELD(output), "FILE",
     "the baseline to write, needed; a file that exists is refused without --update"},
    {"update", 0, OPTION_FLAG, VERB_BASELINE, FIELD(update), NULL,
     "replace the baseline that is there, and show what changes; its metrics and its choice of "
     "matrices stay unless others are given"},
    {"baseline", 'b', OPTION_TEXT, VERB_CHECK, FIELD(baseline), "FILE",
     "compare with this baseline; its metrics are computed, of the matrices that it chose"},
    {"rules", 'r', OPTION_TEXT, VERB_CHECK, FIELD(rules), "FILE",
     "limits and tolerances, see below"},
    {"against", 0, OPTION_TEXT, VERB_GATES, FIELD(against), "OTHER",
     "of the comparison with another checkpoint or run, as 'muonspec compare X OTHER' makes it"},
    {"junit", 0, OPTION_TEXT, VERB_CHECK, FIELD(output), "FILE",
     "also write the results to this file, as JUnit XML"},
    {"allow-missing", 0, OPTION_LIST, VERB_CHECK, FIELD(allow_missing), "GLOB",
     "matrices of the baseline that may be absent (may be repeated)"},
    {"allow-new", 0, OPTION_LIST, VERB_CHECK, FIELD(allow_new), "GLOB",
     "matrices that the baseline need not have (may be repeated)"},
    {"allow-undefined", 0, OPTION_LIST, VERB_CHECK, FIELD(allow_undefined), "GLOB",
     "NAME or NAME:METRIC that may be undefined (may be repeated)"},
    {"allow-not-ok", 0, OPTION_LIST, VERB_CHECK, FIELD(allow_not_ok), "GLOB",
     "matrices that may hold NaN or Inf, be too large or unreadable (may be repeated)"},
    {"no-store", 0, OPTION_FLAG, VERB_RUNS | VERB_FIGURES | VERB_GATES, FIELD(no_store), NULL,
     "keep no results, and use none"},
    {"store", 0, OPTION_FLAG, VERB_FORWARD, FIELD(store), NULL,
     "also keep loss and layers for track, risk, plot and report, where 'muonspec track FOLDER' "
     "keeps the results of the checkpoint's folder: FOLDER.spectra.h5 beside it, else in "
     "$XDG_CACHE_HOME/muonspec; a later call on the same checkpoint replaces them"},
    {"store-file", 0, OPTION_TEXT, VERB_FORWARD, FIELD(store_file), "FILE",
     "the same in this file"},
    {"store-file", 0, OPTION_TEXT, VERB_RISK, FIELD(store_file), "FILE",
     "use what 'muonspec forward --store-file FILE' kept, where the checkpoint has no recorded "
     "activations (default: the file of 'forward --store')"},
    {"limit", 0, OPTION_LIST, VERB_TRACK, FIELD(limits), "METRIC=VALUE",
     "say at which step this is crossed (may be repeated)"},
    {"changes", 0, OPTION_CHOICE, VERB_TRACK, FIELD(changes), "estimate|exact|none",
     "spectra of what changed between checkpoints: estimated for matrices over 128 on the short "
     "side (default), decomposed, or none"},
    {"align", 0, OPTION_INTEGER, VERB_TRACK, FIELD(align), "K",
     "how far the K leading singular vectors (up to 8) stay what they were"},
    {"step-regex", 0, OPTION_TEXT, VERB_RUNS | VERB_RISK | VERB_FIGURES, FIELD(step_regex), "RE",
     "where paths say the step (POSIX extended; the first group, or all of it); default: the "
     "file's attribute, else a number in its name"},
    {"watch", 0, OPTION_FLAG, VERB_TRACK, FIELD(watch), NULL,
     "go on as new checkpoints come"},
    {"interval", 0, OPTION_SECONDS, VERB_TRACK, FIELD(interval), "SECONDS",
     "how often to look for them (default: 2)"},
    {"idle", 0, OPTION_SECONDS, VERB_TRACK, FIELD(idle), "SECONDS",
     "end when none has come for so long (default: never)"},
    {"label", 0, OPTION_LIST, VERB_COMPARE | VERB_FIGURES, FIELD(labels), "NAME",
     "what to call A, and given again, B"},
    {"by", 0, OPTION_CHOICE, VERB_COMPARE | VERB_FIGURES, FIELD(pairing), "step|tokens",
     "pair checkpoints of equal steps (default), or of equal tokens within 2%"},
    {"tokens", 0, OPTION_TEXT, VERB_FORWARD, FIELD(tokens), "FILE",
     "what to run the model on, needed: integers in .npy; any other file byte by byte for a "
     "vocabulary of 256, else as a text of numbers"},
    {"tokens", 0, OPTION_TEXT, VERB_RISK, FIELD(tokens), "FILE",
     "measure outputs and attention logits by running the model on these, as forward does"},
    {"length", 'l', OPTION_INTEGER, VERB_FORWARD | VERB_RISK, FIELD(length), "N",
     "tokens of a window, each run on its own (default: the model's context, at most 2048)"},
    {"max-tokens", 0, OPTION_INTEGER, VERB_FORWARD | VERB_RISK, FIELD(max_tokens), "N",
     "only the first N tokens (default: 16384)"},
    {"lr", 0, OPTION_NUMBER, VERB_RISK | VERB_FIGURES, FIELD(lr), "RATE",
     "learning rate (default: what the checkpoint says)"},
    {"weight-decay", 0, OPTION_NUMBER, VERB_RISK | VERB_REPORT, FIELD(weight_decay), "DECAY",
     "decoupled weight decay (default: what the checkpoint says)"},
    {"update-rms", 0, OPTION_NUMBER, VERB_RISK | VERB_FIGURES, FIELD(update_rms), "RMS",
     "RMS of an update before the learning rate (default: what the checkpoint says, else 0.2)"},
    {"limit", 0, OPTION_LIST, VERB_RISK, FIELD(limits), "KIND=WATCH,RISK",
     "values from which on to watch and to call it a risk (may be repeated)"},
    {"fail-on", 0, OPTION_CHOICE, VERB_RISK, FIELD(fail_on), "watch|risk",
     "exit status 1 if there is a verdict as bad as this"},
    {"metrics", 'm', OPTION_TEXT, VERB_ANALYZE | VERB_METRICS | VERB_RUNS, FIELD(metrics), "LIST",
     "only these metrics, separated by commas ('muonspec metrics' lists them)"},
    {"metrics", 'm', OPTION_TEXT, VERB_FIGURES, FIELD(metrics), "LIST",
     "metrics to draw over layers and kinds of matrices (default: svd_entropy,rms)"},
    {"metrics", 'm', OPTION_TEXT, VERB_BASELINE, FIELD(metrics), "LIST",
     "these metrics, or all (default: rms, max_abs, zero_fraction, spectral_norm, svd_entropy, "
     "effective_rank, stable_rank, output_rms)"},
    {"sort", 's', OPTION_TEXT, VERB_ANALYZE, FIELD(sort), "METRIC",
     "table: order rows by this metric, largest first; '-METRIC' smallest first"},
    {"top", 'k', OPTION_INTEGER, VERB_ANALYZE, FIELD(top), "K", "table: only the first K rows"},
    {"all", 'a', OPTION_FLAG, VERB_ANALYZE | VERB_RISK | VERB_RUNS | VERB_GATES, FIELD(all), NULL,
     "table: every row, however many there are"},
    {"include", 'i', OPTION_LIST, VERB_MATRICES | VERB_FIGURES | VERB_GATES, FIELD(include), "GLOB",
     "only tensors or matrices whose name matches (may be repeated)"},
    {"exclude", 'x', OPTION_LIST, VERB_MATRICES | VERB_FIGURES | VERB_GATES, FIELD(exclude), "GLOB",
     "leave out those whose name matches (may be repeated)"},
    {"include-optimizer", 0, OPTION_FLAG, VERB_LS | VERB_ANALYZE | VERB_RUNS, FIELD(include_optimizer), NULL,
     "analyze optimizer state (momentum, moments) too"},
    {"groups", 'g', OPTION_TEXT, VERB_MATRICES | VERB_FIGURES | VERB_GATES,
     FIELD(groups_file), "FILE",
     "group rules that go before the built-in ones: lines of 'GROUP GLOB'"},
    {"svd", 0, OPTION_CHOICE, VERB_ANALYZE | VERB_RUNS | VERB_FIGURES | VERB_GATES,
     FIELD(svd), "gram|gesdd",
     "gram (default) is several times faster; gesdd resolves singular values "
     "below 1e-7 of the largest"},
    {"threads", 't', OPTION_INTEGER, (VERB_REPORTS & ~VERB_LS) | VERB_FIGURES | VERB_GATES,
     FIELD(threads), "N",
     "workers (default: one per processor); results are the same bits"},
    {"max-memory", 0, OPTION_BYTES, VERB_ANALYZE | VERB_RUNS | VERB_FIGURES | VERB_GATES,
     FIELD(max_memory), "SIZE",
     "working memory for matrices, such as 800M or 4G (default: half of the "
     "machine's); larger ones are reported as too_large"},
    {"open-timeout", 0, OPTION_SECONDS, VERB_REPORTS | VERB_CONVERT | VERB_FIGURES | VERB_GATES,
     FIELD(open_timeout), "SECONDS",
     "give a file up when reading its structure, or one block, takes longer "
     "(default: 20)"},
    {"strict", 0, OPTION_FLAG, VERB_REPORTS | VERB_FIGURES, FIELD(strict), NULL,
     "a tensor that can't be analyzed is an error (exit status 3 or 4)"},
    {"progress", 0, OPTION_CHOICE, ((VERB_REPORTS | VERB_CONVERT) & ~VERB_LS) | VERB_FIGURES
     | VERB_GATES,
     FIELD(progress), "auto|always|never", "progress on standard error (default: on a terminal)"},
    {"color", 0, OPTION_CHOICE, VERB_ALL, FIELD(color), "auto|always|never",
     "colours in tables (default: on a terminal, unless NO_COLOR is set)"},
    {"width", 'w', OPTION_INTEGER, VERB_REPORTS | VERB_GATES, FIELD(width), "COLUMNS",
     "width of tables (default: the terminal's, else $COLUMNS, else 80)"},
    {"quiet", 'q', OPTION_FLAG, VERB_ALL, FIELD(quiet), NULL, "no messages but errors"},
    {"verbose", 'v', OPTION_COUNTER, VERB_ALL, FIELD(verbose), NULL,
     "more: every skipped tensor, every note, timing"},
    {"help", 'h', OPTION_FLAG, VERB_ALL, FIELD(help), NULL, "this text"},
    {"version", 0, OPTION_FLAG, VERB_ALL, FIELD(version), NULL, "version"},
};

enum { OPTION_ROWS = sizeof option_rows / sizeof *option_rows };

static const char plot_notes[] =
    "X may also be a table of trainings, a .csv file with the columns compute and\n"
    "held_out_loss (or loss), and optimizer, run and status if it has them, such as\n"
    "muonlab's runs.csv: a scaling law is fitted for each optimizer. --include and\n"
    "--exclude then choose among the runs.\n";

command command_of(const verb_spec *verb)
{
	return (command){.program = "muonspec", .verb = verb->name, .summary = verb->summary,
	                 .arguments = verb->arguments, .min_arguments = verb->min_arguments,
	                 .max_arguments = verb->max_arguments, .rows = option_rows,
	                 .count = OPTION_ROWS, .verb_bit = verb->bit,
	                 .notes = verb->bit == VERB_CHECK  ? check_help
	                          : verb->bit == VERB_PLOT ? plot_notes
	                                                   : NULL};
}

static int64_t half_of_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	return pages > 0 && size > 0 ? (int64_t)pages / 2 * size : (int64_t)1 << 31;
}

int parse_options(tool_options *options, const verb_spec *verb, int argc, char **argv, muon_error *err)
{
	const command c = command_of(verb);
	*options = (tool_options){.open_timeout = 20, .max_memory = half_of_memory(), .fail_on = -1,
	                          .lr = NAN, .weight_decay = NAN, .update_rms = NAN,
	                          .max_tokens = 16384, .interval = 2, .idle = NAN};
	int code = parse_command(&c, options, argc, argv, &options->arguments,
	                         &options->argument_count, err);
	if (!code && !options->help && !options->version)
		code = check_arguments(&c, options->arguments, options->argument_count, err);
	return code;
}

void release_options(tool_options *options)
{
	release_lists(&(command){.rows = option_rows, .count = OPTION_ROWS}, options);
	*options = (tool_options){0};
}

void print_help(FILE *to, const verb_spec *verb)
{
	const command c = command_of(verb);
	print_command_help(to, &c);
	fprintf(to, "\nExit status: 0 done, 2 usage, 3 a file cannot be read or written, 4 numerical\n"
	            "failure, 5 internal error or out of memory%s.\n",
	        verb->bit & VERB_RISK    ? "; 1 a verdict that --fail-on names"
	        : verb->bit & VERB_CHECK ? "; 1 a gate that failed"
	                                 : "");
}

void print_usage(FILE *to, const verb_spec *verbs, size_t count)
{
	fprintf(to, "muonspec %s: spectra and diagnostics of neural-network checkpoints\n\n"
	            "usage: muonspec VERB [options] FILE...\n\n",
	        muon_version());
	for (size_t i = 0; i < count; i++)
		fprintf(to, "  %-8s %-8s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].summary);
	fprintf(to, "\n'muonspec VERB --help' shows a verb's options.\n");
}
