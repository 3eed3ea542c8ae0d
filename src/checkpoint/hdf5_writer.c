/* The HDF5 writer: the oldest format, which everything reads; contiguous datasets unless they are to be
 * compressed. */
#include "checkpoint/hdf5_library.h"
#include "checkpoint/writer.h"

#include <math.h>
#include <string.h>

struct mspec_hdf5_writer {
	hid_t file;
	int code;      /* the first failure; nothing can be written after it */
	char *path;
	bool compress;
	/* the dataset declared last; its element type is the file's, so nothing is converted */
	h5_transfer to;
	char *name;
	int64_t elements, written;
};

static int fail_write(mspec_hdf5_writer *writer, const char *where, const char *reason,
                      muon_error *err)
{
	writer->code = MUON_E_WRITE;
	return muon_fail(err, MUON_E_WRITE, where, "HDF5: %s", reason);
}

static int earlier_failure(const mspec_hdf5_writer *writer, muon_error *err)
{
	return muon_fail(err, writer->code, writer->path, "%s", muon_error_text(writer->code));
}

/* How a file comes to be open for writing. */
typedef struct opening {
	bool add;        /* to an existing one */
	size_t reserved; /* bytes before a new one's data */
} opening;

static int open_file(mspec_hdf5_writer *writer, const char *path, const opening *how,
                     muon_error *err)
{
	char reason[H5_REASON];
	hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE);
	bool good = access >= 0 && creation >= 0 && H5Pset_fapl_sec2(access) >= 0 &&
	            H5Pset_file_locking(access, false, true) >= 0 &&
	            H5Pset_userblock(creation, how->reserved) >= 0;
	if (good && how->add)
		writer->file = H5Fopen(path, H5F_ACC_RDWR, access);
	else if (good)
		writer->file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
	int code = writer->file < 0 ? fail_write(writer, path, mspec_h5_reason(reason), err)
	                            : MUON_OK;
	mspec_h5_close(creation);
	mspec_h5_close(access);
	return code;
}

static int begin_writing(mspec_hdf5_writer **out, const char *path, const opening *how,
                         muon_error *err)
{
	*out = NULL;
	mspec_hdf5_writer *writer = muon_alloc(1, sizeof *writer);
	size_t length = strlen(path) + 1;
	if (!writer || !(writer->path = muon_alloc(length, 1))) {
		muon_free(writer);
		return mspec_out_of_memory(path, err);
	}
	memcpy(writer->path, path, length);
	writer->file = writer->to.dataset = writer->to.type = writer->to.space = H5I_INVALID_HID;
	int code;
	H5E_BEGIN_TRY
	{
		code = open_file(writer, path, how, err);
	}
	H5E_END_TRY
	if (code)
		mspec_hdf5_abandon(&writer);
	*out = writer;
	return code;
}

int mspec_hdf5_create(mspec_hdf5_writer **out, const char *path, muon_error *err)
{
	return begin_writing(out, path, &(opening){.add = false}, err);
}

int mspec_hdf5_create_after(mspec_hdf5_writer **out, const char *path, size_t reserved,
                            muon_error *err)
{
	return begin_writing(out, path, &(opening){.reserved = reserved}, err);
}

int mspec_hdf5_reopen(mspec_hdf5_writer **out, const char *path, muon_error *err)
{
	return begin_writing(out, path, &(opening){.add = true}, err);
}

/* HDF5 takes "." and empty components of a path as nothing, so such names would not come back. */
static bool is_storable_name(const char *name)
{
	for (;; name++) {
		size_t length = strcspn(name, "/");
		if (!length || (length == 1 && *name == '.') ||
		    (length == 2 && !strncmp(name, "..", 2)))
			return false;
		name += length;
		if (!*name)
			return true;
	}
}

static int refuse_name(mspec_hdf5_writer *writer, const char *name, muon_error *err)
{
	return writer->code =
	           muon_fail(err, MUON_E_WRITE, name,
	                     "HDF5 can't hold this name: a part of it is empty, '.' or '..'");
}

