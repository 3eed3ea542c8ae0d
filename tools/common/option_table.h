/* The command line: a program (or each of its verbs) has one table of options from which parsing
 * and help come. */
#ifndef MUONSPEC_TOOL_OPTION_TABLE_H
#define MUONSPEC_TOOL_OPTION_TABLE_H

#include <muon/error.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What several programs' options are. */
typedef enum output_format { FORMAT_TABLE, FORMAT_JSON, FORMAT_JSONL, FORMAT_CSV } output_format;
typedef enum when { WHEN_AUTO, WHEN_ALWAYS, WHEN_NEVER } when;

typedef struct text_list {
	const char **items;
	size_t count;
} text_list;

/* The kind says what the field is. */
typedef enum option_kind {
	OPTION_FLAG,    /* bool */
	OPTION_COUNTER, /* int: how often it was given */
	OPTION_TEXT,    /* const char *, of argv */
	OPTION_LIST,    /* text_list */
	OPTION_INTEGER, /* int64_t from 1 to 1e9 */
	OPTION_WHOLE,   /* int64_t from 0 to 1e9 */
	OPTION_NUMBER,  /* double from 0 */
	OPTION_SHARE,   /* double from 0 to 1 */
	OPTION_BYTES,   /* int64_t: "800M" */
	OPTION_SECONDS, /* double above 0 */
	OPTION_CHOICE   /* int: index into the words of `argument` */
} option_kind;

typedef struct option_row {
	const char *name;
	char letter; /* 0: none */
	option_kind kind;
	unsigned verbs; /* bits: which verbs take it */
	size_t field;   /* offset in the options' struct */
	const char *argument; /* for choices: the words, separated by '|' */
	const char *help;
} option_row;

/* A part of a help that shows its options under titles; the bit is among option_row.verbs. */
typedef struct option_section {
	const char *title;
	unsigned bit;
} option_section;

/* A command: a program, or one of its verbs. */
typedef struct command {
	const char *program, *verb; /* verb: NULL if the program has none */
	const char *summary;        /* without a full stop */
	const char *arguments;      /* for the usage line */
	const char *more_usage;     /* another usage line, or NULL */
	int min_arguments, max_arguments;
	const option_row *rows;
	size_t count;
	unsigned verb_bit;
	const option_section *sections; /* NULL: all options under "Options" */
	size_t section_count;
	const char *notes; /* lines after the options, in the form that manual.c reads; or NULL */
} command;

/* Fill the options' struct, which holds the defaults, from argv (argv[0] is skipped); what is left
 * are *arguments. Their number is not checked: see check_arguments. MUON_E_USAGE with a message
 * naming the nearest option where one is unknown. Release the lists also after a failure. */
int parse_command(const command *command, void *options, int argc, char **argv, char ***arguments,
                  int *argument_count, muon_error *err);
/* Are there as many arguments as the command takes? MUON_E_USAGE. */
int check_arguments(const command *command, char **arguments, int count, muon_error *err);
/* The option as one word, "--name=value", into `word`, that parse_command makes the same value of;
 * false for what has no value: a flag not given, NULL text, a number below 0. Not for lists. */
bool option_word(char *word, size_t capacity, const option_row *row, const void *options);
void release_lists(const command *command, void *options);

/* Does the command take the option? */
bool command_takes(const command *command, const option_row *row);
bool option_has_value(const option_row *row);

/* The usage line, the summary, the options that the command takes, and its notes. */
void print_command_help(FILE *to, const command *command);

#endif
