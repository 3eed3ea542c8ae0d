/* Small figures side by side. */
#include "figures.h"

enum {
	TITLE = 58, LEFT = 70, RIGHT = 16, BAR = 70, BOTTOM = 54, /* margins, pixels */
	PANEL_WIDTH = 230, PANEL_HEIGHT = 150, GAP_X = 58, GAP_Y = 52
};

static int columns_of(int count)
{
	return count < PANEL_COLUMNS ? count : PANEL_COLUMNS;
}

static int rows_of(int count)
{
	int columns = columns_of(count);
	return (count + columns - 1) / columns;
}

int panel_width(int count)
{
	int columns = columns_of(count), wide = count == 1 ? 2 * PANEL_WIDTH : PANEL_WIDTH;
	return LEFT + columns * wide + (columns - 1) * GAP_X + RIGHT + BAR;
}

int panel_height(int count)
{
	int rows = rows_of(count), high = count == 1 ? 2 * PANEL_HEIGHT : PANEL_HEIGHT;
	return TITLE + rows * high + (rows - 1) * GAP_Y + BOTTOM;
}

void panels_begin(panel_grid *grid, figure *f, int count, const char *x, const char *y,
                  bool colorbox)
{
	muon_text *s = &f->script;
	double w = f->width, h = f->height;
	int right = RIGHT + (colorbox ? BAR : 0);
	*grid = (panel_grid){.figure = f, .columns = columns_of(count), .rows = rows_of(count),
	                     .count = count};
	muon_text_format(s,
	                 "set multiplot layout %d,%d margins screen %.4f,%.4f,%.4f,%.4f "
	                 "spacing screen %.4f,%.4f\n",
	                 grid->rows, grid->columns, LEFT / w, 1 - right / w, BOTTOM / h,
	                 1 - TITLE / h, GAP_X / w, GAP_Y / h);
	muon_text_add_string(s, "set label 3 ");
	figure_quote(s, f->title.bytes ? f->title.bytes : "", 90, false);
	muon_text_format(s, " at screen 0.5,%.4f center font ',13'\n", 1 - 16 / h);
	muon_text_format(s, "set label 1 '%s' at screen 0.5,%.4f center\n", x, 14 / h);
	muon_text_format(s, "set label 2 '%s' at screen %.4f,0.5 center rotate\n", y, 14 / w);
	if (colorbox)
		muon_text_format(s,
		                 "set colorbox user origin screen %.4f,0.25 size screen %.4f,0.5 "
		                 "border 1\n",
		                 1 - (BAR - 4) / w, 12 / w);
	else
		muon_text_add_string(s, "unset colorbox\n");
}

void panels_next(panel_grid *grid, const char *title)
{
	muon_text *s = &grid->figure->script;
	if (grid->next == 1) /* what belongs to the whole is drawn with the first */
		muon_text_add_string(s, "unset label\nunset colorbox\nunset key\n");
	grid->next++;
	muon_text_add_string(s, "set title ");
	figure_quote(s, title, 40, false);
	muon_text_add_string(s, " font ',11' offset 0,-0.6\n");
}

void panels_end(panel_grid *grid)
{
	muon_text_add_string(&grid->figure->script, "unset multiplot\n");
}
