/*
 * The inner loops of the eigenvalue solver for x86-64 with AVX2 and FMA, and the check for these at
 * run time: the file needs no compiler option, and an explicit table rather than ifunc keeps
 * sanitizers and static linking at ease.
 */
#include <math.h>
#include <string.h>

#include "eigenvalues_internal.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define INLINE static inline AVX2 __attribute__((always_inline))

typedef __m256d vec;
/* vectors in memory: aligned as doubles only */
typedef double vec_mem __attribute__((vector_size(32), aligned(8), may_alias));
typedef int64_t bits __attribute__((vector_size(32)));
typedef uint64_t unsigned_bits __attribute__((vector_size(32)));

#define LOAD(p) (*(const vec_mem *)(p))
#define STORE(p, v) (*(vec_mem *)(p) = (v))
#define SPLAT(s) ((vec){(s), (s), (s), (s)})
#define SUM(v) (((v)[0] + (v)[1]) + ((v)[2] + (v)[3]))
#define FMA(a, b, c) _mm256_fmadd_pd(a, b, c)   /* a b + c */
#define FNMA(a, b, c) _mm256_fnmadd_pd(a, b, c) /* c - a b */

/*
 * acc (8 x 6, two vectors per column) += sum over k < depth of p(0:8, k) * x(k, 0:6), with
 * p(i, k) = p[k*ldp + i] and x(k, j) = x[k*sk + j*sj].
 */
INLINE void product_8x6(int64_t depth, const double *p, int64_t ldp, const double *x, int64_t sk,
			int64_t sj, vec acc[12])
{
	const double *y = x + 3 * sj;
	vec c00 = acc[0], c01 = acc[1], c10 = acc[2], c11 = acc[3], c20 = acc[4], c21 = acc[5];
	vec c30 = acc[6], c31 = acc[7], c40 = acc[8], c41 = acc[9], c50 = acc[10], c51 = acc[11];

	for (int64_t k = 0; k < depth; k++) {
		const vec a0 = LOAD(p), a1 = LOAD(p + 4);
		vec s;

		s = SPLAT(x[0]);
		c00 = FMA(a0, s, c00);
		c01 = FMA(a1, s, c01);
		s = SPLAT(x[sj]);
		c10 = FMA(a0, s, c10);
		c11 = FMA(a1, s, c11);
		s = SPLAT(x[2 * sj]);
		c20 = FMA(a0, s, c20);
		c21 = FMA(a1, s, c21);
		s = SPLAT(y[0]);
		c30 = FMA(a0, s, c30);
		c31 = FMA(a1, s, c31);
		s = SPLAT(y[sj]);
		c40 = FMA(a0, s, c40);
		c41 = FMA(a1, s, c41);
		s = SPLAT(y[2 * sj]);
		c50 = FMA(a0, s, c50);
		c51 = FMA(a1, s, c51);
		p += ldp;
		x += sk;
		y += sk;
	}
	acc[0] = c00, acc[1] = c01, acc[2] = c10, acc[3] = c11, acc[4] = c20, acc[5] = c21;
	acc[6] = c30, acc[7] = c31, acc[8] = c40, acc[9] = c41, acc[10] = c50, acc[11] = c51;
}

INLINE void load_8x6(const double *c, int64_t ld, vec acc[12])
{
#pragma GCC unroll 6
	for (int q = 0; q < 6; q++) {
		acc[2 * q] = LOAD(c + q * ld);
		acc[2 * q + 1] = LOAD(c + q * ld + 4);
	}
}

INLINE void store_8x6(double *c, int64_t ld, const vec acc[12])
{
#pragma GCC unroll 6
	for (int q = 0; q < 6; q++) {
		STORE(c + q * ld, acc[2 * q]);
		STORE(c + q * ld + 4, acc[2 * q + 1]);
	}
}

/* the same into an 8 x 6 array, for tiles that are cut short */
static AVX2 __attribute__((noinline)) void product_edge(int64_t depth, const double *p, int64_t ldp,
							const double *x, int64_t sk, int64_t sj,
							double *edge)
{
	vec acc[12] = {{0}};

	product_8x6(depth, p, ldp, x, sk, sj, acc);
	store_8x6(edge, 8, acc);
}

