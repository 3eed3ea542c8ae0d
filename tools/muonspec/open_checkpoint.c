#include "supervise.h"
#include "verbs.h"

#include "common/output_file.h"

int open_checkpoint(mspec_checkpoint **out, const char *path, muon_error *err)
{
	const mspec_open_options options = {.watch = watch_reading};
	int code = mspec_open(out, path, &options, err);
	if (!code && !mspec_tensor_count(*out)) {
		mspec_close(out);
		code = muon_fail(err, MUON_E_FORMAT, path, "holds no tensors");
	}
	return code;
}

int claim_output(char **temporary, const tool_options *options, const mspec_checkpoint *checkpoint,
                 muon_error *err)
{
	const char *path = options->output;
	*temporary = NULL;
	if ((checkpoint && mspec_uses_file(checkpoint, path)) ||
	    (options->groups_file && output_file_same(options->groups_file, path)) ||
	    (options->tokens && output_file_same(options->tokens, path)))
		return muon_fail(err, MUON_E_USAGE, path, "is a file to read; name another");
	return output_file_claim(temporary, path, err);
}
