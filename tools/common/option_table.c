#include "option_table.h"

#include "nearest.h"

#include "base/memory.h"
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum {
	MOST_ROWS = 128,
	LONG_BASE = 1000 /* getopt's values of long options start above all letters */
};

static const char *name_of(const command *c)
{
	return c->verb ? c->verb : c->program;
}

bool command_takes(const command *c, const option_row *row)
{
	return (row->verbs & c->verb_bit) != 0;
}

bool option_has_value(const option_row *row)
{
	return row->kind != OPTION_FLAG && row->kind != OPTION_COUNTER;
}

static const option_row *row_of_letter(const command *c, int letter)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->rows[i].letter == letter && command_takes(c, &c->rows[i]))
			return &c->rows[i];
	return NULL;
}

static int unknown_option(const command *c, const char *word, muon_error *err)
{
	const char *names[MOST_ROWS];
	size_t count = 0;
	char shown[128], name[128];
	for (size_t i = 0; i < c->count; i++)
		if (command_takes(c, &c->rows[i]))
			names[count++] = c->rows[i].name;
	muon_escape(shown, sizeof shown, word);
	snprintf(name, sizeof name, "%s", word + strspn(word, "-"));
	name[strcspn(name, "=")] = 0;
	const char *near = nearest(name, names, count);
	return near ? muon_fail(err, MUON_E_USAGE, name_of(c),
	                        "unknown option '%s'; did you mean '--%s'?", shown, near)
	            : muon_fail(err, MUON_E_USAGE, name_of(c),
	                        "unknown option '%s'; see '%s%s%s --help'", shown, c->program,
	                        c->verb ? " " : "", c->verb ? c->verb : "");
}

/* What getopt_long returned '?' for: optopt is the letter, the value of a long option that was
 * given an argument it doesn't take, or 0 for an unknown word. */
static int refused_option(const command *c, const char *word, muon_error *err)
{
	if (optopt >= LONG_BASE)
		return muon_fail(err, MUON_E_USAGE, name_of(c), "--%s takes no value",
		                 c->rows[optopt - LONG_BASE].name);
	const char letter[] = {'-', (char)optopt, 0};
	return unknown_option(c, optopt ? letter : word, err);
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
	int64_t least = row->kind == OPTION_INTEGER;
	char *end;
	errno = 0;
	long long x = strtoll(value, &end, 10);
	if (errno || end == value || *end || x < least || x > 1000000000)
		return bad_value(row, value, err,
		                 least ? "a whole number from 1" : "a whole number from 0");
	*field = x;
	return MUON_OK;
}

