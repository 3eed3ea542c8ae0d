#include "csv_table.h"

#include "output_file.h"

#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 28, MOST_COLUMNS = 4096 };

/* Spreadsheets begin UTF-8 with it. */
#define BYTE_ORDER_MARK "\xef\xbb\xbf"

static int no_memory(const char *where, muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, where, "out of memory");
}

void csv_table_release(csv_table *table)
{
	muon_free(table->rows);
	muon_free(table->widths);
	muon_free(table->columns);
	muon_arena_release(&table->memory);
	*table = (csv_table){0};
}

/* ---- cells ------------------------------------------------------------------------------- */

size_t csv_table_column(const csv_table *table, const char *name)
{
	size_t i = 0;
	while (i < table->column_count && strcmp(table->columns[i], name))
		i++;
	return i;
}

const char *csv_table_cell(const csv_table *table, size_t row, const char *column)
{
	size_t at = csv_table_column(table, column);
	return at < table->column_count && at < table->widths[row] ? table->rows[row][at] : "";
}

double csv_table_number(const csv_table *table, size_t row, const char *column)
{
	const char *text = csv_table_cell(table, row, column);
	char *end;
	double value = strtod(text, &end);
	return end != text && !*end ? value : NAN;
}

size_t csv_table_add_row(csv_table *table)
{
	if (table->row_count == table->row_capacity) {
		size_t capacity = table->row_capacity ? 2 * table->row_capacity : 64;
		const char ***rows = muon_resize(table->rows, capacity, sizeof *rows);
		if (!rows)
			return SIZE_MAX;
		table->rows = rows;
		size_t *widths = muon_resize(table->widths, capacity, sizeof *widths);
		if (!widths)
			return SIZE_MAX;
		table->widths = widths;
		table->row_capacity = capacity;
	}
	table->rows[table->row_count] = NULL;
	table->widths[table->row_count] = 0;
	return table->row_count++;
}

static bool add_column(csv_table *table, const char *name)
{
	const char **columns =
	    muon_resize(table->columns, table->column_count + 1, sizeof *columns);
	if (!columns)
		return false;
	table->columns = columns;
	char *copy = muon_arena_string(&table->memory, name);
	if (!copy)
		return false;
	table->columns[table->column_count++] = copy;
	return true;
}

/* Make room for column `at` in a row: no more than twice what the row needs, as a file may name
 * thousands of columns that its rows don't have. */
static bool widen(csv_table *table, size_t row, size_t at)
{
	size_t width = table->widths[row];
	if (at < width)
		return true;
	size_t wanted = 2 * at + 2;
	if (at < table->column_count && wanted > table->column_count)
		wanted = table->column_count;
	const char **cells = muon_arena_alloc(&table->memory, wanted, sizeof *cells);
	if (!cells)
		return false;
	if (width)
		memcpy(cells, table->rows[row], width * sizeof *cells);
	for (size_t i = width; i < wanted; i++)
		cells[i] = "";
	table->rows[row] = cells;
	table->widths[row] = wanted;
	return true;
}

bool csv_table_name(csv_table *table, const char *column)
{
	return csv_table_column(table, column) < table->column_count || add_column(table, column);
}

bool csv_table_set(csv_table *table, size_t row, const char *column, const char *text)
{
	size_t at = csv_table_column(table, column);
	if (at == table->column_count && !add_column(table, column))
		return false;
	char *copy = muon_arena_string(&table->memory, text);
	if (!copy || !widen(table, row, at))
		return false;
	table->rows[row][at] = copy;
	return true;
}