/* one whole 8 x 6 part of update_tile; out of line, or its addresses spill the loops around it */
static AVX2 __attribute__((noinline)) void update_8x6(int64_t depth, const double *left,
						      const double *right, double *a, int64_t lda,
						      int write_back, double *dst, int64_t ldd)
{
	vec acc[12];

	load_8x6(a, lda, acc);
#pragma GCC unroll 6
	for (int q = 0; q < 6; q++) {
		__builtin_prefetch(a + q * lda + 8, 1);
	}
	product_8x6(depth, left, 8, right, 1, depth, acc);
	if (write_back) {
		store_8x6(a, lda, acc);
	}
	store_8x6(dst, ldd, acc);
}

/* y(c, j) += sum over k of p(c, k) * x(k, j), c < m (a multiple of 8), j < n */
INLINE void product(int64_t m, int64_t n, int64_t depth, const double *p, int64_t ldp,
		    const double *x, int64_t sk, int64_t sj, double *y, int64_t ldy)
{
	for (int64_t j = 0; j < n; j += 6) {
		for (int64_t c = 0; c < m; c += 8) {
			double *yc = y + j * ldy + c;

			if (j + 6 <= n) {
				vec acc[12];

				load_8x6(yc, ldy, acc);
				product_8x6(depth, p + c, ldp, x + j * sj, sk, sj, acc);
				store_8x6(yc, ldy, acc);
			} else {
				/* past the edge this reads up to five columns more, which are not
				 * stored */
				double edge[48];

				product_edge(depth, p + c, ldp, x + j * sj, sk, sj, edge);
				for (int64_t q = 0; q < 8 * (n - j); q++) {
					yc[q / 8 * ldy + q % 8] += edge[q];
				}
			}
		}
	}
}

/* x(k, j) contiguous in j */
static AVX2 void product_rows(int64_t m, int64_t n, int64_t depth, const double *p, int64_t ldp,
			      const double *x, int64_t ldx, double *y, int64_t ldy)
{
	product(m, n, depth, p, ldp, x, ldx, 1, y, ldy);
}

/* x(k, j) contiguous in k */
static AVX2 void product_columns(int64_t m, int64_t n, int64_t depth, const double *p, int64_t ldp,
				 const double *x, int64_t ldx, double *y, int64_t ldy)
{
	product(m, n, depth, p, ldp, x, 1, ldx, y, ldy);
}

/*
 * dst(i, j) = a(i, j) + sum over k of left(i, k) right(k, j), i < m, j < n; a gets the same values
 * when write_back is set.  lower: only i >= j is read and written.  left is packed in panels of
 * eight rows (left[(i/8)*8*depth + k*8 + i%8]), right(k, j) = right[j*depth + k].
 */
static AVX2 void update_tile(int64_t m, int64_t n, int64_t depth, const double *left,
			     const double *right, double *a, int64_t lda, int write_back, int lower,
			     double *dst, int64_t ldd)
{
	double edge[48];

	for (int64_t ib = 0; ib < m; ib += EIG_TILE / 2) {
		const int64_t ie = ib + EIG_TILE / 2 < m ? ib + EIG_TILE / 2 : m;

		for (int64_t j = 0; j < n; j += 6) {
			for (int64_t i = ib; i < ie; i += 8) {
				const double *li = left + i * depth, *rj = right + j * depth;

				if (lower && i + 7 < j) {
					continue;
				}
				if (i + 8 <= m && j + 6 <= n && (!lower || i >= j + 5)) {
					update_8x6(depth, li, rj, a + j * lda + i, lda, write_back,
						   dst + j * ldd + i, ldd);
					continue;
				}
				product_edge(depth, li, 8, rj, 1, depth, edge);
				for (int64_t q = 0; q < 6 && j + q < n; q++) {
					for (int64_t r = lower && j + q > i ? j + q - i : 0;
					     r < 8 && i + r < m; r++) {
						const double v =
						    a[(j + q) * lda + i + r] + edge[8 * q + r];

						if (write_back) {
							a[(j + q) * lda + i + r] = v;
						}
						dst[(j + q) * ldd + i + r] = v;
					}
				}
			}
		}
	}
}