/* Close the dataset declared last, which must be complete. */
static int end_dataset(mspec_hdf5_writer *writer, muon_error *err)
{
	int code = MUON_OK;
	if (writer->written != writer->elements)
		code = muon_fail(err, MUON_E_ARGUMENT, writer->name,
		                 "has %lld elements, %lld were written",
		                 (long long)writer->elements, (long long)writer->written);
	mspec_h5_close(writer->to.type);
	mspec_h5_close(writer->to.space);
	if (writer->to.dataset >= 0 && H5Dclose(writer->to.dataset) < 0 && !code) {
		char reason[H5_REASON];
		code = fail_write(writer, writer->name, mspec_h5_reason(reason), err);
	}
	writer->to.dataset = writer->to.type = writer->to.space = H5I_INVALID_HID;
	writer->elements = writer->written = 0;
	muon_free(writer->name);
	writer->name = NULL;
	if (code)
		writer->code = code;
	return code;
}

/* Chunks and deflate for a 1-d dataset that is long enough to gain by it. */
static bool set_compression(hid_t creation, hid_t space)
{
	enum { LEVEL = 6 };
	const hsize_t least = 64, most = 1 << 16;
	hsize_t length;
	if (H5Sget_simple_extent_ndims(space) != 1 ||
	    H5Sget_simple_extent_dims(space, &length, NULL) != 1 || length < least)
		return true;
	hsize_t chunk = length < most ? length : most;
	return H5Pset_chunk(creation, 1, &chunk) >= 0 && H5Pset_shuffle(creation) >= 0 &&
	       H5Pset_deflate(creation, LEVEL) >= 0;
}

/* A dataset of `type` and `space`; negative with the reason. No times are kept in it, so that the same
 * content is the same bytes. */
static hid_t make_dataset(const mspec_hdf5_writer *writer, const char *name, hid_t type, hid_t space,
                          char *reason)
{
	hid_t links = H5Pcreate(H5P_LINK_CREATE), creation = H5Pcreate(H5P_DATASET_CREATE);
	hid_t dataset = H5I_INVALID_HID;
	if (links >= 0 && creation >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0 &&
	    H5Pset_char_encoding(links, H5T_CSET_UTF8) >= 0 &&
	    H5Pset_obj_track_times(creation, false) >= 0 &&
	    (!writer->compress || set_compression(creation, space)))
		dataset = H5Dcreate2(writer->file, name, type, space, links, creation, H5P_DEFAULT);
	if (dataset < 0)
		mspec_h5_reason(reason);
	mspec_h5_close(links);
	mspec_h5_close(creation);
	return dataset;
}

/* Set a scalar attribute, replacing one of that name; false with the reason. */
static bool write_attribute(hid_t object, const char *name, hid_t type, const void *value,
                            char *reason)
{
	hid_t space = H5Screate(H5S_SCALAR), attribute = H5I_INVALID_HID;
	if (H5Aexists(object, name) <= 0 || H5Adelete(object, name) >= 0)
		attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
	bool good = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
	if (!good)
		mspec_h5_reason(reason);
	if (attribute >= 0 && H5Aclose(attribute) < 0 && good) {
		mspec_h5_reason(reason);
		good = false;
	}
	mspec_h5_close(space);
	return good;
}

static bool write_text(hid_t object, const char *name, const char *text, char *reason)
{
	hid_t type = mspec_h5_make_string_type();
	bool good = write_attribute(object, name, type, &text, reason);
	mspec_h5_close(type);
	return good;
}

