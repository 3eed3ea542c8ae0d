#include "figures.h"
#include "gnuplot.h"
#include "metric_list.h"
#include "report_parts.h"
#include "verbs.h"
#include "written.h"

#include "common/messages.h"
#include "common/output_file.h"

#include "base/memory.h"
#include "base/output.h"

/* ---- figures ---------------------------------------------------------------------------------------- */

static int add_figure(muon_text *page, const figure *f, size_t place, muon_error *err)
{
	muon_text picture = {0};
	int code = figure_draw(&picture, f, PICTURE_SVG, err);
	if (!code) {
		muon_text_format(page, "<figure id=\"%s\">", f->name);
		page_scroll_begin(page, f->title.bytes);
		page_svg(page, &picture, place, f->title.bytes);
		muon_text_add_string(page, "</div><figcaption><b>");
		page_text(page, f->title.bytes);
		muon_text_add_string(page, ".</b> ");
		page_text(page, f->words.bytes);
		muon_text_add_string(page, "</figcaption></figure>\n");
	}
	muon_text_release(&picture);
	return code;
}

static int add_figures(muon_text *page, const subject *s, const size_t *metrics, size_t count,
                       muon_error *err)
{
	figure_list list = {0};
	muon_error why = {0};
	muon_text_add_string(page, "<section id=\"figures\"><h2>Figures</h2>\n");
	if (gnuplot_check(&why)) {
		fprintf(messages(), "muonspec report: no figures: %s\n", why.message);
		muon_text_add_string(page, "<p>There are no figures: ");
		page_text(page, why.message);
		muon_text_add_string(page, ". The numbers are in the tables.</p></section>\n");
		return MUON_OK;
	}
	int code = figures_make(&list, s, metrics, count, err);
	for (size_t i = 0; i < list.count && !code; i++)
		code = add_figure(page, &list.items[i], i, err);
	figures_release(&list);
	muon_text_add_string(page, "</section>\n");
	return code;
}

/* ---- the page ---------------------------------------------------------------------------------------- */

static void add_title(muon_text *title, const subject *s)
{
	if (s->kind == SUBJECT_COMPARISON)
		muon_text_format(title, "%s and %s", s->sides[0].label, s->sides[1].label);
	else
		muon_text_add_string(title, s->options->arguments[0]);
	muon_text_add_string(title, ": muonspec report");
}

static int fill_page(muon_text *page, const subject *s, const size_t *metrics, size_t count,
                     muon_error *err)
{
	muon_text title = {0};
	add_title(&title, s);
	page_begin(page, title.bytes);
	page->failed |= title.failed;
	muon_text_release(&title);
	report_findings(page, s);
	int code = add_figures(page, s, metrics, count, err);
	if (code)
		return code;
	report_tables(page, s);
	report_glossary(page, s);
	muon_text_add_string(page, "</main>\n");
	report_provenance(page, s);
	page_end(page);
	return page->failed ? muon_fail(err, MUON_E_MEMORY, NULL, "out of memory") : MUON_OK;
}

/* Would the page overwrite a file that it is about? */
static bool is_input(const subject *s, const char *path)
{
	for (int side = 0; side < s->side_count; side++) {
		const mspec_run *run = subject_run(s, side);
		if (mspec_uses_file(s->sides[side].checkpoint, path))
			return true;
		for (size_t i = 0; run && i < run->count; i++)
			if (output_file_same(run->checkpoints[i].path, path))
				return true;
		for (size_t i = 0; run && i < run->set_aside_count; i++)
			if (output_file_same(run->set_aside[i].path, path))
				return true;
	}
	return false;
}

static int report_to(const char *temporary, const tool_options *options, const size_t *metrics,
                     size_t count, muon_error *err)
{
	subject s;
	muon_text page = {0};
	int code = subject_load(&s, options, true, "report", err);
	if (!code && is_input(&s, options->output))
		code = muon_fail(err, MUON_E_USAGE, options->output,
		                 "is a file to read; name another");
	if (!code)
		code = fill_page(&page, &s, metrics, count, err);
	if (!code)
		code = write_bytes(temporary, &page, err);
	if (!code)
		code = muon_output_commit(temporary, options->output, err);
	muon_text_release(&page);
	subject_release(&s);
	return code;
}

int run_report(const tool_options *options, muon_error *err)
{
	char *temporary = NULL;
	size_t *metrics = NULL, count = 0;
	if (!options->output)
		return muon_fail(err, MUON_E_USAGE, NULL, "-o FILE is needed: where the page goes");
	int code = options->metrics ? metric_list(options->metrics, &metrics, &count, err) : MUON_OK;
	if (!code)
		code = claim_output(&temporary, options, NULL, err);
	if (!code)
		code = report_to(temporary, options, metrics, count, err);
	if (code && temporary)
		muon_output_discard(temporary, options->output);
	muon_free(temporary);
	muon_free(metrics);
	return code;
}
