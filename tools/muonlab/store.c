#include "store.h"

#include "inspect.h"

#include "analysis/columns_file.h"
#include "base/output.h"
#include "base/statistics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SCHEMA "muonlab/results/1"

enum {
	CURVE_ROWS = 200, /* kept of a log, beside those with a validation loss */
	TABLES = 3
};

static int no_memory(muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}

static const char *const table_names[TABLES] = {"runs", "curves", "spectra"};

static csv_table *table_of(lab_store *store, size_t index)
{
	csv_table *const tables[TABLES] = {&store->runs, &store->curves, &store->spectra};
	return tables[index];
}

static void place(char *path, size_t capacity, const char *folder, const char *name,
                  const char *ending)
{
	snprintf(path, capacity, "%s/%s%s", folder, name, ending);
}

int lab_store_read(lab_store *store, const char *folder, muon_error *err)
{
	char path[4200];
	int code = MUON_OK;
	*store = (lab_store){.folder = folder};
	for (size_t i = 0; i < TABLES && !code; i++) {
		place(path, sizeof path, folder, table_names[i], ".csv");
		code = csv_table_read(table_of(store, i), path, err);
	}
	return code;
}

void lab_store_release(lab_store *store)
{
	for (size_t i = 0; i < TABLES; i++)
		csv_table_release(table_of(store, i));
}

/* ---- what is done ------------------------------------------------------------------------ */

static bool match_run(const lab_store *store, lab_run *run)
{
	for (size_t row = 0; row < store->runs.row_count; row++) {
		const char *status = csv_table_cell(&store->runs, row, "status");
		if (strcmp(csv_table_cell(&store->runs, row, "run"), run->name) ||
		    strcmp(csv_table_cell(&store->runs, row, "settings"), run->settings))
			continue;
		run->diverged = !strcmp(status, "diverged");
		run->row = row;
		if (strcmp(status, "ok") && !run->diverged)
			return false; /* failed: tried again */
		run->state = LAB_DONE;
		return true;
	}
	return false;
}

void lab_store_match(const lab_store *store, lab_grid *grid)
{
	for (bool changed = true; changed;) {
		changed = false;
		for (size_t i = 0; i < grid->count; i++) {
			lab_run *run = &grid->runs[i];
			if (run->state == LAB_WAITING && !run->again &&
			    lab_run_resolve(grid, run, &store->runs, NULL) && match_run(store, run))
				changed = true;
		}
	}
}

/* ---- taking a run's results in ----------------------------------------------------------- */

static bool is_other_run(const csv_table *table, size_t row, void *name)
{
	return strcmp(csv_table_cell(table, row, "run"), name) != 0;
}

static size_t add_row(csv_table *table, const lab_run *run)
{
	size_t row = csv_table_add_row(table);
	bool good = row != SIZE_MAX && csv_table_set(table, row, "run", run->name);
	return good ? row : SIZE_MAX;
}

/* Labels as columns of their axes, so that the table stands on its own. */
static bool set_labels(csv_table *table, size_t row, const lab_run *run)
{
	bool good = csv_table_set(table, row, "stage", run->stage->name);
	for (size_t i = 0; i < run->stage->axis_count && good; i++)
		good = csv_table_set(table, row, run->stage->axes[i].name, run->labels[i]);
	return good;
}

/* Rounded: what a plot or a fit needs, in a file that can be committed. */
static bool set_rounded(csv_table *table, size_t row, const char *column, const char *text)
{
	char *end, rounded[40];
	double value = strtod(text, &end);
	if (end == text || *end)
		return csv_table_set(table, row, column, text);
	snprintf(rounded, sizeof rounded, "%.6g", value);
	return csv_table_set(table, row, column, rounded);
}

static bool copy_row(csv_table *to, const csv_table *from, size_t from_row, const lab_run *run)
{
	size_t row = add_row(to, run);
	bool good = row != SIZE_MAX;
	for (size_t i = 0; i < from->column_count && good; i++)
		good = set_rounded(to, row, from->columns[i],
		                   csv_table_cell(from, from_row, from->columns[i]));
	return good;
}

