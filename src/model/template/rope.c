/* Rotary positions (Su et al. 2021): pairs of entries are turned by position * theta^(-2i/dim). */

/* The angles' cosines and sines for `length` positions, dim / 2 each. */
static void OP(fill_angles)(real *cosine, real *sine, int64_t length, int64_t dim, double theta)
{
	for (int64_t t = 0; t < length; t++)
		for (int64_t i = 0; i < dim / 2; i++) {
			double angle = (double)t * pow(theta, -2 * (double)i / (double)dim);
			*cosine++ = (real)cos(angle);
			*sine++ = (real)sin(angle);
		}
}

/* One row's heads; `sign` 1 or -1. */
SIMD_CLONES
static void OP(turn_halves)(real *restrict x, int64_t step, int64_t heads, int64_t half,
                            const real *restrict cosine, const real *restrict sine, real sign)
{
	for (int64_t h = 0; h < heads; h++, x += step)
		for (int64_t i = 0; i < half; i++) {
			real a = x[i], b = x[half + i], c = cosine[i], s = sign * sine[i];
			x[i] = a * c - b * s;
			x[half + i] = b * c + a * s;
		}
}

SIMD_CLONES
static void OP(turn_neighbours)(real *restrict x, int64_t step, int64_t heads, int64_t half,
                                const real *restrict cosine, const real *restrict sine, real sign)
{
	for (int64_t h = 0; h < heads; h++, x += step)
		for (int64_t i = 0; i < half; i++) {
			real a = x[2 * i], b = x[2 * i + 1], c = cosine[i], s = sign * sine[i];
			x[2 * i] = a * c - b * s;
			x[2 * i + 1] = b * c + a * s;
		}
}

void OP(rope)(const OP(run) *run, real *x, int64_t ld, int64_t step, int64_t heads, int64_t dim,
              bool neighbours, bool back)
{
	const int64_t half = dim / 2;
	for (int64_t t = 0; t < run->rows; t++) {
		int64_t angles = t % run->batch.length * half;
		(neighbours ? OP(turn_neighbours)
		            : OP(turn_halves))(x + t * ld, step, heads, half, run->cosine + angles,
		                               run->sine + angles, back ? -1 : 1);
		OP(round_rows)(run, x + t * ld, heads, dim, step);
	}
}
