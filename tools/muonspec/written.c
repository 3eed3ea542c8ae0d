#include "written.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int write_bytes(const char *path, const muon_text *text, muon_error *err)
{
	FILE *file = fopen(path, "wb");
	size_t done = file ? fwrite(text->bytes, 1, text->length, file) : 0;
	bool failed = !file || done != text->length || fflush(file);
	int reason = errno;
	if (file && fclose(file) && !failed) {
		failed = true;
		reason = errno;
	}
	return failed ? muon_fail(err, MUON_E_WRITE, path, "%s", strerror(reason)) : MUON_OK;
}
