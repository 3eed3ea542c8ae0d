/* Files that tests of checkpoint formats make, in a folder that is removed when the program ends,
 * and short ways to open, refuse and read them. */
#ifndef TESTS_CHECKPOINT_SCRATCH_H
#define TESTS_CHECKPOINT_SCRATCH_H

#include <muonspec/checkpoint.h>

/* Path of `name` in the folder; one of a few buffers used by turns. */
const char *scratch_path(const char *name);
/* Path of `name` in a folder of the folder. */
const char *scratch_path_in(const char *folder, const char *name);
void scratch_write(const char *path, const void *bytes, size_t count);
/* Path of a file in shared/data, or NULL, with the case counted as skipped. */
const char *scratch_shared(const char *name);

/* Open a file that must be readable; NULL and a failed assertion otherwise. */
mspec_checkpoint *scratch_open(const char *path);
/* The file must be refused with this code and with `text` in the message. */
void scratch_refuse(const char *path, int code, const char *text);

/* Index of the tensor, or SIZE_MAX with a failed assertion. */
size_t scratch_find(const mspec_checkpoint *checkpoint, const char *name);
/* The tensor must be listed with this status and `text` in its problem. */
void scratch_problem(const mspec_checkpoint *checkpoint, const char *name, int status,
                     const char *text);
/* The whole tensor's bytes must be these, and be the same when read element by element. */
void scratch_content(mspec_checkpoint *checkpoint, const char *name, const void *bytes,
                     size_t count);

/* Sum of (i + 1) * x_i over a tensor. */
double scratch_weighted_sum(mspec_checkpoint *checkpoint, size_t index);

/* Open and read everything with the k-th allocation failing, for k = 1, 2, ... until all goes well:
 * each failure must be reported as MUON_E_MEMORY. */
void scratch_exhaust_memory(const char *path);

#endif
