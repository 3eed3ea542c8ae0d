#include "options.h"

#include "base/memory.h"
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum option_kind {
	KIND_FLAG,
	KIND_COUNTER,
	KIND_TEXT,
	KIND_LIST,
	KIND_INTEGER, /* at least 1 */
	KIND_BYTES,
	KIND_SECONDS,
	KIND_CHOICE /* index into choices */
} option_kind;

typedef struct option_row {
	const char *name;
	char letter; /* 0: none */
	option_kind kind;
	unsigned verbs;
	size_t field;
	const char *argument; /* for choices: the words, separated by '|' */
	const char *help;
} option_row;

#define FIELD(name) offsetof(tool_options, name)

static const option_row option_rows[] = {
    {"format", 'f', KIND_CHOICE, VERB_LS | VERB_ANALYZE | VERB_METRICS, FIELD(format),
     "table|json|jsonl|csv", "how to print results (default: table)"},
    {"output", 'o', KIND_TEXT, VERB_ANALYZE, FIELD(output), "FILE",
     "also write all singular values and metrics to this HDF5 file"},
    {"metrics", 'm', KIND_TEXT, VERB_ANALYZE | VERB_METRICS, FIELD(metrics), "LIST",
     "only these metrics, separated by commas ('muonspec metrics' lists them)"},
    {"sort", 's', KIND_TEXT, VERB_ANALYZE, FIELD(sort), "METRIC",
     "table: order rows by this metric, largest first; '-METRIC' smallest first"},
    {"top", 'k', KIND_INTEGER, VERB_ANALYZE, FIELD(top), "K", "table: only the first K rows"},
    {"all", 'a', KIND_FLAG, VERB_ANALYZE, FIELD(all), NULL,
     "table: every row, however many there are"},
    {"include", 'i', KIND_LIST, VERB_LS | VERB_ANALYZE, FIELD(include), "GLOB",
     "only tensors or matrices whose name matches (may be repeated)"},
    {"exclude", 'x', KIND_LIST, VERB_LS | VERB_ANALYZE, FIELD(exclude), "GLOB",
     "leave out those whose name matches (may be repeated)"},
    {"include-optimizer", 0, KIND_FLAG, VERB_LS | VERB_ANALYZE, FIELD(include_optimizer), NULL,
     "analyze optimizer state (momentum, moments) too"},
    {"groups", 'g', KIND_TEXT, VERB_LS | VERB_ANALYZE, FIELD(groups_file), "FILE",
     "group rules that go before the built-in ones: lines of 'GROUP GLOB'"},
    {"svd", 0, KIND_CHOICE, VERB_ANALYZE, FIELD(svd), "gram|gesdd",
     "gram (default) is several times faster; gesdd resolves singular values "
     "below 1e-7 of the largest"},
    {"threads", 't', KIND_INTEGER, VERB_ANALYZE, FIELD(threads), "N",
     "workers (default: one per processor); results are the same bits"},
    {"max-memory", 0, KIND_BYTES, VERB_ANALYZE, FIELD(max_memory), "SIZE",
     "working memory for matrices, such as 800M or 4G (default: half of the "
     "machine's); larger ones are reported as too_large"},
    {"open-timeout", 0, KIND_SECONDS, VERB_LS | VERB_ANALYZE | VERB_CONVERT, FIELD(open_timeout),
     "SECONDS", "give a file up when reading its structure, or one block, takes longer "
                "(default: 20)"},
    {"strict", 0, KIND_FLAG, VERB_LS | VERB_ANALYZE, FIELD(strict), NULL,
     "a tensor that can't be analyzed is an error (exit status 3 or 4)"},
    {"progress", 0, KIND_CHOICE, VERB_ANALYZE | VERB_CONVERT, FIELD(progress), "auto|always|never",
     "progress on standard error (default: on a terminal)"},
    {"color", 0, KIND_CHOICE, VERB_ALL, FIELD(color), "auto|always|never",
     "colours in tables (default: on a terminal, unless NO_COLOR is set)"},
    {"width", 'w', KIND_INTEGER, VERB_LS | VERB_ANALYZE, FIELD(width), "COLUMNS",
     "width of tables (default: the terminal's, else $COLUMNS, else 80)"},
    {"quiet", 'q', KIND_FLAG, VERB_ALL, FIELD(quiet), NULL, "no messages but errors"},
    {"verbose", 'v', KIND_COUNTER, VERB_ALL, FIELD(verbose), NULL,
     "more: every skipped tensor, every note, timing"},
    {"help", 'h', KIND_FLAG, VERB_ALL, FIELD(help), NULL, "this text"},
    {"version", 0, KIND_FLAG, VERB_ALL, FIELD(version), NULL, "version"},
};

