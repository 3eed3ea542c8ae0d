/* Output files that appear whole or not at all: written under a temporary name beside the target,
 * then renamed. */
#ifndef MUON_BASE_OUTPUT_H
#define MUON_BASE_OUTPUT_H

#include <muon/error.h>

/* Name under which process `pid` writes `path` until it is complete; a supervisor uses it to clean
 * up after a process that died. NULL when out of memory; release with muon_free. Targets that are
 * not regular files (/dev/null, pipes) are written directly: a copy of `path` is returned. */
char *muon_output_temporary(const char *path, long pid);

/* Make the finished temporary the target (flushed to disk first), or fail and remove it. */
int muon_output_commit(const char *temporary, const char *path, muon_error *err);

/* Remove an unfinished temporary; nothing if it is the target itself or does not exist. */
void muon_output_discard(const char *temporary, const char *path);

#endif
