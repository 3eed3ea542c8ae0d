/* Reading windows of a matrix that may lie in several blocks of its tensor. */
#include "base/memory.h"

#include <muonspec/checkpoint.h>
#include <string.h>

/* Rows of `width` elements, `stride` apart in the tensor from element `first` on, which go to
 * `out`, `out_stride` elements apart. */
typedef struct strip {
	mspec_checkpoint *checkpoint;
	size_t tensor, element_size;
	int64_t first, rows, width, stride;
	char *out;
	int64_t out_stride;
} strip;

static char *out_row(const strip *s, int64_t row)
{
	return s->out + (size_t)(row * s->out_stride) * s->element_size;
}

static int read_rows_one_by_one(const strip *s, muon_error *err)
{
	int code = MUON_OK;
	for (int64_t i = 0; i < s->rows && !code; i++)
		code = mspec_read(s->checkpoint, s->tensor, s->first + i * s->stride, s->width,
				  out_row(s, i), err);
	return code;
}

/* Read the gaps between rows as well, `batch` rows at a time, and leave them behind. */
static int read_rows_through_gaps(const strip *s, int64_t batch, char *scratch, muon_error *err)
{
	for (int64_t i = 0; i < s->rows; i += batch) {
		int64_t rows = s->rows - i < batch ? s->rows - i : batch;
		int code = mspec_read(s->checkpoint, s->tensor, s->first + i * s->stride,
				      (rows - 1) * s->stride + s->width, scratch, err);
		if (code)
			return code;
		for (int64_t r = 0; r < rows; r++)
			memcpy(out_row(s, i + r),
			       scratch + (size_t)(r * s->stride) * s->element_size,
			       (size_t)s->width * s->element_size);
	}
	return MUON_OK;
}

/* A read costs some microseconds however short it is, HDF5's above all: narrow rows that lie near
 * each other come faster together with what is between them. */
static int read_strip(const strip *s, muon_error *err)
{
	enum { SCRATCH_BYTES = 1 << 20 };
	if (s->rows == 1 || (s->width == s->stride && s->width == s->out_stride))
		return mspec_read(s->checkpoint, s->tensor, s->first,
				  (s->rows - 1) * s->stride + s->width, s->out, err);
	int64_t batch = SCRATCH_BYTES / (int64_t)s->element_size / s->stride;
	char *scratch = NULL;
	if (batch > 1 && s->width >= s->stride / 8)
		scratch = muon_resize(NULL, SCRATCH_BYTES, 1);
	if (!scratch)
		return read_rows_one_by_one(s, err);
	int code = read_rows_through_gaps(s, batch, scratch, err);
	muon_free(scratch);
	return code;
}

static bool is_range(int64_t first, int64_t count, int64_t size)
{
	return first >= 0 && count >= 0 && count <= size && first <= size - count;
}

int mspec_read_block(mspec_checkpoint *checkpoint, const mspec_matrix *matrix, int64_t row,
		     int64_t row_count, int64_t col, int64_t col_count, void *buffer,
		     muon_error *err)
{
	if (!is_range(row, row_count, matrix->stored_rows) ||
	    !is_range(col, col_count, matrix->stored_cols))
		return muon_fail(err, MUON_E_ARGUMENT, matrix->name, "range outside the matrix");
	if (!row_count || !col_count)
		return MUON_OK;
	size_t size = muon_dtype_size(matrix->dtype);
	for (int64_t done = 0; done < col_count;) {
		int64_t block = (col + done) / matrix->block_cols;
		int64_t inside = (col + done) % matrix->block_cols;
		int64_t width = matrix->block_cols - inside;
		if (width > col_count - done)
			width = col_count - done;
		strip part = {
		    .checkpoint = checkpoint,
		    .tensor = matrix->tensor,
		    .element_size = size,
		    .first = matrix->offset + block * matrix->block_stride +
			     row * matrix->row_stride + inside,
		    .rows = row_count,
		    .width = width,
		    .stride = matrix->row_stride,
		    .out = (char *)buffer + (size_t)done * size,
		    .out_stride = col_count,
		};
		int code = read_strip(&part, err);
		if (code)
			return code;
		done += width;
	}
	return MUON_OK;
}
