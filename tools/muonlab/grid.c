#include "grid.h"

#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RUNS = 10000 };

static int no_memory(muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}

const char *lab_run_option(const lab_run *run, const char *name)
{
	const lab_option *option = lab_options_find(&run->options, name);
	return option ? option->value : NULL;
}

double lab_run_number(const lab_run *run, const char *name, double otherwise)
{
	const char *text = lab_run_option(run, name);
	char *end;
	double value = text ? strtod(text, &end) : NAN;
	return text && end != text && !*end ? value : otherwise;
}

/* ---- writing the grid out ---------------------------------------------------------------- */

static size_t runs_of_stage(const lab_stage *stage)
{
	size_t count = 1;
	for (size_t i = 0; i < stage->axis_count && count <= MOST_RUNS; i++)
		count *= stage->axes[i].count;
	return count;
}

/* Run `index` of its stage, the last axis changing fastest. */
static bool make_run(lab_run *run, const lab_stage *stage, size_t index, muon_arena *memory)
{
	*run = (lab_run){.stage = stage, .options = stage->options};
	run->labels = muon_arena_alloc(memory, stage->axis_count + 1, sizeof *run->labels);
	const char *name = stage->name;
	if (!run->labels)
		return false;
	size_t left = runs_of_stage(stage);
	for (size_t i = 0; i < stage->axis_count; i++) {
		left /= stage->axes[i].count;
		const lab_axis_value *value = &stage->axes[i].values[index / left];
		index %= left;
		run->labels[i] = value->label;
		name = muon_arena_format(memory, "%s%c%s", name, i ? '-' : '/', value->label);
		for (size_t k = 0; name && k < value->options.count; k++)
			if (!lab_options_set(&run->options, memory, value->options.items[k].name,
			                     value->options.items[k].value))
				return false;
		if (!name)
			return false;
	}
	run->name = name;
	return true;
}

