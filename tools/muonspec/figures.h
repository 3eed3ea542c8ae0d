/* The figures of a subject. */
#ifndef MUONSPEC_TOOL_FIGURES_H
#define MUONSPEC_TOOL_FIGURES_H

#include "figure.h"
#include "subject.h"

/* Spectra by kind of matrix, heat maps of the metrics (registry indices) over layer and kind, and
 * the histogram of entropies against the Gaussian baseline. MUON_E_MEMORY. */
int figures_of_weights(figure_list *list, const subject *s, const size_t *metrics, size_t count,
                       muon_error *err);

/* Of a run, or two: growth with its projection and bf16's limits, entropy by group, update RMS.
 * Nothing for single checkpoints. MUON_E_MEMORY. */
int figures_of_steps(figure_list *list, const subject *s, muon_error *err);

/* What figures over steps share. Steps that go over several powers of ten are shown by their logarithm. */
bool steps_want_log(const double *steps, size_t count);
void put_step_axis(figure *f, const double *steps, size_t count, bool log);
const char *step_word(const subject *s); /* "step", or "checkpoint" where steps are places */
/* Axes of a panel, and a line in a band: columns step, line, low, high of block `block` of the
 * data. */
void put_band_axes(figure *f, double first, double last, bool log, const double range[2]);
void put_band(muon_text *script, const subject *s, int side, int block, bool first);

/* Of a run, or two: activations over steps (recorded.h), where there are any. MUON_E_MEMORY. */
int add_recorded(figure_list *list, const subject *s);

/* All of them, with heat maps of `metrics`, or of the usual ones if there are none. */
int figures_make(figure_list *list, const subject *s, const size_t *metrics, size_t count,
                 muon_error *err);

/* Of a table of trainings (options->arguments[0], a CSV file with the columns compute and
 * held_out_loss or loss, and where they are there optimizer, run and status): loss over compute with
 * a scaling law for each optimizer. MUON_E_OPEN, MUON_E_READ, MUON_E_FORMAT, MUON_E_MEMORY. */
int figures_of_trainings(figure_list *list, const tool_options *options, muon_error *err);

/* The RMS from which on half a bf16 step is `share` of a change of `increment` or more: the least
 * power of two that is. */
double precision_limit(double increment, double share);

/* What both files draw: a grid of panels, `columns` wide at most, each with its title in a script
 * of its own; margins and labels are set here. Returns false when out of memory. */
typedef struct panel_grid {
	figure *figure;
	int columns, rows, count, next;
} panel_grid;
enum { PANEL_COLUMNS = 3, PANEL_ROWS = 3, PANELS = PANEL_COLUMNS * PANEL_ROWS };
int panel_width(int count);  /* of the figure, pixels */
int panel_height(int count);
void panels_begin(panel_grid *grid, figure *f, int count, const char *x, const char *y,
                  bool colorbox);
void panels_next(panel_grid *grid, const char *title);
void panels_end(panel_grid *grid);

#endif
