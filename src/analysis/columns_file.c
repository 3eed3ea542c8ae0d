#include "analysis/columns_file.h"

#include "checkpoint/writer.h"

#include <stdio.h>

static int write_column(mspec_hdf5_writer *writer, const mspec_columns *table,
                        const mspec_column *column, muon_error *err)
{
	char name[256];
	int64_t rows = (int64_t)table->row_count;
	int used = snprintf(name, sizeof name, "%s/%s", table->name, column->name);
	if (used < 0 || (size_t)used >= sizeof name)
		return muon_fail(err, MUON_E_ARGUMENT, column->name, "too long a name");
	if (!column->numbers)
		return mspec_hdf5_strings(writer, name, column->strings, table->row_count, err);
	int code = mspec_hdf5_dataset(writer, name, MUON_F64, 1, &rows, err);
	return code ? code : mspec_hdf5_append(writer, column->numbers, rows, err);
}

int mspec_write_columns(const char *path, const char *schema, const mspec_columns *tables,
                        size_t count, muon_error *err)
{
	mspec_hdf5_writer *writer;
	int code = mspec_hdf5_create(&writer, path, err);
	if (!code)
		code = mspec_hdf5_attribute_text(writer, NULL, "schema", schema, err);
	if (!code)
		mspec_hdf5_compress(writer);
	for (size_t i = 0; i < count && !code; i++)
		for (size_t k = 0; k < tables[i].column_count && !code; k++)
			code = write_column(writer, &tables[i], &tables[i].columns[k], err);
	if (!code)
		code = mspec_hdf5_finish(&writer, err);
	mspec_hdf5_abandon(&writer);
	return code;
}
