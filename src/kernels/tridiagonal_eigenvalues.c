/*
 * Eigenvalues of a symmetric tridiagonal matrix, many at a time.  The QR iteration of dsterf is one
 * long chain of divisions.  Here the sequence of leading minors (W. Barth, R. Martin, J. Wilkinson,
 * "Calculation of the eigenvalues of a symmetric tridiagonal matrix by the method of bisection",
 * Numer. Math. 9 (1967)), which needs no division, is evaluated at EIG_LANES shifts at once.  Its
 * sign changes count the eigenvalues below the shift: bisection by counts separates them.  Its last
 * member is the characteristic polynomial: each separated eigenvalue is then found from that, by
 * the hybrid of bisection and inverse quadratic interpolation of T. Chandrupatla, Adv. Eng.
 * Software 28 (1997).  Evaluated in floating point, the sequence is that of a matrix within a few
 * eps |T| of T, so the error is of that size.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include <lapacke.h>

#include "eigenvalues_internal.h"

/* an off-diagonal entry this small against the norm is dropped: its square could underflow */
#define NEGLIGIBLE 1e-19

enum { MAX_TRIES = 60 }; /* interpolations for a root, after which the bracket is halved */

/* a value of the characteristic polynomial, f * 2^power */
struct minor {
	double f;
	int64_t power;
};

/* eigenvalues below to above, counted from 0, lie in low..high */
struct interval {
	double low, high;
	struct minor at_low, at_high;
	int64_t below, above;
};

/* Chandrupatla's iteration: a is the newest point, the root lies between a and b, c came before */
struct root {
	double a, b, c;
	struct minor at_a, at_b, at_c;
	double t;
	int64_t index;
	int tries;
};

struct block {
	const struct eig_kernels *kernels;
	int64_t n;
	const double *d, *e2;
	double tolerance;
	double *w;
};

size_t muon_tridiagonal_workspace(int64_t n)
{
	return (size_t)n * (1 + 2 * (sizeof(struct interval) / sizeof(double)));
}

/* m / 2^power, kept within the range of a double: beyond it the interpolation is not used */
static double relative(struct minor m, int64_t power)
{
	const int64_t e = m.power - power;
	const uint64_t bits = (uint64_t)(1023 + (e < -900 ? -900 : e > 900 ? 900 : e)) << 52;
	double factor;

	memcpy(&factor, &bits, sizeof factor);
	return m.f * factor;
}

static void start_root(struct root *r, const struct interval *v)
{
	r->a = v->high;
	r->at_a = v->at_high;
	r->b = r->c = v->low;
	r->at_b = r->at_c = v->at_low;
	r->t = 0.5;
	r->index = v->below;
	r->tries = 0;
}

/* takes the value at the point tried; returns 1 when the root is known, and sets *answer */
static int advance_root(struct root *r, double x, struct minor at_x, double tolerance,
			double *answer)
{
	double limit, fa, fb, fc, xi, phi;
	int64_t power;

	if (signbit(at_x.f) == signbit(r->at_a.f)) {
		r->c = r->a;
		r->at_c = r->at_a;
	} else {
		r->c = r->b;
		r->at_c = r->at_b;
		r->b = r->a;
		r->at_b = r->at_a;
	}
	r->a = x;
	r->at_a = at_x;
	power = r->at_a.power > r->at_b.power ? r->at_a.power : r->at_b.power;
	fa = relative(r->at_a, power);
	fb = relative(r->at_b, power);
	fc = relative(r->at_c, power);
	limit = tolerance / fabs(r->b - r->a);
	if (!(limit < 0.5) || at_x.f == 0) {
		*answer = fabs(fa) < fabs(fb) ? r->a : r->b;
		return 1;
	}
	xi = (r->a - r->b) / (r->c - r->b);
	phi = (fa - fb) / (fc - fb);
	r->t = 0.5;
	if (phi * phi < xi && (1 - phi) * (1 - phi) < 1 - xi && ++r->tries < MAX_TRIES) {
		r->t = fa / (fb - fa) * (fc / (fb - fc)) +
		       (r->c - r->a) / (r->b - r->a) * (fa / (fc - fa)) * (fb / (fc - fb));
	}
	r->t = r->t < limit ? limit : r->t > 1 - limit ? 1 - limit : r->t;
	return 0;
}

/* the separated eigenvalues of a block, EIG_LANES at a time; a lane that is done takes the next */
static void find_roots(const struct block *k, const struct interval *todo, int64_t count)
{
	struct root root[EIG_LANES];
	double x[EIG_LANES] = {0}, f[EIG_LANES];
	int64_t power[EIG_LANES], next = 0;
	int live[EIG_LANES], running = 0;

	for (int l = 0; l < EIG_LANES; l++) {
		live[l] = next < count;
		if (live[l]) {
			start_root(&root[l], &todo[next++]);
			running++;
		}
	}
	while (running > 0) {
		for (int l = 0; l < EIG_LANES; l++) {
			if (live[l]) {
				x[l] = root[l].a + root[l].t * (root[l].b - root[l].a);
			}
		}
		k->kernels->minors_value(k->n, k->d, k->e2, x, f, power);
		for (int l = 0; l < EIG_LANES; l++) {
			struct minor m = {f[l], power[l]};

			if (live[l] &&
			    advance_root(&root[l], x[l], m, k->tolerance, &k->w[root[l].index])) {
				live[l] = next < count;
				if (live[l]) {
					start_root(&root[l], &todo[next++]);
				} else {
					running--;
				}
			}
		}
	}
}

