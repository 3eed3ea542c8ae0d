/* The file that a verb writes besides what it prints. */
#ifndef MUONSPEC_TOOL_OUTPUT_FILE_H
#define MUONSPEC_TOOL_OUTPUT_FILE_H

#include <muon/error.h>

/* Make the temporary file that will become `path` (base/output.h), so that a bad path fails before
 * the work and not after it. MUON_E_USAGE if `path` is the file `input`, which would be lost.
 * Release *temporary with muon_free, also after a failure. */
int output_file_claim(char **temporary, const char *path, const char *input, muon_error *err);

#endif