/*
 * dst(j, i) = src(i, j) * scale[j], i < m, j < n, both multiples of 4 and column-major; scale NULL:
 * all ones
 */
static AVX2 void transpose(int64_t m, int64_t n, const double *src, int64_t lds,
			   const double *scale, double *dst, int64_t ldd)
{
	for (int64_t i = 0; i < m; i += 4) {
		for (int64_t j = 0; j < n; j += 4) {
			const double *p = src + j * lds + i;
			double *q = dst + i * ldd + j;
			const vec a = LOAD(p), b = LOAD(p + lds);
			const vec c = LOAD(p + 2 * lds), d = LOAD(p + 3 * lds);
			const vec ab0 = __builtin_shufflevector(a, b, 0, 4, 2, 6);
			const vec ab1 = __builtin_shufflevector(a, b, 1, 5, 3, 7);
			const vec cd0 = __builtin_shufflevector(c, d, 0, 4, 2, 6);
			const vec cd1 = __builtin_shufflevector(c, d, 1, 5, 3, 7);
			vec f = SPLAT(1.0);

			if (scale) {
				f = LOAD(scale + j);
			}
			STORE(q, f * __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5));
			STORE(q + ldd, f * __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5));
			STORE(q + 2 * ldd, f * __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7));
			STORE(q + 3 * ldd, f * __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7));
		}
	}
}

/*
 * One pass of the panel factorization over ncol columns: c_k -= coef[k] x, and dots[k] = u'c_k of
 * the result.  Rows first (a multiple of 4) to m.
 */
INLINE void panel_pass(int ncol, int64_t first, int64_t m, const double *x, const double *u,
		       double *c, int64_t ld, const double *coef, double *dots)
{
	const vec zero = {0};
	const vec w0 = SPLAT(coef[0]), w1 = ncol > 1 ? SPLAT(coef[1]) : zero;
	const vec w2 = ncol > 2 ? SPLAT(coef[2]) : zero, w3 = ncol > 3 ? SPLAT(coef[3]) : zero;
	vec d0 = zero, d1 = zero, d2 = zero, d3 = zero;

	for (int64_t i = first; i < m; i += 4) {
		const vec xi = LOAD(x + i), ui = LOAD(u + i);
		vec t = FNMA(xi, w0, LOAD(c + i));

		STORE(c + i, t);
		d0 = FMA(ui, t, d0);
		if (ncol > 1) {
			t = FNMA(xi, w1, LOAD(c + ld + i));
			STORE(c + ld + i, t);
			d1 = FMA(ui, t, d1);
		}
		if (ncol > 2) {
			t = FNMA(xi, w2, LOAD(c + 2 * ld + i));
			STORE(c + 2 * ld + i, t);
			d2 = FMA(ui, t, d2);
		}
		if (ncol > 3) {
			t = FNMA(xi, w3, LOAD(c + 3 * ld + i));
			STORE(c + 3 * ld + i, t);
			d3 = FMA(ui, t, d3);
		}
	}
	dots[0] = SUM(d0);
	if (ncol > 1) {
		dots[1] = SUM(d1);
	}
	if (ncol > 2) {
		dots[2] = SUM(d2);
	}
	if (ncol > 3) {
		dots[3] = SUM(d3);
	}
}

/*
 * Householder QR of a panel p: m x b, column-major, rows m to the next multiple of 4 zero.  On
 * return R is in the upper triangle; column j below the diagonal, times scale[j], is the tail of
 * reflector j, whose head is 1.  x, u: ld doubles each.
 *
 * One pass per reflector: while it is applied, the products of the next column with the columns
 * after it are summed, so all that the next reflector needs is at hand when the pass ends.
 */
