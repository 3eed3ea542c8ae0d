/* The input is a safetensors file or, if it begins with "{", an index beside one good shard. */
#include "fuzz/exercise.h"

#define SHARD "s.safetensors"

static const char good_shard[] =
    "\x70\0\0\0\0\0\0\0"
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4]},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]}}     "
    "01234567";

static char folder[] = "/tmp/muonspec-fuzz-XXXXXX", index_path[64], shard_path[64];

static void remove_folder(void)
{
	unlink(index_path);
	unlink(shard_path);
	rmdir(folder);
}

static const char *index_input(const uint8_t *data, size_t size)
{
	static int fd = -1;
	if (fd < 0) {
		require(mkdtemp(folder) != NULL, "mkdtemp");
		snprintf(index_path, sizeof index_path, "%s/x.safetensors.index.json", folder);
		snprintf(shard_path, sizeof shard_path, "%s/" SHARD, folder);
		atexit(remove_folder);
		fd = open(shard_path, O_RDWR | O_CREAT, 0600);
		require(fd >= 0, "shard created");
		write_input(fd, (const uint8_t *)good_shard, sizeof good_shard - 1);
		close(fd);
		fd = open(index_path, O_RDWR | O_CREAT, 0600);
		require(fd >= 0, "index created");
	}
	write_input(fd, data, size);
	return index_path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && data[0] == '{')
		exercise_file(index_input(data, size), &mspec_reader_safetensors,
		              sizeof good_shard);
	else
		exercise_file(exercise_input(data, size), &mspec_reader_safetensors, (int64_t)size);
	return 0;
}
