/* A file that a program writes besides what it prints. */
#ifndef MUONSPEC_TOOL_OUTPUT_FILE_H
#define MUONSPEC_TOOL_OUTPUT_FILE_H

#include <muon/error.h>

#include <stdbool.h>
#include <stddef.h>

/* The file to write for a `path` that the user gave: where a symbolic link leads, so that its
 * target is replaced and not the link. NULL when out of memory; release with muon_free. */
char *output_file_resolve(const char *path);

/* Do both names lead to one existing file? */
bool output_file_same(const char *a, const char *b);

/* Make the temporary file that will become `path` (base/output.h), so that a bad path fails before
 * the work and not after it. MUON_E_WRITE if it is neither a regular file nor a character device
 * (/dev/null). Release *temporary with muon_free, also after a failure. */
int output_file_claim(char **temporary, const char *path, muon_error *err);

/* Write a file of these bytes, whole or not at all. MUON_E_WRITE, MUON_E_MEMORY. */
int output_file_write(const char *path, const void *bytes, size_t count, muon_error *err);

#endif
