#include "checkpoint/column_file.h"

#include "checkpoint/hdf5_library.h"

#include <math.h>
#include <stdio.h>

struct mspec_columns {
	hid_t file;
};

static int fail_read(const char *where, muon_error *err)
{
	char reason[H5_REASON];
	return muon_fail(err, MUON_E_READ, where, "HDF5: %s", mspec_h5_reason(reason));
}

static hid_t open_file(const char *path)
{
	hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = H5I_INVALID_HID;
	if (access >= 0 && H5Pset_fapl_sec2(access) >= 0 &&
	    H5Pset_elink_file_cache_size(access, 0) >= 0 &&
	    H5Pset_file_locking(access, false, true) >= 0)
		file = H5Fopen(path, H5F_ACC_RDONLY, access);
	mspec_h5_close(access);
	return file;
}

int mspec_columns_open(mspec_columns **out, const char *path, muon_error *err)
{
	mspec_columns *columns = *out = muon_alloc(1, sizeof *columns);
	if (!columns)
		return mspec_out_of_memory(path, err);
	int code = MUON_OK;
	H5E_BEGIN_TRY
	{
		columns->file = open_file(path);
		if (columns->file < 0)
			code = fail_read(path, err);
	}
	H5E_END_TRY
	if (code)
		mspec_columns_close(out);
	return code;
}

void mspec_columns_close(mspec_columns **columns)
{
	mspec_columns *c = *columns;
	*columns = NULL;
	if (!c)
		return;
	H5E_BEGIN_TRY
	{
		if (c->file >= 0)
			H5Fclose(c->file);
	}
	H5E_END_TRY
	muon_free(c);
}

/* H5Lexists wants every group on the way to exist. */
static bool exists(hid_t file, const char *name)
{
	char path[512];
	for (size_t i = 0; name[i] && i < sizeof path - 1; i++) {
		path[i] = name[i];
		path[i + 1] = 0;
		if ((name[i + 1] == '/' || !name[i + 1]) &&
		    H5Lexists(file, path, H5P_DEFAULT) <= 0)
			return false;
	}
	return *name;
}

bool mspec_columns_has(mspec_columns *columns, const char *name)
{
	bool found;
	H5E_BEGIN_TRY
	{
		found = exists(columns->file, name);
	}
	H5E_END_TRY
	return found;
}

const char *mspec_columns_text(mspec_columns *columns, const char *object, const char *name,
			       muon_arena *arena)
{
	const char *text;
	H5E_BEGIN_TRY
	{
		hid_t at = H5Oopen(columns->file, object ? object : "/", H5P_DEFAULT);
		text = at < 0 ? NULL : mspec_h5_read_text(at, name, arena);
		mspec_h5_close(at);
	}
	H5E_END_TRY
	return text;
}

double mspec_columns_number(mspec_columns *columns, const char *object, const char *name)
{
	double value;
	H5E_BEGIN_TRY
	{
		hid_t at = H5Oopen(columns->file, object ? object : "/", H5P_DEFAULT);
		value = at < 0 ? NAN : mspec_h5_read_number(at, name);
		mspec_h5_close(at);
	}
	H5E_END_TRY
	return value;
}

/* A dataset, its space and its number of elements; the id is negative if there is none. */
typedef struct column {
	hid_t dataset, space;
	int64_t count;
} column;

static column open_column(hid_t file, const char *name)
{
	column c = {H5I_INVALID_HID, H5I_INVALID_HID, -1};
	if (!exists(file, name))
		return c;
	c.dataset = H5Dopen2(file, name, H5P_DEFAULT);
	c.space = c.dataset < 0 ? c.dataset : H5Dget_space(c.dataset);
	c.count = c.space < 0 ? -1 : (int64_t)H5Sget_simple_extent_npoints(c.space);
	return c;
}

static void close_column(column *c)
{
	mspec_h5_close(c->space);
	mspec_h5_close(c->dataset);
}

int64_t mspec_columns_count(mspec_columns *columns, const char *name)
{
	int64_t count;
	H5E_BEGIN_TRY
	{
		column c = open_column(columns->file, name);
		count = c.count;
		close_column(&c);
	}
	H5E_END_TRY
	return count;
}

static int read_column(hid_t file, const char *name, double *values, int64_t count, muon_error *err)
{
	column c = open_column(file, name);
	int code = MUON_OK;
	if (c.count != count)
		code = muon_fail(err, MUON_E_READ, name, "has %lld elements, not %lld",
				 (long long)c.count, (long long)count);
	else if (count &&
		 H5Dread(c.dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
		code = fail_read(name, err);
	close_column(&c);
	return code;
}

int mspec_columns_read(mspec_columns *columns, const char *name, double *values, int64_t count,
		       muon_error *err)
{
	int code;
	H5E_BEGIN_TRY
	{
		code = read_column(columns->file, name, values, count, err);
	}
	H5E_END_TRY
	return code;
}

static int copy_strings(const char **items, char *const *texts, int64_t count, muon_arena *arena)
{
	for (int64_t i = 0; i < count; i++)
		if (!(items[i] = muon_arena_string(arena, texts[i] ? texts[i] : "")))
			return MUON_E_MEMORY;
	return MUON_OK;
}

static int read_strings(hid_t file, const char *name, const char **items, int64_t count,
			muon_arena *arena, muon_error *err)
{
	column c = open_column(file, name);
	char **texts = muon_alloc((size_t)(count > 0 ? count : 1), sizeof *texts);
	hid_t type = mspec_h5_make_string_type();
	int code = texts && type >= 0 ? MUON_OK : mspec_out_of_memory(name, err);
	if (!code && c.count != count)
		code = muon_fail(err, MUON_E_READ, name, "has %lld elements, not %lld",
				 (long long)c.count, (long long)count);
	if (!code && count) {
		if (H5Dread(c.dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts) < 0) {
			code = fail_read(name, err);
		} else {
			if (copy_strings(items, texts, count, arena))
				code = mspec_out_of_memory(name, err);
			H5Dvlen_reclaim(type, c.space, H5P_DEFAULT, texts);
		}
	}
	muon_free(texts);
	mspec_h5_close(type);
	close_column(&c);
	return code;
}

int mspec_columns_strings(mspec_columns *columns, const char *name, const char **items,
			  int64_t count, muon_arena *arena, muon_error *err)
{
	int code;
	H5E_BEGIN_TRY
	{
		code = read_strings(columns->file, name, items, count, arena, err);
	}
	H5E_END_TRY
	return code;
}
