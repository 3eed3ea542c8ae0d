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

static int draw_all(const subject *s, const size_t *metrics, size_t count, muon_error *err)
{
	figure_list list = {0};
	int code = figures_make(&list, s, metrics, count, err);
	if (!code && !list.count)
		code = muon_fail(err, MUON_E_FORMAT, s->options->arguments[0],
		                 "nothing to draw: no matrix could be analyzed");
	if (!code)
		code = make_folder(s->options->output, err);
	for (size_t i = 0; i < list.count && !code; i++)
		code = draw(&list.items[i], s->options, err);
	figures_release(&list);
	return code;
}

int run_plot(const tool_options *options, muon_error *err)
{
	subject s;
	size_t *metrics = NULL, count = 0;
	if (!options->output)
		return muon_fail(err, MUON_E_USAGE, NULL, "-o DIR is needed: where figures go");
	int code = gnuplot_check(err); /* before the work */
	if (!code && options->metrics)
		code = metric_list(options->metrics, &metrics, &count, err);
	if (!code) {
		code = subject_load(&s, options, false, "plot", err);
		if (!code)
			code = draw_all(&s, metrics, count, err);
		subject_release(&s);
	}
	muon_free(metrics);
	return code;
}
