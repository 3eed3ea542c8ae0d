/* The runs of a plan: each stage's grid written out, in the plan's order. */
#ifndef MUONLAB_GRID_H
#define MUONLAB_GRID_H

#include "common/csv_table.h"
#include "plan.h"

typedef enum lab_state {
	LAB_WAITING, /* for a place, or for runs that it refers to */
	LAB_RUNNING,
	LAB_DONE,
	LAB_FAILED,
	LAB_BLOCKED  /* a run that it needs has failed */
} lab_state;

typedef struct lab_run {
	const lab_stage *stage;
	const char **labels;  /* one an axis */
	const char *name;     /* "main/muon-1", also its folder under the runs' */
	lab_options options;  /* of muontrain, and `ranks` */
	lab_state state;
	bool resolved;
	const char *settings; /* once resolved: all that decides its result, in one line */
	const struct lab_run *start; /* once resolved: begins with this run's weights; or NULL */
	bool diverged;        /* done, with no loss to show */
	bool again;           /* to be done again: its checkpoint is needed, and gone */
	size_t row;           /* in the results, once done */
} lab_run;

typedef struct lab_grid {
	lab_plan *plan; /* owns the memory */
	lab_run *runs;
	size_t count;
} lab_grid;

/* MUON_E_USAGE for two runs of one name or more runs than sense, MUON_E_MEMORY. Release with
 * muon_free(grid->runs). */
int lab_grid_make(lab_grid *grid, lab_plan *plan, muon_error *err);

/* Settle what a run takes from others: true if all of them are done. `results` holds their rows.
 * A run that can never be resolved becomes LAB_BLOCKED. */
bool lab_run_resolve(lab_grid *grid, lab_run *run, const csv_table *results, muon_error *err);

/* Is `run` one that `other` refers to? */
bool lab_run_needed(const lab_run *run, const lab_run *other);

/* The option's value, or NULL. */
const char *lab_run_option(const lab_run *run, const char *name);
/* As a number; `otherwise` if there is none. */
double lab_run_number(const lab_run *run, const char *name, double otherwise);

#endif
