/* CSV after RFC 4180. */
#ifndef MUONSPEC_TOOL_CSV_OUTPUT_H
#define MUONSPEC_TOOL_CSV_OUTPUT_H

#include <muon/error.h>
#include <stdint.h>

/* A text cell: escaped and quoted as needed; a leading = + - or @ (of full width too), which
 * spreadsheets take for a formula, gets an apostrophe before it. Empty for NULL. */
void csv_text(const char *text);
/* All texts, already escaped, in one cell. */
void csv_list(const char *const *texts, size_t count);
void csv_number(double value); /* 17 digits; empty for NaN */
void csv_integer(int64_t value);
/* The end of the line; MUON_E_MEMORY if there was none for one of its cells. */
int csv_end(muon_error *err);

#endif