static AVX2 void panel_qr(int64_t m, int64_t b, double *p, int64_t ld, double *tau, double *scale,
			  double *x, double *u)
{
	double dots[EIG_MAX_BAND], coef[EIG_MAX_BAND] = {0};

	for (int64_t j = -1; j < b; j++) {
		const int64_t first = j < 3 ? 0 : (j + 1) & ~(int64_t)3;
		double *next = p + (j + 1) * ld, *swap;
		int64_t k;

		if (j >= 0) {
			double w = 0;

			tau[j] = scale[j] = 0;
			if (j < m && dots[j] >= EIG_TINY_SQUARE) {
				const double alpha = p[j * ld + j];
				const double beta = -copysign(sqrt(alpha * alpha + dots[j]), alpha);

				tau[j] = (beta - alpha) / beta;
				scale[j] = 1 / (alpha - beta);
				p[j * ld + j] = beta;
			}
			for (k = j + 1; k < b && j < m; k++) {
				w = tau[j] * (p[k * ld + j] + scale[j] * dots[k]);
				p[k * ld + j] -= w;
				coef[k] = w * scale[j];
			}
			if (j + 1 >= b) {
				break;
			}
			if (j + 1 >= m) {
				continue;
			}
		}
		swap = x, x = u, u = swap;
		if (j < 0) {
			memset(x, 0, (size_t)ld * sizeof *x);
		}
		for (int64_t i = first; i < m; i += 4) {
			const vec t = FNMA(LOAD(x + i), SPLAT(coef[j + 1]), LOAD(next + i));

			STORE(next + i, t);
			STORE(u + i, t);
		}
		for (int64_t i = first; i <= j + 1; i++) {
			u[i] = 0;
		}
		{
			vec s = {0};

			for (int64_t i = first; i < m; i += 4) {
				s = FMA(LOAD(u + i), LOAD(u + i), s);
			}
			dots[j + 1] = SUM(s);
		}
		for (k = j + 2; k + 4 <= b; k += 4) {
			panel_pass(4, first, m, x, u, p + k * ld, ld, coef + k, dots + k);
		}
		for (; k < b; k++) {
			panel_pass(1, first, m, x, u, p + k * ld, ld, coef + k, dots + k);
		}
	}
}

/* y = tau B v for 16 rows of the block B */
INLINE void chase_multiply(int64_t b, const double *q, int64_t s, const double *v, double tau,
			   double *y)
{
	const vec zero = {0}, t = SPLAT(tau);
	vec a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;

	for (int64_t c = 0; c < b; c += 2) {
		vec vc = SPLAT(v[c]);

		a0 = FMA(LOAD(q), vc, a0);
		a1 = FMA(LOAD(q + 4), vc, a1);
		a2 = FMA(LOAD(q + 8), vc, a2);
		a3 = FMA(LOAD(q + 12), vc, a3);
		q += s;
		vc = SPLAT(v[c + 1]);
		b0 = FMA(LOAD(q), vc, b0);
		b1 = FMA(LOAD(q + 4), vc, b1);
		b2 = FMA(LOAD(q + 8), vc, b2);
		b3 = FMA(LOAD(q + 12), vc, b3);
		q += s;
	}
	STORE(y, t * (a0 + b0));
	STORE(y + 4, t * (a1 + b1));
	STORE(y + 8, t * (a2 + b2));
	STORE(y + 12, t * (a3 + b3));
}

/* B -= y v' + u z' for 16 rows of the block B, but for its first column */
INLINE void chase_update(int64_t b, double *q, int64_t s, const double *y, const double *v,
			 const double *u, const double *z)
{
	const vec y0 = LOAD(y), y1 = LOAD(y + 4), y2 = LOAD(y + 8), y3 = LOAD(y + 12);
	const vec u0 = LOAD(u), u1 = LOAD(u + 4), u2 = LOAD(u + 8), u3 = LOAD(u + 12);

	for (int64_t c = 1; c < b; c++) {
		const vec vc = SPLAT(v[c]), zc = SPLAT(z[c]);

		q += s;
		STORE(q, FNMA(y0, vc, FNMA(u0, zc, LOAD(q))));
		STORE(q + 4, FNMA(y1, vc, FNMA(u1, zc, LOAD(q + 4))));
		STORE(q + 8, FNMA(y2, vc, FNMA(u2, zc, LOAD(q + 8))));
		STORE(q + 12, FNMA(y3, vc, FNMA(u3, zc, LOAD(q + 12))));
	}
}

