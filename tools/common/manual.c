#include "program_documents.h"

#include <ctype.h>
#include <string.h>

enum { TERM_INDENT = 2, TEXT_INDENT = 10 };

/* Text in roff, where a line may begin with a dot or an apostrophe and quotes must stay as they
 * are. */
static void print_text(FILE *to, const char *text, size_t length)
{
	if (length && *text == '.')
		fputs("\\&", to);
	for (size_t i = 0; i < length; i++)
		switch (text[i]) {
		case '\\': fputs("\\e", to); break;
		case '-': fputs("\\-", to); break;
		case '\'': fputs("\\(aq", to); break;
		case '`': fputs("\\(ga", to); break;
		case '^': fputs("\\(ha", to); break;
		case '~': fputs("\\(ti", to); break;
		default: fputc(text[i], to);
		}
}

static void print_word(FILE *to, const char *word)
{
	print_text(to, word, strlen(word));
}

/* ---- options ------------------------------------------------------------------------------- */

static void print_option_name(FILE *to, const option_row *row)
{
	if (row->letter)
		fprintf(to, "\\fB\\-%c\\fR, ", row->letter);
	fputs("\\fB\\-\\-", to);
	print_word(to, row->name);
	fputs("\\fR", to);
}

static void print_option(FILE *to, const option_row *row)
{
	fputs(".TP\n", to);
	print_option_name(to, row);
	if (row->argument) {
		fputs(row->kind == OPTION_CHOICE ? " " : " \\fI", to);
		print_word(to, row->argument);
		fputs(row->kind == OPTION_CHOICE ? "" : "\\fR", to);
	}
	fputc('\n', to);
	print_word(to, row->help);
	fputc('\n', to);
}

/* Options of several verbs are described once. */
static bool is_common(const program_tables *tables, const option_row *row)
{
	enum { SEVERAL = 3 };
	size_t verbs = 0;
	for (size_t i = 0; i < tables->count; i++)
		verbs += command_takes(&tables->commands[i], row);
	return verbs >= SEVERAL;
}

static void print_rows(FILE *to, const program_tables *tables, const command *c, unsigned bits,
                       bool common)
{
	for (size_t i = 0; i < c->count; i++)
		if ((c->rows[i].verbs & bits) && is_common(tables, &c->rows[i]) == common)
			print_option(to, &c->rows[i]);
}

static void list_common_options(FILE *to, const program_tables *tables, const command *c)
{
	bool first = true;
	for (size_t i = 0; i < c->count; i++) {
		const option_row *row = &c->rows[i];
		if (!command_takes(c, row) || !is_common(tables, row))
			continue;
		fputs(first ? ".PP\nCommon options:\n" : ",\n", to);
		fputs("\\fB\\-\\-", to);
		print_word(to, row->name);
		fputs("\\fR", to);
		first = false;
	}
	if (!first)
		fputs(".\n", to);
}

/* ---- notes --------------------------------------------------------------------------------- */

/* What the lines of a command's notes are, by where they begin: paragraphs at the margin; entries,
 * terms at column 2 and their text, set off by two spaces or in the next line from column 10 on;
 * else lines that stay as they are. */
typedef enum note_kind {
	NOTE_BLANK,
	NOTE_PARAGRAPH,
	NOTE_TERM,  /* the next line has its text, or is another term of the same */
	NOTE_ENTRY, /* term and text */
	NOTE_TEXT,  /* that goes on */
	NOTE_AS_IS
} note_kind;

static const char *end_of_line(const char *line)
{
	return line + strcspn(line, "\n");
}

static size_t indent_of(const char *line)
{
	return strspn(line, " ");
}

/* Where the spaces between term and text begin, or the line's end. */
static const char *end_of_term(const char *line)
{
	const char *end = end_of_line(line), *c = line + indent_of(line);
	while (c < end && !(c[0] == ' ' && c[1] == ' '))
		c++;
	return c;
}

