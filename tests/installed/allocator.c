/* A program outside the tree: libmuonspec allocates through the hook that is set in libmuon, also
 * when both are shared libraries. */
#include <muonspec/model.h>
#include <stdio.h>
#include <stdlib.h>

static long held, asked;

static void *count_resize(void *state, void *block, size_t bytes)
{
	(void)state;
	asked++;
	held += !block;
	return realloc(block, bytes);
}

static void count_release(void *state, void *block)
{
	(void)state;
	held -= block != NULL;
	free(block);
}

int main(void)
{
	const muon_allocator counting = {count_resize, count_release, NULL};
	mspec_model_config config;
	mspec_model *model;
	muon_set_allocator(&counting);
	int code = mspec_model_preset(&config, "llama-tiny");
	if (!code)
		code = mspec_model_create(&model, &config, NULL);
	const long while_open = held;
	if (!code)
		mspec_model_destroy(&model);
	printf("%ld allocations, %ld blocks in use, then %ld\n", asked, while_open, held);
	return !code && asked > 0 && while_open > 0 && held == 0 ? 0 : 1;
}