/* Is the step one after which the plan has the run evaluated? An interrupt makes others. */
static bool is_planned(const lab_run *run, double step)
{
	const char *listed = lab_run_option(run, "checkpoint-steps");
	double steps = lab_run_number(run, "steps", 300);
	double every = lab_run_number(run, "eval-every", fmax(1, floor(steps / 10)));
	return !listed || step == steps || fmod(step, every) == 0 || step_is_listed(listed, step);
}

static bool is_kept(const csv_table *log, size_t row, const lab_run *run)
{
	size_t count = log->row_count;
	bool evaluated = *csv_table_cell(log, row, "held_out_loss");
	if (evaluated && !is_planned(run, csv_table_number(log, row, "step")))
		return false;
	return evaluated || !row || row + 1 == count ||
	       row * CURVE_ROWS / count != (row - 1) * CURVE_ROWS / count;
}

static bool take_curve(lab_store *store, const csv_table *log, const lab_run *run)
{
	bool good = true;
	for (size_t row = 0; row < log->row_count && good; row++)
		if (is_kept(log, row, run))
			good = copy_row(&store->curves, log, row, run);
	return good;
}

/* Mean of the training loss over the last tenth of the log. */
static double last_training_loss(const csv_table *log)
{
	double sum = 0;
	size_t from = log->row_count - (log->row_count + 9) / 10;
	for (size_t row = from; row < log->row_count; row++)
		sum += csv_table_number(log, row, "loss");
	return sum / (double)(log->row_count - from);
}

static double median_of(const csv_table *log, const char *column, double *values)
{
	size_t count = 0;
	for (size_t row = 0; row < log->row_count; row++) {
		double value = csv_table_number(log, row, column);
		if (!isnan(value))
			values[count++] = value;
	}
	return muon_median(values, count);
}

static const char *last_of(const csv_table *log, const char *column)
{
	const char *last = "";
	for (size_t row = 0; row < log->row_count; row++) {
		const char *cell = csv_table_cell(log, row, column);
		last = *cell ? cell : last;
	}
	return last;
}

/* The last value of every column of the log, the median of times and speeds; not what means
 * something else in a row of runs: the learning rate there is the run's, and one step's loss is
 * noise. */
static bool take_columns(csv_table *runs, size_t at, const csv_table *log)
{
	double *values = muon_alloc(log->row_count + 1, sizeof *values);
	bool good = values != NULL;
	for (size_t i = 0; i < log->column_count && good; i++) {
		const char *name = log->columns[i];
		if (!strcmp(name, "loss") || !strcmp(name, "lr"))
			continue;
		good = strstr(name, "second")
		           ? csv_table_set_number(runs, at, name, median_of(log, name, values))
		           : csv_table_set(runs, at, name, last_of(log, name));
	}
	muon_free(values);
	return good && csv_table_set_number(runs, at, "train_loss", last_training_loss(log));
}

static bool take_inspection(csv_table *runs, size_t at, const csv_table *inspection)
{
	bool good = true;
	for (size_t i = 0; i < inspection->column_count && inspection->row_count && good; i++)
		good = csv_table_set(runs, at, inspection->columns[i],
		                     csv_table_cell(inspection, 0, inspection->columns[i]));
	double share = csv_table_number(runs, at, "optimizer_seconds") /
	               csv_table_number(runs, at, "step_seconds");
	double active = csv_table_number(runs, at, "active_parameters");
	double tokens = csv_table_number(runs, at, "tokens");
	return good && csv_table_set_number(runs, at, "optimizer_share", share) &&
	       csv_table_set_number(runs, at, "compute", 6 * active * tokens);
}

/* Seconds of all steps, of every session that worked on the run; NAN if the log does not say. */
static double seconds_of(const csv_table *log)
{
	double sum = 0;
	for (size_t row = 0; row < log->row_count; row++) {
		double seconds = csv_table_number(log, row, "step_seconds");
		sum += isnan(seconds) ? 0 : seconds; /* none before the first step */
	}
	return sum > 0 ? sum : NAN;
}

