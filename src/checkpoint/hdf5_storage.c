/* How the elements of an HDF5 dataset are stored, and whether they can be: what is declared and
 * what the file can hold are different things. */
#include "checkpoint/hdf5_library.h"
#include "base/text.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	MAX_VIRTUAL_SOURCES = 4096, /* of one virtual dataset */
	MAX_CHUNK = 1 << 30,        /* bytes */
	/* deflate makes at most 1032 bytes of one; anything beyond is declared, not stored */
	MAX_COMPRESSION = 1100
};

/* A dataset while it is being listed. */
typedef struct listing {
	mspec_checkpoint *checkpoint;
	hid_t dataset, properties;
	size_t element;  /* bytes */
	int64_t bytes;   /* of all elements */
	h5_source *source;
	int code;        /* MUON_OK as long as nothing is wrong */
	char problem[H5_PROBLEM];
} listing;

static void set_problem(listing *l, int code, const char *format, ...) MUON_PRINTF(3, 4);
static void set_problem(listing *l, int code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	l->code = code;
	vsnprintf(l->problem, sizeof l->problem, format, args);
	va_end(args);
}

static const char *known_filter(H5Z_filter_t id)
{
	static const struct {
		H5Z_filter_t id;
		const char *name;
	} known[] = {
	    {H5Z_FILTER_DEFLATE, "gzip"}, {H5Z_FILTER_SZIP, "szip"}, {305, "lzo"},
	    {307, "bzip2"},               {32000, "lzf"},            {32001, "blosc"},
	    {32004, "lz4"},               {32008, "bitshuffle"},     {32013, "zfp"},
	    {32015, "zstd"},              {32017, "sz"},             {32026, "blosc2"},
	};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (known[i].id == id)
			return known[i].name;
	return NULL;
}

static void check_filters(listing *l, int count)
{
	for (unsigned i = 0; i < (unsigned)count && !l->code; i++) {
		unsigned flags, config;
		size_t no_values = 0;
		char own_name[64] = "", escaped[H5_REASON];
		H5Z_filter_t id = H5Pget_filter2(l->properties, i, &flags, &no_values, NULL,
		                                 sizeof own_name, own_name, &config);
		if (id < 0) {
			set_problem(l, MUON_E_READ, "filters: %s", mspec_h5_reason(escaped));
		} else if (H5Zfilter_avail(id) <= 0) {
			own_name[sizeof own_name - 1] = 0;
			const char *name = known_filter(id);
			if (!name)
				name = *own_name ? muon_escape(escaped, sizeof escaped, own_name)
				                 : "unnamed";
			set_problem(l, MUON_E_READ,
			            "filter %d (%s) is not available; install its HDF5 plugin", id,
			            name);
		}
	}
}

static void check_chunks(listing *l, int rank)
{
	hsize_t chunk[H5S_MAX_RANK];
	char reason[H5_REASON];
	int chunk_rank = H5Pget_chunk(l->properties, H5S_MAX_RANK, chunk);
	if (chunk_rank < 0) {
		set_problem(l, MUON_E_READ, "%s", mspec_h5_reason(reason));
		return;
	}
	int64_t bytes = (int64_t)l->element, limit = l->checkpoint->options.max_tensor_bytes;
	for (int i = 0; i < chunk_rank; i++)
		bytes = mspec_h5_product(bytes,
		                         chunk[i] > INT64_MAX ? INT64_MAX : (int64_t)chunk[i]);
	if (chunk_rank != rank || !bytes)
		set_problem(l, MUON_E_READ, "has chunks of another shape");
	else if (bytes > MAX_CHUNK || (limit > 0 && bytes > limit))
		set_problem(l, MUON_E_TOO_LARGE, "is stored in chunks of %lld bytes",
		            (long long)bytes);
	else if (bytes > H5_CHUNK_CACHE && bytes / 4 > l->bytes)
		set_problem(l, MUON_E_READ, "declares %lld bytes in chunks of %lld",
		            (long long)l->bytes, (long long)bytes);
}

