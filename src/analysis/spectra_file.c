/* The file that keeps the full spectra of an analysis. */
#include "base/memory.h"
#include "base/text.h"
#include "checkpoint/writer.h"

#include <muonspec/report.h>

#include <math.h>
#include <stdio.h>

#define SCHEMA "muonspec/spectra/1"

typedef struct columns {
	const mspec_analysis *analysis;
	mspec_hdf5_writer *writer;
	muon_error *err;
	const char **strings; /* one per row */
	muon_arena escaped;
	double *numbers;
	int64_t *integers;
} columns;

typedef const char *(*string_fn)(const mspec_row *row);

static const char *row_name(const mspec_row *row)
{
	return row->matrix->name;
}

static const char *row_tensor(const mspec_row *row)
{
	return row->tensor_name;
}

static const char *row_slice(const mspec_row *row)
{
	return row->matrix->slice ? row->matrix->slice : "";
}

static const char *row_group(const mspec_row *row)
{
	return row->matrix->group;
}

static const char *row_dtype(const mspec_row *row)
{
	return muon_dtype_name(row->matrix->dtype);
}

static const char *row_status(const mspec_row *row)
{
	return row->status;
}

/* Strings are marked as UTF-8, which readers insist on; other names are escaped, as in the JSON.
 * NULL when out of memory. */
static const char *utf8_text(columns *c, const char *text)
{
	if (muon_is_utf8(text))
		return text;
	char *escaped = muon_escape_all(text);
	const char *copy = escaped ? muon_arena_string(&c->escaped, escaped) : NULL;
	muon_free(escaped);
	return copy;
}

static int write_strings(columns *c, const char *name, string_fn get)
{
	size_t count = c->analysis->views.count;
	for (size_t i = 0; i < count; i++)
		if (!(c->strings[i] = utf8_text(c, get(&c->analysis->rows[i]))))
			return muon_fail(c->err, MUON_E_MEMORY, NULL, "out of memory");
	return mspec_hdf5_strings(c->writer, name, c->strings, count, c->err);
}

static int write_column(columns *c, const char *name, muon_dtype type, const void *values,
                        int64_t count)
{
	int code = mspec_hdf5_dataset(c->writer, name, type, 1, &count, c->err);
	return code ? code : mspec_hdf5_append(c->writer, values, count, c->err);
}

static int write_metrics(columns *c)
{
	const mspec_analysis *a = c->analysis;
	int code = MUON_OK;
	for (size_t k = 0; k < a->metric_count && !code; k++) {
		char name[128];
		const mspec_metric *metric = mspec_metric_at(a->metrics[k]);
		snprintf(name, sizeof name, "matrices/%s", metric->name);
		for (size_t i = 0; i < a->views.count; i++)
			c->numbers[i] = a->rows[i].values[k];
		code = write_column(c, name, MUON_F64, c->numbers, (int64_t)a->views.count);
	}
	return code;
}

enum integer_column { COLUMN_ROWS, COLUMN_COLS, COLUMN_OFFSET, COLUMN_COUNT };

static int write_integers(columns *c, const char *name, enum integer_column column)
{
	const mspec_analysis *a = c->analysis;
	int64_t offset = 0;
	for (size_t i = 0; i < a->views.count; i++) {
		const mspec_row *row = &a->rows[i];
		int64_t kept = row->spectrum.sigma ? row->spectrum.count : 0;
		const int64_t values[] = {row->matrix->rows, row->matrix->cols, offset, kept};
		c->integers[i] = values[column];
		offset += kept;
	}
	return write_column(c, name, MUON_I64, c->integers, (int64_t)a->views.count);
}

static int write_singular_values(columns *c)
{
	const mspec_analysis *a = c->analysis;
	int64_t total = 0;
	for (size_t i = 0; i < a->views.count; i++)
		total += a->rows[i].spectrum.sigma ? a->rows[i].spectrum.count : 0;
	int code = mspec_hdf5_dataset(c->writer, "singular_values", MUON_F64, 1, &total, c->err);
	for (size_t i = 0; i < a->views.count && !code; i++)
		if (a->rows[i].spectrum.sigma)
			code = mspec_hdf5_append(c->writer, a->rows[i].spectrum.sigma,
			                         a->rows[i].spectrum.count, c->err);
	return code;
}

static int write_text(columns *c, const char *name, const char *text)
{
	const char *value = utf8_text(c, text);
	return value ? mspec_hdf5_attribute_text(c->writer, NULL, name, value, c->err)
	             : muon_fail(c->err, MUON_E_MEMORY, NULL, "out of memory");
}

static int write_attributes(columns *c)
{
	const mspec_checkpoint_info *info = c->analysis->checkpoint;
	int code = mspec_hdf5_attribute_text(c->writer, NULL, "schema", SCHEMA, c->err);
	if (!code)
		code = mspec_hdf5_attribute_text(c->writer, NULL, "tool_version", muon_version(), c->err);
	if (!code)
		code = write_text(c, "checkpoint", info->path);
	if (!code && info->optimizer)
		code = write_text(c, "optimizer", info->optimizer);
	if (!code && isfinite(info->step))
		code = mspec_hdf5_attribute_number(c->writer, NULL, "step", info->step, c->err);
	return code;
}

static int write_all(columns *c)
{
	static const struct {
		const char *name;
		string_fn get;
	} strings[] = {
	    {"matrices/name", row_name},   {"matrices/tensor", row_tensor},
	    {"matrices/slice", row_slice}, {"matrices/group", row_group},
	    {"matrices/dtype", row_dtype}, {"matrices/status", row_status},
	};
	static const struct {
		const char *name;
		enum integer_column column;
	} integers[] = {
	    {"matrices/rows", COLUMN_ROWS},
	    {"matrices/cols", COLUMN_COLS},
	    {"matrices/offset", COLUMN_OFFSET},
	    {"matrices/count", COLUMN_COUNT},
	};
	int code = write_attributes(c);
	for (size_t i = 0; i < sizeof strings / sizeof *strings && !code; i++)
		code = write_strings(c, strings[i].name, strings[i].get);
	for (size_t i = 0; i < sizeof integers / sizeof *integers && !code; i++)
		code = write_integers(c, integers[i].name, integers[i].column);
	if (!code)
		code = write_metrics(c);
	return code ? code : write_singular_values(c);
}

int mspec_write_spectra(const mspec_analysis *analysis, const char *path, muon_error *err)
{
	size_t count = analysis->views.count;
	columns c = {.analysis = analysis,
	             .err = err,
	             .strings = muon_alloc(count, sizeof *c.strings),
	             .numbers = muon_alloc(count, sizeof *c.numbers),
	             .integers = muon_alloc(count, sizeof *c.integers)};
	int code = c.strings && c.numbers && c.integers
	               ? mspec_hdf5_create(&c.writer, path, err)
	               : muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	if (!code)
		code = write_all(&c);
	if (!code)
		code = mspec_hdf5_finish(&c.writer, err);
	mspec_hdf5_abandon(&c.writer);
	muon_free(c.strings);
	muon_free(c.numbers);
	muon_free(c.integers);
	muon_arena_release(&c.escaped);
	return code;
}