static int set_number(const option_row *row, const char *value, double *field, muon_error *err)
{
	double most = row->kind == OPTION_SHARE ? 1 : DBL_MAX;
	char *end;
	errno = 0;
	double x = strtod(value, &end);
	if (errno || end == value || *end || !(x >= 0 && x <= most))
		return bad_value(row, value, err,
		                 most == 1 ? "a number from 0 to 1" : "a number from 0");
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

static int set_option(void *options, const option_row *row, const char *value,
                      muon_error *err)
{
	void *field = (char *)options + row->field;
	switch (row->kind) {
	case OPTION_FLAG:
		*(bool *)field = true;
		return MUON_OK;
	case OPTION_COUNTER:
		++*(int *)field;
		return MUON_OK;
	case OPTION_TEXT:
		*(const char **)field = value;
		return MUON_OK;
	case OPTION_LIST:
		return add_to_list(field, value, err);
	case OPTION_INTEGER:
	case OPTION_WHOLE:
		return set_integer(row, value, field, err);
	case OPTION_NUMBER:
	case OPTION_SHARE:
		return set_number(row, value, field, err);
	case OPTION_BYTES:
		return set_bytes(row, value, field, err);
	case OPTION_SECONDS:
		return set_seconds(row, value, field, err);
	case OPTION_CHOICE:
		return set_choice(row, value, field, err);
	}
	return MUON_E_INTERNAL;
}

/* ---- parsing ----------------------------------------------------------------------------- */

int check_arguments(const command *c, char **arguments, int count, muon_error *err)
{
	char shown[128], usage[256];
	snprintf(usage, sizeof usage, "%s%s%s [options]%s%s", c->program, c->verb ? " " : "",
	         c->verb ? c->verb : "", *c->arguments ? " " : "", c->arguments);
	if (count < c->min_arguments)
		return muon_fail(err, MUON_E_USAGE, name_of(c), "usage: %s", usage);
	if (count > c->max_arguments) {
		muon_escape(shown, sizeof shown, arguments[c->max_arguments]);
		return muon_fail(err, MUON_E_USAGE, name_of(c),
		                 "unexpected argument '%s'; usage: %s", shown, usage);
	}
	return MUON_OK;
}

/* The rows as getopt_long wants them. */
static void list_options(const command *c, struct option *longs, char *letters)
{
	size_t count = 0, used = 0;
	letters[used++] = ':';
	for (size_t i = 0; i < c->count; i++) {
		const option_row *row = &c->rows[i];
		bool takes_value = option_has_value(row);
		if (!command_takes(c, row))
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
}

int parse_command(const command *c, void *options, int argc, char **argv, char ***arguments,
                  int *argument_count, muon_error *err)
{
	struct option longs[MOST_ROWS + 1];
	char letters[2 * MOST_ROWS + 2];
	if (c->count > MOST_ROWS)
		return muon_fail(err, MUON_E_INTERNAL, name_of(c), "too many options");
	list_options(c, longs, letters);
	opterr = 0;
	optind = 1;
	for (;;) {
		int code, found = getopt_long(argc, argv, letters, longs, NULL);
		if (found == -1)
			break;
		if (found == ':')
			code = muon_fail(err, MUON_E_USAGE, name_of(c), "option '%s' needs a value",
			                 argv[optind - 1]);
		else if (found == '?')
			code = refused_option(c, argv[optind - 1], err);
		else
			code = set_option(options,
			                  found >= LONG_BASE ? &c->rows[found - LONG_BASE]
			                                     : row_of_letter(c, found),
			                  optarg, err);
		if (code)
			return code;
	}
	*arguments = argv + optind;
	*argument_count = argc - optind;
	return MUON_OK;
}

/* The word of the choice, into `word`. */
static void choice_word(char *word, size_t capacity, const char *choices, int index)
{
	for (; index > 0; index--)
		choices += strcspn(choices, "|") + 1;
	snprintf(word, capacity, "%.*s", (int)strcspn(choices, "|"), choices);
}

/* As short as it can be to be read back as the same number. */
static void number_text(char *text, size_t capacity, double value)
{
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(text, capacity, "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			return;
	}
}

bool option_word(char *word, size_t capacity, const option_row *row, const void *options)
{
	const void *field = (const char *)options + row->field;
	int used = snprintf(word, capacity, "--%s", row->name);
	char *value = word + used + 1;
	size_t room = capacity - (size_t)used - 1;
	if (row->kind == OPTION_FLAG)
		return *(const bool *)field;
	word[used] = '=';
	switch (row->kind) {
	case OPTION_TEXT:
		snprintf(value, room, "%s", *(const char *const *)field ? *(const char *const *)field : "");
		return *(const char *const *)field != NULL;
	case OPTION_INTEGER:
	case OPTION_WHOLE:
	case OPTION_BYTES:
		snprintf(value, room, "%lld", (long long)*(const int64_t *)field);
		return *(const int64_t *)field >= 0;
	case OPTION_NUMBER:
	case OPTION_SHARE:
	case OPTION_SECONDS:
		number_text(value, room, *(const double *)field);
		return *(const double *)field >= 0;
	case OPTION_CHOICE:
		choice_word(value, room, row->argument, *(const int *)field);
		return true;
	default:
		return false;
	}
}

void release_lists(const command *c, void *options)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->rows[i].kind == OPTION_LIST) {
			text_list *list = (void *)((char *)options + c->rows[i].field);
			muon_free(list->items);
			*list = (text_list){0};
		}
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

static void print_options(FILE *to, const char *title, const command *c, unsigned bit)
{
	fprintf(to, "%s:\n", title);
	for (size_t i = 0; i < c->count; i++)
		if (c->rows[i].verbs & bit)
			print_option(to, &c->rows[i]);
}

void print_command_help(FILE *to, const command *c)
{
	fprintf(to, "usage: %s%s%s [options]%s%s\n", c->program, c->verb ? " " : "",
	        c->verb ? c->verb : "", *c->arguments ? " " : "", c->arguments);
	if (c->more_usage)
		fprintf(to, "       %s\n", c->more_usage);
	fprintf(to, "\n%s.\n", c->summary);
	if (!c->sections) {
		fputc('\n', to);
		print_options(to, "Options", c, c->verb_bit);
	}
	for (size_t i = 0; i < c->section_count; i++) {
		fputc('\n', to);
		print_options(to, c->sections[i].title, c, c->sections[i].bit);
	}
	if (c->notes)
		fprintf(to, "\n%s", c->notes);
}