static void check_chunked(listing *l, int rank)
{
	char reason[H5_REASON];
	int filters = H5Pget_nfilters(l->properties);
	if (filters < 0)
		set_problem(l, MUON_E_READ, "%s", mspec_h5_reason(reason));
	else
		check_filters(l, filters);
	if (!l->code)
		check_chunks(l, rank);
	int64_t size = l->source->file->size;
	int64_t possible = filters > 0 ? mspec_h5_product(size, MAX_COMPRESSION) : size;
	if (!l->code && l->bytes > possible)
		set_problem(l, MUON_E_READ, "declares %lld bytes, file holds %lld",
		            (long long)l->bytes, (long long)size);
	if (!l->code && !H5Dget_storage_size(l->dataset))
		set_problem(l, MUON_E_READ, "is declared but was never written");
}

static void check_compact(listing *l)
{
	hsize_t stored = H5Dget_storage_size(l->dataset);
	if ((hsize_t)l->bytes > stored)
		set_problem(l, MUON_E_READ, "declares %lld bytes, stores %llu", (long long)l->bytes,
		            (unsigned long long)stored);
}

static void check_contiguous(listing *l)
{
	h5_source *s = l->source;
	hsize_t stored = H5Dget_storage_size(l->dataset);
	haddr_t offset = H5Dget_offset(l->dataset);
	if (offset == HADDR_UNDEF)
		set_problem(l, MUON_E_READ, "is declared but was never written");
	else if ((hsize_t)l->bytes > stored)
		set_problem(l, MUON_E_READ, "declares %lld bytes, stores %llu", (long long)l->bytes,
		            (unsigned long long)stored);
	else if (l->bytes > s->file->size || offset > (haddr_t)(s->file->size - l->bytes))
		set_problem(l, MUON_E_READ, "declares %lld bytes at %llu, file holds %lld",
		            (long long)l->bytes, (unsigned long long)offset,
		            (long long)s->file->size);
	else
		s->offset = (int64_t)offset;
}

/* Raw data in files of its own. */
static void check_external(listing *l, int count)
{
	h5_state *h5 = l->checkpoint->file;
	int64_t held = 0;
	for (unsigned i = 0; i < (unsigned)count && !l->code; i++) {
		char name[PATH_MAX] = "", real[PATH_MAX], escaped[H5_REASON];
		off_t offset;
		hsize_t size;
		struct stat st;
		if (H5Pget_external(l->properties, i, sizeof name, name, &offset, &size) < 0) {
			set_problem(l, MUON_E_READ, "%s", mspec_h5_reason(escaped));
			return;
		}
		name[sizeof name - 1] = 0;
		const char *wrong =
		    mspec_h5_resolve_inside(h5->root, l->source->file->folder, name, real);
		if (wrong)
			set_problem(l, MUON_E_READ, "data file '%s' %s",
			            muon_escape(escaped, sizeof escaped, name), wrong);
		else if (!stat(real, &st) && offset >= 0 && offset < st.st_size)
			held += size > (hsize_t)(st.st_size - offset) ? st.st_size - offset
			                                              : (int64_t)size;
		if (!wrong)
			mspec_note_file(l->checkpoint, real);
		if (held > l->bytes) /* never overflows then */
			held = l->bytes;
	}
	if (!l->code && held < l->bytes)
		set_problem(l, MUON_E_READ, "declares %lld bytes, its data files hold %lld",
		            (long long)l->bytes, (long long)held);
}

/* A dataset that a virtual one is made of. Its file is opened as libhdf5 will do it, with locks, or
 * the two would not agree; and closed again. */
