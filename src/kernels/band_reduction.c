/*
 * Dense symmetric to band form by blocked Householder reflectors, the first step of successive band
 * reduction: C. Bischof, B. Lang, X. Sun, "A framework for symmetric band reduction", ACM TOMS 26
 * (2000), algorithm SBR; the panel-wise form is that of A. Haidar, H. Ltaief, J. Dongarra,
 * "Parallel reduction to condensed forms for symmetric eigenvalue problems using aggregated
 * fine-grained and memory-aware kernels", SC 2011.
 *
 * For each panel of b columns, A22 <- A22 - V W' - W V' is not applied at once.  The next panel is
 * brought up to date and factored first; then every tile of the trailing matrix is updated and,
 * while it is in cache, multiplied by the new V.  So the matrix moves through memory once per
 * panel, and b can be small, which is what makes the second step cheap.
 */
#include <string.h>

#include "eigenvalues_internal.h"

struct buffers {
	double *left;  /* of the pending update: [V -W], packed in panels of eight rows */
	double *right; /* of the pending update: [-W V], row by row */
	double *v;     /* new V, row by row */
	double *y;     /* A22 V, row by row */
	double *panel; /* the panel, column-major */
	double *x, *u; /* columns, for the panel */
	double *tile;  /* a tile of the trailing matrix, column-major */
	double *gram;  /* V'V */
	double *vy;    /* V'Y */
	double *t;     /* block reflector I - V T V', row-major */
	double *s;     /* (T'(V'Y)T)/2 */
	double *tmp;   /* b x b */
	double *tau, *scale;
	int64_t ldp;
};

enum { TILE_LD = EIG_TILE + 8 };

static int64_t round_up(int64_t n, int64_t k)
{
	return (n + k - 1) / k * k;
}

/* lays the buffers out in work (or nowhere, if NULL) and returns the number of doubles they take */
static size_t lay_out(int64_t n, int64_t b, double *work, struct buffers *w)
{
	const int64_t rows = round_up(n, 8) + 8, square = b * (b + 6);
	/* odd multiple of 8: no two columns of the panel share all their cache sets */
	const int64_t ldp = round_up(n, 16) + 8;
	double **const part[] = {&w->left, &w->right, &w->v,    &w->y,    &w->panel,
				 &w->x,    &w->u,     &w->tile, &w->gram, &w->vy,
				 &w->t,    &w->s,     &w->tmp,  &w->tau,  &w->scale};
	const int64_t size[] = {
	    rows * 2 * b, rows * 2 * b, rows * b, rows * b, ldp * b, ldp, ldp, TILE_LD * EIG_TILE,
	    square,       square,       square,   square,   square,  b,   b};
	size_t used = 0;

	for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
		*part[i] = work ? work + used : NULL;
		used += (size_t)round_up(size[i] + EIG_PAD, 8);
	}
	w->ldp = ldp;
	return used;
}

size_t muon_band_reduction_workspace(int64_t n, int64_t b)
{
	struct buffers w;

	return lay_out(n, b, NULL, &w);
}

size_t muon_band_size(int64_t n, int64_t b)
{
	return (size_t)round_up((n + 3 * b) * (muon_band_stride(b) + 1) + EIG_PAD, 8);
}

/* band(i, j) = block(i, j) for j <= i < n */
static void store_diagonal(int64_t n, const double *block, int64_t ld, double *band, int64_t stride)
{
	for (int64_t j = 0; j < n; j++) {
		for (int64_t i = j; i < n; i++) {
			band[j * stride + i] = block[j * ld + i];
		}
	}
}

/* the upper triangle of the leading n x n part of a tile from the lower */
static void mirror(const struct eig_kernels *k, int64_t n, double *tile)
{
	for (int64_t c = 0; c < n; c += 4) {
		double *corner = tile + c * TILE_LD + c;

		for (int64_t j = 1; j < 4; j++) {
			for (int64_t i = 0; i < j; i++) {
				corner[j * TILE_LD + i] = corner[i * TILE_LD + j];
			}
		}
		k->transpose(round_up(n, 4) - c - 4, 4, corner + 4, TILE_LD, NULL,
			     corner + 4 * TILE_LD, TILE_LD);
	}
}

/* y = A22 v for the trailing matrix a: n x n, which gets its pending update on the way */
static void update_and_multiply(const struct eig_kernels *k, const struct buffers *w, int64_t n,
				int64_t b, int64_t depth, double *a, int64_t lda)
{
	const double *left = w->left + b * depth, *right = w->right + b * depth;
	double *tile = w->tile;

	memset(w->y, 0, (size_t)(round_up(n, 8) * b) * sizeof *w->y);
	for (int64_t j = 0; j < n; j += EIG_TILE) {
		const int64_t nj = n - j < EIG_TILE ? n - j : EIG_TILE;

		for (int64_t i = j; i < n; i += EIG_TILE) {
			const int64_t ni = n - i < EIG_TILE ? n - i : EIG_TILE;

			k->update_tile(ni, nj, depth, left + i * depth, right + j * depth,
				       a + j * lda + i, lda, 1, i == j, tile, TILE_LD);
			if (i == j) {
				mirror(k, nj, tile);
			} else {
				k->product_columns(b, nj, ni, w->v + i * b, b, tile, TILE_LD,
						   w->y + j * b, b);
			}
			k->product_rows(b, ni, nj, w->v + j * b, b, tile, TILE_LD, w->y + i * b, b);
		}
	}
}

