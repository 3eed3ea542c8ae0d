/* Figures: data, a gnuplot script for them, and words. */
#ifndef MUONSPEC_TOOL_FIGURE_H
#define MUONSPEC_TOOL_FIGURE_H

#include "base/text.h"

typedef enum picture_kind { PICTURE_SVG, PICTURE_PNG, PICTURE_PDF } picture_kind;

enum { LONGEST_FIGURE_NAME = 64 };

/* The script refers to its data as the string variable `data`, so that it works on a file as well
 * as on a block inside the script. Names of foreign origin get into scripts only by
 * figure_quote. */
typedef struct figure {
	char name[LONGEST_FIGURE_NAME]; /* of its files, without an ending: ours, never a file's */
	int width, height;              /* pixels */
	muon_text title;                /* one line, not escaped */
	muon_text words;                /* what is to be seen: for those who can't, and the caption */
	muon_text data, script;
} figure;

typedef struct figure_list {
	figure *items;
	size_t count, capacity;
	bool failed; /* out of memory: the rest was not added */
} figure_list;

/* A new figure at the end of the list, to be filled before the next; NULL when out of memory. */
figure *figure_add(figure_list *list, const char *name, int width, int height);
void figure_drop(figure_list *list); /* the last */
void figures_release(figure_list *list);

/* Add `text` to a script as a quoted string, escaped, with no more than `most` characters
 * of it; in tic labels, which gnuplot takes for formats, with `format`. */
void figure_quote(muon_text *script, const char *text, size_t most, bool format);

/* Of Okabe and Ito (2008), which most colour-blind people tell apart: "#rrggbb". */
const char *figure_color(size_t index);

/* Show the title, which is set, above the axes. */
void figure_put_title(figure *f);

/* The least of 1, 2, 5, 10, ... times a power of ten that is `range / most` or more: a distance of
 * tics. */
double figure_tics(double range, int most);

/* Settings that all figures share, without a terminal. */
void figure_begin(figure *f);

/* The whole script: with data inside and no output file, or (`kept`) reading NAME.dat and writing
 * NAME.svg. */
void figure_script(muon_text *script, const figure *f, picture_kind kind, bool kept);

int figure_draw(muon_text *picture, const figure *f, picture_kind kind, muon_error *err);

const char *picture_ending(picture_kind kind); /* "svg" */

#endif