static bool set_outcome(csv_table *runs, size_t row, const lab_run *run, const csv_table *log,
                        const lab_outcome *outcome)
{
	double seconds = seconds_of(log);
	seconds = isnan(seconds) ? outcome->seconds : seconds;
	char day[32];
	time_t now = time(NULL);
	struct tm parts;
	gmtime_r(&now, &parts);
	strftime(day, sizeof day, "%Y-%m-%d", &parts);
	return csv_table_set(runs, row, "status", outcome->status) &&
	       csv_table_set_number(runs, row, "seconds", floor(10 * seconds) / 10) &&
	       csv_table_set(runs, row, "day", day) &&
	       csv_table_set(runs, row, "version", muon_version()) &&
	       csv_table_set(runs, row, "settings", run->settings) &&
	       csv_table_set(runs, row, "command", outcome->command) &&
	       csv_table_set(runs, row, "message", outcome->message);
}

/* The columns that say which run it is come first, whatever run ends first. */
static bool name_columns(csv_table *runs, const lab_plan *plan)
{
	bool good = csv_table_name(runs, "run") && csv_table_name(runs, "stage");
	for (size_t i = 0; i < plan->stage_count; i++)
		for (size_t k = 0; k < plan->stages[i].axis_count && good; k++)
			good = csv_table_name(runs, plan->stages[i].axes[k].name);
	return good && csv_table_name(runs, "status");
}

static bool take(lab_store *store, lab_run *run, const csv_table *log, const csv_table *inspection,
                 const csv_table *spectra, const lab_outcome *outcome)
{
	size_t row = add_row(&store->runs, run);
	bool failed = !strcmp(outcome->status, "failed");
	if (row == SIZE_MAX || !set_labels(&store->runs, row, run))
		return false;
	run->row = row;
	const char *lr = lab_run_option(run, "lr");
	if (lr && !csv_table_set(&store->runs, row, "lr", lr))
		return false;
	bool good = failed || !log->row_count || take_columns(&store->runs, row, log);
	good = good && (failed || take_inspection(&store->runs, row, inspection));
	good = good && set_outcome(&store->runs, row, run, log, outcome);
	good = good && (failed || take_curve(store, log, run));
	for (size_t i = 0; i < spectra->row_count && good && !failed; i++)
		good = copy_row(&store->spectra, spectra, i, run);
	return good;
}

int lab_store_take(lab_store *store, const lab_plan *plan, lab_run *run,
                   const char *folder, const lab_outcome *outcome, muon_error *err)
{
	static const char *const files[TABLES] = {"log", "inspect", "spectra"};
	csv_table tables[TABLES] = {{0}};
	char path[4200], name[256];
	int code = MUON_OK;
	for (size_t i = 0; i < TABLES && !code; i++) {
		place(path, sizeof path, folder, files[i], ".csv");
		code = csv_table_read(&tables[i], path, err);
	}
	snprintf(name, sizeof name, "%s", run->name);
	for (size_t i = 0; i < TABLES && !code; i++)
		csv_table_filter(table_of(store, i), is_other_run, name);
	if (!code && (!name_columns(&store->runs, plan) ||
	              !take(store, run, &tables[0], &tables[1], &tables[2], outcome)))
		code = no_memory(err);
	for (size_t i = 0; i < TABLES; i++)
		csv_table_release(&tables[i]);
	return code;
}

/* ---- writing ----------------------------------------------------------------------------- */

/* Where a row stands: its run's place in the plan, then as it was. */
typedef struct place_of_row {
	size_t run, row;
} place_of_row;