/* Make the dataset that elements will be appended to; false with the reason. */
static bool start_dataset(mspec_hdf5_writer *writer, const char *name, muon_dtype dtype, int rank,
                          const int64_t *dims, char *reason)
{
	h5_transfer *to = &writer->to;
	*to = (h5_transfer){.write = true, .rank = rank, .element = muon_dtype_size(dtype)};
	for (int i = 0; i < rank; i++)
		to->dims[i] = (hsize_t)dims[i];
	to->dataset = H5I_INVALID_HID;
	to->type = mspec_h5_make_type(dtype);
	to->space = rank ? H5Screate_simple(rank, to->dims, NULL) : H5Screate(H5S_SCALAR);
	to->dataset = make_dataset(writer, name, to->type, to->space, reason);
	const char *label = mspec_h5_dtype_label(dtype);
	return to->dataset >= 0 && (!label || write_text(to->dataset, "dtype", label, reason));
}

static int declare_dataset(mspec_hdf5_writer *writer, const char *name, muon_dtype dtype, int rank,
                           const int64_t *dims, muon_error *err)
{
	char reason[H5_REASON];
	if (writer->code || end_dataset(writer, err))
		return earlier_failure(writer, err);
	if (!is_storable_name(name))
		return refuse_name(writer, name, err);
	int64_t elements = rank >= 0 && rank <= H5S_MAX_RANK
	                       ? mspec_count_elements(rank, dims, muon_dtype_size(dtype))
	                       : -1;
	if (elements < 0)
		return writer->code = muon_fail(err, MUON_E_ARGUMENT, name, "impossible shape");
	size_t length = strlen(name) + 1;
	writer->name = muon_alloc(length, 1);
	if (!writer->name)
		return writer->code = mspec_out_of_memory(name, err);
	memcpy(writer->name, name, length);
	if (!start_dataset(writer, name, dtype, rank, dims, reason))
		return fail_write(writer, name, reason, err);
	writer->elements = elements;
	return MUON_OK;
}

void mspec_hdf5_compress(mspec_hdf5_writer *writer)
{
	writer->compress = true;
}

int mspec_hdf5_dataset(mspec_hdf5_writer *writer, const char *name, muon_dtype dtype, int rank,
                       const int64_t *dims, muon_error *err)
{
	int code;
	H5E_BEGIN_TRY
	{
		code = declare_dataset(writer, name, dtype, rank, dims, err);
	}
	H5E_END_TRY
	return code;
}

int mspec_hdf5_append(mspec_hdf5_writer *writer, const void *elements, int64_t count,
                      muon_error *err)
{
	if (writer->code)
		return earlier_failure(writer, err);
	if (count < 0 || count > writer->elements - writer->written)
		return writer->code = muon_fail(err, MUON_E_ARGUMENT, writer->name,
		                                "more elements than declared");
	if (!count)
		return MUON_OK;
	herr_t status;
	writer->to.buffer.from = elements;
	H5E_BEGIN_TRY
	{
		status =
		    mspec_h5_transfer(&writer->to, 0, (hsize_t)writer->written, (hsize_t)count);
	}
	H5E_END_TRY
	if (status < 0)
		return fail_write(writer, writer->name, writer->to.reason, err);
	writer->written += count;
	return MUON_OK;
}

static int write_strings(mspec_hdf5_writer *writer, const char *name, const char *const *texts,
                         size_t count, muon_error *err)
{
	if (writer->code || end_dataset(writer, err))
		return earlier_failure(writer, err);
	if (!is_storable_name(name))
		return refuse_name(writer, name, err);
	char reason[H5_REASON] = "";
	hsize_t length = count;
	hid_t type = mspec_h5_make_string_type(), space = H5Screate_simple(1, &length, NULL);
	hid_t dataset = make_dataset(writer, name, type, space, reason);
	if (dataset >= 0 && count &&
	    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts) < 0)
		mspec_h5_reason(reason);
	if (dataset >= 0 && H5Dclose(dataset) < 0 && !*reason)
		mspec_h5_reason(reason);
	mspec_h5_close(space);
	mspec_h5_close(type);
	return *reason ? fail_write(writer, name, reason, err) : MUON_OK;
}

