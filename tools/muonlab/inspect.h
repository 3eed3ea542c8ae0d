/* What a run's checkpoints say, put beside them as tables. */
#ifndef MUONLAB_INSPECT_H
#define MUONLAB_INSPECT_H

#include <muon/error.h>
#include <stdbool.h>

/* Write FOLDER/inspect.csv: number of checkpoints, the model's parameters (all; active ones outside
 * the embedding), and a digest of the last checkpoint's parameters and optimizer state: equal
 * digests are equal bits. With `metrics` (comma-separated) also FOLDER/spectra.csv: a row for every
 * matrix of every checkpoint, and for every layer's recorded activations; with `steps` ("0,10,100")
 * only of those after these steps, and of the last: an interrupt leaves others. MUON_E_OPEN if
 * there is no checkpoint, MUON_E_USAGE for an unknown metric, and what reading gives. */
int inspect_run(const char *folder, const char *metrics, const char *steps, muon_error *err);

/* Does the comma-separated list hold the step? */
bool step_is_listed(const char *steps, double step);

/* The name of the last checkpoint of a run's folder, by step; NULL with the reason if there is
 * none. Release with muon_free. */
char *last_checkpoint(const char *folder, muon_error *err);

#endif
