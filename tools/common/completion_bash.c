#include "program_documents.h"

/* The function of program P is _P. Its branches are VERB:OPTION (":OPTION" without verbs), the value
 * of an option, and within the last of them VERB, a verb's options and arguments. */

/* Readline cuts words at "=" unless COMP_WORDBREAKS has none. */
static const char beginning[] =
    "	local cur=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]}\n"
    "	local key='' kind='' words='' before=''\n"
    "	COMPREPLY=()\n"
    "	if [[ $cur == = ]]; then\n"
    "		cur=\n"
    "	elif [[ $option == = && $COMP_CWORD -ge 2 ]]; then\n"
    "		option=${COMP_WORDS[COMP_CWORD - 2]}\n"
    "	elif [[ $cur == --*=* ]]; then\n"
    "		option=${cur%%=*} before=${cur%%=*}= cur=${cur#*=}\n"
    "	fi\n";

/* Where nothing is known, readline's own completion of file names stays off. */
static const char ending[] =
    "	case $kind in\n"
    "	word) mapfile -t COMPREPLY < <(compgen -P \"$before\" -W \"$words\" -- \"$cur\") ;;\n"
    "	words)\n"
    "		[[ $cur != *,* ]] || before+=${cur%,*},\n"
    "		mapfile -t COMPREPLY < <(compgen -P \"$before\" -W \"$words\" -- \"${cur##*,}\")\n"
    "		compopt -o nospace 2>/dev/null ;;\n"
    "	file | folder)\n"
    "		mapfile -t COMPREPLY < <(compgen -P \"$before\" \\\n"
    "			-A \"$([[ $kind = file ]] && echo file || echo directory)\" -- \"$cur\")\n"
    "		compopt -o filenames 2>/dev/null ;;\n"
    "	*) compopt +o default 2>/dev/null ;;\n"
    "	esac\n"
    "	return 0\n"
    "}\n";

static const char *verb_of(const command *c)
{
	return c->verb ? c->verb : "";
}

/* One branch for the values of an option, under every verb that takes it. */
static void print_value_branch(FILE *to, const program_tables *tables, const option_row *row)
{
	static const char *const kinds[] = {"", "file", "folder", "word", "words"};
	bool first = true;
	for (size_t i = 0; i < tables->count; i++) {
		if (!command_takes(&tables->commands[i], row))
			continue;
		const char *verb = verb_of(&tables->commands[i]);
		fprintf(to, "%s%s:--%s", first ? "	" : " | ", verb, row->name);
		if (row->letter)
			fprintf(to, " | %s:-%c", verb, row->letter);
		first = false;
	}
	if (first)
		return;
	value_kind kind = option_value_kind(tables, row);
	fprintf(to, ")\n		kind=%s", kinds[kind]);
	if (kind >= VALUE_WORD) {
		fputs(" words='", to);
		print_value_words(to, tables, row);
		fputc('\'', to);
	}
	fputs(" ;;\n", to);
}

/* A verb's options where a word begins with a dash, else its arguments. */
static void print_verb_branch(FILE *to, const command *c)
{
	value_kind kind = argument_value_kind(c);
	fprintf(to, "		'%s')\n			kind=%s words='", verb_of(c),
	        kind == VALUE_FILE     ? "file"
	        : kind == VALUE_FOLDER ? "folder"
	                               : "''");
	bool first = true;
	for (size_t i = 0; i < c->count; i++)
		if (command_takes(c, &c->rows[i])) {
			fprintf(to, "%s--%s", first ? "" : " ", c->rows[i].name);
			first = false;
		}
	fputs("' ;;\n", to);
}

static void print_verbs(FILE *to, const program_tables *tables)
{
	fputs("	if [[ $COMP_CWORD -eq 1 ]]; then\n		words='--help --version", to);
	for (size_t i = 0; i < tables->count; i++)
		fprintf(to, " %s", tables->commands[i].verb);
	fputs("'\n		mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	      "		return 0\n	fi\n	key=${COMP_WORDS[1]}\n",
	      to);
}

void print_bash_completion(FILE *to, const program_tables *tables)
{
	const command *first = tables->commands;
	fprintf(to, "# bash completion of %s's command line\n_%s()\n{\n%s", tables->program,
	        tables->program, beginning);
	if (first->verb)
		print_verbs(to, tables);
	fputs("	case $key:$option in\n", to);
	for (size_t i = 0; i < first->count; i++)
		if (option_has_value(&first->rows[i]))
			print_value_branch(to, tables, &first->rows[i]);
	fputs("	*)\n		before=\n		case $key in\n", to);
	for (size_t i = 0; i < tables->count; i++)
		print_verb_branch(to, &tables->commands[i]);
	fputs("		esac\n		[[ $cur != -* ]] || kind=word ;;\n	esac\n", to);
	fprintf(to, "%scomplete -o default -F _%s %s\n", ending, tables->program, tables->program);
}
