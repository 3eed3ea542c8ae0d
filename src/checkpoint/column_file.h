/* Reading back the HDF5 files of columns that our writer makes. Such a file is read only after its
 * bytes have been found to be those that were written (analysis/run_store.c). */
#ifndef MUONSPEC_CHECKPOINT_COLUMN_FILE_H
#define MUONSPEC_CHECKPOINT_COLUMN_FILE_H

#include "base/memory.h"

#include <stdbool.h>

typedef struct mspec_columns mspec_columns;

/* MUON_E_READ, MUON_E_MEMORY. */
int mspec_columns_open(mspec_columns **out, const char *path, muon_error *err);
void mspec_columns_close(mspec_columns **columns); /* NULL-safe */

/* Is there a group or dataset of that path ("a/b")? */
bool mspec_columns_has(mspec_columns *columns, const char *name);

/* Attributes of the object, or of the root for NULL; NULL and NaN where absent. The text lives in
 * the arena. */
const char *mspec_columns_text(mspec_columns *columns, const char *object, const char *name,
			       muon_arena *arena);
double mspec_columns_number(mspec_columns *columns, const char *object, const char *name);

/* Elements of the dataset; -1 if there is no such dataset. */
int64_t mspec_columns_count(mspec_columns *columns, const char *name);

/* All `count` elements of a dataset as float64. MUON_E_READ also when it has another number. */
int mspec_columns_read(mspec_columns *columns, const char *name, double *values, int64_t count,
		       muon_error *err);
/* The same of variable-length strings, which live in the arena. */
int mspec_columns_strings(mspec_columns *columns, const char *name, const char **items,
			  int64_t count, muon_arena *arena, muon_error *err);

#endif
