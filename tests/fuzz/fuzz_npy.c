/* The input is a .npy array or a .npz archive. */
#include "fuzz/exercise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* what deflate can make of the input, and some slack for the reader's own bound */
	int64_t most_bytes = (int64_t)size * 1032 + 8192;
	exercise_file(exercise_input(data, size), &mspec_reader_npz, most_bytes);
	return 0;
}