enum {
	OPTION_ROWS = sizeof option_rows / sizeof *option_rows,
	LONG_BASE = 1000 /* getopt's values of long options start above all letters */
};

static const option_row *row_of_letter(int letter, unsigned verb_bit)
{
	for (size_t i = 0; i < OPTION_ROWS; i++)
		if (option_rows[i].letter == letter && (option_rows[i].verbs & verb_bit))
			return &option_rows[i];
	return NULL;
}

/* ---- nearest match ----------------------------------------------------------------------- */

/* Edit distance with neighbouring letters swapped counted as one (Damerau). */
static size_t distance(const char *a, const char *b)
{
	enum { LIMIT = 40 };
	size_t n = strlen(a), m = strlen(b), d[LIMIT + 1][LIMIT + 1];
	if (n > LIMIT || m > LIMIT)
		return LIMIT;
	for (size_t i = 0; i <= n; i++)
		for (size_t j = 0; j <= m; j++) {
			if (!i || !j) {
				d[i][j] = i + j;
				continue;
			}
			size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
			best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	return d[n][m];
}

const char *nearest(const char *word, const char *const *candidates, size_t count)
{
	const char *best = NULL;
	size_t best_distance = strlen(word) / 3 + 2; /* further off is no likely slip */
	for (size_t i = 0; i < count; i++) {
		size_t d = distance(word, candidates[i]);
		if (d < best_distance) {
			best_distance = d;
			best = candidates[i];
		}
	}
	return best;
}

static int unknown_option(const verb_spec *verb, const char *word, muon_error *err)
{
	const char *names[OPTION_ROWS];
	size_t count = 0;
	char shown[128], name[128];
	for (size_t i = 0; i < OPTION_ROWS; i++)
		if (option_rows[i].verbs & verb->bit)
			names[count++] = option_rows[i].name;
	muon_escape(shown, sizeof shown, word);
	snprintf(name, sizeof name, "%s", word + strspn(word, "-"));
	name[strcspn(name, "=")] = 0;
	const char *near = nearest(name, names, count);
	return near ? muon_fail(err, MUON_E_USAGE, verb->name,
	                        "unknown option '%s'; did you mean '--%s'?", shown, near)
	            : muon_fail(err, MUON_E_USAGE, verb->name,
	                        "unknown option '%s'; see 'muonspec %s --help'", shown, verb->name);
}

/* What getopt_long returned '?' for: optopt is the letter, the value of a long option that was
 * given an argument it doesn't take, or 0 for an unknown word. */
static int refused_option(const verb_spec *verb, const char *word, muon_error *err)
{
	if (optopt >= LONG_BASE)
		return muon_fail(err, MUON_E_USAGE, verb->name, "--%s takes no value",
		                 option_rows[optopt - LONG_BASE].name);
	const char letter[] = {'-', (char)optopt, 0};
	return unknown_option(verb, optopt ? letter : word, err);
}

/* ---- values ------------------------------------------------------------------------------ */

static int bad_value(const option_row *row, const char *value, muon_error *err, const char *wanted)
{
	char shown[128];
	muon_escape(shown, sizeof shown, value);
	return muon_fail(err, MUON_E_USAGE, row->name, "--%s takes %s, not '%s'", row->name, wanted,
	                 shown);
}

static int set_integer(const option_row *row, const char *value, int64_t *field, muon_error *err)
{
	char *end;
	errno = 0;
	long long x = strtoll(value, &end, 10);
	if (errno || end == value || *end || x < 1 || x > 1000000000)
		return bad_value(row, value, err, "a whole number from 1");
	*field = x;
	return MUON_OK;
}

static int set_bytes(const option_row *row, const char *value, int64_t *field, muon_error *err)
{
	static const char units[] = "KMGT";
	char *end;
	errno = 0;
	double x = strtod(value, &end);
	const char *unit = isalpha((unsigned char)*end) ? strchr(units, *end & ~0x20) : NULL;
	if (end == value || errno || (*end && !unit))
		return bad_value(row, value, err, "a size such as 800M or 4G");
	if (unit) {
		for (const char *u = units; u <= unit; u++)
			x *= 1024;
		end++;
		end += !strcmp(end, "iB") ? 2 : !strcmp(end, "B");
	}
	if (*end || !(x >= 1) || x > 9e18)
		return bad_value(row, value, err, "a size such as 800M or 4G");
	*field = (int64_t)x;
	return MUON_OK;
}

static int set_seconds(const option_row *row, const char *value, double *field, muon_error *err)
{
	char *end;
	errno = 0;
	double x = strtod(value, &end);
	if (errno || end == value || *end || !(x > 0) || x > 1e9)
		return bad_value(row, value, err, "a number of seconds above 0");
	*field = x;
	return MUON_OK;
}

static int set_choice(const option_row *row, const char *value, int *field, muon_error *err)
{
	size_t length = strlen(value);
	const char *word = row->argument;
	for (int index = 0; word; index++) {
		size_t n = strcspn(word, "|");
		if (n == length && !memcmp(word, value, n)) {
			*field = index;
			return MUON_OK;
		}
		word = word[n] ? word + n + 1 : NULL;
	}
	char wanted[160];
	snprintf(wanted, sizeof wanted, "one of %s", row->argument);
	return bad_value(row, value, err, wanted);
}

static int add_to_list(text_list *list, const char *value, muon_error *err)
{
	const char **items = muon_resize(list->items, list->count + 1, sizeof *items);
	if (!items)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	items[list->count++] = value;
	list->items = items;
	return MUON_OK;
}

static int set_option(tool_options *options, const option_row *row, const char *value,
                      muon_error *err)
{
	void *field = (char *)options + row->field;
	switch (row->kind) {
	case KIND_FLAG:
		*(bool *)field = true;
		return MUON_OK;
	case KIND_COUNTER:
		++*(int *)field;
		return MUON_OK;
	case KIND_TEXT:
		*(const char **)field = value;
		return MUON_OK;
	case KIND_LIST:
		return add_to_list(field, value, err);
	case KIND_INTEGER:
		return set_integer(row, value, field, err);
	case KIND_BYTES:
		return set_bytes(row, value, field, err);
	case KIND_SECONDS:
		return set_seconds(row, value, field, err);
	case KIND_CHOICE:
		return set_choice(row, value, field, err);
	}
	return MUON_E_INTERNAL;
}

/* ---- parsing ----------------------------------------------------------------------------- */

static int64_t half_of_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	return pages > 0 && size > 0 ? (int64_t)pages / 2 * size : (int64_t)1 << 31;
}

