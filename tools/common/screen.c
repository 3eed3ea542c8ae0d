#include "screen.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int64_t natural_width(void)
{
	struct winsize size;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col > 0)
		return size.ws_col;
	const char *columns = getenv("COLUMNS");
	long width = columns ? strtol(columns, NULL, 10) : 0;
	return width > 0 ? width : 80;
}

int screen_width(int64_t wanted)
{
	enum { LEAST = 20, MOST = 1000 };
	int64_t width = wanted ? wanted : natural_width();
	return width < LEAST ? LEAST : width > MOST ? MOST : (int)width;
}

bool screen_colors(when wanted)
{
	const char *no_color = getenv("NO_COLOR");
	if (wanted != WHEN_AUTO)
		return wanted == WHEN_ALWAYS;
	return isatty(STDOUT_FILENO) && !(no_color && *no_color);
}

int display_width(const char *text)
{
	int width = 0;
	for (; *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

const char *short_number(char *buffer, size_t capacity, double value)
{
	double size = fabs(value);
	if (isnan(value))
		snprintf(buffer, capacity, "-");
	else if (value == floor(value) && size < 1e6)
		snprintf(buffer, capacity, "%.0f", value);
	else if (size >= 1e-3 && size < 1e4)
		snprintf(buffer, capacity, "%.*f", size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2
		         : size >= 1 ? 3 : size >= 0.01 ? 4 : 5, value);
	else
		snprintf(buffer, capacity, "%.2e", value);
	return buffer;
}

const char *grouped_integer(char *buffer, size_t capacity, int64_t value)
{
	char digits[24];
	int count = snprintf(digits, sizeof digits, "%lld", (long long)value);
	size_t used = 0;
	for (int i = 0; i < count && used + 2 < capacity; i++) {
		buffer[used++] = digits[i];
		int left = count - 1 - i;
		if (left > 0 && left % 3 == 0 && digits[i] != '-')
			buffer[used++] = ',';
	}
	buffer[used] = 0;
	return buffer;
}

void table_cell(screen_table *table, const char *text)
{
	if (table->count == table->capacity) {
		size_t capacity = table->capacity ? 2 * table->capacity : 256;
		char **cells = muon_resize(table->cells, capacity, sizeof *cells);
		if (!cells) {
			table->failed = true;
			return;
		}
		table->cells = cells;
		table->capacity = capacity;
	}
	size_t length = strlen(text) + 1;
	char *copy = muon_alloc(length, 1);
	if (copy)
		memcpy(copy, text, length);
	else
		table->failed = true;
	table->cells[table->count++] = copy;
}

/* Byte offset of the display column. */
static size_t offset_of_column(const char *text, int column)
{
	size_t at = 0;
	while (text[at] && column > 0) {
		at++;
		while ((text[at] & 0xc0) == 0x80)
			at++;
		column--;
	}
	return at;
}

/* The text in `room` columns; what is too long loses its middle, as both ends of a tensor's name
 * tell it apart from others, the last more than the first. */
static void print_cell(FILE *to, const char *text, int room, bool left, bool last)
{
	int width = display_width(text);
	if (width <= room) {
		int fill = room - width;
		fprintf(to, "%*s%s%*s", left ? 0 : fill, "", text, left && !last ? fill : 0, "");
		return;
	}
	int head = (room - 1) * 2 / 5, tail = room - 1 - head;
	fprintf(to, "%.*s…%s", (int)offset_of_column(text, head), text,
	        text + offset_of_column(text, width - tail));
}

void table_print(FILE *to, const screen_table *table, int width, bool colors)
{
	enum { MOST_COLUMNS = 128, GAP = 2, LEAST_NAME = 12 };
	int widths[MOST_COLUMNS] = {0}, columns = table->columns, total = 0;
	size_t rows = table->count / (size_t)columns;
	if (table->failed || columns > MOST_COLUMNS)
		return;
	for (size_t i = 0; i < table->count; i++) {
		int w = display_width(table->cells[i]), *column = &widths[i % (size_t)columns];
		*column = w > *column ? w : *column;
	}
	for (int c = 0; c < columns; c++)
		total += widths[c] + (c ? GAP : 0);
	if (total > width) {
		int name = widths[0] - (total - width);
		int least = widths[0] < LEAST_NAME ? widths[0] : LEAST_NAME;
		widths[0] = name > least ? name : least;
	}
	for (size_t r = 0; r < rows; r++) {
		if (colors && !r)
			fputs("\033[1m", to);
		for (int c = 0; c < columns; c++) {
			if (c)
				fprintf(to, "%*s", GAP, "");
			print_cell(to, table->cells[r * (size_t)columns + (size_t)c], widths[c],
			           table->left[c], c == columns - 1);
		}
		if (colors && !r)
			fputs("\033[0m", to);
		fputc('\n', to);
	}
}

void table_release(screen_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		muon_free(table->cells[i]);
	muon_free(table->cells);
	*table = (screen_table){.columns = table->columns, .left = table->left};
}

void print_wrapped(FILE *to, const char *text, int indent, int width)
{
	int column = indent;
	fprintf(to, "%*s", indent, "");
	while (*text) {
		char word[1024];
		size_t length = strcspn(text, " ");
		snprintf(word, sizeof word, "%.*s", (int)length, text);
		int needed = display_width(word);
		if (column > indent && column + 1 + needed > width) {
			fprintf(to, "\n%*s", indent, "");
			column = indent;
		} else if (column > indent) {
			fputc(' ', to);
			column++;
		}
		fputs(word, to);
		column += needed;
		text += length + (text[length] == ' ');
	}
	fputc('\n', to);
}
