/* What the fuzz targets of checkpoint formats do with a file: open it, read it, and abort when a
 * promise of muonspec/checkpoint.h is broken. Include first, it chooses the feature macros. */
#ifndef TESTS_FUZZ_EXERCISE_H
#define TESTS_FUZZ_EXERCISE_H

#include "fuzz/input.h"

#include "checkpoint/reader.h"

static void exercise_tensor(mspec_checkpoint *checkpoint, size_t index, int64_t most_bytes)
{
	enum { ALL = 1 << 16 }; /* elements read, at most */
	const mspec_tensor *t = mspec_tensor_at(checkpoint, index);
	require(t->name && t->type_name, "name and type");
	require(t->rank >= 0 && t->rank <= MSPEC_MAX_RANK, "rank");
	require(!t->status == !t->problem, "a problem goes with its status");
	require((unsigned)t->dtype <= MUON_DTYPE_NONE && t->elements >= 0, "type and count");
	muon_error err = {0};
	int64_t size = (int64_t)muon_dtype_size(t->dtype);
	if (t->status || !size) {
		check_error(mspec_read(checkpoint, index, 0, 0, NULL, &err), &err);
		return;
	}
	int64_t product = 1;
	for (int i = 0; i < t->rank; i++) {
		require(t->dims[i] >= 0, "sizes are not negative");
		product = t->elements ? product * t->dims[i] : 0;
	}
	require(product == t->elements, "elements are the product of dims");
	require(t->elements <= most_bytes / size, "no more data than the file can hold");

	int64_t count = t->elements < ALL ? t->elements : ALL;
	char *first = malloc((size_t)(count * size) + 1),
	     *second = malloc((size_t)(count * size) + 1);
	int code = mspec_read(checkpoint, index, t->elements - count, count, first, &err);
	if (code) {
		check_error(code, &err);
	} else {
		int64_t half = count / 2;
		code = mspec_read(checkpoint, index, t->elements - half, half,
		                  second + (count - half) * size, NULL);
		require(!code, "what was read can be read again");
		code =
		    mspec_read(checkpoint, index, t->elements - count, count - half, second, NULL);
		require(!code && !memcmp(first, second, (size_t)(count * size)),
		        "the same data comes again");
	}
	free(first);
	free(second);
}

static void exercise_file(const char *path, const mspec_reader *reader, int64_t most_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	require(fd >= 0, "input opened");
	bool ours = lseek(fd, 0, SEEK_END) > 0 && reader->sniff(fd, path);
	close(fd);
	if (!ours)
		return; /* it would be another reader's, such as libhdf5 */
	mspec_checkpoint *checkpoint;
	mspec_open_options options = {.max_tensor_bytes = 1 << 26};
	muon_error err = {0};
	int code = mspec_open(&checkpoint, path, &options, &err);
	if (code) {
		require(!checkpoint, "no checkpoint after a failure");
		check_error(code, &err);
		return;
	}
	const mspec_checkpoint_info *info = mspec_info(checkpoint);
	require(info->path && info->format && info->layout, "strings of the info");
	size_t count = mspec_tensor_count(checkpoint);
	for (size_t i = 0; i < count; i++) {
		require(!i || strcmp(mspec_tensor_at(checkpoint, i - 1)->name,
		                     mspec_tensor_at(checkpoint, i)->name),
		        "names are unique");
		exercise_tensor(checkpoint, i, most_bytes);
	}
	mspec_close(&checkpoint);
}

#endif