int mspec_hdf5_strings(mspec_hdf5_writer *writer, const char *name, const char *const *texts,
                       size_t count, muon_error *err)
{
	int code;
	H5E_BEGIN_TRY
	{
		code = write_strings(writer, name, texts, count, err);
	}
	H5E_END_TRY
	return code;
}

/* Text, or a number where `text` is NULL. */
static int write_any_attribute(mspec_hdf5_writer *writer, const char *object, const char *name,
                               const char *text, double number, muon_error *err)
{
	if (writer->code)
		return earlier_failure(writer, err);
	char reason[H5_REASON] = "";
	hid_t at = H5Oopen(writer->file, object ? object : "/", H5P_DEFAULT);
	bool whole = number == trunc(number) && fabs(number) < 0x1p53;
	int64_t integer = whole ? (int64_t)number : 0;
	bool good = at >= 0;
	if (!good)
		mspec_h5_reason(reason);
	else if (text)
		good = write_text(at, name, text, reason);
	else if (whole)
		good = write_attribute(at, name, H5T_NATIVE_INT64, &integer, reason);
	else
		good = write_attribute(at, name, H5T_NATIVE_DOUBLE, &number, reason);
	mspec_h5_close(at);
	return good ? MUON_OK : fail_write(writer, name, reason, err);
}

int mspec_hdf5_attribute_text(mspec_hdf5_writer *writer, const char *object, const char *name,
                              const char *value, muon_error *err)
{
	int code;
	H5E_BEGIN_TRY
	{
		code = write_any_attribute(writer, object, name, value, 0, err);
	}
	H5E_END_TRY
	return code;
}

int mspec_hdf5_attribute_number(mspec_hdf5_writer *writer, const char *object, const char *name,
                                double value, muon_error *err)
{
	int code;
	H5E_BEGIN_TRY
	{
		code = write_any_attribute(writer, object, name, NULL, value, err);
	}
	H5E_END_TRY
	return code;
}

int mspec_hdf5_remove(mspec_hdf5_writer *writer, const char *name, muon_error *err)
{
	bool good;
	H5E_BEGIN_TRY
	{
		good = H5Lexists(writer->file, name, H5P_DEFAULT) <= 0 ||
		       H5Ldelete(writer->file, name, H5P_DEFAULT) >= 0;
	}
	H5E_END_TRY
	return good ? MUON_OK : fail_write(writer, name, "cannot be taken out", err);
}

static void release_writer(mspec_hdf5_writer **writer)
{
	muon_free((*writer)->path);
	muon_free(*writer);
	*writer = NULL;
}

static int finish_file(mspec_hdf5_writer *writer, muon_error *err)
{
	char reason[H5_REASON];
	int code = writer->code ? earlier_failure(writer, err) : end_dataset(writer, err);
	if (!code && H5Fflush(writer->file, H5F_SCOPE_LOCAL) < 0)
		code = fail_write(writer, writer->path, mspec_h5_reason(reason), err);
	if (code)
		return code;
	hid_t file = writer->file;
	writer->file = H5I_INVALID_HID;
	if (H5Fclose(file) < 0)
		code = fail_write(writer, writer->path, mspec_h5_reason(reason), err);
	return code;
}

int mspec_hdf5_finish(mspec_hdf5_writer **writer, muon_error *err)
{
	int code;
	H5E_BEGIN_TRY
	{
		code = finish_file(*writer, err);
	}
	H5E_END_TRY
	mspec_hdf5_abandon(writer);
	return code;
}

void mspec_hdf5_abandon(mspec_hdf5_writer **writer)
{
	mspec_hdf5_writer *w = *writer;
	if (!w)
		return;
	H5E_BEGIN_TRY
	{
		w->written = w->elements; /* being incomplete is no news any more */
		end_dataset(w, NULL);
		if (w->file >= 0)
			H5Fclose(w->file);
	}
	H5E_END_TRY
	release_writer(writer);
}
