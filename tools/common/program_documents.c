#include "program_documents.h"

#include <string.h>

static bool is_one_of(const char *word, const char *const *words)
{
	while (*words && strcmp(*words, word) != 0)
		words++;
	return *words != NULL;
}

/* By the name that the help has for it. */
static value_kind kind_of_argument(const char *argument)
{
	static const char *const files[] = {"FILE", "CKPT", "OTHER", "PROGRAM", NULL};
	static const char *const folders[] = {"DIR", "FOLDER", NULL};
	return is_one_of(argument, files)     ? VALUE_FILE
	       : is_one_of(argument, folders) ? VALUE_FOLDER
	                                      : VALUE_OTHER;
}

value_kind option_value_kind(const program_tables *tables, const option_row *row)
{
	if (row->kind == OPTION_CHOICE)
		return VALUE_WORD;
	if (tables->words && tables->words(row))
		return strcmp(row->argument, "LIST") ? VALUE_WORD : VALUE_WORDS;
	return row->argument ? kind_of_argument(row->argument) : VALUE_OTHER;
}

void print_value_words(FILE *to, const program_tables *tables, const option_row *row)
{
	if (row->kind == OPTION_CHOICE) {
		for (const char *c = row->argument; *c; c++)
			fputc(*c == '|' ? ' ' : *c, to);
		return;
	}
	for (const char *const *word = tables->words(row); *word; word++)
		fprintf(to, "%s%s", *word, word[1] ? " " : "");
}

value_kind argument_value_kind(const command *c)
{
	value_kind kind = kind_of_argument(c->arguments);
	return *c->arguments && kind == VALUE_OTHER ? VALUE_FILE : kind;
}

bool print_document(FILE *to, const program_tables *tables, const char *option)
{
	static const struct {
		const char *option;
		void (*print)(FILE *to, const program_tables *tables);
	} documents[] = {{"--print-manual", print_manual},
	                 {"--print-bash", print_bash_completion},
	                 {"--print-zsh", print_zsh_completion}};
	for (size_t i = 0; i < sizeof documents / sizeof *documents; i++)
		if (!strcmp(option, documents[i].option)) {
			documents[i].print(to, tables);
			return true;
		}
	return false;
}
