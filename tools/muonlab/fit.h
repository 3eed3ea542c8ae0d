/* What an experiment shows: the `fits` of a plan, computed from its results alone.
 *
 * Each fit is an object with a "kind", a "stage", and a "name" that its rows carry (default: the
 * kind). Runs that diverged or failed are left out of every mean. Keys by kind:
 *   final         by: [axes], columns: [columns of runs.csv]: mean of each group of runs, t
 *                 interval; for the plot, the columns over the last axis where its labels are
 *                 numbers
 *   difference    axis, a, b, columns: a minus b over pairs of runs that agree on all other axes:
 *                 mean, t interval, how often a is larger, sign test
 *   equal         by, column: do all runs of a group agree in the column ("digest")?
 *   scaling_law   axis, a, b, column, compute (default "compute"): L = a C^b for each of the two
 *                 labels; at each compute of b's runs, the compute with which a has the same loss
 *   curve         by, columns: columns of curves.csv over steps, for the plot
 *   spectra       by, metrics, groups (default: all): mean metric of a group's matrices over steps,
 *                 for the plot, and its last value
 *   growth        by, metrics, groups, from (default 0.1): exponent p of metric ~ step^p over the
 *                 steps from that share of the run on
 *   share_higher  by, axis, a, b, metric, groups (default: all): share of the matrices whose metric
 *                 is higher in a's run than in b's, over pairs of runs; of all these groups and of
 *                 each, by step for the plot, and at the last step with sign test and median
 *                 difference
 *
 * Results are rows of fit.csv (fit, item, quantity, value, low, high, count), and blocks of
 * figures.dat that plot.gp reads: a comment line with the block's name, then x, mean, least,
 * most. */
#ifndef MUONLAB_FIT_H
#define MUONLAB_FIT_H

#include "store.h"

#include "base/statistics.h"
#include "base/text.h"

typedef struct fit_context {
	const lab_plan *plan;
	const lab_grid *grid;
	const lab_store *store;
	double level;
	csv_table rows;
	muon_text figures;
	muon_arena memory;
	/* of the fit under way */
	const json_t *fit;
	const char *name;
	const lab_stage *stage;
	muon_error *err;
} fit_context;

/* Each kind's function; MUON_E_USAGE for keys that make no sense. */
int fit_final(fit_context *c);
int fit_difference(fit_context *c);
int fit_equal(fit_context *c);
int fit_scaling_law(fit_context *c);
int fit_curve(fit_context *c);
int fit_spectra(fit_context *c);
int fit_growth(fit_context *c);
int fit_share_higher(fit_context *c);

/* ---- for them ---------------------------------------------------------------------------- */

int fit_wrong(fit_context *c, const char *what);
int fit_no_memory(fit_context *c);

/* A key's string, or `otherwise`; NULL with the error recorded if it must be there. */
const char *fit_text(fit_context *c, const char *key, const char *otherwise);
/* A key's list of strings; *count 0 if there is none. NULL when out of memory or not strings. */
const char **fit_list(fit_context *c, const char *key, size_t *count);

/* Runs of the stage that are done and have not diverged. */
bool fit_counts(const fit_context *c, const lab_run *run);
/* "muon", "muon/seed-1": the run's labels on the axes `by`. NULL when out of memory. */
const char *fit_item(fit_context *c, const lab_run *run, const char *const *by, size_t count);
/* The label on the axis, or NULL. */
const char *fit_label(const lab_run *run, const char *axis);
/* The items of all runs that count, each once, in the plan's order. */
const char **fit_items(fit_context *c, const char *const *by, size_t by_count, size_t *count);
/* The run of label `b` on `axis` that agrees with `run` in all other axes, if it counts. */
const lab_run *fit_partner(const fit_context *c, const lab_run *run, const char *axis,
                           const char *b);

/* Check that every name is an axis of the stage. */
int fit_check_axes(fit_context *c, const char *const *names, size_t count);

/* Add a row to the results; false when out of memory. */
bool fit_add(fit_context *c, const char *item, const char *quantity, muon_interval value,
             size_t count);
muon_interval fit_plain(double value); /* without an interval */

/* Values that accumulate under x, for a curve: sort, then one line an x. */
typedef struct fit_points {
	struct fit_point {
		double x, y;
	} *items;
	size_t count, capacity;
	bool failed;
} fit_points;
void fit_point_add(fit_points *points, double x, double y); /* NaN: left out */
/* Write them as a block: x, mean, least, most. */
void fit_block(fit_context *c, fit_points *points, const char *format, ...) MUON_PRINTF(3, 4);
void fit_points_release(fit_points *points);

#endif