/* v row by row from the factored panel p: n x b, rows n to the next multiple of 8 zero */
static void unpack_reflectors(const struct eig_kernels *k, const struct buffers *w, int64_t n,
			      int64_t b, const double *p)
{
	k->transpose(round_up(n, 8), b, p, w->ldp, w->scale, w->v, b);
	for (int64_t i = 0; i < b && i < n; i++) {
		memset(w->v + i * b + i, 0, (size_t)(b - i) * sizeof *w->v);
		w->v[i * b + i] = 1;
	}
}

/* T of the block reflector: column j is -tau_j T V'v_j above the diagonal */
static void form_t(const struct buffers *w, int64_t b)
{
	memset(w->t, 0, (size_t)(b * b) * sizeof *w->t);
	for (int64_t j = 0; j < b; j++) {
		for (int64_t i = 0; i < j; i++) {
			double sum = 0;

			for (int64_t l = i; l < j; l++) {
				sum += w->t[i * b + l] * w->gram[j * b + l];
			}
			w->t[i * b + j] = -w->tau[j] * sum;
		}
		w->t[j * b + j] = w->tau[j];
	}
}

/* the pending update -V W' - W V' of the n x n trailing matrix, W = Y T - V (T'(V'Y)T)/2 */
static void form_update(const struct eig_kernels *k, const struct buffers *w, int64_t n, int64_t b)
{
	const size_t square = (size_t)(b * b) * sizeof(double);
	const int64_t rows = round_up(n, 8), depth = 2 * b;

	memset(w->gram, 0, square);
	memset(w->vy, 0, square);
	memset(w->s, 0, square);
	memset(w->tmp, 0, square);
	k->product_rows(b, b, n, w->v, b, w->v, b, w->gram, b);
	k->product_rows(b, b, n, w->v, b, w->y, b, w->vy, b);
	form_t(w, b);
	/* tmp(:, j) = (V'Y) T(:, j) with V'Y symmetric, then s = T' tmp; t(k, j) is contiguous in j
	 */
	k->product_rows(b, b, b, w->vy, b, w->t, b, w->tmp, b);
	k->product_columns(b, b, b, w->t, b, w->tmp, b, w->s, b);
	for (int64_t i = 0; i < b * b; i++) {
		w->s[i] *= 0.5;
		w->t[i] = -w->t[i];
	}
	for (int64_t i = 0; i < rows; i++) {
		memset(w->right + i * depth, 0, (size_t)b * sizeof(double));
		memcpy(w->right + i * depth + b, w->v + i * b, (size_t)b * sizeof(double));
	}
	k->product_columns(b, rows, b, w->t, b, w->y, b, w->right, depth);
	k->product_columns(b, rows, b, w->s, b, w->v, b, w->right, depth);
	for (int64_t i = 0; i < rows; i += 8) {
		double *left = w->left + i * depth;

		k->transpose(b, 8, w->right + i * depth + b, depth, NULL, left, 8);
		k->transpose(b, 8, w->right + i * depth, depth, NULL, left + 8 * b, 8);
	}
}

void muon_band_reduction(const struct eig_kernels *k, int64_t n, int64_t b, double *a, int64_t lda,
			 double *band, double *work)
{
	const int64_t stride = muon_band_stride(b);
	struct buffers w;
	int64_t depth = 0; /* of the pending update: none for the first panel */
	int64_t done = 0;

	lay_out(n, b, work, &w);
	for (; n - done > b; done += b) {
		const int64_t rest = n - done - b;
		double *block = a + done * lda + done, *corner = band + done * stride + done;
		double *below = w.panel + b;

		k->update_tile(b, b, depth, w.left, w.right, block, lda, 0, 1, w.panel, w.ldp);
		store_diagonal(b, w.panel, w.ldp, corner, stride);
		k->update_tile(rest, b, depth, w.left + b * depth, w.right, block + b, lda, 0, 0,
			       below, w.ldp);
		for (int64_t j = 0; j < b; j++) {
			for (int64_t i = rest; i < round_up(rest, 8); i++) {
				below[j * w.ldp + i] = 0;
			}
		}
		k->panel_qr(rest, b, below, w.ldp, w.tau, w.scale, w.x, w.u);
		for (int64_t j = 0; j < b; j++) {
			for (int64_t i = 0; i <= j && i < rest; i++) {
				corner[j * stride + b + i] = below[j * w.ldp + i];
			}
		}
		unpack_reflectors(k, &w, rest, b, below);
		update_and_multiply(k, &w, rest, b, depth, block + b * lda + b, lda);
		form_update(k, &w, rest, b);
		depth = 2 * b;
	}
	k->update_tile(n - done, n - done, depth, w.left, w.right, a + done * lda + done, lda, 0, 1,
		       w.panel, w.ldp);
	store_diagonal(n - done, w.panel, w.ldp, band + done * stride + done, stride);
}
