/* What a program's tables of options say, in other forms than --help: the commands and options of
 * its manual page, completions for bash and zsh. install.mk asks the programs for them. */
#ifndef MUONSPEC_TOOL_PROGRAM_DOCUMENTS_H
#define MUONSPEC_TOOL_PROGRAM_DOCUMENTS_H

#include "option_table.h"

typedef struct program_tables {
	const char *program;
	const command *commands; /* one for each verb, or the only one, without a verb; they share rows */
	size_t count;
	/* Words that an option's value may be, NULL-terminated, where the table doesn't hold them; NULL
	 * if there are none. An option whose argument is LIST takes several, separated by commas. */
	const char *const *(*words)(const option_row *row);
} program_tables;

/* Print the document that `option` asks for: "--print-manual" (roff, the sections of commands and
 * options), "--print-bash", "--print-zsh". False if it is none of these. */
bool print_document(FILE *to, const program_tables *tables, const char *option);

void print_manual(FILE *to, const program_tables *tables);
void print_bash_completion(FILE *to, const program_tables *tables);
void print_zsh_completion(FILE *to, const program_tables *tables);

/* What a value is, for completion. */
typedef enum value_kind {
	VALUE_OTHER,
	VALUE_FILE, /* also a folder */
	VALUE_FOLDER,
	VALUE_WORD,
	VALUE_WORDS /* separated by commas */
} value_kind;

value_kind option_value_kind(const program_tables *tables, const option_row *row);
/* The words of VALUE_WORD and VALUE_WORDS, with spaces between them. */
void print_value_words(FILE *to, const program_tables *tables, const option_row *row);
value_kind argument_value_kind(const command *command);

#endif