/*
 * One step of a sweep of bulge chasing.  d points at a(r, r) of a symmetric band matrix whose lower
 * triangle has a(i, j) at d[(j-r)*s + (i-r)].  The reflector H = I - tau v v' of rows r to r+b is
 * applied from both sides to the diagonal block D and from the right to the block B below it; then
 * a reflector of rows r+b to r+2b, which zeroes the first column of B below its first entry, is
 * formed and applied to B from the left, and returned in v and tau.
 * Above the diagonal of D, up to three entries a column are written but never read: they fall in
 * the padding of the band.
 */
INLINE void chase(const int64_t b, double *d, int64_t s, double *v, double *tau)
{
	const bits keep1 = {0, -1, -1, -1}, keep2 = {0, 0, -1, -1}, keep3 = {0, 0, 0, -1};
	double y[EIG_MAX_BAND], w[EIG_MAX_BAND], yb[EIG_MAX_BAND], u[EIG_MAX_BAND], z[EIG_MAX_BAND];
	const double t1 = *tau;
	double *bb = d + b;
	const vec zero = {0};
	vec sum;

	for (int64_t i = 0; i < b; i += 16) {
		chase_multiply(b, bb + i, s, v, t1, yb + i);
	}

	/* y = D v from the lower triangle */
	for (int64_t i = 0; i < b; i += 4) {
		STORE(y + i, zero);
	}
	for (int64_t j = 0; j < b; j += 4) {
		const double *q0 = d + j * s, *q1 = q0 + s, *q2 = q1 + s, *q3 = q2 + s;
		const vec v0 = SPLAT(v[j]), v1 = SPLAT(v[j + 1]);
		const vec v2 = SPLAT(v[j + 2]), v3 = SPLAT(v[j + 3]);
		const vec vj = LOAD(v + j);
		const vec m0 = LOAD(q0 + j);
		const vec m1 = (vec)((bits)LOAD(q1 + j) & keep1);
		const vec m2 = (vec)((bits)LOAD(q2 + j) & keep2);
		const vec m3 = (vec)((bits)LOAD(q3 + j) & keep3);
		vec d0, d1, d2, d3, t;

		t = FMA(m0, v0, LOAD(y + j));
		t = FMA(m1, v1, t);
		t = FMA(m2, v2, t);
		t = FMA(m3, v3, t);
		STORE(y + j, t);
		d0 = (vec)((bits)m0 & keep1) * vj;
		d1 = (vec)((bits)m1 & keep2) * vj;
		d2 = (vec)((bits)m2 & keep3) * vj;
		d3 = zero;
		for (int64_t i = j + 4; i < b; i += 4) {
			const vec c0 = LOAD(q0 + i), c1 = LOAD(q1 + i);
			const vec c2 = LOAD(q2 + i), c3 = LOAD(q3 + i), vi = LOAD(v + i);

			t = FMA(c0, v0, LOAD(y + i));
			t = FMA(c1, v1, t);
			t = FMA(c2, v2, t);
			t = FMA(c3, v3, t);
			STORE(y + i, t);
			d0 = FMA(c0, vi, d0);
			d1 = FMA(c1, vi, d1);
			d2 = FMA(c2, vi, d2);
			d3 = FMA(c3, vi, d3);
		}
		y[j] += SUM(d0);
		y[j + 1] += SUM(d1);
		y[j + 2] += SUM(d2);
		y[j + 3] += SUM(d3);
	}

	/* the new reflector, from the first column of B (I - tau v v') */
	{
		const vec v0 = SPLAT(v[0]);
		double alpha, norm2, scale = 0;

		alpha = FNMA(LOAD(yb), v0, LOAD(bb))[0];
		for (int64_t i = 0; i < b; i += 4) {
			STORE(u + i, FNMA(LOAD(yb + i), v0, LOAD(bb + i)));
			STORE(bb + i, zero);
		}
		u[0] = 0;
		sum = zero;
		for (int64_t i = 0; i < b; i += 4) {
			sum = FMA(LOAD(u + i), LOAD(u + i), sum);
		}
		norm2 = SUM(sum);
		*tau = 0;
		bb[0] = alpha;
		if (norm2 >= EIG_TINY_SQUARE) {
			const double beta = -copysign(sqrt(alpha * alpha + norm2), alpha);

			*tau = (beta - alpha) / beta;
			scale = 1 / (alpha - beta);
			bb[0] = beta;
		}
		for (int64_t i = 0; i < b; i += 4) {
			STORE(u + i, LOAD(u + i) * SPLAT(scale));
		}
		u[0] = 1;
	}

	/* D -= v w' + w v', w = tau y - tau^2/2 (v'y) v */
	{
		vec half;

		sum = zero;
		for (int64_t i = 0; i < b; i += 4) {
			sum = FMA(LOAD(y + i), LOAD(v + i), sum);
		}
		half = SPLAT(0.5 * t1 * t1 * SUM(sum));
		for (int64_t i = 0; i < b; i += 4) {
			const vec t = LOAD(y + i) * SPLAT(t1);

			STORE(w + i, FNMA(half, LOAD(v + i), t));
		}
	}
	for (int64_t j = 0; j < b; j += 4) {
		double *q0 = d + j * s, *q1 = q0 + s, *q2 = q1 + s, *q3 = q2 + s;
		const vec v0 = SPLAT(v[j]), v1 = SPLAT(v[j + 1]);
		const vec v2 = SPLAT(v[j + 2]), v3 = SPLAT(v[j + 3]);
		const vec w0 = SPLAT(w[j]), w1 = SPLAT(w[j + 1]);
		const vec w2 = SPLAT(w[j + 2]), w3 = SPLAT(w[j + 3]);

		for (int64_t i = j; i < b; i += 4) {
			const vec vi = LOAD(v + i), wi = LOAD(w + i);

			STORE(q0 + i, FNMA(vi, w0, FNMA(wi, v0, LOAD(q0 + i))));
			STORE(q1 + i, FNMA(vi, w1, FNMA(wi, v1, LOAD(q1 + i))));
			STORE(q2 + i, FNMA(vi, w2, FNMA(wi, v2, LOAD(q2 + i))));
			STORE(q3 + i, FNMA(vi, w3, FNMA(wi, v3, LOAD(q3 + i))));
		}
	}

	/* z' = tau (u'B - (u'yb) v'), the reflector seen from the columns of B */
	{
		double uy;

		sum = zero;
		for (int64_t i = 0; i < b; i += 4) {
			sum = FMA(LOAD(u + i), LOAD(yb + i), sum);
		}
		uy = SUM(sum);
		for (int64_t c = 0; c < b; c += 4) {
			const double *q0 = bb + c * s, *q1 = q0 + s, *q2 = q1 + s, *q3 = q2 + s;
			vec d0 = zero, d1 = zero, d2 = zero, d3 = zero;

			for (int64_t i = 0; i < b; i += 4) {
				const vec ui = LOAD(u + i);

				d0 = FMA(LOAD(q0 + i), ui, d0);
				d1 = FMA(LOAD(q1 + i), ui, d1);
				d2 = FMA(LOAD(q2 + i), ui, d2);
				d3 = FMA(LOAD(q3 + i), ui, d3);
			}
			z[c] = *tau * (SUM(d0) - uy * v[c]);
			z[c + 1] = *tau * (SUM(d1) - uy * v[c + 1]);
			z[c + 2] = *tau * (SUM(d2) - uy * v[c + 2]);
			z[c + 3] = *tau * (SUM(d3) - uy * v[c + 3]);
		}
	}

	for (int64_t i = 0; i < b; i += 16) {
		chase_update(b, bb + i, s, yb + i, v, u + i, z);
	}
	memcpy(v, u, (size_t)b * sizeof *v);
}

