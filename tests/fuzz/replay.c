/* Replays corpora through a fuzz target built without libFuzzer: replay FOLDER... */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	if (!file || fseek(file, 0, SEEK_END))
		return NULL;
	long length = ftell(file);
	rewind(file);
	/* an exact block, so that a sanitizer sees a read beyond the input */
	uint8_t *bytes = length < 0 ? NULL : malloc(length ? (size_t)length : 1);
	*size = bytes ? fread(bytes, 1, (size_t)length, file) : 0;
	fclose(file);
	return bytes;
}

static int replay_folder(const char *folder, unsigned *count)
{
	DIR *dir = opendir(folder);
	if (!dir) {
		fprintf(stderr, "replay: %s: %s\n", folder, strerror(errno));
		return 1;
	}
	int failed = 0;
	for (struct dirent *item; (item = readdir(dir));) {
		if (*item->d_name == '.')
			continue;
		char path[4096];
		snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
		size_t size = 0;
		uint8_t *bytes = read_file(path, &size);
		if (!bytes) {
			fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
			failed = 1;
			continue;
		}
		LLVMFuzzerTestOneInput(bytes, size);
		free(bytes);
		++*count;
	}
	closedir(dir);
	return failed;
}

int main(int argc, char **argv)
{
	unsigned count = 0;
	int failed = argc < 2;
	for (int i = 1; i < argc; i++)
		failed |= replay_folder(argv[i], &count);
	printf("%u inputs replayed\n", count);
	return failed || !count;
}
