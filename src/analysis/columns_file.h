/* Tables of results as HDF5: a group a table, a dataset a column. */
#ifndef MUONSPEC_ANALYSIS_COLUMNS_FILE_H
#define MUONSPEC_ANALYSIS_COLUMNS_FILE_H

#include <muon/error.h>

/* A column of numbers, or of UTF-8 strings where `numbers` is NULL. */
typedef struct mspec_column {
	const char *name; /* no slash */
	const double *numbers;
	const char *const *strings;
} mspec_column;

typedef struct mspec_columns {
	const char *name; /* of the group */
	const mspec_column *columns;
	size_t column_count, row_count;
} mspec_columns;

/* Write the tables and a text attribute of the root, "schema". The caller gives a temporary name
 * and renames. MUON_E_WRITE, MUON_E_MEMORY. */
int mspec_write_columns(const char *path, const char *schema, const mspec_columns *tables,
                        size_t count, muon_error *err);

#endif
