/* Work on files of unknown origin happens in a child process: libhdf5 crashes and hangs on some
 * malformed ones. The parent turns that into one line and an exit status, and removes what the
 * child left half-written. */
#ifndef MUONSPEC_TOOL_SUPERVISE_H
#define MUONSPEC_TOOL_SUPERVISE_H

#include "options.h"

/* What the library is busy with, for mspec_open_options.watch; `state` is ignored. */
void watch_reading(void *state, const char *what);

/* Why a file of a run must not be read, for mspec_run_options.refuses; NULL: it may be. A verb that
 * asks is run again where reading a file has ended its process. */
const char *refuses_reading(void *state, const char *path);

/* Run the verb in a child process and return the exit status of the program. */
int supervise(const verb_spec *verb, const tool_options *options);

/* Run it in this process. */
int run_verb(const verb_spec *verb, const tool_options *options);

#endif
