/* The file that keeps a forward run's logits. */
#include "checkpoint/writer.h"

#include <muonspec/forward.h>

static int write_logits(mspec_hdf5_writer *writer, const mspec_forward *f, muon_error *err)
{
	const int64_t dims[] = {f->tokens, f->config->vocab};
	int code = mspec_hdf5_attribute_text(writer, NULL, "schema", "muonspec/logits/1", err);
	if (!code)
		code = mspec_hdf5_attribute_number(writer, NULL, "length", (double)f->length, err);
	if (!code)
		code = mspec_hdf5_dataset(writer, "logits", MUON_F32, 2, dims, err);
	return code ? code : mspec_hdf5_append(writer, f->logits, dims[0] * dims[1], err);
}

int mspec_forward_write_logits(const mspec_forward *forward, const char *path, muon_error *err)
{
	mspec_hdf5_writer *writer;
	int code = mspec_hdf5_create(&writer, path, err);
	if (!code)
		code = write_logits(writer, forward, err);
	if (!code)
		code = mspec_hdf5_finish(&writer, err);
	mspec_hdf5_abandon(&writer);
	return code;
}