bool csv_table_set_number(csv_table *table, size_t row, const char *column, double value)
{
	char text[40] = "";
	bool whole = value == floor(value) && fabs(value) < 1e15;
	if (whole)
		snprintf(text, sizeof text, "%.0f", value);
	for (int digits = 4; digits <= 17 && !whole && !isnan(value); digits++) {
		snprintf(text, sizeof text, "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	return csv_table_set(table, row, column, text);
}

void csv_table_filter(csv_table *table, bool (*keep)(const csv_table *, size_t row, void *state),
                      void *state)
{
	size_t kept = 0;
	for (size_t i = 0; i < table->row_count; i++)
		if (keep(table, i, state)) {
			table->rows[kept] = table->rows[i];
			table->widths[kept++] = table->widths[i];
		}
	table->row_count = kept;
}

/* ---- reading ----------------------------------------------------------------------------- */

typedef struct parser {
	csv_table *table;
	const char *path;
	char *at; /* NUL at the end */
	size_t line;
	bool header;
	muon_error *err;
} parser;

static int bad_line(const parser *p, const char *what)
{
	return muon_fail(p->err, MUON_E_FORMAT, p->path, "line %zu: %s", p->line, what);
}

/* One cell, decoded in place; *end is the character behind it (',', '\n' or 0). */
static int parse_cell(parser *p, char **cell, char *end)
{
	char *to = p->at;
	*cell = to;
	bool quoted = *p->at == '"';
	p->at += quoted;
	while (*p->at) {
		if (quoted && *p->at == '"') {
			if (*++p->at != '"') {
				quoted = false;
				continue;
			}
		} else if (!quoted && (*p->at == ',' || *p->at == '\n' || *p->at == '\r')) {
			break;
		}
		p->line += *p->at == '\n';
		*to++ = *p->at++;
	}
	if (quoted)
		return bad_line(p, "a quoted cell does not end");
	if (*p->at == '\r')
		p->at++;
	*end = *p->at;
	if (*end && *end != ',' && *end != '\n')
		return bad_line(p, "a carriage return inside a line");
	p->at += *end != 0;
	*to = 0;
	return MUON_OK;
}

static int take_header_cell(parser *p, const char *cell)
{
	if (csv_table_column(p->table, cell) < p->table->column_count)
		return bad_line(p, "two columns have the same name");
	if (p->table->column_count == MOST_COLUMNS)
		return bad_line(p, "too many columns");
	return add_column(p->table, cell) ? MUON_OK : no_memory(p->path, p->err);
}

static int take_cell(parser *p, size_t row, size_t at, const char *cell)
{
	if (at >= p->table->column_count)
		return bad_line(p, "has more cells than the first line");
	const char *copy = muon_arena_string(&p->table->memory, cell);
	if (!copy || !widen(p->table, row, at))
		return no_memory(p->path, p->err);
	p->table->rows[row][at] = copy;
	return MUON_OK;
}

static int parse_line(parser *p)
{
	char *cell, end = ',';
	size_t row = 0, at = 0;
	if (!p->header && (row = csv_table_add_row(p->table)) == SIZE_MAX)
		return no_memory(p->path, p->err);
	while (end == ',') {
		int code = parse_cell(p, &cell, &end);
		if (!code)
			code = p->header ? take_header_cell(p, cell)
			                 : take_cell(p, row, at++, cell);
		if (code)
			return code;
	}
	p->line++;
	return MUON_OK;
}

/* Where there is one column, a blank line is an empty cell. */
static bool skip_blank_line(parser *p)
{
	size_t length = strspn(p->at, "\r");
	if (p->table->column_count == 1 || length > 1 || p->at[length] != '\n')
		return false;
	p->at += length + 1;
	p->line++;
	return true;
}

/* The file's bytes, NUL-terminated; *bytes stays NULL if there is no such file. */
static int load(const char *path, char **bytes, size_t *length, muon_error *err)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		return errno == ENOENT ? MUON_OK
		                       : muon_fail(err, MUON_E_OPEN, path, "%s", strerror(errno));
	size_t capacity = 1 << 16;
	int code = MUON_OK;
	for (;;) {
		char *larger = muon_resize(*bytes, capacity, 1);
		if (!larger) {
			code = no_memory(path, err);
			break;
		}
		*bytes = larger;
		*length += fread(*bytes + *length, 1, capacity - 1 - *length, file);
		if (*length < capacity - 1)
			break;
		capacity *= 2;
		if (capacity > MOST_BYTES) {
			code = muon_fail(err, MUON_E_FORMAT, path, "too large for results");
			break;
		}
	}
	if (!code && ferror(file))
		code = muon_fail(err, MUON_E_READ, path, "%s", strerror(errno));
	fclose(file);
	if (!code)
		(*bytes)[*length] = 0;
	if (!code && memchr(*bytes, 0, *length))
		code = muon_fail(err, MUON_E_FORMAT, path, "is no CSV: it holds a zero byte");
	return code;
}

int csv_table_read(csv_table *table, const char *path, muon_error *err)
{
	char *bytes = NULL;
	size_t length = 0;
	*table = (csv_table){0};
	int code = load(path, &bytes, &length, err);
	parser p = {table, path, bytes, 1, true, err};
	if (!code && bytes && !strncmp(bytes, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)))
		p.at += strlen(BYTE_ORDER_MARK);
	while (!code && bytes && *p.at) {
		if (!skip_blank_line(&p))
			code = parse_line(&p);
		p.header = p.header && !table->column_count;
	}
	muon_free(bytes);
	return code;
}

/* ---- writing ----------------------------------------------------------------------------- */

static void add_cell(muon_text *text, const char *cell, bool last)
{
	bool quoted = strpbrk(cell, ",\"\r\n") != NULL;
	if (quoted)
		muon_text_add(text, "\"", 1);
	for (const char *c = cell; *c; c++) {
		if (*c == '"')
			muon_text_add(text, "\"", 1);
		muon_text_add(text, c, 1);
	}
	if (quoted)
		muon_text_add(text, "\"", 1);
	muon_text_add(text, last ? "\n" : ",", 1);
}

int csv_table_write(const csv_table *table, const char *path, muon_error *err)
{
	muon_text text = {0};
	for (size_t i = 0; i < table->column_count; i++)
		add_cell(&text, table->columns[i], i + 1 == table->column_count);
	for (size_t row = 0; row < table->row_count; row++)
		for (size_t i = 0; i < table->column_count; i++)
			add_cell(&text, i < table->widths[row] ? table->rows[row][i] : "",
			         i + 1 == table->column_count);
	muon_text_add(&text, "", 0);
	int code = text.failed ? no_memory(path, err)
	                       : output_file_write(path, text.bytes, text.length, err);
	muon_text_release(&text);
	return code;
}
