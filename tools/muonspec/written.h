/* Text into a file. */
#ifndef MUONSPEC_TOOL_WRITTEN_H
#define MUONSPEC_TOOL_WRITTEN_H

#include "base/text.h"

/* All of `text` to the file at `path`, which others then rename. MUON_E_WRITE. */
int write_bytes(const char *path, const muon_text *text, muon_error *err);

#endif
