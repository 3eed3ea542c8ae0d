#include "page.h"
#include "page_assets.h"

#include "common/screen.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

enum {
	FOLDED = 100,       /* rows beyond which a table is folded; as PAGE in page_script */
	PAPER_COLUMNS = 17, /* that fit; page_style leaves out the rest */
	LONG_CELL = 40      /* bytes from which on a text has room to wrap */
};

void page_text(muon_text *page, const char *text)
{
	char *shown = muon_escape_all(text ? text : "");
	if (!shown)
		page->failed = true;
	for (const char *at = shown; at && *at;) {
		size_t plain = strcspn(at, "&<>\"'");
		muon_text_add(page, at, plain);
		at += plain;
		const char *word = *at == '&'   ? "&amp;"
		                   : *at == '<' ? "&lt;"
		                   : *at == '>' ? "&gt;"
		                   : *at == '"' ? "&quot;"
		                                : "&#39;";
		if (*at++)
			muon_text_add_string(page, word);
		else
			break;
	}
	muon_free(shown);
}

void page_begin(muon_text *page, const char *title)
{
	muon_text_add_string(
	    page,
	    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
	    "style-src 'unsafe-inline'; script-src 'sha256-" PAGE_SCRIPT_HASH "'; base-uri 'none'; "
	    "form-action 'none'\">\n"
	    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	    "<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
	page_text(page, title);
	muon_text_add_string(page, "</title>\n<style>");
	muon_text_add_string(page, page_style);
	muon_text_add_string(page, "</style>\n</head>\n<body>\n<header><h1>");
	page_text(page, title);
	muon_text_add_string(page, "</h1></header>\n<main>\n");
}

void page_end(muon_text *page)
{
	muon_text_add_string(page, "<script>");
	muon_text_add_string(page, page_script);
	muon_text_add_string(page, "</script>\n</body>\n</html>\n");
}

/* ---- tables ------------------------------------------------------------------------------------ */

void page_scroll_begin(muon_text *page, const char *label)
{
	muon_text_add_string(page, "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"");
	page_text(page, label);
	muon_text_add_string(page, "\">");
}

void page_table_begin(muon_text *page, const char *caption, const char *const *columns,
                      size_t count, size_t rows)
{
	char number[32];
	if (rows > FOLDED) {
		muon_text_add_string(page, "<details class=\"long\"><summary>");
		page_text(page, caption);
		muon_text_format(page, " (%s rows)</summary><noscript>",
		                 grouped_integer(number, sizeof number, (int64_t)rows));
	}
	if (count > PAPER_COLUMNS)
		muon_text_format(page, "<p class=\"paper\">The first %d of %zu columns; the page on a screen "
		                       "has them all.</p>\n",
		                 PAPER_COLUMNS, count);
	page_scroll_begin(page, caption);
	muon_text_add_string(page, "<table class=\"sort\"><caption>");
	page_text(page, caption);
	muon_text_add_string(page, "</caption>\n<thead><tr>");
	for (size_t i = 0; i < count; i++) {
		muon_text_add_string(page, i ? "<th scope=\"col\">"
		                             : "<th scope=\"col\" data-kind=\"text\">");
		page_text(page, columns[i]);
		muon_text_add_string(page, "</th>");
	}
	muon_text_add_string(page, "</tr></thead>\n<tbody>");
}

void page_row(muon_text *page)
{
	muon_text_add_string(page, "\n<tr>"); /* its end tag may be left out */
}

void page_cell_text(muon_text *page, const char *text)
{
	muon_text_add_string(page, text && strlen(text) > LONG_CELL ? "<td class=\"long\">" : "<td>");
	page_text(page, text);
}

void page_cell_number(muon_text *page, double value)
{
	char text[32];
	if (isfinite(value))
		muon_text_format(page, "<td data-v=\"%.17g\">%s", value,
		                 short_number(text, sizeof text, value));
	else
		muon_text_add_string(page, "<td>");
}

void page_table_end(muon_text *page, size_t rows)
{
	muon_text_add_string(page, "</tbody></table></div>\n");
	if (rows > FOLDED)
		muon_text_add_string(page, "</noscript></details>\n");
}

/* ---- figures ----------------------------------------------------------------------------------- */

static bool starts_with(const char *text, const char *end, const char *word)
{
	size_t length = strlen(word);
	return (size_t)(end - text) >= length && !memcmp(text, word, length);
}

/* Inside a tag: a prefix for what is an id, or refers to one. */
static size_t add_id(muon_text *page, const char *at, const char *end, size_t place)
{
	static const char *const openings[] = {"id='", "id=\"", "href='#", "href=\"#", "url(#"};
	for (size_t i = 0; i < sizeof openings / sizeof *openings; i++)
		if (starts_with(at, end, openings[i])) {
			muon_text_format(page, "%sf%zu-", openings[i], place);
			return strlen(openings[i]);
		}
	return 0;
}

/* Behind the title that begins at `at`, or `at`. */
static const char *skip_title(const char *at, const char *end)
{
	static const char closing[] = "</title>";
	if (!starts_with(at, end, "<title>"))
		return at;
	while (at < end && !starts_with(at, end, closing))
		at++;
	return at < end ? at + sizeof closing - 1 : end;
}

void page_svg(muon_text *page, const muon_text *svg, size_t place, const char *label)
{
	const char *at = svg->bytes ? strstr(svg->bytes, "<svg") : NULL;
	const char *end = svg->bytes + svg->length, *run;
	bool tag = false;
	if (!at)
		return;
	muon_text_add_string(page, "<svg role=\"img\" aria-label=\"");
	page_text(page, label);
	muon_text_add_string(page, "\"");
	tag = true;
	for (run = at += strlen("<svg"); at < end; at++) {
		const char *next = tag ? at : skip_title(at, end);
		size_t id = 0;
		if (next == at && tag && (*at == 'i' || *at == 'h' || *at == 'u')) {
			muon_text_add(page, run, (size_t)(at - run));
			run = at;
			id = add_id(page, at, end, place);
		} else if (next != at) {
			muon_text_add(page, run, (size_t)(at - run));
		}
		if (id || next != at) {
			run = next + id;
			at = run - 1;
			continue;
		}
		tag = *at == '<' || (tag && *at != '>');
	}
	muon_text_add(page, run, (size_t)(end - run));
}
