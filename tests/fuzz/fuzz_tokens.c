/* The input is a file of tokens: for a vocabulary of 256 bytes, for another numbers or .npy. */
#include "fuzz/input.h"

#include <muonspec/forward.h>

static void exercise_vocabulary(const char *path, int64_t vocab, int64_t most)
{
	int32_t *tokens;
	int64_t count;
	muon_error err = {0};
	int code = mspec_tokens_read(&tokens, &count, path, vocab, most, &err);
	if (code) {
		check_error(code, &err);
		require(!tokens, "no tokens after a failure");
		return;
	}
	require(tokens && count >= 2 && count <= most, "two tokens, at most the limit");
	for (int64_t i = 0; i < count; i++)
		require(tokens[i] >= 0 && tokens[i] < vocab, "tokens of the vocabulary");
	mspec_tokens_destroy(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *path = exercise_input(data, size);
	exercise_vocabulary(path, 512, 1000);
	exercise_vocabulary(path, 256, 3);
	return 0;
}
