/* Small tools around libhdf5: errors, attributes, moving ranges of elements. */
#include "checkpoint/hdf5_library.h"
#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void mspec_h5_close(hid_t id)
{
	if (id >= 0)
		H5Idec_ref(id);
}

/* Of a failed system call only what the system says: "file write failed: time = Fri Nov 27 10:00:00
 * 2026\n, filename = ..., errno = 28, error message = 'No space left on device', buf = ..." */
static void keep_text(char *reason, const char *text)
{
	static const char start[] = "error message = '";
	const char *message = strstr(text, start);
	char quoted[H5_REASON];
	if (message) {
		message += strlen(start);
		snprintf(quoted, sizeof quoted, "%.*s", (int)strcspn(message, "'"), message);
	}
	muon_escape(reason, H5_REASON, message ? quoted : text);
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *error, void *reason)
{
	(void)n;
	if (!*(char *)reason && error->desc)
		keep_text(reason, error->desc);
	return 0;
}

const char *mspec_h5_reason(char *reason)
{
	*reason = 0;
	H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, reason);
	if (!*reason)
		snprintf(reason, H5_REASON, "libhdf5 gives no reason");
	return reason;
}

int64_t mspec_h5_product(int64_t a, int64_t b)
{
	int64_t product;
	return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

/* Both leave `into` as it is when anything is wrong with the attribute. */
static void read_fixed_strings(hid_t attribute, hid_t type, size_t count, muon_arena *arena,
                               h5_strings *into)
{
	size_t size = H5Tget_size(type);
	bool padded = H5Tget_strpad(type) == H5T_STR_SPACEPAD;
	char *bytes = muon_alloc(count, size);
	char **items = muon_arena_alloc(arena, count, sizeof *items);
	bool good = bytes && items && H5Aread(attribute, type, bytes) >= 0;
	for (size_t i = 0; good && i < count; i++) {
		const char *from = bytes + i * size;
		size_t length = 0;
		while (length < size && from[length])
			length++;
		while (padded && length && from[length - 1] == ' ')
			length--;
		items[i] = muon_arena_alloc(arena, length + 1, 1);
		good = items[i];
		if (good)
			memcpy(items[i], from, length);
	}
	muon_free(bytes);
	if (good)
		*into = (h5_strings){items, count};
}

static void read_variable_strings(hid_t attribute, hid_t type, hid_t space, size_t count,
                                  muon_arena *arena, h5_strings *into)
{
	hid_t memory = H5Tcopy(H5T_C_S1);
	char **texts = muon_alloc(count, sizeof *texts);
	char **items = muon_arena_alloc(arena, count, sizeof *items);
	bool good = memory >= 0 && texts && items && H5Tset_size(memory, H5T_VARIABLE) >= 0 &&
	            H5Tset_cset(memory, H5Tget_cset(type)) >= 0 &&
	            H5Aread(attribute, memory, texts) >= 0;
	bool filled = good;
	for (size_t i = 0; good && i < count; i++) {
		items[i] = muon_arena_string(arena, texts[i] ? texts[i] : "");
		good = items[i];
	}
	if (filled)
		H5Dvlen_reclaim(memory, space, H5P_DEFAULT, texts);
	mspec_h5_close(memory);
	muon_free(texts);
	if (good)
		*into = (h5_strings){items, count};
}

h5_strings mspec_h5_read_strings(hid_t object, const char *name, muon_arena *arena)
{
	h5_strings found = {0};
	if (H5Aexists(object, name) <= 0)
		return found;
	hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
	if (attribute < 0)
		return found;
	hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
	hssize_t count = space < 0 ? 0 : H5Sget_simple_extent_npoints(space);
	size_t size = type >= 0 && H5Tget_class(type) == H5T_STRING ? H5Tget_size(type) : 0;
	if (count > 0 && size && (size_t)count <= H5_MAX_ATTRIBUTE / size) {
		if (H5Tis_variable_str(type) > 0)
			read_variable_strings(attribute, type, space, (size_t)count, arena, &found);
		else
			read_fixed_strings(attribute, type, (size_t)count, arena, &found);
	}
	mspec_h5_close(space);
	mspec_h5_close(type);
	H5Aclose(attribute);
	return found;
}

const char *mspec_h5_read_text(hid_t object, const char *name, muon_arena *arena)
{
	h5_strings found = mspec_h5_read_strings(object, name, arena);
	return found.count == 1 ? found.items[0] : NULL;
}

double mspec_h5_read_number(hid_t object, const char *name)
{
	double value = NAN;
	if (H5Aexists(object, name) <= 0)
		return value;
	hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
	if (attribute < 0)
		return value;
	hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
	H5T_class_t class = type < 0 ? H5T_NO_CLASS : H5Tget_class(type);
	if ((class == H5T_INTEGER || class == H5T_FLOAT) && space >= 0 &&
	    H5Sget_simple_extent_npoints(space) == 1 &&
	    H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0)
		value = NAN;
	mspec_h5_close(space);
	mspec_h5_close(type);
	H5Aclose(attribute);
	return value;
}

/* Move the box start, size. */
static herr_t transfer_box(h5_transfer *t)
{
	hsize_t count = 1;
	for (int i = 0; i < t->rank; i++)
		count *= t->size[i];
	/* of the same shape as in the file, or libhdf5 maps chunks element by element */
	hid_t memory = t->rank ? H5Screate_simple(t->rank, t->size, NULL) : H5Screate(H5S_SCALAR);
	herr_t status = memory < 0 ? -1 : 0;
	if (!status && t->rank)
		status = H5Sselect_hyperslab(t->space, H5S_SELECT_SET, t->start, NULL, t->size,
		                             NULL);
	if (status >= 0)
		status = t->write ? H5Dwrite(t->dataset, t->type, memory, t->space, H5P_DEFAULT,
		                             t->buffer.from)
		                  : H5Dread(t->dataset, t->type, memory, t->space, H5P_DEFAULT,
		                            t->buffer.to);
	if (status < 0)
		mspec_h5_reason(t->reason);
	mspec_h5_close(memory);
	if (t->write)
		t->buffer.from += count * t->element;
	else
		t->buffer.to += count * t->element;
	return status;
}

/* Whole rows are one box, the parts of rows at both ends smaller problems of the same kind. */
herr_t mspec_h5_transfer(h5_transfer *t, int d, hsize_t first, hsize_t count)
{
	if (d == t->rank) /* a scalar */
		return transfer_box(t);
	hsize_t row = 1; /* elements */
	for (int i = d + 1; i < t->rank; i++)
		row *= t->dims[i];
	while (count) {
		hsize_t within = first % row, part = row - within;
		herr_t status;
		t->start[d] = first / row;
		t->size[d] = 1;
		if (within || count < row) {
			part = part < count ? part : count;
			status = mspec_h5_transfer(t, d + 1, within, part);
		} else {
			t->size[d] = count / row;
			part = t->size[d] * row;
			for (int i = d + 1; i < t->rank; i++) {
				t->start[i] = 0;
				t->size[i] = t->dims[i];
			}
			status = transfer_box(t);
		}
		if (status < 0)
			return status;
		first += part;
		count -= part;
	}
	return 0;
}
