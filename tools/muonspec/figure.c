#include "figure.h"

#include "gnuplot.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

figure *figure_add(figure_list *list, const char *name, int width, int height)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? 2 * list->capacity : 8;
		figure *items = list->failed ? NULL : muon_resize(list->items, capacity, sizeof *items);
		if (!items) {
			list->failed = true;
			return NULL;
		}
		list->items = items;
		list->capacity = capacity;
	}
	figure *f = &list->items[list->count++];
	*f = (figure){.width = width, .height = height};
	snprintf(f->name, sizeof f->name, "%s", name);
	figure_begin(f);
	return f;
}

void figure_drop(figure_list *list)
{
	figure *f = &list->items[--list->count];
	muon_text_release(&f->title);
	muon_text_release(&f->words);
	muon_text_release(&f->data);
	muon_text_release(&f->script);
}

void figures_release(figure_list *list)
{
	while (list->count)
		figure_drop(list);
	muon_free(list->items);
	*list = (figure_list){0};
}

/* ---- pieces of scripts ------------------------------------------------------------------------ */

/* Bytes of the first `most` characters of UTF-8. */
static size_t first_characters(const char *text, size_t most)
{
	size_t i = 0;
	while (text[i]) {
		bool starts = ((unsigned char)text[i] & 0xc0) != 0x80;
		if (starts && !most--)
			break;
		i++;
	}
	return i;
}

/* In single quotes gnuplot knows no escapes, no commands and no variables, but a quote at the start of
 * such a string confuses it. What holds quotes, or signs that mean something elsewhere, goes into
 * double quotes, with those as octal numbers, so that no scanner can see them. Line ends are gone by
 * muon_escape. */
void figure_quote(muon_text *script, const char *text, size_t most, bool format)
{
	static const char odd[] = "'\"\\`$@!#";
	char *shown = muon_escape_all(text);
	if (!shown) {
		script->failed = true;
		return;
	}
	size_t length = first_characters(shown, most);
	const char *quote = strcspn(shown, odd) < length ? "\"" : "'";
	muon_text_add_string(script, quote);
	for (size_t i = 0; i < length; i++) {
		if (strchr(odd, shown[i])) {
			muon_text_format(script, "\\%03o", (unsigned)shown[i]);
			continue;
		}
		if (format && shown[i] == '%')
			muon_text_add_string(script, "%");
		muon_text_add(script, shown + i, 1);
	}
	muon_text_add_string(script, shown[length] ? "\xe2\x80\xa6" : "");
	muon_text_add_string(script, quote);
	muon_free(shown);
}

const char *figure_color(size_t index)
{
	static const char *const colors[] = {"#0072b2", "#d55e00", "#009e73", "#e69f00",
	                                     "#56b4e9", "#cc79a7", "#7f7f7f"};
	return colors[index % (sizeof colors / sizeof *colors)];
}

void figure_begin(figure *f)
{
	muon_text_add_string(&f->script,
	                     "set style line 1 lc rgb '#888888' lw 1\n"
	                     "set border 3 ls 1\n"
	                     "set tics nomirror textcolor rgb 'black'\n"
	                     "set grid lc rgb '#cccccc' lw 0.5 dt solid\n"
	                     "set key noenhanced samplen 1.5 spacing 1.1\n");
}

void figure_put_title(figure *f)
{
	muon_text_add_string(&f->script, "set title ");
	figure_quote(&f->script, f->title.bytes ? f->title.bytes : "", 90, false);
	muon_text_add_string(&f->script, " font ',13'\n");
}

double figure_tics(double range, int most)
{
	double least = range / most, power = pow(10, floor(log10(least)));
	if (!(range > 0))
		return 1;
	for (int i = 0; i < 3; i++) {
		static const double steps[] = {1, 2, 5};
		if (steps[i] * power >= least * (1 - 1e-9))
			return steps[i] * power;
	}
	return 10 * power;
}

/* ---- the whole --------------------------------------------------------------------------------- */

const char *picture_ending(picture_kind kind)
{
	static const char *const endings[] = {"svg", "png", "pdf"};
	return endings[kind];
}

static void add_terminal(muon_text *script, const figure *f, picture_kind kind)
{
	const int scale = 2; /* pixels of PNG, for sharp text */
	if (kind == PICTURE_SVG)
		muon_text_format(script,
		                 "set terminal svg noenhanced size %d,%d font 'sans-serif,12' "
		                 "background 'white'\n",
		                 f->width, f->height);
	else if (kind == PICTURE_PNG)
		muon_text_format(script,
		                 "set terminal pngcairo noenhanced size %d,%d fontscale %d "
		                 "linewidth %d font 'sans,10' background 'white'\n",
		                 scale * f->width, scale * f->height, scale, scale);
	else
		muon_text_format(script,
		                 "set terminal pdfcairo noenhanced size %gin,%gin font 'sans,9'\n",
		                 f->width / 96.0, f->height / 96.0);
}

void figure_script(muon_text *script, const figure *f, picture_kind kind, bool kept)
{
	if (kept)
		muon_text_format(script, "# Draws %s.%s from %s.dat: gnuplot %s.gp\n", f->name,
		                 picture_ending(kind), f->name, f->name);
	muon_text_add_string(script, "set encoding utf8\n");
	add_terminal(script, f, kind);
	if (kept) {
		muon_text_format(script, "set output '%s.%s'\ndata = '%s.dat'\n", f->name,
		                 picture_ending(kind), f->name);
	} else {
		muon_text_add_string(script, "$figure << end_of_data\n");
		muon_text_add(script, f->data.bytes ? f->data.bytes : "", f->data.length);
		muon_text_add_string(script, "end_of_data\ndata = '$figure'\n");
	}
	muon_text_add(script, f->script.bytes ? f->script.bytes : "", f->script.length);
	script->failed |= f->script.failed || f->data.failed || f->title.failed || f->words.failed;
}

int figure_draw(muon_text *picture, const figure *f, picture_kind kind, muon_error *err)
{
	muon_text script = {0};
	figure_script(&script, f, kind, false);
	int code = script.failed ? muon_fail(err, MUON_E_MEMORY, NULL, "out of memory")
	                         : gnuplot_draw(picture, &script, err);
	muon_text_release(&script);
	return code;
}
