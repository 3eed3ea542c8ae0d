/* A plan: the trainings of an experiment, as JSON.
 *
 *   {"experiment": "weight-decay",        letters, digits, . _ -
 *    "title": "...",                      one line
 *    "corpora": {"code": {"files": "/usr/lib/python3.11/a*.py", "bytes": 4000000}},
 *    "options": {"model": "llama-tiny"},  muontrain's options, for every run; true: a flag
 *    "scale": {"steps": {"power": 1}, "hidden": {"power": 0.5, "multiple": 32}},
 *    "stages": [
 *      {"name": "tune",
 *       "options": {"steps": 500},        over the plan's
 *       "axes": [{"name": "optimizer", "values": ["adamw", "muon"]},
 *                {"name": "lr", "values": [0.001, 0.003]}]},
 *      {"name": "main",
 *       "axes": [{"name": "optimizer", "values": [
 *                  {"label": "muon", "options": {"optimizer": "muon", "weight-decay": 0.1}}]},
 *                {"name": "seed", "values": [1, 2, 3]}],
 *       "best": {"stage": "tune", "option": "lr", "match": ["optimizer"]},
 *       "spectra": ["rms", "svd_entropy"]}],
 *    "fits": [...]}                       see fit.h
 *
 * A stage is the grid of its axes. A plain value of an axis is the option of the axis' name; an
 * object has a label and any number of options, or none. Further keys of a stage:
 *   best     the option's value is the one with the least held-out loss, as a mean over the runs that
 *            have it (of several seeds), among those of an earlier stage whose labels on the
 *            `match` axes are this run's (axes may be mapped:
 *            {"optimizer": "method"} matches its optimizer with this stage's method); `metric` is
 *            another column of the results to compare than held_out_loss
 *   start    {"stage", "match"}: begin with the weights of that run's last checkpoint
 *   except   holes in the grid: [{"optimizer": "adamw", "decay": "none"}] leaves out the runs with
 *            all of these labels
 *   spectra  metrics of every matrix of every checkpoint, kept with the results
 *   ranks    processes of a distributed run, started with mpirun (also as an option of an axis)
 * A corpus "@code" is the files of `corpora` one after another, in order of their names, at most so
 * many bytes. `scale`: with --scale X a number is multiplied by X^power and rounded to a
 * multiple. */
#ifndef MUONLAB_PLAN_H
#define MUONLAB_PLAN_H

#include "base/memory.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct lab_option {
	const char *name, *value; /* value NULL: a flag */
} lab_option;

typedef struct lab_options {
	lab_option *items;
	size_t count;
} lab_options;

typedef struct lab_axis_value {
	const char *label;
	lab_options options;
} lab_axis_value;

typedef struct lab_axis {
	const char *name;
	lab_axis_value *values;
	size_t count;
} lab_axis;

/* Runs of an earlier stage: those whose label on axis theirs[i] is ours on axis ours[i]. */
typedef struct lab_reference {
	const char *stage; /* NULL: none */
	const char *option, *metric;
	const char **theirs, **ours;
	size_t count;
} lab_reference;

typedef struct lab_stage {
	const char *name;
	lab_options options; /* the plan's and the stage's */
	lab_axis *axes;
	size_t axis_count;
	lab_reference best, start;
	const json_t *except; /* an array of objects, axis to label; NULL: none */
	const char **spectra; /* metrics; NULL: no spectra */
	size_t spectra_count;
} lab_stage;

typedef struct lab_corpus {
	const char *name, *files; /* a glob */
	int64_t bytes;            /* at most */
} lab_corpus;

typedef struct lab_plan {
	const char *path, *experiment, *title;
	lab_corpus *corpora;
	size_t corpus_count;
	lab_stage *stages;
	size_t stage_count;
	json_t *fits; /* an array; NULL: none */
	json_t *root;
	muon_arena memory;
} lab_plan;

/* Read a plan; options named in its `scale` are multiplied for `scale` (1: as they are). The
 * options of runs are not checked: muontrain does that. MUON_E_OPEN, MUON_E_FORMAT for no JSON,
 * MUON_E_USAGE for JSON that is no plan, naming the place; MUON_E_MEMORY. Release also after a
 * failure. */
int lab_plan_read(lab_plan *plan, const char *path, double scale, muon_error *err);
void lab_plan_release(lab_plan *plan);

const lab_stage *lab_plan_stage(const lab_plan *plan, const char *name); /* NULL if none */
/* Index of the axis in the stage, or axis_count. */
size_t lab_stage_axis(const lab_stage *stage, const char *name);
/* Set or replace; false when out of memory. Sorted by name. */
bool lab_options_set(lab_options *options, muon_arena *memory, const char *name,
                     const char *value);
const lab_option *lab_options_find(const lab_options *options, const char *name);

#endif
