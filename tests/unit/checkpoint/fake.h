/* A checkpoint in memory: element i of every tensor has the value i, in float32. */
#ifndef TESTS_UNIT_CHECKPOINT_FAKE_H
#define TESTS_UNIT_CHECKPOINT_FAKE_H

#include "checkpoint/reader.h"

static int fake_reads; /* calls of the reader since somebody set it to 0 */

static int fake_read(mspec_checkpoint *checkpoint, size_t index, int64_t first, int64_t count,
		     void *buffer, muon_error *err)
{
	(void)checkpoint, (void)index, (void)err;
	fake_reads++;
	for (int64_t i = 0; i < count; i++)
		((float *)buffer)[i] = (float)(first + i);
	return MUON_OK;
}

static void fake_close(mspec_checkpoint *checkpoint)
{
	(void)checkpoint;
}

static const mspec_reader fake_reader = {
    .format = "fake", .read = fake_read, .close = fake_close};

static inline mspec_checkpoint *fake_checkpoint(const char *layout)
{
	mspec_checkpoint *checkpoint = muon_alloc(1, sizeof *checkpoint);
	checkpoint->reader = &fake_reader;
	checkpoint->info.layout = layout;
	checkpoint->info.path = "fake.h5";
	return checkpoint;
}

/* Rank and sizes up to the first 0; for rank 0 and empty tensors use mspec_add_tensor. Names must
 * come in the order in which readers list them. */
static inline mspec_entry *fake_add(mspec_checkpoint *checkpoint, const char *name, int64_t d0,
				    int64_t d1, int64_t d2, int64_t d3, int64_t d4)
{
	const int64_t dims[] = {d0, d1, d2, d3, d4};
	int rank = 0;
	while (rank < 5 && dims[rank])
		rank++;
	return mspec_add_tensor(checkpoint, name, MUON_F32, "F32", rank, dims);
}

#endif
