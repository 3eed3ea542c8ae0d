#include "page.h"

#include "common/screen.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

enum { FOLDED = 300 }; /* rows from which on a table is folded */

/* Sorting on a click or on Enter and Space: headers become buttons. Values that are unknown stay at
 * the end. Its hash stands in the policy below; tests/report_page.py says when it is another. */
static const char script[] =
    "document.querySelectorAll('table.sort').forEach(function(t){"
    "t.querySelectorAll('thead th').forEach(function(h,c){"
    "var b=document.createElement('button');b.type='button';b.textContent=h.textContent;"
    "h.textContent='';h.appendChild(b);b.addEventListener('click',function(){"
    "var d=h.getAttribute('aria-sort')==='descending'?1:-1,o=t.tBodies[0],k=[];"
    "if(h.dataset.kind==='text')d=h.getAttribute('aria-sort')==='ascending'?-1:1;"
    "t.querySelectorAll('thead th').forEach(function(x){x.removeAttribute('aria-sort')});"
    "h.setAttribute('aria-sort',d>0?'ascending':'descending');"
    "Array.prototype.forEach.call(o.rows,function(r){var e=r.cells[c],v=e.dataset.v;"
    "k.push([v===undefined?NaN:Number(v),e.textContent,r])});"
    "k.sort(function(x,y){var a=x[0],b=y[0];if(a===a&&b===b)return d*(a-b);"
    "if(a===a||b===b)return a===a?-1:1;"
    "return d*x[1].localeCompare(y[1],'en',{numeric:true})});"
    "var f=document.createDocumentFragment();k.forEach(function(x){f.appendChild(x[2])});"
    "o.appendChild(f)})})});";
#define SCRIPT_HASH "IhpAc3OOQwAtXE8D/bmJeN3+Zjin9H4gg5b4HRXKAho="

static const char style[] =
    ":root{color-scheme:light dark;--fg:#1a1a1a;--bg:#fff;--soft:#f3f4f6;--line:#d0d4da;"
    "--dim:#555d66;--bad:#b3261e;--care:#8a5a00;--link:#0b57a4}"
    "@media(prefers-color-scheme:dark){:root{--fg:#e6e6e6;--bg:#16181b;--soft:#23262b;"
    "--line:#3c4148;--dim:#a9b1ba;--bad:#ff8a80;--care:#ffc266;--link:#8ab8f0}}"
    "*{box-sizing:border-box}"
    "body{margin:0 auto;max-width:72rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;"
    "color:var(--fg);background:var(--bg);overflow-wrap:anywhere}"
    "h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.25rem;margin:2.2rem 0 .6rem;"
    "border-bottom:1px solid var(--line)}a{color:var(--link)}"
    ".dim,figcaption,caption{color:var(--dim)}.risk{color:var(--bad);font-weight:600}"
    ".watch{color:var(--care);font-weight:600}"
    "li{margin:.3rem 0}"
    "figure{margin:1.2rem 0;padding:.6rem;background:var(--soft);border-radius:.4rem}"
    "figcaption{font-size:.9rem}.scroll{overflow-x:auto;max-width:100%}"
    "figure svg{display:block;max-width:100%;height:auto;min-width:34rem;margin:auto}"
    "figure svg>g>rect:first-child{fill:none}"
    /* gnuplot has three ways to write black */
    "figure svg :is([color=black],[color='rgb(  0,   0,   0)'],[color='rgb(0,0,0)'])"
    "{color:var(--fg)}"
    "figure svg :is([fill=black],[fill='rgb(  0,   0,   0)'],[fill='rgb(0,0,0)'])"
    "{fill:var(--fg)}"
    "figure svg :is([stroke=black],[stroke='rgb(  0,   0,   0)'],[stroke='rgb(0,0,0)'])"
    "{stroke:var(--fg)}"
    "@media(prefers-color-scheme:dark){figure svg [stroke='rgb(204, 204, 204)']"
    "{stroke:#4a4f56}}"
    "table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;"
    "margin:.4rem 0}caption{text-align:left;padding:.3rem 0}"
    "th,td{padding:.2rem .5rem;border-bottom:1px solid var(--line);text-align:left;"
    "vertical-align:top;overflow-wrap:normal}td[data-v]{text-align:right;white-space:nowrap}"
    "td:first-child{min-width:12rem;overflow-wrap:anywhere}"
    "thead th{background:var(--soft)}"
    "th button{font:inherit;font-weight:600;color:inherit;background:none;border:0;padding:0;"
    "cursor:pointer;text-align:left}th button:focus-visible{outline:2px solid var(--link)}"
    "th[aria-sort=ascending] button::after{content:' \\25b2'}"
    "th[aria-sort=descending] button::after{content:' \\25bc'}"
    "summary{cursor:pointer;padding:.3rem 0}dt{font-weight:600;margin-top:.5rem}dd{margin:0 0 0 1rem}"
    "@media print{body{max-width:none;font-size:11px}.scroll{overflow:visible}"
    "figure{break-inside:avoid;background:none}figure svg{min-width:0}}";

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
	    "style-src 'unsafe-inline'; script-src 'sha256-" SCRIPT_HASH "'; base-uri 'none'; "
	    "form-action 'none'\">\n"
	    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	    "<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
	page_text(page, title);
	muon_text_add_string(page, "</title>\n<style>");
	muon_text_add_string(page, style);
	muon_text_add_string(page, "</style>\n</head>\n<body>\n<header><h1>");
	page_text(page, title);
	muon_text_add_string(page, "</h1></header>\n<main>\n");
}

void page_end(muon_text *page)
{
	muon_text_add_string(page, "<script>");
	muon_text_add_string(page, script);
	muon_text_add_string(page, "</script>\n</body>\n</html>\n");
}

/* ---- tables ------------------------------------------------------------------------------------ */

void page_table_begin(muon_text *page, const char *caption, const char *const *columns,
                      size_t count, size_t rows)
{
	if (rows > FOLDED) {
		muon_text_add_string(page, "<details><summary>");
		page_text(page, caption);
		muon_text_format(page, " (%zu rows)</summary>", rows);
	}
	muon_text_add_string(page, "<div class=\"scroll\" tabindex=\"0\"><table class=\"sort\"><caption>");
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
	muon_text_add_string(page, "<td>");
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
		muon_text_add_string(page, "</details>\n");
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
