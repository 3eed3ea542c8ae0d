#include "kernels/ns_entries.h"

#include "kernels/bf16.h"
#include "kernels/simd.h"

#include <math.h>
#include <muon/kernels.h>

enum { LANES = 32 }; /* independent sums, combined in a fixed order */

/* ---- norm ----------------------------------------------------------------------------------- */

/* sum of (x scale)^2 */
#define SUM_OF_SQUARES(name, type)                                                                 \
	SIMD_CLONES                                                                                \
	static double name(const type *restrict x, double scale, size_t count)                     \
	{                                                                                          \
		double lanes[LANES] = {0}, sum = 0;                                                \
		const size_t whole = count - count % LANES;                                        \
		for (size_t i = 0; i < whole; i += LANES)                                          \
			for (size_t l = 0; l < LANES; l++) {                                       \
				double y = (double)x[i + l] * scale;                               \
				lanes[l] += y * y;                                                 \
			}                                                                          \
		for (size_t i = whole; i < count; i++) {                                           \
			double y = (double)x[i] * scale;                                           \
			lanes[i - whole] += y * y;                                                 \
		}                                                                                  \
		for (size_t l = 0; l < LANES; l++)                                                 \
			sum += lanes[l];                                                           \
		return sum;                                                                        \
	}
SUM_OF_SQUARES(sumsq_f32, float)
SUM_OF_SQUARES(sumsq_f64, double)
#undef SUM_OF_SQUARES

static const void *line_of(const muon_ns_matrix *m, size_t size, int64_t i)
{
	return (const char *)m->entries + (size_t)(i * m->ld) * size;
}

/* Scale for float64 entries; false where one of them is NaN or Inf. */
static bool find_scale(const muon_ns_matrix *m, double *scale)
{
	double largest = 0;
	for (int64_t i = 0; i < m->rows; i++) {
		const double *line = line_of(m, sizeof *line, i);
		for (int64_t j = 0; j < m->cols; j++) {
			const double x = fabs(line[j]);
			if (!(x <= largest)) /* NaN too */
				largest = x;
			if (!isfinite(largest))
				return false;
		}
	}
	*scale = muon_gram_scale(largest);
	return true;
}

int muon_ns_norm(const muon_ns_matrix *m, muon_arithmetic arithmetic, double *norm, double *scale)
{
	const bool is_f64 = arithmetic == MUON_ARITHMETIC_F64;
	double sum = 0;
	*scale = 1;
	if (is_f64 && !find_scale(m, scale))
		return MUON_E_NONFINITE;
	for (int64_t i = 0; i < m->rows; i++)
		sum += is_f64 ? sumsq_f64(line_of(m, sizeof(double), i), *scale, (size_t)m->cols)
			      : sumsq_f32(line_of(m, sizeof(float), i), 1, (size_t)m->cols);
	*norm = sqrt(sum);
	/* squares of float32 are far inside float64: only NaN and Inf make such a sum */
	return isfinite(sum) ? MUON_OK : MUON_E_NONFINITE;
}

/* ---- loading and storing -------------------------------------------------------------------- */

static inline float to_float(float x)
{
	return x;
}

static inline float to_rounded(float x)
{
	return muon_bf16_to_float(muon_bf16_from_float(x));
}

#define LOAD(name, to_type, convert)                                                               \
	SIMD_CLONES                                                                                \
	static void name(const float *x, double factor, int64_t count, to_type *to)                \
	{                                                                                          \
		for (int64_t j = 0; j < count; j++)                                                \
			to[j] = convert((float)((double)x[j] * factor));                           \
	}
LOAD(load_f32, float, to_float)
LOAD(load_rounded, float, to_rounded)
LOAD(load_bf16, uint16_t, muon_bf16_from_float)
#undef LOAD

static void load_f64(const double *x, double scale, double factor, int64_t count, double *to)
{
	for (int64_t j = 0; j < count; j++)
		to[j] = x[j] * scale * factor;
}

void muon_ns_load(const muon_ns_matrix *m, muon_arithmetic arithmetic, double scale, double factor,
		  const muon_buffer *to)
{
	const size_t size = muon_arithmetic_size(arithmetic);
	const size_t from_size = arithmetic == MUON_ARITHMETIC_F64 ? sizeof(double) : sizeof(float);
	for (int64_t i = 0; i < m->rows; i++) {
		void *line = (char *)to->entries + (size_t)(i * to->ld) * size;
		const void *from = line_of(m, from_size, i);
		if (arithmetic == MUON_ARITHMETIC_F64)
			load_f64(from, scale, factor, m->cols, line);
		else if (arithmetic == MUON_ARITHMETIC_BF16)
			load_bf16(from, factor, m->cols, line);
		else if (arithmetic == MUON_ARITHMETIC_BF16_EMULATED)
			load_rounded(from, factor, m->cols, line);
		else
			load_f32(from, factor, m->cols, line);
	}
}

static void store_bf16(const uint16_t *x, int64_t count, float *to)
{
	for (int64_t j = 0; j < count; j++)
		to[j] = muon_bf16_to_float(x[j]);
}

void muon_ns_store(const muon_buffer *from, muon_arithmetic arithmetic, int64_t rows, int64_t cols,
		   const muon_buffer *to)
{
	for (int64_t i = 0; i < rows; i++) {
		float *line = (float *)to->entries + i * to->ld;
		if (arithmetic == MUON_ARITHMETIC_BF16)
			store_bf16((const uint16_t *)from->entries + i * from->ld, cols, line);
		else
			memcpy(line, (const float *)from->entries + i * from->ld,
			       (size_t)cols * sizeof *line);
	}
}