static int check_arguments(const tool_options *options, const verb_spec *verb, muon_error *err)
{
	if (options->help || options->version)
		return MUON_OK;
	if (options->argument_count < verb->min_arguments)
		return muon_fail(err, MUON_E_USAGE, verb->name, "usage: muonspec %s [options] %s",
		                 verb->name, verb->arguments);
	if (options->argument_count > verb->max_arguments) {
		char shown[128];
		muon_escape(shown, sizeof shown, options->arguments[verb->max_arguments]);
		return muon_fail(err, MUON_E_USAGE, verb->name,
		                 "unexpected argument '%s'; usage: muonspec %s [options]%s%s", shown,
		                 verb->name, *verb->arguments ? " " : "", verb->arguments);
	}
	return MUON_OK;
}

int parse_options(tool_options *options, const verb_spec *verb, int argc, char **argv, muon_error *err)
{
	struct option longs[OPTION_ROWS + 1];
	char letters[2 * OPTION_ROWS + 2] = ":";
	size_t count = 0, used = 1;
	for (size_t i = 0; i < OPTION_ROWS; i++) {
		const option_row *row = &option_rows[i];
		bool takes_value = row->kind != KIND_FLAG && row->kind != KIND_COUNTER;
		if (!(row->verbs & verb->bit))
			continue;
		longs[count++] = (struct option){row->name, takes_value, NULL, LONG_BASE + (int)i};
		if (row->letter) {
			letters[used++] = row->letter;
			if (takes_value)
				letters[used++] = ':';
		}
	}
	longs[count] = (struct option){0};
	letters[used] = 0;
	*options = (tool_options){.open_timeout = 20, .max_memory = half_of_memory()};
	opterr = 0;
	optind = 1;
	for (;;) {
		int code, found = getopt_long(argc, argv, letters, longs, NULL);
		if (found == -1)
			break;
		if (found == ':')
			code = muon_fail(err, MUON_E_USAGE, verb->name, "option '%s' needs a value",
			                 argv[optind - 1]);
		else if (found == '?')
			code = refused_option(verb, argv[optind - 1], err);
		else
			code = set_option(options,
			                  found >= LONG_BASE ? &option_rows[found - LONG_BASE]
			                                     : row_of_letter(found, verb->bit),
			                  optarg, err);
		if (code)
			return code;
	}
	options->arguments = argv + optind;
	options->argument_count = argc - optind;
	return check_arguments(options, verb, err);
}

