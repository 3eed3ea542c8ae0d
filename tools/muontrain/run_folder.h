/* The folder of a run: step-000100.h5, log.csv, held_out.txt. */
#ifndef MUONTRAIN_RUN_FOLDER_H
#define MUONTRAIN_RUN_FOLDER_H

#include <muon/error.h>

#include <stddef.h>
#include <stdint.h>

/* "FOLDER/NAME"; NULL when out of memory. Release with muon_free. */
char *folder_path(const char *folder, const char *name);
char *folder_checkpoint(const char *folder, int64_t step);

/* Make the folder, and those above it. MUON_E_WRITE. */
int folder_make(const char *folder, muon_error *err);

/* Steps of the checkpoints in it, ascending; release *steps with muon_free. None for a folder that
 * is not there. */
int folder_steps(const char *folder, int64_t **steps, size_t *count, muon_error *err);

/* Remove what a killed run has left half-written. */
void folder_clean(const char *folder);

/* Write a file of these bytes there. MUON_E_WRITE. */
int folder_write(const char *folder, const char *name, const void *bytes, size_t count,
                 muon_error *err);

#endif
