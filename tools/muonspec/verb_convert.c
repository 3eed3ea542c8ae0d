#include "verbs.h"

#include "common/output_file.h"
#include "common/progress.h"

#include "base/memory.h"
#include "base/output.h"

#include <string.h>
#include <strings.h>

/* The format that a file name's ending asks for, or NULL. */
static const char *format_of(const char *path)
{
	static const char *const endings[][2] = {
	    {".h5", "hdf5"}, {".hdf5", "hdf5"}, {".safetensors", "safetensors"}};
	size_t length = strlen(path);
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		size_t n = strlen(endings[i][0]);
		if (length > n && !strcasecmp(path + length - n, endings[i][0]))
			return endings[i][1];
	}
	return NULL;
}

static void show_progress(void *state, double done, double total, const char *what)
{
	progress_update(state, done, total, what);
}

static int convert_to(mspec_checkpoint *from, const char *format, const tool_options *options,
                      muon_error *err)
{
	const char *path = options->output;
	progress_line line;
	char *temporary;
	int code = claim_output(&temporary, options, from, err);
	if (!code) {
		progress_start(&line, options->progress, options->quiet);
		code = mspec_convert(from, temporary, format, show_progress, &line, err);
		progress_end(&line);
	}
	if (!code)
		code = muon_output_commit(temporary, path, err);
	else if (temporary)
		muon_output_discard(temporary, path);
	muon_free(temporary);
	return code;
}

int run_convert(const tool_options *options, muon_error *err)
{
	const char *to = options->arguments[1], *format = format_of(to);
	mspec_checkpoint *checkpoint;
	if (!format)
		return muon_fail(err, MUON_E_USAGE, to,
		                 "the name must end in .h5, .hdf5 or .safetensors");
	int code = open_checkpoint(&checkpoint, options->arguments[0], err);
	if (code)
		return code;
	code = convert_to(checkpoint, format, options, err);
	mspec_close(&checkpoint);
	return code;
}
