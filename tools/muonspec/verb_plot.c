#include "figures.h"
#include "gnuplot.h"
#include "metric_list.h"
#include "verbs.h"
#include "written.h"

#include "common/messages.h"
#include "common/output_file.h"

#include "base/memory.h"
#include "base/output.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* ---- files -------------------------------------------------------------------------------------- */

static int make_folder(const char *path, muon_error *err)
{
	struct stat st;
	if (!*path)
		return muon_fail(err, MUON_E_WRITE, NULL, "the folder to write to has no name");
	if (mkdir(path, 0777) && errno != EEXIST)
		return muon_fail(err, MUON_E_WRITE, path, "%s", strerror(errno));
	if (stat(path, &st))
		return muon_fail(err, MUON_E_WRITE, path, "%s", strerror(errno));
	return S_ISDIR(st.st_mode) ? MUON_OK
	                           : muon_fail(err, MUON_E_WRITE, path, "is not a folder");
}

/* DIR/NAME.ENDING, whole or not at all; its name goes to standard output. */
static int write_file(const char *folder, const char *name, const char *ending,
                      const muon_text *text, muon_error *err)
{
	char path[PATH_MAX];
	char *temporary;
	size_t length = strlen(folder);
	const char *slash = length && folder[length - 1] == '/' ? "" : "/";
	if (snprintf(path, sizeof path, "%s%s%s.%s", folder, slash, name, ending) >= PATH_MAX)
		return muon_fail(err, MUON_E_WRITE, folder, "%s", strerror(ENAMETOOLONG));
	int code = output_file_claim(&temporary, path, err);
	if (code)
		return code;
	code = write_bytes(temporary, text, err);
	if (!code)
		code = muon_output_commit(temporary, path, err);
	if (code)
		muon_output_discard(temporary, path);
	else
		printf("%s\n", muon_escape((char[2 * PATH_MAX]){0}, 2 * PATH_MAX, path));
	muon_free(temporary);
	return code;
}

/* ---- the verb ------------------------------------------------------------------------------------- */

static int write_script(const figure *f, picture_kind kind, const char *folder, muon_error *err)
{
	muon_text script = {0};
	figure_script(&script, f, kind, true);
	int code = script.failed ? muon_fail(err, MUON_E_MEMORY, NULL, "out of memory")
	                         : write_file(folder, f->name, "gp", &script, err);
	if (!code)
		code = write_file(folder, f->name, "dat", &f->data, err);
	muon_text_release(&script);
	return code;
}

static int draw(const figure *f, const tool_options *options, muon_error *err)
{
	picture_kind kind = (picture_kind)options->figure_format;
	muon_text picture = {0};
	int code = figure_draw(&picture, f, kind, err);
	if (!code)
		code = write_file(options->output, f->name, picture_ending(kind), &picture, err);
	if (!code && options->keep_script)
		code = write_script(f, kind, options->output, err);
	muon_text_release(&picture);
	return code;
}

static int draw_all(const figure_list *list, const tool_options *options, muon_error *err)
{
	int code = make_folder(options->output, err);
	for (size_t i = 0; i < list->count && !code; i++)
		code = draw(&list->items[i], options, err);
	return code;
}

static int plot_weights(const tool_options *options, muon_error *err)
{
	subject s;
	figure_list list = {0};
	size_t *metrics = NULL, count = 0;
	int code = options->metrics ? metric_list(options->metrics, &metrics, &count, err) : MUON_OK;
	if (code)
		return code;
	code = subject_load(&s, options, false, "plot", err);
	if (!code)
		code = figures_make(&list, &s, metrics, count, err);
	if (!code && !list.count)
		code = muon_fail(err, MUON_E_FORMAT, options->arguments[0],
		                 "nothing to draw: no matrix could be analyzed");
	if (!code)
		code = draw_all(&list, options, err);
	figures_release(&list);
	subject_release(&s);
	muon_free(metrics);
	return code;
}

static int plot_trainings(const tool_options *options, muon_error *err)
{
	figure_list list = {0};
	int code = figures_of_trainings(&list, options, err);
	if (!code)
		code = draw_all(&list, options, err);
	char *words = code || options->quiet ? NULL : muon_escape_all(list.items[0].words.bytes);
	if (words)
		fprintf(messages(), "%s\n", words);
	muon_free(words);
	figures_release(&list);
	return code;
}

static bool is_table(const tool_options *options)
{
	const char *ending = strrchr(options->arguments[0], '.');
	return options->argument_count == 1 && ending && !strcasecmp(ending, ".csv");
}

int run_plot(const tool_options *options, muon_error *err)
{
	if (!options->output)
		return muon_fail(err, MUON_E_USAGE, NULL, "-o DIR is needed: where figures go");
	int code = gnuplot_check(err); /* before the work */
	if (code)
		return code;
	return is_table(options) ? plot_trainings(options, err) : plot_weights(options, err);
}
