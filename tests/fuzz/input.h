/* What every fuzz target needs: its input as a file, and promises to check. Include first, it chooses
 * the feature macros. */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#define _GNU_SOURCE /* memfd_create */

#include <muon/error.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition, const char *promise)
{
	if (condition)
		return;
	fprintf(stderr, "broken: %s\n", promise);
	abort();
}

static inline void write_input(int fd, const uint8_t *data, size_t size)
{
	require(!ftruncate(fd, 0) && pwrite(fd, data, size, 0) == (ssize_t)size, "input written");
}

/* A file in memory with this content; the same one each time. */
static inline const char *exercise_input(const uint8_t *data, size_t size)
{
	static char path[64];
	static int fd = -1;
	if (fd < 0) {
		fd = memfd_create("input", MFD_CLOEXEC);
		require(fd >= 0, "memfd_create");
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	}
	write_input(fd, data, size);
	return path;
}

static void check_error(int code, const muon_error *err)
{
	require(code < 0 && err->code == code, "the error holds the code");
	require(*err->message, "the error holds a message");
	for (const char *s = err->message; *s; s++)
		require((unsigned char)*s >= 0x20 && *s != 0x7f, "messages are printable");
}

#endif