static int compare_places(const void *a, const void *b)
{
	const place_of_row *x = a, *y = b;
	if (x->run != y->run)
		return x->run < y->run ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

static size_t place_in_plan(const lab_grid *grid, const char *name)
{
	size_t i = 0;
	while (i < grid->count && strcmp(grid->runs[i].name, name))
		i++;
	return i;
}

static bool sort_rows(csv_table *table, const lab_grid *grid)
{
	size_t count = table->row_count;
	place_of_row *places = muon_alloc(count + 1, sizeof *places);
	const char ***rows = muon_alloc(count + 1, sizeof *rows);
	size_t *widths = muon_alloc(count + 1, sizeof *widths);
	bool good = places && rows && widths;
	for (size_t i = 0; i < count && good; i++) {
		const char *name = csv_table_cell(table, i, "run");
		bool same = i && !strcmp(name, csv_table_cell(table, i - 1, "run"));
		places[i] = (place_of_row){
		    same ? places[i - 1].run : place_in_plan(grid, name), i};
	}
	if (good) {
		qsort(places, count, sizeof *places, compare_places);
		for (size_t i = 0; i < count; i++) {
			rows[i] = table->rows[places[i].row];
			widths[i] = table->widths[places[i].row];
		}
		memcpy(table->rows, rows, count * sizeof *rows);
		memcpy(table->widths, widths, count * sizeof *widths);
	}
	muon_free(places);
	muon_free(rows);
	muon_free(widths);
	return good;
}

/* Rows have moved: the grid's runs find theirs again. */
static void find_rows(const lab_store *store, const lab_grid *grid)
{
	for (size_t row = 0; row < store->runs.row_count; row++) {
		size_t i = place_in_plan(grid, csv_table_cell(&store->runs, row, "run"));
		if (i < grid->count)
			grid->runs[i].row = row;
	}
}

int lab_store_write(lab_store *store, const lab_grid *grid, muon_error *err)
{
	char path[4200];
	int code = MUON_OK;
	for (size_t i = 0; i < TABLES && !code; i++) {
		csv_table *table = table_of(store, i);
		if (!table->row_count)
			continue;
		place(path, sizeof path, store->folder, table_names[i], ".csv");
		code = sort_rows(table, grid) ? csv_table_write(table, path, err) : no_memory(err);
	}
	find_rows(store, grid);
	return code;
}

/* ---- HDF5 -------------------------------------------------------------------------------- */

static bool is_numeric(const csv_table *table, const char *column)
{
	bool any = false;
	for (size_t row = 0; row < table->row_count; row++)
		if (*csv_table_cell(table, row, column)) {
			any = true;
			if (isnan(csv_table_number(table, row, column)))
				return false;
		}
	return any;
}

static bool fill_column(mspec_column *column, const csv_table *table, const char *name,
                        muon_arena *memory)
{
	bool numeric = is_numeric(table, name);
	double *numbers = numeric ? muon_arena_alloc(memory, table->row_count, sizeof *numbers)
	                          : NULL;
	const char **strings =
	    numeric ? NULL : muon_arena_alloc(memory, table->row_count, sizeof *strings);
	for (size_t row = 0; row < table->row_count; row++) {
		if (numbers)
			numbers[row] = csv_table_number(table, row, name);
		else if (strings)
			strings[row] = csv_table_cell(table, row, name);
	}
	*column = (mspec_column){name, numbers, strings};
	return numbers || strings;
}

static bool fill_table(mspec_columns *columns, const char *name, const csv_table *table,
                       muon_arena *memory)
{
	mspec_column *list = muon_arena_alloc(memory, table->column_count, sizeof *list);
	bool good = list != NULL;
	for (size_t i = 0; i < table->column_count && good; i++)
		good = fill_column(&list[i], table, table->columns[i], memory);
	*columns = (mspec_columns){name, list, table->column_count, table->row_count};
	return good;
}

static int export_to(const lab_store *store, const char *temporary, muon_error *err)
{
	const csv_table *const tables[TABLES] = {&store->runs, &store->curves, &store->spectra};
	mspec_columns columns[TABLES];
	muon_arena memory = {0};
	size_t count = 0;
	bool good = true;
	for (size_t i = 0; i < TABLES && good; i++)
		if (tables[i]->row_count)
			good = fill_table(&columns[count++], table_names[i], tables[i], &memory);
	int code = good ? mspec_write_columns(temporary, SCHEMA, columns, count, err)
	                : no_memory(err);
	muon_arena_release(&memory);
	return code;
}

int lab_store_export(const lab_store *store, muon_error *err)
{
	char path[4200];
	place(path, sizeof path, store->folder, "results", ".h5");
	char *temporary = muon_output_temporary(path, (long)getpid());
	if (!temporary)
		return no_memory(err);
	int code = export_to(store, temporary, err);
	if (code)
		muon_output_discard(temporary, path);
	else
		code = muon_output_commit(temporary, path, err);
	muon_free(temporary);
	return code;
}