void release_options(tool_options *options)
{
	muon_free(options->include.items);
	muon_free(options->exclude.items);
	*options = (tool_options){0};
}

/* ---- help -------------------------------------------------------------------------------- */

/* The words of the text from column 28 on, in lines of up to 80 columns. */
static void print_wrapped(FILE *to, const char *text)
{
	enum { FROM = 28, WIDTH = 80 };
	size_t column = FROM;
	while (*text) {
		size_t length = strcspn(text, " ");
		if (column > FROM && column + 1 + length > WIDTH) {
			fprintf(to, "\n%*s", FROM, "");
			column = FROM;
		} else if (column > FROM) {
			fputc(' ', to);
			column++;
		}
		fprintf(to, "%.*s", (int)length, text);
		column += length;
		text += length + (text[length] == ' ');
	}
	fputc('\n', to);
}

static void print_option(FILE *to, const option_row *row)
{
	char left[80];
	int used = row->letter ? snprintf(left, sizeof left, "  -%c, ", row->letter)
	                       : snprintf(left, sizeof left, "      ");
	snprintf(left + used, sizeof left - (size_t)used, "--%s%s%s", row->name,
	         row->argument ? " " : "", row->argument ? row->argument : "");
	bool fits = strlen(left) < 28;
	fprintf(to, "%s%s%*s", left, fits ? "" : "\n", fits ? (int)(28 - strlen(left)) : 28, "");
	print_wrapped(to, row->help);
}

void print_help(FILE *to, const verb_spec *verb)
{
	fprintf(to, "usage: muonspec %s [options]%s%s\n\n%s.\n\nOptions:\n", verb->name,
	        *verb->arguments ? " " : "", verb->arguments, verb->summary);
	for (size_t i = 0; i < OPTION_ROWS; i++)
		if (option_rows[i].verbs & verb->bit)
			print_option(to, &option_rows[i]);
	fprintf(to, "\nExit status: 0 done, 2 usage, 3 a file cannot be read or written, 4 numerical\n"
	            "failure, 5 internal error or out of memory.\n");
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