/* Is it a hole in the grid? */
static bool is_hole(const lab_run *run)
{
	const json_t *except = run->stage->except;
	for (size_t i = 0; i < json_array_size(except); i++) {
		json_t *hole = json_array_get(except, i), *label;
		const char *axis;
		bool all = true;
		json_object_foreach(hole, axis, label)
			all = all && !strcmp(run->labels[lab_stage_axis(run->stage, axis)],
			                     json_string_value(label));
		if (all)
			return true;
	}
	return false;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_names(const lab_grid *grid, muon_error *err)
{
	const char **names = muon_alloc(grid->count, sizeof *names);
	if (!names)
		return no_memory(err);
	for (size_t i = 0; i < grid->count; i++)
		names[i] = grid->runs[i].name;
	qsort(names, grid->count, sizeof *names, compare_names);
	int code = MUON_OK;
	for (size_t i = 1; i < grid->count && !code; i++)
		if (!strcmp(names[i - 1], names[i]))
			code = muon_fail(err, MUON_E_USAGE, grid->plan->path,
			                 "two runs are called %s: choose other labels", names[i]);
	muon_free(names);
	return code;
}

int lab_grid_make(lab_grid *grid, lab_plan *plan, muon_error *err)
{
	*grid = (lab_grid){.plan = plan};
	size_t total = 0;
	for (size_t i = 0; i < plan->stage_count; i++)
		total += runs_of_stage(&plan->stages[i]);
	if (total > MOST_RUNS)
		return muon_fail(err, MUON_E_USAGE, plan->path, "more than %d runs",
		                 (int)MOST_RUNS);
	grid->runs = muon_alloc(total, sizeof *grid->runs);
	if (!grid->runs)
		return no_memory(err);
	for (size_t i = 0; i < plan->stage_count; i++) {
		size_t count = runs_of_stage(&plan->stages[i]);
		for (size_t k = 0; k < count; k++) {
			lab_run *run = &grid->runs[grid->count];
			if (!make_run(run, &plan->stages[i], k, &plan->memory))
				return no_memory(err);
			grid->count += !is_hole(run);
		}
	}
	return check_names(grid, err);
}

/* ---- references -------------------------------------------------------------------------- */

/* Is `run` one of those that the reference in stage `from`, with `labels`, means? */
static bool is_meant(const lab_run *run, const lab_reference *reference, const lab_stage *from,
                     const char *const *labels)
{
	if (!reference->stage || strcmp(run->stage->name, reference->stage))
		return false;
	for (size_t i = 0; i < reference->count; i++) {
		size_t theirs = lab_stage_axis(run->stage, reference->theirs[i]);
		size_t ours = lab_stage_axis(from, reference->ours[i]);
		if (strcmp(run->labels[theirs], labels[ours]))
			return false;
	}
	return true;
}

bool lab_run_needed(const lab_run *run, const lab_run *other)
{
	return is_meant(run, &other->stage->best, other->stage, other->labels) ||
	       is_meant(run, &other->stage->start, other->stage, other->labels);
}

/* Metric of a run; infinite if it has diverged or none is there. */
static double merit(const lab_run *run, const lab_reference *reference, const csv_table *results)
{
	double value = run->state == LAB_DONE && !run->diverged
	                   ? csv_table_number(results, run->row, reference->metric)
	                   : NAN;
	return isnan(value) ? INFINITY : value;
}

/* Mean metric of the runs meant that have `candidate`'s value of the option: of several seeds. */
static double mean_merit(const lab_grid *grid, const lab_run *run, const lab_run *candidate,
                         const lab_reference *reference, const csv_table *results)
{
	const char *value = lab_run_option(candidate, reference->option);
	double sum = 0, count = 0;
	for (size_t i = 0; i < grid->count && value; i++) {
		const lab_run *other = &grid->runs[i];
		const char *theirs = lab_run_option(other, reference->option);
		if (is_meant(other, reference, run->stage, run->labels) && theirs &&
		    !strcmp(theirs, value)) {
			sum += merit(other, reference, results);
			count++;
		}
	}
	return value ? sum / count : merit(candidate, reference, results);
}

/* The run meant with the least metric, or with the option's value that has the least mean; *ready is
 * whether all of them are done. */
static const lab_run *best_of(const lab_grid *grid, const lab_run *run,
                              const lab_reference *reference, const csv_table *results,
                              bool *ready, bool *failed)
{
	const lab_run *best = NULL;
	double least = INFINITY;
	for (size_t i = 0; i < grid->count; i++) {
		const lab_run *other = &grid->runs[i];
		if (!is_meant(other, reference, run->stage, run->labels))
			continue;
		*ready = *ready && other->state == LAB_DONE;
		*failed = *failed || other->state == LAB_FAILED || other->state == LAB_BLOCKED;
		double value = reference->option
		                   ? mean_merit(grid, run, other, reference, results)
		                   : merit(other, reference, results);
		if (value < least) {
			least = value;
			best = other;
		}
	}
	return best;
}

static uint32_t hash_text(const char *text)
{
	uint32_t hash = 2166136261u; /* FNV-1a */
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 16777619u;
	return hash;
}

static const char *settings_of(const lab_run *run, muon_arena *memory)
{
	muon_text text = {0};
	for (size_t i = 0; i < run->options.count; i++) {
		const lab_option *option = &run->options.items[i];
		muon_text_format(&text, "%s%s", text.length ? " " : "", option->name);
		if (option->value)
			muon_text_format(&text, "=%s", option->value);
	}
	if (run->start)
		muon_text_format(&text, " start=%s#%08lx", run->start->name,
		                 (unsigned long)hash_text(run->start->settings));
	muon_text_add(&text, "", 0);
	const char *copy = text.failed ? NULL : muon_arena_string(memory, text.bytes);
	muon_text_release(&text);
	return copy;
}

static bool block(lab_run *run, const char *why, muon_error *err)
{
	run->state = LAB_BLOCKED;
	muon_fail(err, MUON_E_USAGE, run->name, "%s", why);
	return false;
}

bool lab_run_resolve(lab_grid *grid, lab_run *run, const csv_table *results, muon_error *err)
{
	if (run->resolved)
		return true;
	bool ready = true, failed = false;
	const lab_run *best = NULL, *start = NULL;
	if (run->stage->best.stage)
		best = best_of(grid, run, &run->stage->best, results, &ready, &failed);
	if (run->stage->start.stage)
		start = best_of(grid, run, &run->stage->start, results, &ready, &failed);
	if (failed)
		return block(run, "needs a run that has failed", err);
	if (!ready)
		return false;
	if ((run->stage->best.stage && !best) || (run->stage->start.stage && !start))
		return block(run, "none of the runs that it refers to has a loss", err);
	const char *option = run->stage->best.option;
	const char *value = best ? lab_run_option(best, option) : NULL;
	if (best && !value)
		return block(run, "the runs that it refers to lack the option it takes", err);
	if (best && !lab_options_set(&run->options, &grid->plan->memory, option, value))
		return block(run, "out of memory", err);
	run->start = start;
	run->settings = settings_of(run, &grid->plan->memory);
	if (!run->settings)
		return block(run, "out of memory", err);
	run->resolved = true;
	return true;
}
