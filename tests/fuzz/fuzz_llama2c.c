/* The input is a llama2.c .bin file. */
#include "fuzz/exercise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	exercise_file(exercise_input(data, size), &mspec_reader_llama2c, (int64_t)size);
	return 0;
}
