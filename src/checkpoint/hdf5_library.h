/* What the files that use libhdf5 share; the only file that includes its header.
 *
 * libhdf5 is asked for structure, and for data that is chunked, compressed or otherwise laid out in
 * a way of its own. It never follows a link out of a file by itself: links are resolved here,
 * inside the checkpoint's own folder. It never converts numbers: its conversion of bf16 is very
 * slow. Entry points of the reader and the writer silence its printing with H5E_BEGIN_TRY. */
#ifndef MUONSPEC_CHECKPOINT_HDF5_LIBRARY_H
#define MUONSPEC_CHECKPOINT_HDF5_LIBRARY_H

#include "checkpoint/reader.h"

#include <hdf5.h>

enum {
	H5_REASON = 160,             /* bytes of a reason in a message */
	H5_PROBLEM = 320,            /* bytes of what is wrong with a tensor */
	H5_MAX_ATTRIBUTE = 16 << 20, /* bytes */
	H5_CHUNK_CACHE = 64 << 20    /* bytes */
};

/* ---- hdf5_library.c ------------------------------------------------------------------------ */

/* Close any object; nothing for a negative id. */
void mspec_h5_close(hid_t id);

/* Why the last call failed, into `reason` (H5_REASON bytes), which is returned: the words of the
 * innermost function of libhdf5, which knows most, escaped. Any other call forgets them. */
const char *mspec_h5_reason(char *reason);

/* a * b, or INT64_MAX where that overflows; neither is negative. */
int64_t mspec_h5_product(int64_t a, int64_t b);

typedef struct h5_strings {
	char **items;
	size_t count;
} h5_strings;

/* The strings of an attribute; none where it is absent or of another type. */
h5_strings mspec_h5_read_strings(hid_t object, const char *name, muon_arena *arena);
/* NULL where the attribute is absent or not one string. */
const char *mspec_h5_read_text(hid_t object, const char *name, muon_arena *arena);
/* NaN where the attribute is absent or not one number. */
double mspec_h5_read_number(hid_t object, const char *name);

/* Elements of a dataset that libhdf5 moves, a box of them at a time. */
typedef struct h5_transfer {
	hid_t dataset, type, space;
	bool write;
	int rank;
	hsize_t dims[H5S_MAX_RANK], start[H5S_MAX_RANK], size[H5S_MAX_RANK];
	size_t element; /* bytes */
	union {
		char *to;
		const char *from;
	} buffer;
	char reason[H5_REASON]; /* of a failure */
} h5_transfer;

/* Move `count` elements, in row-major order from `first` on, of the sub-array that the first `d`
 * indices in t->start choose. Negative with t->reason. */
herr_t mspec_h5_transfer(h5_transfer *t, int d, hsize_t first, hsize_t count);

/* ---- hdf5_types.c -------------------------------------------------------------------------- */

typedef struct h5_element_type {
	muon_dtype dtype;
	bool swap; /* stored in the other byte order */
	char name[64];
} h5_element_type;

void mspec_h5_describe_type(hid_t dataset, hid_t type, h5_element_type *element);

/* The type of a dataset of such elements, and of a variable-length UTF-8 string; negative on
 * failure. */
hid_t mspec_h5_make_type(muon_dtype dtype);
hid_t mspec_h5_make_string_type(void);
/* Value of the `dtype` attribute for types that HDF5 has no name for; NULL for the others. */
const char *mspec_h5_dtype_label(muon_dtype dtype);

/* ---- hdf5_files.c -------------------------------------------------------------------------- */

/* The checkpoint itself, or a file that an external link in it leads to. */
typedef struct h5_file {
	hid_t id;
	int fd; /* libhdf5's own descriptor, for data that needs no library to be read */
	int64_t size;
	char *path;   /* real */
	char *folder; /* real, ends in "/" */
	struct h5_file *next;
} h5_file;

/* Where a tensor's data is. */
typedef struct h5_source {
	h5_file *file;
	char *path;     /* of the dataset in that file */
	int64_t offset; /* of contiguous data in the file; -1: libhdf5 must read it */
	bool swap;
} h5_source;

typedef struct h5_state {
	mspec_checkpoint *checkpoint; /* whose state this is */
	h5_file *files; /* the checkpoint itself is the last */
	size_t file_count;
	const char *root; /* folder that nothing is followed out of */
	hid_t links;      /* link access: no external links */
	/* the dataset read last, open between calls that read it piece by piece */
	const h5_source *current;
	hid_t dataset, type;
} h5_state;

/* For H5Pset_elink_cb: follow no external link. */
herr_t mspec_h5_refuse_link(const char *file, const char *group, const char *to_file,
                            const char *to_object, unsigned *flags, hid_t access, void *state);

/* Real path of the regular file `name`, seen from `folder`, into `real` (PATH_MAX bytes), if it is
 * below `root`; NULL, or why not. */
const char *mspec_h5_resolve_inside(const char *root, const char *folder, const char *name,
                                    char *real);

/* Open the file whose real path is `path`, or find it if it is open. MUON_E_MEMORY, or MUON_E_READ
 * with the reason. */
int mspec_h5_open_file(h5_file **out, mspec_checkpoint *checkpoint, const char *path, char *reason);

/* ---- hdf5_storage.c ------------------------------------------------------------------------ */

/* Set the problem of a dataset's entry whose elements can't be read, as far as the structure of the
 * file tells, and source->offset where they can be read without libhdf5. */
void mspec_h5_check_storage(mspec_checkpoint *checkpoint, hid_t dataset, hid_t properties,
                            mspec_entry *entry);

/* Are the datasets that a virtual dataset of `file` is made of there, inside the checkpoint's
 * folder, and plain? libhdf5 would read missing ones as zeros, and follow the others wherever they
 * lead, even for the dataset's shape: to be called before it gets the chance. False with the
 * problem (H5_PROBLEM bytes). */
bool mspec_h5_check_virtual(const h5_state *h5, const h5_file *file, hid_t properties,
                            char *problem);

/* ---- hdf5_walk.c --------------------------------------------------------------------------- */

/* List the tensors of the checkpoint, whose file is open. */
int mspec_h5_walk(mspec_checkpoint *checkpoint, muon_error *err);

#endif
