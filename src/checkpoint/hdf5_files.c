/* The files of an HDF5 checkpoint, none of them outside its folder. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "checkpoint/hdf5_library.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FILES = 256 }; /* reached through external links */

herr_t mspec_h5_refuse_link(const char *file, const char *group, const char *to_file,
                            const char *to_object, unsigned *flags, hid_t access, void *state)
{
	(void)file, (void)group, (void)to_file, (void)to_object, (void)flags, (void)access,
	    (void)state;
	return -1;
}

const char *mspec_h5_resolve_inside(const char *root, const char *folder, const char *name,
                                    char *real)
{
	char joined[PATH_MAX];
	int length = snprintf(joined, sizeof joined, "%s%s", *name == '/' ? "" : folder, name);
	if (length < 0 || (size_t)length >= sizeof joined)
		return "has a name that is too long";
	if (!realpath(joined, real))
		return errno == ENOENT ? "does not exist" : strerror(errno);
	if (strncmp(real, root, strlen(root)))
		return "is outside the checkpoint's folder";
	struct stat st;
	if (stat(real, &st) || !S_ISREG(st.st_mode))
		return "is not a regular file";
	return NULL;
}

/* Negative with the reason. */
static hid_t open_read_only(const char *path, char *reason)
{
	hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = H5I_INVALID_HID;
	/* no locks: they fail on some network file systems, and readers need none */
	if (access >= 0 && H5Pset_fapl_sec2(access) >= 0 &&
	    H5Pset_file_locking(access, false, true) >= 0)
		file = H5Fopen(path, H5F_ACC_RDONLY, access);
	if (file < 0)
		mspec_h5_reason(reason);
	mspec_h5_close(access);
	return file;
}

static bool find_descriptor(h5_file *file, char *reason)
{
	void *handle;
	struct stat st;
	if (H5Fget_vfd_handle(file->id, H5P_DEFAULT, &handle) < 0) {
		mspec_h5_reason(reason);
		return false;
	}
	file->fd = *(int *)handle;
	if (fstat(file->fd, &st)) {
		snprintf(reason, H5_REASON, "%s", strerror(errno));
		return false;
	}
	file->size = st.st_size;
	return true;
}

static h5_file *new_file(muon_arena *arena, const char *path)
{
	h5_file *file = muon_arena_alloc(arena, 1, sizeof *file);
	if (!file)
		return NULL;
	file->path = muon_arena_string(arena, path);
	file->folder = muon_arena_string(arena, path);
	if (!file->path || !file->folder)
		return NULL;
	strrchr(file->folder, '/')[1] = 0;
	return file;
}

int mspec_h5_open_file(h5_file **out, mspec_checkpoint *checkpoint, const char *path, char *reason)
{
	h5_state *h5 = checkpoint->file;
	for (*out = h5->files; *out; *out = (*out)->next)
		if (!strcmp((*out)->path, path))
			return MUON_OK;
	if (h5->file_count == MAX_FILES) {
		snprintf(reason, H5_REASON, "more than %d files", MAX_FILES);
		return MUON_E_READ;
	}
	h5_file *file = new_file(&checkpoint->arena, path);
	if (!file)
		return MUON_E_MEMORY;
	file->id = open_read_only(path, reason);
	if (file->id < 0)
		return MUON_E_READ;
	if (!find_descriptor(file, reason)) {
		H5Fclose(file->id);
		return MUON_E_READ;
	}
	mspec_note_file(checkpoint, path);
	file->next = h5->files;
	h5->files = file;
	h5->file_count++;
	*out = file;
	return MUON_OK;
}
