/* Pieces of an HTML page that needs nothing but itself. */
#ifndef MUONSPEC_TOOL_PAGE_H
#define MUONSPEC_TOOL_PAGE_H

#include "base/text.h"

/* Foreign text: control characters as escapes, then what HTML would take for markup. */
void page_text(muon_text *page, const char *text);

/* Doctype, policy, style; and the script and the end. `title` is not escaped. */
void page_begin(muon_text *page, const char *title);
void page_end(muon_text *page);

/* A box for what may be wider than the window; the caller closes it with </div>. */
void page_scroll_begin(muon_text *page, const char *label);

/* A table, sortable by each column. A long one is folded away and, so that the page opens fast, made
 * only when asked for: where scripts run, what stands in <noscript> is but text. Without scripts all
 * rows are there. */
void page_table_begin(muon_text *page, const char *caption, const char *const *columns,
                      size_t count, size_t rows);
void page_row(muon_text *page); /* begins one; cells follow */
void page_cell_text(muon_text *page, const char *text); /* NULL: empty */
/* Four digits to read, all seventeen in data-v. */
void page_cell_number(muon_text *page, double value);
void page_table_end(muon_text *page, size_t rows);

/* A gnuplot SVG inside the page: without prolog, titles and clashing ids. `place` tells the figures
 * apart, `label` is its name for those who can't see it. */
void page_svg(muon_text *page, const muon_text *svg, size_t place, const char *label);

#endif
