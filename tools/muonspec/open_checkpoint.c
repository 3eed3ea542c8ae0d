#include "supervise.h"
#include "verbs.h"

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
