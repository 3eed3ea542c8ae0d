/* How a page looks, and what it does. */
#ifndef MUONSPEC_TOOL_PAGE_ASSETS_H
#define MUONSPEC_TOOL_PAGE_ASSETS_H

extern const char page_style[];  /* CSS */
extern const char page_script[]; /* JavaScript: tables are sorted and shown a hundred rows at a time */

/* What the page's policy allows: the script's SHA-256. tests/report_page.py says when it is
 * another. */
#define PAGE_SCRIPT_HASH "blgmt4xfE6UfZ7UuW1wnN3kOMP886lfE0pgQ7j9rMyg="

#endif
