#include "program_documents.h"

#include <string.h>

/* Text within a specification of _arguments, which is in single quotes. */
static void print_spec_text(FILE *to, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (text[i] == '\'')
			fputs("'\\''", to);
		else
			fprintf(to, strchr("[]:\\", text[i]) ? "\\%c" : "%c", text[i]);
}

/* The first clause says enough beside an option. */
static size_t first_clause(const char *help)
{
	const char *bracket = strstr(help, " (");
	size_t length = strcspn(help, ";");
	if (bracket && (size_t)(bracket - help) < length)
		length = (size_t)(bracket - help);
	return length;
}

static void print_value(FILE *to, const program_tables *tables, const option_row *row)
{
	value_kind kind = option_value_kind(tables, row);
	fputc(':', to);
	print_spec_text(to, row->kind == OPTION_CHOICE ? row->name : row->argument,
	                strlen(row->kind == OPTION_CHOICE ? row->name : row->argument));
	fputc(':', to);
	switch (kind) {
	case VALUE_FILE: fputs("_files", to); break;
	case VALUE_FOLDER: fputs("_files -/", to); break;
	case VALUE_WORDS:
		fprintf(to, "_values -s , %s ", row->name);
		print_value_words(to, tables, row);
		break;
	case VALUE_WORD:
		fputc('(', to);
		print_value_words(to, tables, row);
		fputc(')', to);
		break;
	case VALUE_OTHER: fputc(' ', to); break;
	}
}

static void print_option_spec(FILE *to, const program_tables *tables, const option_row *row)
{
	bool again = row->kind == OPTION_LIST || row->kind == OPTION_COUNTER;
	bool value = option_has_value(row);
	if (again)
		fputs("		'*'", to);
	else if (row->letter)
		fprintf(to, "		'(-%c --%s)'", row->letter, row->name);
	else
		fputs("		", to);
	if (row->letter)
		fprintf(to, "{-%c%s,--%s%s}", row->letter, value ? "+" : "", row->name,
		        value ? "=" : "");
	else
		fprintf(to, "--%s%s", row->name, value ? "=" : "");
	fputs("'[", to);
	print_spec_text(to, row->help, first_clause(row->help));
	fputc(']', to);
	if (value)
		print_value(to, tables, row);
	fputs("' \\\n", to);
}

/* _arguments of a command; the words begin with its own name. */
static void print_command_arguments(FILE *to, const program_tables *tables, const command *c)
{
	fputs("	_arguments -s -S \\\n", to);
	for (size_t i = 0; i < c->count; i++)
		if (command_takes(c, &c->rows[i]))
			print_option_spec(to, tables, &c->rows[i]);
	switch (argument_value_kind(c)) {
	case VALUE_FILE: fputs("		'*:file:_files'\n", to); break;
	case VALUE_FOLDER: fputs("		'*:folder:_files -/'\n", to); break;
	default: fputs("		'*: : '\n", to);
	}
}

static void print_verbs(FILE *to, const program_tables *tables)
{
	fputs("local -a verbs\nverbs=(\n", to);
	for (size_t i = 0; i < tables->count; i++) {
		const command *c = &tables->commands[i];
		fprintf(to, "	'%s:", c->verb);
		print_spec_text(to, c->summary, strlen(c->summary));
		fputs("'\n", to);
	}
	fputs(")\n"
	      "if (( CURRENT == 2 )); then\n"
	      "	_describe -t verbs verb verbs\n"
	      "	return\n"
	      "fi\n"
	      "shift words\n"
	      "(( CURRENT-- ))\n"
	      "case $words[1] in\n",
	      to);
	for (size_t i = 0; i < tables->count; i++) {
		fprintf(to, "%s)\n", tables->commands[i].verb);
		print_command_arguments(to, tables, &tables->commands[i]);
		fputs("	;;\n", to);
	}
	fputs("esac\n", to);
}

void print_zsh_completion(FILE *to, const program_tables *tables)
{
	fprintf(to, "#compdef %s\n# zsh completion of %s's command line\n", tables->program,
	        tables->program);
	if (tables->commands->verb)
		print_verbs(to, tables);
	else
		print_command_arguments(to, tables, tables->commands);
}
