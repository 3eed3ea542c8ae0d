/* A CSV file in memory: named columns, rows of text cells. */
#ifndef MUONSPEC_TOOL_COMMON_CSV_TABLE_H
#define MUONSPEC_TOOL_COMMON_CSV_TABLE_H

#include "base/memory.h"

#include <stdbool.h>

/* Zero-initialise. Cells are never NULL; columns come in the order in which they were first
 * named. */
typedef struct csv_table {
	const char **columns;
	size_t column_count;
	const char ***rows; /* each of at least `widths[row]` cells; what is beyond is empty */
	size_t *widths;
	size_t row_count, row_capacity;
	muon_arena memory;
} csv_table;

/* Read a file after RFC 4180; its first line names the columns. A byte order mark and blank lines are
 * skipped. A file that does not exist is an empty table. MUON_E_OPEN, MUON_E_READ, MUON_E_FORMAT with the line, MUON_E_MEMORY. */
int csv_table_read(csv_table *table, const char *path, muon_error *err);
/* Write it under a temporary name and rename. */
int csv_table_write(const csv_table *table, const char *path, muon_error *err);
void csv_table_release(csv_table *table);

/* Index of a column, or column_count. */
size_t csv_table_column(const csv_table *table, const char *name);
/* "" for a column or cell that is not there. */
const char *csv_table_cell(const csv_table *table, size_t row, const char *column);
/* NAN for one that is no number. */
double csv_table_number(const csv_table *table, size_t row, const char *column);

/* A new row; SIZE_MAX when out of memory. */
size_t csv_table_add_row(csv_table *table);
/* Have a column of that name, empty if it is new; false when out of memory. */
bool csv_table_name(csv_table *table, const char *column);
/* Set a cell, with a new column if there is none of that name; false when out of memory. */
bool csv_table_set(csv_table *table, size_t row, const char *column, const char *text);
/* The shortest text that reads back as the number; empty for NaN. */
bool csv_table_set_number(csv_table *table, size_t row, const char *column, double value);
/* Keep only the rows for which keep() says so. */
void csv_table_filter(csv_table *table, bool (*keep)(const csv_table *, size_t row, void *state),
                      void *state);

#endif
