/* `muonlab fit`: the plan's fits over the results in a folder, as a table, fit.csv and a figure. */
#include "child.h"
#include "fit.h"
#include "lab_options.h"

#include "analysis/scaling_law.h"
#include "common/messages.h"
#include "common/output_file.h"
#include "common/screen.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_ROOM = 4096 };

static const struct {
	const char *kind;
	int (*fit)(fit_context *c);
} kinds[] = {
    {"final", fit_final},     {"difference", fit_difference},
    {"equal", fit_equal},     {"scaling_law", fit_scaling_law},
    {"curve", fit_curve},     {"spectra", fit_spectra},
    {"growth", fit_growth},   {"share_higher", fit_share_higher},
};

/* ---- the report's own laws --------------------------------------------------------------- */

static void print_report(void)
{
	/* the fitted range of Table 3 ends at 4.05 */
	static const double computes[] = {0.247, 1, 4.05, 10, 18.1, 20};
	mspec_scaling_law muon = mspec_scaling_law_report_muon();
	mspec_scaling_law adamw = mspec_scaling_law_report_adamw();
	printf("Moonlight report, Table 3: Muon L = 2.506 C^-0.052, AdamW L = 2.608 C^-0.054\n"
	       "(C in PFLOP/s-days, fitted from 0.247 to 4.05)\n\n"
	       "      C    L Muon   L AdamW   compute of Muon for AdamW's loss\n");
	for (size_t i = 0; i < sizeof computes / sizeof *computes; i++)
		printf("%7.3f   %7.4f   %7.4f   %.3f\n", computes[i],
		       mspec_scaling_law_loss(&muon, computes[i], 0.95).value,
		       mspec_scaling_law_loss(&adamw, computes[i], 0.95).value,
		       mspec_compute_ratio(&muon, &adamw, computes[i], 0.95).value);
}

/* ---- fitting ----------------------------------------------------------------------------- */

static int run_one(fit_context *c)
{
	c->name = "fit";
	if (!json_is_object(c->fit))
		return fit_wrong(c, "must be an object");
	const char *kind = fit_text(c, "kind", NULL);
	c->name = kind ? fit_text(c, "name", kind) : NULL;
	const char *stage = c->name ? fit_text(c, "stage", NULL) : NULL;
	if (!stage)
		return MUON_E_USAGE;
	c->stage = lab_plan_stage(c->plan, stage);
	if (!c->stage)
		return fit_wrong(c, "there is no such stage");
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(kinds[i].kind, kind))
			return kinds[i].fit(c);
	return fit_wrong(c, "there is no such kind");
}

/* ---- output ------------------------------------------------------------------------------ */

static void table_number(screen_table *table, const char *text)
{
	char shown[32];
	char *end;
	double value = strtod(text, &end);
	if (end == text)
		value = NAN;
	table_cell(table, isnan(value) ? "" : short_number(shown, sizeof shown, value));
}

static void print_rows(const csv_table *rows)
{
	static const char *const columns[] = {"fit", "item", "quantity", "value",
	                                      "low", "high", "count"};
	static const bool left[] = {true, true, true, false, false, false, false};
	enum { COLUMNS = sizeof columns / sizeof *columns };
	screen_table table = {.columns = COLUMNS, .left = left};
	for (int k = 0; k < COLUMNS; k++)
		table_cell(&table, columns[k]);
	for (size_t row = 0; row < rows->row_count; row++)
		for (int k = 0; k < COLUMNS; k++) {
			const char *cell = csv_table_cell(rows, row, columns[k]);
			if (left[k])
				table_cell(&table, cell);
			else
				table_number(&table, cell);
		}
	table_print(stdout, &table, screen_width(0) < 100 ? 100 : screen_width(0), false);
	table_release(&table);
}

static int write_figures(const muon_text *text, const char *folder, muon_error *err)
{
	char path[PATH_ROOM + 20];
	snprintf(path, sizeof path, "%s/figures.dat", folder);
	return output_file_write(path, text->bytes, text->length, err);
}

