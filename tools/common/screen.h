/* What the terminal is like, and tables for it. */
#ifndef MUONSPEC_TOOL_SCREEN_H
#define MUONSPEC_TOOL_SCREEN_H

#include "option_table.h"

/* Columns to use: `wanted` unless 0, else the terminal's, else $COLUMNS, else 80; from 20 to
 * 1000. */
int screen_width(int64_t wanted);
/* Should standard output have colours? */
bool screen_colors(when wanted);

/* Columns that a UTF-8 string takes (one per code point: names are escaped, so no others come). */
int display_width(const char *text);

/* Four significant digits, as short as they can be: 0.9123, 12.35, 3072, 1.2e-05; "-" for NaN. */
const char *short_number(char *buffer, size_t capacity, double value);
/* With thousands separators: 372,480. */
const char *grouped_integer(char *buffer, size_t capacity, int64_t value);

/* The words of the text, in lines of up to `width` columns behind `indent` spaces. */
void print_wrapped(FILE *to, const char *text, int indent, int width);

/* A table: cells are added row by row, then printed with columns aligned. */
typedef struct screen_table {
	int columns;
	const bool *left;  /* per column: aligned left; the rest right */
	char **cells;      /* rows * columns, row 0 is the header */
	size_t count, capacity;
	bool failed;
} screen_table;

void table_cell(screen_table *table, const char *text);
/* Print at most `width` columns: the first column is shortened in its middle to make the rest
 * fit. */
void table_print(FILE *to, const screen_table *table, int width, bool colors);
void table_release(screen_table *table);

#endif
