/* The input is the configuration of a model, as a checkpoint of a few hundred tensors carries it. What
 * is accepted must be laid out without asking for more memory than such a file can explain. */
#include "fuzz/input.h"

#include "base/memory.h"
#include "checkpoint/reader.h"

#include <muonspec/forward.h>

enum { TENSORS = 300, MOST_TENSORS = 64 * TENSORS * TENSORS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = muon_alloc(size + 1, 1);
	require(text, "memory");
	memcpy(text, data, size);
	mspec_checkpoint checkpoint = {.info = {.path = "x", .layout = "custom", .config = text},
	                               .count = TENSORS};
	mspec_model_config config;
	mspec_model *model = NULL;
	muon_error err = {0};
	int code = mspec_model_config_read(&config, &checkpoint, &err);
	if (code)
		check_error(code, &err);
	else
		code = mspec_model_create(&model, &config, &err);
	require(code != MUON_E_MEMORY, "no absurd sizes");
	if (model)
		require(mspec_model_tensor_count(model) <= MOST_TENSORS, "as many tensors as the file");
	mspec_model_destroy(&model);
	muon_free(text);
	return 0;
}