static bool check_virtual_source(const h5_state *h5, const h5_file *file, const char *file_name,
                                 const char *object, char *problem)
{
	char real[PATH_MAX], reason[H5_REASON], escaped[H5_REASON];
	bool same = !strcmp(file_name, ".");
	const char *wrong = same ? NULL
	                    : *file_name == '/' || strchr(file_name, '%')
	                        ? "is not a plain relative name"
	                        : mspec_h5_resolve_inside(h5->root, file->folder, file_name, real);
	hid_t id = same    ? file->id
	           : wrong ? H5I_INVALID_HID
	                   : H5Fopen(real, H5F_ACC_RDONLY, H5P_DEFAULT);
	if (id < 0) {
		wrong = wrong ? wrong : mspec_h5_reason(reason);
		snprintf(problem, H5_PROBLEM, "source file '%s' %s",
		         muon_escape(escaped, sizeof escaped, file_name), wrong);
		return false;
	}
	if (!same)
		mspec_note_file(h5->checkpoint, real);
	hid_t dataset = H5Oopen(id, object, h5->links), properties = H5I_INVALID_HID;
	if (dataset >= 0 && H5Iget_type(dataset) == H5I_DATASET)
		properties = H5Dget_create_plist(dataset);
	wrong = properties < 0                            ? "is missing"
	        : H5Pget_layout(properties) == H5D_VIRTUAL ||
	                H5Pget_external_count(properties) ? "has its own data elsewhere"
	                                                  : NULL;
	if (wrong)
		snprintf(problem, H5_PROBLEM, "source dataset '%s' %s",
		         muon_escape(escaped, sizeof escaped, object), wrong);
	mspec_h5_close(properties);
	mspec_h5_close(dataset);
	if (!same)
		mspec_h5_close(id);
	return !wrong;
}

bool mspec_h5_check_virtual(const h5_state *h5, const h5_file *file, hid_t properties,
                            char *problem)
{
	size_t count = 0;
	if (H5Pget_virtual_count(properties, &count) < 0 || count > MAX_VIRTUAL_SOURCES) {
		snprintf(problem, H5_PROBLEM, "is made of more than %d datasets",
		         MAX_VIRTUAL_SOURCES);
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		char name[PATH_MAX] = "", object[PATH_MAX] = "";
		ssize_t a = H5Pget_virtual_filename(properties, i, name, sizeof name);
		ssize_t b = H5Pget_virtual_dsetname(properties, i, object, sizeof object);
		if (a < 0 || b < 0 || a >= (ssize_t)sizeof name || b >= (ssize_t)sizeof object) {
			snprintf(problem, H5_PROBLEM, "has a source without a readable name");
			return false;
		}
		if (!check_virtual_source(h5, file, name, object, problem))
			return false;
	}
	return true;
}

static void check_layout(listing *l, int rank)
{
	char reason[H5_REASON];
	int external;
	switch (H5Pget_layout(l->properties)) {
	case H5D_COMPACT:
		check_compact(l);
		break;
	case H5D_CHUNKED:
		check_chunked(l, rank);
		break;
	case H5D_VIRTUAL: /* seen before its shape was read */
		break;
	case H5D_CONTIGUOUS:
		external = H5Pget_external_count(l->properties);
		if (external < 0)
			set_problem(l, MUON_E_READ, "%s", mspec_h5_reason(reason));
		else if (external)
			check_external(l, external);
		else
			check_contiguous(l);
		break;
	default:
		set_problem(l, MUON_E_READ, "%s", mspec_h5_reason(reason));
		break;
	}
}

void mspec_h5_check_storage(mspec_checkpoint *checkpoint, hid_t dataset, hid_t properties,
                            mspec_entry *entry)
{
	const mspec_tensor *t = &entry->tensor;
	listing l = {checkpoint, dataset, properties, .source = entry->source};
	l.element = muon_dtype_size(t->dtype);
	l.bytes = t->elements * (int64_t)l.element; /* mspec_add_tensor has seen that it fits */
	check_layout(&l, t->rank);
	if (l.code)
		mspec_set_problem(checkpoint, entry, l.code, l.problem);
}