/* puts an interval where it belongs: answers, the roots to find, or back to be halved */
static void file_interval(const struct block *k, const struct interval *v, struct interval *ring,
			  int64_t *tail, struct interval *todo, int64_t *count)
{
	if (v->below >= v->above) {
		return;
	}
	if (v->high - v->low <= 2 * k->tolerance) {
		for (int64_t i = v->below; i < v->above; i++) {
			k->w[i] = 0.5 * (v->low + v->high);
		}
	} else if (v->above - v->below == 1 && signbit(v->at_low.f) != signbit(v->at_high.f)) {
		todo[(*count)++] = *v;
	} else {
		ring[(*tail)++ % k->n] = *v;
	}
}

/* a block without negligible off-diagonal entries, scaled to a norm near 1; ring, todo: n each */
static void solve_block(const struct block *k, struct interval *ring, struct interval *todo,
			double low, double high)
{
	double x[EIG_LANES], f[EIG_LANES];
	int64_t power[EIG_LANES], below[EIG_LANES], head = 0, tail = 0, count = 0;
	struct interval v = {0};

	for (int l = 0; l < EIG_LANES; l++) {
		x[l] = low + (high - low) * l / (EIG_LANES - 1);
	}
	k->kernels->minors_count(k->n, k->d, k->e2, x, f, power, below);
	for (int l = 0; l < EIG_LANES; l++) {
		struct minor at = {f[l], power[l]};

		/* rounding can only make counts out of order where it decides them */
		below[l] = l == 0 ? 0 : l == EIG_LANES - 1 ? k->n : below[l];
		v.high = x[l];
		v.at_high = at;
		v.above = below[l] < v.below ? v.below : below[l];
		if (l > 0) {
			file_interval(k, &v, ring, &tail, todo, &count);
		}
		v.low = v.high;
		v.at_low = v.at_high;
		v.below = v.above;
	}
	while (head < tail) {
		const int64_t lanes = tail - head < EIG_LANES ? tail - head : EIG_LANES;
		struct interval half[EIG_LANES];

		for (int64_t l = 0; l < lanes; l++) {
			half[l] = ring[head++ % k->n];
			x[l] = 0.5 * (half[l].low + half[l].high);
		}
		k->kernels->minors_count(k->n, k->d, k->e2, x, f, power, below);
		for (int64_t l = 0; l < lanes; l++) {
			struct minor at = {f[l], power[l]};
			int64_t c = below[l];

			c = c < half[l].below   ? half[l].below
			    : c > half[l].above ? half[l].above
						: c;
			v = half[l];
			v.high = x[l];
			v.at_high = at;
			v.above = c;
			file_interval(k, &v, ring, &tail, todo, &count);
			v = half[l];
			v.low = x[l];
			v.at_low = at;
			v.below = c;
			file_interval(k, &v, ring, &tail, todo, &count);
		}
	}
	find_roots(k, todo, count);
}

/* one unreduced block: d[0..n-1], which is destroyed, and e[0..n-2] */
static void unreduced_block(const struct eig_kernels *kernels, int64_t n, double *d,
			    const double *e, double *w, double *work)
{
	struct interval *ring = (struct interval *)(void *)(work + n), *todo = ring + n;
	double *e2 = work;
	struct block k = {kernels, n, d, e2, 0, w};
	double low = d[0], high = d[0], scale, margin;
	int exponent;

	for (int64_t i = 0; i < n; i++) {
		const double radius = (i > 0 ? fabs(e[i - 1]) : 0) + (i + 1 < n ? fabs(e[i]) : 0);

		low = fmin(low, d[i] - radius);
		high = fmax(high, d[i] + radius);
	}
	frexp(fmax(fabs(low), fabs(high)), &exponent);
	scale = ldexp(1, -exponent);
	e2[0] = 0;
	for (int64_t i = 0; i < n; i++) {
		d[i] *= scale;
		if (i > 0) {
			e2[i] = e[i - 1] * scale * (e[i - 1] * scale);
		}
	}
	low *= scale;
	high *= scale;
	k.tolerance = DBL_EPSILON * fmax(fabs(low), fabs(high));
	margin = 8 * k.tolerance;
	solve_block(&k, ring, todo, low - margin, high + margin);
	for (int64_t i = 0; i < n; i++) {
		w[i] = ldexp(w[i], exponent);
	}
}

void muon_tridiagonal_eigenvalues(const struct eig_kernels *k, int64_t n, double *d,
				  const double *e, double *w, double *work)
{
	double norm = 0;
	int64_t first = 0;

	for (int64_t i = 0; i < n; i++) {
		norm = fmax(norm, fabs(d[i]));
		norm = i + 1 < n ? fmax(norm, fabs(e[i])) : norm;
	}
	for (int64_t i = 0; i < n; i++) {
		/* a split where the coupling is below the rounding of what it couples, as in dsterf
		 */
		if (i + 1 < n &&
		    fabs(e[i]) > DBL_EPSILON * sqrt(fabs(d[i])) * sqrt(fabs(d[i + 1])) &&
		    fabs(e[i]) > NEGLIGIBLE * norm) {
			continue;
		}
		if (i == first) {
			w[i] = d[i];
		} else {
			unreduced_block(k, i - first + 1, d + first, e + first, w + first, work);
		}
		first = i + 1;
	}
	LAPACKE_dlasrt_work('I', (lapack_int)n, w);
}
