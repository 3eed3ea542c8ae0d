/* CSV after RFC 4180. */
#ifndef MUONSPEC_TOOL_CSV_OUTPUT_H
#define MUONSPEC_TOOL_CSV_OUTPUT_H

#include <stdint.h>

/* A text cell: escaped and quoted as needed; a leading = + - or @, which spreadsheets take for a
 * formula, gets an apostrophe before it. Empty for NULL. */
void csv_text(const char *text);
void csv_number(double value); /* 17 digits; empty for NaN */
void csv_integer(int64_t value);
void csv_end(void); /* of the line */

#endif