/* plot.gp draws figure.svg out of figures.dat, in its own folder. No gnuplot is no failure. */
static int draw(const char *folder, muon_error *err)
{
	char script[PATH_ROOM + 20], change[PATH_ROOM + 20], log[PATH_ROOM + 20], words[300];
	char option[] = "-e", file[] = "plot.gp";
	const char *chosen = getenv("MUONSPEC_GNUPLOT");
	char program[PATH_ROOM];
	snprintf(program, sizeof program, "%.4000s", chosen ? chosen : "gnuplot");
	snprintf(script, sizeof script, "%s/plot.gp", folder);
	if (access(script, R_OK))
		return MUON_OK;
	if (strpbrk(folder, "'\\")) /* would end the string that gnuplot gets */
		return muon_fail(err, MUON_E_USAGE, folder, "can't be plotted under this name");
	snprintf(change, sizeof change, "cd '%s'", folder);
	snprintf(log, sizeof log, "%s/plot.log", folder);
	char *arguments[] = {program, option, change, file, NULL};
	pid_t pid;
	int status;
	unlink(log);
	muon_error started = {0};
	if (child_start(&pid, arguments, log, &started)) {
		fprintf(messages(), "muonlab fit: no figure: %s: %s\n", program, started.message);
		unlink(log);
		return MUON_OK;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	child_last_words(words, sizeof words, log, 0, "gnuplot");
	unlink(log);
	return WIFEXITED(status) && !WEXITSTATUS(status)
	           ? MUON_OK
	           : muon_fail(err, MUON_E_USAGE, script, "gnuplot: %s", words);
}

static int write_results(fit_context *c, const char *folder, bool plot)
{
	char path[PATH_ROOM + 20];
	snprintf(path, sizeof path, "%s/fit.csv", folder);
	if (c->figures.failed)
		return fit_no_memory(c);
	int code = csv_table_write(&c->rows, path, c->err);
	if (!code && c->figures.length)
		code = write_figures(&c->figures, folder, c->err);
	return code || !plot || !c->figures.length ? code : draw(folder, c->err);
}

static int fit_all(fit_context *c, const char *folder, const cli_options *options)
{
	size_t done = 0;
	int code = MUON_OK;
	for (size_t i = 0; i < c->grid->count; i++)
		done += c->grid->runs[i].state == LAB_DONE;
	if (!done)
		return muon_fail(c->err, MUON_E_READ, folder,
		                 "none of the plan's %zu runs is done yet", c->grid->count);
	for (size_t i = 0; i < json_array_size(c->plan->fits) && !code; i++) {
		c->fit = json_array_get(c->plan->fits, i);
		code = run_one(c);
	}
	if (code)
		return code;
	if (!options->quiet)
		printf("%s: %zu of %zu runs are done\n\n", c->plan->title, done, c->grid->count);
	print_rows(&c->rows);
	return write_results(c, folder, !options->no_plot);
}

/* A folder scale-X holds results of the plan beside it, made larger. */
static double scale_of(const char *folder, char *plan, size_t capacity)
{
	char trimmed[PATH_ROOM];
	snprintf(trimmed, sizeof trimmed, "%s", folder);
	for (size_t n = strlen(trimmed); n > 1 && trimmed[n - 1] == '/'; n--)
		trimmed[n - 1] = 0;
	const char *slash = strrchr(trimmed, '/'), *name = slash ? slash + 1 : trimmed;
	double scale = strncmp(name, "scale-", 6) ? 1 : atof(name + 6);
	snprintf(plan, capacity, "%s%s", trimmed,
	         scale == 1 || !(scale > 0) ? "/plan.json" : "/../plan.json");
	return scale > 0 ? scale : 1;
}

int run_fit(const cli_options *options, muon_error *err)
{
	lab_plan plan = {0};
	lab_grid grid = {0};
	lab_store store = {0};
	char path[PATH_ROOM + 20], title[160];
	if (options->report)
		print_report();
	if (!options->argument_count)
		return options->report
		           ? MUON_OK
		           : muon_fail(err, MUON_E_USAGE, NULL,
		                       "name an experiment's folder, or use --report");
	if (!(options->level > 0 && options->level < 1))
		return muon_fail(err, MUON_E_USAGE, NULL, "--level must be between 0 and 1");
	const char *folder = options->arguments[0];
	if (strlen(folder) >= PATH_ROOM)
		return muon_fail(err, MUON_E_OPEN, folder, "too long a path");
	double scale = scale_of(folder, path, sizeof path);
	int code = lab_plan_read(&plan, path, scale, err);
	if (!code)
		code = lab_grid_make(&grid, &plan, err);
	if (!code)
		code = lab_store_read(&store, folder, err);
	if (!code) {
		lab_store_match(&store, &grid);
		plan.title = muon_escape(title, sizeof title, plan.title);
		fit_context c = {.plan = &plan, .grid = &grid, .store = &store,
		                 .level = options->level, .err = err};
		code = fit_all(&c, folder, options);
		csv_table_release(&c.rows);
		muon_text_release(&c.figures);
		muon_arena_release(&c.memory);
	}
	lab_store_release(&store);
	muon_free(grid.runs);
	lab_plan_release(&plan);
	return code;
}