static note_kind kind_of_line(const char *line, note_kind before)
{
	const char *end = end_of_line(line);
	const bool in_list = before == NOTE_TERM || before == NOTE_ENTRY || before == NOTE_TEXT;
	if (line == end)
		return NOTE_BLANK;
	if (!indent_of(line))
		return NOTE_PARAGRAPH;
	if (in_list && indent_of(line) >= TEXT_INDENT)
		return NOTE_TEXT;
	if (indent_of(line) != TERM_INDENT)
		return NOTE_AS_IS;
	if (end_of_term(line) < end)
		return NOTE_ENTRY;
	const bool text_below = *end && indent_of(end + 1) >= TEXT_INDENT;
	return in_list || text_below ? NOTE_TERM : NOTE_AS_IS;
}

static void print_term(FILE *to, const char *line, note_kind before)
{
	const char *term = line + TERM_INDENT;
	fputs(before == NOTE_TERM ? ".TQ\n\\fB" : ".TP\n\\fB", to);
	print_text(to, term, (size_t)(end_of_term(line) - term));
	fputs("\\fR\n", to);
}

static void print_note(FILE *to, const char *line, note_kind kind, note_kind before)
{
	const char *text = line + indent_of(line);
	if (kind == NOTE_PARAGRAPH && before != NOTE_PARAGRAPH)
		fputs(".PP\n", to);
	if (kind == NOTE_AS_IS && before != NOTE_AS_IS)
		fputs(".in 2n\n.nf\n", to);
	if (kind == NOTE_TERM || kind == NOTE_ENTRY) {
		print_term(to, line, before);
		text = end_of_term(line) + indent_of(end_of_term(line));
	} else if (kind == NOTE_AS_IS) {
		text = line + TERM_INDENT;
	}
	if (text < end_of_line(line)) {
		print_text(to, text, (size_t)(end_of_line(line) - text));
		fputc('\n', to);
	}
}

/* `before` is NOTE_PARAGRAPH right after a heading, else NOTE_BLANK. */
static void print_notes(FILE *to, const char *notes, note_kind before)
{
	for (const char *line = notes; *line; line = end_of_line(line) + (*end_of_line(line) != 0)) {
		const note_kind kind = kind_of_line(line, before);
		if (before == NOTE_AS_IS && kind != NOTE_AS_IS)
			fputs(".fi\n.in\n", to);
		print_note(to, line, kind, before);
		before = kind;
	}
	if (before == NOTE_AS_IS)
		fputs(".fi\n.in\n", to);
}

/* ---- sections ------------------------------------------------------------------------------ */

static void print_only_command(FILE *to, const program_tables *tables)
{
	const command *c = tables->commands;
	fputs(".SH OPTIONS\n", to);
	if (!c->sections)
		print_rows(to, tables, c, c->verb_bit, false);
	for (size_t i = 0; i < c->section_count; i++) {
		fprintf(to, ".SS %s\n", c->sections[i].title);
		print_rows(to, tables, c, c->sections[i].bit, false);
	}
	if (c->notes) {
		fputs(".SH NOTES\n", to);
		print_notes(to, c->notes, NOTE_PARAGRAPH);
	}
}

static void print_verb(FILE *to, const program_tables *tables, const command *c)
{
	fprintf(to, ".SS %s\n\\fB%s %s\\fR [\\fIoptions\\fR] ", c->verb, c->program, c->verb);
	print_word(to, c->arguments);
	fputs("\n.PP\n", to);
	print_word(to, c->summary);
	fputs(".\n", to);
	print_rows(to, tables, c, c->verb_bit, false);
	list_common_options(to, tables, c);
	if (c->notes)
		print_notes(to, c->notes, NOTE_BLANK);
}

void print_manual(FILE *to, const program_tables *tables)
{
	if (!tables->commands->verb) {
		print_only_command(to, tables);
		return;
	}
	unsigned bits = 0;
	fputs(".SH COMMANDS\n", to);
	for (size_t i = 0; i < tables->count; i++) {
		print_verb(to, tables, &tables->commands[i]);
		bits |= tables->commands[i].verb_bit;
	}
	fputs(".SH COMMON OPTIONS\n", to);
	print_rows(to, tables, tables->commands, bits, true);
}