static AVX2 void chase_step(int64_t b, double *d, int64_t s, double *v, double *tau)
{
	/* the loops gain much from a bandwidth known to the compiler */
	if (b == 16) {
		chase(16, d, s, v, tau);
	} else {
		chase(32, d, s, v, tau);
	}
}

/*
 * det(T - x I) = value * 2^exponent for EIG_LANES shifts x at once, by the three-term recurrence of
 * the leading minors, and with count set the number of eigenvalues below x: the sign changes of
 * that sequence.  T has diagonal d and squared off-diagonal e2 (e2[i] couples i-1 and i, e2[0] is
 * not used), both scaled so that |d|, |x|, e2 <= 4, and e2 >= 1e-40: then eight rows cannot leave
 * the range of a double, and after each eight the exponent is taken out.
 */
INLINE void minors(int64_t n, const double *d, const double *e2, const double *shift, double *value,
		   int64_t *exponent, int64_t *count)
{
	vec x[4], p[4], q[4];
	bits changes[4], power[4];

	for (int g = 0; g < 4; g++) {
		x[g] = LOAD(shift + 4 * g);
		q[g] = SPLAT(0.0);
		p[g] = SPLAT(1.0);
		changes[g] = power[g] = (bits){0};
	}

#define MINOR(g, p, q, di, ei)                                                                     \
	q[g] = FNMA(ei, q[g], ((di)-x[g]) * p[g]);                                                 \
	if (count) {                                                                               \
		changes[g] += (bits)((unsigned_bits)((bits)p[g] ^ (bits)q[g]) >> 63);              \
	}
#define MINORS(i, p, q)                                                                            \
	do {                                                                                       \
		const vec di = SPLAT(d[i]), ei = SPLAT(e2[i]);                                     \
		MINOR(0, p, q, di, ei)                                                             \
		MINOR(1, p, q, di, ei)                                                             \
		MINOR(2, p, q, di, ei)                                                             \
		MINOR(3, p, q, di, ei)                                                             \
	} while (0)

	for (int64_t i = 0; i < n; i += 8) {
		const int64_t stop = i + 8 < n ? i + 8 : n;
		int64_t k = i;

		for (; k + 2 <= stop; k += 2) {
			MINORS(k, p, q);
			MINORS(k + 1, q, p);
		}
		if (k < stop) {
			MINORS(k, p, q);
			for (int g = 0; g < 4; g++) {
				const vec t = p[g];

				p[g] = q[g];
				q[g] = t;
			}
		}
		for (int g = 0; g < 4; g++) {
			const bits ep = (bits)p[g] & 0x7ff0000000000000,
				   eq = (bits)q[g] & 0x7ff0000000000000;
			const bits greater = ep > eq, e = (ep & greater) | (eq & ~greater);
			const vec r = (vec)(0x7fe0000000000000 - e);

			power[g] += (e >> 52) - 1023;
			p[g] *= r;
			q[g] *= r;
		}
	}
#undef MINORS
#undef MINOR
	for (int g = 0; g < 4; g++) {
		for (int l = 0; l < 4; l++) {
			value[4 * g + l] = p[g][l];
			exponent[4 * g + l] = power[g][l];
			if (count) {
				count[4 * g + l] = changes[g][l];
			}
		}
	}
}

static AVX2 void minors_value(int64_t n, const double *d, const double *e2, const double *shift,
			      double *value, int64_t *exponent)
{
	minors(n, d, e2, shift, value, exponent, NULL);
}

static AVX2 void minors_count(int64_t n, const double *d, const double *e2, const double *shift,
			      double *value, int64_t *exponent, int64_t *count)
{
	minors(n, d, e2, shift, value, exponent, count);
}

static const struct eig_kernels avx2_kernels = {
    product_rows, product_columns, update_tile,  transpose,
    panel_qr,     chase_step,      minors_value, minors_count,
};

const struct eig_kernels *muon_eig_kernels(void)
{
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return &avx2_kernels;
	return NULL;
}

#else

const struct eig_kernels *muon_eig_kernels(void)
{
	return NULL;
}

#endif
